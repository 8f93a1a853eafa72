//! What a session does with sequences: `nextval`, `currval`, `lastval`, `setval`.
//!
//! Functions find sequences when they are called, by the newest committed catalog, or by the transaction's own once it has changed
//! definitions. A session remembers what it drew last of each. What it was told depends on the record that reserved the number:
//! [`SequenceAccess::read`] says up to where the log has to be durable before an answer leaves.

use crate::error::{Error, SqlState};
use crate::plan::parse;
use parking_lot::Mutex;
use scry_engine::{Catalog, Datum, Engine, Sequence, Sequences};
use scry_wal::Lsn;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Sequences of which a session remembers the last number; those that it asked for first are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Why a transaction writes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    ReadOnly,
    /// It reads a state of the past.
    Past,
}

impl Unwritable {
    /// 25006 for a statement or function.
    pub fn refuses(self, what: &str) -> Error {
        let refused = |why| {
            Error::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {what} {why}"),
            )
        };
        match self {
            Unwritable::ReadOnly => refused("in a read-only transaction"),
            Unwritable::Past => {
                refused("while scry.as_of is set").with_hint("To change the present, RESET scry.as_of.")
            }
        }
    }
}

#[derive(Default)]
struct State {
    /// The newest committed catalog, as of the last look.
    newest: Option<(Lsn, Arc<Catalog>)>,
    /// The transaction's own.
    own: Option<Arc<Catalog>>,
    /// The last number of each sequence, by oid.
    current: HashMap<u32, i64>,
    /// The sequence that was drawn from last.
    last: Option<u32>,
}

/// Shared by a session's transaction and the functions that its statements call.
pub struct SequenceAccess {
    engine: Arc<Engine>,
    state: Mutex<State>,
    read: AtomicU64,
    read_only: AtomicBool,
    past: AtomicBool,
    has_own: AtomicBool,
}

impl fmt::Debug for SequenceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequenceAccess").finish_non_exhaustive()
    }
}

impl SequenceAccess {
    pub fn new(engine: Arc<Engine>) -> SequenceAccess {
        SequenceAccess {
            engine,
            state: Mutex::default(),
            read: AtomicU64::new(0),
            read_only: AtomicBool::new(false),
            past: AtomicBool::new(false),
            has_own: AtomicBool::new(false),
        }
    }

    /// A statement begins. `own` is the transaction's catalog, if it has changed it.
    pub fn statement(&self, own: Option<&Arc<Catalog>>, unwritable: Option<Unwritable>) {
        let is = |why| unwritable == Some(why);
        self.read_only.store(is(Unwritable::ReadOnly), Ordering::Relaxed);
        self.past.store(is(Unwritable::Past), Ordering::Relaxed);
        if own.is_some() || self.has_own.load(Ordering::Relaxed) {
            self.has_own.store(own.is_some(), Ordering::Relaxed);
            self.state.lock().own = own.cloned();
        }
    }

    /// The highest LSN that numbers told so far depend on.
    pub fn read(&self) -> Lsn {
        Lsn::new(self.read.load(Ordering::Relaxed))
    }

    /// DISCARD SEQUENCES.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.current.clear();
        state.last = None;
    }

    fn note_read(&self, lsn: Lsn) {
        self.read.fetch_max(lsn.get(), Ordering::Relaxed);
    }

    fn check_writable(&self, function: &str) -> Result<(), Error> {
        let why = match (&self.read_only, &self.past) {
            (read_only, _) if read_only.load(Ordering::Relaxed) => Unwritable::ReadOnly,
            (_, past) if past.load(Ordering::Relaxed) => Unwritable::Past,
            _ => return Ok(()),
        };
        Err(why.refuses(&format!("{function}()")))
    }

    fn catalog<'s>(&self, state: &'s mut State) -> &'s Arc<Catalog> {
        if state.own.is_none() {
            let lsn = self.engine.catalog_lsn();
            if state.newest.as_ref().is_none_or(|(seen, _)| *seen != lsn) {
                state.newest = Some((lsn, self.engine.catalog()));
            }
        }
        let newest = state.newest.as_ref().map(|(_, catalog)| catalog);
        state.own.as_ref().or(newest).expect("looked up above")
    }

    /// The sequence that an argument names: by a text as `regclass` reads it, or by its oid.
    fn find(&self, state: &mut State, given: Datum<'_>) -> Result<Arc<Sequence>, Error> {
        let catalog = self.catalog(state);
        match given {
            Datum::Text(name) => by_name(catalog, name).cloned(),
            given => by_oid(catalog, given.integer().unwrap_or_default()).cloned(),
        }
    }

    pub fn next(&self, given: Datum<'_>) -> Result<i64, Error> {
        self.check_writable("nextval")?;
        let mut state = self.state.lock();
        let sequence = self.find(&mut state, given)?;
        let (number, lsn) = sequence.next(&self.engine)?;
        self.note_read(lsn);
        state.remember(&sequence, number);
        state.last = Some(sequence.def.oid);
        Ok(number)
    }

    pub fn set(&self, given: Datum<'_>, value: i64, called: bool) -> Result<i64, Error> {
        self.check_writable("setval")?;
        let mut state = self.state.lock();
        let sequence = self.find(&mut state, given)?;
        self.note_read(sequence.set(&self.engine, value, called)?);
        if called {
            state.remember(&sequence, value);
        }
        Ok(value)
    }

    pub fn current(&self, given: Datum<'_>) -> Result<i64, Error> {
        let mut state = self.state.lock();
        let sequence = self.find(&mut state, given)?;
        let current = state.current.get(&sequence.def.oid);
        current.copied().ok_or_else(|| {
            not_yet(format!(
                "currval of sequence \"{}\" is not yet defined in this session",
                sequence.def.name
            ))
        })
    }

    pub fn last(&self) -> Result<i64, Error> {
        let mut state = self.state.lock();
        let undefined = || not_yet("lastval is not yet defined in this session".to_owned());
        let last = state.last.ok_or_else(undefined)?;
        let exists = self.catalog(&mut state).sequences().by_oid(last).is_some();
        let current = state.current.get(&last).filter(|_| exists);
        current.copied().ok_or_else(undefined)
    }

    /// `pg_get_serial_sequence`.
    pub fn of_column(&self, table: &str, column: &str) -> Result<Option<String>, Error> {
        let mut state = self.state.lock();
        serial_sequence(self.catalog(&mut state), table, column)
    }
}

impl State {
    fn remember(&mut self, sequence: &Sequence, number: i64) {
        if self.current.len() >= REMEMBERED_MAX && !self.current.contains_key(&sequence.def.oid) {
            self.current.clear();
        }
        self.current.insert(sequence.def.oid, number);
    }
}

fn not_yet(text: String) -> Error {
    Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text)
}

fn no_relation(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_TABLE,
        format!("relation \"{name}\" does not exist"),
    )
}

fn by_oid(catalog: &Catalog, oid: i64) -> Result<&Arc<Sequence>, Error> {
    let found = u32::try_from(oid)
        .ok()
        .and_then(|oid| catalog.sequences().by_oid(oid));
    found.ok_or_else(|| {
        Error::new(
            SqlState::UNDEFINED_TABLE,
            format!("could not open relation with OID {oid}"),
        )
    })
}

/// The sequence of a name as `regclass` reads it.
pub fn by_name<'c>(catalog: &'c Catalog, text: &str) -> Result<&'c Arc<Sequence>, Error> {
    if let Ok(oid) = text.parse() {
        return by_oid(catalog, oid);
    }
    let name = parse::relation_name(text)?;
    named(catalog, &name)
}

/// The sequence of this very name.
pub fn named<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Arc<Sequence>, Error> {
    match catalog.sequences().named(name) {
        Some(sequence) => Ok(sequence),
        None if catalog.has_relation(name) => Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{name}\" is not a sequence"),
        )),
        None => Err(no_relation(name)),
    }
}

/// The name of the sequence that belongs to a column, as it is to be written.
pub fn serial_sequence(catalog: &Catalog, table: &str, column: &str) -> Result<Option<String>, Error> {
    let name = parse::relation_name(table)?;
    let table = catalog.table(&name).ok_or_else(|| no_relation(&name))?;
    // The second argument is a name as it is, without quotes around it.
    let number = crate::plan::dml::column(table, column)?;
    Ok(owned(catalog.sequences(), table.def.oid, number)
        .map(|sequence| format!("public.{}", crate::analytic::quote_ident(&sequence.def.name))))
}

/// The sequence that belongs to a column.
pub fn owned(sequences: &Sequences, table: u32, column: usize) -> Option<&Arc<Sequence>> {
    sequences
        .owned_by(table)
        .find(|sequence| sequence.def.owner.is_some_and(|owner| owner.column == column))
}
