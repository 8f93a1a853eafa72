//! Which rows of a table and of the branches laid over it a future shows: a pure function of what was found in them.

use roaring::RoaringTreemap;
use scry_engine::{Collision, Row, Shown};
use scry_mirror::BranchView;
use scry_wal::Ordinal;
use std::sync::Arc;

/// What was found in one branch.
#[derive(Debug)]
pub struct Layer {
    pub view: Arc<BranchView>,
    /// Ordinals that it replaces and that have ended in the table.
    pub ended: RoaringTreemap,
    pub collisions: Vec<Collision>,
    /// Its rows for whose keys later branches have rows too.
    pub covered: Vec<Cover>,
}

/// A row for whose key a later branch has a row too.
#[derive(Debug, Clone, Copy)]
pub struct Cover {
    pub row: Ordinal,
    /// The later branch's place among the layers, and the ordinal of its row.
    pub by: (usize, Ordinal),
}

/// What a future hides, and what it adds to the rows of its table and branches.
#[derive(Debug, Default)]
pub struct Overlay {
    /// Ordinals of the table that are not shown.
    pub hidden: Arc<RoaringTreemap>,
    /// How many of them have not ended.
    pub hidden_rows: u64,
    /// By branch, its ordinals that are not shown; none of them has ended.
    pub hidden_in: Vec<Arc<RoaringTreemap>>,
    /// Rows that are in neither.
    pub added: Vec<Row>,
    /// Predicted conflicts.
    pub collisions: u64,
}

impl Overlay {
    /// About the memory that it takes.
    pub fn bytes(&self) -> usize {
        let sets = std::iter::once(&self.hidden).chain(&self.hidden_in);
        let sets: usize = sets.map(|set| set.serialized_size()).sum();
        let added: usize = self.added.iter().map(|row| row.len() + size_of::<Row>()).sum();
        size_of::<Overlay>() + sets + added
    }

    /// Rows of the table and the branches that are not shown, of those that have not ended.
    pub fn hidden_in_all(&self) -> u64 {
        self.hidden_rows + self.hidden_in.iter().map(|set| set.len()).sum::<u64>()
    }
}

/// Lays branches over a table, those that win last. `shown` says what stands where a row collides.
///
/// No key is shown twice: of each key that any branch has, the table's version is hidden, replaced or not, and of the
/// branches' rows only the last is left; one that gives way to the present gives way to the branches below it too.
pub fn lay(layers: Vec<Layer>, shown: impl Fn(&Collision) -> Shown) -> Overlay {
    let mut overlay = Overlay::default();
    let mut hidden = RoaringTreemap::new();
    let mut ended = RoaringTreemap::new();
    for layer in &layers {
        hidden |= &layer.view.replaced;
        ended |= &layer.ended;
    }
    // From the last on: what is below a row depends on whether it gives way.
    let mut giving_way = vec![RoaringTreemap::new(); layers.len()];
    for (index, layer) in layers.into_iter().enumerate().rev() {
        let covers = layer.covered.iter().filter(|cover| {
            let (above, ordinal) = cover.by;
            !giving_way[above].contains(ordinal.get())
        });
        let covered: RoaringTreemap = covers.map(|cover| cover.row.get()).collect();
        let mut hidden_here = &layer.view.deleted | &covered;
        for collision in layer.collisions {
            overlay.collisions += 1;
            let place = collision.ordinal.get();
            // What a later branch makes of the key, it says itself.
            if covered.contains(place) {
                continue;
            }
            let shown = shown(&collision);
            if shown != Shown::Present
                && let Some((present, _)) = &collision.present
            {
                hidden.insert(present.get());
            }
            match shown {
                Shown::Proposed => {}
                Shown::Present => {
                    hidden_here.insert(place);
                    giving_way[index].insert(place);
                }
                Shown::Row(row) => {
                    hidden_here.insert(place);
                    overlay.added.push(row);
                }
            }
        }
        overlay.hidden_in.push(Arc::new(hidden_here));
    }
    overlay.hidden_in.reverse();
    overlay.hidden_rows = hidden.len() - ended.len();
    overlay.hidden = Arc::new(hidden);
    overlay
}

#[cfg(test)]
mod tests {
    use super::*;
    use scry_engine::Key;
    use scry_engine::collision::{Decision, Outcome};

    /// A branch that replaces `replaced`, with its deletions among its own ordinals.
    fn layer(replaced: &[u64], deleted: &[u64]) -> Layer {
        Layer {
            view: Arc::new(BranchView {
                replaced: replaced.iter().copied().collect(),
                deleted: deleted.iter().copied().collect(),
                new_rows: 0,
            }),
            ended: RoaringTreemap::new(),
            collisions: Vec::new(),
            covered: Vec::new(),
        }
    }

    fn collision(ordinal: u64, present: Option<u64>) -> Collision {
        Collision {
            key: Key::default(),
            ordinal: Ordinal::new(ordinal),
            before: None,
            present: present.map(|ordinal| (Ordinal::new(ordinal), Row::from(vec![]))),
            proposed: Some(Row::from(vec![])),
            decision: Decision {
                outcome: Outcome::Refuse,
                reason: String::new(),
            },
        }
    }

    /// Of a row below that the layer above it covers with a row of its own.
    fn cover(row: u64, above: u64) -> Cover {
        Cover {
            row: Ordinal::new(row),
            by: (1, Ordinal::new(above)),
        }
    }

    #[test]
    fn a_row_that_gives_way_to_the_present_covers_nothing() {
        let mut below = layer(&[9], &[]);
        below.covered = vec![cover(0, 2)];
        let mut above = layer(&[3], &[]);
        above.ended = [3].into_iter().collect();
        above.collisions = vec![collision(2, Some(9))];
        let overlay = lay(vec![below, above], |_| Shown::Present);
        // The branch below had replaced the present row.
        assert_eq!(ordinals(&overlay.hidden), [3, 9]);
        assert!(overlay.hidden_in[0].is_empty());
        assert_eq!(ordinals(&overlay.hidden_in[1]), [2]);
    }

    fn ordinals(set: &RoaringTreemap) -> Vec<u64> {
        set.iter().collect()
    }

    #[test]
    fn what_is_there_now_is_hidden_where_the_proposed_row_stands_in() {
        let mut one = layer(&[3, 5], &[1]);
        one.ended = [5].into_iter().collect();
        one.collisions = vec![collision(0, Some(9)), collision(2, None)];
        let overlay = lay(vec![one], Collision::shown);
        assert_eq!(ordinals(&overlay.hidden), [3, 5, 9]);
        // 5 has ended: nobody sees it anyway.
        assert_eq!(overlay.hidden_rows, 2);
        assert_eq!(ordinals(&overlay.hidden_in[0]), [1]);
        assert_eq!((overlay.collisions, overlay.hidden_in_all()), (2, 3));
    }

    #[test]
    fn a_rule_may_keep_what_is_there_or_make_another_row() {
        let colliding = || {
            let mut one = layer(&[5], &[]);
            one.ended = [5].into_iter().collect();
            one.collisions = vec![collision(0, Some(9))];
            vec![one]
        };
        let present = lay(colliding(), |_| Shown::Present);
        assert_eq!(ordinals(&present.hidden), [5]);
        assert_eq!(ordinals(&present.hidden_in[0]), [0]);
        assert!(present.added.is_empty());
        let row = Row::from(vec![7]);
        let made = lay(colliding(), |_| Shown::Row(row.clone()));
        assert_eq!(ordinals(&made.hidden), [5, 9]);
        assert_eq!(ordinals(&made.hidden_in[0]), [0]);
        assert_eq!(made.added, [row]);
    }

    #[test]
    fn rows_that_a_later_branch_covers_are_not_shown_and_decide_nothing() {
        let mut below = layer(&[3], &[]);
        below.covered = vec![cover(0, 4), cover(1, 5)];
        below.collisions = vec![collision(1, Some(9))];
        let above = layer(&[3, 9], &[]);
        let overlay = lay(vec![below, above], |_| panic!("the later branch decides"));
        assert_eq!(ordinals(&overlay.hidden), [3, 9]);
        assert_eq!(ordinals(&overlay.hidden_in[0]), [0, 1]);
        assert!(overlay.hidden_in[1].is_empty());
    }
}
