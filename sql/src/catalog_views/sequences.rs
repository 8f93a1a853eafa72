//! Sequences, and what depends on what because of them.

use super::objects;
use super::relations::tables;
use super::types::format_type;
use super::view::{View, row};
use crate::analytic::DATABASE;
use crate::plan::column_default;
use crate::types as sql_types;
use scry_engine::DataType;

/// The columns of a sequence that is read as a relation.
pub const COLUMNS: [(&str, DataType); 3] = [
    ("last_value", DataType::Int8),
    ("log_cnt", DataType::Int8),
    ("is_called", DataType::Bool),
];

/// Oids of the catalogs that dependencies name.
const CLASSES: u32 = 1259;
const DEFAULTS: u32 = 2604;

pub const VIEWS: &[View] = &[
    View {
        schema: "pg_catalog",
        name: "pg_sequence",
        columns: "seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8, \
                  seqcycle bool",
        rows: |scope| {
            let sequences = scope.catalog.sequences().iter();
            let row = |sequence: &scry_engine::Sequence| {
                let options = &sequence.def.options;
                row![
                    sequence.def.oid,
                    sql_types::oid(&options.ty),
                    options.start,
                    options.increment,
                    options.max,
                    options.min,
                    options.cache,
                    options.cycle
                ]
            };
            sequences.map(|sequence| row(sequence)).collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_sequences",
        columns: "schemaname name, sequencename name, sequenceowner name, data_type regtype, start_value int8, min_value int8, \
                  max_value int8, increment_by int8, cycle bool, cache_size int8, last_value int8",
        rows: |scope| {
            let sequences = scope.catalog.sequences().iter();
            let row = |sequence: &scry_engine::Sequence| {
                let options = &sequence.def.options;
                let (last, is_called) = sequence.position();
                row![
                    "public",
                    sequence.def.name.clone(),
                    scope.user.to_string(),
                    format_type(sql_types::oid(&options.ty), None),
                    options.start,
                    options.min,
                    options.max,
                    options.increment,
                    options.cycle,
                    options.cache,
                    is_called.then_some(last)
                ]
            };
            sequences.map(|sequence| row(sequence)).collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_depend",
        columns: "classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype char",
        rows: |scope| {
            let mut rows = Vec::new();
            for sequence in scope.catalog.sequences().iter() {
                let Some(owner) = sequence.def.owner else { continue };
                let column = scope.catalog.by_oid(owner.table);
                let column = column.and_then(|table| table.def.columns.get(owner.column));
                let kind = match column.and_then(|column| column.identity()) {
                    Some((identity, _)) if identity == sequence.def.oid => "i",
                    _ => "a",
                };
                let (oid, table) = (sequence.def.oid, owner.table);
                rows.push(row![CLASSES, oid, 0, CLASSES, table, owner.column + 1, kind]);
            }
            for table in tables(scope) {
                for (index, column) in table.def.columns.iter().enumerate() {
                    let (of, number) = (table.def.oid, index + 1);
                    let default = objects::column_default(of, number);
                    let text = column.default_expression();
                    if text.is_some() || column.generated().is_some() {
                        rows.push(row![DEFAULTS, default, 0, CLASSES, of, number, "a"]);
                    }
                    for used in column_default::sequences(text.unwrap_or_default()) {
                        rows.push(row![DEFAULTS, default, 0, CLASSES, used, 0, "n"]);
                    }
                }
            }
            rows
        },
    },
    View {
        schema: "information_schema",
        name: "sequences",
        columns: "sequence_catalog name, sequence_schema name, sequence_name name, data_type text, numeric_precision int4, \
                  numeric_precision_radix int4, numeric_scale int4, start_value text, minimum_value text, \
                  maximum_value text, increment text, cycle_option text",
        rows: |scope| {
            let is_identity = |sequence: &scry_engine::Sequence| {
                tables(scope).any(|table| {
                    let mut columns = table.def.columns.iter().filter_map(|column| column.identity());
                    columns.any(|(identity, _)| identity == sequence.def.oid)
                })
            };
            let sequences = scope.catalog.sequences().iter();
            let row = |sequence: &scry_engine::Sequence| {
                let options = &sequence.def.options;
                let bits = match options.ty {
                    DataType::Int2 => 16,
                    DataType::Int4 => 32,
                    _ => 64,
                };
                row![
                    DATABASE,
                    "public",
                    sequence.def.name.clone(),
                    format_type(sql_types::oid(&options.ty), None),
                    bits,
                    2,
                    0,
                    options.start.to_string(),
                    options.min.to_string(),
                    options.max.to_string(),
                    options.increment.to_string(),
                    if options.cycle { "YES" } else { "NO" }
                ]
            };
            sequences
                .filter(|sequence| !is_identity(sequence))
                .map(|sequence| row(sequence))
                .collect()
        },
    },
];
