//! `pg_catalog` and `information_schema` as virtual tables over the catalog, and the functions that read them.

use crate::analytic::Scope;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

/// The view of this name, if there is one.
pub fn table(_schema: &str, _name: &str, _scope: &Scope) -> Option<Arc<dyn TableProvider>> {
    None
}

/// A function that needs the session or the catalog.
pub fn function(_name: &str, _scope: &Scope) -> Option<Arc<ScalarUDF>> {
    None
}
