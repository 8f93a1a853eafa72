//! The list of a transaction's changes: numbered, grown and shrunk at its end only.
//!
//! It stands in chunks, so that it never moves: a load of millions of rows would otherwise hold its list twice, and copy
//! it, at every doubling, and the end of the transaction gives the memory back a chunk at a time.
//!
//! A chunk of which every change was moved out of memory (`crate::txn::moved`) is let go of: its numbers are taken, and have no change.
//!
//! Invariant: every chunk but the last is full or was let go of; the last one is empty only behind such a chunk.

use crate::overlay::Pending;
use smallvec::SmallVec;
use std::ops::{Index, IndexMut};

/// Changes of a chunk: one that stays has the places of so many stay.
const CHUNK: usize = 1 << 9;

#[derive(Default)]
pub(crate) struct Changes {
    chunks: SmallVec<[Vec<Pending>; 1]>,
}

impl Changes {
    pub(crate) fn len(&self) -> usize {
        match self.chunks.last() {
            Some(last) => (self.chunks.len() - 1) * CHUNK + last.len(),
            None => 0,
        }
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(pending),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(pending);
                self.chunks.push(chunk);
            }
            // Most transactions change a few rows: their only chunk grows as a vector does.
            None => self.chunks.push(vec![pending]),
        }
    }

    pub(crate) fn pop(&mut self) {
        let Some(last) = self.chunks.last_mut() else {
            return;
        };
        last.pop();
        let is_behind_gap = self.chunks.len() > 1 && self.chunks[self.chunks.len() - 2].is_empty();
        if self.chunks.last().is_some_and(Vec::is_empty) && !is_behind_gap {
            self.chunks.pop();
        }
    }

    /// The change of a number, unless it was let go of.
    pub(crate) fn get(&self, slot: usize) -> Option<&Pending> {
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    /// Takes the last change of those that there are.
    pub(crate) fn take_last(&mut self) -> Option<Pending> {
        while self.chunks.last().is_some_and(Vec::is_empty) {
            self.chunks.pop();
        }
        self.chunks.last_mut()?.pop()
    }

    /// Lets go of chunks below a number that have only changes of which `is_gone` says that nothing is left. Answers of how many changes.
    pub(crate) fn let_go(&mut self, below: usize, is_gone: impl Fn(&Pending) -> bool) -> usize {
        let chunks = (below / CHUNK).min(self.chunks.len().saturating_sub(1));
        let mut count = 0;
        for chunk in &mut self.chunks[..chunks] {
            if chunk.iter().all(&is_gone) {
                count += std::mem::take(chunk).len();
            }
        }
        count
    }

    /// As `iter`, with the numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Pending)> {
        let chunks = self.chunks.iter().enumerate();
        chunks.flat_map(|(number, chunk)| {
            let changes = chunk.iter().enumerate();
            changes.map(move |(place, pending)| (number * CHUNK + place, pending))
        })
    }

    pub(crate) fn last(&self) -> Option<&Pending> {
        self.chunks.last()?.last()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.chunks.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.chunks.iter_mut().flatten()
    }
}

impl Index<usize> for Changes {
    type Output = Pending;

    fn index(&self, slot: usize) -> &Pending {
        &self.chunks[slot / CHUNK][slot % CHUNK]
    }
}

impl IndexMut<usize> for Changes {
    fn index_mut(&mut self, slot: usize) -> &mut Pending {
        &mut self.chunks[slot / CHUNK][slot % CHUNK]
    }
}

/// From the first to the last; what is behind is freed on the way.
impl IntoIterator for Changes {
    type Item = Pending;
    type IntoIter = std::iter::Flatten<smallvec::IntoIter<[Vec<Pending>; 1]>>;

    fn into_iter(self) -> Self::IntoIter {
        self.chunks.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::locks::Holder;
    use crate::overlay::Now;
    use crate::store::entry::RowEntry;
    use scry_wal::TxnId;
    use std::sync::Arc;

    fn pending(number: u32, entry: &Arc<RowEntry>) -> Pending {
        Pending::locked(number, Key::new(), Arc::clone(entry), None, Now::Untouched)
    }

    #[test]
    fn numbers_stay_while_the_list_grows_and_shrinks_over_the_ends_of_chunks() {
        let holder = Arc::new(Holder::new(TxnId::new(1)));
        let entry = Arc::new(RowEntry::locked(holder, 0));
        let mut changes = Changes::default();
        let numbers = |changes: &Changes| changes.iter().map(|pending| pending.store).collect::<Vec<_>>();
        let many = 2 * CHUNK as u32 + 1;
        for number in 0..many {
            assert_eq!(changes.len(), number as usize);
            changes.push(pending(number, &entry));
        }
        changes[CHUNK].store = 7;
        assert_eq!(
            (changes[CHUNK - 1].store, changes[CHUNK].store),
            (CHUNK as u32 - 1, 7)
        );
        changes[CHUNK].store = CHUNK as u32;
        assert_eq!(changes.last().map(|last| last.store), Some(many - 1));
        for left in (CHUNK as u32 - 1..many).rev() {
            changes.pop();
            assert_eq!(changes.len(), left as usize);
        }
        assert_eq!(numbers(&changes), (0..CHUNK as u32 - 1).collect::<Vec<_>>());
        changes.push(pending(1, &entry));
        changes.push(pending(2, &entry));
        assert_eq!(changes.len(), CHUNK + 1);
        changes.iter_mut().for_each(|pending| pending.store = 3);
        assert!(changes.into_iter().all(|pending| pending.store == 3));
        let mut none = Changes::default();
        none.pop();
        assert_eq!((none.len(), none.last().is_none()), (0, true));
    }
}
