//! Running a plan: bind, optimise and execute on the analytic workers; batches come back over a bounded channel.

use super::error::from_datafusion;
use super::names::Scope;
use super::plan::AnalyticPlan;
use super::runtime::Analytic;
use super::scan::{Source, StatementSource};
use crate::error::{Error, SqlState};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Batches that wait for a slow client before the query waits too: enough to overlap the two, at most a few MiB.
const BATCHES_WAITING: usize = 4;

/// The rows of one execution. Dropping it ends the query.
#[derive(Debug)]
pub struct RowStream {
    receiver: mpsc::Receiver<Message>,
    task: AbortHandle,
    finished: bool,
}

/// What the query's task sends. The end is said aloud, so that a task that died is not taken for one that finished.
#[derive(Debug)]
enum Message {
    Rows(RecordBatch),
    Failed(Error),
    End,
}

impl RowStream {
    /// The next batch, never empty; `None` at the end.
    ///
    /// # Errors
    /// When the query failed. Nothing follows an error.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        if self.finished {
            return Ok(None);
        }
        match self.receiver.recv().await {
            Some(Message::Rows(batch)) => Ok(Some(batch)),
            Some(Message::End) => {
                self.finished = true;
                Ok(None)
            }
            Some(Message::Failed(error)) => {
                self.finished = true;
                Err(error)
            }
            None => {
                self.finished = true;
                Err(Error::new(
                    SqlState::INTERNAL_ERROR,
                    "a worker of the query failed",
                ))
            }
        }
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Analytic {
    /// Runs a plan over `source`. `params` are the values of `$1…$n` in the plan's types.
    pub fn execute(
        &self,
        plan: &AnalyticPlan,
        source: Source,
        scope: &Scope,
        params: Vec<ScalarValue>,
    ) -> RowStream {
        let (sender, receiver) = mpsc::channel(BATCHES_WAITING);
        let state = self.state(source, scope);
        let logical = plan.logical().clone();
        let task = self.workers().spawn(async move {
            let last = match run(state, logical, params, &sender).await {
                Ok(()) => Message::End,
                Err(error) => Message::Failed(from_datafusion(error)),
            };
            // Nobody listens any more when this fails.
            let _ = sender.send(last).await;
        });
        RowStream {
            receiver,
            task: task.abort_handle(),
            finished: false,
        }
    }

    /// The optimised logical and the physical plan, a line each node.
    ///
    /// # Errors
    /// As executing would.
    pub async fn explain(
        &self,
        plan: &AnalyticPlan,
        source: Source,
        scope: &Scope,
        params: Vec<ScalarValue>,
    ) -> Result<Vec<String>, Error> {
        let state = self.state(source, scope);
        let logical = plan.logical().clone();
        let task = self.workers().spawn(async move {
            let logical = state.optimize(&bound(logical, params)?)?;
            let physical = state
                .query_planner()
                .create_physical_plan(&logical, &state)
                .await?;
            let mut lines: Vec<String> = logical
                .display_indent()
                .to_string()
                .lines()
                .map(str::to_owned)
                .collect();
            lines.push(String::new());
            lines.extend(
                displayable(physical.as_ref())
                    .indent(false)
                    .to_string()
                    .lines()
                    .map(str::to_owned),
            );
            Ok::<_, datafusion::error::DataFusionError>(lines)
        });
        match task.await {
            Ok(lines) => lines.map_err(from_datafusion),
            Err(_) => Err(Error::new(
                SqlState::INTERNAL_ERROR,
                "a worker of the query failed",
            )),
        }
    }

    /// The template with this statement's source and time.
    fn state(&self, source: Source, scope: &Scope) -> SessionState {
        let mut state = self.template.clone();
        state
            .config_mut()
            .set_extension(Arc::new(StatementSource::new(source)));
        let since_epoch = Duration::from_micros(u64::try_from(scope.now.get()).unwrap_or(0));
        state.execution_props_mut().query_execution_start_time = Some((UNIX_EPOCH + since_epoch).into());
        state
    }
}

fn bound(logical: LogicalPlan, params: Vec<ScalarValue>) -> datafusion::common::Result<LogicalPlan> {
    if params.is_empty() {
        return Ok(logical);
    }
    let values = params
        .into_iter()
        .map(|value| ScalarAndMetadata::new(value, None))
        .collect();
    logical.replace_params_with_values(&ParamValues::List(values))
}

async fn physical_plan(
    state: &SessionState,
    logical: LogicalPlan,
    params: Vec<ScalarValue>,
) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
    state.create_physical_plan(&bound(logical, params)?).await
}

async fn run(
    state: SessionState,
    logical: LogicalPlan,
    params: Vec<ScalarValue>,
    sender: &mpsc::Sender<Message>,
) -> datafusion::common::Result<()> {
    let plan = physical_plan(&state, logical, params).await?;
    let context = TaskContext::new(
        None,
        state.session_id().to_owned(),
        state.config().clone(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        state.runtime_env().clone(),
    );
    let mut rows = execute_stream(plan, Arc::new(context))?;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 && sender.send(Message::Rows(batch)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
