//! What names and parameters mean while a statement is bound.

use super::BindError;
use crate::error::{Error, SqlState};
use crate::types;
use scry_engine::{DataType, TableDef};
use sqlparser::ast;
use std::cell::Cell;
use std::rc::Rc;

/// What an expression may name: relations and their columns, in the order in which its row has them, and behind them what the
/// queries around it offer.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    relations: Vec<Relation>,
    columns: Vec<ScopeColumn>,
    outer: Option<Rc<Scope>>,
    /// Whether a query inside of this one has named one of its columns.
    reached: Cell<bool>,
}

#[derive(Clone, Debug)]
struct Relation {
    /// The table's name or alias.
    name: String,
    /// The table's own name, where an alias hides it.
    hidden: Option<String>,
    /// Its columns must be named with it: `excluded`.
    qualified_only: bool,
    /// The columns of its primary key, counted in the scope.
    key: Vec<usize>,
}

/// A column that an expression may name.
#[derive(Clone, Debug)]
pub struct ScopeColumn {
    relation: usize,
    pub name: String,
    /// `None`: of a type that expressions do not know.
    pub ty: Option<DataType>,
    /// A join by USING has taken it into a column of the same name: it must be named with its relation.
    pub merged: bool,
    /// It stands for both columns of a join by USING: `*` has it first.
    pub merging: bool,
    /// What it is written as, where that is not its name: a column of a full join by USING.
    pub stands_for: Option<Rc<ast::Expr>>,
}

/// A column that was found: its place in the row, and its type.
pub type Found = (usize, Option<DataType>);

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

    /// The columns of a table by their numbers; dropped ones have no name, and nobody finds them.
    pub fn columns_of(def: &TableDef) -> impl Iterator<Item = (&str, DataType)> {
        def.columns.iter().map(|column| match column.dropped {
            true => ("", column.ty),
            false => (column.name.as_str(), column.ty),
        })
    }

    /// A scope without columns inside of another.
    pub fn inside(outer: Option<Rc<Scope>>) -> Scope {
        Scope {
            outer,
            ..Scope::default()
        }
    }

    pub fn outer(&self) -> Option<&Rc<Scope>> {
        self.outer.as_ref()
    }

    /// Appends the columns of another relation.
    pub fn add<'n>(&mut self, relation: &str, columns: impl IntoIterator<Item = (&'n str, DataType)>) {
        let columns = columns.into_iter().map(|(name, ty)| (name.to_owned(), Some(ty)));
        self.add_relation(relation, None, false, columns);
    }

    /// Appends a relation whose columns are found only with its name, such as `excluded`.
    pub fn add_qualified<'n>(
        &mut self,
        relation: &str,
        columns: impl IntoIterator<Item = (&'n str, DataType)>,
    ) {
        let columns = columns.into_iter().map(|(name, ty)| (name.to_owned(), Some(ty)));
        self.add_relation(relation, None, true, columns);
    }

    /// Appends a relation; `hidden` is the table's own name, where an alias hides it.
    pub fn add_relation(
        &mut self,
        name: &str,
        hidden: Option<&str>,
        qualified_only: bool,
        columns: impl IntoIterator<Item = (String, Option<DataType>)>,
    ) {
        let relation = self.relations.len();
        self.relations.push(Relation {
            name: name.to_owned(),
            hidden: hidden.map(str::to_owned),
            qualified_only,
            key: Vec::new(),
        });
        self.columns
            .extend(columns.into_iter().map(|(name, ty)| ScopeColumn {
                relation,
                name,
                ty,
                merged: false,
                merging: false,
                stands_for: None,
            }));
    }

    /// Appends a column that is written as `expr` and found by its name alone.
    pub fn add_merged(&mut self, name: &str, ty: Option<DataType>, expr: ast::Expr) {
        self.add_relation("", None, false, [(name.to_owned(), ty)]);
        if let Some(column) = self.columns.last_mut() {
            column.stands_for = Some(Rc::new(expr));
            column.merging = true;
        }
    }

    /// Says which columns, counted from the first of the relation that was added last, are its primary key.
    pub fn set_key(&mut self, key: &[usize]) {
        let Some(last) = self.relations.len().checked_sub(1) else {
            return;
        };
        let first = self.columns.iter().position(|column| column.relation == last);
        self.relations[last].key = key.iter().map(|column| column + first.unwrap_or(0)).collect();
    }

    /// Whether a column has one value where the columns that `fixed` names have: the whole primary key of its relation is
    /// among them.
    pub fn depends_on(&self, index: usize, fixed: &dyn Fn(usize) -> bool) -> bool {
        self.columns.get(index).is_some_and(|column| {
            let key = &self.relations[column.relation].key;
            !key.is_empty() && key.iter().all(|column| fixed(*column))
        })
    }

    /// Appends the relations of another scope.
    pub fn append(&mut self, other: Scope) {
        let (before, columns) = (self.relations.len(), self.columns.len());
        self.relations
            .extend(other.relations.into_iter().map(|mut relation| {
                relation.key.iter_mut().for_each(|column| *column += columns);
                relation
            }));
        self.columns
            .extend(other.columns.into_iter().map(|column| ScopeColumn {
                relation: column.relation + before,
                ..column
            }));
    }

    pub fn relations(&self) -> impl Iterator<Item = &str> {
        self.relations.iter().map(|relation| relation.name.as_str())
    }

    pub fn has_relation(&self, name: &str) -> bool {
        self.relations.iter().any(|relation| relation.name == name)
    }

    /// The own columns, without those of the queries around.
    pub fn columns(&self) -> &[ScopeColumn] {
        &self.columns
    }

    pub fn columns_mut(&mut self) -> &mut [ScopeColumn] {
        &mut self.columns
    }

    /// The name of the relation of a column.
    pub fn relation_of(&self, column: &ScopeColumn) -> &str {
        &self.relations[column.relation].name
    }

    /// The columns of all levels.
    pub fn width(&self) -> usize {
        self.columns.len() + self.outer.as_ref().map_or(0, |outer| outer.width())
    }

    /// Relation and column at a place of the row, of any level.
    pub fn at(&self, index: usize) -> Option<(&str, &ScopeColumn)> {
        match self.columns.get(index) {
            Some(column) => Some((self.relation_of(column), column)),
            None => self.outer.as_ref()?.at(index - self.columns.len()),
        }
    }

    /// Says that a query inside of this one has named one of its columns.
    pub fn set_reached(&self) {
        self.reached.set(true);
    }

    /// Whether a query inside of this one has named one of its columns, since this was last asked.
    pub fn take_reached(&self) -> bool {
        self.reached.replace(false)
    }

    /// The column of that name, of the innermost query that has one.
    pub fn find(&self, relation: Option<&str>, name: &str) -> Result<Option<Found>, Error> {
        let mut found = None;
        for (index, column) in self.columns.iter().enumerate() {
            let of = &self.relations[column.relation];
            let visible = match relation {
                Some(relation) => of.name == relation,
                None => !of.qualified_only && !column.merged,
            };
            // What has no name is a column that was dropped, and keeps its place only.
            if visible && column.name == name && !name.is_empty() {
                if found.is_some() {
                    return Err(Error::new(
                        SqlState::AMBIGUOUS_COLUMN,
                        format!("column reference \"{name}\" is ambiguous"),
                    ));
                }
                found = Some((index, column.ty));
            }
        }
        let (None, Some(outer)) = (found, &self.outer) else {
            return Ok(found);
        };
        let found = outer.find(relation, name)?;
        if found.is_some_and(|(index, _)| index < outer.columns.len()) {
            outer.reached.set(true);
        }
        Ok(found.map(|(index, ty)| (index + self.columns.len(), ty)))
    }

    /// The column of that name, or PostgreSQL's error.
    pub fn resolve(&self, relation: Option<&str>, name: &str) -> Result<Found, Error> {
        if let Some(found) = self.find(relation, name)? {
            return Ok(found);
        }
        Err(match relation {
            Some(relation) if !self.knows(relation) => self.no_relation(relation),
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

    fn knows(&self, relation: &str) -> bool {
        self.has_relation(relation) || self.outer.as_ref().is_some_and(|outer| outer.knows(relation))
    }

    /// What is wrong with a name that no relation has.
    pub fn no_relation(&self, name: &str) -> Error {
        let mut scope = Some(self);
        while let Some(level) = scope {
            let hidden = level
                .relations
                .iter()
                .find(|relation| relation.hidden.as_deref() == Some(name));
            if let Some(relation) = hidden {
                return Error::new(
                    SqlState::UNDEFINED_TABLE,
                    format!("invalid reference to FROM-clause entry for table \"{name}\""),
                )
                .with_hint(format!(
                    "Perhaps you meant to reference the table alias \"{}\".",
                    relation.name
                ));
            }
            scope = level.outer.as_deref();
        }
        Error::new(
            SqlState::UNDEFINED_TABLE,
            format!("missing FROM-clause entry for table \"{name}\""),
        )
    }
}

/// The most parameters of one statement, as the protocol counts them.
const PARAMETERS_MAX: usize = 65_535;

/// What is known of a parameter's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Slot {
    #[default]
    Open,
    Known(DataType),
    /// Of a type that expressions do not know.
    Foreign,
}

/// The types of a statement's parameters: given by the client, or inferred where one is first used.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    slots: Vec<Slot>,
}

impl Parameters {
    /// From the object ids of a Parse message; 0 and `unknown` leave the type to the context.
    pub fn from_oids(oids: &[u32]) -> Parameters {
        let slot = |oid: &u32| match *oid {
            0 | types::oids::UNKNOWN => Slot::Open,
            oid => types::from_oid(oid, -1).map_or(Slot::Foreign, Slot::Known),
        };
        Parameters {
            slots: oids.iter().map(slot).collect(),
        }
    }

    fn slot(&mut self, index: usize) -> Result<&mut Slot, Error> {
        if index >= PARAMETERS_MAX {
            return Err(Error::new(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter ${}", index.saturating_add(1)),
            ));
        }
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::Open);
        }
        Ok(&mut self.slots[index])
    }

    /// The type of a parameter so far; the parameter is noted.
    pub fn get(&mut self, index: usize) -> Result<Option<DataType>, BindError> {
        match *self.slot(index)? {
            Slot::Open => Ok(None),
            Slot::Known(ty) => Ok(Some(ty)),
            Slot::Foreign => Err(BindError::unsupported(format!(
                "the type of parameter ${}",
                index + 1
            ))),
        }
    }

    /// Fixes the type of a parameter that has none.
    pub fn infer(&mut self, index: usize, ty: DataType) {
        if let Ok(slot @ Slot::Open) = self.slot(index) {
            *slot = Slot::Known(ty);
        }
    }

    /// Says that a parameter without type has one that expressions do not know.
    pub fn set_foreign(&mut self, index: usize) {
        if let Ok(slot @ Slot::Open) = self.slot(index) {
            *slot = Slot::Foreign;
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The types that are known, by number.
    pub fn types(&self) -> impl Iterator<Item = Option<DataType>> + '_ {
        self.slots.iter().map(|slot| match slot {
            Slot::Known(ty) => Some(*ty),
            _ => None,
        })
    }

    /// All types, once everything is bound.
    pub fn resolved(&self) -> Result<Vec<DataType>, Error> {
        self.types()
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
