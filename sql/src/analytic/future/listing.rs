//! `scry.conflicts` and `scry.diff`: what candidates change, row by row, as relations; and `scry.validate_election`.
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
    /// A row for each predicted conflict of a future.
    Conflicts(Arc<FutureName>),
    /// A row for each row of the table that is otherwise in a future than at present.
    Changes(Arc<FutureName>, Arc<Table>),
    /// A row for each table that an election has changed: is the mirror what the primary is?
    Validation(String),
}

/// A list of what a future changes.
#[derive(Debug, Clone)]
pub struct Listing {
    pub listed: Listed,
    schema: SchemaRef,
}

/// Listings are equal when they list the same of the same.
impl PartialEq for Listing {
    fn eq(&self, other: &Listing) -> bool {
        match (&self.listed, &other.listed) {
            (Listed::Conflicts(ours), Listed::Conflicts(theirs)) => ours == theirs,
            (Listed::Changes(ours, table), Listed::Changes(theirs, other)) => {
                ours == theirs && table.def.oid == other.def.oid
            }
            (Listed::Validation(ours), Listed::Validation(theirs)) => ours == theirs,
            _ => false,
        }
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
            listed: Listed::Conflicts(future),
            schema: Arc::new(Schema::new(fields)),
        }
    }

    pub fn changes(future: Arc<FutureName>, table: Arc<Table>) -> Listing {
        let mut fields = vec![Arc::new(text("change"))];
        for side in ["old", "new"] {
            let columns = Listing::side(&table).arrow;
            let named = table.def.live_columns().map(|(number, _)| {
                let field = columns.field(number);
                let name = format!("{side}_{}", field.name());
                Arc::new(field.clone().with_name(name))
            });
            fields.extend(named);
        }
        Listing {
            listed: Listed::Changes(future, table),
            schema: Arc::new(Schema::new(fields)),
        }
    }

    pub fn validation(election: String) -> Listing {
        let count = |name: &str| {
            named_field(ArrowType::Int64, "bigint")
                .as_ref()
                .clone()
                .with_name(name)
        };
        let fields = vec![
            text("candidate"),
            text("table"),
            count("rows"),
            count("primary_rows"),
            count("mirror_rows"),
            text("primary_checksum"),
            text("mirror_checksum"),
            count("differences"),
            text("examples"),
        ];
        Listing {
            listed: Listed::Validation(election),
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// All columns of a table's rows, present or not.
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
