//! Rows that an index finds, with the keys that they have in their table, in the index's order.

use crate::error::Error;
use crate::exec::context::Exec;
use crate::plan::access::{self, Access, IndexAccess};
use scry_engine::{Key, KeyRange, ScanCursor, Table, Version};

/// Rows of the first batch; later ones are larger. A LIMIT reads little in vain.
const FIRST_BATCH: usize = 32;
const LARGEST_BATCH: usize = 1024;

enum Part {
    /// A whole key of a unique index.
    Key(Key),
    Range(KeyRange),
}

/// What is left to be found. All of it is as it was when this was opened, but for the rows themselves: what the statement writes
/// meanwhile leads it to no row.
pub struct IndexRows {
    index: usize,
    /// Keys in the index, and those of their rows in the table.
    found: std::vec::IntoIter<(Key, Key)>,
    cursors: std::vec::IntoIter<ScanCursor>,
    cursor: Option<ScanCursor>,
    size: usize,
}

impl IndexRows {
    pub fn open(exec: &mut Exec<'_>, table: &Table, access: &IndexAccess) -> Result<IndexRows, Error> {
        let (mut found, mut cursors) = (Vec::new(), Vec::new());
        for part in parts(exec, access)? {
            match part {
                Part::Key(key) => {
                    let own = exec.txn.get_by_index(table, access.index, key.as_ref())?;
                    found.extend(own.map(|own| (key, own)));
                }
                Part::Range(range) => cursors.push(exec.txn.begin_index_scan(table, access.index, range)?),
            }
        }
        Ok(IndexRows {
            index: access.index,
            found: found.into_iter(),
            cursors: cursors.into_iter(),
            cursor: None,
            size: FIRST_BATCH,
        })
    }

    /// The next row.
    pub fn next(&mut self, exec: &mut Exec<'_>, table: &Table) -> Result<Option<(Key, Version)>, Error> {
        loop {
            for (key, own) in self.found.by_ref() {
                let row = exec
                    .txn
                    .get_indexed(table, self.index, key.as_ref(), own.as_ref())?;
                if let Some(row) = row {
                    return Ok(Some((own, row)));
                }
            }
            let Some(cursor) = &mut self.cursor else {
                self.cursor = self.cursors.next();
                if self.cursor.is_none() {
                    return Ok(None);
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

/// Where the index is to be looked at.
fn parts(exec: &Exec<'_>, access: &IndexAccess) -> Result<Vec<Part>, Error> {
    let env = exec.env();
    let part = |key: Key| match access.unique {
        true => Part::Key(key),
        false => Part::Range(KeyRange::prefix(&key)),
    };
    Ok(match &access.within {
        Access::Point(parts) => access::point(parts, &env)?.into_iter().map(part).collect(),
        Access::Points(columns) => access::points(columns, &env)?.into_iter().map(part).collect(),
        Access::Range { prefix, lower, upper } => {
            let range = access::range(prefix, lower.as_ref(), upper.as_ref(), &env)?;
            range.into_iter().map(Part::Range).collect()
        }
        Access::Full => vec![Part::Range(KeyRange::all())],
        Access::None | Access::Index(_) => return Err(Error::internal("not an access within an index")),
    })
}
