//! What a worker knows of its own rows.

use std::collections::BTreeMap;

use super::plan::{Plan, Step};
use crate::random::Random;

/// Money that a worker moved. Its id carries the worker in the high half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    pub source: i64,
    pub target: i64,
    pub amount: i64,
}

/// A worker's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Transfers by id.
    pub transfers: BTreeMap<i64, Transfer>,
    /// Rows of each batch in table `entry`.
    pub batches: BTreeMap<i64, u32>,
    /// Generation and rows of the worker's scratch table, which is only ever replaced as a whole.
    pub scratch: Option<(i64, u32)>,
    /// The worker's elections, with the table that they are about.
    pub plan: Plan,
}

/// One transaction's effect on a worker's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Transfer(i64, Transfer),
    Insert { batch: i64, rows: u32 },
    Delete { batch: i64 },
    Replace { generation: i64, rows: u32 },
    Plan(Step),
}

impl State {
    /// The state after a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Transfer(id, transfer) => {
                self.transfers.insert(*id, *transfer);
            }
            Change::Insert { batch, rows } => {
                self.batches.insert(*batch, *rows);
            }
            Change::Delete { batch } => {
                self.batches.remove(batch);
            }
            Change::Replace { generation, rows } => self.scratch = Some((*generation, *rows)),
            Change::Plan(step) => self.plan.apply(step),
        }
    }

    /// In words, the first thing in which `found` differs.
    pub fn difference(&self, found: &State) -> String {
        for (id, transfer) in &self.transfers {
            match found.transfers.get(id) {
                None => return format!("transfer {id:#x} is missing"),
                Some(other) if other != transfer => {
                    return format!("transfer {id:#x} is {other:?}, not {transfer:?}");
                }
                Some(_) => {}
            }
        }
        if let Some(id) = found.transfers.keys().find(|id| !self.transfers.contains_key(id)) {
            return format!("transfer {id:#x} should not be there");
        }
        for (batch, rows) in &self.batches {
            match found.batches.get(batch) {
                None => return format!("batch {batch} of {rows} rows is missing"),
                Some(other) if other != rows => return format!("batch {batch} has {other} rows of {rows}"),
                Some(_) => {}
            }
        }
        if let Some((batch, rows)) = found
            .batches
            .iter()
            .find(|(batch, _)| !self.batches.contains_key(batch))
        {
            return format!("batch {batch} with {rows} rows should not be there");
        }
        if self.scratch != found.scratch {
            return format!("scratch is {:?}, not {:?}", found.scratch, self.scratch);
        }
        if let Some(difference) = self.plan.difference(&found.plan) {
            return difference;
        }
        "no difference".to_owned()
    }
}

/// A worker's journal: what was acknowledged, and the change that is under way.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    pub acknowledged: State,
    /// The change under way, and whether its COMMIT has been sent.
    pub open: Option<(Change, bool)>,
    /// The last number given to a transfer, batch or generation; a number is never given twice.
    pub last: i64,
    /// Transactions acknowledged since the database is new.
    pub commits: u64,
}

impl Journal {
    /// The next number for a transfer, batch or generation.
    pub fn number(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// Compares with what the server shows after a restart, and settles the change that was open.
    pub fn settle(&mut self, found: &State) -> Result<(), String> {
        let open = self.open.take();
        if *found == self.acknowledged {
            return Ok(());
        }
        if let Some((change, commit_sent)) = open {
            let mut with = self.acknowledged.clone();
            with.apply(&change);
            if *found == with {
                self.acknowledged = with;
                return if commit_sent {
                    Ok(())
                } else {
                    Err(format!("{change:?} is there and was never committed"))
                };
            }
            return Err(format!(
                "{} (open: {change:?}, commit sent: {commit_sent})",
                self.acknowledged.difference(found)
            ));
        }
        Err(self.acknowledged.difference(found))
    }
}

/// The text that a row of a batch carries: known from its place, so that a damaged one shows.
pub fn payload(worker: i64, batch: i64, number: u32, bytes: usize) -> String {
    let mut random = Random::new(((worker as u64) << 48) ^ ((batch as u64) << 16) ^ u64::from(number));
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(&format!("{:016x}", random.bits()));
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::{Change, Journal};

    fn journal() -> Journal {
        let mut journal = Journal::default();
        journal.acknowledged.apply(&Change::Insert { batch: 1, rows: 3 });
        journal
    }

    #[test]
    fn an_open_change_may_be_there_or_not() {
        let mut with = journal().acknowledged;
        with.apply(&Change::Insert { batch: 2, rows: 5 });
        for found in [journal().acknowledged, with] {
            let mut journal = journal();
            journal.open = Some((Change::Insert { batch: 2, rows: 5 }, true));
            assert_eq!(journal.settle(&found), Ok(()));
            assert_eq!(journal.acknowledged, found);
        }
    }

    #[test]
    fn half_a_change_a_lost_one_and_an_unsent_one_are_found() {
        let mut half = journal().acknowledged;
        half.apply(&Change::Insert { batch: 2, rows: 4 });
        let mut open = journal();
        open.open = Some((Change::Insert { batch: 2, rows: 5 }, true));
        assert!(open.settle(&half).is_err());

        assert!(journal().settle(&Default::default()).is_err());

        let mut unsent = journal();
        unsent.open = Some((Change::Insert { batch: 2, rows: 4 }, false));
        assert!(unsent.settle(&half).is_err());
    }
}
