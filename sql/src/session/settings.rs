//! Settings: what SET, SHOW and RESET know, with PostgreSQL's transaction semantics.
//!
//! Values are kept as text in PostgreSQL's spelling; those that statements need are also kept decoded in [`Active`].
//! A SET inside a transaction is undone by its rollback, a SET LOCAL by its end, and both by ROLLBACK TO an earlier
//! savepoint.

pub use crate::analytic::Freshness;
use crate::error::{Error, SqlState};
use crate::plan::statement::IsolationLevel;
use crate::types::TimeZone;
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

enum Kind {
    Bool,
    Integer(i64, i64),
    /// Milliseconds, with units.
    Millis,
    Choice(&'static [&'static str]),
    Text,
    /// SHOW only.
    Fixed,
    Encoding,
    DateStyle,
    TimeZone,
    Isolation,
    Freshness,
    /// Accepted only when the value is this one: the alternative is not implemented.
    Only(&'static [&'static str]),
}

struct Definition {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    /// Sent as ParameterStatus.
    reported: bool,
}

const fn define(name: &'static str, default: &'static str, kind: Kind) -> Definition {
    Definition {
        name,
        default,
        kind,
        reported: false,
    }
}

const fn report(name: &'static str, default: &'static str, kind: Kind) -> Definition {
    Definition {
        name,
        default,
        kind,
        reported: true,
    }
}

/// The version of PostgreSQL whose behaviour clients may expect.
pub const SERVER_VERSION: &str = "15.0";

/// In alphabetical order, as SHOW ALL lists them. Names are matched without regard to case.
static DEFINITIONS: [Definition; 62] = [
    report("application_name", "", Kind::Text),
    define(
        "backslash_quote",
        "safe_encoding",
        Kind::Choice(&["safe_encoding", "on", "off"]),
    ),
    define("bytea_output", "hex", Kind::Only(&["hex"])),
    define("check_function_bodies", "on", Kind::Bool),
    report("client_encoding", "UTF8", Kind::Encoding),
    define(
        "client_min_messages",
        "notice",
        Kind::Choice(&[
            "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "warning", "error",
        ]),
    ),
    define(
        "constraint_exclusion",
        "partition",
        Kind::Choice(&["partition", "on", "off"]),
    ),
    define("cursor_tuple_fraction", "0.1", Kind::Text),
    report("DateStyle", "ISO, MDY", Kind::DateStyle),
    define("deadlock_timeout", "1s", Kind::Text),
    define("default_table_access_method", "heap", Kind::Text),
    define("default_tablespace", "", Kind::Text),
    define("default_text_search_config", "pg_catalog.simple", Kind::Text),
    define("default_toast_compression", "pglz", Kind::Text),
    define("default_transaction_deferrable", "off", Kind::Bool),
    define("default_transaction_isolation", "read committed", Kind::Isolation),
    report("default_transaction_read_only", "off", Kind::Bool),
    define("effective_io_concurrency", "1", Kind::Integer(0, 1000)),
    define("enable_bitmapscan", "on", Kind::Bool),
    define("enable_hashjoin", "on", Kind::Bool),
    define("enable_indexscan", "on", Kind::Bool),
    define("enable_mergejoin", "on", Kind::Bool),
    define("enable_nestloop", "on", Kind::Bool),
    define("enable_seqscan", "on", Kind::Bool),
    define("escape_string_warning", "on", Kind::Bool),
    define("extra_float_digits", "1", Kind::Integer(-15, 3)),
    define("geqo", "on", Kind::Bool),
    define("gin_pending_list_limit", "4MB", Kind::Text),
    define("idle_in_transaction_session_timeout", "0", Kind::Millis),
    report("in_hot_standby", "off", Kind::Fixed),
    report("integer_datetimes", "on", Kind::Fixed),
    report("IntervalStyle", "postgres", Kind::Only(&["postgres"])),
    report("is_superuser", "on", Kind::Fixed),
    define("jit", "off", Kind::Bool),
    define("lc_collate", "C", Kind::Fixed),
    define("lc_ctype", "C", Kind::Fixed),
    define("lc_messages", "C", Kind::Text),
    define("lc_monetary", "C", Kind::Text),
    define("lc_numeric", "C", Kind::Text),
    define("lc_time", "C", Kind::Text),
    define("lock_timeout", "0", Kind::Millis),
    define("maintenance_work_mem", "64MB", Kind::Text),
    define("max_identifier_length", "63", Kind::Fixed),
    define("max_parallel_workers_per_gather", "2", Kind::Integer(0, 1024)),
    define(
        "plan_cache_mode",
        "auto",
        Kind::Choice(&["auto", "force_generic_plan", "force_custom_plan"]),
    ),
    define("row_security", "on", Kind::Bool),
    define("scry.freshness", "strict", Kind::Freshness),
    define(
        "scry.read_from",
        "auto",
        Kind::Choice(&["auto", "primary", "mirror"]),
    ),
    define("search_path", "\"$user\", public", Kind::Text),
    report("server_encoding", "UTF8", Kind::Fixed),
    report("server_version", SERVER_VERSION, Kind::Fixed),
    define("server_version_num", "150000", Kind::Fixed),
    report("session_authorization", "", Kind::Fixed),
    report(
        "standard_conforming_strings",
        "on",
        Kind::Only(&["on", "true", "yes", "1"]),
    ),
    define("statement_timeout", "0", Kind::Millis),
    define("synchronize_seqscans", "on", Kind::Bool),
    define(
        "synchronous_commit",
        "on",
        Kind::Choice(&["on", "off", "local", "remote_write", "remote_apply"]),
    ),
    define("tcp_keepalives_idle", "0", Kind::Integer(0, i32::MAX as i64)),
    report("TimeZone", "UTC", Kind::TimeZone),
    define("vacuum_cost_delay", "0", Kind::Text),
    define("work_mem", "4MB", Kind::Text),
    define("xmloption", "content", Kind::Text),
];

/// Custom settings (`prefix.name`) that one session may hold.
const MAX_CUSTOM: usize = 256;

/// The settings that statements consult, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    pub read_from: ReadFrom,
    pub freshness: Freshness,
    pub statement_timeout: Option<Duration>,
    pub lock_timeout: Option<Duration>,
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

fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS
        .iter()
        .find(|definition| definition.name.eq_ignore_ascii_case(name))
}

fn unrecognized(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
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
            let value = checked(definition, value)?;
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
                    Some(value) => Some(Arc::from(checked(definition, value)?)),
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

    /// Decodes again what statements consult.
    fn refresh(&mut self) {
        let timeout = |name: &str| match millis(self.text(name)) {
            Some(0) | None => None,
            Some(value) => Some(Duration::from_millis(value)),
        };
        let active = Active {
            read_from: match self.text("scry.read_from") {
                "primary" => ReadFrom::Primary,
                "mirror" => ReadFrom::Mirror,
                _ => ReadFrom::Auto,
            },
            freshness: freshness(self.text("scry.freshness")).unwrap_or(Freshness::Strict),
            statement_timeout: timeout("statement_timeout"),
            lock_timeout: timeout("lock_timeout"),
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

/// Characters that do not print become question marks, as PostgreSQL does for application_name.
fn printable(text: &str) -> String {
    text.chars()
        .take(63)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn invalid(definition: &Definition, value: &str) -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{}\": \"{value}\"", definition.name),
    )
}

fn boolean(value: &str) -> Option<&'static str> {
    const YES: [&str; 6] = ["on", "true", "yes", "1", "t", "y"];
    const NO: [&str; 6] = ["off", "false", "no", "0", "f", "n"];
    if YES.iter().any(|known| value.eq_ignore_ascii_case(known)) {
        Some("on")
    } else if NO.iter().any(|known| value.eq_ignore_ascii_case(known)) {
        Some("off")
    } else {
        None
    }
}

/// Milliseconds of `1500`, `1500ms`, `2s`, `1min`, `1h`, `1d`.
fn millis(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = value[..digits].parse().ok()?;
    let factor = match value[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number
        .checked_mul(factor)
        .filter(|total| *total <= i32::MAX as u64)
}

/// `strict`, `eventual`, `bounded 1s`.
fn freshness(value: &str) -> Option<Freshness> {
    match value {
        "strict" => Some(Freshness::Strict),
        "eventual" => Some(Freshness::Eventual),
        _ => Some(Freshness::Bounded(Duration::from_millis(millis(
            value.strip_prefix("bounded ")?,
        )?))),
    }
}

/// Checks a value and brings it into the form that SHOW prints.
fn checked(definition: &Definition, value: &str) -> Result<String, Error> {
    let bad = || invalid(definition, value);
    let checked = match &definition.kind {
        Kind::Bool => boolean(value)
            .ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("parameter \"{}\" requires a Boolean value", definition.name),
                )
            })?
            .to_owned(),
        Kind::Integer(least, most) => {
            let number: i64 = value.trim().parse().map_err(|_| bad())?;
            if number < *least || number > *most {
                return Err(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!(
                        "{number} is outside the valid range for parameter \"{}\" ({least} .. {most})",
                        definition.name
                    ),
                ));
            }
            number.to_string()
        }
        Kind::Millis => match millis(value).ok_or_else(bad)? {
            0 => "0".into(),
            number if number % 3_600_000 == 0 => format!("{}h", number / 3_600_000),
            number if number % 60_000 == 0 => format!("{}min", number / 60_000),
            number if number % 1000 == 0 => format!("{}s", number / 1000),
            number => format!("{number}ms"),
        },
        Kind::Choice(choices) => {
            let value = boolean(value)
                .filter(|value| choices.contains(value))
                .unwrap_or(value);
            let found = choices.iter().find(|known| known.eq_ignore_ascii_case(value));
            (*found.ok_or_else(|| bad().with_hint(format!("Available values: {}.", choices.join(", "))))?)
                .to_owned()
        }
        Kind::Only(choices) => {
            let known = choices.iter().any(|known| known.eq_ignore_ascii_case(value));
            if !known {
                return Err(Error::unsupported(format!("{} = {value}", definition.name)));
            }
            choices.first().copied().unwrap_or_default().to_owned()
        }
        Kind::Text if definition.name == "application_name" => printable(value),
        Kind::Text => value.to_owned(),
        Kind::Fixed => {
            return Err(Error::new(
                SqlState::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{}\" cannot be changed", definition.name),
            ));
        }
        Kind::Encoding => {
            let plain: String = value
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .collect::<String>()
                .to_ascii_lowercase();
            match plain.as_str() {
                "utf8" | "unicode" => "UTF8".into(),
                "sqlascii" => "SQL_ASCII".into(),
                _ => return Err(bad().with_hint("The server sends and receives UTF8 only.")),
            }
        }
        Kind::DateStyle => date_style(value).ok_or_else(bad)?,
        Kind::TimeZone => TimeZone::parse(value)?.name().to_owned(),
        Kind::Isolation if value.eq_ignore_ascii_case("serializable") => {
            return Err(Error::unsupported("isolation level SERIALIZABLE"));
        }
        Kind::Isolation => IsolationLevel::from_name(value)
            .ok_or_else(bad)?
            .name()
            .to_owned(),
        Kind::Freshness => {
            let value = value.trim().to_ascii_lowercase();
            freshness(&value).ok_or_else(|| {
                bad().with_hint("Available values: strict, eventual, 'bounded <time>', e.g. 'bounded 1s'.")
            })?;
            value
        }
    };
    Ok(checked)
}

/// Output is ISO always; the order of day and month in input is accepted and kept as MDY.
fn date_style(value: &str) -> Option<String> {
    for part in value.split(',') {
        match part.trim().to_ascii_lowercase().as_str() {
            "iso" | "mdy" | "us" | "noneuro" | "noneuropean" | "" => {}
            _ => return None,
        }
    }
    Some("ISO, MDY".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("me", "psql", &[]).expect("valid")
    }

    fn value(settings: &Settings, name: &str) -> String {
        settings.show(name).expect("known").1
    }

    #[test]
    fn set_lasts_after_commit_and_goes_with_a_rollback() {
        let mut settings = settings();
        settings
            .set("statement_timeout", Some("1500"), false)
            .expect("valid");
        assert_eq!(value(&settings, "STATEMENT_TIMEOUT"), "1500ms");
        settings.end_transaction(true);
        assert_eq!(
            settings.active().statement_timeout,
            Some(Duration::from_millis(1500))
        );
        settings
            .set("statement_timeout", Some("2min"), false)
            .expect("valid");
        assert_eq!(value(&settings, "statement_timeout"), "2min");
        settings.end_transaction(false);
        assert_eq!(value(&settings, "statement_timeout"), "1500ms");
    }

    #[test]
    fn set_local_ends_with_the_transaction_and_uncovers_what_was_set_beneath() {
        let mut settings = settings();
        settings
            .set("scry.read_from", Some("mirror"), false)
            .expect("valid");
        settings
            .set("scry.read_from", Some("PRIMARY"), true)
            .expect("valid");
        assert_eq!(settings.active().read_from, ReadFrom::Primary);
        settings.end_transaction(true);
        assert_eq!(settings.active().read_from, ReadFrom::Mirror);
    }

    #[test]
    fn a_savepoint_brings_back_what_it_saw() {
        let mut settings = settings();
        settings.set("application_name", Some("a"), false).expect("valid");
        let mark = settings.mark();
        settings.set("application_name", Some("b"), false).expect("valid");
        settings.back_to(&mark);
        settings.end_transaction(true);
        assert_eq!(value(&settings, "application_name"), "a");
    }

    #[test]
    fn invalid_values_are_refused_by_name() {
        let mut settings = settings();
        for (name, bad, code) in [
            ("scry.freshness", "bounded", SqlState::INVALID_PARAMETER_VALUE),
            ("client_encoding", "latin1", SqlState::INVALID_PARAMETER_VALUE),
            ("extra_float_digits", "4", SqlState::INVALID_PARAMETER_VALUE),
            ("jit", "maybe", SqlState::INVALID_PARAMETER_VALUE),
            ("server_version", "16", SqlState::CANT_CHANGE_RUNTIME_PARAM),
            ("nonsense", "1", SqlState::UNDEFINED_OBJECT),
            (
                "standard_conforming_strings",
                "off",
                SqlState::FEATURE_NOT_SUPPORTED,
            ),
        ] {
            assert_eq!(
                settings.set(name, Some(bad), false).expect_err(name).code,
                code,
                "{name}"
            );
        }
        settings
            .set("scry.freshness", Some("bounded 250ms"), false)
            .expect("valid");
        assert_eq!(
            settings.active().freshness,
            Freshness::Bounded(Duration::from_millis(250))
        );
    }

    #[test]
    fn only_reported_settings_are_announced_and_once() {
        let mut settings = settings();
        settings.set("application_name", Some("x"), false).expect("valid");
        settings.set("application_name", Some("y"), false).expect("valid");
        settings.set("work_mem", Some("8MB"), false).expect("valid");
        assert_eq!(settings.take_changed(), [("application_name", "y".to_owned())]);
        assert!(settings.take_changed().is_empty());
    }
}
