//! Elections: a worker's table, the futures that it keeps of it, and what becomes of them.
//!
//! The table has the rule that differences are added, so that the amounts that steps move stay the same in sum whatever is elected with
//! RESOLVE. Only its worker touches it; workers meet in the conflict queue and in the log.

use std::collections::BTreeMap;

use crate::random::Random;

/// Rows of the table, with these ids from 0.
pub const ROWS: i64 = 16;
/// What each holds in the beginning.
pub const OPENING_AMOUNT: i64 = 1_000;

/// Elections that a worker keeps, ended ones included.
const ELECTIONS_MAX: usize = 3;
/// Candidates of one election.
const CANDIDATES_MAX: usize = 3;

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An ordinary one.
    Move(Move),
    Create {
        election: i64,
    },
    Candidate {
        election: i64,
        candidate: i64,
    },
    Propose {
        election: i64,
        candidate: i64,
        moves: Vec<Move>,
    },
    Rebase {
        election: i64,
        candidate: i64,
        defer: bool,
    },
    Elect {
        election: i64,
        candidate: i64,
        defer: bool,
    },
    DropCandidate {
        election: i64,
        candidate: i64,
    },
    Drop {
        election: i64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    source: i64,
    target: i64,
    amount: i64,
}

/// Amounts by id.
pub type Amounts = BTreeMap<i64, i64>;

/// What a server shows of a worker's elections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    pub rows: Amounts,
    /// By number.
    pub elections: BTreeMap<i64, ShownElection>,
    /// Entries of the conflict queue by election.
    pub deferred: BTreeMap<i64, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownElection {
    pub state: String,
    pub candidates: BTreeMap<i64, ShownCandidate>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownCandidate {
    pub state: String,
    /// What a session inside of it sees; `None`: it is not open.
    pub inside: Option<Amounts>,
    /// `None`: it is not open, or kept from the mirror.
    pub future: Option<Amounts>,
}

/// What a worker knows. Two are equal when they show the same.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    shown: Shown,
    rows: BTreeMap<i64, Version>,
    elections: BTreeMap<i64, Election>,
    changes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    amount: i64,
    /// The number of the change that made it.
    change: u64,
}

#[derive(Debug, Clone, Copy)]
struct Proposal {
    before: Version,
    amount: i64,
}

#[derive(Debug, Clone)]
struct Election {
    state: &'static str,
    base: BTreeMap<i64, Version>,
    candidates: BTreeMap<i64, Candidate>,
}

#[derive(Debug, Clone)]
struct Candidate {
    state: &'static str,
    base: BTreeMap<i64, Version>,
    proposals: BTreeMap<i64, Proposal>,
}

impl PartialEq for Plan {
    fn eq(&self, other: &Plan) -> bool {
        self.shown == other.shown
    }
}

impl Eq for Plan {}

/// Some candidates are kept from the mirror.
pub fn is_mirrored(candidate: i64) -> bool {
    candidate % 4 != 0
}

/// The name of a worker's election.
pub fn election_name(worker: i64, election: i64) -> String {
    format!("e{worker}_{election}")
}

/// The worker and the number of an election of this name.
pub fn election_of(name: &str) -> Option<(usize, i64)> {
    let (worker, election) = name.strip_prefix('e')?.split_once('_')?;
    Some((worker.parse().ok()?, election.parse().ok()?))
}

impl Move {
    fn random(random: &mut Random) -> Move {
        let source = random.below(ROWS as u64) as i64;
        Move {
            source,
            target: (source + 1 + random.below(ROWS as u64 - 1) as i64) % ROWS,
            amount: 1 + random.below(1 << 40) as i64,
        }
    }

    fn differences(self) -> [(i64, i64); 2] {
        [(self.source, -self.amount), (self.target, self.amount)]
    }

    fn sql(self, worker: i64) -> String {
        let update = |(id, difference)| {
            format!("UPDATE plan_{worker} SET amount = amount + ({difference}) WHERE id = {id}")
        };
        self.differences().map(update).join("; ")
    }
}

impl Step {
    /// The statement, in one message, and the candidate inside of which it is to be run.
    pub fn sql(&self, worker: i64) -> (Option<String>, String) {
        let name = |election: &i64| election_name(worker, *election);
        match self {
            Step::Move(moved) => (None, moved.sql(worker)),
            Step::Create { election } => (
                None,
                format!("CREATE ELECTION {} WITH (winners = 1)", name(election)),
            ),
            Step::Candidate { election, candidate } => {
                let mirror = if is_mirrored(*candidate) { "on" } else { "off" };
                let election = name(election);
                (
                    None,
                    format!("CREATE CANDIDATE c{candidate} IN {election} WITH (mirror = {mirror})"),
                )
            }
            Step::Propose {
                election,
                candidate,
                moves,
            } => {
                let inside = format!("{}/c{candidate}", name(election));
                let moves: Vec<String> = moves.iter().map(|moved| moved.sql(worker)).collect();
                (Some(inside), moves.join("; "))
            }
            Step::Rebase {
                election,
                candidate,
                defer,
            }
            | Step::Elect {
                election,
                candidate,
                defer,
            } => {
                let verb = match self {
                    Step::Rebase { .. } => "REBASE",
                    _ => "ELECT",
                };
                let (election, how) = (name(election), if *defer { "DEFER" } else { "RESOLVE" });
                (
                    None,
                    format!("{verb} CANDIDATE c{candidate} IN {election} ON CONFLICT {how}"),
                )
            }
            Step::DropCandidate { election, candidate } => {
                (None, format!("DROP CANDIDATE c{candidate} IN {}", name(election)))
            }
            Step::Drop { election } => (None, format!("DROP ELECTION {}", name(election))),
        }
    }
}

impl Candidate {
    fn end(&mut self, state: &'static str) {
        self.state = state;
        self.proposals.clear();
    }

    fn inside(&self) -> Amounts {
        let mut amounts: Amounts = self.base.iter().map(|(id, row)| (*id, row.amount)).collect();
        amounts.extend(self.proposals.iter().map(|(id, proposal)| (*id, proposal.amount)));
        amounts
    }

    fn propose(&mut self, moved: Move) {
        for (id, difference) in moved.differences() {
            let before = self.base[&id];
            let amount = before.amount;
            let proposal = self.proposals.entry(id).or_insert(Proposal { before, amount });
            proposal.amount += difference;
        }
    }
}

/// What the rule makes of a row that is not what the candidate found.
fn added(present: Version, proposal: &Proposal) -> i64 {
    match present.amount == proposal.amount {
        true => present.amount,
        false => present.amount + proposal.amount - proposal.before.amount,
    }
}

impl Plan {
    /// The table as it is created.
    pub fn new() -> Plan {
        let opening = Version {
            amount: OPENING_AMOUNT,
            change: 0,
        };
        let mut plan = Plan {
            rows: (0..ROWS).map(|id| (id, opening)).collect(),
            ..Plan::default()
        };
        plan.show();
        plan
    }

    /// What a server shows; only to be compared.
    pub fn found(shown: Shown) -> Plan {
        Plan {
            shown,
            ..Plan::default()
        }
    }

    /// In words, where `found` differs, if it does.
    pub fn difference(&self, found: &Plan) -> Option<String> {
        let (ours, theirs) = (&self.shown, &found.shown);
        let told = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
            Some(format!("{what}: {theirs:?}, not {ours:?}"))
        };
        if ours.rows != theirs.rows {
            return told("the plan's rows", &ours.rows, &theirs.rows);
        }
        if ours.elections != theirs.elections {
            return told("the elections", &ours.elections, &theirs.elections);
        }
        if ours.deferred != theirs.deferred {
            return told("the conflict queue", &ours.deferred, &theirs.deferred);
        }
        None
    }

    /// What to do next; `number` is one that was never given before.
    pub fn choose(&self, random: &mut Random, number: i64) -> Step {
        let pick = |random: &mut Random, count: usize| random.below(count as u64) as usize;
        if random.one_in(4) {
            return Step::Move(Move::random(random));
        }
        let create = Step::Create { election: number };
        if self.elections.is_empty() || (self.elections.len() < ELECTIONS_MAX && random.one_in(4)) {
            return create;
        }
        let Some((&election, known)) = self.elections.iter().nth(pick(random, self.elections.len())) else {
            return create;
        };
        if known.state != "open" || random.one_in(20) {
            return Step::Drop { election };
        }
        let open = known
            .candidates
            .iter()
            .filter(|(_, candidate)| candidate.state == "open");
        let open: Vec<i64> = open.map(|(number, _)| *number).collect();
        if open.is_empty() || (open.len() < CANDIDATES_MAX && random.one_in(3)) {
            return Step::Candidate {
                election,
                candidate: number,
            };
        }
        let candidate = open[pick(random, open.len())];
        let defer = random.one_in(3);
        match random.below(12) {
            0..7 => Step::Propose {
                election,
                candidate,
                moves: (0..=random.below(3)).map(|_| Move::random(random)).collect(),
            },
            7..9 => Step::Rebase {
                election,
                candidate,
                defer,
            },
            9..11 => Step::Elect {
                election,
                candidate,
                defer,
            },
            _ => Step::DropCandidate { election, candidate },
        }
    }

    /// The plan after a step.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Move(moved) => {
                for (id, difference) in moved.differences() {
                    self.put(id, self.rows[&id].amount + difference);
                }
            }
            Step::Create { election } => {
                let created = Election {
                    state: "open",
                    base: self.rows.clone(),
                    candidates: BTreeMap::new(),
                };
                self.elections.insert(*election, created);
            }
            Step::Candidate { election, candidate } => {
                let election = self.elections.get_mut(election).expect("open");
                let created = Candidate {
                    state: "open",
                    base: election.base.clone(),
                    proposals: BTreeMap::new(),
                };
                election.candidates.insert(*candidate, created);
            }
            Step::Propose {
                election,
                candidate,
                moves,
            } => {
                let candidate = self.candidate(*election, *candidate);
                moves.iter().for_each(|moved| candidate.propose(*moved));
            }
            Step::Rebase {
                election,
                candidate,
                defer,
            } => self.rebase(*election, *candidate, *defer),
            Step::Elect {
                election,
                candidate,
                defer,
            } => self.elect(*election, *candidate, *defer),
            Step::DropCandidate { election, candidate } => {
                self.candidate(*election, *candidate).end("dropped");
            }
            Step::Drop { election } => drop(self.elections.remove(election)),
        }
        self.show();
    }

    fn put(&mut self, id: i64, amount: i64) {
        self.changes += 1;
        let change = self.changes;
        self.rows.insert(id, Version { amount, change });
    }

    fn candidate(&mut self, election: i64, candidate: i64) -> &mut Candidate {
        let election = self.elections.get_mut(&election).expect("open");
        election.candidates.get_mut(&candidate).expect("open")
    }

    fn rebase(&mut self, election: i64, candidate: i64, defer: bool) {
        let rows = self.rows.clone();
        let candidate = self.candidate(election, candidate);
        candidate.proposals.retain(|id, proposal| {
            let present = rows[id];
            if defer || proposal.before == present {
                return true;
            }
            let amount = added(present, proposal);
            *proposal = Proposal {
                before: present,
                amount,
            };
            amount != present.amount
        });
        candidate.base = rows;
    }

    fn elect(&mut self, election: i64, candidate: i64, defer: bool) {
        let proposals = self.candidate(election, candidate).proposals.clone();
        for (id, proposal) in proposals {
            let present = self.rows[&id];
            if present == proposal.before {
                self.put(id, proposal.amount);
            } else if defer {
                *self.shown.deferred.entry(election).or_insert(0) += 1;
            } else if added(present, &proposal) != present.amount {
                self.put(id, added(present, &proposal));
            }
        }
        self.candidate(election, candidate).end("elected");
        let election = self.elections.get_mut(&election).expect("open");
        election.state = "committed";
        for candidate in election.candidates.values_mut() {
            if candidate.state == "open" {
                candidate.end("dropped");
            }
        }
    }

    fn future(&self, candidate: &Candidate) -> Amounts {
        let mut amounts: Amounts = self.rows.iter().map(|(id, row)| (*id, row.amount)).collect();
        for (id, proposal) in &candidate.proposals {
            let present = self.rows[id];
            let amount = match present == proposal.before {
                true => proposal.amount,
                false => added(present, proposal),
            };
            amounts.insert(*id, amount);
        }
        amounts
    }

    fn show(&mut self) {
        let elections = self.elections.iter().map(|(number, election)| {
            let candidates = election.candidates.iter().map(|(number, candidate)| {
                let open = candidate.state == "open";
                let shown = ShownCandidate {
                    state: candidate.state.to_owned(),
                    inside: open.then(|| candidate.inside()),
                    future: (open && is_mirrored(*number)).then(|| self.future(candidate)),
                };
                (*number, shown)
            });
            let shown = ShownElection {
                state: election.state.to_owned(),
                candidates: candidates.collect(),
            };
            (*number, shown)
        });
        self.shown.elections = elections.collect();
        self.shown.rows = self.rows.iter().map(|(id, row)| (*id, row.amount)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::{Move, OPENING_AMOUNT, Plan, ROWS, Step};
    use crate::random::Random;

    #[test]
    fn what_is_elected_and_not_deferred_keeps_the_sum() {
        let mut random = Random::new(3);
        let mut plan = Plan::new();
        let (mut elected, mut number) = (0, 0);
        while elected < 50 {
            number += 1;
            let step = match plan.choose(&mut random, number) {
                Step::Elect {
                    election, candidate, ..
                } => {
                    elected += 1;
                    Step::Elect {
                        election,
                        candidate,
                        defer: false,
                    }
                }
                other => other,
            };
            plan.apply(&step);
            assert_eq!(plan.shown.rows.values().sum::<i64>(), ROWS * OPENING_AMOUNT);
        }
    }

    #[test]
    fn a_deferred_row_stays_and_is_counted() {
        let mut plan = Plan::new();
        let moved = |source, target| Move {
            source,
            target,
            amount: 5,
        };
        for step in [
            Step::Create { election: 1 },
            Step::Candidate {
                election: 1,
                candidate: 2,
            },
            Step::Propose {
                election: 1,
                candidate: 2,
                moves: vec![moved(0, 1)],
            },
            Step::Move(moved(1, 2)),
            Step::Elect {
                election: 1,
                candidate: 2,
                defer: true,
            },
        ] {
            plan.apply(&step);
        }
        let of = |id| plan.shown.rows[&id] - OPENING_AMOUNT;
        assert_eq!([of(0), of(1), of(2)], [-5, -5, 5]);
        assert_eq!(plan.shown.deferred[&1], 1);
    }
}
