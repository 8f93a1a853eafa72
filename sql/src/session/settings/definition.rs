//! Which settings there are, what values they take, and how those are spelled.

use crate::analytic::{Freshness, FutureName};
use crate::error::{Error, SqlState};
use crate::plan::statement::IsolationLevel;
use crate::session::as_of::AsOf;
use crate::types::TimeZone;
use std::time::Duration;

pub(super) enum Kind {
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
    /// The name of a future, or empty.
    Future,
    /// An LSN, a time, or empty.
    AsOf,
    /// Accepted only when the value is this one: the alternative is not implemented.
    Only(&'static [&'static str]),
}

pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) kind: Kind,
    /// Sent as ParameterStatus.
    pub(super) reported: bool,
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
pub(super) static DEFINITIONS: [Definition; 67] = [
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
    define("idle_session_timeout", "0", Kind::Millis),
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
    define("scry.as_of", "", Kind::AsOf),
    define("scry.candidate", "", Kind::Text),
    define(
        "scry.candidate_mode",
        "rows",
        Kind::Choice(&["rows", "statements"]),
    ),
    define("scry.freshness", "strict", Kind::Freshness),
    define("scry.future", "", Kind::Future),
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

pub(super) fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS
        .iter()
        .find(|definition| definition.name.eq_ignore_ascii_case(name))
}

pub(super) fn unrecognized(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

/// Characters that do not print become question marks, as PostgreSQL does for application_name.
pub(super) fn printable(text: &str) -> String {
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
pub(super) fn millis(value: &str) -> Option<u64> {
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
pub(super) fn freshness(value: &str) -> Option<Freshness> {
    match value {
        "strict" => Some(Freshness::Strict),
        "eventual" => Some(Freshness::Eventual),
        _ => Some(Freshness::Bounded(Duration::from_millis(millis(
            value.strip_prefix("bounded ")?,
        )?))),
    }
}

/// Checks a value and brings it into the form that SHOW prints. Times without a zone are in `zone`.
pub(super) fn checked(definition: &Definition, value: &str, zone: &TimeZone) -> Result<String, Error> {
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
        Kind::AsOf if value.is_empty() => String::new(),
        Kind::AsOf => AsOf::parse(value, zone)?.to_string(),
        Kind::Future if value.is_empty() => String::new(),
        Kind::Future => FutureName::parse(value)?.to_string(),
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
