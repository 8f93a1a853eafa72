//! Predictions at work: asked of futures, and compared with what an election leaves.

use super::Session;
use crate::collision as rules;
use crate::dialect::literal;
use crate::error::{Error, SqlState};
use crate::plan::parse;
use crate::predictions::{self, Open, Outcome, Prediction};
use crate::privilege;
use crate::types;
use scry_engine::election::Privileges;
use scry_engine::{CandidateState, DataType, ElectionState, Value};
use scry_wal::Lsn;
use std::collections::HashMap;

impl Session {
    /// Asks a query of every open candidate's future that the mirror has, and keeps the answers. Answers how many candidates
    /// there are.
    pub(super) async fn predict(&mut self, election: &str, class: &str, query: &str) -> Result<u64, Error> {
        self.transaction.check_writable(&self.settings, "scry.predict")?;
        if self.settings.candidate().is_some() {
            return Err(Error::unsupported("scry.predict inside a candidate")
                .with_hint("RESET scry.candidate first."));
        }
        parse::single_query("scry.predict", query).map_err(Error::nowhere)?;
        let (catalog, user) = (self.catalog(), self.identity.user.clone());
        privilege::check_named(&catalog, election, &user, Privileges::READ)?;
        // Everybody reads the table.
        let known = catalog.elections().get(election);
        if known.is_some_and(|election| !election.is_public()) {
            return Err(Error::unsupported(
                "keeping predictions of an election that PUBLIC may not read",
            ));
        }
        predictions::TABLE.ensure(self.database.engine()).await?;
        self.transaction.statement(&mut self.engine, &self.settings)?;
        let asked = format!(
            "SELECT candidate, value FROM scry.compare({}, {}) WHERE candidate IS NOT NULL ORDER BY candidate",
            literal(election),
            literal(&format!("SELECT (\n{}\n) AS value", bare(query)))
        );
        let mark = self.settings.mark();
        self.settings.read_present(false);
        let answers = self.texts(&asked).await;
        self.settings.back_to(&mark);
        let answers = answers?;
        let txn = self.transaction.open_txn()?;
        let evaluate = rules::evaluator();
        let at = txn.snapshot();
        let catalog = txn.catalog().clone();
        let mut made = Vec::new();
        for answer in answers {
            let [Some(name), predicted] = &answer[..] else {
                return Err(Error::internal("a comparison of futures with other columns"));
            };
            let (_, candidate) = catalog.elections().open(election, name)?;
            let conflicts = txn.conflicts(election, name, &evaluate)?.len();
            let mut add = |class: &str, query: &str, predicted: Option<String>| {
                made.push(Prediction {
                    candidate: name.clone(),
                    candidate_id: candidate.id,
                    class: class.to_owned(),
                    query: query.to_owned(),
                    predicted,
                });
            };
            add(class, bare(query), predicted.clone());
            add(predictions::ROWS, "", Some(candidate.rows().to_string()));
            add(predictions::CONFLICTS, "", Some(conflicts.to_string()));
        }
        let adding = predictions::add(txn, election, &made, at, (&user, self.times.statement));
        self.interrupt.locking(adding).await??;
        self.transaction.wrote("PREDICT");
        Ok(made.len() as u64 / 3)
    }

    /// Keeps what ELECT BEST has asked, as of `at`.
    pub(super) async fn predict_best(
        &mut self,
        election: &str,
        best: &[Prediction],
        at: Lsn,
    ) -> Result<(), Error> {
        let txn = self.transaction.open_txn()?;
        // A transaction that is older than the table goes without.
        if best.is_empty() || predictions::TABLE.table(txn.catalog()).is_none() {
            return Ok(());
        }
        let known = txn.catalog().elections().get(election);
        if !known.is_some_and(|election| election.is_public()) {
            return Ok(());
        }
        let asked = (self.identity.user.as_str(), self.times.statement);
        let adding = predictions::add(txn, election, best, at, asked);
        self.interrupt.locking(adding).await?
    }

    /// Compares what was predicted with the state that an election leaves, in the transaction that elects.
    pub(super) async fn settle_predictions(
        &mut self,
        election: &str,
        candidate: &str,
        rows: u64,
        conflicts: usize,
    ) -> Result<(), Error> {
        let txn = self.transaction.open_txn()?;
        let open = predictions::open(txn, election)?;
        if open.is_empty() {
            return Ok(());
        }
        // A candidate that may still be elected is waited for.
        let catalog = txn.catalog().clone();
        let election = catalog.elections().get(election);
        let waits = |id: u64| {
            let election = election.filter(|election| election.state == ElectionState::Open);
            let mut candidates = election.iter().flat_map(|election| election.candidates());
            candidates.any(|candidate| candidate.id == id && candidate.state == CandidateState::Open)
        };
        let elected = election.and_then(|election| election.candidate(candidate));
        let elected = elected.map(|candidate| candidate.id);
        let mut answers: HashMap<(String, String), Outcome> = HashMap::new();
        for prediction in &open {
            let outcome = match prediction {
                Open { candidate_id, .. } if Some(*candidate_id) != elected => match waits(*candidate_id) {
                    true => continue,
                    false => &Outcome::Lost,
                },
                Open { class, query, .. } if query.is_empty() => {
                    let figure = match class.as_str() {
                        predictions::ROWS => rows.to_string(),
                        _ => conflicts.to_string(),
                    };
                    &Outcome::Met(Some(figure))
                }
                Open { query, by, .. } => {
                    let asked = (query.clone(), by.clone());
                    if !answers.contains_key(&asked) {
                        let answer = self.answer_at_present(query, by).await?;
                        answers.insert(asked.clone(), answer);
                    }
                    &answers[&asked]
                }
            };
            let now = self.times.statement;
            let txn = self.transaction.open_txn()?;
            let at = txn.snapshot();
            let settling = predictions::settle(txn, prediction, outcome, at, now);
            self.interrupt.locking(settling).await??;
        }
        Ok(())
    }

    /// What a query answers in this transaction, with its own changes, to who has asked it before.
    async fn answer_at_present(&mut self, query: &str, by: &str) -> Result<Outcome, Error> {
        let mark = self.settings.mark();
        self.settings
            .read_present(self.database.mirror().held().is_some());
        let asked = format!("SELECT (\n{query}\n) AS value");
        let user = std::mem::replace(&mut self.identity.user, by.to_owned());
        let answered = self.texts(&asked).await;
        self.identity.user = user;
        self.settings.back_to(&mark);
        match answered {
            Ok(rows) => Ok(Outcome::Met(rows.into_iter().flatten().next().flatten())),
            // What takes too long fails by itself.
            Err(error) if error.code == SqlState::QUERY_CANCELED && self.cancel.requested() => Err(error),
            Err(_) => Ok(Outcome::Failed),
        }
    }

    /// The rows that a query answers, as texts.
    async fn texts(&mut self, asked: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        let asking = self.query_values(asked, |_| Ok(()));
        let (types, rows) = asking.await.map_err(Error::nowhere)?;
        let zone = self.settings.zone();
        let text = |(value, ty): (&Value, &DataType)| types::as_text(&value.as_datum(), ty, zone);
        let rows = rows.iter().map(|row| row.iter().zip(&types).map(text).collect());
        Ok(rows.collect())
    }
}

/// A query without what ends it.
pub(super) fn bare(query: &str) -> &str {
    query.trim().trim_end_matches(';')
}
