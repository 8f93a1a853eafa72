//! Collisions: a change that was made at one state meets another state.
//!
//! A candidate that is elected or rebased finds rows that are not what it found when it changed them. [`decide`] takes
//! such a row (as it was *before*, as it is at *present*, as the candidate *proposes* it) and the table's [`Rules`], and
//! answers what is to be done, as data: it reads nothing else, writes nothing and waits for nobody. The caller carries
//! the decisions out in one transaction and writes them to the audit trail.
//!
//! How a row is decided, in this order:
//!
//! 1. Both sides have the same row: it stays. (A table without any rule decides not even that.)
//! 2. The row is gone, or is there though the candidate inserts it: the fuzzy rules may turn the change into another.
//! 3. A column that only one side has changed is that side's, and one that both have changed follows its own rule, if
//!    the row's rule is `merge`, or if it decides nothing and every column that both have changed has a rule.
//! 4. The row's rule says which row wins as a whole; columns that both have changed and that have a rule follow theirs.

mod compute;
mod rules;
#[cfg(test)]
mod tests;

use crate::Row;
use crate::catalog::Table;
use crate::row::RowRef;
use crate::types::{Datum, Value};
use compute::Three;
use scry_wal::Lsn;
use std::cmp::Ordering;

pub use rules::{ColumnRule, Fuzzy, RowRule, RuleError, Rules};

/// A row on which two sides disagree. `None` for a row: there is none.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// The row that the candidate found.
    pub before: Option<&'a Row>,
    pub present: Option<&'a Row>,
    /// The row that the candidate wants.
    pub proposed: Option<&'a Row>,
    /// The commit that made the present row.
    pub present_at: Lsn,
    /// The candidate's commit.
    pub proposed_at: Lsn,
}

/// What is to become of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What is there stays.
    Keep,
    /// This row, in the place of what is there.
    Put(Row),
    /// No row.
    Delete,
    /// A person decides later; what is there stays until then.
    Defer,
    /// No rule decides.
    Refuse,
}

/// What is to become of a row, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub outcome: Outcome,
    /// The rules that decided, or why none did; for people.
    pub reason: String,
}

/// A column whose rule is an expression.
pub struct Computation<'a> {
    pub table: &'a Table,
    pub column: usize,
    pub expression: &'a str,
    pub before: Option<RowRef<'a>>,
    pub present: RowRef<'a>,
    pub proposed: RowRef<'a>,
}

/// Computes expressions of rules: a value of the column's type, or what is wrong. Must depend on its argument alone.
pub type Evaluate<'e> = dyn Fn(&Computation<'_>) -> Result<Value, String> + Send + Sync + 'e;

/// Which of two rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Present,
    Proposed,
}

/// A row that is there on both sides.
struct Both<'a> {
    table: &'a Table,
    rules: &'a Rules,
    sides: &'a Sides<'a>,
    before: Option<RowRef<'a>>,
    present: RowRef<'a>,
    proposed: RowRef<'a>,
    evaluate: &'a Evaluate<'a>,
}

fn decided(outcome: Outcome, reason: impl Into<String>) -> Decision {
    Decision {
        outcome,
        reason: reason.into(),
    }
}

/// Says what is to become of a row of `table`.
pub fn decide(table: &Table, rules: &Rules, sides: &Sides<'_>, evaluate: &Evaluate<'_>) -> Decision {
    let row_rule = || rules.row.map(|rule| rule.text(&table.def.columns));
    let by_rule = |outcome| decided(outcome, row_rule().unwrap_or_default());
    let is_there = sides.present.is_some();
    let agree = || match (sides.present, sides.proposed) {
        (Some(present), Some(proposed)) => table.layout.same(present, proposed),
        _ => false,
    };
    if is_there && !rules.is_empty() && agree() {
        return decided(Outcome::Keep, "both sides agree");
    }
    match (sides.present, sides.proposed) {
        (None, None) if rules.fuzzy.ignore_missing => decided(Outcome::Keep, "ignore_missing"),
        (None, None) => match rules.row {
            None | Some(RowRule::Fail) => decided(Outcome::Refuse, "the row is gone"),
            Some(RowRule::Defer) => by_rule(Outcome::Defer),
            Some(_) => decided(Outcome::Keep, "both sides agree"),
        },
        (None, Some(proposed)) => match rules.row {
            _ if rules.fuzzy.update_as_insert => decided(Outcome::Put(proposed.clone()), "update_as_insert"),
            Some(RowRule::Proposed) => by_rule(Outcome::Put(proposed.clone())),
            Some(RowRule::Present) => by_rule(Outcome::Keep),
            Some(RowRule::Defer) => by_rule(Outcome::Defer),
            _ => decided(Outcome::Refuse, "the row is gone"),
        },
        (Some(_), None) => match rules.row {
            Some(RowRule::Defer) => by_rule(Outcome::Defer),
            Some(rule) => match winner_by_time(rule, sides) {
                Some(Side::Present) => by_rule(Outcome::Keep),
                Some(Side::Proposed) => by_rule(Outcome::Delete),
                None => decided(Outcome::Refuse, "the row to be deleted was changed"),
            },
            None => decided(Outcome::Refuse, "the row to be deleted was changed"),
        },
        (Some(present), Some(proposed)) => {
            if sides.before.is_none() && !rules.fuzzy.insert_as_update {
                return match rules.row {
                    Some(RowRule::Defer) => by_rule(Outcome::Defer),
                    Some(rule) => match winner_by_time(rule, sides) {
                        Some(Side::Present) => by_rule(Outcome::Keep),
                        Some(Side::Proposed) => by_rule(Outcome::Put(proposed.clone())),
                        None => decided(Outcome::Refuse, "a row with this key is there already"),
                    },
                    None => decided(Outcome::Refuse, "a row with this key is there already"),
                };
            }
            let both = Both {
                table,
                rules,
                sides,
                before: sides.before.map(|before| table.layout.row(before)),
                present: table.layout.row(present),
                proposed: table.layout.row(proposed),
                evaluate,
            };
            both.decide()
        }
    }
}

/// Who wins by a rule that looks at no value.
fn winner_by_time(rule: RowRule, sides: &Sides<'_>) -> Option<Side> {
    let proposed_is_newer = sides.proposed_at > sides.present_at;
    Some(match rule {
        RowRule::Proposed => Side::Proposed,
        RowRule::Present => Side::Present,
        RowRule::Newest if proposed_is_newer => Side::Proposed,
        RowRule::Newest => Side::Present,
        RowRule::Oldest if proposed_is_newer => Side::Present,
        RowRule::Oldest => Side::Proposed,
        _ => return None,
    })
}

fn same(a: Datum<'_>, b: Datum<'_>) -> bool {
    a.is_null() == b.is_null() && a.compare(&b) == Ordering::Equal
}

impl Both<'_> {
    fn values(&self, column: usize) -> Three<'_> {
        Three {
            before: self.before.map_or(Datum::Null, |before| before.get(column)),
            present: self.present.get(column),
            proposed: self.proposed.get(column),
        }
    }

    /// Whether the side has changed the column.
    fn changed(&self, side: &RowRef<'_>, column: usize) -> bool {
        let now = side.get(column);
        self.before.is_none_or(|before| !same(before.get(column), now))
    }

    fn name(&self, column: usize) -> &str {
        &self.table.def.columns[column].name
    }

    fn decide(&self) -> Decision {
        let columns = self.table.def.live_columns().map(|(column, _)| column);
        let disputed: Vec<usize> = columns
            .filter(|column| {
                // A generated column follows from the others.
                self.table.def.columns[*column].generated().is_none()
                    && self.changed(&self.present, *column)
                    && self.changed(&self.proposed, *column)
                    && !same(self.present.get(*column), self.proposed.get(*column))
            })
            .collect();
        let unruled = disputed
            .iter()
            .find(|column| self.rules.column(**column).is_none());
        let row_rule = self.rules.row;
        let merges = match row_rule {
            Some(RowRule::Merge) => true,
            None | Some(RowRule::Fail | RowRule::Defer) => {
                !self.rules.columns.is_empty() && unruled.is_none()
            }
            Some(_) => false,
        };
        if merges {
            if let Some(column) = unruled {
                let reason = format!("column \"{}\" has no rule", self.name(*column));
                return decided(Outcome::Refuse, reason);
            }
            return self.combine(Side::Present, true, &disputed, "merge");
        }
        let Some(rule) = row_rule else {
            let reason = match unruled {
                Some(column) => format!("column \"{}\" has no rule", self.name(*column)),
                None => "the table has no rule".to_owned(),
            };
            return decided(Outcome::Refuse, reason);
        };
        let text = rule.text(&self.table.def.columns);
        let winner = match rule {
            RowRule::Fail => return decided(Outcome::Refuse, text),
            RowRule::Defer => return decided(Outcome::Defer, text),
            RowRule::Highest(column) => self.by_version(column, Ordering::Greater),
            RowRule::Lowest(column) => self.by_version(column, Ordering::Less),
            by_time => winner_by_time(by_time, self.sides),
        };
        match winner {
            Some(side) => self.combine(side, false, &disputed, &text),
            None => decided(
                Outcome::Refuse,
                format!("{text}: the versions are the same, or NULL"),
            ),
        }
    }

    fn by_version(&self, column: usize, wanted: Ordering) -> Option<Side> {
        let Three {
            present, proposed, ..
        } = self.values(column);
        if present.is_null() || proposed.is_null() {
            return None;
        }
        match proposed.compare(&present) {
            Ordering::Equal => None,
            found if found == wanted => Some(Side::Proposed),
            _ => Some(Side::Present),
        }
    }

    /// The row of one side, to `merge` with what the other alone has changed, with the disputed columns as their rules
    /// want them.
    fn combine(&self, side: Side, merge: bool, disputed: &[usize], by: &str) -> Decision {
        let mut reason = by.to_owned();
        let mut changes: Vec<(usize, Value)> = Vec::new();
        for column in 0..self.table.def.columns.len() {
            let rule = self.rules.column(column).filter(|_| disputed.contains(&column));
            match rule {
                Some(rule) => {
                    match self.by_column_rule(column, rule) {
                        Ok(Ok(value)) => changes.push((column, value)),
                        Ok(Err(outcome)) => {
                            return decided(outcome, format!("{}: {}", self.name(column), rule.text()));
                        }
                        Err(what) => {
                            let reason = format!("{}: {}: {what}", self.name(column), rule.text());
                            return decided(Outcome::Refuse, reason);
                        }
                    }
                    reason = format!("{reason}, {}: {}", self.name(column), rule.text());
                }
                None if merge && !self.changed(&self.present, column) => {
                    changes.push((column, self.proposed.get(column).to_value()));
                }
                None => {}
            }
        }
        let (winner, other) = match side {
            Side::Present => (self.sides.present, self.sides.proposed),
            Side::Proposed => (self.sides.proposed, self.sides.present),
        };
        let (Some(winner), Some(_)) = (winner, other) else {
            return decided(Outcome::Refuse, "the row is gone");
        };
        let changes: Vec<(usize, Datum<'_>)> = changes
            .iter()
            .map(|(column, value)| (*column, value.as_datum()))
            .collect();
        for (column, value) in &changes {
            if value.is_null() && self.table.def.columns[*column].not_null {
                let reason = format!("{reason}: column \"{}\" would be NULL", self.name(*column));
                return decided(Outcome::Refuse, reason);
            }
        }
        let row: Row = match self.table.layout.update(winner, &changes) {
            Ok(row) => row.into(),
            Err(error) => return decided(Outcome::Refuse, format!("{reason}: {error}")),
        };
        let is_present = |present: &&Row| self.table.layout.same(present, &row);
        let outcome = match self.sides.present.filter(is_present) {
            Some(_) => Outcome::Keep,
            None => Outcome::Put(row),
        };
        decided(outcome, reason)
    }

    /// The value of a disputed column; the inner error: the rule leaves it to somebody.
    fn by_column_rule(&self, column: usize, rule: &ColumnRule) -> Result<Result<Value, Outcome>, String> {
        let values = self.values(column);
        let ty = self.table.def.columns[column].ty;
        let of_side = |rule| match winner_by_time(rule, self.sides) {
            Some(Side::Proposed) => values.proposed.to_value(),
            _ => values.present.to_value(),
        };
        let value = match rule {
            ColumnRule::Fail => return Ok(Err(Outcome::Refuse)),
            ColumnRule::Defer => return Ok(Err(Outcome::Defer)),
            ColumnRule::Proposed => of_side(RowRule::Proposed),
            ColumnRule::Present => of_side(RowRule::Present),
            ColumnRule::Newest => of_side(RowRule::Newest),
            ColumnRule::Oldest => of_side(RowRule::Oldest),
            ColumnRule::Min => compute::extreme(values, Ordering::Less),
            ColumnRule::Max => compute::extreme(values, Ordering::Greater),
            ColumnRule::Average => compute::average(ty, values)?,
            ColumnRule::Add => compute::add(ty, values)?,
            ColumnRule::Multiply => compute::multiply(ty, values)?,
            ColumnRule::Concatenate(separator) => compute::concatenate(ty, values, separator)?,
            ColumnRule::Expression(expression) => (self.evaluate)(&Computation {
                table: self.table,
                column,
                expression,
                before: self.before,
                present: self.present,
                proposed: self.proposed,
            })?,
        };
        Ok(Ok(value))
    }
}
