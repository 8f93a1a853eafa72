//! A set of keys as ranges, of bounded size: it may only grow too wide.

use crate::key::{Key, KeyRange};
use std::ops::Bound;

/// Keys from `from` on and before `to`; without `to`, to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    from: Key,
    to: Option<Key>,
}

/// Ranges of keys. Settled, they are in order and apart from each other.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    list: Vec<Span>,
    settled: bool,
    spans_max: usize,
}

/// The next key in the order of bytes.
fn successor(key: &[u8]) -> Key {
    let mut next = smallvec::SmallVec::<[u8; 64]>::from_slice(key);
    next.push(0);
    Key::from_bytes(&next)
}

/// Whether a range that ends before `to` ends before `from`.
fn ends_before(to: Option<&Key>, from: &Key) -> bool {
    to.is_some_and(|to| to <= from)
}

impl Spans {
    pub(crate) fn new(spans_max: usize) -> Spans {
        Spans {
            list: Vec::new(),
            settled: true,
            spans_max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn add_key(&mut self, key: &[u8]) {
        if self.list.last().is_some_and(|last| last.from.as_ref() == key) {
            return;
        }
        let (from, to) = (Key::from_bytes(key), Some(successor(key)));
        self.add(Span { from, to });
    }

    pub(crate) fn add_range(&mut self, range: &KeyRange) {
        let from = match &range.lower {
            Bound::Included(key) => key.clone(),
            Bound::Excluded(key) => successor(key),
            Bound::Unbounded => Key::new(),
        };
        let to = match &range.upper {
            Bound::Included(key) => Some(successor(key)),
            Bound::Excluded(key) => Some(key.clone()),
            Bound::Unbounded => None,
        };
        if !ends_before(to.as_ref(), &from) {
            self.add(Span { from, to });
        }
    }

    fn add(&mut self, span: Span) {
        if let Some(last) = self.list.last() {
            self.settled &= ends_before(last.to.as_ref(), &span.from);
        }
        self.list.push(span);
        if self.list.len() > self.spans_max {
            self.settle();
            self.shrink();
        }
    }

    /// Brings the ranges into order and joins those that overlap.
    pub(crate) fn settle(&mut self) {
        if self.settled {
            return;
        }
        self.list.sort_unstable_by(|a, b| a.from.cmp(&b.from));
        self.list.dedup_by(|next, kept| {
            if kept.to.as_ref().is_some_and(|to| *to < next.from) {
                return false;
            }
            if kept.to.is_some() && next.to.as_ref().is_none_or(|to| Some(to) > kept.to.as_ref()) {
                kept.to = next.to.take();
            }
            true
        });
        self.settled = true;
    }

    /// Joins each range with its neighbour when there are too many still: half of the room is free afterwards, so that this
    /// is done seldom.
    fn shrink(&mut self) {
        while self.list.len() > self.spans_max / 2 {
            let mut second = false;
            self.list.dedup_by(|next, kept| {
                second = !second;
                if second {
                    kept.to = next.to.take();
                }
                second
            });
        }
    }

    /// Whether a key is in both. Both must be settled.
    pub(crate) fn meets(&self, other: &Spans) -> bool {
        assert!(self.settled && other.settled, "ranges are compared in order");
        let (few, many) = match self.len() <= other.len() {
            true => (self, other),
            false => (other, self),
        };
        few.list.iter().any(|span| {
            let first = many
                .list
                .partition_point(|candidate| ends_before(candidate.to.as_ref(), &span.from));
            many.list
                .get(first)
                .is_some_and(|found| !ends_before(span.to.as_ref(), &found.from))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u16) -> Key {
        Key::from_bytes(&number.to_be_bytes())
    }

    fn of(max: usize, keys: impl IntoIterator<Item = u16>) -> Spans {
        let mut spans = Spans::new(max);
        for number in keys {
            spans.add_key(&key(number));
        }
        spans.settle();
        spans
    }

    fn range(lower: Bound<u16>, upper: Bound<u16>) -> Spans {
        let mut spans = Spans::new(8);
        spans.add_range(&KeyRange {
            lower: lower.map(key),
            upper: upper.map(key),
        });
        spans
    }

    #[test]
    fn ranges_meet_where_they_have_a_key_in_common() {
        use Bound::{Excluded, Included, Unbounded};
        let cases = [
            (Included(5), Included(7), vec![5, 6, 7]),
            (Excluded(5), Excluded(7), vec![6]),
            (Unbounded, Excluded(2), vec![0, 1]),
            (Included(9), Unbounded, vec![9, 10]),
            (Unbounded, Unbounded, (0..=10).collect()),
            (Excluded(5), Excluded(6), vec![]),
            (Included(5), Excluded(5), vec![]),
            (Included(6), Included(5), vec![]),
        ];
        for (lower, upper, inside) in cases {
            let spans = range(lower, upper);
            for number in 0..=10 {
                let met = spans.meets(&of(8, [number]));
                assert_eq!(met, inside.contains(&number), "{lower:?} {upper:?} {number}");
                assert_eq!(met, of(8, [number]).meets(&spans));
            }
        }
    }

    #[test]
    fn a_key_that_others_begin_with_is_not_they() {
        let mut spans = Spans::new(8);
        spans.add_key(&[1]);
        let mut longer = Spans::new(8);
        longer.add_key(&[1, 0]);
        assert!(!spans.meets(&longer));
        longer.add_key(&[1]);
        longer.settle();
        assert!(spans.meets(&longer));
    }

    #[test]
    fn overlapping_ranges_become_one_and_a_wide_one_takes_in_what_it_holds() {
        let mut spans = of(100, [3, 1, 2, 2, 9]);
        let low = |spans: &Spans| {
            let ends = spans.list.iter().map(|span| (span.from.clone(), span.to.clone()));
            ends.collect::<Vec<_>>()
        };
        assert_eq!(
            low(&spans).len(),
            4,
            "keys beside each other are apart: others may lie between"
        );
        spans.add_range(&KeyRange {
            lower: Bound::Included(key(0)),
            upper: Bound::Excluded(key(3)),
        });
        spans.settle();
        assert_eq!(
            low(&spans),
            [
                (key(0), Some(successor(&key(3)))),
                (key(9), Some(successor(&key(9))))
            ]
        );
        spans.add_range(&KeyRange::all());
        spans.add_key(&key(4));
        spans.settle();
        assert_eq!(low(&spans), [(Key::new(), None)]);
    }

    #[test]
    fn too_many_ranges_grow_wider_and_lose_no_key() {
        let keys: Vec<u16> = (0..1000u32).map(|n| (n * 7919 % 5000 * 10) as u16).collect();
        let spans = of(16, keys.iter().copied());
        assert!(spans.len() <= 16, "{}", spans.len());
        for number in &keys {
            assert!(spans.meets(&of(16, [*number])));
        }
        let most = keys.iter().max().copied().unwrap_or_default();
        assert!(
            !spans.meets(&of(16, [most + 1])),
            "what lies beyond all of them is in none"
        );
    }
}
