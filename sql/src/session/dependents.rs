//! What hangs on things that are to go: defaults that draw from their sequences, foreign keys that refer to their keys, columns that
//! are generated from them.
//!
//! A statement knows all that goes before anything does, and collects what hangs on it; what goes itself stops nothing. Then it is
//! refused (2BP01) or, with CASCADE, told of in one notice and dropped first. The texts and their order are PostgreSQL's.

use super::Session;
use super::ddl::notice;
use crate::error::{Error, SqlState};
use crate::plan::column_default;
use scry_engine::{Catalog, SequenceDef, Table};

/// Something that depends on what is to go.
pub(super) struct Dependent {
    place: Place,
    /// As messages call it.
    name: String,
    /// What it depends on, as messages call it.
    on: String,
}

/// Where it is: a table's oid, and what of it.
enum Place {
    ForeignKey(u32, String),
    Default(u32, usize),
    Column(u32, usize),
}

impl Dependent {
    /// The n-th foreign key of a table.
    pub(super) fn foreign_key(child: &Table, number: usize, on: String) -> Dependent {
        let name = &child.def.foreign_keys[number].name;
        Dependent {
            place: Place::ForeignKey(child.def.oid, name.clone()),
            name: format!("constraint {name} on table {}", child.def.name),
            on,
        }
    }

    pub(super) fn column(table: &Table, column: usize, on: String) -> Dependent {
        let name = &table.def.columns[column].name;
        Dependent {
            place: Place::Column(table.def.oid, column),
            name: format!("column {name} of table {}", table.def.name),
            on,
        }
    }

    fn default(table: &Table, column: usize, sequence: &SequenceDef) -> Dependent {
        let name = &table.def.columns[column].name;
        Dependent {
            place: Place::Default(table.def.oid, column),
            name: format!("default value for column {name} of table {}", table.def.name),
            on: format!("sequence {}", sequence.name),
        }
    }
}

/// The defaults that draw from a sequence, but for those of columns of which `goes` is true: asked with the table's oid.
pub(super) fn drawing(
    catalog: &Catalog,
    sequence: &SequenceDef,
    goes: impl Fn(u32, usize) -> bool,
) -> Vec<Dependent> {
    let mut found = Vec::new();
    for table in catalog.tables() {
        for (number, column) in table.def.live_columns() {
            let text = column.default_expression().unwrap_or_default();
            let draws = column_default::sequences(text).any(|used| used == sequence.oid);
            if draws && !goes(table.def.oid, number) {
                found.push(Dependent::default(table, number, sequence));
            }
        }
    }
    found
}

impl Session {
    /// Before `what` goes, such as `table t`, or several things: refuses that while something depends on it, or drops that.
    pub(super) async fn release(
        &mut self,
        what: Option<&str>,
        dependents: &[Dependent],
        cascade: bool,
    ) -> Result<(), Error> {
        if dependents.is_empty() {
            return Ok(());
        }
        if !cascade {
            return Err(still_needed(what, dependents));
        }
        self.tell_cascade(dependents);
        for dependent in dependents {
            // Each as the last one has left it.
            match &dependent.place {
                Place::ForeignKey(child, name) => {
                    let child = self.table_of(*child)?;
                    let txn = self.transaction.open_txn()?;
                    let dropping = txn.drop_foreign_key(&child, name);
                    self.interrupt.locking(dropping).await??;
                }
                Place::Column(table, column) => {
                    let table = self.table_of(*table)?;
                    let name = table.def.columns[*column].name.clone();
                    Box::pin(self.drop_column(&table, &name, true, cascade)).await?;
                }
                Place::Default(table, column) => {
                    let table = self.table_of(*table)?;
                    let mut def = table.def.clone();
                    def.columns[*column].default = None;
                    let txn = self.transaction.open_txn()?;
                    self.interrupt.locking(txn.redefine(&table, def)).await??;
                }
            }
        }
        Ok(())
    }

    fn tell_cascade(&mut self, dependents: &[Dependent]) {
        let line = |dependent: &Dependent| format!("drop cascades to {}", dependent.name);
        let told = match dependents {
            [only] => notice(SqlState::SUCCESSFUL_COMPLETION, line(only)),
            many => {
                let lines: Vec<String> = many.iter().map(line).collect();
                let text = format!("drop cascades to {} other objects", many.len());
                let mut told = notice(SqlState::SUCCESSFUL_COMPLETION, text);
                told.0 = told.0.with_detail(lines.join("\n"));
                told
            }
        };
        self.notices.push(told);
    }
}

/// 2BP01.
fn still_needed(what: Option<&str>, dependents: &[Dependent]) -> Error {
    let (what, it) = what.map_or(("desired object(s)", "them"), |what| (what, "it"));
    let line = |dependent: &Dependent| format!("{} depends on {}", dependent.name, dependent.on);
    let lines: Vec<String> = dependents.iter().map(line).collect();
    Error::new(
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot drop {what} because other objects depend on {it}"),
    )
    .with_detail(lines.join("\n"))
    .with_hint("Use DROP ... CASCADE to drop the dependent objects too.")
}
