//! CREATE, ALTER and DROP SEQUENCE at work, and the sequences that columns own.

use super::Session;
use super::ddl::notice;
use super::dependents::{Dependent, drawing};
use crate::constraint;
use crate::error::{Error, SqlState};
use crate::plan::create_table::{ColumnSequence, check_name};
use crate::plan::dml;
use crate::plan::select::no_such_table;
use crate::plan::sequence::{OwnedBy, SequenceClauses, within};
use crate::plan::statement::SequenceStatement;
use crate::sequence::named;
use scry_engine::{Catalog, ColumnDefault, NewTable, Sequence, SequenceDef, SequenceOwner, Table};
use std::sync::Arc;

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
            } => self.drop_sequences(names, *if_exists, *cascade).await,
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

    async fn drop_sequences(
        &mut self,
        names: &[String],
        if_exists: bool,
        cascade: bool,
    ) -> Result<(), Error> {
        let catalog = self.own_catalog()?;
        let mut sequences: Vec<Arc<Sequence>> = Vec::with_capacity(names.len());
        for name in names {
            let sequence = match named(&catalog, name) {
                Ok(sequence) => sequence,
                Err(error) if error.code == SqlState::UNDEFINED_TABLE => {
                    let text = format!("sequence \"{name}\" does not exist");
                    if !if_exists {
                        return Err(Error::new(SqlState::UNDEFINED_TABLE, text));
                    }
                    self.skip(&text);
                    continue;
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
                    format!(
                        "cannot drop sequence {name} because column {column} of table {table} requires it"
                    ),
                )
                .with_hint(format!("You can drop column {column} of table {table} instead.")));
            }
            if !sequences.iter().any(|known| Arc::ptr_eq(known, sequence)) {
                sequences.push(Arc::clone(sequence));
            }
        }
        let what = match sequences.as_slice() {
            [only] => Some(format!("sequence {}", only.def.name)),
            _ => None,
        };
        let drawn = sequences.iter().rev();
        let dependents: Vec<Dependent> = drawn
            .flat_map(|sequence| drawing(&catalog, &sequence.def, |_, _| false))
            .collect();
        self.release(what.as_deref(), &dependents, cascade).await?;
        for sequence in sequences {
            let txn = self.transaction.open_txn()?;
            let dropping = txn.drop_sequence(&sequence);
            self.interrupt.locking(dropping).await??;
        }
        Ok(())
    }

    /// Drops the sequences that belong to a table, which is gone, or to one column of it.
    pub(super) async fn drop_owned(&mut self, table: u32, column: Option<usize>) -> Result<(), Error> {
        let catalog = self.own_catalog()?;
        for sequence in owned_by(&catalog, table, column) {
            let txn = self.transaction.open_txn()?;
            let dropping = txn.drop_sequence(sequence);
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

    /// Drops the sequence of an identity column, which is none any more. Other columns may draw from it.
    pub(super) async fn drop_identity(&mut self, oid: u32) -> Result<(), Error> {
        let sequence = self.identity_sequence(oid)?;
        let catalog = self.own_catalog()?;
        let dependents = drawing(&catalog, &sequence.def, |_, _| false);
        let what = format!("sequence {}", sequence.def.name);
        self.release(Some(&what), &dependents, false).await?;
        let txn = self.transaction.open_txn()?;
        let dropping = txn.drop_sequence(&sequence);
        self.interrupt.locking(dropping).await??;
        Ok(())
    }
}

/// The sequences that belong to a table, or to one column of it.
pub(super) fn owned_by(
    catalog: &Catalog,
    table: u32,
    column: Option<usize>,
) -> impl Iterator<Item = &Arc<Sequence>> {
    let all = catalog.sequences().owned_by(table);
    all.filter(move |sequence| {
        column.is_none()
            || sequence
                .def
                .owner
                .is_some_and(|owner| Some(owner.column) == column)
    })
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
