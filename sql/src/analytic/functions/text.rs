//! Scalar functions written as closures over columns, and the PostgreSQL ones that need no catalog.

use super::bridge::Circumstances;
use super::to_char;
use crate::analytic::error::external;
use crate::analytic::types::utc_timestamp;
use crate::error::Error;
use crate::types::TimeZone;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What `version()` says: the PostgreSQL version that clients may count on comes first.
pub const VERSION: &str = concat!(
    "PostgreSQL 15.0 (scry ",
    env!("CARGO_PKG_VERSION"),
    ") on x86_64-pc-linux-gnu, 64-bit"
);

/// The argument types of a function: what each given argument is cast to. Optional arguments stand at the end.
#[derive(Debug, Clone)]
pub struct Arity {
    pub types: Vec<DataType>,
    pub required: usize,
}

impl Arity {
    pub fn exact(types: &[DataType]) -> Self {
        Arity {
            types: types.to_vec(),
            required: types.len(),
        }
    }

    pub fn optional(required: usize, types: &[DataType]) -> Self {
        Arity {
            types: types.to_vec(),
            required,
        }
    }
}

type Body = dyn Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync;

/// A scalar function whose body maps whole columns. Two of the same name count as equal: they never meet in one plan
/// with different bodies.
pub struct ClosureFunction {
    name: &'static str,
    arity: Arity,
    returns: FieldRef,
    signature: Signature,
    body: Arc<Body>,
}

impl ClosureFunction {
    /// `body` gets the arguments as columns and the number of rows; without arguments a one-row result stands for all.
    pub fn function(
        name: &'static str,
        arity: Arity,
        returns: FieldRef,
        volatility: Volatility,
        body: impl Fn(&[ArrayRef], usize) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(ClosureFunction {
            name,
            arity,
            returns,
            signature: Signature::user_defined(volatility),
            body: Arc::new(body),
        }))
    }
}

impl fmt::Debug for ClosureFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClosureFunction")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl PartialEq for ClosureFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ClosureFunction {}

impl Hash for ClosureFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for ClosureFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() < self.arity.required || types.len() > self.arity.types.len() {
            return plan_err!("Invalid function '{}' with {} arguments", self.name, types.len());
        }
        let wanted = self.arity.types.iter().zip(types);
        let coerced = wanted.map(|(wanted, given)| match (wanted, given) {
            // Which local time an instant is, is for the session's zone to say.
            (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(_))) => Ok(utc_timestamp()),
            (DataType::Timestamp(..), given)
                if given.is_numeric() || matches!(given, DataType::Interval(_) | DataType::Duration(_)) =>
            {
                Err(external(Error::unsupported(format!(
                    "{} of anything but dates and timestamps",
                    self.name
                ))))
            }
            _ => Ok(wanted.clone()),
        });
        coerced.collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(self.returns.as_ref().clone().with_name(self.name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let columns: Vec<ArrayRef> = args
            .args
            .iter()
            .map(|arg| arg.to_array(rows))
            .collect::<Result<_>>()?;
        let result = (self.body)(&columns, rows)?;
        if !scalar {
            return Ok(ColumnarValue::Array(result));
        }
        if result.is_empty() {
            return exec_err!("{} gave no result", self.name);
        }
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
    }
}

fn text() -> FieldRef {
    crate::analytic::types::named_field(DataType::Utf8, "text")
}

/// A function of one text to a text.
fn mapped(name: &'static str, map: fn(&str) -> String) -> Arc<ScalarUDF> {
    ClosureFunction::function(
        name,
        Arity::exact(&[DataType::Utf8]),
        text(),
        Volatility::Immutable,
        move |args, _| {
            let values = args[0].as_string::<i32>();
            Ok(Arc::new(
                values.iter().map(|value| value.map(map)).collect::<StringArray>(),
            ))
        },
    )
}

/// `quote_ident`: quotes where the name would not read back as itself.
pub fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&name);
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Words of PostgreSQL's reserved list that are likely names.
const RESERVED: [&str; 32] = [
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "case",
    "cast",
    "check",
    "column",
    "constraint",
    "create",
    "default",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "from",
    "grant",
    "group",
    "in",
    "limit",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "primary",
    "select",
    "user",
];

fn quote_literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// The present time.
fn moment(name: &'static str, volatility: Volatility) -> Arc<ScalarUDF> {
    let instant = crate::analytic::types::field_of(&scry_engine::DataType::TimestampTz);
    ClosureFunction::function(name, Arity::exact(&[]), instant, volatility, |_, rows| {
        let now = TimestampMicrosecondArray::from_value(crate::session::now_micros(), rows.max(1));
        Ok(Arc::new(now.with_timezone("UTC")))
    })
}

/// The timestamps of an argument, instants by the clock of the session's zone.
pub(super) fn local_times(argument: &ArrayRef, zone: &TimeZone) -> TimestampMicrosecondArray {
    let times = argument.as_primitive::<TimestampMicrosecondType>();
    match argument.data_type() {
        DataType::Timestamp(_, Some(_)) => times.unary(|instant| zone.to_local(instant)),
        _ => times.clone(),
    }
}

/// `to_char` of dates and timestamps.
pub fn to_char(circumstances: Arc<Circumstances>) -> Arc<ScalarUDF> {
    let arity = Arity::exact(&[DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Utf8]);
    ClosureFunction::function("to_char", arity, text(), Volatility::Stable, move |args, _| {
        let times = local_times(&args[0], &circumstances.zone);
        let templates = args[1].as_string::<i32>();
        let written: Result<StringArray> = times
            .iter()
            .zip(templates)
            .map(|(time, template)| match (time, template) {
                (Some(time), Some(template)) => {
                    to_char::timestamp(time, template).map(Some).map_err(external)
                }
                _ => Ok(None),
            })
            .collect();
        Ok(Arc::new(written?))
    })
}

/// The functions that are the same for all sessions.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(super::arrays::array_or_empty()),
        Arc::new(super::arrays::positions()),
        Arc::new(super::arrays::array_upper()),
        Arc::new(super::arrays::only()),
        Arc::new(super::arrays::first()),
        moment("statement_timestamp", Volatility::Stable),
        moment("clock_timestamp", Volatility::Volatile),
        mapped("quote_ident", quote_ident),
        mapped("quote_literal", quote_literal),
        ClosureFunction::function(
            "version",
            Arity::exact(&[]),
            text(),
            Volatility::Stable,
            |_, _| Ok(Arc::new(StringArray::from(vec![VERSION]))),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_where_they_must_be() {
        assert_eq!(quote_ident("plain_1"), "plain_1");
        assert_eq!(quote_ident("Mixed"), "\"Mixed\"");
        assert_eq!(quote_ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_ident("order"), "\"order\"");
        assert_eq!(quote_literal("o'k"), "'o''k'");
    }
}
