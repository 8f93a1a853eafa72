//! Queries whose rows are wanted as Arrow batches, not as messages.

use super::Session;
use super::portal::Stream;
use super::run::located;
use crate::error::{Error, SqlState};
use crate::plan::statement::Statement;
use crate::plan::{parse, split};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// A running query. [`Session::sync`] is to be called when it has ended, or was dropped.
pub struct ArrowRows {
    stream: Stream,
    schema: SchemaRef,
}

impl ArrowRows {
    /// The columns, under the names that clients see.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl Session {
    /// Runs a query, in DataFusion whatever its shape.
    ///
    /// # Errors
    /// The query's, and what is no query or has parameters.
    pub async fn query_arrow(&mut self, sql: &str) -> Result<ArrowRows, Error> {
        self.begin_statement();
        match self.start_arrow(sql).await {
            Ok(rows) => Ok(rows),
            Err(error) => self.failed(located(error, sql)).await,
        }
    }

    async fn start_arrow(&mut self, sql: &str) -> Result<ArrowRows, Error> {
        let statement = match split::statements(sql)?.as_slice() {
            [(start, end)] => parse::statement(&sql[*start..*end])?,
            _ => return Err(Error::syntax("a single query is wanted")),
        };
        let Statement::Query(query) = &statement else {
            return Err(Error::unsupported("another statement than a query as Arrow"));
        };
        self.check_accepted(&statement)?;
        self.transaction.statement(&mut self.engine, &self.settings)?;
        let catalog = self.catalog();
        let plan = self.database.analytic().plan(query, &self.scope(&catalog), &[])?;
        if !plan.param_types().is_empty() {
            return Err(Error::new(
                SqlState::UNDEFINED_PARAMETER,
                "there is no parameter $1",
            ));
        }
        let stream = self.open_stream(&plan, Vec::new()).await?;
        Ok(ArrowRows {
            stream,
            schema: plan.arrow_schema(),
        })
    }

    /// The next rows, with the schema of [`ArrowRows::schema`]; `None` at the end.
    ///
    /// # Errors
    /// The query's.
    pub async fn next_arrow(&mut self, rows: &mut ArrowRows) -> Result<Option<RecordBatch>, Error> {
        match self.step_arrow(rows).await {
            Ok(batch) => Ok(batch),
            Err(error) => self.failed(error).await,
        }
    }

    async fn step_arrow(&mut self, rows: &mut ArrowRows) -> Result<Option<RecordBatch>, Error> {
        let batch = rows.stream.batch(&self.interrupt).await?;
        self.answerable().await?;
        let Some(batch) = batch else { return Ok(None) };
        let wrong = |error| Error::internal(format!("a batch does not fit its query's columns: {error}"));
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (column, field) in batch.columns().iter().zip(rows.schema.fields()) {
            columns.push(match column.data_type() == field.data_type() {
                true => Arc::clone(column),
                false => cast(column, field.data_type()).map_err(wrong)?,
            });
        }
        RecordBatch::try_new(Arc::clone(&rows.schema), columns)
            .map(Some)
            .map_err(wrong)
    }
}
