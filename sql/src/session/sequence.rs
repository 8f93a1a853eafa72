//! CREATE, ALTER and DROP SEQUENCE at work, the sequences that columns own, and who depends on a sequence.

use super::Session;
use super::ddl::notice;
use crate::constraint;
use crate::error::{Error, SqlState};
use crate::plan::column_default;
use crate::plan::create_table::{ColumnSequence, check_name};
use crate::plan::dml;
use crate::plan::select::no_such_table;
use crate::plan::sequence::{OwnedBy, SequenceClauses, within};
use crate::plan::statement::SequenceStatement;
use crate::sequence::named;
use scry_engine::{Catalog, ColumnDefault, NewTable, Sequence, SequenceDef, SequenceOwner, Table};
use std::sync::Arc;

/// A column that draws from a sequence, or that a sequence belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Use {
    table: u32,
    column: usize,
}

/// The columns whose defaults draw from a sequence.
fn uses(catalog: &Catalog, oid: u32) -> Vec<Use> {
    let mut found = Vec::new();
    for table in catalog.tables() {
        for (column, def) in table.def.columns.iter().enumerate() {
            let text = def.default_expression().unwrap_or_default();
            if column_default::sequences(text).any(|used| used == oid) {
                found.push(Use {
                    table: table.def.oid,
                    column,
                });
            }
        }
    }
    found
}

fn default_of(catalog: &Catalog, at: Use) -> String {
    let table = catalog.by_oid(at.table);
    let column = table.and_then(|table| table.def.columns.get(at.column));
    format!(
        "default value for column {} of table {}",
        column.map_or("", |column| column.name.as_str()),
        table.map_or("", |table| table.def.name.as_str())
    )
}

/// 2BP01: `what`, such as `sequence s`, cannot go.
fn depended_on(what: &str, details: &[String]) -> Error {
    Error::new(
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot drop {what} because other objects depend on it"),
    )
    .with_detail(details.join("\n"))
    .with_hint("Use DROP ... CASCADE to drop the dependent objects too.")
}

impl Session {
    pub(super) async fn sequence(&mut self, statement: &SequenceStatement) -> Result<(), Error> {
        match statement {
            SequenceStatement::Create {
                name,
                if_not_exists,
                clauses,
            } => self.create_sequence(name, *if_not_exists, clauses).await,
            SequenceStatement::Alter {
                name,
                if_exists,
                clauses,
            } => match self.known_sequence(name, *if_exists)? {
                Some(sequence) => self.alter_sequence(&sequence, clauses, None).await,
                None => Ok(()),
            },
            SequenceStatement::Rename { name, if_exists, to } => {
                check_name(to)?;
                match self.known_sequence(name, *if_exists)? {
                    Some(sequence) => self.rename_sequence(&sequence, to).await,
                    None => Ok(()),
                }
            }
            SequenceStatement::Drop {
                names,
                if_exists,
                cascade,
            } => {
                for name in names {
                    self.drop_sequence(name, *if_exists, *cascade).await?;
                }
                Ok(())
            }
        }
    }

    fn own_catalog(&mut self) -> Result<Arc<Catalog>, Error> {
        Ok(self.transaction.open_txn()?.catalog().clone())
    }

    fn skip(&mut self, text: &str) {
        let text = format!("{text}, skipping");
        self.notices.push(notice(SqlState::SUCCESSFUL_COMPLETION, text));
    }

    /// The sequence; `None`: there is none, and that is allowed.
    fn known_sequence(&mut self, name: &str, if_exists: bool) -> Result<Option<Arc<Sequence>>, Error> {
        let catalog = self.own_catalog()?;
        match named(&catalog, name) {
            Ok(sequence) => Ok(Some(sequence.clone())),
            Err(error) if if_exists && error.code == SqlState::UNDEFINED_TABLE => {
                let text = error.message.clone();
                self.skip(&text);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn create_sequence(
        &mut self,
        name: &str,
        if_not_exists: bool,
        clauses: &SequenceClauses,
    ) -> Result<(), Error> {
        check_name(name)?;
        let catalog = self.own_catalog()?;
        if catalog.has_relation(name) {
            let text = format!("relation \"{name}\" already exists");
            if !if_not_exists {
                return Err(Error::new(SqlState::DUPLICATE_TABLE, text));
            }
            let text = format!("{text}, skipping");
            self.notices.push(notice(SqlState::DUPLICATE_TABLE, text));
            return Ok(());
        }
        let options = clauses.new_options(scry_engine::DataType::Int8)?;
        let owner = owner(&catalog, clauses.owned_by.as_ref())?;
        let txn = self.transaction.open_txn()?;
        txn.create_sequence(name, options, owner.unwrap_or_default())?;
        Ok(())
    }

    /// Gives a sequence other options, and the number to begin with, if that is to change. `identity`: for its identity column.
    pub(super) async fn alter_sequence(
        &mut self,
        sequence: &Arc<Sequence>,
        clauses: &SequenceClauses,
        identity: Option<&str>,
    ) -> Result<(), Error> {
        let catalog = self.own_catalog()?;
        let mut def = sequence.def.clone();
        if clauses.owned_by.is_some()
            && let Some((table, _)) = identity_of(&catalog, &def)
        {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cannot change ownership of identity sequence",
            )
            .with_detail(format!(
                "Sequence \"{}\" is linked to table \"{}\".",
                def.name, table.def.name
            )));
        }
        if identity.is_some() && clauses.ty.is_some() {
            return Err(Error::syntax(
                "an identity column's sequence has the column's type",
            ));
        }
        def.options = clauses.changed(&def.options)?;
        if let Some(owner) = owner(&catalog, clauses.owned_by.as_ref())? {
            def.owner = owner;
        }
        let restart = clauses.restart.map(|first| first.unwrap_or(def.options.start));
        if restart.is_none() {
            let (last, _) = sequence.position();
            within("RESTART", last, def.options.min, def.options.max)?;
        }
        let txn = self.transaction.open_txn()?;
        let altering = txn.redefine_sequence(sequence, def, restart);
        self.interrupt.locking(altering).await??;
        Ok(())
    }

    pub(super) async fn rename_sequence(&mut self, sequence: &Arc<Sequence>, to: &str) -> Result<(), Error> {
        let mut def = sequence.def.clone();
        to.clone_into(&mut def.name);
        let txn = self.transaction.open_txn()?;
        if txn.catalog().has_relation(to) {
            return Err(Error::new(
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{to}\" already exists"),
            ));
        }
        let renaming = txn.redefine_sequence(sequence, def, None);
        self.interrupt.locking(renaming).await??;
        Ok(())
    }

    async fn drop_sequence(&mut self, name: &str, if_exists: bool, cascade: bool) -> Result<(), Error> {
        let catalog = self.own_catalog()?;
        let sequence = match named(&catalog, name) {
            Ok(sequence) => sequence.clone(),
            Err(error) if error.code == SqlState::UNDEFINED_TABLE => {
                let text = format!("sequence \"{name}\" does not exist");
                if !if_exists {
                    return Err(Error::new(SqlState::UNDEFINED_TABLE, text));
                }
                self.skip(&text);
                return Ok(());
            }
            Err(error) if catalog.table(name).is_some() => {
                return Err(error.with_hint("Use DROP TABLE to remove a table."));
            }
            Err(error) => return Err(error),
        };
        if let Some((table, column)) = identity_of(&catalog, &sequence.def) {
            let (table, column) = (&table.def.name, &table.def.columns[column].name);
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop sequence {name} because column {column} of table {table} requires it"),
            )
            .with_hint(format!("You can drop column {column} of table {table} instead.")));
        }
        let used = uses(&catalog, sequence.def.oid);
        if !used.is_empty() && !cascade {
            let detail = |at: &Use| format!("{} depends on sequence {name}", default_of(&catalog, *at));
            let details: Vec<String> = used.iter().map(detail).collect();
            return Err(depended_on(&format!("sequence {name}"), &details));
        }
        self.drop_defaults(&catalog, &used).await?;
        let txn = self.transaction.open_txn()?;
        let dropping = txn.drop_sequence(&sequence);
        self.interrupt.locking(dropping).await??;
        Ok(())
    }

    /// Takes their defaults from columns, and says so.
    async fn drop_defaults(&mut self, catalog: &Catalog, used: &[Use]) -> Result<(), Error> {
        for at in used {
            let text = format!("drop cascades to {}", default_of(catalog, *at));
            self.notices.push(notice(SqlState::SUCCESSFUL_COMPLETION, text));
            let now = self.own_catalog()?;
            let Some(table) = now.by_oid(at.table) else {
                continue;
            };
            let mut def = table.def.clone();
            def.columns[at.column].default = None;
            let txn = self.transaction.open_txn()?;
            self.interrupt.locking(txn.redefine(table, def)).await??;
        }
        Ok(())
    }

    /// Drops the sequences that belong to a table, which is gone, or to one column of it.
    pub(super) async fn drop_owned(
        &mut self,
        table: &Table,
        column: Option<usize>,
        cascade: bool,
    ) -> Result<(), Error> {
        let catalog = self.own_catalog()?;
        let is_meant = |sequence: &&Arc<Sequence>| {
            let owner = sequence.def.owner;
            column.is_none() || owner.is_some_and(|owner| Some(owner.column) == column)
        };
        let owned: Vec<_> = catalog
            .sequences()
            .owned_by(table.def.oid)
            .filter(is_meant)
            .cloned()
            .collect();
        for sequence in owned {
            let mut used = uses(&catalog, sequence.def.oid);
            used.retain(|at| at.table != table.def.oid || column.is_some_and(|column| at.column != column));
            if !used.is_empty() && !cascade {
                let detail = |at: &Use| {
                    let name = &sequence.def.name;
                    format!("{} depends on sequence {name}", default_of(&catalog, *at))
                };
                let details: Vec<String> = used.iter().map(detail).collect();
                return Err(depended_on(&format!("table {}", table.def.name), &details));
            }
            self.drop_defaults(&catalog, &used).await?;
            let txn = self.transaction.open_txn()?;
            let dropping = txn.drop_sequence(&sequence);
            self.interrupt.locking(dropping).await??;
        }
        Ok(())
    }

    /// TRUNCATE … RESTART IDENTITY.
    pub(super) async fn restart_owned(&mut self, table: &Table) -> Result<(), Error> {
        let catalog = self.own_catalog()?;
        for sequence in catalog.sequences().owned_by(table.def.oid) {
            let def = sequence.def.clone();
            let first = def.options.start;
            let txn = self.transaction.open_txn()?;
            let restarting = txn.redefine_sequence(sequence, def, Some(first));
            self.interrupt.locking(restarting).await??;
        }
        Ok(())
    }

    /// Creates the sequences of serial and identity columns; the columns' defaults draw from them.
    pub(super) fn create_owned(
        &mut self,
        table: &mut NewTable,
        wanted: &[ColumnSequence],
    ) -> Result<Vec<Arc<Sequence>>, Error> {
        let mut made = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let txn = self.transaction.open_txn()?;
            let catalog = txn.catalog().clone();
            let column = &mut table.columns[wanted.column];
            let name = match &wanted.clauses.name {
                Some(name) => name.clone(),
                None => constraint::chosen_name(&table.name, Some(&column.name), "seq", |name| {
                    catalog.has_relation(name) || name == table.name
                }),
            };
            let options = wanted.clauses.new_options(column.ty)?;
            let sequence = txn.create_sequence(&name, options, None)?;
            let oid = sequence.def.oid;
            column.default = Some(wanted.default(oid));
            made.push(sequence);
        }
        Ok(made)
    }

    /// Gives sequences to the columns of a table.
    pub(super) async fn own(
        &mut self,
        table: &Table,
        wanted: &[ColumnSequence],
        made: Vec<Arc<Sequence>>,
    ) -> Result<(), Error> {
        for (wanted, sequence) in wanted.iter().zip(made) {
            let def = SequenceDef {
                owner: Some(SequenceOwner {
                    table: table.def.oid,
                    column: wanted.column,
                }),
                ..sequence.def.clone()
            };
            let txn = self.transaction.open_txn()?;
            let owning = txn.redefine_sequence(&sequence, def, None);
            self.interrupt.locking(owning).await??;
        }
        Ok(())
    }

    /// ALTER COLUMN … ADD GENERATED … AS IDENTITY: the default of the column.
    pub(super) async fn add_identity(
        &mut self,
        table: &Table,
        column: usize,
        always: bool,
        clauses: &SequenceClauses,
    ) -> Result<ColumnDefault, Error> {
        let def = &table.def.columns[column];
        let (name, relation) = (&def.name, &table.def.name);
        let refused = |text: &str| {
            Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("column \"{name}\" of relation \"{relation}\" {text}"),
            ))
        };
        if !def.not_null {
            return refused("must be declared NOT NULL before identity can be added");
        }
        match &def.default {
            Some(ColumnDefault::Identity { .. }) => return refused("is already an identity column"),
            Some(_) => return refused("already has a default value"),
            None => {}
        }
        let wanted = ColumnSequence::identity(column, def.ty, always, clauses.clone())?;
        let mut new = NewTable {
            name: relation.clone(),
            columns: table.def.columns.clone(),
            ..NewTable::default()
        };
        let wanted = [wanted];
        let made = self.create_owned(&mut new, &wanted)?;
        self.own(table, &wanted, made).await?;
        new.columns[column]
            .default
            .take()
            .ok_or_else(|| Error::internal("an identity column without sequence"))
    }

    /// The sequence of an identity column.
    pub(super) fn identity_sequence(&mut self, oid: u32) -> Result<Arc<Sequence>, Error> {
        let catalog = self.own_catalog()?;
        let found = catalog.sequences().by_oid(oid).cloned();
        found.ok_or_else(|| Error::internal("an identity column without sequence"))
    }

    pub(super) async fn drop_identity(&mut self, oid: u32) -> Result<(), Error> {
        let sequence = self.identity_sequence(oid)?;
        let txn = self.transaction.open_txn()?;
        let dropping = txn.drop_sequence(&sequence);
        self.interrupt.locking(dropping).await??;
        Ok(())
    }
}

/// The identity column that a sequence belongs to.
fn identity_of<'c>(catalog: &'c Catalog, def: &SequenceDef) -> Option<(&'c Arc<Table>, usize)> {
    let owner = def.owner?;
    let table = catalog.by_oid(owner.table)?;
    let column = table.def.columns.get(owner.column)?;
    let is_identity = column.identity().is_some_and(|(sequence, _)| sequence == def.oid);
    is_identity.then_some((table, owner.column))
}

/// What OWNED BY says; `None`: nothing.
fn owner(catalog: &Catalog, clause: Option<&OwnedBy>) -> Result<Option<Option<SequenceOwner>>, Error> {
    Ok(match clause {
        None => None,
        Some(OwnedBy::None) => Some(None),
        Some(OwnedBy::Column { table, column }) => {
            let table = catalog.table(table).ok_or_else(|| no_such_table(table))?;
            Some(Some(SequenceOwner {
                table: table.def.oid,
                column: dml::column(table, column)?,
            }))
        }
    })
}
