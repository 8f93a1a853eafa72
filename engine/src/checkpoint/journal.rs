//! The definitions: every change of the catalog that is still of importance, in the order of the log.
//!
//! A checkpoint keeps the catalog as the list of the changes that made it, so that what a restart does with a catalog
//! is one thing, from the log and from a checkpoint. What nobody can see any more is left out: changes of
//! tables that no catalog within history nor the base of an election has, of sequences that were dropped, and of elections that were forgotten.

use crate::catalog::{AppliedChange, Catalog};
use crate::catalog_change::CatalogChange;
use crate::election::change::ElectionChange;
use crate::store::backing::Spaces;
use scry_wal::Lsn;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// One change of the catalog, by the commit at `lsn`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Definition {
    pub(crate) lsn: Lsn,
    /// The space of the store that it made, and those of all indexes that the table has.
    pub(crate) spaces: Spaces,
    pub(crate) change: CatalogChange,
}

impl Definition {
    pub(crate) fn new(lsn: Lsn, applied: &AppliedChange) -> Definition {
        let makes_store = matches!(
            applied.change,
            CatalogChange::CreateTable(_)
                | CatalogChange::Truncate { .. }
                | CatalogChange::AddPrimaryKey { .. }
                | CatalogChange::Election(ElectionChange::CreateBranch { .. })
        );
        let table = applied.table.as_ref();
        let indexes = table.iter().flat_map(|table| &table.indexes);
        Definition {
            lsn,
            spaces: Spaces {
                table: table.filter(|_| makes_store).map(|table| table.store.home.space),
                indexes: indexes
                    .map(|index| (index.def.store, index.store().home.space))
                    .collect(),
            },
            change: applied.change.clone(),
        }
    }
}

/// What a change is about.
enum Subject {
    Table(u32),
    Election(u64),
    Candidate(u64),
    Sequence(u32),
}

fn subject(change: &CatalogChange) -> Subject {
    match change {
        CatalogChange::CreateTable(def) | CatalogChange::Redefine(def) => Subject::Table(def.oid),
        CatalogChange::DropTable { oid, .. }
        | CatalogChange::Truncate { oid, .. }
        | CatalogChange::AddPrimaryKey { oid, .. }
        | CatalogChange::SetRules { oid, .. } => Subject::Table(*oid),
        CatalogChange::CreateSequence(def) | CatalogChange::RedefineSequence(def) => {
            Subject::Sequence(def.oid)
        }
        CatalogChange::DropSequence { oid, .. } => Subject::Sequence(*oid),
        CatalogChange::Election(change) => match change {
            ElectionChange::CreateElection { id, .. } => Subject::Election(*id),
            ElectionChange::CreateCandidate { election, .. }
            | ElectionChange::EndElection { election, .. }
            | ElectionChange::ForgetElection { election }
            | ElectionChange::Score { election, .. }
            | ElectionChange::Grant { election, .. }
            | ElectionChange::Expire { election, .. } => Subject::Election(*election),
            ElectionChange::CreateBranch { candidate, .. }
            | ElectionChange::Adopt { candidate, .. }
            | ElectionChange::EndCandidate { candidate, .. }
            | ElectionChange::Rebase { candidate }
            | ElectionChange::Decide { candidate, .. }
            | ElectionChange::Discard { candidate, .. }
            | ElectionChange::Record { candidate, .. }
            | ElectionChange::AlterCandidate { candidate, .. } => Subject::Candidate(*candidate),
        },
    }
}

/// The definitions that made `catalogs`, without those that nobody can see any more.
pub(crate) fn needed(definitions: &[Definition], catalogs: &[Arc<Catalog>]) -> Vec<Definition> {
    let (mut elections, mut tables, mut sequences) = (HashSet::new(), HashSet::new(), HashSet::new());
    for catalog in catalogs {
        elections.extend(catalog.elections().iter().map(|election| election.id));
        let bases = catalog.elections().iter().flat_map(|election| election.bases());
        sequences.extend(catalog.sequences().iter().map(|sequence| sequence.def.oid));
        tables.extend(catalog.all_tables().chain(bases).map(|table| table.def.oid));
    }
    let candidates: HashMap<u64, u64> = definitions
        .iter()
        .filter_map(|definition| match &definition.change {
            CatalogChange::Election(ElectionChange::CreateCandidate { election, id, .. }) => {
                Some((*id, *election))
            }
            _ => None,
        })
        .collect();
    let is_needed = |definition: &&Definition| match subject(&definition.change) {
        Subject::Table(oid) => tables.contains(&oid),
        Subject::Sequence(oid) => sequences.contains(&oid),
        Subject::Election(id) => elections.contains(&id),
        Subject::Candidate(id) => candidates
            .get(&id)
            .is_some_and(|election| elections.contains(election)),
    };
    definitions.iter().filter(is_needed).cloned().collect()
}
