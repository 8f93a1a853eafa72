//! Settings: what SET, SHOW and RESET know, with PostgreSQL's transaction semantics.
//!
//! Values are kept as text in PostgreSQL's spelling; those that statements need are also kept decoded in [`Active`].
//! A SET inside a transaction is undone by its rollback, a SET LOCAL by its end, and both by ROLLBACK TO an earlier
//! savepoint.

mod definition;

pub use crate::analytic::Freshness;
pub use definition::SERVER_VERSION;

use crate::analytic::FutureName;
use crate::error::{Error, SqlState};
use crate::plan::statement::IsolationLevel;
use crate::session::as_of::AsOf;
use crate::types::TimeZone;
use definition::{DEFINITIONS, Kind, checked, definition, freshness, millis, printable, unrecognized};
use std::sync::Arc;
use std::time::Duration;

/// Where SELECTs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Decided by the shape of the query.
    Auto,
    Primary,
    Mirror,
}

/// Custom settings (`prefix.name`) that one session may hold.
const MAX_CUSTOM: usize = 256;

/// The settings that statements consult, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    pub read_from: ReadFrom,
    pub freshness: Freshness,
    pub statement_timeout: Option<Duration>,
    pub lock_timeout: Option<Duration>,
    pub idle_in_transaction_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub isolation: IsolationLevel,
    pub read_only: bool,
    pub extra_float_digits: i32,
}

impl Default for Active {
    fn default() -> Self {
        Active {
            read_from: ReadFrom::Auto,
            freshness: Freshness::Strict,
            statement_timeout: None,
            lock_timeout: None,
            idle_in_transaction_timeout: None,
            idle_timeout: None,
            isolation: IsolationLevel::ReadCommitted,
            read_only: false,
            extra_float_digits: 1,
        }
    }
}

/// Values that differ from the defaults: name in the definition's spelling, value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Values(Vec<(Arc<str>, Arc<str>)>);

impl Values {
    fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: Option<Arc<str>>) {
        let at = self
            .0
            .iter()
            .position(|(known, _)| known.eq_ignore_ascii_case(name));
        match (at, value) {
            (Some(at), Some(value)) => self.0[at].1 = value,
            (Some(at), None) => {
                self.0.remove(at);
            }
            (None, Some(value)) => self.0.push((name.into(), value)),
            (None, None) => {}
        }
    }
}

impl Values {
    fn show(&self, name: &str) -> Result<(String, String), Error> {
        match (definition(name), self.get(name)) {
            (Some(definition), Some(value)) => Ok((definition.name.into(), value.to_string())),
            (Some(definition), None) => Ok((definition.name.into(), definition.default.into())),
            (None, Some(value)) => Ok((name.into(), value.to_string())),
            (None, None) => Err(unrecognized(name)),
        }
    }
}

/// All values at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot(Values);

impl Snapshot {
    /// A setting's name in its own spelling, and its value.
    pub fn show(&self, name: &str) -> Result<(String, String), Error> {
        self.0.show(name)
    }

    pub fn all(&self) -> Vec<(String, String)> {
        DEFINITIONS
            .iter()
            .filter_map(|definition| self.show(definition.name).ok())
            .collect()
    }
}

/// What ROLLBACK TO goes back to.
#[derive(Debug, Clone)]
pub struct Mark {
    current: Values,
    lasting: Values,
}

/// The settings of one session.
#[derive(Debug, Default)]
pub struct Settings {
    /// What RESET goes back to: the startup message's values.
    startup: Values,
    /// As statements see them.
    current: Values,
    /// As they will be after COMMIT: without SET LOCAL.
    lasting: Values,
    /// As they will be after ROLLBACK; `None` while nothing has changed in this transaction.
    before: Option<Values>,
    active: Active,
    candidate: Option<(String, String)>,
    future: Option<Arc<FutureName>>,
    as_of: Option<AsOf>,
    zone: Zone,
    /// Rises whenever something changes that plans depend on.
    generation: u64,
    changed: Vec<&'static str>,
}

/// The session's time zone; UTC until told otherwise.
#[derive(Debug)]
struct Zone(Arc<TimeZone>);

impl Default for Zone {
    fn default() -> Self {
        Zone(Arc::new(TimeZone::utc()))
    }
}

impl Settings {
    /// Takes the startup message's settings. Unknown ones are an error, as in PostgreSQL.
    pub fn new(user: &str, application: &str, startup: &[(String, String)]) -> Result<Self, Error> {
        let mut settings = Settings::default();
        settings.current.set("session_authorization", Some(user.into()));
        if !application.is_empty() {
            settings
                .current
                .set("application_name", Some(printable(application).into()));
        }
        for (name, value) in startup {
            let Some(definition) = definition(name) else {
                if name.contains('.') {
                    settings.current.set(name, Some(value.as_str().into()));
                    continue;
                }
                return Err(unrecognized(name));
            };
            let value = checked(definition, value, &settings.zone.0)?;
            settings.current.set(definition.name, Some(value.into()));
        }
        settings.startup = settings.current.clone();
        settings.lasting = settings.current.clone();
        settings.refresh();
        settings.changed.clear();
        Ok(settings)
    }

    pub fn active(&self) -> &Active {
        &self.active
    }

    pub fn zone(&self) -> &Arc<TimeZone> {
        &self.zone.0
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A setting's value. Fails with 42704 for an unknown name.
    pub fn show(&self, name: &str) -> Result<(String, String), Error> {
        self.current.show(name)
    }

    /// Name and value of every setting that is not a custom one.
    pub fn all(&self) -> Vec<(String, String)> {
        self.snapshot().all()
    }

    /// The values as they are now, for whoever outlives this borrow. Cheap: a few reference counts.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.current.clone())
    }

    /// The settings that are ParameterStatus messages.
    pub fn reported(&self) -> Vec<(&'static str, String)> {
        DEFINITIONS
            .iter()
            .filter(|definition| definition.reported)
            .filter_map(|definition| Some((definition.name, self.show(definition.name).ok()?.1)))
            .collect()
    }

    pub fn take_changed(&mut self) -> Vec<(&'static str, String)> {
        if self.changed.is_empty() {
            return Vec::new();
        }
        let names = std::mem::take(&mut self.changed);
        names
            .into_iter()
            .filter_map(|name| Some((name, self.show(name).ok()?.1)))
            .collect()
    }

    /// SET: `None` sets the default.
    pub fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<(), Error> {
        let (name, value) = match definition(name) {
            Some(definition) => {
                if matches!(definition.kind, Kind::Fixed) {
                    return Err(Error::new(
                        SqlState::CANT_CHANGE_RUNTIME_PARAM,
                        format!("parameter \"{}\" cannot be changed", definition.name),
                    ));
                }
                let value = match value {
                    Some(value) => Some(Arc::from(checked(definition, value, &self.zone.0)?)),
                    None => self.startup.get(definition.name).cloned(),
                };
                (definition.name, value)
            }
            None if name.contains('.') => {
                if self.current.0.len() >= MAX_CUSTOM + DEFINITIONS.len() {
                    return Err(Error::new(
                        SqlState::PROGRAM_LIMIT_EXCEEDED,
                        "too many custom settings",
                    ));
                }
                (name, value.map(Arc::from))
            }
            None => return Err(unrecognized(name)),
        };
        self.before.get_or_insert_with(|| self.lasting.clone());
        self.current.set(name, value.clone());
        if !local {
            self.lasting.set(name, value);
        }
        self.refresh();
        self.note(name);
        Ok(())
    }

    /// RESET ALL.
    pub fn reset_all(&mut self) {
        self.before.get_or_insert_with(|| self.lasting.clone());
        self.replace(self.startup.clone());
        self.lasting = self.startup.clone();
    }

    /// The transaction ended: what was local goes, and after a rollback everything that it set.
    pub fn end_transaction(&mut self, committed: bool) {
        let Some(before) = self.before.take() else {
            return;
        };
        if !committed {
            self.lasting = before;
        }
        self.replace(self.lasting.clone());
    }

    pub fn mark(&self) -> Mark {
        Mark {
            current: self.current.clone(),
            lasting: self.lasting.clone(),
        }
    }

    pub fn back_to(&mut self, mark: &Mark) {
        if self.current != mark.current || self.lasting != mark.lasting {
            self.lasting = mark.lasting.clone();
            self.replace(mark.current.clone());
        }
    }

    fn replace(&mut self, values: Values) {
        let old = std::mem::replace(&mut self.current, values);
        if old == self.current {
            return;
        }
        for definition in DEFINITIONS.iter().filter(|definition| definition.reported) {
            if old.get(definition.name) != self.current.get(definition.name) {
                self.note(definition.name);
            }
        }
        self.refresh();
    }

    fn note(&mut self, name: &str) {
        if let Some(definition) = definition(name)
            && definition.reported
            && !self.changed.contains(&definition.name)
        {
            self.changed.push(definition.name);
        }
    }

    fn text(&self, name: &str) -> &str {
        match self.current.get(name) {
            Some(value) => value,
            None => definition(name).map_or("", |definition| definition.default),
        }
    }

    /// The candidate that statements work in: its election's name, and its own.
    #[inline]
    pub fn candidate(&self) -> Option<(&str, &str)> {
        let (election, candidate) = self.candidate.as_ref()?;
        Some((election, candidate))
    }

    /// Whether statements that write inside of a candidate are recorded.
    pub fn records(&self) -> bool {
        self.text("scry.candidate_mode") == "statements"
    }

    /// For a statement that was recorded: its time zone, and the present as the primary has it. Ends with `back_to`.
    pub fn run_recorded_in(&mut self, zone: &str) {
        self.read_present(true);
        self.current.set("TimeZone", Some(zone.into()));
        self.refresh();
    }

    /// For a query about the present state, whatever the session reads; on the primary, or where it likes. In UTC: answers of
    /// different sessions are compared. Ends with `back_to`.
    pub fn read_present(&mut self, primary: bool) {
        let read_from = if primary { "primary" } else { "auto" };
        for (name, value) in [
            ("scry.candidate", ""),
            ("scry.future", ""),
            ("scry.as_of", ""),
            ("scry.read_from", read_from),
            ("TimeZone", "UTC"),
        ] {
            self.current.set(name, Some(value.into()));
        }
        self.refresh();
    }

    /// The future that unqualified names of tables mean.
    pub fn future(&self) -> Option<&Arc<FutureName>> {
        self.future.as_ref()
    }

    /// The state of the past that statements read.
    pub fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }

    /// Decodes again what statements consult.
    fn refresh(&mut self) {
        let candidate = self.text("scry.candidate").split_once('/');
        let candidate = candidate.map(|(election, candidate)| (election.to_owned(), candidate.to_owned()));
        if candidate != self.candidate {
            self.candidate = candidate;
            self.generation += 1;
        }
        let future = FutureName::parse(self.text("scry.future")).ok();
        if future.as_ref() != self.future.as_deref() {
            self.future = future.map(Arc::new);
            self.generation += 1;
        }
        let as_of = match self.text("scry.as_of") {
            "" => None,
            text => AsOf::parse(text, &TimeZone::utc()).ok(),
        };
        if as_of != self.as_of {
            self.as_of = as_of;
            self.generation += 1;
        }
        let timeout = |name: &str| match millis(self.text(name)) {
            Some(0) | None => None,
            Some(value) => Some(Duration::from_millis(value)),
        };
        let active = Active {
            // The base of a candidate is not in the mirror.
            read_from: match self.text("scry.read_from") {
                _ if self.candidate().is_some() => ReadFrom::Primary,
                "primary" => ReadFrom::Primary,
                "mirror" => ReadFrom::Mirror,
                _ => ReadFrom::Auto,
            },
            freshness: freshness(self.text("scry.freshness")).unwrap_or(Freshness::Strict),
            statement_timeout: timeout("statement_timeout"),
            lock_timeout: timeout("lock_timeout"),
            idle_in_transaction_timeout: timeout("idle_in_transaction_session_timeout"),
            idle_timeout: timeout("idle_session_timeout"),
            isolation: IsolationLevel::from_name(self.text("default_transaction_isolation"))
                .unwrap_or(IsolationLevel::ReadCommitted),
            read_only: self.text("default_transaction_read_only") == "on",
            extra_float_digits: self.text("extra_float_digits").parse().unwrap_or(1),
        };
        if self.zone.0.name() != self.text("TimeZone")
            && let Ok(zone) = TimeZone::parse(self.text("TimeZone"))
        {
            self.zone = Zone(Arc::new(zone));
            // Plans hold constants that were read in the old zone.
            self.generation += 1;
        }
        if active.read_from != self.active.read_from {
            self.generation += 1;
        }
        self.active = active;
    }
}

#[cfg(test)]
mod tests;
