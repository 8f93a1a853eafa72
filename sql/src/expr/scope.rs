//! What names and parameters mean while a statement is bound.

use super::BindError;
use crate::error::{Error, SqlState};
use crate::types;
use scry_engine::types::DataType;

/// A column that an expression may name.
#[derive(Clone, Debug)]
pub struct ScopeColumn {
    /// The table's name or alias.
    pub relation: String,
    pub name: String,
    pub ty: DataType,
}

/// The columns that an expression may name, in the order in which its row has them.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    columns: Vec<ScopeColumn>,
    /// Relations whose columns must be named with their relation: `excluded`.
    qualified_only: Vec<String>,
}

impl Scope {
    /// No columns.
    pub fn empty() -> Scope {
        Scope::default()
    }

    /// The columns of one table under its name or alias.
    pub fn table<'n>(relation: &str, columns: impl IntoIterator<Item = (&'n str, DataType)>) -> Scope {
        let mut scope = Scope::default();
        scope.add(relation, columns);
        scope
    }

    /// Appends the columns of another relation.
    pub fn add<'n>(&mut self, relation: &str, columns: impl IntoIterator<Item = (&'n str, DataType)>) {
        self.columns
            .extend(columns.into_iter().map(|(name, ty)| ScopeColumn {
                relation: relation.to_owned(),
                name: name.to_owned(),
                ty,
            }));
    }

    /// Appends a relation whose columns are found only with its name, such as `excluded`.
    pub fn add_qualified<'n>(
        &mut self,
        relation: &str,
        columns: impl IntoIterator<Item = (&'n str, DataType)>,
    ) {
        self.add(relation, columns);
        self.qualified_only.push(relation.to_owned());
    }

    pub fn columns(&self) -> &[ScopeColumn] {
        &self.columns
    }

    /// The position and type of a column. `None` when no column has that name.
    pub fn find(&self, relation: Option<&str>, name: &str) -> Result<Option<(usize, DataType)>, Error> {
        let mut found = None;
        for (index, column) in self.columns.iter().enumerate() {
            let visible = match relation {
                Some(relation) => column.relation == relation,
                None => !self.qualified_only.contains(&column.relation),
            };
            if visible && column.name == name {
                if found.is_some() {
                    return Err(Error::new(
                        SqlState::AMBIGUOUS_COLUMN,
                        format!("column reference \"{name}\" is ambiguous"),
                    ));
                }
                found = Some((index, column.ty));
            }
        }
        Ok(found)
    }

    /// The position and type of a column, or PostgreSQL's error.
    pub fn resolve(&self, relation: Option<&str>, name: &str) -> Result<(usize, DataType), Error> {
        if let Some(found) = self.find(relation, name)? {
            return Ok(found);
        }
        Err(match relation {
            Some(relation) if !self.columns.iter().any(|column| column.relation == relation) => Error::new(
                SqlState::UNDEFINED_TABLE,
                format!("missing FROM-clause entry for table \"{relation}\""),
            ),
            Some(relation) => Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column {relation}.{name} does not exist"),
            ),
            None => Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" does not exist"),
            ),
        })
    }
}

/// The most parameters of one statement, as the protocol counts them.
const PARAMETERS_MAX: usize = 65_535;

/// The types of a statement's parameters: given by the client, or inferred where one is first used.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    types: Vec<Option<DataType>>,
}

impl Parameters {
    /// From the object ids of a Parse message; 0 and `unknown` leave the type to the context.
    pub fn from_oids(oids: &[u32]) -> Result<Parameters, BindError> {
        let mut types = Vec::with_capacity(oids.len());
        for oid in oids {
            types.push(match *oid {
                0 | types::oids::UNKNOWN => None,
                oid => Some(types::from_oid(oid, -1).ok_or_else(|| {
                    BindError::unsupported(format!("a parameter of the type with OID {oid}"))
                })?),
            });
        }
        Ok(Parameters { types })
    }

    /// The type of a parameter so far; the parameter is noted.
    pub fn get(&mut self, index: usize) -> Result<Option<DataType>, Error> {
        if index >= PARAMETERS_MAX {
            return Err(Error::new(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter ${}", index.saturating_add(1)),
            ));
        }
        if self.types.len() <= index {
            self.types.resize(index + 1, None);
        }
        Ok(self.types[index])
    }

    /// Fixes the type of a parameter that has none.
    pub fn infer(&mut self, index: usize, ty: DataType) {
        if self.types.len() <= index {
            self.types.resize(index + 1, None);
        }
        self.types[index].get_or_insert(ty);
    }

    pub fn len(&self) -> usize {
        self.types.len()
    }

    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// All types, once everything is bound.
    pub fn resolved(&self) -> Result<Vec<DataType>, Error> {
        self.types
            .iter()
            .enumerate()
            .map(|(index, ty)| {
                ty.ok_or_else(|| {
                    Error::new(
                        SqlState::INDETERMINATE_DATATYPE,
                        format!("could not determine data type of parameter ${}", index + 1),
                    )
                })
            })
            .collect()
    }
}
