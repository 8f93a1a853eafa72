//! The transaction block of a session: PostgreSQL's states around the engine's transaction.
//!
//! - Outside of a block a statement opens an *implicit* transaction. It ends with the simple query or at Sync.
//! - BEGIN opens an *explicit* one; inside of an implicit one it takes that over.
//! - An error fails an explicit block: nothing but its end, or ROLLBACK TO, is accepted any more. What the
//!   transaction did since the innermost savepoint is undone at once, so its locks do not outlive the error.

use crate::error::{Error, SqlState};
use crate::exec::deferred::Deferred;
use crate::exec::foreign_keys::ForeignKeys;
use crate::notify::{Ear, Mark as OutboxMark, Outbox};
use crate::plan::statement::{IsolationLevel, TransactionModes};
use crate::privilege;
use crate::sequence::{SequenceAccess, Unwritable};
use crate::session::settings::{Mark, Settings};
use crate::session::{Notice, TransactionStatus};
use scry_engine::election::Privileges;
use scry_engine::{EngineSession, Isolation, SavepointId, Txn};
use scry_wal::Lsn;
use std::sync::Arc;

/// The most savepoints that one transaction may hold open.
const MAX_SAVEPOINTS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    Implicit,
    Explicit,
    Failed,
}

struct Savepoint {
    name: String,
    id: SavepointId,
    settings: Mark,
    outbox: OutboxMark,
    deferred: Deferred,
}

pub struct Transaction {
    /// Whose it is.
    user: String,
    block: Block,
    txn: Option<Txn>,
    savepoints: Vec<Savepoint>,
    isolation: IsolationLevel,
    read_only: bool,
    /// A statement has run in this block: SET TRANSACTION ISOLATION LEVEL comes too late.
    used: bool,
    /// The highest LSN that cursors of the present transaction have read.
    read: Lsn,
    /// The tag of the first statement that wrote: the audit trail's tag of the commit.
    tag: &'static str,
    /// What its commit will tell. Functions put things in while statements run.
    outbox: Arc<Outbox>,
    /// What its foreign keys have still to check.
    pub foreign_keys: ForeignKeys,
    /// What its statements draw numbers with.
    sequences: Arc<SequenceAccess>,
}

fn warning(code: SqlState, message: &str) -> Notice {
    Notice(Error::new(code, message))
}

fn none_in_progress() -> Notice {
    warning(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        "there is no transaction in progress",
    )
}

fn only_in_block(what: &str) -> Error {
    Error::new(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        format!("{what} can only be used in transaction blocks"),
    )
}

impl Transaction {
    pub fn new(user: &str, outbox: Arc<Outbox>, sequences: Arc<SequenceAccess>) -> Self {
        Transaction {
            user: user.to_owned(),
            block: Block::None,
            txn: None,
            savepoints: Vec::new(),
            isolation: IsolationLevel::ReadCommitted,
            read_only: false,
            used: false,
            read: Lsn::ZERO,
            tag: "",
            outbox,
            foreign_keys: ForeignKeys::default(),
            sequences,
        }
    }

    /// Whether a transaction is open, of either kind.
    pub fn is_open(&self) -> bool {
        self.block != Block::None
    }

    /// A cursor outside of the engine's transaction has read up to this LSN.
    pub fn note_read(&mut self, lsn: Lsn) {
        self.read = self.read.max(lsn);
    }

    /// The highest LSN that answers of this transaction tell of.
    pub fn depends_on(&self) -> Lsn {
        let read = self.read.max(self.sequences.read());
        self.txn.as_ref().map_or(read, |txn| txn.depends_on().max(read))
    }

    pub fn status(&self) -> TransactionStatus {
        match self.block {
            Block::None | Block::Implicit => TransactionStatus::Idle,
            Block::Explicit => TransactionStatus::InTransaction,
            Block::Failed => TransactionStatus::Failed,
        }
    }

    pub fn is_explicit(&self) -> bool {
        matches!(self.block, Block::Explicit | Block::Failed)
    }

    pub fn is_failed(&self) -> bool {
        self.block == Block::Failed
    }

    pub fn isolation(&self, settings: &Settings) -> IsolationLevel {
        if self.block == Block::None {
            settings.active().isolation
        } else {
            self.isolation
        }
    }

    pub fn read_only(&self, settings: &Settings) -> bool {
        if self.block == Block::None {
            settings.active().read_only
        } else {
            self.read_only
        }
    }

    /// Refuses what a failed block does not accept.
    pub fn check_usable(&self) -> Result<(), Error> {
        if self.block == Block::Failed {
            return Err(Error::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    /// A statement begins that reads or writes data: opens the transaction if there is none, and takes the
    /// statement's snapshot.
    ///
    /// # Errors
    /// When `scry.candidate` names one that has ended meanwhile, or in which the user may not work any more; when the state of
    /// `scry.as_of` is not kept any more.
    pub fn statement(&mut self, engine: &mut EngineSession, settings: &Settings) -> Result<&mut Txn, Error> {
        if self.block == Block::None {
            self.open(Block::Implicit, settings, TransactionModes::default());
        }
        self.used = true;
        self.foreign_keys.begin_statement();
        let isolation = match self.isolation {
            IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
            IsolationLevel::RepeatableRead => Isolation::RepeatableRead,
            // What only reads is at its place in the order of commits at any snapshot; and it stays read-only once it was used.
            IsolationLevel::Serializable if self.read_only => Isolation::RepeatableRead,
            IsolationLevel::Serializable => Isolation::Serializable,
        };
        let txn = match self.txn.take() {
            Some(txn) => txn,
            None => match (settings.as_of(), settings.candidate()) {
                (Some(past), _) => {
                    let at = past.resolve(engine.engine())?;
                    engine.begin_at(at)?
                }
                (None, None) => engine.begin(isolation),
                (None, Some((election, candidate))) => {
                    let mut txn = engine.begin_in(election, candidate, isolation)?;
                    privilege::check_named(txn.catalog(), election, &self.user, Privileges::WRITE)?;
                    if settings.records() {
                        txn.begin_recording();
                    }
                    txn
                }
            },
        };
        let txn = self.txn.insert(txn);
        txn.statement();
        txn.check_candidate()?;
        let own = txn.has_definitions().then(|| txn.catalog());
        let why = match (self.read_only, txn.is_past()) {
            (true, _) => Some(Unwritable::ReadOnly),
            (false, true) => Some(Unwritable::Past),
            (false, false) => None,
        };
        self.sequences.statement(own, why);
        Ok(txn)
    }

    /// Whether ending the transaction now would write to the log.
    pub fn would_write(&self) -> bool {
        self.block != Block::Failed && self.txn.as_ref().is_some_and(Txn::has_writes)
    }

    pub fn txn(&mut self) -> Option<&mut Txn> {
        self.txn.as_mut()
    }

    /// The transaction that the statement has begun.
    pub fn open_txn(&mut self) -> Result<&mut Txn, Error> {
        self.txn
            .as_mut()
            .ok_or_else(|| Error::internal("a statement without transaction"))
    }

    /// The same, with what foreign keys have still to check.
    pub fn parts(&mut self) -> Result<(&mut Txn, &mut ForeignKeys), Error> {
        let txn = self.txn.as_mut();
        let txn = txn.ok_or_else(|| Error::internal("a statement without transaction"))?;
        Ok((txn, &mut self.foreign_keys))
    }

    /// Whether a statement of the present transaction has read or written before, or it is a block.
    pub fn has_begun(&self) -> bool {
        self.is_explicit() || self.is_open() && self.used
    }

    /// Lets go of a transaction that has only looked at definitions: what follows makes its own.
    pub fn let_go(&mut self) {
        self.txn = None;
    }

    /// The snapshot is not needed until the next statement.
    pub fn rest(&mut self) {
        if let Some(txn) = &mut self.txn {
            txn.rest();
        }
    }

    /// Refuses writing tables in a read-only transaction, or while reading a future.
    pub fn check_writable(&self, settings: &Settings, what: &str) -> Result<(), Error> {
        self.check_read_write(settings, what)?;
        if settings.future().is_some() {
            return Err(Error::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {what} while scry.future is set"),
            )
            .with_hint("To change what a candidate has, SET scry.candidate instead; to change the present, RESET scry.future."));
        }
        Ok(())
    }

    /// Refuses writing of any kind in a read-only transaction, or while reading the past.
    pub fn check_read_write(&self, settings: &Settings, what: &str) -> Result<(), Error> {
        if self.read_only(settings) {
            return Err(Unwritable::ReadOnly.refuses(what));
        }
        if settings.as_of().is_some() {
            return Err(Unwritable::Past.refuses(what));
        }
        Ok(())
    }

    /// Remembers the tag of a statement that wrote.
    pub fn wrote(&mut self, tag: &'static str) {
        if self.tag.is_empty() {
            self.tag = tag;
        }
    }

    fn open(&mut self, block: Block, settings: &Settings, modes: TransactionModes) {
        self.block = block;
        self.isolation = modes.isolation.unwrap_or(settings.active().isolation);
        self.read_only = modes.read_only.unwrap_or(settings.active().read_only);
        self.used = false;
        self.read = Lsn::ZERO;
        self.tag = "";
        self.foreign_keys = ForeignKeys::default();
    }

    pub fn begin(&mut self, modes: TransactionModes, settings: &Settings) -> Result<Option<Notice>, Error> {
        match self.block {
            Block::None => {
                self.open(Block::Explicit, settings, modes);
                Ok(None)
            }
            Block::Implicit => {
                self.block = Block::Explicit;
                self.set_modes(modes)?;
                Ok(None)
            }
            Block::Explicit => Ok(Some(warning(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "there is already a transaction in progress",
            ))),
            Block::Failed => Err(self
                .check_usable()
                .err()
                .unwrap_or_else(|| Error::internal("failed block"))),
        }
    }

    fn set_modes(&mut self, modes: TransactionModes) -> Result<(), Error> {
        if let Some(isolation) = modes.isolation
            && isolation != self.isolation
        {
            if self.used {
                return Err(Error::new(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "SET TRANSACTION ISOLATION LEVEL must be called before any query",
                ));
            }
            self.isolation = isolation;
        }
        if let Some(read_only) = modes.read_only {
            if self.used && self.read_only && !read_only {
                return Err(Error::new(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "transaction read-write mode must be set before any query",
                ));
            }
            self.read_only = read_only;
        }
        Ok(())
    }

    /// SET TRANSACTION.
    pub fn set_transaction(&mut self, modes: TransactionModes) -> Result<Option<Notice>, Error> {
        match self.block {
            Block::None | Block::Implicit => Ok(Some(warning(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "SET TRANSACTION can only be used in transaction blocks",
            ))),
            _ => self.set_modes(modes).map(|()| None),
        }
    }

    /// Ends the transaction, keeping what it wrote. The LSN is that which has to be durable before the client hears
    /// of it.
    pub fn commit(&mut self, settings: &mut Settings, ear: &mut Ear) -> Result<Option<Lsn>, Error> {
        self.block = Block::None;
        self.savepoints.clear();
        let (txn, tag, read) = (self.txn.take(), self.tag, self.sequences.read());
        let committed = ear.commit(&self.outbox, || {
            let Some(txn) = txn else { return Ok(None) };
            // What wrote nothing after all may have told a row count that another commit made.
            let depends_on = txn.depends_on().max(read);
            txn.commit(tag).map(|lsn| lsn.or(Some(depends_on)))
        });
        settings.end_transaction(committed.is_ok());
        Ok(committed?)
    }

    /// Ends the transaction, undoing what it did.
    pub fn rollback(&mut self, settings: &mut Settings) {
        self.block = Block::None;
        self.savepoints.clear();
        self.txn = None;
        self.outbox.clear();
        settings.end_transaction(false);
    }

    /// COMMIT. The tag says ROLLBACK when the block had failed.
    pub fn commit_block(
        &mut self,
        chain: bool,
        settings: &mut Settings,
        ear: &mut Ear,
        notices: &mut Vec<Notice>,
    ) -> Result<(&'static str, Option<Lsn>), Error> {
        if !self.is_explicit() {
            if chain {
                return Err(only_in_block("COMMIT AND CHAIN"));
            }
            notices.push(none_in_progress());
        }
        let modes = TransactionModes {
            isolation: Some(self.isolation),
            read_only: Some(self.read_only),
        };
        let (tag, lsn) = if self.block == Block::Failed {
            self.rollback(settings);
            ("ROLLBACK", None)
        } else {
            ("COMMIT", self.commit(settings, ear)?)
        };
        if chain {
            self.open(Block::Explicit, settings, modes);
        }
        Ok((tag, lsn))
    }

    /// ROLLBACK.
    pub fn rollback_block(
        &mut self,
        chain: bool,
        settings: &mut Settings,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        if !self.is_explicit() {
            if chain {
                return Err(only_in_block("ROLLBACK AND CHAIN"));
            }
            notices.push(none_in_progress());
        }
        let modes = TransactionModes {
            isolation: Some(self.isolation),
            read_only: Some(self.read_only),
        };
        self.rollback(settings);
        if chain {
            self.open(Block::Explicit, settings, modes);
        }
        Ok(())
    }

    /// A statement failed.
    pub fn fail(&mut self, settings: &mut Settings) {
        match self.block {
            Block::None | Block::Implicit => self.rollback(settings),
            Block::Explicit => {
                self.block = Block::Failed;
                let undone = match (&mut self.txn, self.savepoints.last()) {
                    (Some(txn), Some(savepoint)) => {
                        self.outbox.back_to(savepoint.outbox);
                        txn.begin_rollback_to(savepoint.id).is_ok()
                    }
                    _ => false,
                };
                if !undone {
                    self.txn = None;
                    self.savepoints.clear();
                    self.outbox.clear();
                }
            }
            Block::Failed => {}
        }
    }

    pub fn savepoint(
        &mut self,
        name: String,
        engine: &mut EngineSession,
        settings: &Settings,
    ) -> Result<(), Error> {
        if !self.is_explicit() {
            return Err(only_in_block("SAVEPOINT"));
        }
        if self.savepoints.len() >= MAX_SAVEPOINTS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "too many savepoints in one transaction",
            ));
        }
        let (mark, outbox) = (settings.mark(), self.outbox.mark());
        let deferred = self.foreign_keys.deferred.clone();
        let id = self.statement(engine, settings)?.savepoint()?;
        self.savepoints.push(Savepoint {
            name,
            id,
            settings: mark,
            outbox,
            deferred,
        });
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize, Error> {
        self.savepoints
            .iter()
            .rposition(|savepoint| savepoint.name == name)
            .ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_SAVEPOINT_SPECIFICATION,
                    format!("savepoint \"{name}\" does not exist"),
                )
            })
    }

    pub fn release(&mut self, name: &str) -> Result<(), Error> {
        if !self.is_explicit() {
            return Err(only_in_block("RELEASE SAVEPOINT"));
        }
        let index = self.find(name)?;
        let id = self.savepoints[index].id;
        self.savepoints.truncate(index);
        match &mut self.txn {
            Some(txn) => Ok(txn.release(id)?),
            None => Ok(()),
        }
    }

    /// ROLLBACK TO: also the way out of a failed block.
    pub async fn rollback_to(&mut self, name: &str, settings: &mut Settings) -> Result<(), Error> {
        if !self.is_explicit() {
            return Err(only_in_block("ROLLBACK TO SAVEPOINT"));
        }
        let index = self.find(name)?;
        self.savepoints.truncate(index + 1);
        let savepoint = &self.savepoints[index];
        if let Some(txn) = &mut self.txn {
            // Half done, nothing but another rollback may follow.
            self.block = Block::Failed;
            txn.rollback_to(savepoint.id).await?;
        }
        self.outbox.back_to(savepoint.outbox);
        self.foreign_keys.deferred = savepoint.deferred.clone();
        settings.back_to(&savepoint.settings);
        self.block = Block::Explicit;
        Ok(())
    }
}
