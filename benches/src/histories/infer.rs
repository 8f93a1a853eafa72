//! From a history to dependencies, and to what is wrong without any circle.
//!
//! A list tells its own order of writes: of all that was read of a key the longest is the order, and every other read must be
//! a beginning of it. Of a register the order is known where a transaction read a value and then wrote another one, and nothing
//! comes before everything.
//!
//! A transaction of unknown outcome has committed if one that has read its writes; nobody knows else, and nothing follows from it.

use super::graph::{Graph, Kind, Why};
use super::history::{History, Key, Op, Outcome, Transaction, Value};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is wrong by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// Read what was rolled back.
    AbortedRead,
    /// Read what its writer itself wrote over.
    IntermediateRead,
    /// Read what nobody wrote, or the same twice in a list.
    Garbage,
    /// Two reads of a list of which neither begins with the other.
    IncompatibleOrder,
    /// Read a state without a write whose end was known before the reader began.
    StaleRead,
    /// Did not see its own write.
    OwnWriteMissing,
    /// Two transactions read the same of a register, and both wrote over it. Allowed under READ COMMITTED.
    LostUpdate,
    /// Read the same twice, and differently. Allowed under READ COMMITTED.
    Unrepeatable,
}

/// A fault, and the transactions that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub wrong: Wrong,
    pub text: String,
}

/// What follows from a history.
#[derive(Debug, Default)]
pub struct Inferred {
    pub graph: Graph,
    pub faults: Vec<Fault>,
    /// Of each transaction whether it counts: committed, or shown to be.
    pub committed: Vec<bool>,
}

/// A list or a register of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    list: bool,
    key: Key,
}

/// Who wrote a value, and whether it was its last write there.
#[derive(Debug, Clone, Copy)]
struct Writer {
    transaction: usize,
    last: bool,
}

type Writers = HashMap<(Place, Value), Writer>;

fn written(op: &Op) -> Option<(Place, Value)> {
    let (list, key, value) = match op {
        Op::Append(key, value) => (true, *key, *value),
        Op::Write(key, value) => (false, *key, *value),
        Op::ReadList(..) | Op::Read(..) => return None,
    };
    Some((Place { list, key }, value))
}

fn read(op: &Op) -> Option<(Place, Vec<Value>)> {
    match op {
        Op::ReadList(key, values) => Some((
            Place {
                list: true,
                key: *key,
            },
            values.clone(),
        )),
        Op::Read(key, value) => Some((
            Place {
                list: false,
                key: *key,
            },
            value.iter().copied().collect(),
        )),
        Op::Append(..) | Op::Write(..) => None,
    }
}

/// What a transaction read of others: `values` without its own.
struct Seen {
    reader: usize,
    values: Vec<Value>,
}

/// Infers all there is.
pub fn infer(history: &History) -> Inferred {
    let all = &history.transactions;
    let mut faults = Vec::new();
    let writers = writers(all, &mut faults);
    let committed = committed(all, &writers);
    let mut seen: BTreeMap<Place, Vec<Seen>> = BTreeMap::new();
    for (reader, transaction) in all.iter().enumerate().filter(|(reader, _)| committed[*reader]) {
        look_inside(reader, transaction, &writers, all, &mut faults, &mut seen);
    }
    let mut graph = Graph::new(all.len());
    for (place, seen) in &seen {
        match place.list {
            true => list(*place, seen, &writers, all, &mut graph, &mut faults),
            false => register(*place, seen, &writers, all, &committed, &mut graph, &mut faults),
        }
    }
    unseen_appends(&seen, &writers, all, &committed, &mut faults);
    real_time(all, &committed, &mut graph);
    Inferred {
        graph,
        faults,
        committed,
    }
}

fn fault(faults: &mut Vec<Fault>, wrong: Wrong, text: String) {
    faults.push(Fault { wrong, text });
}

fn writers(all: &[Transaction], faults: &mut Vec<Fault>) -> Writers {
    let mut writers = Writers::new();
    for (index, transaction) in all.iter().enumerate() {
        let mut last: HashMap<Place, Value> = HashMap::new();
        for (place, value) in transaction.ops.iter().filter_map(written) {
            last.insert(place, value);
            let writer = Writer {
                transaction: index,
                last: false,
            };
            if writers.insert((place, value), writer).is_some() {
                let text = format!(
                    "{value} was written twice to {}: no history to be checked",
                    place.key
                );
                fault(faults, Wrong::Garbage, text);
            }
        }
        for written in last {
            if let Some(writer) = writers.get_mut(&written) {
                writer.last = true;
            }
        }
    }
    writers
}

/// Which transactions count.
fn committed(all: &[Transaction], writers: &Writers) -> Vec<bool> {
    let mut committed = vec![false; all.len()];
    let known = |(_, transaction): &(usize, &Transaction)| transaction.outcome == Outcome::Committed;
    let mut left: Vec<usize> = all
        .iter()
        .enumerate()
        .filter(known)
        .map(|(index, _)| index)
        .collect();
    while let Some(index) = left.pop() {
        if std::mem::replace(&mut committed[index], true) {
            continue;
        }
        for (place, values) in all[index].ops.iter().filter_map(read) {
            for value in values {
                if let Some(writer) = writers.get(&(place, value))
                    && all[writer.transaction].outcome == Outcome::Unknown
                {
                    left.push(writer.transaction);
                }
            }
        }
    }
    committed
}

/// A transaction's reads, one after the other, against its own writes and against who wrote what it saw.
fn look_inside(
    reader: usize,
    transaction: &Transaction,
    writers: &Writers,
    all: &[Transaction],
    faults: &mut Vec<Fault>,
    seen: &mut BTreeMap<Place, Vec<Seen>>,
) {
    // Its own writes so far; and what a repeated read has to find.
    let mut own: HashMap<Place, Vec<Value>> = HashMap::new();
    let mut expected: HashMap<Place, Vec<Value>> = HashMap::new();
    for op in &transaction.ops {
        if let Some((place, value)) = written(op) {
            let (own, expected) = (own.entry(place).or_default(), expected.get_mut(&place));
            if !place.list {
                own.clear();
            }
            own.push(value);
            if let Some(expected) = expected {
                if !place.list {
                    expected.clear();
                }
                expected.push(value);
            }
            continue;
        }
        let Some((place, values)) = read(op) else { continue };
        let mine = own.get(&place).map(Vec::as_slice).unwrap_or_default();
        let text = || format!("{op} in {transaction}");
        if !values.ends_with(mine) {
            fault(faults, Wrong::OwnWriteMissing, text());
            continue;
        }
        if expected.get(&place).is_some_and(|expected| *expected != values) {
            fault(faults, Wrong::Unrepeatable, text());
        }
        expected.insert(place, values.clone());
        let others = &values[..values.len() - mine.len()];
        if !place.list && !mine.is_empty() {
            continue;
        }
        let mut known = HashSet::new();
        for (index, value) in others.iter().enumerate() {
            let writer = writers.get(&(place, *value));
            match writer {
                _ if !known.insert(*value) => {
                    fault(faults, Wrong::Garbage, format!("{value} twice: {}", text()))
                }
                None => fault(
                    faults,
                    Wrong::Garbage,
                    format!("{value}, which nobody wrote: {}", text()),
                ),
                Some(writer) if all[writer.transaction].outcome == Outcome::Aborted => {
                    let of = &all[writer.transaction];
                    fault(faults, Wrong::AbortedRead, format!("{value} of {of}: {}", text()));
                }
                Some(writer) if index + 1 == others.len() && !writer.last && writer.transaction != reader => {
                    let of = &all[writer.transaction];
                    fault(
                        faults,
                        Wrong::IntermediateRead,
                        format!("{value} of {of}: {}", text()),
                    );
                }
                Some(_) => {}
            }
        }
        let values = others.to_vec();
        seen.entry(place).or_default().push(Seen { reader, values });
    }
}

/// Whether the writer's end was known before the reader began.
fn over_before(all: &[Transaction], writer: usize, reader: usize) -> bool {
    all[writer].outcome == Outcome::Committed && all[writer].end.is_some_and(|end| end < all[reader].begin)
}

fn list(
    place: Place,
    seen: &[Seen],
    writers: &Writers,
    all: &[Transaction],
    graph: &mut Graph,
    faults: &mut Vec<Fault>,
) {
    let Some(longest) = seen.iter().max_by_key(|seen| seen.values.len()) else {
        return;
    };
    let order = &longest.values;
    let writer = |value: &Value| writers.get(&(place, *value)).map(|writer| writer.transaction);
    let why = |value: &Value| Why {
        key: place.key,
        value: *value,
    };
    for pair in order.windows(2) {
        if let (Some(first), Some(second)) = (writer(&pair[0]), writer(&pair[1])) {
            graph.add(first, second, Kind::Ww, why(&pair[1]));
        }
    }
    for Seen { reader, values } in seen {
        if !order.starts_with(values) {
            let (one, other) = (&all[*reader], &all[longest.reader]);
            let text = format!("list {}: {one}; and {other}", place.key);
            fault(faults, Wrong::IncompatibleOrder, text);
            continue;
        }
        if let Some(last) = values.last()
            && let Some(writer) = writer(last)
        {
            graph.add(writer, *reader, Kind::Wr, why(last));
        }
        let missing = &order[values.len()..];
        if let Some(next) = missing.first()
            && let Some(writer) = writer(next)
        {
            graph.add(*reader, writer, Kind::Rw, why(next));
        }
        for value in missing {
            if let Some(writer) = writer(value)
                && over_before(all, writer, *reader)
            {
                let text = format!("without {value} of {}: {}", all[writer], all[*reader]);
                fault(faults, Wrong::StaleRead, text);
                break;
            }
        }
    }
}

fn register(
    place: Place,
    seen: &[Seen],
    writers: &Writers,
    all: &[Transaction],
    committed: &[bool],
    graph: &mut Graph,
    faults: &mut Vec<Fault>,
) {
    let why = |value: Value| Why {
        key: place.key,
        value,
    };
    // What was written over what, and by whom; nothing is written over by everything.
    let mut over: HashMap<Option<Value>, Vec<(Value, usize)>> = HashMap::new();
    for Seen { reader, values } in seen {
        let mut written = all[*reader].ops.iter().filter_map(written);
        let last = written.rfind(|(other, _)| *other == place);
        if let Some((_, value)) = last {
            let writers = over.entry(values.last().copied()).or_default();
            if !writers.contains(&(value, *reader)) {
                writers.push((value, *reader));
            }
        }
    }
    for writers in over.values() {
        if let [(_, one), (_, other), ..] = writers.as_slice() {
            let text = format!("register {}: {}; and {}", place.key, all[*one], all[*other]);
            fault(faults, Wrong::LostUpdate, text);
        }
    }
    let of_place = writers
        .iter()
        .filter(|((other, _), writer)| *other == place && writer.last && committed[writer.transaction]);
    let all_written: Vec<(Value, usize)> = of_place
        .map(|((_, value), writer)| (*value, writer.transaction))
        .collect();
    over.insert(None, all_written);
    for Seen { reader, values } in seen {
        let found = values.last().copied();
        let writer = found.and_then(|value| Some((value, writers.get(&(place, value))?.transaction)));
        if let Some((value, writer)) = writer {
            graph.add(writer, *reader, Kind::Wr, why(value));
        }
        for (value, next) in over.get(&found).map(Vec::as_slice).unwrap_or_default() {
            graph.add(*reader, *next, Kind::Rw, why(*value));
            if let Some((_, writer)) = writer {
                graph.add(writer, *next, Kind::Ww, why(*value));
            }
            if next != reader && over_before(all, *next, *reader) {
                let text = format!("without {value} of {}: {}", all[*next], all[*reader]);
                fault(faults, Wrong::StaleRead, text);
            }
        }
    }
}

/// Appends that no read shows although some read came later.
fn unseen_appends(
    seen: &BTreeMap<Place, Vec<Seen>>,
    writers: &Writers,
    all: &[Transaction],
    committed: &[bool],
    faults: &mut Vec<Fault>,
) {
    for ((place, value), writer) in writers {
        let Some(seen) = seen
            .get(place)
            .filter(|_| place.list && committed[writer.transaction])
        else {
            continue;
        };
        if seen.iter().any(|seen| seen.values.contains(value)) {
            continue;
        }
        let of = &all[writer.transaction];
        let later = |seen: &&Seen| {
            seen.reader != writer.transaction
                && match of.end {
                    Some(end) => end < all[seen.reader].begin,
                    // That it committed is known by other writes of it that were read.
                    None => {
                        let also = |(place, value): (Place, Value)| {
                            place.list
                                && all[seen.reader]
                                    .ops
                                    .iter()
                                    .filter_map(read)
                                    .any(|(other, values)| other == place && values.contains(&value))
                        };
                        of.ops.iter().filter_map(written).any(also)
                    }
                }
        };
        if let Some(without) = seen.iter().find(later) {
            let text = format!("without {value} of {of}: {}", all[without.reader]);
            fault(faults, Wrong::StaleRead, text);
        }
    }
}

/// Each transaction depends on those whose end was known before it began; what follows from others is left out.
fn real_time(all: &[Transaction], committed: &[bool], graph: &mut Graph) {
    // Ends before beginnings of the same moment are no proof: clocks have a grain.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (index, transaction) in all.iter().enumerate().filter(|(index, _)| committed[*index]) {
        events.push((transaction.begin, false, index));
        if let (Some(end), Outcome::Committed) = (transaction.end, transaction.outcome) {
            events.push((end, true, index));
        }
    }
    events.sort_unstable();
    let mut latest: Vec<usize> = Vec::new();
    for (_, ends, index) in events {
        let transaction = &all[index];
        if ends {
            latest.retain(|other| all[*other].end.is_none_or(|end| end >= transaction.begin));
            latest.push(index);
        } else {
            for before in &latest {
                graph.add(*before, index, Kind::Rt, Why::default());
            }
        }
    }
}
