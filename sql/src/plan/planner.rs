//! Where a statement runs, decided once per plan: a row plan on the engine, or DataFusion.
//!
//! A plan belongs to one version of the catalog and one generation of the settings that choose between plans.

use crate::analytic::{Analytic, AnalyticPlan, Scope};
use crate::error::Error;
use crate::plan::access::Access;
use crate::plan::call::{self, CallPlan};
use crate::plan::dml;
use crate::plan::row::{InsertPlan, RowPlan, Rows, SelectPlan};
use crate::plan::scalar::{Binder, Facts, ParamTypes, Refusal};
use crate::plan::searched::{self, SearchedPlan};
use crate::plan::select;
use crate::plan::statement::Statement;
use crate::session::ColumnDescription;
use crate::session::settings::ReadFrom;
use crate::types;
use scry_engine::{Catalog, DataType};
use sqlparser::ast;
use std::sync::Arc;

/// What planning needs to know of the session.
pub struct Planning<'a> {
    pub catalog: &'a Arc<Catalog>,
    pub analytic: &'a Analytic,
    pub read_from: ReadFrom,
    /// Whether `scry.future` is set.
    pub in_future: bool,
    pub generation: u64,
    pub facts: &'a Facts<'a>,
    /// Made only when DataFusion is asked.
    pub scope: &'a dyn Fn() -> Scope,
}

#[expect(
    clippy::large_enum_variant,
    reason = "it lives behind one Arc; a box would be one more step on the hot path"
)]
pub enum Kind {
    Row(RowPlan),
    Analytic(AnalyticPlan),
    /// UPDATE or DELETE whose rows a query finds.
    Searched(Box<SearchedPlan>),
    /// A function that stands for a statement.
    Call(CallPlan),
    /// Nothing to plan: the session itself does it.
    Utility,
}

/// A planned statement.
pub struct Planned {
    pub kind: Kind,
    /// Type oids of `$1…$n`.
    pub params: Vec<u32>,
    /// The same for values of row plans.
    pub param_types: Vec<DataType>,
    pub columns: Option<Arc<[ColumnDescription]>>,
    pub catalog_version: u64,
    pub generation: u64,
    /// Whether it may run more than once.
    lasting: bool,
    /// Why it runs where it runs: for EXPLAIN.
    pub reason: String,
}

impl Planned {
    /// For statements that need no plan.
    pub fn utility(columns: Option<Arc<[ColumnDescription]>>) -> Self {
        Planned {
            kind: Kind::Utility,
            params: Vec::new(),
            param_types: Vec::new(),
            columns,
            catalog_version: 0,
            generation: 0,
            lasting: true,
            reason: String::new(),
        }
    }

    /// Whether it may run against this catalog, under these settings.
    #[inline]
    pub fn is_current(&self, catalog_version: u64, generation: u64) -> bool {
        matches!(self.kind, Kind::Utility)
            || (self.lasting && self.catalog_version == catalog_version && self.generation == generation)
    }
}

impl Planning<'_> {
    fn finish(&self, kind: Kind, types: ParamTypes, reason: String) -> Planned {
        let columns = match &kind {
            Kind::Row(plan) => plan.projection().map(|projection| projection.columns.clone()),
            Kind::Analytic(plan) => Some(plan.columns().clone()),
            Kind::Searched(plan) => plan.returning().map(|projection| projection.columns.clone()),
            Kind::Call(_) | Kind::Utility => None,
        };
        let (params, param_types) = match &kind {
            Kind::Analytic(plan) => {
                let oids = plan.param_types().to_vec();
                let types = oids
                    .iter()
                    .map(|oid| types::from_oid(*oid, -1).unwrap_or(DataType::Text))
                    .collect();
                (oids, types)
            }
            _ => {
                let types = types.finish();
                (types.iter().map(types::oid).collect(), types)
            }
        };
        let lasting = match &kind {
            Kind::Analytic(plan) => plan.is_lasting(),
            Kind::Searched(plan) => plan.query.is_lasting(),
            Kind::Row(RowPlan::Insert(InsertPlan {
                rows: Rows::Query { planned, .. },
                ..
            })) => planned.lasting,
            _ => true,
        };
        Planned {
            lasting,
            kind,
            params,
            param_types,
            columns,
            catalog_version: self.catalog.version(),
            generation: self.generation,
            reason,
        }
    }

    /// Plans a statement whose parameters have the types `given` (0: unknown).
    pub fn plan(&self, statement: &Statement, given: &[u32]) -> Result<Planned, Error> {
        let mut types = ParamTypes::given(given);
        match statement {
            Statement::Query(query) => self.query(query, given),
            Statement::Call(call) => {
                let plan = call::bind(call, &mut Binder::new(&mut types, self.facts))?;
                let column = select::description(call.column.clone(), &call.callable.answer.ty(), None);
                let mut planned = self.finish(Kind::Call(plan), types, String::new());
                planned.columns = Some([column].into());
                Ok(planned)
            }
            Statement::Insert(insert) => {
                let plan = {
                    let mut binder = Binder::new(&mut types, self.facts);
                    let mut plan_query =
                        |query: &ast::Query, binder: &mut Binder<'_>| -> Result<Planned, Error> {
                            let planned = self.query(query, &binder.known_oids())?;
                            binder.learn(&planned.params)?;
                            Ok(planned)
                        };
                    match dml::insert(insert, self.catalog, &mut binder, &mut plan_query) {
                        Ok(plan) => plan,
                        Err(Refusal::Error(error)) => return Err(error),
                        Err(Refusal::Unsupported(what)) => {
                            return Err(Error::unsupported(format!("{what} in INSERT")));
                        }
                    }
                };
                Ok(self.finish(
                    Kind::Row(RowPlan::Insert(plan)),
                    types,
                    "writes go to the primary".into(),
                ))
            }
            Statement::Update(update) => {
                let compiled = dml::update(update, self.catalog, &mut Binder::new(&mut types, self.facts));
                match compiled {
                    Ok(plan) => Ok(self.finish(
                        Kind::Row(RowPlan::Update(plan)),
                        types,
                        "writes go to the primary".into(),
                    )),
                    Err(Refusal::Error(error)) => Err(error),
                    Err(Refusal::Unsupported(what)) => {
                        let mut types = ParamTypes::given(given);
                        let plan = searched::update(update, self, &mut types)?;
                        Ok(self.finish(
                            Kind::Searched(Box::new(plan)),
                            types,
                            format!("{what}: a query finds the rows"),
                        ))
                    }
                }
            }
            Statement::Delete(delete) => {
                let compiled = dml::delete(delete, self.catalog, &mut Binder::new(&mut types, self.facts));
                match compiled {
                    Ok(plan) => Ok(self.finish(
                        Kind::Row(RowPlan::Delete(plan)),
                        types,
                        "writes go to the primary".into(),
                    )),
                    Err(Refusal::Error(error)) => Err(error),
                    Err(Refusal::Unsupported(what)) => {
                        let mut types = ParamTypes::given(given);
                        let plan = searched::delete(delete, self, &mut types)?;
                        Ok(self.finish(
                            Kind::Searched(Box::new(plan)),
                            types,
                            format!("{what}: a query finds the rows"),
                        ))
                    }
                }
            }
            _ => Ok(Planned::utility(None)),
        }
    }

    /// Plans a query: a row plan where its shape allows, else DataFusion.
    pub fn query(&self, query: &ast::Query, given: &[u32]) -> Result<Planned, Error> {
        let locks = !query.locks.is_empty();
        let mut types = ParamTypes::given(given);
        let binder = &mut Binder::new(&mut types, self.facts);
        let compiled = select::compile(query, self.catalog, self.in_future, binder);
        let why_not = match compiled {
            Ok(plan) => match self.choose(&plan) {
                Ok(reason) => return Ok(self.finish(Kind::Row(RowPlan::Select(plan)), types, reason.into())),
                Err(reason) => reason.to_owned(),
            },
            Err(Refusal::Error(error)) => return Err(error),
            Err(Refusal::Unsupported(what)) if locks => {
                return Err(Error::unsupported(format!("FOR UPDATE or FOR SHARE with {what}")));
            }
            Err(Refusal::Unsupported(what)) => what,
        };
        let plan = self.analytic.plan(query, &(self.scope)(), given)?;
        Ok(self.finish(Kind::Analytic(plan), ParamTypes::default(), why_not))
    }

    /// Whether a row plan that could be made is the one to run, and why.
    fn choose(&self, plan: &SelectPlan) -> Result<&'static str, &'static str> {
        if plan.locking.is_some() {
            return Ok("rows are locked");
        }
        if plan.table.is_none() {
            return Ok("no table is read");
        }
        match self.read_from {
            ReadFrom::Mirror => Err("scry.read_from is mirror"),
            ReadFrom::Primary if plan.order.is_empty() || plan.access.is_short() => {
                Ok("scry.read_from is primary")
            }
            ReadFrom::Primary => Err("the rows have to be sorted"),
            ReadFrom::Auto if plan.is_first_of_index() => Ok("the first rows of an index are read"),
            ReadFrom::Auto if !plan.access.is_short() => {
                Err("the whole primary key is not fixed, nor bounded on both sides")
            }
            ReadFrom::Auto if !plan.order.is_empty() && !plan.access.is_lookup() => {
                Err("a range has to be sorted")
            }
            ReadFrom::Auto if matches!(plan.access, Access::Index(_)) => Ok("an index finds the rows"),
            ReadFrom::Auto if plan.access.is_lookup() => Ok("the whole primary key is fixed"),
            ReadFrom::Auto => Ok("the primary key is bounded on both sides"),
        }
    }
}
