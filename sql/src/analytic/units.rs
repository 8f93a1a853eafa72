//! What the bounds of a snapshot's units say: which units a filter rules out, and how large a table is.

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, UInt64Array, new_null_array};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue, Statistics};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use roaring::RoaringTreemap;
use scry_engine::Table;
use scry_mirror::ScanUnit;
use std::collections::HashSet;
use std::sync::Arc;

/// A unit to be scanned, and the ordinals in it that are not shown.
#[derive(Debug, Clone)]
pub struct Unit {
    pub rows: ScanUnit,
    pub hidden: Option<Arc<RoaringTreemap>>,
}

/// Statistics of a snapshot's units, for pruning.
struct UnitBounds<'a> {
    units: &'a [Unit],
    schema: &'a SchemaRef,
    /// Where the columns of the schema stand in the units.
    places: &'a [usize],
}

impl UnitBounds<'_> {
    /// One bound per unit, null where it is not known.
    fn bounds(
        &self,
        column: &Column,
        pick: impl Fn(&scry_mirror::ColumnStatistics) -> Option<ArrayRef>,
    ) -> Option<ArrayRef> {
        let (index, field) = self.schema.column_with_name(&column.name)?;
        let index = *self.places.get(index)?;
        let unknown = new_null_array(field.data_type(), 1);
        let bounds: Vec<ArrayRef> = self
            .units
            .iter()
            .map(|unit| {
                unit.rows
                    .statistics(index)
                    .as_ref()
                    .and_then(&pick)
                    .unwrap_or_else(|| unknown.clone())
            })
            .collect();
        let bounds: Vec<&dyn Array> = bounds.iter().map(AsRef::as_ref).collect();
        concat(&bounds).ok()
    }
}

impl PruningStatistics for UnitBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |statistics| statistics.min.clone())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |statistics| statistics.max.clone())
    }

    fn num_containers(&self) -> usize {
        self.units.len()
    }

    // Null counts include dead rows, so they are upper bounds and prove nothing here.
    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(
            self.units.iter().map(|unit| unit.rows.rows()),
        )))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Leaves the units that may hold rows that satisfy the predicate, over columns that stand at `places` in the units. A predicate that cannot be used leaves all.
pub fn prune(units: &mut Vec<Unit>, schema: &SchemaRef, places: &[usize], predicate: &Arc<dyn PhysicalExpr>) {
    let Ok(pruning) = PruningPredicateBuilder::new()
        .with_file_schema(schema.clone())
        .try_build(predicate.clone())
    else {
        return;
    };
    if pruning.always_true() || units.is_empty() {
        return;
    }
    let bounds = UnitBounds {
        units,
        schema,
        places,
    };
    let Ok(keep) = pruning.prune(&bounds) else {
        return;
    };
    let mut keep = keep.into_iter();
    units.retain(|_| keep.next().unwrap_or(true));
}

/// Estimates for the optimiser; the number of rows is certain when `exact`.
pub fn statistics(
    table: &Table,
    units: &[Unit],
    projection: &[usize],
    rows: usize,
    exact: bool,
) -> Statistics {
    let key = match &table.def.primary_key {
        Some(key) if key.columns.len() == 1 => key.columns.first().copied(),
        _ => None,
    };
    let column_statistics = projection
        .iter()
        .map(|&column| {
            let bound = |pick: fn(&scry_mirror::ColumnStatistics) -> Option<&ArrayRef>, greater: bool| {
                let mut best: Option<ScalarValue> = None;
                for unit in units {
                    let statistics = unit.rows.statistics(column)?;
                    let value = ScalarValue::try_from_array(pick(&statistics)?, 0).ok()?;
                    best = match best {
                        Some(best)
                            if (value.partial_cmp(&best)? == std::cmp::Ordering::Greater) != greater =>
                        {
                            Some(best)
                        }
                        _ => Some(value),
                    };
                }
                best
            };
            // Bounds may belong to dead rows and own rows are not in them, so they are for estimates only.
            let inexact = |value: Option<ScalarValue>| value.map_or(Precision::Absent, Precision::Inexact);
            ColumnStatistics {
                min_value: inexact(bound(|s| s.min.as_ref(), false)),
                max_value: inexact(bound(|s| s.max.as_ref(), true)),
                distinct_count: if key == Some(column) {
                    Precision::Inexact(rows)
                } else {
                    Precision::Absent
                },
                ..ColumnStatistics::new_unknown()
            }
        })
        .collect();
    Statistics {
        num_rows: if exact {
            Precision::Exact(rows)
        } else {
            Precision::Inexact(rows)
        },
        total_byte_size: Precision::Absent,
        column_statistics,
    }
}
