//! Reading the past: `SET scry.as_of`.
//!
//! Statements then see the database as it was at one LSN: its tables, columns and rows. Nothing is written. A time is turned into an LSN by
//! the engine's timeline when a transaction begins, so that all of a block reads one state; and in a block the setting comes before the
//! first statement that reads, as the isolation level does.
//!
//! Lookups read the engine. Other queries read the mirror while it still has the state; a mirror that was opened later, or
//! has let go of it, has not, and then they read the engine, too.

use super::Session;
use super::clock::now_micros;
use super::election::exclusive;
use crate::error::{Error, SqlState};
use crate::types::{self, InputContext, TimeZone};
use scry_engine::{Catalog, DataType, Datum, Engine, Value};
use scry_wal::{Lsn, Micros};
use std::fmt;
use std::sync::Arc;

/// Which state is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    Lsn(Lsn),
    /// What was committed by then.
    Time(Micros),
}

impl AsOf {
    /// Reads `0/1A2B3C`, `1715004`, or a timestamp, which without a zone of its own is in `zone`.
    ///
    /// # Errors
    /// 22023 for anything else.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<AsOf, Error> {
        if let Ok(lsn) = text.trim().parse() {
            return Ok(AsOf::Lsn(lsn));
        }
        let now = now_micros();
        let read = types::parse_text(text, &DataType::TimestampTz, &InputContext { zone, now });
        match read {
            Ok(Value::TimestampTz(time)) => Ok(AsOf::Time(Micros::new(time))),
            _ => Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"scry.as_of\": \"{text}\""),
            )
            .with_hint("Give an LSN, for example '0/1A2B3C', or a timestamp; '' is the present.")),
        }
    }

    /// The LSN of the state.
    ///
    /// # Errors
    /// 22023 for a time to come, 72000 for one further back than is kept.
    pub fn resolve(self, engine: &Engine) -> Result<Lsn, Error> {
        match self {
            AsOf::Lsn(lsn) => Ok(lsn),
            AsOf::Time(time) => Ok(engine.lsn_at(time)?),
        }
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AsOf::Lsn(lsn) => lsn.fmt(f),
            AsOf::Time(time) => {
                let mut text = Vec::new();
                let time = Datum::TimestampTz(time.get());
                types::write_text(&mut text, &time, &DataType::TimestampTz, &TimeZone::utc());
                f.write_str(&String::from_utf8_lossy(&text))
            }
        }
    }
}

impl Session {
    /// Refuses a value of `scry.as_of` that no state can be read at, or that comes too late in a transaction.
    pub(super) fn check_as_of(&mut self, text: &str) -> Result<(), Error> {
        let asked = match text {
            "" => None,
            text => Some(AsOf::parse(text, self.settings.zone())?),
        };
        if asked == self.settings.as_of() {
            return Ok(());
        }
        if self.transaction.txn().is_some() {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "scry.as_of must be set before any query of its transaction",
            ));
        }
        let Some(asked) = asked else { return Ok(()) };
        if self.settings.candidate().is_some() {
            return Err(exclusive("scry.as_of", "scry.candidate"));
        }
        if self.settings.future().is_some() {
            return Err(exclusive("scry.as_of", "scry.future"));
        }
        let engine = self.database.engine();
        let at = asked.resolve(engine)?;
        let (newest, oldest) = (engine.visible_lsn(), engine.oldest_readable());
        if at > newest {
            return Err(scry_engine::Error::NotYet { newest }.into());
        }
        if at < oldest {
            return Err(scry_engine::Error::HistoryGone { oldest }.into());
        }
        Ok(())
    }

    /// The catalog of the state that is read. Of one that is gone, any will do: the statement will be refused.
    pub(super) fn past_catalog(&self) -> Option<Arc<Catalog>> {
        let engine = self.database.engine();
        let at = self.settings.as_of()?.resolve(engine).ok()?;
        Some(engine.catalog_at(at))
    }
}
