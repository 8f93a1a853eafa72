//! ELECT CANDIDATE, ELECT BEST and REBASE CANDIDATE at work.

use super::prediction::bare;
use super::{Notice, Session};
use crate::collision as rules;
use crate::conflicts;
use crate::dialect::literal;
use crate::error::{Error, SqlState};
use crate::plan::parse;
use crate::plan::statement::ElectionStatement;
use crate::predictions::{self, Prediction};
use crate::types;
use scry_engine::election::change::Score;
use scry_engine::election::{OnConflict, Scores};
use scry_engine::{DataType, Error as EngineError, Txn, Value};
use scry_wal::Lsn;
use std::cmp::Ordering;

/// What electing or rebasing did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub rows: u64,
    /// Of ELECT BEST.
    pub winner: Option<String>,
}

/// Why a candidate was chosen.
struct Chosen {
    /// With the snapshot at which they were asked.
    scores: (Lsn, Scores),
    best: Vec<Prediction>,
}

/// What the future of one candidate answers.
struct Answer {
    candidate: String,
    score: Value,
    ty: DataType,
    admissible: bool,
}

impl Session {
    /// Runs one of the three; `None`: it is another statement.
    pub(super) async fn elects(&mut self, statement: &ElectionStatement) -> Result<Option<Done>, Error> {
        Ok(Some(match statement {
            ElectionStatement::Elect {
                candidate,
                election,
                on_conflict,
            } => {
                self.elect(election, candidate, *on_conflict, None, "ELECT CANDIDATE")
                    .await?
            }
            ElectionStatement::Rebase {
                candidate,
                election,
                on_conflict,
            } => self.rebase(election, candidate, *on_conflict).await?,
            ElectionStatement::ElectBest {
                election,
                query,
                subject,
                maximize,
                on_conflict,
            } => {
                predictions::TABLE.ensure(self.database.engine()).await?;
                let scored_at = self.begun()?.snapshot();
                let scores = self
                    .scores(election, query, subject.as_deref(), *maximize)
                    .await?;
                let winner = scores.scores.iter().find(|score| score.elected).cloned();
                let Some(winner) = winner else {
                    return Err(none_admissible(election, &scores));
                };
                let catalog = self.catalog();
                let id = |name: &str| {
                    let election = catalog.elections().get(election);
                    let candidate = election.and_then(|election| election.candidate(name));
                    candidate.map_or(0, |candidate| candidate.id)
                };
                let best = scores.scores.iter().map(|score| Prediction {
                    candidate_id: id(&score.candidate),
                    candidate: score.candidate.clone(),
                    class: predictions::BEST.to_owned(),
                    query: bare(query).to_owned(),
                    predicted: score.score.clone(),
                });
                let chosen = Chosen {
                    best: best.collect(),
                    scores: (scored_at, scores),
                };
                let done = self
                    .elect(
                        election,
                        &winner.candidate,
                        *on_conflict,
                        Some(chosen),
                        "ELECT BEST",
                    )
                    .await?;
                let told = format!(
                    "candidate \"{election}/{}\" is elected with {}",
                    winner.candidate,
                    winner.score.as_deref().unwrap_or("NULL")
                );
                self.notices
                    .push(Notice(Error::new(SqlState::SUCCESSFUL_COMPLETION, told)));
                Done {
                    winner: Some(winner.candidate),
                    ..done
                }
            }
            _ => return Ok(None),
        }))
    }

    fn begun(&mut self) -> Result<&mut Txn, Error> {
        self.transaction.statement(&mut self.engine, &self.settings)
    }

    async fn elect(
        &mut self,
        election: &str,
        candidate: &str,
        on_conflict: OnConflict,
        chosen: Option<Chosen>,
        tag: &'static str,
    ) -> Result<Done, Error> {
        let (scores, best) = match chosen {
            Some(Chosen { best, scores }) => (Some(scores), best),
            None => (None, Vec::new()),
        };
        let scored_at = scores.as_ref().map_or(Lsn::ZERO, |(at, _)| *at);
        if self.is_of_statements(election, candidate) {
            let rows = self.elect_again(election, candidate, scores, tag).await?;
            self.predict_best(election, &best, scored_at).await?;
            self.settle_predictions(election, candidate, rows, 0).await?;
            return Ok(Done { rows, winner: None });
        }
        if on_conflict != OnConflict::Fail {
            conflicts::TABLE.ensure(self.database.engine()).await?;
        }
        let txn = self.transaction.statement(&mut self.engine, &self.settings)?;
        let evaluate = rules::evaluator();
        let electing = txn.elect_for(election, candidate, on_conflict, &evaluate, scores);
        let elected = match self.interrupt.locking(electing).await? {
            Err(EngineError::Conflicts { .. }) => return Err(self.conflicts(election, candidate)?),
            other => other?,
        };
        self.defer(election, candidate, &elected.conflicts).await?;
        self.predict_best(election, &best, scored_at).await?;
        self.settle_predictions(election, candidate, elected.changed, elected.conflicts.len())
            .await?;
        Ok(Done {
            rows: elected.changed,
            winner: None,
        })
    }

    async fn rebase(
        &mut self,
        election: &str,
        candidate: &str,
        on_conflict: OnConflict,
    ) -> Result<Done, Error> {
        if self.is_of_statements(election, candidate) {
            let rows = self.rebase_again(election, candidate).await?;
            return Ok(Done { rows, winner: None });
        }
        let txn = self.transaction.statement(&mut self.engine, &self.settings)?;
        let evaluate = rules::evaluator();
        let rebasing = txn.rebase(election, candidate, on_conflict, &evaluate);
        let met = match self.interrupt.locking(rebasing).await? {
            Err(EngineError::Conflicts { .. }) => return Err(self.conflicts(election, candidate)?),
            other => other?,
        };
        Ok(Done {
            rows: met.len() as u64,
            winner: None,
        })
    }

    /// What the futures of an election answer, all at one moment; the best admissible one is marked as elected. Of equal
    /// answers the first by the candidate's name wins.
    async fn scores(
        &mut self,
        election: &str,
        query: &str,
        subject: Option<&str>,
        maximize: bool,
    ) -> Result<Scores, Error> {
        for text in [Some(query), subject].into_iter().flatten() {
            parse::single_query("ELECT BEST", text).map_err(Error::nowhere)?;
        }
        // On lines of their own: the last of a query may be a comment.
        let subject_text = bare(subject.unwrap_or("true"));
        let asked = format!(
            "SELECT (\n{}\n) AS score, (\n{subject_text}\n) AS admissible",
            bare(query)
        );
        let asked = format!(
            "SELECT candidate, score, admissible FROM scry.compare({}, {}) \
             WHERE candidate IS NOT NULL ORDER BY candidate",
            literal(election),
            literal(&asked)
        );
        let answers = self.answers(&asked).await.map_err(Error::nowhere)?;
        let best = answers
            .iter()
            .filter(|answer| answer.admissible && !answer.score.is_null())
            .reduce(|best, answer| {
                let order = answer.score.as_datum().compare(&best.score.as_datum());
                let wanted = if maximize {
                    Ordering::Greater
                } else {
                    Ordering::Less
                };
                if order == wanted { answer } else { best }
            });
        let winner = best.map(|best| best.candidate.clone());
        let zone = self.settings.zone();
        let score = |answer: Answer| Score {
            score: types::as_text(&answer.score.as_datum(), &answer.ty, zone),
            admissible: answer.admissible,
            elected: winner.as_ref() == Some(&answer.candidate),
            candidate: answer.candidate,
        };
        Ok(Scores {
            query: match subject {
                Some(subject) => format!("{query} SUBJECT TO {subject}"),
                None => query.to_owned(),
            },
            maximize,
            scores: answers.into_iter().map(score).collect(),
        })
    }

    async fn answers(&mut self, asked: &str) -> Result<Vec<Answer>, Error> {
        let accept = |types: &[DataType]| match types {
            [_, _, DataType::Bool] => Ok(()),
            _ => Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                "the query of SUBJECT TO must answer a boolean",
            )),
        };
        let (types, rows) = self.query_values(asked, accept).await?;
        let rows = rows.into_iter().map(|row| match <[Value; 3]>::try_from(row) {
            Ok([Value::Text(candidate), score, admissible]) => Ok(Answer {
                candidate,
                score,
                ty: types[1],
                admissible: admissible == Value::Bool(true),
            }),
            _ => Err(Error::internal("a comparison of futures with other columns")),
        });
        rows.collect()
    }
}

fn none_admissible(election: &str, scores: &Scores) -> Error {
    let lines = scores.scores.iter().map(|score| {
        let value = score.score.as_deref().unwrap_or("NULL");
        let sign = if score.admissible { "" } else { ", not admissible" };
        format!("{}: {value}{sign}", score.candidate)
    });
    let detail = lines.collect::<Vec<_>>().join("\n");
    let error = Error::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("no candidate of election \"{election}\" is admissible"),
    );
    match detail.is_empty() {
        true => error.with_detail("It has no open candidate in the mirror."),
        false => error.with_detail(detail),
    }
}
