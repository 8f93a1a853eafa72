//! Functions that need the session or the catalog.

use super::describe::{check_definition, constraint_definition, foreign_key_definition, index_definition};
use super::objects;
use super::relations::indexed_of;
use super::relations::{relations, schema_oid, visible};
use super::types::{by_name, format_type};
use crate::analytic::types::{named_field, utc_timestamp};
use crate::analytic::{Arity, ClosureFunction, DATABASE, Scope, external, quote_ident};
use crate::error::{Error, SqlState};
use crate::plan::parse;
use crate::sequence::serial_sequence;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::logical_expr::{ScalarUDF, Volatility};
use scry_wal::{Lsn, Micros};
use std::sync::Arc;

const OID: DataType = DataType::Int64;
const TEXT: DataType = DataType::Utf8;

fn text_field() -> FieldRef {
    named_field(DataType::Utf8, "text")
}

fn name_field() -> FieldRef {
    named_field(DataType::Utf8, "name")
}

fn oid_field() -> FieldRef {
    named_field(DataType::Int64, "oid")
}

/// A text that is the same for every row; `None` is NULL.
fn constant(name: &'static str, arity: Arity, returns: FieldRef, value: Option<String>) -> Arc<ScalarUDF> {
    ClosureFunction::function(name, arity, returns, Volatility::Stable, move |_, rows| {
        Ok(Arc::new(
            (0..rows).map(|_| value.clone()).collect::<StringArray>(),
        ))
    })
}

fn constant_bool(name: &'static str, arity: Arity, value: bool) -> Arc<ScalarUDF> {
    let returns = named_field(DataType::Boolean, "boolean");
    ClosureFunction::function(name, arity, returns, Volatility::Stable, move |_, rows| {
        Ok(Arc::new(BooleanArray::from(vec![value; rows])))
    })
}

fn constant_int(name: &'static str, arity: Arity, value: i64) -> Arc<ScalarUDF> {
    let returns = named_field(DataType::Int64, "bigint");
    ClosureFunction::function(name, arity, returns, Volatility::Stable, move |_, rows| {
        Ok(Arc::new(Int64Array::from(vec![value; rows])))
    })
}

/// A text for each oid.
fn of_oid(
    name: &'static str,
    arity: Arity,
    map: impl Fn(u32) -> Option<String> + Send + Sync + 'static,
) -> Arc<ScalarUDF> {
    ClosureFunction::function(name, arity, text_field(), Volatility::Stable, move |args, _| {
        Ok(Arc::new(
            oids(&args[0])
                .map(|oid| oid.and_then(&map))
                .collect::<StringArray>(),
        ))
    })
}

/// An oid for each name; `None` is NULL.
fn of_name(
    name: &'static str,
    map: impl Fn(&str) -> Result<Option<u32>> + Send + Sync + 'static,
) -> Arc<ScalarUDF> {
    ClosureFunction::function(
        name,
        Arity::exact(&[TEXT]),
        oid_field(),
        Volatility::Stable,
        move |args, _| {
            let names = args[0].as_string::<i32>();
            let found: Result<Int64Array> = names
                .iter()
                .map(|name| Ok(name.map(&map).transpose()?.flatten().map(i64::from)))
                .collect();
            Ok(Arc::new(found?))
        },
    )
}

fn oids(column: &ArrayRef) -> impl Iterator<Item = Option<u32>> + '_ {
    let values = column.as_primitive::<Int64Type>();
    values
        .iter()
        .map(|value| value.and_then(|value| u32::try_from(value).ok()))
}

/// A relation name as written: optional schema, quotes where the name needs them.
fn relation_oid(scope: &Scope, written: &str) -> Option<u32> {
    if let Ok(oid) = written.parse::<u32>() {
        return Some(oid);
    }
    let parts = parse::dotted(written);
    let (schema, name) = match parts.as_slice() {
        [name] => (None, name),
        [schema, name] | [_, schema, name] => (Some(schema_oid(schema)), name),
        _ => return None,
    };
    relations(scope)
        .find(|(_, namespace, known)| {
            known == name && schema.map_or_else(|| visible(*namespace), |schema| schema == *namespace)
        })
        .map(|(oid, _, _)| oid)
}

fn relation_name(scope: &Scope, oid: u32) -> Option<String> {
    if oid == 0 {
        return Some("-".to_owned());
    }
    let found = relations(scope).find(|(known, _, _)| *known == oid);
    Some(match found {
        None => oid.to_string(),
        Some((_, namespace, name)) if visible(namespace) => quote_ident(&name),
        Some((_, namespace, name)) => {
            let schema = objects::SCHEMAS
                .iter()
                .find(|(_, oid)| *oid == namespace)
                .map_or("", |(name, _)| *name);
            format!("{schema}.{}", quote_ident(&name))
        }
    })
}

fn unknown(state: SqlState, message: String) -> datafusion::error::DataFusionError {
    external(Error::new(state, message))
}

/// Names that mean oids and oids that mean names: what casts to `regclass` and its kin are rewritten to.
fn alias_function(name: &str, scope: &Scope) -> Option<Arc<ScalarUDF>> {
    let owned = scope.clone();
    Some(match name {
        "scry_regclass_oid" => of_name("scry_regclass_oid", move |written| {
            match relation_oid(&owned, written) {
                Some(oid) => Ok(Some(oid)),
                None => Err(unknown(
                    SqlState::UNDEFINED_TABLE,
                    format!("relation \"{written}\" does not exist"),
                )),
            }
        }),
        "scry_regclass_name" => of_oid("scry_regclass_name", Arity::exact(&[OID]), move |oid| {
            relation_name(&owned, oid)
        }),
        "to_regclass" => ClosureFunction::function(
            "to_regclass",
            Arity::exact(&[TEXT]),
            text_field(),
            Volatility::Stable,
            move |args, _| {
                let names = args[0].as_string::<i32>().iter();
                let found = names.map(|name| relation_name(&owned, relation_oid(&owned, name?)?));
                Ok(Arc::new(found.collect::<StringArray>()))
            },
        ),
        "scry_regtype_oid" => of_name("scry_regtype_oid", |written| match by_name(written) {
            Some(oid) => Ok(Some(oid)),
            None => Err(unknown(
                SqlState::UNDEFINED_OBJECT,
                format!("type \"{written}\" does not exist"),
            )),
        }),
        "to_regtype" => of_name("to_regtype", |written| Ok(by_name(written))),
        "scry_regtype_name" => of_oid("scry_regtype_name", Arity::exact(&[OID]), |oid| {
            Some(format_type(oid, None))
        }),
        "scry_regnamespace_oid" => of_name("scry_regnamespace_oid", |written| match schema_oid(written) {
            0 => Err(unknown(
                SqlState::INVALID_SCHEMA_NAME,
                format!("schema \"{written}\" does not exist"),
            )),
            oid => Ok(Some(oid)),
        }),
        "scry_regnamespace_name" => of_oid("scry_regnamespace_name", Arity::exact(&[OID]), |oid| {
            let known = objects::SCHEMAS.iter().find(|(_, known)| *known == oid);
            Some(known.map_or_else(|| oid.to_string(), |(name, _)| (*name).to_owned()))
        }),
        "scry_regrole_oid" => of_name("scry_regrole_oid", |_| Ok(Some(objects::ROLE))),
        "scry_regrole_name" => of_oid("scry_regrole_name", Arity::exact(&[OID]), move |_| {
            Some(owned.user.to_string())
        }),
        // Functions have no oids here; columns that name one hold the name.
        "scry_regproc_oid" => ClosureFunction::function(
            "scry_regproc_oid",
            Arity::exact(&[TEXT]),
            text_field(),
            Volatility::Stable,
            |args, _| Ok(args[0].clone()),
        ),
        "scry_regproc_name" => ClosureFunction::function(
            "scry_regproc_name",
            Arity::exact(&[TEXT]),
            text_field(),
            Volatility::Stable,
            |args, _| Ok(args[0].clone()),
        ),
        _ => return None,
    })
}

/// Definitions of objects as SQL.
fn definition_function(name: &str, scope: &Scope) -> Option<Arc<ScalarUDF>> {
    let catalog = scope.catalog.clone();
    let flagged = |required| Arity::optional(required, &[OID, DataType::Boolean]);
    Some(match name {
        "format_type" => {
            let arity = Arity::exact(&[OID, OID]);
            ClosureFunction::function(
                "format_type",
                arity,
                text_field(),
                Volatility::Stable,
                |args, rows| {
                    let modifiers = args[1].as_primitive::<Int64Type>();
                    let texts = oids(&args[0]).take(rows).enumerate().map(|(row, oid)| {
                        let modifier = modifiers.is_valid(row).then(|| modifiers.value(row));
                        oid.map(|oid| format_type(oid, modifier))
                    });
                    Ok(Arc::new(texts.collect::<StringArray>()))
                },
            )
        }
        "pg_get_expr" => {
            let arity = Arity::optional(2, &[TEXT, OID, DataType::Boolean]);
            ClosureFunction::function(
                "pg_get_expr",
                arity,
                text_field(),
                Volatility::Stable,
                |args, _| Ok(args[0].clone()),
            )
        }
        "pg_get_constraintdef" => {
            of_oid(
                "pg_get_constraintdef",
                flagged(1),
                move |oid| match objects::constraint(oid)? {
                    objects::Constraint::Key { of } => {
                        let constraint = objects::key_constraint(of);
                        let mut indexes = indexed_of(&catalog);
                        let index = indexes.find(|index| index.constraint() == Some(constraint))?;
                        Some(constraint_definition(&index))
                    }
                    objects::Constraint::Check { table, number } => {
                        Some(check_definition(catalog.by_oid(table)?.def.checks.get(number)?))
                    }
                    objects::Constraint::ForeignKey { table, number } => {
                        let table = catalog.by_oid(table)?;
                        let key = table.def.foreign_keys.get(number)?;
                        Some(foreign_key_definition(table, key, catalog.by_oid(key.table)?))
                    }
                },
            )
        }
        "pg_get_indexdef" => {
            let arity = Arity::optional(1, &[OID, OID, DataType::Boolean]);
            ClosureFunction::function(
                "pg_get_indexdef",
                arity,
                text_field(),
                Volatility::Stable,
                move |args, _| {
                    let columns = args.get(1).map(|column| column.as_primitive::<Int64Type>());
                    let texts = oids(&args[0]).enumerate().map(|(row, oid)| {
                        let oid = oid?;
                        let index = indexed_of(&catalog).find(|index| index.oid == oid)?;
                        // A column number asks for that column's name alone.
                        match columns.filter(|c| c.is_valid(row)).map_or(0, |c| c.value(row)) {
                            0 => Some(index_definition(&index)),
                            number => {
                                let column =
                                    index.columns.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
                                Some(quote_ident(&index.table.def.columns[*column].name))
                            }
                        }
                    });
                    Ok(Arc::new(texts.collect::<StringArray>()))
                },
            )
        }
        "obj_description" => constant(
            "obj_description",
            Arity::optional(1, &[OID, TEXT]),
            text_field(),
            None,
        ),
        "shobj_description" => constant(
            "shobj_description",
            Arity::exact(&[OID, TEXT]),
            text_field(),
            None,
        ),
        "col_description" => constant("col_description", Arity::exact(&[OID, OID]), text_field(), None),
        "pg_get_viewdef" => constant("pg_get_viewdef", flagged(1), text_field(), None),
        "pg_get_serial_sequence" => ClosureFunction::function(
            "pg_get_serial_sequence",
            Arity::exact(&[TEXT, TEXT]),
            text_field(),
            Volatility::Stable,
            move |args, _| {
                let (tables, columns) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
                let found = tables.iter().zip(columns).map(|given| match given {
                    (Some(table), Some(column)) => serial_sequence(&catalog, table, column).map_err(external),
                    _ => Ok(None),
                });
                Ok(Arc::new(found.collect::<Result<StringArray>>()?))
            },
        ),
        "pg_get_function_result" => {
            constant("pg_get_function_result", Arity::exact(&[OID]), text_field(), None)
        }
        "pg_get_function_arguments" => constant(
            "pg_get_function_arguments",
            Arity::exact(&[OID]),
            text_field(),
            None,
        ),
        "pg_get_triggerdef" => constant(
            "pg_get_triggerdef",
            Arity::optional(1, &[OID, DataType::Boolean]),
            text_field(),
            None,
        ),
        "pg_get_partkeydef" => constant("pg_get_partkeydef", Arity::exact(&[OID]), text_field(), None),
        "pg_get_statisticsobjdef_columns" => constant(
            "pg_get_statisticsobjdef_columns",
            Arity::exact(&[OID]),
            text_field(),
            None,
        ),
        _ => return None,
    })
}

/// Facts of the session and the server.
fn session_function(name: &str, scope: &Scope) -> Option<Arc<ScalarUDF>> {
    let none = || Arity::exact(&[]);
    let user = scope.user.to_string();
    Some(match name {
        "current_database" => constant(
            "current_database",
            none(),
            name_field(),
            Some(DATABASE.to_owned()),
        ),
        "current_catalog" => constant("current_catalog", none(), name_field(), Some(DATABASE.to_owned())),
        "current_schema" => constant("current_schema", none(), name_field(), Some("public".to_owned())),
        "current_user" => constant("current_user", none(), name_field(), Some(user)),
        "session_user" => constant("session_user", none(), name_field(), Some(user)),
        "current_role" => constant("current_role", none(), name_field(), Some(user)),
        "user" => constant("user", none(), name_field(), Some(user)),
        "pg_get_userbyid" => of_oid("pg_get_userbyid", Arity::exact(&[OID]), move |oid| {
            Some(if oid == objects::ROLE {
                user.clone()
            } else {
                format!("unknown (OID={oid})")
            })
        }),
        "current_schemas" => {
            let item = Arc::new(Field::new("item", DataType::Utf8, true));
            let returns = named_field(DataType::List(item), "name[]");
            let arity = Arity::exact(&[DataType::Boolean]);
            ClosureFunction::function(
                "current_schemas",
                arity,
                returns,
                Volatility::Stable,
                |args, rows| {
                    let implicit = args[0].as_boolean();
                    let mut lists = ListBuilder::new(StringBuilder::new());
                    for row in 0..rows {
                        if implicit.is_valid(row) && implicit.value(row) {
                            lists.values().append_value("pg_catalog");
                        }
                        lists.values().append_value("public");
                        lists.append(true);
                    }
                    Ok(Arc::new(lists.finish()))
                },
            )
        }
        "current_setting" => {
            let settings = scope.settings.clone();
            let arity = Arity::optional(1, &[TEXT, DataType::Boolean]);
            ClosureFunction::function(
                "current_setting",
                arity,
                text_field(),
                Volatility::Stable,
                move |args, _| {
                    let missing_ok = args.get(1).map(|column| column.as_boolean());
                    let names = args[0].as_string::<i32>().iter().enumerate();
                    let values: Result<StringArray> = names
                        .map(|(row, name)| {
                            let Some(name) = name else { return Ok(None) };
                            let lenient =
                                missing_ok.is_some_and(|flags| flags.is_valid(row) && flags.value(row));
                            match settings(name) {
                                None if !lenient => Err(unknown(
                                    SqlState::UNDEFINED_OBJECT,
                                    format!("unrecognized configuration parameter \"{name}\""),
                                )),
                                value => Ok(value),
                            }
                        })
                        .collect();
                    Ok(Arc::new(values?))
                },
            )
        }
        "pg_backend_pid" => {
            let process = scope.process;
            let returns = named_field(DataType::Int32, "integer");
            ClosureFunction::function(
                "pg_backend_pid",
                none(),
                returns,
                Volatility::Stable,
                move |_, rows| Ok(Arc::new(Int32Array::from(vec![process; rows]))),
            )
        }
        "scry.lsn_at" => {
            let status = scope.status.clone();
            let returns = named_field(DataType::Int64, "bigint");
            let takes = Arity::exact(&[utc_timestamp()]);
            ClosureFunction::function(
                "scry.lsn_at",
                takes,
                returns,
                Volatility::Stable,
                move |args, _| {
                    let times = args[0].as_primitive::<TimestampMicrosecondType>();
                    let lsn = |time| status.as_ref()?.lsn_at(Micros::new(time));
                    let lsn = |time| lsn(time).and_then(|lsn| i64::try_from(lsn.get()).ok());
                    Ok(Arc::new(
                        times
                            .iter()
                            .map(|time| time.and_then(lsn))
                            .collect::<Int64Array>(),
                    ))
                },
            )
        }
        "scry.time_of" => {
            let status = scope.status.clone();
            let returns = named_field(utc_timestamp(), "timestamp with time zone");
            let takes = Arity::exact(&[DataType::Int64]);
            ClosureFunction::function(
                "scry.time_of",
                takes,
                returns,
                Volatility::Stable,
                move |args, _| {
                    let lsns = args[0].as_primitive::<Int64Type>();
                    let time = |lsn| status.as_ref()?.time_of(Lsn::new(u64::try_from(lsn).ok()?));
                    let times = lsns.iter().map(|lsn| lsn.and_then(time).map(Micros::get));
                    let times: TimestampMicrosecondArray = times.collect();
                    Ok(Arc::new(times.with_timezone("UTC")))
                },
            )
        }
        "scry_stat_reset" => {
            let status = scope.status.clone();
            let returns = named_field(DataType::Boolean, "boolean");
            ClosureFunction::function(
                "scry_stat_reset",
                none(),
                returns,
                Volatility::Volatile,
                move |_, rows| {
                    status.iter().for_each(|status| status.reset());
                    Ok(Arc::new(BooleanArray::from(vec![true; rows])))
                },
            )
        }
        "pg_encoding_to_char" => constant(
            "pg_encoding_to_char",
            Arity::exact(&[OID]),
            name_field(),
            Some("UTF8".to_owned()),
        ),
        "pg_char_to_encoding" => constant_int("pg_char_to_encoding", Arity::exact(&[TEXT]), 6),
        "getdatabaseencoding" => constant(
            "getdatabaseencoding",
            none(),
            name_field(),
            Some("UTF8".to_owned()),
        ),
        "pg_client_encoding" => constant(
            "pg_client_encoding",
            none(),
            name_field(),
            Some("UTF8".to_owned()),
        ),
        "inet_server_addr" => constant("inet_server_addr", none(), text_field(), None),
        "inet_client_addr" => constant("inet_client_addr", none(), text_field(), None),
        "pg_is_in_recovery" => constant_bool("pg_is_in_recovery", none(), false),
        "pg_my_temp_schema" => constant_int("pg_my_temp_schema", none(), 0),
        "pg_is_other_temp_schema" => constant_bool("pg_is_other_temp_schema", Arity::exact(&[OID]), false),
        // Of what is no partition: itself, which psql adds anyway.
        "pg_partition_ancestors" => ClosureFunction::function(
            "pg_partition_ancestors",
            Arity::exact(&[OID]),
            oid_field(),
            Volatility::Stable,
            |args, _| Ok(args[0].clone()),
        ),
        "pg_relation_is_publishable" => {
            constant_bool("pg_relation_is_publishable", Arity::exact(&[OID]), false)
        }
        _ => return None,
    })
}

/// Visibility, privileges and sizes.
fn relation_function(name: &str, scope: &Scope) -> Option<Arc<ScalarUDF>> {
    let privilege = || Arity::optional(2, &[TEXT, TEXT, TEXT]);
    let sized = || Arity::optional(1, &[OID, TEXT]);
    let owned = scope.clone();
    Some(match name {
        "pg_table_is_visible" => {
            let returns = named_field(DataType::Boolean, "boolean");
            ClosureFunction::function(
                "pg_table_is_visible",
                Arity::exact(&[OID]),
                returns,
                Volatility::Stable,
                move |args, _| {
                    let known: std::collections::HashMap<u32, u32> =
                        relations(&owned).map(|(oid, schema, _)| (oid, schema)).collect();
                    let flags = oids(&args[0]).map(|oid| Some(visible(*known.get(&oid?)?)));
                    Ok(Arc::new(flags.collect::<BooleanArray>()))
                },
            )
        }
        "pg_type_is_visible" => constant_bool("pg_type_is_visible", Arity::exact(&[OID]), true),
        "pg_function_is_visible" => constant_bool("pg_function_is_visible", Arity::exact(&[OID]), true),
        "pg_operator_is_visible" => constant_bool("pg_operator_is_visible", Arity::exact(&[OID]), true),
        "pg_collation_is_visible" => constant_bool("pg_collation_is_visible", Arity::exact(&[OID]), true),
        "has_table_privilege" => constant_bool("has_table_privilege", privilege(), true),
        "has_any_column_privilege" => constant_bool("has_any_column_privilege", privilege(), true),
        "has_schema_privilege" => constant_bool("has_schema_privilege", privilege(), true),
        "has_database_privilege" => constant_bool("has_database_privilege", privilege(), true),
        "has_sequence_privilege" => constant_bool("has_sequence_privilege", privilege(), true),
        "has_function_privilege" => constant_bool("has_function_privilege", privilege(), true),
        "has_column_privilege" => constant_bool(
            "has_column_privilege",
            Arity::optional(3, &[TEXT, TEXT, TEXT, TEXT]),
            true,
        ),
        "pg_has_role" => constant_bool("pg_has_role", privilege(), true),
        "pg_relation_size" => constant_int("pg_relation_size", sized(), 0),
        "pg_table_size" => constant_int("pg_table_size", sized(), 0),
        "pg_total_relation_size" => constant_int("pg_total_relation_size", sized(), 0),
        "pg_indexes_size" => constant_int("pg_indexes_size", sized(), 0),
        "pg_database_size" => constant_int("pg_database_size", Arity::exact(&[TEXT]), 0),
        "pg_tablespace_location" => constant(
            "pg_tablespace_location",
            Arity::exact(&[OID]),
            text_field(),
            Some(String::new()),
        ),
        "pg_size_pretty" => ClosureFunction::function(
            "pg_size_pretty",
            Arity::exact(&[OID]),
            text_field(),
            Volatility::Immutable,
            |args, _| {
                let sizes = args[0].as_primitive::<Int64Type>().iter();
                Ok(Arc::new(
                    sizes.map(|size| size.map(pretty_size)).collect::<StringArray>(),
                ))
            },
        ),
        _ => return None,
    })
}

/// Bytes in the largest unit that leaves at least ten of it.
fn pretty_size(bytes: i64) -> String {
    let mut size = bytes;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if size.abs() < 10_240 {
            return format!("{size} {unit}");
        }
        size = (size + 512) / 1_024;
    }
    format!("{size} TB")
}

/// The function of this name, bound to the session.
pub fn function(name: &str, scope: &Scope) -> Option<Arc<ScalarUDF>> {
    alias_function(name, scope)
        .or_else(|| definition_function(name, scope))
        .or_else(|| session_function(name, scope))
        .or_else(|| relation_function(name, scope))
}
