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

/// What is left to be found.
pub struct IndexRows {
    index: usize,
    parts: std::vec::IntoIter<Part>,
    cursor: Option<ScanCursor>,
    batch: std::vec::IntoIter<(Key, Version)>,
    size: usize,
}

impl IndexRows {
    pub fn open(exec: &Exec<'_>, access: &IndexAccess) -> Result<IndexRows, Error> {
        let env = exec.env();
        let part = |key: Key| match access.unique {
            true => Part::Key(key),
            false => Part::Range(KeyRange::prefix(&key)),
        };
        let parts: Vec<Part> = match &access.within {
            Access::Point(parts) => access::point(parts, &env)?.into_iter().map(part).collect(),
            Access::Points(columns) => access::points(columns, &env)?.into_iter().map(part).collect(),
            Access::Range { prefix, lower, upper } => {
                let range = access::range(prefix, lower.as_ref(), upper.as_ref(), &env)?;
                range.into_iter().map(Part::Range).collect()
            }
            Access::Full => vec![Part::Range(KeyRange::all())],
            Access::None | Access::Index(_) => return Err(Error::internal("not an access within an index")),
        };
        Ok(IndexRows {
            index: access.index,
            parts: parts.into_iter(),
            cursor: None,
            batch: Vec::new().into_iter(),
            size: FIRST_BATCH,
        })
    }

    /// The next row.
    pub fn next(&mut self, exec: &mut Exec<'_>, table: &Table) -> Result<Option<(Key, Version)>, Error> {
        loop {
            if let Some((key, entry)) = self.batch.next() {
                let own = Key::from_bytes(&entry.row);
                match exec
                    .txn
                    .get_indexed(table, self.index, key.as_ref(), own.as_ref())?
                {
                    Some(version) => return Ok(Some((own, version))),
                    None => continue,
                }
            }
            if let Some(cursor) = &mut self.cursor {
                let batch = cursor.next_batch(self.size)?;
                exec.depends_on(cursor.depends_on());
                if batch.is_empty() {
                    self.cursor = None;
                }
                self.size = (self.size * 4).min(LARGEST_BATCH);
                self.batch = batch.into_iter();
                continue;
            }
            match self.parts.next() {
                None => return Ok(None),
                Some(Part::Key(key)) => {
                    if let Some(own) = exec.txn.get_by_index(table, self.index, key.as_ref())?
                        && let Some(version) =
                            exec.txn
                                .get_indexed(table, self.index, key.as_ref(), own.as_ref())?
                    {
                        return Ok(Some((own, version)));
                    }
                }
                Some(Part::Range(range)) => {
                    self.cursor = Some(exec.txn.begin_index_scan(table, self.index, range)?);
                }
            }
        }
    }
}
