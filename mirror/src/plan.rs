//! Which pieces of a store to merge: pure functions of their sizes.
//!
//! New pieces are small, one for each change set. [`next_merge`] keeps their number logarithmic by merging runs of
//! neighbours of like size, as a log-structured tree does, and rewrites pieces that are mostly dead; it only
//! touches what is in memory, because the applier does its bidding. [`next_compaction`] does the same for sealed pieces, in the
//! background.
//!
//! A piece is as large as its living rows, or as their bytes, whichever fills a piece sooner: its *weight*, in rows.
//!
//! Costs: a row is copied once for each tier it climbs (about four times), and a rewrite copies fewer rows than
//! have died since the last one, so the work is proportional to the changes.

use std::ops::Range;

use crate::piece::PIECE_BYTES_MAX;

/// What a plan must know of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub rows: usize,
    pub live: usize,
    /// What all of its rows take in memory, or would take.
    pub bytes: usize,
    pub resident: bool,
    /// The ordinals that it stands for, from `start` to before `end`.
    pub start: u64,
    pub end: u64,
}

impl Size {
    fn live_bytes(&self) -> usize {
        let share = self.bytes as u128 * self.live as u128 / (self.rows as u128).max(1);
        // A share of `bytes`.
        share as usize
    }

    /// Living rows, or as many as their bytes stand for: a piece of the most bytes weighs as much as one of the most rows.
    fn weight(&self, piece_rows: usize) -> usize {
        let by_bytes = self.live_bytes() as u128 * piece_rows as u128 / PIECE_BYTES_MAX as u128;
        self.live.max(usize::try_from(by_bytes).unwrap_or(usize::MAX))
    }
}

/// Neighbours below the same limit are merged with each other.
fn tiers(piece_rows: usize) -> [usize; 3] {
    [(piece_rows / 256).max(1), piece_rows / 32, small(piece_rows)]
}

/// Pieces of less weight are small: they are merged with their neighbours, and stay in memory when they are sealed.
fn small(piece_rows: usize) -> usize {
    piece_rows / 4
}

/// Whether a piece is small.
pub(crate) fn is_small(size: &Size, piece_rows: usize) -> bool {
    size.weight(piece_rows) < small(piece_rows)
}

/// As many neighbours make a merge worth it.
const FANOUT: usize = 8;

fn mostly_dead(size: &Size) -> bool {
    size.live * 2 < size.rows
}

/// The pieces to merge next, among those in memory, into one of at most `piece_rows`.
pub(crate) fn next_merge(sizes: &[Size], piece_rows: usize) -> Option<Range<usize>> {
    let tiers = tiers(piece_rows);
    for limit in tiers {
        let mut start = 0;
        while start < sizes.len() {
            if !sizes[start].resident || sizes[start].weight(piece_rows) >= limit {
                start += 1;
                continue;
            }
            let end = start
                + sizes[start..]
                    .iter()
                    .take_while(|s| s.resident && s.weight(piece_rows) < limit)
                    .count();
            if let Some(run) = worth_merging(sizes, start..end, piece_rows) {
                return Some(run);
            }
            start = end;
        }
    }
    // Smaller ones wait for their neighbours.
    let rewrite = |size: &Size| size.resident && size.rows >= tiers[0] && mostly_dead(size);
    sizes.iter().position(rewrite).map(|index| index..index + 1)
}

/// As many neighbours of a run as fit one piece, when merging them pays.
fn worth_merging(sizes: &[Size], run: Range<usize>, piece_rows: usize) -> Option<Range<usize>> {
    if run.len() < FANOUT {
        return None;
    }
    let run = fitting(sizes, run, piece_rows);
    let weights = |range: &Range<usize>| sizes[range.clone()].iter().map(|size| size.weight(piece_rows));
    let largest = weights(&run).max().unwrap_or(0);
    // A piece that outweighs the others together is not copied for their sake: the smaller tier takes them first.
    let pays = |run: &Range<usize>, largest: usize| weights(run).sum::<usize>() >= largest * 2;
    (run.len() > 1 && (pays(&run, largest) || largest < tiers(piece_rows)[0])).then_some(run)
}

/// The head of a run that fits into one piece.
fn fitting(sizes: &[Size], run: Range<usize>, piece_rows: usize) -> Range<usize> {
    let (mut rows, mut bytes) = (0, 0);
    let start = sizes[run.start].start;
    let fits = sizes[run.clone()].iter().take_while(|size| {
        rows += size.live;
        bytes += size.live_bytes();
        rows <= piece_rows && bytes <= PIECE_BYTES_MAX && size.end - start <= u64::from(u32::MAX)
    });
    run.start..run.start + fits.count()
}

/// The pieces to compact next: mostly dead ones that are sealed, or small ones beside each other, with the small neighbours behind
/// them.
pub(crate) fn next_compaction(sizes: &[Size], piece_rows: usize) -> Option<Range<usize>> {
    let small = |size: &Size| is_small(size, piece_rows);
    let mut start = 0;
    while start < sizes.len() {
        let size = &sizes[start];
        let rewrite = !size.resident && mostly_dead(size);
        if rewrite || small(size) {
            let more = sizes[start + 1..]
                .iter()
                .take_while(|s| small(s) || (!s.resident && mostly_dead(s)));
            let end = start + 1 + more.count();
            let run = fitting(sizes, start..end, piece_rows);
            let sealed = sizes[run.clone()].iter().any(|size| !size.resident);
            if sealed && (rewrite || run.len() >= FANOUT / 2) {
                return Some(if run.is_empty() { start..start + 1 } else { run });
            }
            start = run.end.max(start + 1);
        } else {
            start += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece::PIECE_ROWS_MAX;
    use proptest::prelude::*;

    fn piece(rows: usize, live: usize, resident: bool) -> Size {
        Size {
            rows,
            live,
            bytes: live * 100,
            resident,
            start: 0,
            end: rows as u64,
        }
    }

    /// Merges until nothing is left to do; returns the pieces and the rows copied.
    fn settle(sizes: &mut Vec<Size>) -> usize {
        let mut copied = 0;
        while let Some(run) = next_merge(sizes, PIECE_ROWS_MAX) {
            let live: usize = sizes[run.clone()].iter().map(|size| size.live).sum();
            copied += live;
            let merged = (live > 0).then(|| piece(live, live, true));
            sizes.splice(run, merged);
        }
        copied
    }

    #[test]
    fn small_appends_make_few_pieces_at_a_few_copies_a_row() {
        let mut sizes = Vec::new();
        let mut copied = 0;
        const APPENDS: usize = 20_000;
        for _ in 0..APPENDS {
            sizes.push(piece(20, 20, true));
            copied += settle(&mut sizes);
        }
        let full = APPENDS * 20 / PIECE_ROWS_MAX;
        assert!(sizes.len() < full * 4 + FANOUT * 4, "{} pieces", sizes.len());
        assert!(
            copied < APPENDS * 20 * 8,
            "{copied} rows copied for {}",
            APPENDS * 20
        );
    }

    #[test]
    fn pieces_of_few_large_rows_are_counted_by_their_bytes() {
        const APPENDED: usize = 2 << 20;
        let mut sizes = Vec::new();
        let mut copied = 0;
        const APPENDS: usize = 4000;
        for _ in 0..APPENDS {
            // Rows of 100 KiB.
            let size = piece(20, 20, true);
            sizes.push(Size {
                bytes: APPENDED,
                ..size
            });
            while let Some(run) = next_merge(&sizes, PIECE_ROWS_MAX) {
                let rows = sizes[run.clone()].iter().map(|size| size.live).sum();
                let bytes = sizes[run.clone()].iter().map(|size| size.bytes).sum();
                assert!(bytes <= PIECE_BYTES_MAX);
                copied += bytes;
                sizes.splice(
                    run,
                    [Size {
                        bytes,
                        ..piece(rows, rows, true)
                    }],
                );
            }
        }
        let bytes = APPENDS * APPENDED;
        assert!(
            sizes.len() < bytes / PIECE_BYTES_MAX * 4 + FANOUT * 4,
            "{} pieces",
            sizes.len()
        );
        assert!(copied < bytes * 8, "{copied} bytes copied for {bytes}");
        let large = |size: &&Size| !is_small(size, PIECE_ROWS_MAX);
        assert!(
            sizes.iter().filter(large).count() * 2 > sizes.len(),
            "most of them leave memory when sealed"
        );
    }

    #[test]
    fn a_hot_small_table_stays_small_and_cheap() {
        let mut sizes = Vec::new();
        let mut copied = 0;
        const ROUNDS: usize = 1000;
        for _ in 0..ROUNDS {
            // Twenty new versions of ten rows: everything older is dead.
            for size in &mut sizes {
                *size = Size { live: 0, ..*size };
            }
            sizes.retain(|size: &Size| size.live > 0);
            sizes.push(piece(20, 10, true));
            copied += settle(&mut sizes);
            assert!(sizes.len() <= FANOUT);
        }
        assert!(copied <= ROUNDS * 20);
    }

    #[test]
    fn mostly_dead_pieces_are_rewritten_where_they_are() {
        let mut resident = vec![piece(100_000, 40_000, true), piece(100_000, 90_000, true)];
        assert_eq!(next_merge(&resident, PIECE_ROWS_MAX), Some(0..1));
        resident[0].resident = false;
        assert_eq!(next_merge(&resident, PIECE_ROWS_MAX), None);
        assert_eq!(next_compaction(&resident, PIECE_ROWS_MAX), Some(0..1));
    }

    proptest! {
        #[test]
        fn plans_are_within_bounds_and_come_to_an_end(
            shapes in proptest::collection::vec((1usize..200_000, 0usize..100, any::<bool>()), 0..60),
        ) {
            let mut sizes: Vec<Size> =
                shapes.into_iter().map(|(rows, percent, resident)| piece(rows, rows * percent / 100, resident)).collect();
            for step in 0.. {
                prop_assert!(step < 200, "no end: {sizes:?}");
                let Some(run) = next_merge(&sizes, PIECE_ROWS_MAX).or_else(|| next_compaction(&sizes, PIECE_ROWS_MAX)) else { break };
                prop_assert!(!run.is_empty() && run.end <= sizes.len());
                let live: usize = sizes[run.clone()].iter().map(|size| size.live).sum();
                prop_assert!(live <= PIECE_ROWS_MAX || run.len() == 1);
                let merged = (live > 0).then(|| piece(live, live, true));
                sizes.splice(run, merged);
            }
        }
    }
}
