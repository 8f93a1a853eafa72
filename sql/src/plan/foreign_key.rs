//! FOREIGN KEY: from syntax to the engine's definition.

use crate::constraint;
use crate::error::{Error, SqlState};
use crate::expr::plain_name;
use crate::plan::create_table::check_name;
use crate::plan::parse;
use crate::plan::select::no_such_table;
use scry_engine::foreign::is_comparable;
use scry_engine::{Catalog, ForeignKeyDef, KeyAction, KeyMatch, TableDef};
use sqlparser::ast;

fn undefined_column(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{name}\" referenced in foreign key constraint does not exist"),
    )
}

fn columns(names: &[String], def: &TableDef) -> Result<Vec<usize>, Error> {
    let number = |name: &String| {
        let number = def.column(name);
        number.ok_or_else(|| undefined_column(name))
    };
    names.iter().map(number).collect()
}

fn action(action: Option<ast::ReferentialAction>) -> KeyAction {
    match action {
        None | Some(ast::ReferentialAction::NoAction) => KeyAction::NoAction,
        Some(ast::ReferentialAction::Restrict) => KeyAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => KeyAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => KeyAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => KeyAction::SetDefault,
    }
}

/// Whether it is deferrable, and whether deferred unless a transaction says otherwise.
fn characteristics(given: Option<&ast::ConstraintCharacteristics>) -> Result<(bool, bool), Error> {
    let Some(given) = given else {
        return Ok((false, false));
    };
    if given.enforced.is_some() {
        return Err(Error::syntax("syntax error at or near \"ENFORCED\""));
    }
    let deferred = given.initially == Some(ast::DeferrableInitial::Deferred);
    match given.deferrable {
        Some(false) if deferred => Err(Error::syntax(
            "constraint declared INITIALLY DEFERRED must be DEFERRABLE",
        )),
        deferrable => Ok((deferrable.unwrap_or(deferred), deferred)),
    }
}

/// A foreign key of the table with `def`, which has all its other constraints. `own`: the columns that refer, for a constraint of
/// one column, which does not name them. A table that is being created has the oid 0.
pub fn definition(
    key: &ast::ForeignKeyConstraint,
    name: Option<String>,
    own: Option<&str>,
    def: &TableDef,
    catalog: &Catalog,
) -> Result<ForeignKeyDef, Error> {
    let referring: Vec<String> = match own {
        Some(column) => vec![column.to_owned()],
        None => key.columns.iter().map(parse::ident).collect(),
    };
    let parent_name = parent_name(&key.foreign_table)?;
    let of_itself = parent_name == def.name;
    let parent = match catalog.table(&parent_name) {
        _ if of_itself => def,
        Some(parent) => &parent.def,
        None => return Err(no_such_table(&parent_name)),
    };
    let numbers = columns(&referring, def)?;
    let referenced = match key.referred_columns.as_slice() {
        [] => match &parent.primary_key {
            Some(primary) => primary.columns.clone(),
            None => {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("there is no primary key for referenced table \"{parent_name}\""),
                ));
            }
        },
        named => columns(&named.iter().map(parse::ident).collect::<Vec<_>>(), parent)?,
    };
    let invalid = |text: String| Error::new(SqlState::INVALID_FOREIGN_KEY, text);
    let mut distinct = referenced.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < referenced.len() {
        return Err(invalid(
            "foreign key referenced-columns list must not contain duplicates".to_owned(),
        ));
    }
    if numbers.len() != referenced.len() {
        return Err(invalid(
            "number of referencing and referenced columns for foreign key disagree".to_owned(),
        ));
    }
    if parent.unique_key(&referenced).is_none() {
        return Err(invalid(format!(
            "there is no unique constraint matching given keys for referenced table \"{parent_name}\""
        )));
    }
    let name = match name {
        Some(name) => {
            check_name(&name)?;
            if constraint::is_taken(&name, def) {
                return Err(constraint::already_exists(&name, &def.name));
            }
            name
        }
        None => {
            let taken = |name: &str| constraint::is_taken(name, def);
            constraint::chosen_name(&def.name, Some(&referring.join("_")), "fkey", taken)
        }
    };
    for (column, other) in numbers.iter().zip(&referenced) {
        let (column, other) = (&def.columns[*column], &parent.columns[*other]);
        if !is_comparable(column.ty, other.ty) {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!("foreign key constraint \"{name}\" cannot be implemented"),
            )
            .with_detail(format!(
                "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                column.name,
                other.name,
                plain_name(&column.ty),
                plain_name(&other.ty)
            )));
        }
    }
    let (on_delete, on_update) = (action(key.on_delete), action(key.on_update));
    if numbers
        .iter()
        .any(|column| def.columns[*column].generated().is_some())
    {
        // What such an action writes would be computed over.
        let writes = |action: &KeyAction| matches!(action, KeyAction::SetNull | KeyAction::SetDefault);
        let clause = match (&on_update, &on_delete) {
            (update, _) if writes(update) || matches!(update, KeyAction::Cascade) => Some("UPDATE"),
            (_, delete) if writes(delete) => Some("DELETE"),
            _ => None,
        };
        if let Some(clause) = clause {
            return Err(Error::syntax(format!(
                "invalid ON {clause} action for foreign key constraint containing generated column"
            )));
        }
    }
    let (deferrable, deferred) = characteristics(key.characteristics.as_ref())?;
    Ok(ForeignKeyDef {
        name,
        columns: numbers,
        table: if of_itself { def.oid } else { parent.oid },
        referenced,
        on_delete,
        on_update,
        matching: match key.match_kind {
            None | Some(ast::ConstraintReferenceMatchKind::Simple) => KeyMatch::Simple,
            Some(ast::ConstraintReferenceMatchKind::Full) => KeyMatch::Full,
            Some(ast::ConstraintReferenceMatchKind::Partial) => {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "MATCH PARTIAL not yet implemented",
                ));
            }
        },
        deferrable,
        deferred,
        validated: true,
    })
}

/// The table referred to.
fn parent_name(name: &ast::ObjectName) -> Result<String, Error> {
    let parts = parse::object_parts(name)?;
    match parts.as_slice() {
        [schema, _] if !["public", "pg_catalog", "information_schema", "scry"].contains(&schema.as_str()) => {
            Err(Error::new(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{schema}\" does not exist"),
            ))
        }
        _ => parse::table(name),
    }
}
