//! Catalog changes, as the log and the mirror's manifest hold them.

use arbitrary::{Arbitrary, Result, Unstructured};
use scry_engine::{CatalogChange, TableDef};
use scry_wal::StoreId;

use super::values;
use crate::target::{Outcome, Target};

pub struct Changes;

impl Target for Changes {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = values::seeds();
        let made: Vec<_> = seeds
            .iter()
            .filter_map(|seed| {
                change(&mut Unstructured::new(seed))
                    .ok()
                    .map(|change| encoded(&change))
            })
            .collect();
        seeds.extend(made);
        seeds
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        if let Ok(change) = change(&mut Unstructured::new(input)) {
            assert_eq!(CatalogChange::decode(&encoded(&change)), Ok(change));
        }
        match CatalogChange::decode(input) {
            Ok(change) => {
                assert_eq!(encoded(&change), input, "there is one encoding");
                Outcome::of(("change", input.get(1)))
            }
            Err(error) => {
                assert!(error.offset <= input.len(), "{error}");
                Outcome::of(error.what)
            }
        }
    }
}

fn encoded(change: &CatalogChange) -> Vec<u8> {
    let mut out = Vec::new();
    change.encode(&mut out);
    out
}

fn change(u: &mut Unstructured<'_>) -> Result<CatalogChange> {
    let (oid, store) = (u32::arbitrary(u)?, StoreId::new(u32::arbitrary(u)?));
    Ok(match u.int_in_range(0..=5u8)? {
        0 => {
            let columns = u.int_in_range(0..=4u8)?;
            CatalogChange::CreateTable(TableDef {
                oid,
                name: values::text(u)?,
                columns: (0..columns).map(|_| values::column(u)).collect::<Result<_>>()?,
                primary_key: match bool::arbitrary(u)? {
                    true => Some(values::primary_key(u)?),
                    false => None,
                },
                store,
                ..TableDef::default()
            })
        }
        1 => CatalogChange::DropTable { oid, store },
        4 => CatalogChange::CreateSequence(values::sequence(u)?),
        5 => CatalogChange::DropSequence { oid, store },
        2 => CatalogChange::Truncate {
            oid,
            old: store,
            new: StoreId::new(u32::arbitrary(u)?),
        },
        _ => CatalogChange::AddPrimaryKey {
            oid,
            key: values::primary_key(u)?,
        },
    })
}
