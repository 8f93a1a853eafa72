//! Random transactions, from a seed.

use super::history::{Key, Op, Value};
use crate::random::Random;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys that are in use at one time: few, so that transactions meet.
const KEYS: u64 = 5;
/// Transactions until other keys take their place, so that lists stay short.
const GENERATION: u64 = 120;
/// Most steps of a transaction.
const STEPS_MAX: u64 = 5;

/// How a read finds its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By its key.
    Key,
    /// By its key, and locks it.
    ForUpdate,
    ForShare,
    /// A short range of keys.
    Range,
    /// By a condition for which all rows have to be looked at.
    Search,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Makes the row if there is none.
    Append(Key, Value),
    Write(Key, Value),
    /// Appends to a list, or writes a register, only if there is a row, and reads what it is then.
    Update {
        list: bool,
        key: Key,
        value: Value,
        /// By a condition for which all rows have to be looked at.
        search: bool,
    },
    /// A list, or a register.
    Read {
        list: bool,
        key: Key,
        way: Way,
    },
    /// Opens a savepoint.
    Savepoint,
    /// Closes it; with true, by rolling back to it.
    EndSavepoint {
        back: bool,
    },
}

impl Step {
    /// What it writes; an update only where there is a row.
    pub fn written(&self) -> Option<Op> {
        match *self {
            Step::Append(key, value)
            | Step::Update {
                list: true,
                key,
                value,
                ..
            } => Some(Op::Append(key, value)),
            Step::Write(key, value)
            | Step::Update {
                list: false,
                key,
                value,
                ..
            } => Some(Op::Write(key, value)),
            Step::Read { .. } | Step::Savepoint | Step::EndSavepoint { .. } => None,
        }
    }
}

/// A transaction to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub rollback: bool,
    pub read_only: bool,
}

/// What all sessions of a history have in common: values are given out once, and keys in turn.
#[derive(Debug, Default)]
pub struct Pool {
    first_key: Key,
    transactions: AtomicU64,
    values: AtomicU64,
}

impl Pool {
    /// Keys from `first_key` on.
    pub fn new(first_key: Key) -> Pool {
        Pool {
            first_key,
            ..Pool::default()
        }
    }

    fn value(&self) -> Value {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All keys that may have been used so far.
    pub fn keys(&self) -> std::ops::Range<Key> {
        let generations = self.transactions.load(Ordering::Relaxed) / GENERATION + 1;
        // A range read looks at keys of the next generation, too.
        let keys = u32::try_from((generations + 1) * KEYS).unwrap_or(u32::MAX);
        self.first_key..self.first_key.saturating_add(keys)
    }

    /// The next transaction of a session.
    pub fn plan(&self, random: &mut Random) -> Plan {
        let number = self.transactions.fetch_add(1, Ordering::Relaxed);
        let base = u64::from(self.first_key) + number / GENERATION * KEYS;
        let read_only = random.one_in(6);
        let mut steps = Vec::new();
        let mut open = false;
        for _ in 0..1 + random.below(STEPS_MAX) {
            if !read_only && random.one_in(8) {
                steps.push(match open {
                    false => Step::Savepoint,
                    true => Step::EndSavepoint {
                        back: random.one_in(2),
                    },
                });
                open = !open;
            }
            let key = u32::try_from(base + random.below(KEYS)).unwrap_or(u32::MAX);
            let list = !random.one_in(4);
            steps.push(match random.below(4) {
                0 if !read_only && list => Step::Append(key, self.value()),
                0 if !read_only => Step::Write(key, self.value()),
                1 if !read_only => Step::Update {
                    list,
                    key,
                    value: self.value(),
                    search: random.one_in(4),
                },
                _ => Step::Read {
                    list,
                    key,
                    way: match random.below(16) {
                        0..9 => Way::Key,
                        9 | 10 if !read_only => Way::ForUpdate,
                        11 | 12 if !read_only => Way::ForShare,
                        13 => Way::Search,
                        _ => Way::Range,
                    },
                },
            });
        }
        if open {
            steps.push(Step::EndSavepoint {
                back: random.one_in(2),
            });
        }
        Plan {
            steps,
            rollback: random.one_in(12),
            read_only,
        }
    }
}

/// Keys that a range read looks at.
pub fn range(key: Key) -> std::ops::RangeInclusive<Key> {
    key..=key.saturating_add(1)
}

fn table(list: bool) -> &'static str {
    if list { "lists" } else { "registers" }
}

/// The statement of a step; a read has its rows as key and value.
pub fn sql(step: &Step) -> String {
    match step {
        Step::Append(key, value) => format!(
            "INSERT INTO lists VALUES ({key}, '{value}') ON CONFLICT (k) DO UPDATE SET v = lists.v || ',{value}'"
        ),
        Step::Write(key, value) => format!(
            "INSERT INTO registers VALUES ({key}, '{value}') ON CONFLICT (k) DO UPDATE SET v = '{value}'"
        ),
        Step::Update {
            list,
            key,
            value,
            search,
        } => {
            let column = if *search { "k + 0" } else { "k" };
            let new = match list {
                true => format!("v || ',{value}'"),
                false => format!("'{value}'"),
            };
            format!(
                "UPDATE {} SET v = {new} WHERE {column} = {key} RETURNING k, v",
                table(*list)
            )
        }
        Step::Read { list, key, way } => {
            let condition = match way {
                Way::Key => format!("k = {key}"),
                Way::ForUpdate => format!("k = {key} FOR UPDATE"),
                Way::ForShare => format!("k = {key} FOR SHARE"),
                Way::Range => {
                    let range = range(*key);
                    format!("k BETWEEN {} AND {}", range.start(), range.end())
                }
                Way::Search => format!("k + 0 = {key}"),
            };
            format!("SELECT k, v FROM {} WHERE {condition}", table(*list))
        }
        Step::Savepoint => "SAVEPOINT s".to_owned(),
        Step::EndSavepoint { back: true } => "ROLLBACK TO s".to_owned(),
        Step::EndSavepoint { back: false } => "RELEASE s".to_owned(),
    }
}

/// What a step read, from the rows that it found; keys without a row were read as empty.
///
/// # Errors
/// A value that is none.
pub fn observed(step: &Step, rows: &[(Key, String)]) -> Result<Vec<Op>, String> {
    let (list, keys) = match step {
        Step::Read {
            list,
            key,
            way: Way::Range,
        } => (list, range(*key)),
        Step::Read { list, key, .. } | Step::Update { list, key, .. } => (list, *key..=*key),
        Step::Append(..) | Step::Write(..) | Step::Savepoint | Step::EndSavepoint { .. } => {
            return Ok(Vec::new());
        }
    };
    keys.map(|key| read(*list, key, rows)).collect()
}

/// What a key was read as.
///
/// # Errors
/// A value that is none.
pub fn read(list: bool, key: Key, rows: &[(Key, String)]) -> Result<Op, String> {
    let mut of_key = rows.iter().filter(|(other, _)| *other == key);
    let row = of_key.next().map(|(_, value)| value.as_str());
    if of_key.next().is_some() {
        return Err(format!("two rows of key {key}"));
    }
    let number = |text: &str| {
        text.parse::<Value>()
            .map_err(|_| format!("key {key} holds {text:?}"))
    };
    Ok(match list {
        true => {
            let values = row.unwrap_or_default().split(',').filter(|text| !text.is_empty());
            Op::ReadList(key, values.map(number).collect::<Result<_, _>>()?)
        }
        false => Op::Read(key, row.map(number).transpose()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn one_seed_gives_one_load_and_no_value_twice() {
        let plans = |seed| {
            let (pool, mut random) = (Pool::new(10), Random::new(seed));
            (0..500).map(|_| pool.plan(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(plans(7), plans(7));
        assert_ne!(plans(7), plans(8));
        let mut values = HashSet::new();
        for plan in plans(7) {
            let mut depth = 0;
            for step in &plan.steps {
                match step {
                    Step::Append(_, value) | Step::Write(_, value) | Step::Update { value, .. } => {
                        assert!(!plan.read_only && values.insert(*value));
                    }
                    Step::Savepoint => depth += 1,
                    Step::EndSavepoint { .. } => depth -= 1,
                    Step::Read { .. } => {}
                }
                assert!((0..=1).contains(&depth));
            }
            assert_eq!(depth, 0);
        }
        assert!(values.len() > 200);
    }

    #[test]
    fn what_was_read_is_what_the_rows_say() {
        let rows = [(3, "5,7".to_owned())];
        let step = |list, way| Step::Read { list, key: 3, way };
        let lists = observed(&step(true, Way::Range), &rows).expect("lists");
        assert_eq!(lists, [Op::ReadList(3, vec![5, 7]), Op::ReadList(4, vec![])]);
        assert_eq!(
            observed(&step(false, Way::Key), &[(3, "8".to_owned())]),
            Ok(vec![Op::Read(3, Some(8))])
        );
        assert_eq!(observed(&step(false, Way::Key), &[]), Ok(vec![Op::Read(3, None)]));
        let update = Step::Update {
            list: true,
            key: 3,
            value: 7,
            search: false,
        };
        assert_eq!(observed(&update, &rows), Ok(vec![Op::ReadList(3, vec![5, 7])]));
        assert_eq!(observed(&update, &[]), Ok(vec![Op::ReadList(3, vec![])]));
        assert!(observed(&step(false, Way::Key), &rows).is_err());
        assert!(read(true, 3, &[rows[0].clone(), rows[0].clone()]).is_err());
    }
}
