//! Several layers as one: entries by key, versions of one key newest first; the same version of several layers in the order of these.

use crate::error::Error;
use crate::runs::cursor::{LayerCursor, Reading};
use crate::runs::set::Layer;
use scry_wal::{Lsn, Ordinal};
use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

/// A binary heap of cursors, the least on top. Mostly the next entry comes from the same layer as the last one, and
/// then two comparisons show it.
pub(crate) struct Merge {
    heap: Vec<Ranked>,
    /// What so many layers have of a key comes before all that the others have.
    first: usize,
}

/// A cursor, and the place of its layer among the others.
struct Ranked {
    rank: usize,
    cursor: LayerCursor,
}

impl Merge {
    /// At the first entry whose key is not below `target`. The layers come newest first.
    pub(crate) fn seek(
        layers: impl IntoIterator<Item = Arc<Layer>>,
        reading: Reading,
        target: &[u8],
    ) -> Result<Merge, Error> {
        Merge::seek_with_first(0, layers, reading, target)
    }

    /// The same, where what the first of the layers, so many, have of a key comes before all that the others have.
    pub(crate) fn seek_with_first(
        first: usize,
        layers: impl IntoIterator<Item = Arc<Layer>>,
        reading: Reading,
        target: &[u8],
    ) -> Result<Merge, Error> {
        let mut heap = Vec::new();
        for (rank, layer) in layers.into_iter().enumerate() {
            let cursor = LayerCursor::seek(layer, reading, target)?;
            if !cursor.is_over() {
                heap.push(Ranked { rank, cursor });
            }
        }
        let mut merge = Merge { heap, first };
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(at);
        }
        Ok(merge)
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.heap.is_empty()
    }

    #[inline]
    fn first(&self) -> Option<&LayerCursor> {
        self.heap.first().map(|first| &first.cursor)
    }

    /// The internal key.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.first().map_or(&[], LayerCursor::key)
    }

    #[inline]
    pub(crate) fn lsn(&self) -> Lsn {
        self.first().map_or(Lsn::ZERO, LayerCursor::lsn)
    }

    #[inline]
    pub(crate) fn ordinal(&self) -> Ordinal {
        self.first().map_or(Ordinal::new(0), LayerCursor::ordinal)
    }

    #[inline]
    pub(crate) fn row(&self) -> Option<&[u8]> {
        self.first()?.row()
    }

    /// The error that something is wrong with the run that the merge is in.
    pub(crate) fn damaged(&self, what: &'static str) -> Error {
        let error = self.first().and_then(|cursor| cursor.damaged(what));
        error.unwrap_or(Error::DamagedFile {
            path: PathBuf::new(),
            offset: 0,
            what,
        })
    }

    #[inline]
    pub(crate) fn advance(&mut self) -> Result<(), Error> {
        if let Some(first) = self.heap.first_mut() {
            first.cursor.advance()?;
            if first.cursor.is_over() {
                self.heap.swap_remove(0);
            }
            self.sift_down(0);
        }
        Ok(())
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.before(&self.heap[child], &self.heap[least]) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    #[inline]
    fn before(&self, a: &Ranked, b: &Ranked) -> bool {
        // Most often the beginnings of the keys decide.
        let order = a.cursor.head().cmp(&b.cursor.head());
        let order = order.then_with(|| a.cursor.key().cmp(b.cursor.key()));
        let is_behind = |ranked: &Ranked| ranked.rank >= self.first;
        let order = order.then_with(|| is_behind(a).cmp(&is_behind(b)));
        let order = order.then_with(|| b.cursor.lsn().cmp(&a.cursor.lsn()));
        order.then(a.rank.cmp(&b.rank)) == Ordering::Less
    }
}
