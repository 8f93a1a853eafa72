//! Databases, roles, settings and the server's own figures.

use super::objects::{self, ROLE};
use super::view::{Cell, View, row};
use crate::analytic::{DATABASE, Scope};

/// Limits that drivers look up. They are not settings of the session.
const FIXED_SETTINGS: [(&str, &str); 3] = [
    ("max_index_keys", "32"),
    ("max_identifier_length", "63"),
    ("block_size", "8192"),
];

pub const VIEWS: &[View] = &[
    View {
        schema: "pg_catalog",
        name: "pg_database",
        columns: "oid oid, datname name, datdba oid, encoding int4, datlocprovider char, datistemplate bool, \
                  datallowconn bool, datconnlimit int4, datfrozenxid xid, datminmxid xid, dattablespace oid, \
                  datcollate text, datctype text, daticulocale text, datcollversion text, datacl aclitem[]",
        rows: |_| {
            vec![row![
                objects::DATABASE,
                DATABASE,
                ROLE,
                6,
                "c",
                false,
                true,
                -1,
                0,
                0,
                objects::DEFAULT_TABLESPACE,
                "C.UTF-8",
                "C.UTF-8",
                Cell::Null,
                Cell::Null,
                Cell::Null,
            ]]
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_roles",
        columns: "rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
                  rolcanlogin bool, rolreplication bool, rolconnlimit int4, rolpassword text, \
                  rolvaliduntil timestamptz, rolbypassrls bool, rolconfig text[], oid oid",
        rows: |scope| {
            vec![row![
                user(scope),
                true,
                true,
                true,
                true,
                true,
                true,
                -1,
                "********",
                Cell::Null,
                true,
                Cell::Null,
                ROLE,
            ]]
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_authid",
        columns: "oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, \
                  rolcanlogin bool, rolreplication bool, rolbypassrls bool, rolconnlimit int4, rolpassword text, \
                  rolvaliduntil timestamptz",
        rows: |scope| {
            vec![row![
                ROLE,
                user(scope),
                true,
                true,
                true,
                true,
                true,
                true,
                true,
                -1,
                Cell::Null,
                Cell::Null
            ]]
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_user",
        columns: "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, \
                  passwd text, valuntil timestamptz, useconfig text[]",
        rows: |scope| {
            vec![row![
                user(scope),
                ROLE,
                true,
                true,
                true,
                true,
                "********",
                Cell::Null,
                Cell::Null
            ]]
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_tablespace",
        columns: "oid oid, spcname name, spcowner oid, spcacl aclitem[], spcoptions text[]",
        rows: |_| {
            vec![row![
                objects::DEFAULT_TABLESPACE,
                "pg_default",
                ROLE,
                Cell::Null,
                Cell::Null
            ]]
        },
    },
    View {
        schema: "pg_catalog",
        name: "pg_settings",
        columns: "name text, setting text, unit text, category text, short_desc text, extra_desc text, context text, \
                  vartype text, source text, min_val text, max_val text, enumvals text[], boot_val text, \
                  reset_val text, sourcefile text, sourceline int4, pending_restart bool",
        rows: |scope| {
            let mut settings = (scope.all_settings)();
            for (name, value) in FIXED_SETTINGS {
                if !settings.iter().any(|(known, _)| known == name) {
                    settings.push((name.to_owned(), value.to_owned()));
                }
            }
            settings.sort();
            settings
                .into_iter()
                .map(|(name, value)| {
                    row![
                        name,
                        value.clone(),
                        Cell::Null,
                        "Settings",
                        "",
                        Cell::Null,
                        "user",
                        "string",
                        "session",
                        Cell::Null,
                        Cell::Null,
                        Cell::Null,
                        value.clone(),
                        value,
                        Cell::Null,
                        Cell::Null,
                        false,
                    ]
                })
                .collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "scry_listening",
        columns: "channel text",
        rows: |scope| {
            let channels = scope.listening.lock();
            channels.iter().map(|channel| row![channel.to_string()]).collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "scry_stat_mirror",
        columns: "applied_lsn int8, lag_p50_us int8, lag_p99_us int8, lag_max_us int8, bytes int8, rows int8, \
                  segments int8",
        rows: |scope| {
            scope
                .status
                .iter()
                .map(|status| status.mirror().into_iter().map(Cell::Int).collect())
                .collect()
        },
    },
    View {
        schema: "scry",
        name: "mirror_savepoints",
        columns: "name text, lsn text, bytes int8, held bool",
        rows: |scope| {
            let savepoints = scope.status.iter().flat_map(|status| status.savepoints());
            let rows = savepoints.map(|savepoint| {
                let bytes = i64::try_from(savepoint.bytes).unwrap_or(i64::MAX);
                row![savepoint.name, savepoint.at.to_string(), bytes, savepoint.held]
            });
            rows.collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "scry_stat_log_consumers",
        columns: "name text, needs_lsn int8, held_bytes int8, dropped bool",
        rows: |scope| {
            let consumers = scope.status.iter().flat_map(|status| status.log_consumers());
            consumers
                .map(|(name, needs, held, dropped)| row![name, needs, held, dropped])
                .collect()
        },
    },
    View {
        schema: "pg_catalog",
        name: "scry_stat_engine",
        columns: "name text, value int8",
        rows: |scope| {
            let counters = scope.status.iter().flat_map(|status| status.engine());
            counters.map(|(name, value)| row![name, value]).collect()
        },
    },
];

fn user(scope: &Scope) -> String {
    scope.user.to_string()
}
