//! An opened database directory: the engine, the mirror that follows its log, the workers of DataFusion, and the sessions
//! made from them.

use crate::analytic::{Analytic, AnalyticOptions, ServerStatus};
use crate::constraint;
use crate::error::Error;
use crate::notify::{Bus, Message};
use crate::privilege::Creators;
use crate::session::{Session, SessionInfo};
use scry_engine::{Engine, EngineOptions};
use scry_mirror::{Mirror, MirrorOptions};
use scry_wal::{Lsn, Micros};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The mirror's folder inside of the data directory.
const MIRROR_DIRECTORY: &str = "mirror";

/// How to open a database.
#[derive(Debug, Clone, Default)]
pub struct DatabaseOptions {
    pub engine: EngineOptions,
    pub analytic: AnalyticOptions,
    /// Threads that decode the log for the mirror.
    pub extractors: Option<usize>,
    /// Bound of the mirror's cache of decoded columns.
    pub mirror_cache_bytes: Option<usize>,
    /// The mirror writes a checkpoint when so much log was applied since the last.
    pub mirror_checkpoint_bytes: Option<u64>,
    /// Who may create elections; `None`: everybody.
    pub election_creators: Creators,
    /// How many bytes of log may be written behind the base of an election before it is let go of; `None`: any number.
    pub base_retention_bytes: Option<u64>,
}

/// Shared by all sessions of a server.
pub struct Database {
    engine: Arc<Engine>,
    mirror: Arc<Mirror>,
    analytic: Arc<Analytic>,
    status: Arc<dyn ServerStatus>,
    bus: Arc<Bus>,
    election_creators: Creators,
    base_retention_bytes: Option<u64>,
    sessions: Arc<Sessions>,
}

/// How many sessions there are.
#[derive(Debug, Default)]
struct Sessions(AtomicU64);

impl Sessions {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts a session for as long as it lives.
#[derive(Debug)]
pub(crate) struct Present(Arc<Sessions>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Figures for the system views.
struct Status {
    engine: Arc<Engine>,
    mirror: Arc<Mirror>,
    analytic: Arc<Analytic>,
    sessions: Arc<Sessions>,
}

fn figure(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

impl ServerStatus for Status {
    fn mirror(&self) -> [i64; 7] {
        let status = self.mirror.status();
        [
            figure(status.applied.get()),
            figure(status.lag.p50_us),
            figure(status.lag.p99_us),
            figure(status.lag.max_us),
            figure(status.resident_bytes + status.segment_bytes),
            figure(status.rows),
            figure(status.segments),
        ]
    }

    fn reset(&self) {
        self.mirror.reset_lag();
    }

    fn savepoints(&self) -> Vec<scry_mirror::Savepoint> {
        self.mirror.savepoints()
    }

    fn log_consumers(&self) -> Vec<(String, i64, i64, bool)> {
        let log = self.engine.log();
        let end = log.durable_lsn();
        let consumers = log.consumers().list().into_iter();
        let row = |consumer: scry_wal::Consumer| {
            let (needs, held) = (figure(consumer.needs.get()), end.bytes_since(consumer.needs));
            let dropped = consumer.dropped.is_some();
            (
                consumer.name,
                needs,
                if dropped { 0 } else { figure(held) },
                dropped,
            )
        };
        consumers.map(row).collect()
    }

    fn lsn_at(&self, time: Micros) -> Option<Lsn> {
        self.engine.lsn_at(time).ok()
    }

    fn time_of(&self, lsn: Lsn) -> Option<Micros> {
        self.engine.time_of(lsn)
    }

    fn log_end(&self) -> Lsn {
        self.engine.visible_lsn()
    }

    fn engine(&self) -> Vec<(&'static str, i64)> {
        let stats = self.engine.stats();
        let writes = self.engine.log().write_figures();
        vec![
            ("commits", figure(stats.commits)),
            ("aborts", figure(stats.aborts)),
            ("lock_waits", figure(stats.lock_waits)),
            ("deadlocks", figure(stats.deadlocks)),
            ("serialization_failures", figure(stats.serialization_failures)),
            ("elected_rows", figure(stats.elected_rows)),
            ("conflicts_resolved", figure(stats.conflicts_resolved)),
            ("conflicts_deferred", figure(stats.conflicts_deferred)),
            ("checkpoints", figure(stats.checkpoints)),
            ("checkpoints_failed", figure(stats.checkpoints_failed)),
            ("compactions_failed", figure(stats.compactions_failed)),
            (
                "admission_delay_us",
                figure(self.engine.admission_delay().as_micros()),
            ),
            ("row_memory_bytes", figure(self.engine.memory_bytes())),
            ("conflicts_predicted", figure(self.analytic.futures().appeared())),
            ("sessions", figure(self.sessions.count())),
            ("visible_lsn", figure(self.engine.visible_lsn().get())),
            ("durable_lsn", figure(self.engine.log().durable_lsn().get())),
            ("log_begin_lsn", figure(self.engine.log().begin().get())),
            ("log_writes", figure(writes.count())),
            ("log_write_us_max", figure(writes.longest.as_micros())),
            ("history_begin_lsn", figure(self.engine.oldest_readable().get())),
        ]
    }
}

impl Database {
    /// Opens the directory, creating a database when it is empty, and starts the mirror.
    ///
    /// # Errors
    /// When the directory is in use, is something else, has a newer format or is damaged.
    pub fn open(dir: &Path, options: DatabaseOptions) -> Result<Arc<Database>, Error> {
        let mut engine_options = options.engine;
        // What the mirror has on disk was durable in the log before: a log that ends earlier has lost its end.
        if let Some(checkpoint) = scry_mirror::checkpoint_lsn(&dir.join(MIRROR_DIRECTORY)) {
            engine_options.log.durable_before = checkpoint;
        }
        let engine = Engine::open(dir, engine_options).map_err(|error| match error {
            scry_engine::Error::Log(scry_wal::Error::EndMissing { .. }) => Error::from(error).with_hint(format!(
                "A checkpoint or the mirror shows how far the log had come. Put the log's missing files back; to go on without what they \
                 held, move {}, {} and {} away.",
                dir.join("runs").display(),
                dir.join(MIRROR_DIRECTORY).display(),
                dir.join("wal/consumers").display()
            )),
            error => error.into(),
        })?;
        engine.set_row_rules(Arc::new(constraint::Rules));
        // Without an engine nobody reads any more; nothing needs to be folded then either.
        let of_engine = |horizon: fn(&Engine) -> Lsn| {
            let engine = Arc::downgrade(&engine);
            Arc::new(move || engine.upgrade().map_or(Lsn::ZERO, |engine| horizon(&engine)))
        };
        let mut mirror = MirrorOptions::new(of_engine(Engine::horizon));
        mirror.readers = Some(of_engine(Engine::readers_horizon));
        let of_primary = Arc::downgrade(&engine);
        mirror.seeds = Some(Arc::new(move || of_primary.upgrade().map(|engine| engine.seed())));
        if let Some(extractors) = options.extractors {
            mirror.extractors = extractors;
        }
        if let Some(bytes) = options.mirror_cache_bytes {
            mirror.cache_bytes = bytes;
        }
        if let Some(bytes) = options.mirror_checkpoint_bytes {
            mirror.checkpoint_bytes = bytes;
        }
        let mirror = Mirror::open(&dir.join(MIRROR_DIRECTORY), engine.log().clone(), mirror)?;
        let analytic = Analytic::new(options.analytic)?;
        let sessions = Arc::<Sessions>::default();
        let status = Arc::new(Status {
            engine: engine.clone(),
            mirror: mirror.clone(),
            analytic: analytic.clone(),
            sessions: sessions.clone(),
        });
        Ok(Arc::new(Database {
            engine,
            mirror,
            analytic,
            status,
            bus: Arc::default(),
            election_creators: options.election_creators,
            sessions,
            base_retention_bytes: options.base_retention_bytes,
        }))
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    pub fn analytic(&self) -> &Analytic {
        &self.analytic
    }

    /// Counts one more session.
    pub(crate) fn enter(&self) -> Present {
        self.sessions.0.fetch_add(1, Ordering::Relaxed);
        Present(self.sessions.clone())
    }

    /// Figures of the server: what the views `scry_stat_…` show.
    pub fn status(&self) -> Arc<dyn ServerStatus> {
        self.status.clone()
    }

    /// The server itself notifies the sessions that listen on a channel, of something that has been acknowledged already.
    /// It comes behind the notifications of the commits so far, as from a process with the id 0.
    ///
    /// # Errors
    /// 22023 for a channel or payload that is too long.
    pub fn notify(&self, channel: &str, payload: &str) -> Result<(), Error> {
        let at = self.bus.send(Message::new(channel, payload)?);
        self.bus
            .deliver_when_durable(at, self.engine.log(), self.analytic.workers());
        Ok(())
    }

    /// Lets go of the bases of elections that are further behind than is kept. Answers the elections' names. To be called now
    /// and then.
    ///
    /// # Errors
    /// What the commit answers.
    pub fn expire_bases(&self) -> Result<Vec<String>, Error> {
        match self.base_retention_bytes {
            Some(retention) => Ok(self.engine.expire_bases(retention)?),
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn election_creators(&self) -> &Creators {
        &self.election_creators
    }

    pub(crate) fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    /// A new session.
    ///
    /// # Errors
    /// When a setting of the startup message is invalid.
    pub fn session(self: &Arc<Self>, info: SessionInfo) -> Result<Session, Error> {
        Session::new(self.clone(), info)
    }

    /// Stops the mirror and closes the log. Sessions must be gone.
    ///
    /// # Errors
    /// When the log cannot be brought to its end.
    pub fn close(&self) -> Result<(), Error> {
        self.mirror.close();
        Ok(self.engine.close()?)
    }
}
