//! A query's result as a stream of Arrow's inter-process format, sent while it is made.

use super::problem::Problem;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use scry_sql::{ArrowRows, Error, Session};

/// What clients ask for in the Accept header.
pub const MEDIA_TYPE: &str = "application/vnd.apache.arrow.stream";

/// Starts the query and waits for its first rows, so that most errors have a status. One that comes later breaks the answer off.
pub async fn run(mut session: Session, sql: &str) -> Result<Response, Problem> {
    let mut rows = session.query_arrow(sql).await?;
    let first = session.next_arrow(&mut rows).await?;
    let sending = Sending {
        writer: StreamWriter::try_new(Vec::new(), rows.schema()).map_err(|error| encoding(&error))?,
        session,
        rows,
        first,
        ended: false,
    };
    let body = stream::try_unfold(sending, |mut sending| async {
        let piece = sending.piece().await?;
        Ok::<_, Error>(piece.map(|piece| (piece, sending)))
    });
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], Body::from_stream(body)).into_response())
}

fn encoding(error: &ArrowError) -> Error {
    Error::internal(format!("the result cannot be written as Arrow: {error}"))
}

/// A result on its way. Dropping it ends the query.
struct Sending {
    session: Session,
    rows: ArrowRows,
    writer: StreamWriter<Vec<u8>>,
    first: Option<RecordBatch>,
    ended: bool,
}

impl Sending {
    /// The next bytes; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        let batch = match self.first.take() {
            Some(batch) => Some(batch),
            None => self.session.next_arrow(&mut self.rows).await?,
        };
        match batch {
            Some(batch) => self.writer.write(&batch).map_err(|error| encoding(&error))?,
            None => {
                self.session.sync().await?;
                self.writer.finish().map_err(|error| encoding(&error))?;
                self.ended = true;
            }
        }
        Ok(Some(std::mem::take(self.writer.get_mut()).into()))
    }
}
