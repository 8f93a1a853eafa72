//! Rows that an index finds, with the keys that they have in their table, in the index's order.

use crate::error::Error;
use crate::exec::context::Exec;
use crate::plan::access::{self, Access, IndexAccess};
use scry_engine::{Key, KeyRange, Lookups, ScanCursor, Table, Version};

/// Rows of the first batch; later ones are larger. A LIMIT reads little in vain.
const FIRST_BATCH: usize = 32;
const LARGEST_BATCH: usize = 1024;

/// Where the index is to be looked at.
enum Place {
    /// A whole key of a unique index.
    Key(Key),
    Range(KeyRange),
}

/// What was found at a place.
enum Looked {
    /// A key in the index and that of its row in the table.
    Row(Option<(Key, Key)>),
    Rows(ScanCursor),
}

/// What is left to be found.
pub struct IndexRows {
    index: usize,
    /// Comes before `places`.
    looked: std::vec::IntoIter<Looked>,
    places: std::vec::IntoIter<Place>,
    /// Keys in the index, and those of their rows in the table.
    found: std::vec::IntoIter<(Key, Key)>,
    cursor: Option<ScanCursor>,
    size: usize,
    /// What looks the table's rows up; else the transaction does, as it sees them when they are reached.
    lookups: Option<Lookups>,
}

impl IndexRows {
    /// For a statement that writes nothing: each place is looked at when it is reached, so that a LIMIT looks at few.
    pub fn open(exec: &Exec<'_>, access: &IndexAccess) -> Result<IndexRows, Error> {
        Ok(IndexRows {
            index: access.index,
            looked: Vec::new().into_iter(),
            places: places(exec, access)?.into_iter(),
            found: Vec::new().into_iter(),
            cursor: None,
            size: FIRST_BATCH,
            lookups: None,
        })
    }

    /// All places are looked at now: what the statement writes meanwhile leads it to no row. Rows are as they are when they are reached.
    pub fn open_for_writing(
        exec: &mut Exec<'_>,
        table: &Table,
        access: &IndexAccess,
    ) -> Result<IndexRows, Error> {
        let mut rows = Self::open(exec, access)?;
        rows.look_ahead(exec, table)?;
        Ok(rows)
    }

    /// Looks at all places that are left.
    fn look_ahead(&mut self, exec: &mut Exec<'_>, table: &Table) -> Result<(), Error> {
        let (index, places) = (self.index, self.places.by_ref());
        let looked: Result<Vec<Looked>, Error> =
            places.map(|place| look(exec, table, index, place)).collect();
        self.looked = looked?.into_iter();
        Ok(())
    }

    /// Whether all that is left is in one range of the index.
    pub fn is_a_range(&self) -> bool {
        match self.places.as_slice() {
            _ if !self.looked.as_slice().is_empty() => false,
            [] => self.cursor.is_some(),
            [Place::Range(_)] => self.cursor.is_none() && self.found.as_slice().is_empty(),
            _ => false,
        }
    }

    /// From now on nothing that the transaction does changes what is found in the range that is left.
    pub fn hold(&mut self, exec: &mut Exec<'_>, table: &Table) -> Result<(), Error> {
        self.look_ahead(exec, table)?;
        self.lookups = Some(exec.txn.begin_lookups(table)?);
        Ok(())
    }

    /// The next row.
    pub fn next(&mut self, exec: &mut Exec<'_>, table: &Table) -> Result<Option<(Key, Version)>, Error> {
        loop {
            for (key, own) in self.found.by_ref() {
                let (entry, index) = (key.as_ref(), self.index);
                let row = match &self.lookups {
                    Some(lookups) => lookups.get_indexed(exec.txn, table, index, entry, own.as_ref())?,
                    None => exec.txn.get_indexed(table, index, entry, own.as_ref())?,
                };
                if let Some(row) = row {
                    return Ok(Some((own, row)));
                }
            }
            let Some(cursor) = &mut self.cursor else {
                let looked = match self.looked.next() {
                    Some(looked) => looked,
                    None => match self.places.next() {
                        Some(place) => look(exec, table, self.index, place)?,
                        None => return Ok(None),
                    },
                };
                match looked {
                    Looked::Row(row) => self.found = Vec::from_iter(row).into_iter(),
                    Looked::Rows(cursor) => self.cursor = Some(cursor),
                }
                continue;
            };
            let batch = cursor.next_batch(self.size)?;
            exec.depends_on(cursor.depends_on());
            if batch.is_empty() {
                self.cursor = None;
            }
            self.size = (self.size * 4).min(LARGEST_BATCH);
            let entry = |(key, entry): (Key, Version)| (key, Key::from_bytes(&entry.row));
            self.found = batch.into_iter().map(entry).collect::<Vec<_>>().into_iter();
        }
    }
}

fn look(exec: &mut Exec<'_>, table: &Table, index: usize, place: Place) -> Result<Looked, Error> {
    Ok(match place {
        Place::Key(key) => {
            let own = exec.txn.get_by_index(table, index, key.as_ref())?;
            Looked::Row(own.map(|own| (key, own)))
        }
        Place::Range(range) => Looked::Rows(exec.txn.begin_index_scan(table, index, range)?),
    })
}

fn places(exec: &Exec<'_>, access: &IndexAccess) -> Result<Vec<Place>, Error> {
    let env = exec.env();
    let place = |key: Key| match access.unique {
        true => Place::Key(key),
        false => Place::Range(KeyRange::prefix(&key)),
    };
    Ok(match &access.within {
        Access::Point(parts) => access::point(parts, &env)?.into_iter().map(place).collect(),
        Access::Points(columns) => access::points(columns, &env)?.into_iter().map(place).collect(),
        Access::Range { prefix, lower, upper } => {
            let range = access::range(prefix, lower.as_ref(), upper.as_ref(), &env)?;
            range.into_iter().map(Place::Range).collect()
        }
        Access::Full => vec![Place::Range(KeyRange::all())],
        Access::None | Access::Index(_) => return Err(Error::internal("not an access within an index")),
    })
}
