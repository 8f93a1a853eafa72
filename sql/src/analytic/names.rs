//! What a query can refer to: tables, catalog views, functions, and the session facts behind them.

use super::error::external;
use super::functions::bridge::Circumstances;
use super::functions::{aggregates, intervals, text};
use super::future::FutureName;
use super::made::{self, Columns, MadeRelation};
use super::operators::PostgresOperators;
use super::scan::UserTable;
use super::typed::Made;
use super::types::PostgresTypes;
use crate::catalog_views;
use crate::error::{Error, SqlState};
use crate::notify::Channels;
use crate::sequence::SequenceAccess;
use crate::types::TimeZone;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::{ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::ContextProvider;
use scry_engine::{Catalog, Table};
use scry_wal::{Lsn, Micros};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

/// The one database.
pub const DATABASE: &str = "scry";

/// Server-wide figures behind the `scry_stat_*` views: (name, value) pairs in the views' column order.
pub trait ServerStatus: Send + Sync {
    /// (applied LSN, lag p50, p99 and max in µs, bytes, rows, sealed segments).
    fn mirror(&self) -> [i64; 7];
    /// Begins the mirror's lag figures anew: `scry_stat_reset()`.
    fn reset(&self);
    /// Named states of the mirror.
    fn savepoints(&self) -> Vec<scry_mirror::Savepoint>;
    /// Who needs the log, from which LSN, how many bytes that are, and whether it was dropped.
    fn log_consumers(&self) -> Vec<(String, i64, i64, bool)>;
    /// The newest state that was all committed at a time; `None`: it is not known.
    fn lsn_at(&self, time: Micros) -> Option<Lsn>;
    /// When the last commit of a state was made; `None`: it is not known.
    fn time_of(&self, lsn: Lsn) -> Option<Micros>;
    /// What is visible in the log ends here.
    fn log_end(&self) -> Lsn;
    /// Names and values of the engine's counters.
    fn engine(&self) -> Vec<(&'static str, i64)>;
}

/// The value of one setting.
pub type SettingLookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
/// Name and value of all settings.
pub type SettingList = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// The session facts that a query can ask for. Cheap to clone.
#[derive(Clone)]
pub struct Scope {
    /// The catalog as of the statement's snapshot, own DDL included.
    pub catalog: Arc<Catalog>,
    pub user: Arc<str>,
    /// `pg_backend_pid()`.
    pub process: i32,
    /// The transaction's start: `now()`.
    pub now: Micros,
    /// `current_setting(name)`.
    pub settings: SettingLookup,
    /// Name and value of every setting, for `pg_settings`.
    pub all_settings: SettingList,
    /// What unqualified names of tables mean: `scry.future`.
    pub future: Option<Arc<FutureName>>,
    pub status: Option<Arc<dyn ServerStatus>>,
    /// `pg_listening_channels()`.
    pub listening: Arc<Channels>,
    /// `nextval()` and its kin.
    pub sequences: Option<Arc<SequenceAccess>>,
}

impl Scope {
    /// What expressions of a plan may know of the session for as long as the plan lives.
    pub fn circumstances(&self) -> Circumstances {
        let zone = (self.settings)("TimeZone").and_then(|name| TimeZone::parse(&name).ok());
        Circumstances {
            zone: zone.unwrap_or_else(TimeZone::utc),
            now: self.now.get(),
            user: self.user.clone(),
            process: self.process,
            sequences: self.sequences.clone(),
        }
    }
}

impl std::fmt::Debug for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope")
            .field("user", &self.user)
            .field("catalog", &self.catalog.version())
            .finish()
    }
}

/// Functions and planners, the same for all statements.
#[derive(Debug)]
pub struct Registry {
    scalars: HashMap<String, Arc<ScalarUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    aggregates: HashMap<String, Arc<AggregateUDF>>,
    windows: HashMap<String, Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    types: Arc<dyn TypePlanner>,
}

fn by_name<T>(functions: Vec<Arc<T>>, names: impl Fn(&T) -> Vec<String>) -> HashMap<String, Arc<T>> {
    let mut map = HashMap::new();
    for function in functions {
        for name in names(&function) {
            map.insert(name, function.clone());
        }
    }
    map
}

fn all_names(name: &str, aliases: &[String]) -> Vec<String> {
    std::iter::once(name.to_owned())
        .chain(aliases.iter().cloned())
        .collect()
}

impl Registry {
    /// `options` fixes what functions take from the configuration: the time zone of `now()`.
    pub fn new(options: &ConfigOptions) -> Self {
        let mut scalars: Vec<Arc<ScalarUDF>> = SessionStateDefaults::default_scalar_functions()
            .into_iter()
            .map(|function| {
                function
                    .inner()
                    .with_updated_config(options)
                    .map_or(function, Arc::new)
            })
            .collect();
        // The first planner that takes an operator wins.
        let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(PostgresOperators::new())];
        planners.extend(SessionStateDefaults::default_expr_planners());
        scalars.extend(text::all());
        scalars.push(Arc::new(super::functions::numeric::divide()));
        let mut aggregated = SessionStateDefaults::default_aggregate_functions();
        aggregated.push(Arc::new(aggregates::sum()));
        aggregated.push(Arc::new(aggregates::average()));
        aggregated.push(Arc::new(aggregates::integer_sum()));
        aggregated.push(Arc::new(aggregates::numeric_sum()));
        Registry {
            scalars: by_name(scalars, |f| all_names(f.name(), f.aliases())),
            higher_order: by_name(SessionStateDefaults::default_higher_order_functions(), |f| {
                all_names(f.name(), f.aliases())
            }),
            aggregates: by_name(aggregated, |f| all_names(f.name(), f.aliases())),
            windows: by_name(SessionStateDefaults::default_window_functions(), |f| {
                all_names(f.name(), f.aliases())
            }),
            planners,
            types: Arc::new(PostgresTypes),
        }
    }
}

/// What a name in FROM means.
enum Relation {
    View(Arc<dyn TableProvider>),
    Table(Arc<Table>, Option<Arc<FutureName>>),
    Made(MadeRelation),
}

/// Resolves the names of one statement.
pub struct Names<'a> {
    pub(super) registry: &'a Registry,
    pub(super) state: &'a SessionState,
    pub(super) scope: &'a Scope,
    /// Relations that were made for the statement.
    pub(super) relations: RefCell<Vec<MadeRelation>>,
    /// Whether the plan holds for its catalog as it is now only: elections may have changed with the next statement.
    pub(super) fleeting: Cell<bool>,
    /// Whether this is a query inside of one that compares futures.
    pub(super) inner: bool,
    /// User tables that the statement reads, each once.
    tables: RefCell<Vec<Arc<Table>>>,
    /// Functions that were made for the statement.
    made: Made,
}

impl<'a> Names<'a> {
    pub fn new(registry: &'a Registry, state: &'a SessionState, scope: &'a Scope, inner: bool) -> Self {
        Names {
            registry,
            state,
            scope,
            relations: RefCell::default(),
            fleeting: Cell::new(false),
            inner,
            tables: RefCell::new(Vec::new()),
            made: Made::default(),
        }
    }

    /// Takes over the functions that were made for the statement.
    pub fn set_made(&mut self, made: Made) {
        self.made = made;
    }

    /// The columns of a relation with the types that expressions know, and its primary key. `None`: there is none of
    /// that name.
    ///
    /// # Errors
    /// When the relation is in a future that cannot be read.
    pub fn describe(&self, parts: &[String]) -> Result<Option<(Columns, Vec<usize>)>, Error> {
        let (schema, name) = match parts {
            [name] => (None, name),
            [schema, name] => (Some(schema.as_str()), name),
            [database, schema, name] if database == DATABASE => (Some(schema.as_str()), name),
            _ => return Ok(None),
        };
        Ok(self.relation(schema, name)?.map(|relation| match relation {
            Relation::View(view) => {
                let schema = view.schema();
                let fields = schema.fields().iter();
                let columns = fields.map(|field| (field.name().clone(), super::types::column_type(field)));
                (columns.collect(), Vec::new())
            }
            Relation::Table(table, _) => {
                let live: Vec<usize> = table.def.live_columns().map(|(number, _)| number).collect();
                let columns = table.def.live_columns();
                let columns = columns.map(|(_, column)| (column.name.clone(), Some(column.ty)));
                // By their places among the columns that there are.
                let place = |column: &usize| live.iter().position(|live| live == column);
                let key = table.key_columns().unwrap_or_default().iter().filter_map(place);
                (columns.collect(), key.collect())
            }
            Relation::Made(made) => (made.columns, Vec::new()),
        }))
    }

    fn relation(&self, schema: Option<&str>, name: &str) -> Result<Option<Relation>, Error> {
        let view = |schema| {
            // A plan holds the catalog of its making, whose version does not tell of elections.
            let follows = catalog_views::follows_elections(schema, name);
            self.fleeting.set(self.fleeting.get() || follows);
            catalog_views::table(schema, name, self.scope).map(Relation::View)
        };
        let catalog = &self.scope.catalog;
        let present = || Some(Relation::Table(catalog.table(name)?.clone(), None));
        let in_future = |future: &Arc<FutureName>| {
            let table = future.table(catalog, &self.scope.user, name);
            table.map(|table| Some(Relation::Table(table?.clone(), Some(future.clone()))))
        };
        match (schema, &self.scope.future) {
            (None, None) => Ok(view("pg_catalog").or_else(present)),
            (None, Some(future)) => match view("pg_catalog") {
                Some(view) => Ok(Some(view)),
                None => in_future(future),
            },
            (Some("public"), _) => Ok(present()),
            (Some(schema), _) if FutureName::is_meant(schema) => {
                in_future(&Arc::new(FutureName::parse(schema)?))
            }
            (Some("scry"), _) if catalog_views::system_table(catalog, name).is_some() => {
                let table = catalog_views::system_table(catalog, name);
                Ok(table.map(|table| Relation::Table(table.clone(), None)))
            }
            (Some(schema), _) => {
                let number = made::number(name).filter(|_| schema == made::SCHEMA);
                let made = number.and_then(|number| self.relations.borrow().get(number).cloned());
                Ok(made.map(Relation::Made).or_else(|| view(schema)))
            }
        }
    }

    /// Whether any function has that name.
    pub fn has_function(&self, name: &str) -> bool {
        self.registry.scalars.contains_key(name)
            || self.registry.aggregates.contains_key(name)
            || self.registry.windows.contains_key(name)
            || self.registry.higher_order.contains_key(name)
            || catalog_views::function(name, self.scope).is_some()
            || matches!(
                name,
                "unnest" | "grouping" | "array" | "_pg_expandarray" | "mod" | "age" | "to_char"
            )
    }

    pub fn into_tables(self) -> Vec<Arc<Table>> {
        self.tables.into_inner()
    }

    /// The statement reads these tables.
    pub(super) fn note_tables(&self, tables: impl IntoIterator<Item = Arc<Table>>) {
        let mut known = self.tables.borrow_mut();
        for table in tables {
            if !known.iter().any(|known| known.def.oid == table.def.oid) {
                known.push(table);
            }
        }
    }

    /// What a relation is planned with.
    fn source(&self, relation: Relation) -> Arc<dyn TableSource> {
        match relation {
            Relation::View(view) => provider_as_source(view),
            Relation::Made(made) => provider_as_source(made.provider),
            Relation::Table(table, future) => {
                self.note_tables([table.clone()]);
                provider_as_source(Arc::new(UserTable::new(table, future)))
            }
        }
    }
}

/// The name as the user wrote it, for errors.
fn written(name: &TableReference) -> String {
    match name.schema() {
        Some(schema) => format!("{schema}.{}", name.table()),
        None => name.table().to_owned(),
    }
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(catalog) = name.catalog()
            && catalog != DATABASE
        {
            let message = format!(
                "cross-database references are not implemented: \"{catalog}.{}\"",
                written(&name)
            );
            return Err(external(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)));
        }
        let found = self.relation(name.schema(), name.table()).map_err(external)?;
        found.map(|found| self.source(found)).ok_or_else(|| {
            let message = format!("relation \"{}\" does not exist", written(&name));
            external(Error::new(SqlState::UNDEFINED_TABLE, message))
        })
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
        let function = SessionStateDefaults::default_table_functions()
            .into_iter()
            .find(|function| function.name() == name)
            .ok_or_else(|| {
                external(Error::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("function {name} does not exist"),
                ))
            })?;
        let context = SimplifyContext::builder()
            .with_config_options(self.state.config_options().clone())
            .build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let args = args
            .into_iter()
            .map(|arg| {
                simplifier
                    .coerce(arg, &schema)
                    .and_then(|arg| simplifier.simplify(arg))
            })
            .collect::<Result<Vec<_>>>()?;
        let args = datafusion::catalog::TableFunctionArgs::new(&args, self.state);
        Ok(provider_as_source(
            function.create_table_provider_with_args(args)?,
        ))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.registry.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(self.registry.types.clone())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.made
            .get(name)
            .or_else(|| catalog_views::function(name, self.scope))
            .or_else(|| match name {
                "age" => Some(intervals::age(Arc::new(self.scope.circumstances()))),
                "to_char" => Some(text::to_char(Arc::new(self.scope.circumstances()))),
                _ => None,
            })
            .or_else(|| self.registry.scalars.get(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.registry.higher_order.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.registry.aggregates.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.registry.windows.get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    // The names below serve DataFusion's suggestions for misspelt functions, which we do not print. Without any, an
    // unknown function would be an internal error.
    fn udf_names(&self) -> Vec<String> {
        vec!["count".to_owned()]
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        vec!["row_number".to_owned()]
    }
}
