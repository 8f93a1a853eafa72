//! What goes on in a server that no client asked about, told in its log: what opening found, and troubles as they come
//! and go. And what is to be done now and then.

use std::time::Duration;

use scry_sql::Database;
use scry_wal::Lsn;
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
    let log = database.engine().log();
    if log.begin() > Lsn::ZERO {
        info!("the audit trail begins at LSN {}", log.begin());
    }
    if let Some(error) = database.mirror().status().rebuilt {
        warn!("the mirror is made anew from the rows: {error}");
    }
}

/// Tells what closing the database could not do.
pub fn tell_closing(database: &Database) {
    if let Some(error) = database.mirror().status().sealing {
        warn!("the mirror could not be written to disk; the next start brings it up to date: {error}");
    }
}

/// Tells troubles for as long as it is polled.
pub async fn watch(database: &Database) {
    // Told at the opening.
    let mut known = Troubles {
        rebuilt: Troubles::of(database).rebuilt,
        ..Troubles::default()
    };
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
    /// Why rows cannot be put into files.
    rows: Option<String>,
    /// Why full segments of the trail are not archived, or do not go.
    archive: Option<String>,
    /// Consumers of the trail that were dropped.
    dropped: Vec<String>,
    /// Why the mirror was made anew.
    rebuilt: Option<String>,
    /// Why the mirror does not follow.
    mirror: Option<String>,
    /// Why the mirror cannot write what it has in memory.
    checkpoint: Option<String>,
}

impl Troubles {
    fn of(database: &Database) -> Self {
        let status = database.mirror().status();
        let consumers = database.engine().log().consumers().list();
        let dropped = consumers.into_iter().filter_map(|consumer| {
            let dropped = consumer.dropped?;
            Some(format!(
                "\"{}\" needed LSN {} when the trail had come to LSN {}",
                consumer.name, consumer.needs, dropped.at
            ))
        });
        Self {
            archive: database.engine().recycling_trouble(),
            dropped: dropped.collect(),
            log: database.engine().log().trouble().map(|error| error.to_string()),
            rebuilt: status.rebuilt.map(|error| error.to_string()),
            rows: database.engine().rows_trouble(),
            mirror: status.stopped.map(|error| error.to_string()),
            checkpoint: status.sealing.map(|error| error.to_string()),
        }
    }

    fn tell(&self, known: &Self) {
        told(
            (&self.log, &known.log),
            |text| error!("commits are refused: {text}"),
            || info!("commits are taken again"),
        );
        told(
            (&self.rows, &known.rows),
            |text| error!("rows cannot be put into files and stay in memory; it will be tried again: {text}"),
            || info!("rows are put into files again"),
        );
        told(
            (&self.archive, &known.archive),
            |text| error!("the audit trail cannot be archived or recycled; it will be tried again: {text}"),
            || info!("the audit trail is archived and recycled again"),
        );
        for text in self.dropped.iter().filter(|text| !known.dropped.contains(text)) {
            error!("a consumer of the audit trail had fallen too far behind and was dropped: {text}");
        }
        told(
            (&self.rebuilt, &known.rebuilt),
            |text| warn!("the mirror is made anew from the rows: {text}"),
            || (),
        );
        told(
            (&self.mirror, &known.mirror),
            |text| error!("the mirror has stopped, analytic queries are refused: {text}"),
            || info!("the mirror follows again"),
        );
        told(
            (&self.checkpoint, &known.checkpoint),
            |text| {
                warn!(
                    "the mirror cannot be written to disk and stays in memory; it will be tried again: {text}"
                )
            },
            || info!("the mirror is written to disk again"),
        );
    }
}

/// Tells a trouble that is new or another than before, and the end of one.
fn told((now, known): (&Option<String>, &Option<String>), begins: impl FnOnce(&str), ends: impl FnOnce()) {
    match (now, known) {
        (Some(text), before) if Some(text) != before.as_ref() => begins(text),
        (None, Some(_)) => ends(),
        _ => {}
    }
}
