//! `pg_catalog` and `information_schema` as virtual tables over the catalog, and the functions that read them.
//!
//! Oids: tables carry their own; what belongs to a table gets an oid derived from the table's ([`objects`]); fixed
//! objects carry PostgreSQL's. There is one role, the session's user, with PostgreSQL's oid of the bootstrap superuser.
//! Catalogs of things that do not exist here (functions in SQL, policies, publications, …) are tables without rows ([`empty`]).
//!
//! The aim is that tools find tables, columns, types and keys: psql's `\d` family, drivers, and what they ask at connect.

mod describe;
mod elections;
mod empty;
mod functions;
mod information_schema;
mod objects;
mod relations;
mod sequences;
mod server;
mod types;
mod view;

use crate::analytic::Scope;
use crate::conflicts;
use crate::predictions;
use crate::system_table::SystemTable;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::ScalarUDF;
use scry_engine::{Catalog, Table};
use std::sync::Arc;
use view::{ScopedView, View};

/// What system tables are before the first row.
static EMPTY_TABLES: [View; SYSTEM_TABLES.len()] = [unmade(&SYSTEM_TABLES[0]), unmade(&SYSTEM_TABLES[1])];

const SYSTEM_TABLES: [SystemTable; 2] = [conflicts::TABLE, predictions::TABLE];

const fn unmade(table: &SystemTable) -> View {
    View {
        schema: "scry",
        name: table.name,
        columns: table.columns,
        rows: |_| Vec::new(),
    }
}

/// Every view.
fn all() -> impl Iterator<Item = &'static View> {
    relations::VIEWS
        .iter()
        .chain(sequences::VIEWS)
        .chain(types::VIEWS)
        .chain(server::VIEWS)
        .chain(elections::VIEWS)
        .chain(information_schema::VIEWS)
        .chain(empty::VIEWS)
        .chain(&EMPTY_TABLES)
}

/// The system table of this name, once it is made.
pub fn system_table<'c>(catalog: &'c Catalog, name: &str) -> Option<&'c Arc<Table>> {
    let table = SYSTEM_TABLES.into_iter().find(|table| table.name == name)?;
    table.table(catalog)
}

/// The view of this name, if there is one.
pub fn table(schema: &str, name: &str, scope: &Scope) -> Option<Arc<dyn TableProvider>> {
    let view = all().find(|view| view.name == name && view.schema == schema)?;
    Some(Arc::new(ScopedView::new(view, scope)))
}

/// Whether the view's rows are about elections.
pub fn follows_elections(schema: &str, name: &str) -> bool {
    elections::VIEWS
        .iter()
        .any(|view| view.name == name && view.schema == schema)
}

/// A function that needs the session or the catalog.
pub fn function(name: &str, scope: &Scope) -> Option<Arc<ScalarUDF>> {
    functions::function(name, scope)
}

/// Whether the view never has rows, whatever the catalog holds.
pub fn always_empty(schema: Option<&str>, name: &str) -> bool {
    empty::VIEWS
        .iter()
        .any(|view| view.name == name && schema.unwrap_or("pg_catalog") == view.schema)
}
