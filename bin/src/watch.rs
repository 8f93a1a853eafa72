//! What goes on in a server that no client asked about, told in its log: what opening found, and troubles as they come
//! and go. And what is to be done now and then.

use std::time::Duration;

use scry_sql::Database;
use tracing::{error, info, warn};

/// How soon a trouble is told. Looking walks over all tables.
const PERIOD: Duration = Duration::from_secs(5);

/// Tells what opening the database found.
pub fn tell_opening(database: &Database) {
    if let Some(torn) = &database.engine().log().recovery().torn {
        info!(
            "an unfinished tail of the audit trail at LSN {}, never acknowledged, was cut off: {}",
            torn.lsn, torn.flaw
        );
    }
    if let Some(error) = database.mirror().status().rebuilt {
        warn!("the mirror could not be used and is made anew from the audit trail: {error}");
    }
}

/// Tells what closing the database could not do.
pub fn tell_closing(database: &Database) {
    if let Some(error) = database.mirror().status().sealing {
        warn!(
            "the mirror could not be written to disk; the next start makes it from the audit trail: {error}"
        );
    }
}

/// Tells troubles for as long as it is polled.
pub async fn watch(database: &Database) {
    let mut known = Troubles::default();
    loop {
        let now = Troubles::of(database);
        now.tell(&known);
        known = now;
        // What keeps it from being done is told as what refuses commits.
        for election in database.expire_bases().unwrap_or_default() {
            warn!("the base of election \"{election}\" was older than is kept and was let go of");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Troubles {
    /// Why commits are refused.
    log: Option<String>,
    /// Why the mirror does not follow.
    mirror: Option<String>,
    /// Why the mirror cannot write what it has in memory.
    checkpoint: Option<String>,
}

impl Troubles {
    fn of(database: &Database) -> Self {
        let status = database.mirror().status();
        Self {
            log: database.engine().log().trouble().map(|error| error.to_string()),
            mirror: status.stopped.map(|error| error.to_string()),
            checkpoint: status.sealing.map(|error| error.to_string()),
        }
    }

    fn tell(&self, known: &Self) {
        match (&self.log, &known.log) {
            (Some(text), before) if Some(text) != before.as_ref() => error!("commits are refused: {text}"),
            (None, Some(_)) => info!("commits are taken again"),
            _ => {}
        }
        match (&self.mirror, &known.mirror) {
            (Some(text), before) if Some(text) != before.as_ref() => {
                error!("the mirror has stopped, analytic queries are refused: {text}");
            }
            _ => {}
        }
        match (&self.checkpoint, &known.checkpoint) {
            (Some(text), before) if Some(text) != before.as_ref() => {
                warn!(
                    "the mirror cannot be written to disk and stays in memory; it will be tried again: {text}"
                );
            }
            (None, Some(_)) => info!("the mirror is written to disk again"),
            _ => {}
        }
    }
}
