//! Portals: a bound statement, and how far its execution has come.

use crate::analytic::{self, AnalyticPlan, RowStream};
use crate::error::{Error, SqlState};
use crate::exec::interrupt::Interrupt;
use crate::exec::message::{FLUSH_BYTES, Formats, RowBuffer};
use crate::exec::select;
use crate::plan::planner::{Kind, Planned};
use crate::session::prepared::Prepared;
use crate::tags::CommandTag;
use crate::types::{self, Format, InputContext, TimeZone};
use bytes::BytesMut;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use scry_engine::Value;
use std::sync::Arc;

/// Values of `$1…$n`, in the form that the plan's executor takes.
#[derive(Debug)]
pub enum Params {
    Values(Vec<Value>),
    Scalars(Vec<ScalarValue>),
}

impl Default for Params {
    fn default() -> Self {
        Params::Values(Vec::new())
    }
}

impl Params {
    pub fn values(&self) -> &[Value] {
        match self {
            Params::Values(values) => values,
            Params::Scalars(_) => &[],
        }
    }

    /// Reads Bind's values for the portal of that name.
    pub fn decode(
        portal: &str,
        planned: &Planned,
        formats: &[i16],
        values: &[Option<&[u8]>],
        context: &InputContext<'_>,
    ) -> Result<Params, Error> {
        if values.len() != planned.params.len() {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement requires {}",
                    values.len(),
                    planned.params.len()
                ),
            ));
        }
        if formats.len() > 1 && formats.len() != values.len() {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} parameter formats but {} parameters",
                    formats.len(),
                    values.len()
                ),
            ));
        }
        let format = |index: usize| match formats {
            [] => 0,
            [one] => *one,
            many => many[index],
        };
        // Types that only DataFusion has values of: arrays, intervals.
        let foreign = |oid: &u32| types::from_oid(*oid, -1).is_none();
        if matches!(planned.kind, Kind::Analytic(_)) && planned.params.iter().any(foreign) {
            let scalars = values.iter().enumerate().map(|(index, bytes)| {
                analytic::parameter(planned.params[index], format(index), *bytes, context)
                    .map_err(|error| of_parameter(error, portal, index, format(index)))
            });
            return Ok(Params::Scalars(scalars.collect::<Result<_, _>>()?));
        }
        let mut list = Vec::with_capacity(values.len());
        for (index, bytes) in values.iter().enumerate() {
            let ty = &planned.param_types[index];
            list.push(match bytes {
                None => Value::Null,
                Some(bytes) => match Format::from_code(format(index)) {
                    Some(Format::Text) => types::parse_text_bytes(bytes, ty, context)
                        .map_err(|error| of_parameter(error, portal, index, 0))?,
                    Some(Format::Binary) => types::parse_binary(bytes, ty, context)
                        .map_err(|error| of_parameter(error, portal, index, 1))?,
                    None => {
                        return Err(Error::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            format!("unsupported format code: {}", format(index)),
                        ));
                    }
                },
            });
        }
        Ok(Params::Values(list))
    }

    /// For a plan of DataFusion, whose parameters have these types.
    pub fn scalars(&self, oids: &[u32]) -> Result<Vec<ScalarValue>, Error> {
        match self {
            Params::Scalars(scalars) => Ok(scalars.clone()),
            Params::Values(values) => oids
                .iter()
                .zip(values)
                .map(|(oid, value)| analytic::scalar_value(*oid, value))
                .collect(),
        }
    }
}

/// An error with the parameter that it is about.
fn of_parameter(error: Error, portal: &str, index: usize, format: i16) -> Error {
    let portal = match portal {
        "" => "unnamed portal".to_owned(),
        name => format!("portal \"{name}\""),
    };
    let value = if format == 0 { " = '...'" } else { "" };
    error.with_context(format!("{portal} parameter ${}{value}", index + 1))
}

/// A running query of DataFusion.
pub struct Stream {
    plan: AnalyticPlan,
    rows: RowStream,
    /// In which instants are written.
    zone: Arc<TimeZone>,
    batch: Option<(RecordBatch, usize)>,
}

impl Stream {
    pub fn new(plan: AnalyticPlan, rows: RowStream, zone: Arc<TimeZone>) -> Self {
        Stream {
            plan,
            rows,
            zone,
            batch: None,
        }
    }

    /// The next batch, whole.
    pub async fn batch(&mut self, interrupt: &Interrupt) -> Result<Option<RecordBatch>, Error> {
        interrupt.waiting(self.rows.next()).await?
    }

    /// Writes rows until `max_rows` (0: no bound) or the buffer is large.
    pub async fn step(
        &mut self,
        interrupt: &Interrupt,
        formats: &Formats,
        out: &mut BytesMut,
        max_rows: usize,
    ) -> Result<select::Step, Error> {
        let mut written = 0;
        loop {
            let (batch, at) = match self.batch.take() {
                Some(batch) => batch,
                None => match self.batch(interrupt).await? {
                    Some(batch) => (batch, 0),
                    None => {
                        return Ok(select::Step {
                            rows: written as u64,
                            done: true,
                        });
                    }
                },
            };
            let until = match max_rows {
                0 => batch.num_rows(),
                _ => batch.num_rows().min(at + (max_rows - written)),
            };
            let limit = FLUSH_BYTES.max(out.len() + 1);
            let next = analytic::encode(
                self.plan.columns(),
                &batch,
                at..until,
                formats.as_codes(),
                &self.zone,
                out,
                limit,
            )?;
            written += next - at;
            if next < batch.num_rows() {
                self.batch = Some((batch, next));
            }
            if (max_rows != 0 && written >= max_rows) || out.len() >= FLUSH_BYTES {
                return Ok(select::Step {
                    rows: written as u64,
                    done: false,
                });
            }
        }
    }
}

/// How far an execution has come.
pub enum State {
    Ready,
    Rows(select::Running),
    Stream(Box<Stream>),
    /// Everything is done but the sending.
    Buffer(RowBuffer, CommandTag),
    Done,
}

pub struct Portal {
    pub prepared: Arc<Prepared>,
    pub planned: Arc<Planned>,
    pub params: Params,
    pub formats: Formats,
    pub state: State,
}

impl Portal {
    pub fn new(prepared: Arc<Prepared>, planned: Arc<Planned>, params: Params, formats: Formats) -> Self {
        Portal {
            prepared,
            planned,
            params,
            formats,
            state: State::Ready,
        }
    }
}
