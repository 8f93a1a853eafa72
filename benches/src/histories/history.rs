//! What clients did and what they were told, and the text that a history is kept as.
//!
//! A line is a transaction: session, begin and end in microseconds (`-`: no end was heard of), `ok`, `fail` or `info` (nobody
//! knows), and what it did, in its order: `3+7` appended 7 to list 3, `3=7` wrote 7 to register 3, `3[5,7]` and `3(7)` read
//! them; `3()` read nothing. Lines that begin with `#` say nothing.

use std::fmt;

/// A list or a register.
pub type Key = u32;
/// What was appended or written: each value of a key once.
pub type Value = u64;

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Append(Key, Value),
    ReadList(Key, Vec<Value>),
    Write(Key, Value),
    Read(Key, Option<Value>),
}

/// What became of a transaction, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// Rolled back for certain.
    Aborted,
    /// The connection was lost while it committed.
    Unknown,
}

/// A transaction as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub session: u32,
    /// When it was about to begin, in microseconds.
    pub begin: u64,
    /// When its end was known; `None` when nobody told.
    pub end: Option<u64>,
    pub outcome: Outcome,
    pub ops: Vec<Op>,
}

/// Transactions, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    pub transactions: Vec<Transaction>,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Append(key, value) => write!(f, "{key}+{value}"),
            Op::Write(key, value) => write!(f, "{key}={value}"),
            Op::Read(key, Some(value)) => write!(f, "{key}({value})"),
            Op::Read(key, None) => write!(f, "{key}()"),
            Op::ReadList(key, values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, "{key}[{}]", values.join(","))
            }
        }
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.session, self.begin)?;
        match self.end {
            Some(end) => write!(f, "{end}")?,
            None => write!(f, "-")?,
        }
        f.write_str(match self.outcome {
            Outcome::Committed => " ok",
            Outcome::Aborted => " fail",
            Outcome::Unknown => " info",
        })?;
        self.ops.iter().try_for_each(|op| write!(f, " {op}"))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transactions
            .iter()
            .try_for_each(|transaction| writeln!(f, "{transaction}"))
    }
}

impl History {
    /// Reads what `Display` wrote.
    ///
    /// # Errors
    /// The number of the line and the word that is none.
    pub fn parse(text: &str) -> Result<History, String> {
        let mut history = History::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let transaction = transaction(line).map_err(|word| format!("line {}: {word:?}", number + 1))?;
            history.transactions.push(transaction);
        }
        Ok(history)
    }
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| word.to_owned())
}

fn transaction(line: &str) -> Result<Transaction, String> {
    let mut words = line.split_whitespace();
    let mut next = || words.next().ok_or_else(|| line.to_owned());
    let (session, begin, end, outcome) = (next()?, next()?, next()?, next()?);
    Ok(Transaction {
        session: number(session)?,
        begin: number(begin)?,
        end: match end {
            "-" => None,
            end => Some(number(end)?),
        },
        outcome: match outcome {
            "ok" => Outcome::Committed,
            "fail" => Outcome::Aborted,
            "info" => Outcome::Unknown,
            other => return Err(other.to_owned()),
        },
        ops: words.map(op).collect::<Result<_, _>>()?,
    })
}

fn op(word: &str) -> Result<Op, String> {
    let at = word.find(['+', '=', '[', '(']).ok_or_else(|| word.to_owned())?;
    let key = number(&word[..at])?;
    let (sign, rest) = (word.as_bytes()[at], &word[at + 1..]);
    let inner = |close: char| rest.strip_suffix(close).ok_or_else(|| word.to_owned());
    Ok(match sign {
        b'+' => Op::Append(key, number(rest)?),
        b'=' => Op::Write(key, number(rest)?),
        b'[' => {
            let values = inner(']')?.split(',').filter(|value| !value.is_empty());
            Op::ReadList(key, values.map(number).collect::<Result<_, _>>()?)
        }
        _ => {
            let value = inner(')')?;
            Op::Read(key, (!value.is_empty()).then(|| number(value)).transpose()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_as_it_was_written_and_nonsense_is_refused() {
        let text = "1 10 20 ok 3+7 3[5,7] 4[]\n2 15 - info 5=1 5(1) 6()\n3 1 2 fail\n";
        let history = History::parse(text).expect("a history");
        assert_eq!(history.to_string(), text);
        assert_eq!(history.transactions.len(), 3);
        assert_eq!(
            History::parse("# nothing\n\n").expect("empty"),
            History::default()
        );
        for wrong in [
            "1 2 3",
            "1 2 3 ok x",
            "1 2 3 ok 1+x",
            "1 2 3 ok 1[2",
            "1 2 3 maybe",
            "1 2 3 ok 1(2]",
        ] {
            assert!(History::parse(wrong).is_err(), "{wrong}");
        }
    }
}
