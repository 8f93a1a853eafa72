//! The one [`Analytic`] of a database: worker threads, memory pool, function registry, and the session template that every
//! statement's DataFusion state is cloned from.

use super::error::from_datafusion;
use super::freshness::DurableHistory;
use super::future::FutureCache;
use super::guard;
use super::names::Registry;
use super::priority;
use super::yielding::YieldingJoins;
use crate::error::{Error, SqlState};
use crate::plan::split::PLANNING_STACK_BYTES;
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionConfig;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};

/// Memory of all analytic queries together, unless configured.
const MEMORY_BYTES: usize = 4 << 30;

/// Rows of a batch between operators: DataFusion's own default, which keeps a batch's columns in the second-level cache.
const BATCH_ROWS: usize = 8192;

/// Consumers that an out-of-memory message names.
const CONSUMERS_NAMED: usize = 3;

/// How to set up analytics.
#[derive(Debug, Clone)]
pub struct AnalyticOptions {
    /// Worker threads and partitions of a query; 0: as many as there are processors.
    pub threads: usize,
    /// Bound of the memory that all queries together may hold in sorts, joins and aggregates.
    pub memory_bytes: usize,
    /// Where sorts and aggregates that do not fit may spill. `None`: they end with 53200 instead.
    pub spill_dir: Option<PathBuf>,
}

impl Default for AnalyticOptions {
    fn default() -> Self {
        AnalyticOptions {
            threads: 0,
            memory_bytes: MEMORY_BYTES,
            spill_dir: None,
        }
    }
}

/// Plans and runs queries in DataFusion. One per database.
pub struct Analytic {
    pub(super) registry: Registry,
    /// No catalogs and almost no functions in it: names are resolved by [`Registry`], and cloning it is cheap.
    pub(super) template: SessionState,
    pub(super) history: DurableHistory,
    pub(super) futures: FutureCache,
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Analytic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Analytic").finish_non_exhaustive()
    }
}

impl Analytic {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the threads or the spill directory cannot be had.
    pub fn new(options: AnalyticOptions) -> Result<Arc<Analytic>, Error> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            given => given,
        };
        let disk = match options.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir]),
            None => DiskManagerMode::Disabled,
        };
        let pool = TrackConsumersPool::new(
            FairSpillPool::new(options.memory_bytes),
            NonZeroUsize::new(CONSUMERS_NAMED).unwrap_or(NonZeroUsize::MIN),
        );
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
            .build_arc()
            .map_err(from_datafusion)?;
        let template = SessionStateBuilder::new()
            .with_config(session_config(threads))
            .with_optimizer_rules(guard::guarded(Optimizer::new().rules))
            // The one function that an optimiser rule looks up by name: for DISTINCT ON.
            .with_aggregate_functions(vec![
                datafusion::functions_aggregate::first_last::first_value_udaf(),
            ])
            .with_runtime_env(environment)
            .with_physical_optimizer_rule(Arc::new(YieldingJoins))
            .build();
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("analytic")
            .thread_stack_size(PLANNING_STACK_BYTES)
            .on_thread_start(priority::lower_this_thread)
            .enable_time()
            .build()
            .map_err(|error| {
                Error::new(
                    SqlState(*b"53000"),
                    format!("cannot start the analytic workers: {error}"),
                )
            })?;
        Ok(Arc::new(Analytic {
            registry: Registry::new(template.config_options()),
            template,
            history: DurableHistory::default(),
            futures: FutureCache::default(),
            runtime: Some(runtime),
        }))
    }

    /// Where queries run.
    pub(crate) fn workers(&self) -> &Handle {
        self.runtime
            .as_ref()
            .expect("the runtime lives until drop")
            .handle()
    }
}

impl Drop for Analytic {
    fn drop(&mut self) {
        // Waiting for workers is not allowed inside a runtime, and an `Analytic` may be dropped there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn session_config(threads: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_batch_size(BATCH_ROWS)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.default_null_ordering = "nulls_max".to_owned();
    options.execution.time_zone = Some("UTC".to_owned());
    // Casts say NULL is possible where they are planned, and that it is not where it turns out so; nothing rests on it.
    options.execution.skip_physical_aggregate_schema_check = true;
    config
}
