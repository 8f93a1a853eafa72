//! The scalar functions: what each one does with its values. Names and argument types are `bind_function`'s.

use super::arithmetic::{check_float, division_by_zero, narrow, out_of_range};
use super::extract::{self, Field};
use super::pattern::{self, Syntax};
use super::{ArithmeticOp, EvalContext, Evaluated, Expr, arithmetic, cast};
use crate::error::{Error, SqlState};
use crate::notify::Message;
use crate::types::TimeZone;
use crate::types::datetime::{check_instant, check_timestamp, split_timestamp};
use scry_engine::types::{DataType, Datum, Numeric, Value};
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// The most bytes of a text that a function makes.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// A function whose arguments have the types that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Abs,
    Ascii,
    AtTimeZone,
    Ceil,
    CharLength,
    Chr,
    ClockTimestamp,
    Concat,
    ConcatWs,
    ConcatBytes,
    ConcatText,
    CurrentDate,
    DatePart,
    DateTrunc,
    Exp,
    Extract,
    Floor,
    CurrentDatabase,
    CurrentSchema,
    CurrentUser,
    /// `currval`.
    CurrentValue,
    BackendPid,
    Initcap,
    /// `lastval`.
    LastValue,
    Left,
    Ln,
    LocalTime,
    LocalTimestamp,
    Log10,
    Lower,
    Lpad,
    MakeDate,
    Md5,
    Mod,
    /// `nextval`.
    NextValue,
    Notify,
    Now,
    OctetLength,
    /// `char(n)` with the blanks that it is shown with.
    PadBlanks,
    Pi,
    Position,
    Power,
    Random,
    /// `~`.
    RegexMatch,
    /// `~*`.
    RegexMatchFolded,
    Repeat,
    Replace,
    Reverse,
    Right,
    Round,
    RoundTo,
    Rpad,
    /// `pg_get_serial_sequence`.
    SerialSequence,
    /// `setval`.
    SetValue,
    Sign,
    /// Text, pattern and escape character; an empty text stands for none.
    SimilarTo,
    SplitPart,
    Sqrt,
    StartsWith,
    StatementTimestamp,
    Substring,
    TransactionId,
    TrimBoth,
    TrimLeft,
    TrimRight,
    Truncate,
    TruncateTo,
    Upper,
    UuidRandom,
    Version,
}

impl Function {
    /// Whether two calls in one statement may give two results, or do something each.
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            Function::Random | Function::ClockTimestamp | Function::UuidRandom | Function::Notify
        ) || self.is_of_sequences()
    }

    /// Whether it reads or changes a sequence.
    fn is_of_sequences(self) -> bool {
        matches!(
            self,
            Function::CurrentValue
                | Function::LastValue
                | Function::NextValue
                | Function::SerialSequence
                | Function::SetValue
        )
    }

    /// Whether PostgreSQL calls it immutable for these arguments.
    pub(super) fn is_immutable(self, arguments: &[Expr]) -> bool {
        match self {
            Function::Extract | Function::DatePart | Function::DateTrunc => arguments
                .iter()
                .all(|argument| argument.ty() != DataType::TimestampTz),
            Function::AtTimeZone => true,
            function => !function.reads_facts(),
        }
    }

    /// Whether the result depends on the session or the transaction, and so is no constant of the statement.
    pub(super) fn reads_facts(self) -> bool {
        self.reads_moment()
            || matches!(
                self,
                Function::AtTimeZone
                    | Function::Concat
                    | Function::ConcatWs
                    | Function::DatePart
                    | Function::DateTrunc
                    | Function::Extract
            )
    }

    /// Whether the result depends on when or by whom it is called, whatever the settings.
    pub(super) fn reads_moment(self) -> bool {
        self.is_volatile()
            || matches!(
                self,
                Function::CurrentDate
                    | Function::CurrentDatabase
                    | Function::CurrentSchema
                    | Function::CurrentUser
                    | Function::BackendPid
                    | Function::LocalTime
                    | Function::LocalTimestamp
                    | Function::Now
                    | Function::StatementTimestamp
                    | Function::TransactionId
                    | Function::Version
            )
    }

    /// Whether NULL arguments are the function's own business.
    fn takes_null(self) -> bool {
        matches!(self, Function::Concat | Function::ConcatWs | Function::Notify)
    }
}

/// The arguments that functions have at most, but for the variadic ones.
const ARGUMENTS_MAX: usize = 3;

pub(super) fn call<'a>(
    function: Function,
    arguments: &'a [Expr],
    ty: &DataType,
    context: &EvalContext<'a>,
) -> Result<Evaluated<'a>, Error> {
    if function.takes_null() {
        return match function {
            Function::Notify => notify(arguments, context),
            _ => concat(function, arguments, context),
        };
    }
    let mut values = [const { Evaluated::NULL }; ARGUMENTS_MAX];
    if arguments.len() > ARGUMENTS_MAX {
        return Err(Error::internal("a function was bound with too many arguments"));
    }
    for (value, argument) in values.iter_mut().zip(arguments) {
        *value = argument.eval(context)?;
        if value.is_null() {
            return Ok(Evaluated::NULL);
        }
    }
    let [first, second, third] = &values;
    let (a, b, c) = (first.datum(), second.datum(), third.datum());
    if function.is_of_sequences() {
        return of_sequences(function, a, b, c, context).map(Evaluated::Owned);
    }
    let made = match (a, b) {
        (Datum::Text(text), _) => of_text(function, text, b, c, context)?,
        (Datum::Null, _) => Some(of_nothing(function, context)?),
        _ => None,
    };
    match made {
        Some(value) => Ok(Evaluated::Owned(value)),
        None => of_value(function, a, b, c, ty, context).map(Evaluated::Owned),
    }
}

/// `pg_notify`, which takes NULL for an empty text, as PostgreSQL does.
fn notify<'a>(arguments: &'a [Expr], context: &EvalContext<'a>) -> Result<Evaluated<'a>, Error> {
    let [channel, payload] = arguments else {
        return Err(Error::internal("pg_notify was bound without two arguments"));
    };
    let (channel, payload) = (channel.eval(context)?, payload.eval(context)?);
    let text = |value: &Evaluated<'_>| match value.datum() {
        Datum::Text(text) => text.to_owned(),
        _ => String::new(),
    };
    let Some(outbox) = context.facts.outbox else {
        return Err(Error::unsupported("pg_notify in a query that runs on the mirror"));
    };
    outbox.send(Message::new(&text(&channel), &text(&payload))?)?;
    Ok(Evaluated::Owned(Value::Text(String::new())))
}

fn of_sequences(
    function: Function,
    a: Datum<'_>,
    b: Datum<'_>,
    c: Datum<'_>,
    context: &EvalContext<'_>,
) -> Result<Value, Error> {
    let Some(sequences) = context.facts.sequences else {
        return Err(Error::unsupported("a sequence in this expression"));
    };
    let number = match function {
        Function::NextValue => sequences.next(a)?,
        Function::CurrentValue => sequences.current(a)?,
        Function::LastValue => sequences.last()?,
        Function::SetValue => sequences.set(a, integer(b), c != Datum::Bool(false))?,
        _ => {
            let name = match (a, b) {
                (Datum::Text(table), Datum::Text(column)) => sequences.of_column(table, column)?,
                _ => None,
            };
            return Ok(name.map_or(Value::Null, Value::Text));
        }
    };
    Ok(Value::Int8(number))
}

fn text(value: impl Into<String>) -> Result<Value, Error> {
    Ok(Value::Text(value.into()))
}

fn int4(value: usize) -> Value {
    Value::Int4(i32::try_from(value).unwrap_or(i32::MAX))
}

fn of_nothing(function: Function, context: &EvalContext<'_>) -> Result<Value, Error> {
    let facts = context.facts;
    let local = || facts.zone.to_local(facts.transaction_start);
    Ok(match function {
        Function::Now => Value::TimestampTz(facts.transaction_start),
        Function::StatementTimestamp => Value::TimestampTz(facts.statement_start),
        Function::ClockTimestamp => Value::TimestampTz((facts.clock)()),
        Function::CurrentDate => Value::Date(split_timestamp(local()).0),
        Function::LocalTimestamp => Value::Timestamp(local()),
        Function::LocalTime => Value::Time(split_timestamp(local()).1),
        Function::Random => {
            // 53 random bits make a double in [0, 1).
            Value::Float8((next_random(context) >> 11) as f64 / (1u64 << 53) as f64)
        }
        Function::UuidRandom => Value::Uuid(random_uuid(context)),
        Function::Pi => Value::Float8(std::f64::consts::PI),
        Function::Version => return text(facts.version),
        Function::CurrentUser => return text(facts.user),
        Function::CurrentDatabase => return text(facts.database),
        Function::CurrentSchema => return text("public"),
        Function::BackendPid => Value::Int4(facts.backend_pid),
        Function::TransactionId => facts.transaction_id.map_or(Value::Null, |id| {
            Value::Int8(i64::try_from(id).unwrap_or(i64::MAX))
        }),
        other => return Err(Error::internal(format!("{other:?} was bound without arguments"))),
    })
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next_random(context: &EvalContext<'_>) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = context
        .facts
        .random
        .fetch_add(STEP, Ordering::Relaxed)
        .wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Version 4. Keyed by a secret of the process that the operating system gave, so that nobody guesses the next one
/// and no two processes make the same.
fn random_uuid(context: &EvalContext<'_>) -> [u8; 16] {
    static SECRET: OnceLock<[RandomState; 2]> = OnceLock::new();
    let secret = SECRET.get_or_init(|| [RandomState::new(), RandomState::new()]);
    let seed = (
        next_random(context),
        (context.facts.clock)(),
        context.facts.backend_pid,
    );
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&secret[0].hash_one(seed).to_be_bytes());
    uuid[8..].copy_from_slice(&secret[1].hash_one(seed).to_be_bytes());
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn integer(datum: Datum<'_>) -> i64 {
    datum.integer().unwrap_or(0)
}

fn of_text(
    function: Function,
    subject: &str,
    b: Datum<'_>,
    c: Datum<'_>,
    context: &EvalContext<'_>,
) -> Result<Option<Value>, Error> {
    let second = if let Datum::Text(text) = b { text } else { "" };
    let third = if let Datum::Text(text) = c { text } else { "" };
    let blank_or_second = if b.is_null() { " " } else { second };
    let in_set = |character: char| blank_or_second.contains(character);
    let made: Value = match function {
        Function::Lower => text(subject.to_lowercase())?,
        Function::Upper => text(subject.to_uppercase())?,
        Function::Initcap => text(initcap(subject))?,
        Function::CharLength => int4(subject.chars().count()),
        Function::OctetLength => int4(subject.len()),
        Function::Substring => text(substring(subject, integer(b), c.integer())?)?,
        Function::Position => int4(
            subject
                .find(second)
                .map_or(0, |at| subject[..at].chars().count() + 1),
        ),
        Function::StartsWith => Value::Bool(subject.starts_with(second)),
        Function::TrimBoth => text(subject.trim_matches(in_set))?,
        Function::TrimLeft => text(subject.trim_start_matches(in_set))?,
        Function::TrimRight => text(subject.trim_end_matches(in_set))?,
        Function::Replace if second.is_empty() => text(subject)?,
        Function::Replace => {
            let count = subject.matches(second).count();
            check_size(subject.len().saturating_add(count.saturating_mul(third.len())))?;
            text(subject.replace(second, third))?
        }
        Function::Left => text(end(subject, integer(b), true))?,
        Function::Right => text(end(subject, integer(b), false))?,
        Function::Reverse => text(subject.chars().rev().collect::<String>())?,
        Function::Repeat => {
            let count = usize::try_from(integer(b)).unwrap_or(0);
            check_size(subject.len().saturating_mul(count))?;
            text(subject.repeat(count))?
        }
        Function::Lpad | Function::Rpad => {
            let fill = if c.is_null() { " " } else { third };
            text(pad(subject, integer(b), fill, function == Function::Lpad)?)?
        }
        Function::SplitPart => text(split_part(subject, second, integer(c))?)?,
        Function::Ascii => Value::Int4(subject.chars().next().map_or(0, |character| character as i32)),
        Function::ConcatText => {
            check_size(subject.len() + second.len())?;
            let mut joined = String::with_capacity(subject.len() + second.len());
            joined.push_str(subject);
            joined.push_str(second);
            text(joined)?
        }
        Function::PadBlanks => {
            let width = usize::try_from(integer(b)).unwrap_or(0);
            let missing = width.saturating_sub(subject.chars().count());
            check_size(subject.len() + missing)?;
            let mut padded = subject.to_owned();
            padded.extend(std::iter::repeat_n(' ', missing));
            text(padded)?
        }
        Function::Md5 => text(super::md5::hex_digest(subject.as_bytes()))?,
        Function::SimilarTo => {
            let syntax = Syntax::Similar(pattern::escape_character(third)?);
            Value::Bool(pattern::matches(subject, second, syntax)?)
        }
        Function::RegexMatch | Function::RegexMatchFolded => {
            let fold_case = function == Function::RegexMatchFolded;
            Value::Bool(pattern::matches(subject, second, Syntax::Advanced { fold_case })?)
        }
        Function::AtTimeZone => at_time_zone(subject, b)?,
        Function::Extract | Function::DatePart | Function::DateTrunc => {
            of_field(function, subject, b, context)?
        }
        _ => return Ok(None),
    };
    Ok(Some(made))
}

fn of_field(
    function: Function,
    name: &str,
    datum: Datum<'_>,
    context: &EvalContext<'_>,
) -> Result<Value, Error> {
    let ty = match datum {
        Datum::Date(_) => "date",
        Datum::Time(_) => "time without time zone",
        Datum::Timestamp(_) => "timestamp without time zone",
        _ => "timestamp with time zone",
    };
    let lower = name.to_ascii_lowercase();
    let field = Field::parse(&lower).ok_or_else(|| extract::unknown_field(&lower, ty))?;
    match function {
        Function::Extract => extract::extract(field, &lower, datum, context.facts),
        Function::DatePart => extract::date_part(field, &lower, datum, context.facts),
        _ => extract::truncate(field, &lower, datum, context.facts),
    }
}

fn at_time_zone(name: &str, datum: Datum<'_>) -> Result<Value, Error> {
    let zone = TimeZone::named(name)
        .or_else(|| TimeZone::parse(name).ok())
        .ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("time zone \"{name}\" not recognized"),
            )
        })?;
    match datum {
        Datum::Timestamp(local) => check_instant(Some(zone.to_utc(local))).map(Value::TimestampTz),
        Datum::TimestampTz(instant) => check_timestamp(Some(zone.to_local(instant))).map(Value::Timestamp),
        _ => Ok(Value::Null),
    }
}

fn of_value(
    function: Function,
    a: Datum<'_>,
    b: Datum<'_>,
    c: Datum<'_>,
    ty: &DataType,
    context: &EvalContext<'_>,
) -> Result<Value, Error> {
    Ok(match (function, a) {
        (Function::Abs, Datum::Numeric(v)) => Value::Numeric(v.abs()),
        (Function::Abs, Datum::Float8(v)) => Value::Float8(v.abs()),
        (Function::Abs, Datum::Float4(v)) => Value::Float4(v.abs()),
        (Function::Abs, _) => {
            let value = integer(a).checked_abs().ok_or_else(|| out_of_range(ty))?;
            narrow(value, ty)?.to_value()
        }
        (Function::Mod, _) => arithmetic::apply(ArithmeticOp::Modulo, a, b, ty)?.to_value(),
        (Function::Ceil, Datum::Numeric(v)) => Value::Numeric(v.ceil()?),
        (Function::Floor, Datum::Numeric(v)) => Value::Numeric(v.floor()?),
        (Function::Round, Datum::Numeric(v)) => Value::Numeric(v.round(0)?),
        (Function::Truncate, Datum::Numeric(v)) => Value::Numeric(v.truncate(0)?),
        (Function::RoundTo, Datum::Numeric(v)) => Value::Numeric(v.round(digits(b))?),
        (Function::TruncateTo, Datum::Numeric(v)) => Value::Numeric(v.truncate(digits(b))?),
        (Function::Sign, Datum::Numeric(v)) => Value::Numeric(Numeric::from_i64(match () {
            () if v.is_zero() => 0,
            () if v.is_negative() => -1,
            () => 1,
        })),
        (Function::Power, Datum::Float8(base)) => Value::Float8(power(base, b)?),
        (_, Datum::Float8(v)) => Value::Float8(of_float(function, v)?),
        (Function::OctetLength | Function::CharLength, Datum::Bytea(bytes)) => int4(bytes.len()),
        (Function::ConcatBytes, Datum::Bytea(first)) => {
            let second = if let Datum::Bytea(bytes) = b { bytes } else { &[] };
            check_size(first.len() + second.len())?;
            Value::Bytea([first, second].concat())
        }
        (Function::Md5, Datum::Bytea(bytes)) => text(super::md5::hex_digest(bytes))?,
        (Function::Chr, _) => text(chr(integer(a))?)?,
        (Function::MakeDate, _) => make_date(integer(a), integer(b), integer(c))?,
        _ => {
            let _ = context;
            return Err(Error::internal(format!(
                "{function:?} was bound on an argument of another type"
            )));
        }
    })
}

fn digits(datum: Datum<'_>) -> i32 {
    integer(datum).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

fn of_float(function: Function, v: f64) -> Result<f64, Error> {
    Ok(match function {
        Function::Ceil => v.ceil(),
        Function::Floor => v.floor(),
        Function::Round => v.round_ties_even(),
        Function::Truncate => v.trunc(),
        Function::Sign if v > 0.0 => 1.0,
        Function::Sign if v < 0.0 => -1.0,
        Function::Sign => 0.0,
        Function::Sqrt if v < 0.0 => {
            return Err(Error::new(
                SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "cannot take square root of a negative number",
            ));
        }
        Function::Sqrt => v.sqrt(),
        Function::Exp => {
            let result = v.exp();
            check_float(result, v.is_infinite(), v == f64::NEG_INFINITY)?;
            result
        }
        Function::Ln | Function::Log10 if v == 0.0 => {
            return Err(Error::new(
                SqlState::INVALID_ARGUMENT_FOR_LOGARITHM,
                "cannot take logarithm of zero",
            ));
        }
        Function::Ln | Function::Log10 if v < 0.0 => {
            return Err(Error::new(
                SqlState::INVALID_ARGUMENT_FOR_LOGARITHM,
                "cannot take logarithm of a negative number",
            ));
        }
        Function::Ln => v.ln(),
        Function::Log10 => v.log10(),
        other => return Err(Error::internal(format!("{other:?} was bound on a float"))),
    })
}

fn power(base: f64, exponent: Datum<'_>) -> Result<f64, Error> {
    let Datum::Float8(exponent) = exponent else {
        return Err(division_by_zero());
    };
    if base == 0.0 && exponent < 0.0 {
        return Err(Error::new(
            SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            "zero raised to a negative power is undefined",
        ));
    }
    if base < 0.0 && exponent.is_finite() && exponent.trunc() != exponent {
        return Err(Error::new(
            SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    let result = base.powf(exponent);
    let unbounded = base.is_infinite() || exponent.is_infinite();
    check_float(result, unbounded, base == 0.0 || unbounded)?;
    Ok(result)
}

fn make_date(year: i64, month: i64, day: i64) -> Result<Value, Error> {
    use crate::types::datetime::{YEAR_MAX, days_from_civil, days_in_month};
    let field = |value: i64| u32::try_from(value).ok();
    let date = (1..=i64::from(YEAR_MAX))
        .contains(&year)
        .then_some(())
        .and_then(|()| {
            let (month, day) = (field(month)?, field(day)?);
            let year = year as i32;
            ((1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month))
                .then(|| days_from_civil(year, month, day))
        });
    date.map(Value::Date).ok_or_else(|| {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date field value out of range: {year}-{month:02}-{day:02}"),
        )
    })
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > TEXT_BYTES_MAX {
        return Err(
            Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "requested length too large")
                .with_detail(format!("A function makes at most {TEXT_BYTES_MAX} bytes.")),
        );
    }
    Ok(())
}

/// The byte offset of a character, the text's length beyond its end.
fn offset(text: &str, character: usize) -> usize {
    text.char_indices()
        .nth(character)
        .map_or(text.len(), |(at, _)| at)
}

/// Characters from `start` (from 1; before the text counts) and, when given, so many.
fn substring(text: &str, start: i64, length: Option<i64>) -> Result<&str, Error> {
    let end = match length {
        Some(length) if length < 0 => {
            return Err(Error::new(
                SqlState::SUBSTRING_ERROR,
                "negative substring length not allowed",
            ));
        }
        Some(length) => start.saturating_add(length),
        None => i64::MAX,
    };
    let position = |at: i64| usize::try_from(at - 1).unwrap_or(0);
    let rest = &text[offset(text, position(start.max(1)))..];
    Ok(&rest[..offset(
        rest,
        position(end.max(1)) - position(start.max(1)).min(position(end.max(1))),
    )])
}

/// `left` and `right`: so many characters of one end; a negative number leaves so many of the other end out.
fn end(text: &str, count: i64, left: bool) -> &str {
    let wanted = if count >= 0 {
        usize::try_from(count).unwrap_or(usize::MAX)
    } else {
        let left_out = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        text.chars().count().saturating_sub(left_out)
    };
    if left {
        return &text[..offset(text, wanted)];
    }
    let skipped = text.chars().count().saturating_sub(wanted);
    &text[offset(text, skipped)..]
}

fn pad(text: &str, length: i64, fill: &str, left: bool) -> Result<String, Error> {
    let length = usize::try_from(length).unwrap_or(0);
    check_size(length.saturating_mul(4))?;
    let present = text.chars().count();
    if present >= length || fill.is_empty() {
        return Ok(text[..offset(text, length)].to_owned());
    }
    let filling: String = fill.chars().cycle().take(length - present).collect();
    Ok(if left {
        filling + text
    } else {
        text.to_owned() + &filling
    })
}

fn split_part<'t>(text: &'t str, delimiter: &str, field: i64) -> Result<&'t str, Error> {
    if field == 0 {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "field position must not be zero",
        ));
    }
    if delimiter.is_empty() {
        return Ok(if field == 1 || field == -1 { text } else { "" });
    }
    let index = usize::try_from(field.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let part = if field > 0 {
        text.split(delimiter).nth(index)
    } else {
        text.rsplit(delimiter).nth(index)
    };
    Ok(part.unwrap_or(""))
}

fn initcap(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        if inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        inside = character.is_alphanumeric();
    }
    out
}

fn chr(code: i64) -> Result<String, Error> {
    if code == 0 {
        return Err(Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            "null character not permitted",
        ));
    }
    u32::try_from(code)
        .ok()
        .and_then(char::from_u32)
        .map(String::from)
        .ok_or_else(|| {
            Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("requested character too large for encoding: {code}"),
            )
        })
}

/// concat and concat_ws: NULL arguments are left out; a NULL separator makes NULL.
fn concat<'a>(
    function: Function,
    arguments: &'a [Expr],
    context: &EvalContext<'a>,
) -> Result<Evaluated<'a>, Error> {
    let mut arguments = arguments.iter();
    let mut separator = String::new();
    if function == Function::ConcatWs {
        let first = match arguments.next() {
            Some(first) => first.eval(context)?,
            None => return Ok(Evaluated::NULL),
        };
        match first.datum() {
            Datum::Text(text) => separator.push_str(text),
            _ => return Ok(Evaluated::NULL),
        }
    }
    let mut out = String::new();
    let mut first = true;
    for argument in arguments {
        let value = argument.eval(context)?;
        let datum = value.datum();
        let piece: Cow<'_, str> = match datum {
            Datum::Null => continue,
            Datum::Text(text) => text.into(),
            other => cast::output_text(&other, context.facts).into(),
        };
        check_size(out.len() + separator.len() + piece.len())?;
        if !first {
            out.push_str(&separator);
        }
        first = false;
        out.push_str(&piece);
    }
    Ok(Evaluated::Owned(Value::Text(out)))
}
