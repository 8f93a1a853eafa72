//! CREATE TABLE: from syntax to the engine's definition.

use crate::constraint;
use crate::error::{Error, SqlState};
use crate::expr;
use crate::generated;
use crate::plan::column_default;
use crate::plan::foreign_key;
use crate::plan::parse;
use crate::plan::scalar::{Binder, Facts, ParamTypes, Refusal};
use crate::plan::sequence::{SequenceClauses, serial_type};
use scry_engine::row::MAX_COLUMNS;
use scry_engine::{
    Catalog, ColumnDef, ColumnDefault, DataType, IndexDef, NewIndex, NewTable, PrimaryKey, TableDef,
};
use scry_wal::StoreId;
use sqlparser::ast::{self, ColumnOption, TableConstraint};

/// Longest identifier, as in PostgreSQL; longer ones are cut there and refused here.
pub const MAX_NAME_BYTES: usize = 63;

/// Storage parameters of PostgreSQL that clients send (pgbench) and that mean nothing here.
const STORAGE_PARAMETERS: [&str; 6] = [
    "fillfactor",
    "autovacuum_enabled",
    "toast_tuple_target",
    "parallel_workers",
    "user_catalog_table",
    "oids",
];

pub fn check_name(name: &str) -> Result<(), Error> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::new(
            SqlState::NAME_TOO_LONG,
            format!("identifier \"{name}\" is longer than {MAX_NAME_BYTES} bytes"),
        ));
    }
    Ok(())
}

/// The primary key's default name.
pub fn key_name(table: &str) -> String {
    const SUFFIX: &str = "_pkey";
    let mut end = table.len().min(MAX_NAME_BYTES - SUFFIX.len());
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{SUFFIX}", &table[..end])
}

fn multiple_keys(table: &str) -> Error {
    Error::new(
        SqlState::INVALID_TABLE_DEFINITION,
        format!("multiple primary keys for table \"{table}\" are not allowed"),
    )
}

/// The columns of a key, by name.
pub fn key_columns(names: &[String], columns: &[ColumnDef]) -> Result<Vec<usize>, Error> {
    let mut key = Vec::with_capacity(names.len());
    for name in names {
        let Some(index) = columns.iter().position(|column| column.name == *name) else {
            return Err(Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" named in key does not exist"),
            ));
        };
        if key.contains(&index) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" appears twice in primary key constraint"),
            ));
        }
        key.push(index);
    }
    Ok(key)
}

fn index_names(columns: &[ast::IndexColumn]) -> Result<Vec<String>, Error> {
    columns
        .iter()
        .map(|column| match &column.column.expr {
            ast::Expr::Identifier(ident) => Ok(parse::ident(ident)),
            other => Err(Error::syntax(format!("syntax error at or near \"{other}\""))),
        })
        .collect()
}

/// Refuses what would silently be something else.
fn check_clauses(create: &ast::CreateTable) -> Result<(), Error> {
    if create.temporary {
        return Err(Error::unsupported("CREATE TEMPORARY TABLE"));
    }
    if create.or_replace || create.external || create.transient {
        return Err(Error::syntax("syntax error in CREATE TABLE"));
    }
    if create.inherits.is_some() {
        return Err(Error::unsupported("INHERITS"));
    }
    if create.partition_by.is_some() || create.partition_of.is_some() {
        return Err(Error::unsupported("partitioning"));
    }
    if create.like.is_some() || create.clone.is_some() {
        return Err(Error::unsupported("CREATE TABLE … LIKE"));
    }
    let options = match &create.table_options {
        ast::CreateTableOptions::None => return Ok(()),
        ast::CreateTableOptions::With(options)
        | ast::CreateTableOptions::Options(options)
        | ast::CreateTableOptions::Plain(options)
        | ast::CreateTableOptions::TableProperties(options) => options,
    };
    for option in options {
        let ast::SqlOption::KeyValue { key, .. } = option else {
            return Err(Error::syntax(format!("unrecognized parameter \"{option}\"")));
        };
        let name = parse::ident(key);
        if !STORAGE_PARAMETERS.contains(&name.as_str()) && !name.starts_with("autovacuum_") {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("unrecognized parameter \"{name}\""),
            ));
        }
    }
    Ok(())
}

/// A default must be an expression of the column's type that needs no row.
pub fn check_default(default: &ast::Expr, column: &ColumnDef, facts: &Facts<'_>) -> Result<(), Error> {
    let mut types = ParamTypes::default();
    match Binder::new(&mut types, facts).assigned(default, column) {
        Ok(_) => Ok(()),
        Err(Refusal::Error(error)) if error.code == SqlState::UNDEFINED_COLUMN => Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "cannot use column reference in DEFAULT expression",
        )),
        Err(Refusal::Error(error)) => Err(error),
        Err(Refusal::Unsupported(what)) => Err(Error::unsupported(format!("{what} in a DEFAULT"))),
    }
}

/// A sequence that a new column draws from and owns.
pub struct ColumnSequence {
    /// The column's number.
    pub column: usize,
    /// GENERATED AS IDENTITY: whether ALWAYS. `None`: serial.
    always: Option<bool>,
    pub clauses: SequenceClauses,
}

impl ColumnSequence {
    /// That of an identity column of type `ty`.
    pub fn identity(
        column: usize,
        ty: DataType,
        always: bool,
        clauses: SequenceClauses,
    ) -> Result<ColumnSequence, Error> {
        if !ty.is_integer() {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "identity column type must be smallint, integer, or bigint",
            ));
        }
        if clauses.ty.is_some() || clauses.owned_by.is_some() || clauses.restart.is_some() {
            return Err(Error::syntax("invalid option of an identity column"));
        }
        Ok(ColumnSequence {
            column,
            always: Some(always),
            clauses,
        })
    }

    /// The default of the column, once its sequence has an oid.
    pub fn default(&self, sequence: u32) -> ColumnDefault {
        match self.always {
            Some(always) => ColumnDefault::Identity { sequence, always },
            None => ColumnDefault::Expression(format!("nextval({})", column_default::reference(sequence))),
        }
    }
}

/// A table to be created, and the sequences of its columns.
pub struct Definition {
    pub table: NewTable,
    pub sequences: Vec<ColumnSequence>,
}

/// What gives a column its values, as its options say.
#[derive(Default)]
struct Giver<'c> {
    serial: bool,
    default: Option<&'c ast::Expr>,
    identity: Option<(bool, &'c [ast::SequenceOptions])>,
    generated: Option<&'c ast::Expr>,
    null: bool,
}

impl<'c> Giver<'c> {
    /// Takes an option; false when it is about something else.
    fn take(&mut self, option: &'c ColumnOption, column: &str, table: &str) -> Result<bool, Error> {
        let twice = |what: &str| {
            Err(Error::syntax(format!(
                "{what} specified for column \"{column}\" of table \"{table}\""
            )))
        };
        match option {
            ColumnOption::Null => self.null = true,
            ColumnOption::Default(_) if self.serial || self.default.is_some() => {
                return twice("multiple default values");
            }
            ColumnOption::Default(default) => self.default = Some(default),
            ColumnOption::Generated {
                generated_as: ast::GeneratedAs::ExpStored,
                generation_expr: Some(expression),
                ..
            } => {
                if self.generated.replace(expression).is_some() {
                    return twice("multiple generation clauses");
                }
            }
            ColumnOption::Generated {
                generated_as,
                sequence_options: Some(options),
                generation_expr: None,
                ..
            } => {
                let always = matches!(generated_as, ast::GeneratedAs::Always);
                if self.identity.replace((always, options)).is_some() {
                    return twice("multiple identity specifications");
                }
            }
            _ => return Ok(false),
        }
        let default = self.serial || self.default.is_some();
        match (default, self.identity.is_some(), self.generated.is_some()) {
            (true, true, _) => twice("both default and identity"),
            (true, _, true) => twice("both default and generation expression"),
            (_, true, true) => twice("both identity and generation expression"),
            _ if self.null && (self.serial || self.identity.is_some()) => Err(Error::syntax(format!(
                "conflicting NULL/NOT NULL declarations for column \"{column}\" of table \"{table}\""
            ))),
            _ => Ok(true),
        }
    }
}

/// The definition of the table, as the statement gives it. Of a table that has columns `before` these: they may be generated from those.
pub fn definition(
    create: &ast::CreateTable,
    before: &[ColumnDef],
    catalog: &Catalog,
    facts: &Facts<'_>,
) -> Result<Definition, Error> {
    let name = parse::table(&create.name)?;
    check_name(&name)?;
    check_clauses(create)?;
    if create.columns.len() > MAX_COLUMNS {
        return Err(Error::new(
            SqlState::TOO_MANY_COLUMNS,
            format!("tables can have at most {MAX_COLUMNS} columns"),
        ));
    }
    let mut columns: Vec<ColumnDef> = Vec::with_capacity(create.columns.len());
    let mut key: Option<(Option<String>, Vec<String>)> = None;
    let mut conditions: Vec<(Option<String>, &ast::Expr)> = Vec::new();
    let mut uniques: Vec<(Option<String>, Vec<String>)> = Vec::new();
    let mut references: Vec<Reference<'_>> = Vec::new();
    let mut sequences = Vec::new();
    let mut generated_columns = Vec::new();
    for column in &create.columns {
        let column_name = parse::ident(&column.name);
        check_name(&column_name)?;
        if columns.iter().any(|known| known.name == column_name) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{column_name}\" specified more than once"),
            ));
        }
        let serial = serial_type(&column.data_type);
        let ty = match serial {
            Some(ty) => ty,
            None => expr::data_type(&column.data_type).map_err(expr::BindError::into_error)?,
        };
        let mut definition = ColumnDef {
            not_null: serial.is_some(),
            ..ColumnDef::new(column_name, ty)
        };
        let mut giver = Giver {
            serial: serial.is_some(),
            ..Giver::default()
        };
        for option in &column.options {
            if giver.take(&option.option, &definition.name, &name)? {
                continue;
            }
            match &option.option {
                ColumnOption::NotNull => definition.not_null = true,
                ColumnOption::PrimaryKey(_) => {
                    if key.is_some() {
                        return Err(multiple_keys(&name));
                    }
                    let constraint = option.name.as_ref().map(parse::ident);
                    key = Some((constraint, vec![definition.name.clone()]));
                }
                ColumnOption::Unique(unique) => {
                    check_unique(unique)?;
                    let constraint = option.name.as_ref().map(parse::ident);
                    uniques.push((constraint, vec![definition.name.clone()]));
                }
                ColumnOption::ForeignKey(foreign) => {
                    let constraint = option.name.as_ref().map(parse::ident);
                    references.push((constraint, Some(definition.name.clone()), foreign));
                }
                ColumnOption::Check(check) => {
                    conditions.push((option.name.as_ref().map(parse::ident), &check.expr));
                }
                ColumnOption::Collation(collation) => {
                    let known = collation.to_string().to_ascii_lowercase();
                    let plain = known
                        .rsplit('.')
                        .next()
                        .unwrap_or_default()
                        .trim_matches('"')
                        .to_owned();
                    if !matches!(plain.as_str(), "c" | "posix" | "default" | "ucs_basic") {
                        return Err(Error::unsupported(format!("collation {collation}")));
                    }
                }
                other => return Err(Error::unsupported(format!("column option {other}"))),
            }
        }
        if let Some(default) = giver.default {
            check_default(default, &definition, facts)?;
            let text = column_default::stored(default, catalog)?;
            definition.default = Some(ColumnDefault::Expression(text));
        }
        let number = columns.len();
        if let Some((always, options)) = giver.identity {
            definition.not_null = true;
            let clauses = SequenceClauses::of_options(options)?;
            sequences.push(ColumnSequence::identity(number, ty, always, clauses)?);
        }
        if giver.serial {
            sequences.push(ColumnSequence {
                column: number,
                always: None,
                clauses: SequenceClauses::default(),
            });
        }
        if let Some(expression) = giver.generated {
            let text = constraint::unqualified(&expression.to_string())?;
            definition.default = Some(ColumnDefault::Generated(text));
            generated_columns.push((number, expression));
        }
        columns.push(definition);
    }
    for (column, expression) in generated_columns {
        let def = TableDef {
            name: name.clone(),
            columns: [before, &columns].concat(),
            ..TableDef::default()
        };
        generated::check(expression, &def, before.len() + column)?;
    }
    for constraint in &create.constraints {
        match constraint {
            TableConstraint::PrimaryKey(primary) => {
                if key.is_some() {
                    return Err(multiple_keys(&name));
                }
                key = Some((
                    primary.name.as_ref().map(parse::ident),
                    index_names(&primary.columns)?,
                ));
            }
            TableConstraint::Unique(unique) => {
                check_unique(unique)?;
                uniques.push((
                    unique.name.as_ref().map(parse::ident),
                    index_names(&unique.columns)?,
                ));
            }
            TableConstraint::ForeignKey(foreign) => {
                references.push((foreign.name.as_ref().map(parse::ident), None, foreign));
            }
            TableConstraint::Check(check) => {
                conditions.push((check.name.as_ref().map(parse::ident), &check.expr));
            }
            other => return Err(Error::unsupported(format!("constraint {other}"))),
        }
    }
    let primary_key = match key {
        None => None,
        Some((constraint, names)) => Some(PrimaryKey {
            name: constraint.unwrap_or_else(|| key_name(&name)),
            columns: key_columns(&names, &columns)?,
        }),
    };
    let key = primary_key.iter().flat_map(|key| &key.columns);
    generated::check_key(&columns, &key.copied().collect::<Vec<_>>())?;
    let indexes = uniques_of(&name, &columns, primary_key.as_ref(), uniques, catalog)?;
    let index = |index: &NewIndex| IndexDef {
        oid: 0,
        name: index.name.clone(),
        store: StoreId::new(0),
        columns: index.columns.clone(),
        unique: index.unique,
        constraint: index.constraint,
        valid: true,
    };
    let mut def = TableDef {
        name,
        columns,
        primary_key,
        indexes: indexes.iter().map(index).collect(),
        ..TableDef::default()
    };
    checks(&mut def, conditions)?;
    foreign_keys(&mut def, references, catalog)?;
    let table = NewTable {
        name: def.name,
        columns: def.columns,
        primary_key: def.primary_key,
        checks: def.checks,
        indexes,
        foreign_keys: def.foreign_keys,
    };
    Ok(Definition { table, sequences })
}

/// A foreign key: the name that it was given, and the column that it was declared with.
type Reference<'a> = (Option<String>, Option<String>, &'a ast::ForeignKeyConstraint);

/// The foreign keys: first those that have names.
fn foreign_keys(def: &mut TableDef, references: Vec<Reference<'_>>, catalog: &Catalog) -> Result<(), Error> {
    let (named, unnamed): (Vec<_>, Vec<_>) = references.into_iter().partition(|(name, ..)| name.is_some());
    for (name, own, foreign) in named.into_iter().chain(unnamed) {
        let key = foreign_key::definition(foreign, name, own.as_deref(), def, catalog)?;
        def.foreign_keys.push(key);
    }
    Ok(())
}

/// The indexes of UNIQUE constraints.
fn uniques_of(
    table: &str,
    columns: &[ColumnDef],
    primary_key: Option<&PrimaryKey>,
    uniques: Vec<(Option<String>, Vec<String>)>,
    catalog: &Catalog,
) -> Result<Vec<NewIndex>, Error> {
    let mut indexes: Vec<NewIndex> = Vec::new();
    let (named, unnamed): (Vec<_>, Vec<_>) = uniques.into_iter().partition(|(name, _)| name.is_some());
    for (name, key) in named.into_iter().chain(unnamed) {
        let key = key_columns(&key, columns)?;
        let taken = |name: &str| {
            catalog.has_relation(name)
                || primary_key.is_some_and(|key| key.name == name)
                || indexes.iter().any(|index| index.name == name)
        };
        let name = match name {
            Some(name) if taken(&name) => {
                return Err(Error::new(
                    SqlState::DUPLICATE_TABLE,
                    format!("relation \"{name}\" already exists"),
                ));
            }
            Some(name) => {
                check_name(&name)?;
                name
            }
            None => index_name(table, &key, columns, "key", taken),
        };
        indexes.push(NewIndex {
            name,
            columns: key,
            unique: true,
            constraint: true,
        });
    }
    Ok(indexes)
}

pub fn check_unique(unique: &ast::UniqueConstraint) -> Result<(), Error> {
    if matches!(unique.nulls_distinct, ast::NullsDistinctOption::NotDistinct) {
        return Err(Error::unsupported("NULLS NOT DISTINCT"));
    }
    let deferrable = |characteristics: &ast::ConstraintCharacteristics| {
        characteristics.deferrable == Some(true) || characteristics.initially.is_some()
    };
    match &unique.characteristics {
        Some(characteristics) if deferrable(characteristics) => {
            Err(Error::unsupported("DEFERRABLE constraint"))
        }
        _ => Ok(()),
    }
}

/// The name that PostgreSQL chooses for an index: `table_column_column_suffix`.
pub fn index_name(
    table: &str,
    key: &[usize],
    columns: &[ColumnDef],
    suffix: &str,
    taken: impl Fn(&str) -> bool,
) -> String {
    let names: Vec<&str> = key.iter().map(|column| columns[*column].name.as_str()).collect();
    constraint::chosen_name(table, Some(&names.join("_")), suffix, taken)
}

/// Refuses what an index here cannot be.
pub fn check_index(create: &ast::CreateIndex) -> Result<(), Error> {
    let refused = [
        (create.predicate.is_some(), "a partial index"),
        (!create.include.is_empty(), "INCLUDE"),
        (create.nulls_distinct == Some(false), "NULLS NOT DISTINCT"),
    ];
    if let Some((_, what)) = refused.iter().find(|(is, _)| *is) {
        return Err(Error::unsupported(what));
    }
    match &create.using {
        None | Some(ast::IndexType::BTree) => Ok(()),
        Some(other) => Err(Error::unsupported(format!(
            "access method {}",
            other.to_string().to_ascii_lowercase()
        ))),
    }
}

/// The columns of an index.
pub fn index_columns(columns: &[ast::IndexColumn], of: &[ColumnDef]) -> Result<Vec<usize>, Error> {
    let mut list = Vec::with_capacity(columns.len());
    for column in columns {
        let ast::Expr::Identifier(ident) = &column.column.expr else {
            return Err(Error::unsupported("an index on an expression"));
        };
        if column.operator_class.is_some() {
            return Err(Error::unsupported("an operator class"));
        }
        let options = &column.column.options;
        if options.asc == Some(false) || options.nulls_first == Some(true) {
            return Err(Error::unsupported("an index in descending order"));
        }
        let name = parse::ident(ident);
        let number = of.iter().position(|column| column.name == name);
        let number = number.ok_or_else(|| {
            Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" does not exist"),
            )
        })?;
        if list.contains(&number) {
            return Err(Error::unsupported("a column twice in an index"));
        }
        list.push(number);
    }
    Ok(list)
}

/// The CHECK constraints: first those that have names, so that the others get names beside them.
fn checks(def: &mut TableDef, conditions: Vec<(Option<String>, &ast::Expr)>) -> Result<(), Error> {
    let (named, unnamed): (Vec<_>, Vec<_>) = conditions.into_iter().partition(|(name, _)| name.is_some());
    for (name, condition) in named.into_iter().chain(unnamed) {
        if let Some(name) = &name {
            check_name(name)?;
        }
        let check = constraint::definition(name, condition, def)?;
        def.checks.push(check);
    }
    Ok(())
}
