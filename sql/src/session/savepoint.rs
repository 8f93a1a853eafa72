//! Savepoints of the mirror at work: made and forgotten, and what it means to read while one is held.
//!
//! While the mirror is *held* at a savepoint, whatever reads it is answered from that state, and is told so. The primary
//! goes on, the mirror goes on applying, and what runs on the primary shows the present.

use super::{Notice, Session};
use crate::analytic::AnalyticPlan;
use crate::error::{Error, SqlState};
use crate::plan::callable::Savepoint;
use scry_mirror::{NAME_BYTES_MAX, Snapshot};
use std::sync::Arc;

impl Session {
    /// Carries out what a call asks for. Answers whether there was anything to be done.
    pub(super) async fn savepoint(&mut self, savepoint: &Savepoint) -> Result<bool, Error> {
        let what = match savepoint {
            Savepoint::Make(_) => "scry.mirror_savepoint",
            Savepoint::Rollback(_) => "scry.mirror_rollback",
            Savepoint::Resume => "scry.mirror_resume",
            Savepoint::Release(_) => "scry.mirror_release",
        };
        if self.transaction.is_explicit() {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                format!("{what} cannot run inside a transaction block"),
            ));
        }
        self.transaction.check_read_write(&self.settings, what)?;
        let mirror = self.database.mirror().clone();
        match savepoint {
            Savepoint::Make(name) => {
                if name.is_empty() || name.len() > NAME_BYTES_MAX {
                    return Err(Error::new(
                        SqlState::INVALID_NAME,
                        format!("\"{name}\" is no name for a mirror savepoint"),
                    )
                    .with_hint(format!("A name has 1 to {NAME_BYTES_MAX} bytes.")));
                }
                // What was acknowledged before is in it.
                let upto = self.log.durable_lsn();
                self.interrupt.waiting(mirror.applied(upto)).await??;
                let name = name.clone();
                self.at_workers(move || mirror.create_savepoint(&name)).await?;
            }
            Savepoint::Rollback(name) => {
                let name = name.clone();
                self.at_workers(move || mirror.hold(&name)).await?;
            }
            Savepoint::Resume => return self.at_workers(move || mirror.resume()).await,
            Savepoint::Release(name) => {
                let name = name.clone();
                self.at_workers(move || mirror.remove_savepoint(&name)).await?;
            }
        }
        Ok(true)
    }

    /// The state from which a query is to be answered; `None`: the mirror is not held.
    ///
    /// # Errors
    /// When that state does not have a table, or cannot be read; in a transaction that has written.
    pub(super) fn held(&mut self, plan: &AnalyticPlan) -> Result<Option<Arc<Snapshot>>, Error> {
        let Some((name, snapshot)) = self.database.mirror().held() else {
            return Ok(None);
        };
        let snapshot = snapshot.map_err(|error| {
            Error::new(
                SqlState::DATA_CORRUPTED,
                format!("the mirror is held at savepoint \"{name}\", which cannot be read: {error}"),
            )
            .with_hint(RESUME)
        })?;
        if self.transaction.txn().is_some_and(|txn| txn.has_writes()) {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                format!(
                    "the mirror, held at savepoint \"{name}\", cannot be read in a transaction that has written"
                ),
            )
            .with_hint("SET scry.read_from = primary reads the present."));
        }
        for table in plan.tables() {
            if snapshot.table(table.def.store).is_none() {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!(
                        "table \"{}\" is not in the mirror's savepoint \"{name}\"",
                        table.def.name
                    ),
                )
                .with_detail("It was created or truncated since.")
                .with_hint(RESUME));
            }
        }
        let told = format!("the mirror is held at savepoint \"{name}\": the result is not of the present");
        self.notices
            .push(Notice(Error::new(SqlState::SUCCESSFUL_COMPLETION, told)));
        Ok(Some(Arc::new(snapshot)))
    }

    /// Futures are of the present and cannot be read while the mirror shows another state.
    pub(super) fn check_not_held(&self, plan: &AnalyticPlan) -> Result<(), Error> {
        // Lists of what candidates change come from the primary.
        if plan.futures().is_empty() && plan.tables().is_empty() {
            return Ok(());
        }
        match self.database.mirror().held() {
            None => Ok(()),
            Some((name, _)) => Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("futures cannot be read while the mirror is held at savepoint \"{name}\""),
            )
            .with_hint(RESUME)),
        }
    }
}

const RESUME: &str = "SELECT scry.mirror_resume() goes back to the present.";
