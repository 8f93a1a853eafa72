//! Statements of a session, and their rows taken out of its messages.

use bytes::{Buf, Bytes, BytesMut};
use scry_sql::error::SqlState;
use scry_sql::{ColumnDescription, Error, Executed, Session};
use std::sync::Arc;

/// Values of one row as text; `None` is NULL.
pub type Row = Vec<Option<Bytes>>;

/// Where the rows of a statement go.
pub trait Sink {
    fn columns(&mut self, columns: &[ColumnDescription]) -> Result<(), Error>;
    fn row(&mut self, row: &Row) -> Result<(), Error>;
}

/// Runs a statement that has a result, in a transaction of its own unless one is open.
pub async fn run(
    session: &mut Session,
    sql: &str,
    params: &[&str],
    sink: &mut impl Sink,
) -> Result<(), Error> {
    let mut result = execute(session, sql, params, Some(sink)).await;
    if let Err(error) = session.sync().await {
        result = Err(error);
    }
    result
}

/// Runs a statement whose rows nobody wants.
pub async fn perform(session: &mut Session, sql: &str, params: &[&str]) -> Result<(), Error> {
    let mut result = execute(session, sql, params, None::<&mut Nowhere>).await;
    if let Err(error) = session.sync().await {
        result = Err(error);
    }
    result
}

/// Runs a statement and gives the first value of its first row; `None` is NULL, or no row.
pub async fn value(session: &mut Session, sql: &str, params: &[&str]) -> Result<Option<String>, Error> {
    let mut first = First::default();
    run(session, sql, params, &mut first).await?;
    let value = first.0.and_then(|row| row.into_iter().next().flatten());
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

/// Keeps the first row.
#[derive(Default)]
struct First(Option<Row>);

impl Sink for First {
    fn columns(&mut self, _: &[ColumnDescription]) -> Result<(), Error> {
        Ok(())
    }

    fn row(&mut self, row: &Row) -> Result<(), Error> {
        self.0.get_or_insert_with(|| row.clone());
        Ok(())
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn columns(&mut self, _: &[ColumnDescription]) -> Result<(), Error> {
        Ok(())
    }

    fn row(&mut self, _: &Row) -> Result<(), Error> {
        Ok(())
    }
}

async fn execute(
    session: &mut Session,
    sql: &str,
    params: &[&str],
    mut sink: Option<&mut impl Sink>,
) -> Result<(), Error> {
    session.prepare("", sql, &[]).await?;
    let wanted = session.describe_statement("").await?.params.len();
    if wanted > params.len() {
        session.fail();
        let text = format!("there is no parameter ${}", params.len() + 1);
        return Err(Error::new(SqlState::UNDEFINED_PARAMETER, text));
    }
    let params: Vec<Option<&[u8]>> = params.iter().map(|param| Some(param.as_bytes())).collect();
    session.bind("", "", &[], &params, &[]).await?;
    if let Some(sink) = &mut sink {
        let described: Option<(Arc<[ColumnDescription]>, _)> = session.describe_portal("")?;
        let Some((columns, _)) = described else {
            let error = Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a statement without a result is no query",
            );
            session.fail();
            return Err(error);
        };
        sink.columns(&columns)?;
    }
    let mut out = BytesMut::new();
    let mut step = session.execute("", 0, &mut out).await;
    loop {
        let executed = step?;
        if let Some(sink) = &mut sink
            && let Err(error) = take(&mut out, *sink)
        {
            session.fail();
            return Err(error);
        }
        out.clear();
        match executed {
            Executed::MoreRows => step = session.resume(&mut out).await,
            Executed::CopyIn => return Err(session.copy_fail("COPY over HTTP")),
            Executed::Complete(_) | Executed::Suspended | Executed::Empty => return Ok(()),
        }
    }
}

/// Hands the rows in whole messages to the sink.
fn take(out: &mut BytesMut, sink: &mut impl Sink) -> Result<(), Error> {
    let mut rest = out.split().freeze();
    let mut row = Row::new();
    while rest.remaining() >= 5 {
        let tag = rest.get_u8();
        let length = rest.get_u32() as usize;
        let mut body = rest.split_to(length.saturating_sub(4).min(rest.len()));
        if tag != b'D' {
            continue;
        }
        row.clear();
        for _ in 0..body.get_u16() {
            row.push(match usize::try_from(body.get_i32()) {
                Err(_) => None,
                Ok(length) => Some(body.split_to(length.min(body.len()))),
            });
        }
        sink.row(&row)?;
    }
    Ok(())
}
