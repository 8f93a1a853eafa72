//! Command tags: what CommandComplete says, and what the audit trail records as a transaction's statement tag.

use std::fmt;

/// The tag of a finished statement, e.g. `INSERT 0 3`. Rendered on demand, without allocation until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandTag {
    /// A statement without a row count: `BEGIN`, `CREATE TABLE`, …
    Plain(&'static str),
    /// `INSERT 0 n`: PostgreSQL keeps a place for an oid that no longer exists.
    Insert(u64),
    Update(u64),
    Delete(u64),
    Select(u64),
    Copy(u64),
    Fetch(u64),
}

impl CommandTag {
    /// The tag without its count, as the audit trail records it.
    pub fn name(&self) -> &'static str {
        match self {
            CommandTag::Plain(name) => name,
            CommandTag::Insert(_) => "INSERT",
            CommandTag::Update(_) => "UPDATE",
            CommandTag::Delete(_) => "DELETE",
            CommandTag::Select(_) => "SELECT",
            CommandTag::Copy(_) => "COPY",
            CommandTag::Fetch(_) => "FETCH",
        }
    }
}

impl fmt::Display for CommandTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandTag::Plain(name) => f.write_str(name),
            CommandTag::Insert(rows) => write!(f, "INSERT 0 {rows}"),
            CommandTag::Update(rows) => write!(f, "UPDATE {rows}"),
            CommandTag::Delete(rows) => write!(f, "DELETE {rows}"),
            CommandTag::Select(rows) => write!(f, "SELECT {rows}"),
            CommandTag::Copy(rows) => write!(f, "COPY {rows}"),
            CommandTag::Fetch(rows) => write!(f, "FETCH {rows}"),
        }
    }
}
