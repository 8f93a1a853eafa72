//! Functions that stand for statements, at work.

use super::portal::{Portal, State};
use super::run::Advance;
use super::{Session, facts};
use crate::error::Error;
use crate::exec::message;
use crate::plan::call::CallPlan;
use crate::plan::callable::{Action, Answer, Arguments};
use crate::plan::planner::Kind;
use crate::plan::scalar::{self, Env};
use crate::plan::statement::{SetScope, SettingValue};
use crate::tags::CommandTag;
use crate::types;
use bytes::BytesMut;
use scry_engine::Datum;

impl Session {
    /// Runs the call and answers its one row.
    pub(super) async fn call(&mut self, portal: &mut Portal, out: &mut BytesMut) -> Result<Advance, Error> {
        let planned = portal.planned.clone();
        let Kind::Call(plan) = &planned.kind else {
            return Err(Error::internal("not a call"));
        };
        let arguments = self.arguments(plan, portal)?;
        let (rows, done, winner) = match (plan.callable.action)(&arguments)? {
            Action::Election(statement) => {
                let outcome = self.run_election(&statement).await?;
                (outcome.rows, outcome.done, outcome.winner)
            }
            Action::Resolve { id, action, values } => {
                (self.resolve_conflict(id, action, &values).await?, true, None)
            }
            Action::Predict {
                election,
                class,
                query,
            } => (self.predict(&election, &class, &query).await?, true, None),
            Action::Savepoint(savepoint) => (0, self.savepoint(&savepoint).await?, None),
            Action::Set(settings) => {
                for (name, value) in settings {
                    self.set(SetScope::Session, name, &SettingValue::Text(value))?;
                }
                (0, true, None)
            }
        };
        let answer = plan.callable.answer;
        let value = match answer {
            Answer::Name if arguments.first().is_empty() => Datum::Null,
            Answer::Name => Datum::Text(arguments.first()),
            Answer::Rows => Datum::Int8(i64::try_from(rows).unwrap_or(i64::MAX)),
            Answer::Winner => winner.as_deref().map_or(Datum::Null, Datum::Text),
            Answer::Done => Datum::Bool(done),
        };
        message::row(out, &[(value, answer.ty())], &portal.formats);
        portal.state = State::Done;
        Ok(Advance::Complete(match plan.is_call {
            true => CommandTag::Plain("CALL"),
            false => CommandTag::Select(1),
        }))
    }

    fn arguments(&self, plan: &CallPlan, portal: &Portal) -> Result<Arguments, Error> {
        let facts = facts(&self.identity, &self.settings, self.times);
        let env = Env::new(portal.params.values(), &facts);
        let mut given = Vec::with_capacity(plan.arguments.len());
        for argument in &plan.arguments {
            given.push(match argument {
                None => None,
                Some(argument) => {
                    let value = scalar::eval(argument, &env)?;
                    types::as_text(&value.datum(), &argument.ty(), self.settings.zone())
                }
            });
        }
        Arguments::new(plan.callable, given)
    }
}
