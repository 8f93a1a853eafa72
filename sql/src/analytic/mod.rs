//! Everything that DataFusion answers: queries over one snapshot of the columnar mirror, over the primary's rows when that
//! is forced, and over the catalog views.
//!
//! A statement is planned once ([`Analytic::plan`]: names, types, parameters) and executed any number of times
//! ([`Analytic::execute`]: bind, optimise, run). Between the two stands only [`AnalyticPlan`], which holds no data and
//! no snapshot.
//!
//! Invariants:
//! - every table of one execution is read at the one LSN of its [`Source`];
//! - no query runs on the caller's thread: execution belongs to a runtime of its own, so that analysts cannot starve
//!   the workers that serve transactions;
//! - batches wait in a bounded channel, memory is taken from one bounded pool, and dropping a [`RowStream`] ends its query.
//!
//! What an expression means is said by the binder of row plans (`typed`), so that both executors answer alike. Where results
//! differ from PostgreSQL all the same, `docs/reference.md` says so.
//!
//! In reading order: [`types`], `typed` (names, types and meaning), `rewrite` (syntax), `operators` and `functions` (semantics), `names` (what a query can
//! refer to), `made`, `plan`, `literals`, `intervals`, `windows`, `runtime`, `guard`, `execute`, `scan`, `units`, `prefilter`, `future` and `primary` (where rows come from), `encode` and `format` (rows out),
//! `parameter` (values in), `freshness`, `error`.

mod encode;
mod error;
mod execute;
mod format;
mod freshness;
mod functions;
mod future;
mod guard;
mod intervals;
mod literals;
mod made;
mod names;
mod operators;
mod parameter;
mod plan;
mod prefilter;
mod primary;
mod priority;
mod rewrite;
mod runtime;
mod scan;
mod typed;
pub mod types;
mod units;
mod windows;
mod yielding;

pub use encode::encode;
pub use error::from_datafusion;
pub use execute::RowStream;
pub use freshness::{Freshness, Need, from_mirror, mirror_snapshot};
pub use future::{Cover, FutureName, FutureRead, Futures, Layer, Listed, Listing, TableFuture, lay};
pub use made::validated;
pub use names::{Scope, ServerStatus};
pub use parameter::{parameter, row_values, scalar_value};
pub use plan::AnalyticPlan;
pub use primary::PrimarySource;
pub use runtime::{Analytic, AnalyticOptions};
pub use scan::Source;

pub(crate) use error::external;
pub(crate) use functions::text::{Arity, ClosureFunction, quote_ident};
pub(crate) use names::DATABASE;
pub(crate) use typed::cast;
