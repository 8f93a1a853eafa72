//! The verdict: what an isolation level forbids and a history shows.

use super::graph::{Circle, Kind, Walk};
use super::history::History;
use super::infer::{Inferred, Wrong, infer};
use std::fmt;

/// Isolation levels by what they forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Level {
    pub const ALL: [Level; 3] = [Level::ReadCommitted, Level::RepeatableRead, Level::Serializable];

    /// As SQL names it.
    pub fn name(self) -> &'static str {
        match self {
            Level::ReadCommitted => "READ COMMITTED",
            Level::RepeatableRead => "REPEATABLE READ",
            Level::Serializable => "SERIALIZABLE",
        }
    }
}

/// What can be wrong with a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    Fault(Wrong),
    G0,
    G1c,
    LostUpdate,
    GSingle,
    GNonadjacent,
    G2,
}

impl Anomaly {
    /// The weakest level that forbids it.
    pub fn forbidden_from(self) -> Level {
        match self {
            Anomaly::Fault(Wrong::Unrepeatable | Wrong::LostUpdate) => Level::RepeatableRead,
            Anomaly::Fault(_) | Anomaly::G0 | Anomaly::G1c => Level::ReadCommitted,
            Anomaly::LostUpdate | Anomaly::GSingle | Anomaly::GNonadjacent => Level::RepeatableRead,
            Anomaly::G2 => Level::Serializable,
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Anomaly::Fault(Wrong::AbortedRead) => "G1a, a read of what was rolled back",
            Anomaly::Fault(Wrong::IntermediateRead) => "G1b, a read of what its writer wrote over",
            Anomaly::Fault(Wrong::Garbage) => "a value that is not what was written",
            Anomaly::Fault(Wrong::IncompatibleOrder) => "reads that contradict each other",
            Anomaly::Fault(Wrong::StaleRead) => "a read without what was committed before",
            Anomaly::Fault(Wrong::OwnWriteMissing) => "a transaction that does not see its own write",
            Anomaly::Fault(Wrong::Unrepeatable) => "a read that could not be repeated",
            Anomaly::G0 => "G0, a circle of writes",
            Anomaly::G1c => "G1c, a circle of information",
            Anomaly::LostUpdate | Anomaly::Fault(Wrong::LostUpdate) => "P4, a lost update",
            Anomaly::GSingle => "G-single, a circle with one anti-dependency",
            Anomaly::GNonadjacent => "G-nonadjacent, a circle with anti-dependencies apart from each other",
            Anomaly::G2 => "G2, a circle with anti-dependencies",
        })
    }
}

/// An anomaly with what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub anomaly: Anomaly,
    pub text: String,
}

/// What a history shows.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    pub found: Vec<Found>,
    pub committed: usize,
    pub edges: usize,
}

impl Verdict {
    /// What the level forbids.
    pub fn forbidden(&self, level: Level) -> impl Iterator<Item = &Found> {
        let forbids = move |found: &&Found| found.anomaly.forbidden_from() <= level;
        self.found.iter().filter(forbids)
    }

    /// Whether there is nothing that the level forbids.
    pub fn allows(&self, level: Level) -> bool {
        self.forbidden(level).next().is_none()
    }
}

/// Looks for everything; of circles, for the worst.
pub fn check(history: &History) -> Verdict {
    let inferred = infer(history);
    let mut found: Vec<Found> = inferred
        .faults
        .iter()
        .map(|fault| Found {
            anomaly: Anomaly::Fault(fault.wrong),
            text: fault.text.clone(),
        })
        .collect();
    found.sort_by_key(|found| found.anomaly);
    if let Some((anomaly, circle)) = worst(&inferred) {
        let text = shown(history, &circle);
        found.push(Found { anomaly, text });
    }
    Verdict {
        found,
        committed: inferred.committed.iter().filter(|committed| **committed).count(),
        edges: inferred.graph.edges(),
    }
}

fn worst(inferred: &Inferred) -> Option<(Anomaly, Circle)> {
    let graph = &inferred.graph;
    let walked = |walk, anomaly| Some((anomaly, graph.circle(walk)?));
    walked(Walk::Ww, Anomaly::G0)
        .or_else(|| walked(Walk::WithoutRw, Anomaly::G1c))
        .or_else(|| {
            let circle = graph.circle_with_one_rw()?;
            Some((single(&circle), circle))
        })
        .or_else(|| walked(Walk::RwApart, Anomaly::GNonadjacent))
        .or_else(|| walked(Walk::All, Anomaly::G2))
}

/// Two transactions that read one state of a key, of which the second wrote over what the first had made of it.
fn single(circle: &Circle) -> Anomaly {
    match circle.as_slice() {
        [(_, one), (_, other)]
            if one.why.key == other.why.key
                && [one.kind, other.kind].contains(&Kind::Rw)
                && [one.kind, other.kind].contains(&Kind::Ww) =>
        {
            Anomaly::LostUpdate
        }
        _ => Anomaly::GSingle,
    }
}

/// A circle for people: its transactions, then why each comes before the next.
fn shown(history: &History, circle: &Circle) -> String {
    let mut text = format!("a circle of {} transactions\n", circle.len());
    for (number, (node, _)) in circle.iter().enumerate() {
        text += &format!("  T{}: {}\n", number + 1, history.transactions[*node]);
    }
    for (number, (_, edge)) in circle.iter().enumerate() {
        let (this, next) = (number + 1, (number + 1) % circle.len() + 1);
        let (key, value) = (edge.why.key, edge.why.value);
        let why = match edge.kind {
            Kind::Ww => format!("ww: T{next} wrote {value} to {key} over what T{this} wrote"),
            Kind::Wr => format!("wr: T{next} read {value} of {key}, which T{this} wrote"),
            Kind::Rw => format!("rw: T{next} wrote {value} to {key}, which T{this} read without it"),
            Kind::Rt => format!("rt: T{next} began after the end of T{this}"),
        };
        text += &format!("  T{this} before T{next}, {why}\n");
    }
    text
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
