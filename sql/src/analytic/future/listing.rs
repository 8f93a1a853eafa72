//! `scry.conflicts` and `scry.diff`: what candidates change, row by row, as relations.
//!
//! A planned query holds a [`Listing`], which says what is to be listed; the session makes the rows before the query runs,
//! at the query's LSN, as it prepares futures.

use super::name::FutureName;
use crate::analytic::scan::StatementSource;
use crate::analytic::types::named_field;
use crate::error::Error;
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType as ArrowType, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use scry_engine::{ColumnDef, Table};
use scry_stream::StoreSchema;
use std::sync::Arc;

/// What is listed.
#[derive(Debug, Clone)]
pub enum Listed {
    /// A row for each predicted conflict.
    Conflicts,
    /// A row for each row of the table that differs from the present.
    Changes(Arc<Table>),
}

/// A list of what a future changes.
#[derive(Debug, Clone)]
pub struct Listing {
    pub future: Arc<FutureName>,
    pub listed: Listed,
    schema: SchemaRef,
}

/// Listings are equal when they list the same of the same future.
impl PartialEq for Listing {
    fn eq(&self, other: &Listing) -> bool {
        let same = match (&self.listed, &other.listed) {
            (Listed::Conflicts, Listed::Conflicts) => true,
            (Listed::Changes(ours), Listed::Changes(theirs)) => ours.def.oid == theirs.def.oid,
            _ => false,
        };
        same && self.future == other.future
    }
}

fn text(name: &str) -> datafusion::arrow::datatypes::Field {
    named_field(ArrowType::Utf8, "text")
        .as_ref()
        .clone()
        .with_name(name)
}

impl Listing {
    pub fn conflicts(future: Arc<FutureName>) -> Listing {
        let columns = [
            "table", "key", "columns", "before", "present", "proposed", "decision", "rule", "result",
        ];
        let fields: Vec<_> = columns.into_iter().map(text).collect();
        Listing {
            future,
            listed: Listed::Conflicts,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    pub fn changes(future: Arc<FutureName>, table: Arc<Table>) -> Listing {
        let mut fields = vec![Arc::new(text("change"))];
        for side in ["old", "new"] {
            let columns = &Listing::side(&table).arrow;
            let named = columns.fields().iter().map(|field| {
                let name = format!("{side}_{}", field.name());
                Arc::new(field.as_ref().clone().with_name(name))
            });
            fields.extend(named);
        }
        Listing {
            future,
            listed: Listed::Changes(table),
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// The columns of a table's rows, present or not.
    pub fn side(table: &Table) -> StoreSchema {
        let nullable = |column: &ColumnDef| ColumnDef {
            not_null: false,
            ..column.clone()
        };
        StoreSchema::new(table.def.columns.iter().map(nullable).collect())
    }
}

#[async_trait]
impl TableProvider for Listing {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let source = state.config().get_extension::<StatementSource>();
        let rows = source.and_then(|source| source.futures().listed(self).cloned());
        let rows = rows.ok_or_else(|| {
            crate::analytic::external(Error::internal("a list of changes was executed without its rows"))
        })?;
        let table = MemTable::try_new(self.schema.clone(), vec![vec![rows]])?;
        table.scan(state, projection, filters, limit).await
    }
}
