//! One record of the trail as a line of columns or as a JSON object.
//!
//! Data is not trusted to be harmless on a terminal: control characters are shown escaped.

use std::fmt::Write as _;
use std::io::{self, Write};

use scry_engine::election::change::Score;
use scry_engine::{CatalogChange, ElectionChange};
use scry_sql::types::datetime::write_timestamp;
use scry_wal::{Change, Commit, Lsn, Micros, Op, SequencePosition, StoreId, TentativeId, TxnId};

use super::names::{Named, Names};

/// Whose record it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Who<'a> {
    txn: Option<TxnId>,
    time: Option<Micros>,
    user: &'a str,
    client: &'a str,
    application: &'a str,
    tag: &'a str,
}

impl<'a> Who<'a> {
    pub fn of(commit: &Commit<'a>) -> Self {
        Self {
            txn: Some(commit.txn),
            time: Some(commit.time),
            user: commit.user,
            client: commit.client,
            application: commit.application,
            tag: commit.tag,
        }
    }
}

impl Who<'_> {
    /// What has no column of its own.
    fn notes(&self) -> impl Iterator<Item = (&'static str, String)> {
        let notes = [
            ("tag", self.tag),
            ("application", self.application),
            ("client", self.client),
        ];
        notes
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, value.to_owned()))
    }
}

/// A record ready to be printed.
#[derive(Debug, Default)]
pub struct Line {
    lsn: Lsn,
    time: String,
    txn: String,
    user: String,
    table: String,
    op: &'static str,
    key: Vec<Named>,
    before: Vec<Named>,
    after: Vec<Named>,
    /// What does not fit the columns.
    note: Vec<(&'static str, String)>,
}

impl Line {
    fn new(lsn: Lsn, who: &Who<'_>, op: &'static str) -> Self {
        let txn = who.txn.map_or_else(String::new, |txn| txn.get().to_string());
        let user = who.user.to_owned();
        Self {
            lsn,
            time: who.time.map(time).unwrap_or_default(),
            txn,
            user,
            op,
            ..Self::default()
        }
    }

    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Says whose it is, in full.
    pub fn sign(&mut self, who: &Who<'_>) {
        self.time = who.time.map(time).unwrap_or_default();
        self.txn = who.txn.map_or_else(String::new, |txn| txn.get().to_string());
        who.user.clone_into(&mut self.user);
        self.note.extend(who.notes());
    }

    pub fn change(
        lsn: Lsn,
        who: &Who<'_>,
        tentative: Option<TentativeId>,
        change: &Change<'_>,
        names: &Names,
    ) -> Self {
        let op = match change.op {
            Op::Insert => "INSERT",
            Op::Update => "UPDATE",
            Op::Delete => "DELETE",
        };
        let mut line = Self::new(lsn, who, op);
        if let Some(id) = tentative {
            line.note.push(("tentative", id.get().to_string()));
        }
        let store = change.store;
        line.table = names
            .table_name(store)
            .map_or_else(|| store_name(store), str::to_owned);
        match names.key(lsn, store, change.key) {
            Some(key) => line.key = key,
            None => line.key = vec![raw("row", change.key)],
        }
        let unread = |bytes: &[u8]| vec![raw("bytes", bytes)];
        match change.op {
            Op::Insert => {
                line.after = names
                    .row(store, change.after)
                    .unwrap_or_else(|| unread(change.after));
            }
            Op::Delete => {
                line.before = names
                    .row(store, change.before)
                    .unwrap_or_else(|| unread(change.before));
            }
            Op::Update => {
                (line.before, line.after) = names
                    .update(store, change.before, change.after)
                    .unwrap_or_else(|| (unread(change.before), unread(change.after)));
            }
        }
        line
    }

    pub fn catalog(lsn: Lsn, who: &Who<'_>, table: &str, change: &CatalogChange, known: &Names) -> Self {
        let op = match change {
            CatalogChange::Election(change) => return Self::election(lsn, who, table, change, known),
            CatalogChange::CreateTable(_) => "CREATE",
            CatalogChange::DropTable { .. } => "DROP",
            CatalogChange::CreateSequence(_) => "CREATE SEQUENCE",
            CatalogChange::RedefineSequence(_) => "ALTER SEQUENCE",
            CatalogChange::DropSequence { .. } => "DROP SEQUENCE",
            CatalogChange::Truncate { .. } => "TRUNCATE",
            CatalogChange::AddPrimaryKey { .. } => "ADD KEY",
            CatalogChange::SetRules { .. } => "SET RULES",
            CatalogChange::Redefine(_) => "ALTER",
        };
        let mut line = Self::new(lsn, who, op);
        line.table = table.to_owned();
        let names = |def: &mut dyn Iterator<Item = &str>| def.collect::<Vec<_>>().join(", ");
        match change {
            CatalogChange::CreateTable(def) | CatalogChange::Redefine(def) => {
                let columns = names(&mut def.live_columns().map(|(_, column)| column.name.as_str()));
                line.note.push(("columns", columns));
            }
            CatalogChange::AddPrimaryKey { key, .. } => line.note.push(("constraint", key.name.clone())),
            CatalogChange::SetRules { oid, rules } => line.note = known.rules(*oid, rules),
            CatalogChange::CreateSequence(_)
            | CatalogChange::RedefineSequence(_)
            | CatalogChange::DropSequence { .. }
            | CatalogChange::DropTable { .. }
            | CatalogChange::Truncate { .. }
            | CatalogChange::Election(_) => {}
        }
        line
    }

    /// How far the numbers of a sequence may have been drawn from here on: nobody's, as no transaction undoes it.
    pub fn sequence(lsn: Lsn, name: &str, position: &SequencePosition) -> Self {
        let mut line = Self::new(lsn, &Who::default(), "SEQUENCE");
        line.table = name.to_owned();
        let what = if position.is_called { "upto" } else { "next" };
        line.note.push((what, position.last.to_string()));
        line
    }

    fn election(lsn: Lsn, who: &Who<'_>, table: &str, change: &ElectionChange, known: &Names) -> Self {
        let (op, note) = match change {
            ElectionChange::CreateElection { name, .. } => ("CREATE ELECTION", ("election", name.clone())),
            ElectionChange::CreateCandidate { id, .. } => {
                ("CREATE CANDIDATE", ("candidate", known.candidate(*id).to_owned()))
            }
            ElectionChange::CreateBranch { candidate, .. } => (
                "CREATE BRANCH",
                ("candidate", known.candidate(*candidate).to_owned()),
            ),
            ElectionChange::Adopt { candidate, .. } => {
                ("ADOPT", ("candidate", known.candidate(*candidate).to_owned()))
            }
            ElectionChange::Rebase { candidate } => (
                "REBASE CANDIDATE",
                ("candidate", known.candidate(*candidate).to_owned()),
            ),
            ElectionChange::Discard { candidate, .. } => (
                "DISCARD BRANCHES",
                ("candidate", known.candidate(*candidate).to_owned()),
            ),
            ElectionChange::Record { candidate, .. } => {
                ("RECORD", ("candidate", known.candidate(*candidate).to_owned()))
            }
            ElectionChange::Expire { election, .. } => {
                ("EXPIRE BASE", ("election", known.election(*election).to_owned()))
            }
            ElectionChange::AlterCandidate { candidate, .. } => (
                "ALTER CANDIDATE",
                ("candidate", known.candidate(*candidate).to_owned()),
            ),
            ElectionChange::Score { election, .. } => {
                ("SCORE", ("election", known.election(*election).to_owned()))
            }
            ElectionChange::Grant {
                election, revoked, ..
            } => (
                if *revoked { "REVOKE" } else { "GRANT" },
                ("election", known.election(*election).to_owned()),
            ),
            ElectionChange::Decide { candidate, .. } => {
                ("DECIDE", ("candidate", known.candidate(*candidate).to_owned()))
            }
            ElectionChange::EndCandidate {
                candidate, elected, ..
            } => {
                let op = if *elected {
                    "ELECT CANDIDATE"
                } else {
                    "DROP CANDIDATE"
                };
                (op, ("candidate", known.candidate(*candidate).to_owned()))
            }
            ElectionChange::EndElection { election, committed } => {
                let op = if *committed {
                    "COMMIT ELECTION"
                } else {
                    "ABANDON ELECTION"
                };
                (op, ("election", known.election(*election).to_owned()))
            }
            ElectionChange::ForgetElection { election } => (
                "DROP ELECTION",
                ("election", known.election(*election).to_owned()),
            ),
        };
        let mut line = Self::new(lsn, who, op);
        line.table = table.to_owned();
        line.note.push(note);
        match change {
            ElectionChange::Adopt { count, skipped, .. } => {
                line.note.push(("ordinals", count.to_string()));
                line.note.push(("skipped", skipped.len().to_string()));
            }
            ElectionChange::Score {
                query,
                maximize,
                scores,
                ..
            } => {
                let score = |score: &Score| {
                    let sign = match (score.elected, score.admissible) {
                        (true, _) => " elected",
                        (false, true) => "",
                        (false, false) => " not admissible",
                    };
                    let value = score.score.as_deref().unwrap_or("NULL");
                    format!("{} {value}{sign}", score.candidate)
                };
                let best = if *maximize { "max" } else { "min" };
                line.note.push(("query", query.clone()));
                line.note.push(("best", best.to_owned()));
                line.note
                    .push(("scores", scores.iter().map(score).collect::<Vec<_>>().join("; ")));
            }
            ElectionChange::Grant {
                grantee, privileges, ..
            } => {
                let grantee = grantee.as_deref().unwrap_or("PUBLIC");
                line.note.push(("privileges", privileges.names()));
                line.note.push(("grantee", grantee.to_owned()));
            }
            ElectionChange::Decide {
                base,
                verdict,
                reason,
                keys,
                ..
            } => {
                let key = |key: &Vec<u8>| {
                    let named = known.key(lsn, *base, key);
                    assignments(&named.unwrap_or_else(|| vec![raw("row", key)]))
                };
                line.note.push(("verdict", verdict.name().to_owned()));
                line.note.push(("rule", reason.clone()));
                let keys: Vec<String> = keys.iter().map(key).collect();
                line.note.push(("rows", keys.join("; ")));
            }
            ElectionChange::Record { statement, .. } => {
                line.note.push(("statement", statement.text.clone()));
                if !statement.parameters.is_empty() {
                    line.note.push(("parameters", statement.parameter_list()));
                }
            }
            ElectionChange::Expire { upto, .. } => line.note.push(("upto", upto.to_string())),
            ElectionChange::AlterCandidate {
                mirrored,
                weight,
                note,
                ..
            } => {
                let mirror = mirrored.map(|flag| if flag { "on" } else { "off" });
                let values = [
                    ("mirror", mirror.map(str::to_owned)),
                    ("weight", weight.map(|weight| weight.to_string())),
                    ("note", note.clone()),
                ];
                let values = values.into_iter();
                line.note
                    .extend(values.filter_map(|(name, value)| Some((name, value?))));
            }
            _ => {}
        }
        line
    }

    pub fn dropped(lsn: Lsn, id: TentativeId) -> Self {
        let mut line = Self::new(lsn, &Who::default(), "DISCARD");
        line.note.push(("tentative", id.get().to_string()));
        line
    }

    pub fn commit(lsn: Lsn, who: &Who<'_>, commit: &Commit<'_>) -> Self {
        let mut line = Self::new(lsn, who, "COMMIT");
        line.note.extend(who.notes());
        if let Some(id) = commit.adopts {
            line.note.push(("adopts", id.get().to_string()));
        }
        line.note.push(("origin", commit.origin_node.get().to_string()));
        line
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Columns,
    Json,
}

impl Style {
    pub fn header(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Columns => writeln!(
                out,
                "{:<12} {:<26} {:>8} {:<10} {:<16} {:<8} {:<16} BEFORE → AFTER",
                "LSN", "TIME (UTC)", "TXN", "USER", "TABLE", "OP", "KEY"
            ),
            Self::Json => Ok(()),
        }
    }

    pub fn write(self, line: &Line, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Columns => writeln!(
                out,
                "{:<12} {:<26} {:>8} {:<10} {:<16} {:<8} {:<16} {}",
                line.lsn.to_string(),
                line.time,
                line.txn,
                printable(&line.user),
                printable(&line.table),
                line.op,
                values(&line.key),
                change(line)
            ),
            Self::Json => writeln!(out, "{}", json(line)),
        }
    }
}

/// An update as `column: before → after`, an insert as `→ row`, a delete as `row →`.
fn change(line: &Line) -> String {
    let mut text = match (line.before.as_slice(), line.after.as_slice()) {
        ([], []) => String::new(),
        ([], after) => format!("→ {}", assignments(after)),
        (before, []) => format!("{} →", assignments(before)),
        (before, after) => {
            let pairs = before.iter().zip(after);
            let pairs: Vec<String> = pairs
                .map(|(old, new)| format!("{}: {} → {}", printable(&old.column), value(old), value(new)))
                .collect();
            pairs.join(", ")
        }
    };
    for (name, note) in &line.note {
        if !text.is_empty() {
            text.push_str("  ");
        }
        let _ = write!(text, "{name} {}", printable(note));
    }
    text
}

fn assignments(row: &[Named]) -> String {
    let items: Vec<String> = row
        .iter()
        .map(|named| format!("{}={}", printable(&named.column), value(named)))
        .collect();
    items.join(", ")
}

fn values(row: &[Named]) -> String {
    let items: Vec<String> = row.iter().map(value).collect();
    items.join(", ")
}

fn value(named: &Named) -> String {
    match &named.value {
        None => "NULL".to_owned(),
        Some(text) if named.quoted => format!("'{}'", printable(text).replace('\'', "''")),
        Some(text) => text.clone(),
    }
}

fn printable(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c.is_control() {
                true => out.extend(c.escape_default()),
                false => out.push(c),
            }
            out
        })
}

fn store_name(store: StoreId) -> String {
    format!("store {}", store.get())
}

pub fn raw(column: &str, bytes: &[u8]) -> Named {
    let value = match <[u8; 8]>::try_from(bytes) {
        Ok(row_id) if column == "row" => u64::from_be_bytes(row_id).to_string(),
        _ => bytes.iter().fold(String::from("\\x"), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
    };
    Named {
        column: column.to_owned(),
        value: Some(value),
        quoted: column != "row",
    }
}

fn time(micros: Micros) -> String {
    let mut text = Vec::new();
    write_timestamp(micros.get(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn json(line: &Line) -> String {
    let mut out = String::from("{");
    let mut field = |name: &str, value: String| {
        if out.len() > 1 {
            out.push(',');
        }
        let _ = write!(out, "{}:{value}", json_text(name));
    };
    field("lsn", json_text(&line.lsn.to_string()));
    for (name, text) in [("time", &line.time), ("user", &line.user), ("table", &line.table)] {
        if !text.is_empty() {
            field(name, json_text(text));
        }
    }
    if !line.txn.is_empty() {
        field("txn", line.txn.clone());
    }
    field("op", json_text(line.op));
    for (name, row) in [
        ("key", &line.key),
        ("before", &line.before),
        ("after", &line.after),
    ] {
        if !row.is_empty() {
            field(name, json_row(row));
        }
    }
    for (name, note) in &line.note {
        field(name, json_text(note));
    }
    out.push('}');
    out
}

fn json_row(row: &[Named]) -> String {
    let items: Vec<String> = row
        .iter()
        .map(|named| {
            let value = named
                .value
                .as_deref()
                .map_or_else(|| "null".to_owned(), json_text);
            format!("{}:{value}", json_text(&named.column))
        })
        .collect();
    format!("{{{}}}", items.join(","))
}

/// Values are JSON strings whatever their type: a numeric of 38 digits would not survive as a
/// JSON number.
fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(column: &str, value: Option<&str>, quoted: bool) -> Named {
        Named {
            column: column.to_owned(),
            value: value.map(str::to_owned),
            quoted,
        }
    }

    #[test]
    fn an_update_shows_each_changed_column_before_and_after() {
        let line = Line {
            op: "UPDATE",
            before: vec![
                named("name", Some("O'Hara"), true),
                named("stock", Some("5"), false),
            ],
            after: vec![named("name", None, true), named("stock", Some("4"), false)],
            ..Line::default()
        };
        assert_eq!(change(&line), "name: 'O''Hara' → NULL, stock: 5 → 4");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let line = Line {
            op: "INSERT",
            after: vec![named("note", Some("\u{1b}[2Jgone"), true)],
            ..Line::default()
        };
        assert_eq!(change(&line), "→ note='\\u{1b}[2Jgone'");
        assert_eq!(
            json(&line),
            r#"{"lsn":"0/0","op":"INSERT","after":{"note":"\u001b[2Jgone"}}"#
        );
    }
}
