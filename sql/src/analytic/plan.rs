//! A query's text, planned: names resolved, types known, parameters typed. Holds no data and no snapshot.

use super::error::from_datafusion;
use super::future::{FutureName, FutureRead, Listing};
use super::intervals;
use super::literals;
use super::names::{Names, Registry, Scope};
use super::rewrite;
use super::runtime::Analytic;
use super::scan::UserTable;
use super::typed::{self, Output, Typed};
use super::types::{self, oid};
use super::windows;
use crate::error::{Error, SqlState};
use crate::expr::Parameters;
use crate::session::ColumnDescription;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel};
use scry_engine::Table;
use sqlparser::ast::{Query, Statement};
use std::collections::HashMap;
use std::sync::Arc;

/// A planned query. Cheap to clone; holds for as long as the catalog has the version it was planned against.
#[derive(Debug, Clone)]
pub struct AnalyticPlan {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    logical: LogicalPlan,
    columns: Arc<[ColumnDescription]>,
    parameters: Vec<u32>,
    tables: Vec<Arc<Table>>,
    futures: Vec<FutureRead>,
    listings: Vec<Listing>,
    lasting: bool,
    catalog_version: u64,
}

impl AnalyticPlan {
    /// The result's columns.
    pub fn columns(&self) -> &Arc<[ColumnDescription]> {
        &self.inner.columns
    }

    /// The result's columns in Arrow's terms, under the names that clients see.
    pub fn arrow_schema(&self) -> SchemaRef {
        let fields = self.inner.logical.schema().fields().iter();
        let named = fields.zip(self.columns().iter()).map(|(field, column)| {
            field
                .as_ref()
                .clone()
                .with_name(column.name.as_str())
                .with_nullable(true)
        });
        Arc::new(Schema::new(named.collect::<Vec<_>>()))
    }

    /// Type oids of `$1…$n`, given or inferred; text where nothing tells.
    pub fn param_types(&self) -> &[u32] {
        &self.inner.parameters
    }

    /// The user tables that the query reads, in the present or in a future, each once.
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.inner.tables
    }

    /// The futures that the query reads, each once.
    pub fn futures(&self) -> &[FutureRead] {
        &self.inner.futures
    }

    /// The lists of what futures change that the query reads, each once.
    pub fn listings(&self) -> &[Listing] {
        &self.inner.listings
    }

    /// Whether the query reads anything of a future.
    pub fn reads_futures(&self) -> bool {
        !self.inner.futures.is_empty() || !self.inner.listings.is_empty()
    }

    /// Whether the plan holds for as long as its version of the catalog, and not for one statement only.
    pub fn is_lasting(&self) -> bool {
        self.inner.lasting
    }

    /// Whether the query reads catalog views or nothing: it then needs no snapshot and waits for nothing.
    pub fn catalog_only(&self) -> bool {
        self.inner.tables.is_empty() && self.inner.listings.is_empty()
    }

    pub fn catalog_version(&self) -> u64 {
        self.inner.catalog_version
    }

    /// The user tables with the number of times that each is scanned in the present.
    pub(super) fn scans(&self) -> Vec<(Arc<Table>, usize)> {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for (table, future) in user_scans(&self.inner.logical) {
            if future.is_none() {
                *counts.entry(table.def.oid).or_default() += 1;
            }
        }
        let count = |table: &Arc<Table>| counts.get(&table.def.oid).copied().unwrap_or(0);
        self.inner
            .tables
            .iter()
            .map(|table| (table.clone(), count(table)))
            .collect()
    }

    pub(super) fn logical(&self) -> &LogicalPlan {
        &self.inner.logical
    }
}

impl Analytic {
    /// Plans a query. `param_types` holds the oids of `$1…` as far as the client gave them, 0 for unknown.
    ///
    /// # Errors
    /// Whatever is wrong with the query: unknown names, mismatched types, what is not supported.
    pub fn plan(&self, query: &Query, scope: &Scope, param_types: &[u32]) -> Result<AnalyticPlan, Error> {
        let planned = logical(&self.registry, &self.template, query, scope, param_types, false)?;
        let Planned {
            logical,
            parameters,
            outputs,
            tables,
            lasting,
        } = planned;
        let parameters = parameters.iter();
        let parameters = parameters.map(|field| types::wire_type(field).oid).collect();
        Ok(AnalyticPlan {
            inner: Arc::new(Inner {
                columns: describe(&logical, &tables, &outputs),
                parameters,
                tables,
                futures: futures(&logical),
                listings: listings(&logical),
                lasting,
                catalog_version: scope.catalog.version(),
                logical,
            }),
        })
    }
}

/// A planned query with what was found out about it.
pub(super) struct Planned {
    pub logical: LogicalPlan,
    pub parameters: Vec<FieldRef>,
    pub outputs: Vec<Output>,
    pub tables: Vec<Arc<Table>>,
    lasting: bool,
}

/// Plans a query; `inner` says whether it is inside of one that compares futures.
pub(super) fn logical(
    registry: &Registry,
    template: &SessionState,
    query: &Query,
    scope: &Scope,
    param_types: &[u32],
    inner: bool,
) -> Result<Planned, Error> {
    let mut query = query.clone();
    let mut names = Names::new(registry, template, scope, inner);
    let circumstances = Arc::new(scope.circumstances());
    let typed = typed::apply(
        &mut query,
        &names,
        circumstances.clone(),
        Parameters::from_oids(param_types),
    )?;
    let hints = rewrite::rewrite(&mut query);
    let known = known_parameters(param_types, &typed);
    let given = given_parameters(&known, &hints)?;
    names.set_made(typed.made);
    let planner = SqlToRel::new_with_options(&names, parser_options());
    let mut context = PlannerContext::new().with_prepare_param_data_types(given.clone());
    let logical = planner
        .sql_statement_to_plan_with_context(Statement::Query(Box::new(query)), &mut context)
        .map_err(from_datafusion)?;
    let (logical, parameters) = type_parameters(logical, &given).map_err(from_datafusion)?;
    let logical = template
        .analyzer()
        .execute_and_check(logical, template.config_options(), |_, _| {})
        .map_err(from_datafusion)?;
    windows::check(&logical)?;
    Ok(Planned {
        logical: intervals::settle(literals::read(logical, scope)?, circumstances)?,
        parameters,
        outputs: typed.outputs,
        lasting: !names.fleeting.get(),
        tables: names.into_tables(),
    })
}

/// Every scan of a user table, and the future in which it is.
fn user_scans(logical: &LogicalPlan) -> Vec<(Arc<Table>, Option<Arc<FutureName>>)> {
    let mut scans = Vec::new();
    let _ = logical.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            scans.extend(UserTable::behind(&scan.source));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    scans
}

/// The lists that a plan reads, each once.
fn listings(logical: &LogicalPlan) -> Vec<Listing> {
    let mut listings: Vec<Listing> = Vec::new();
    let _ = logical.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(listing) = provider.downcast_ref::<Listing>()
            && !listings.contains(listing)
        {
            listings.push(listing.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    listings
}

/// The futures that a plan reads, each once.
fn futures(logical: &LogicalPlan) -> Vec<FutureRead> {
    let mut reads: Vec<FutureRead> = Vec::new();
    for (table, name) in user_scans(logical) {
        let Some(name) = name else { continue };
        if !reads
            .iter()
            .any(|read| read.name == name && read.table.def.oid == table.def.oid)
        {
            reads.push(FutureRead { name, table });
        }
    }
    reads
}

fn parser_options() -> ParserOptions {
    ParserOptions {
        parse_float_as_decimal: true,
        enable_ident_normalization: true,
        support_varchar_with_length: true,
        enable_options_value_normalization: false,
        collect_spans: false,
        map_string_types_to_utf8view: false,
        default_null_ordering: NullOrdering::NullsMax,
    }
}

/// The oids of the parameters' types: as the client gave them, then as they were found.
fn known_parameters(given: &[u32], typed: &Typed) -> Vec<u32> {
    let mut known = given.to_vec();
    known.resize(known.len().max(typed.parameters.len()), 0);
    for (index, ty) in typed.parameters.types().enumerate() {
        if known[index] == 0 {
            known[index] = match (ty, typed.foreign.get(&index)) {
                (Some(ty), _) => crate::types::oid(&ty),
                (None, Some(oid)) => *oid,
                (None, None) => 0,
            };
        }
    }
    known
}

/// The parameters' types as the client or the query's casts give them.
fn given_parameters(oids: &[u32], hints: &HashMap<usize, FieldRef>) -> Result<Vec<Option<FieldRef>>, Error> {
    let count = oids.len().max(hints.keys().max().map_or(0, |index| index + 1));
    (0..count)
        .map(|index| match oids.get(index) {
            None | Some(0) | Some(&oid::UNKNOWN) => Ok(hints.get(&index).cloned()),
            Some(&given) => match types::parameter_field(given) {
                Some(field) => Ok(Some(field)),
                None => Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("parameters of the type with oid {given} are not supported"),
                )),
            },
        })
        .collect()
}

/// Gives every placeholder its final type, text where nothing else is known, and lists the types in order.
fn type_parameters(
    logical: LogicalPlan,
    given: &[Option<FieldRef>],
) -> datafusion::common::Result<(LogicalPlan, Vec<FieldRef>)> {
    let found = logical.get_parameter_fields()?;
    let number = |id: &str| {
        id.strip_prefix('$')
            .and_then(|digits| digits.parse::<usize>().ok())
    };
    let count = found
        .keys()
        .filter_map(|id| number(id))
        .max()
        .unwrap_or(0)
        .max(given.len());
    let fields: Vec<FieldRef> = (1..=count)
        .map(|index| {
            let inferred = found.get(&format!("${index}")).cloned().flatten();
            let known = given.get(index - 1).cloned().flatten().or(inferred);
            match known {
                Some(field) if *field.data_type() != DataType::Null => parameter_field(&field),
                _ => types::named_field(DataType::Utf8, "text"),
            }
        })
        .collect();
    if found.is_empty() {
        return Ok((logical, fields));
    }
    let typed = logical.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::Placeholder(Placeholder { id, .. }) => {
                    let field = number(&id).and_then(|n| fields.get(n.checked_sub(1)?)).cloned();
                    Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(
                        id, field,
                    ))))
                }
                other => Ok(Transformed::no(other)),
            })
        })?
        .map_data(LogicalPlan::recompute_schema)
    })?;
    Ok((typed.data, fields))
}

/// Types in which DataFusion infers a parameter and PostgreSQL has none.
fn parameter_field(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => types::named_field(DataType::Utf8, "text"),
        DataType::UInt64 | DataType::UInt32 => types::named_field(DataType::Int64, "bigint"),
        other => Arc::new(Field::new("", other.clone(), true).with_metadata(field.metadata().clone())),
    }
}

/// The result's columns, with the table and column that each comes from, where it comes straight from one.
fn describe(logical: &LogicalPlan, tables: &[Arc<Table>], outputs: &[Output]) -> Arc<[ColumnDescription]> {
    let schema = logical.schema();
    let origins = origins(logical);
    schema
        .iter()
        .enumerate()
        .map(|(index, (qualifier, field))| {
            let found = types::wire_type(field);
            let wire = outputs
                .get(index)
                .filter(|_| outputs.len() == schema.fields().len())
                .and_then(|output| output.ty)
                .map_or(found, |ty| types::typed_wire_type(&ty, field.data_type(), found));
            let name = rewrite::visible_name(field.name());
            let origin = origins
                .get(index)
                .cloned()
                .flatten()
                .or_else(|| qualifier.map(|table| (table.table().to_owned(), field.name().clone())));
            let (table_oid, column_no) = origin
                .and_then(|(table, column)| {
                    let table = tables.iter().find(|known| known.def.name == table)?;
                    let at = table.column(&column)?;
                    Some((table.def.oid, i16::try_from(at + 1).ok()?))
                })
                .unwrap_or((0, 0));
            ColumnDescription {
                name: name.to_owned(),
                table_oid,
                column_no,
                type_oid: wire.oid,
                type_len: wire.length,
                type_mod: wire.modifier,
            }
        })
        .collect()
}

/// (relation, column) of each output column of a top projection that is a column under another name.
fn origins(logical: &LogicalPlan) -> Vec<Option<(String, String)>> {
    match logical {
        LogicalPlan::Projection(projection) => projection
            .expr
            .iter()
            .map(|expr| match expr.clone().unalias() {
                Expr::Column(column) => column
                    .relation
                    .as_ref()
                    .map(|table| (table.table().to_owned(), column.name.clone())),
                _ => None,
            })
            .collect(),
        LogicalPlan::Sort(sort) => origins(&sort.input),
        LogicalPlan::Limit(limit) => origins(&limit.input),
        _ => Vec::new(),
    }
}
