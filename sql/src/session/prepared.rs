//! Prepared statements, and the session's cache of plans by text.
//!
//! A prepared statement keeps its syntax tree and its latest plan. The plan is made anew when the catalog or a setting that
//! chooses between plans has changed; its result's types must not change by that.

use crate::error::{Error, SqlState};
use crate::plan::planner::Planned;
use crate::plan::statement::Statement;
use crate::plan::template::Lifted;
use crate::session::ColumnDescription;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Plans kept by text, beside those of named statements.
const CACHE_ENTRIES: usize = 256;

/// Longest text that is kept.
const CACHE_TEXT_BYTES: usize = 4096;

/// Named prepared statements of one session.
pub const MAX_STATEMENTS: usize = 65_536;

pub struct Prepared {
    pub sql: Arc<str>,
    pub statement: Statement,
    /// Parameter types as given; 0 where unknown.
    pub given: Vec<u32>,
    planned: Mutex<Arc<Planned>>,
    /// Whether a result of other types is an error: for statements that were described to the client.
    pub named: bool,
}

impl Prepared {
    pub fn new(sql: Arc<str>, statement: Statement, given: Vec<u32>, planned: Arc<Planned>) -> Self {
        Prepared {
            sql,
            statement,
            given,
            planned: Mutex::new(planned),
            named: false,
        }
    }

    /// The same statement under a name.
    pub fn to_named(&self) -> Prepared {
        Prepared {
            sql: self.sql.clone(),
            statement: self.statement.clone(),
            given: self.given.clone(),
            planned: Mutex::new(self.planned()),
            named: true,
        }
    }

    pub fn planned(&self) -> Arc<Planned> {
        self.planned.lock().clone()
    }

    /// Takes a newer plan, unless the client relies on the old one's result.
    pub fn replace(&self, planned: Arc<Planned>) -> Result<(), Error> {
        let mut current = self.planned.lock();
        if self.named && !same_columns(current.columns.as_deref(), planned.columns.as_deref()) {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
            ));
        }
        *current = planned;
        Ok(())
    }
}

fn same_columns(a: Option<&[ColumnDescription]>, b: Option<&[ColumnDescription]>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.name == b.name && a.type_oid == b.type_oid && a.type_mod == b.type_mod)
        }
        _ => false,
    }
}

/// Plans of statements whose literals were lifted out. `None`: this one is to be planned with its literals.
#[derive(Default)]
pub struct Templates {
    entries: HashMap<Box<str>, Option<Arc<Prepared>>>,
    pub lifted: Lifted,
}

impl Templates {
    /// `None`: not seen yet.
    pub fn get(&self) -> Option<Option<Arc<Prepared>>> {
        self.entries.get(self.lifted.key.as_str()).cloned()
    }

    pub fn put(&mut self, prepared: Option<Arc<Prepared>>) {
        if self.entries.len() >= CACHE_ENTRIES {
            self.entries.clear();
        }
        self.entries.insert(self.lifted.key.as_str().into(), prepared);
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// Statements by their text and parameter types. When it is full, everything goes: simple, and seldom.
#[derive(Default)]
pub struct PlanCache {
    entries: HashMap<Box<[u8]>, Arc<Prepared>>,
    /// Built again for each look-up, without allocation.
    key: Vec<u8>,
}

impl PlanCache {
    fn build_key(&mut self, sql: &str, types: &[u32]) -> bool {
        if sql.len() > CACHE_TEXT_BYTES || types.len() > 64 {
            return false;
        }
        self.key.clear();
        self.key.extend_from_slice(sql.as_bytes());
        self.key.push(0);
        for oid in types {
            self.key.extend_from_slice(&oid.to_le_bytes());
        }
        true
    }

    pub fn get(&mut self, sql: &str, types: &[u32]) -> Option<Arc<Prepared>> {
        if !self.build_key(sql, types) {
            return None;
        }
        self.entries.get(self.key.as_slice()).cloned()
    }

    pub fn put(&mut self, sql: &str, types: &[u32], prepared: Arc<Prepared>) {
        if self.build_key(sql, types) {
            if self.entries.len() >= CACHE_ENTRIES {
                self.entries.clear();
            }
            self.entries.insert(self.key.clone().into_boxed_slice(), prepared);
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
