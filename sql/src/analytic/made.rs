//! Relations that are made for one statement: lists of what candidates change, and queries planned under a future.

use super::error::external;
use super::future::{FutureName, Listing};
use super::names::{Names, Scope};
use super::plan;
use super::scan::UserTable;
use crate::error::{Error, SqlState};
use crate::privilege;
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use scry_engine::election::{Election, Privileges};
use scry_engine::{Candidate, CandidateState, Catalog, DataType, ElectionState, Error as EngineError};
use sqlparser::ast::Query;
use std::borrow::Cow;
use std::sync::Arc;

/// Names of columns, with the types that expressions know.
pub type Columns = Vec<(String, Option<DataType>)>;

/// A relation that was made for a statement.
#[derive(Clone)]
pub struct MadeRelation {
    pub columns: Columns,
    pub provider: Arc<dyn TableProvider>,
}

/// The schema in which names of such relations stand.
pub const SCHEMA: &str = "scry";

/// The place of the relation of this name among those made.
pub fn number(name: &str) -> Option<usize> {
    name.strip_prefix('#')?.parse().ok()
}

impl Names<'_> {
    /// Takes a relation in, and gives the text that names it.
    fn register(&self, relation: MadeRelation) -> String {
        let mut made = self.relations.borrow_mut();
        made.push(relation);
        format!("{SCHEMA}.\"#{}\"", made.len() - 1)
    }

    /// A query for the list of what a future changes in a table, or, without one, of its predicted conflicts.
    ///
    /// # Errors
    /// When there is no such future or table.
    pub fn list(&self, future: &str, table: Option<&str>) -> Result<String, Error> {
        let future = Arc::new(FutureName::parse(future)?);
        let catalog = &self.scope.catalog;
        let candidates = future.open(catalog, &self.scope.user)?;
        let listing = match table {
            None => Listing::conflicts(future),
            Some(name) => {
                let name = name.strip_prefix("public.").unwrap_or(name);
                let table = FutureName::table_of(&candidates, catalog, name)?;
                let table = table.ok_or_else(|| {
                    Error::new(
                        SqlState::UNDEFINED_TABLE,
                        format!("relation \"{name}\" does not exist"),
                    )
                })?;
                Listing::changes(future, table.clone())
            }
        };
        Ok(self.listed(listing))
    }

    /// A query for whether the mirror has what an election has changed.
    ///
    /// # Errors
    /// When there is no such election, or the user may not read its futures.
    pub fn validation(&self, election: &str) -> Result<String, Error> {
        validated(&self.scope.catalog, election, &self.scope.user)?;
        Ok(self.listed(Listing::validation(election.to_owned())))
    }

    fn listed(&self, listing: Listing) -> String {
        let schema = listing.schema();
        let columns = schema.fields().iter();
        let columns = columns.map(|field| (field.name().clone(), super::types::column_type(field)));
        let name = self.register(MadeRelation {
            columns: columns.collect(),
            provider: Arc::new(listing),
        });
        format!("SELECT * FROM {name}")
    }

    /// Plans a query in which unqualified names of tables mean a future, or the present: a relation with columns `c0`, `c1`, …,
    /// and what the query calls them.
    ///
    /// # Errors
    /// Those of the query; parameters; such a query inside of another.
    pub fn plan_under(
        &self,
        query: &Query,
        future: Option<Arc<FutureName>>,
    ) -> Result<(String, Columns), Error> {
        if self.inner {
            return Err(Error::unsupported(
                "comparing futures inside of a query that is compared",
            ));
        }
        // Which candidates there are is known for now only.
        self.fleeting.set(true);
        let scope = Scope {
            future,
            ..self.scope.clone()
        };
        let planned = plan::logical(self.registry, self.state, query, &scope, &[], true)?;
        if !planned.parameters.is_empty() {
            return Err(Error::new(
                SqlState::UNDEFINED_PARAMETER,
                "there is no parameter $1",
            ));
        }
        self.note_tables(planned.tables);
        let fields = planned.logical.schema().iter().enumerate();
        let renamed = fields.map(|(index, (qualifier, field))| {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            column.alias(format!("c{index}"))
        });
        let renamed: Vec<Expr> = renamed.collect();
        let logical = apart(planned.logical).map_err(super::from_datafusion)?;
        let logical = LogicalPlanBuilder::from(logical)
            .project(renamed)
            .and_then(LogicalPlanBuilder::build)
            .map_err(super::from_datafusion)?;
        let outputs = planned.outputs.into_iter();
        let columns: Columns = outputs.map(|output| (output.name, output.ty)).collect();
        let internal = columns.iter().enumerate();
        let internal = internal.map(|(index, (_, ty))| (format!("c{index}"), *ty));
        let name = self.register(MadeRelation {
            columns: internal.collect(),
            provider: Arc::new(PlannedQuery {
                schema: Arc::new(logical.schema().as_arrow().clone()),
                logical,
            }),
        });
        Ok((name, columns))
    }

    /// The candidates of an open election whose futures can be read.
    ///
    /// # Errors
    /// When there is no such election, it has ended, or the user may not read its futures.
    pub fn candidates(&self, election: &str) -> Result<Vec<Arc<Candidate>>, Error> {
        let name = || election.to_owned();
        let found = self.scope.catalog.elections().get(election);
        let found = found.ok_or_else(|| EngineError::UndefinedElection { name: name() })?;
        if found.state != ElectionState::Open {
            return Err(EngineError::ElectionEnded { name: name() }.into());
        }
        privilege::check(found, &self.scope.user, Privileges::READ)?;
        let readable =
            |candidate: &&Arc<Candidate>| candidate.state == CandidateState::Open && candidate.mirrored;
        Ok(found.candidates().filter(readable).cloned().collect())
    }
}

/// The election of which the user wants to know whether the mirror has it.
///
/// # Errors
/// When there is no such election, or the user may not read its futures.
pub fn validated<'c>(catalog: &'c Catalog, election: &str, user: &str) -> Result<&'c Arc<Election>, Error> {
    let found = catalog.elections().get(election);
    let found = found.ok_or_else(|| EngineError::UndefinedElection {
        name: election.to_owned(),
    })?;
    privilege::check(found, user, Privileges::READ)?;
    Ok(found)
}

/// Gives scans of futures names of their own. DataFusion takes scans of one name for the same, and so would answer a scalar subquery
/// that stands in the plans of several futures once for all of them.
fn apart(logical: LogicalPlan) -> Result<LogicalPlan> {
    let renamed = logical.transform_down_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else {
            return Ok(Transformed::no(node));
        };
        let future = UserTable::behind(&scan.source).and_then(|(_, future)| future);
        let (Some(future), None) = (future, scan.table_name.schema()) else {
            return Ok(Transformed::no(node));
        };
        let name = scan.table_name.clone();
        let own = TableReference::partial(future.to_string(), name.table());
        let projection = scan.projection.clone();
        let filters = scan.filters.clone();
        let scan = LogicalPlanBuilder::scan_with_filters(own, scan.source.clone(), projection, filters)?;
        Ok(Transformed::yes(scan.alias(name)?.build()?))
    });
    Ok(renamed?.data)
}

/// A planned query as a relation. Planning a query that reads it puts its plan there.
#[derive(Debug)]
struct PlannedQuery {
    logical: LogicalPlan,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for PlannedQuery {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.logical))
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(external(Error::internal("a planned query was not taken in")))
    }
}
