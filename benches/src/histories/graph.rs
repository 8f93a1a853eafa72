//! Circles in graphs: strongly connected components (Tarjan 1972), and a shortest circle by search in breadth.

use super::history::{Key, Value};
use std::collections::VecDeque;

/// How one transaction depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Wrote after it.
    Ww,
    /// Read what it wrote.
    Wr,
    /// Overwrote what it read.
    Rw,
    /// Began after its end was known.
    Rt,
}

/// The list or register, and the value: that which was written later, or was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Why {
    pub key: Key,
    pub value: Value,
}

/// A dependency of transaction `to` on the one at which the edge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    pub to: usize,
    pub kind: Kind,
    /// What shows it.
    pub why: Why,
}

/// Edges by the transaction that others depend on.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    edges: Vec<Vec<Edge>>,
}

/// A circle: each transaction with the edge to the next; the last leads to the first.
pub type Circle = Vec<(usize, Edge)>;

/// Which edges may follow which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// Writes and real time only.
    Ww,
    /// All but `rw`.
    WithoutRw,
    /// No two `rw` in a row.
    RwApart,
    All,
}

impl Walk {
    /// Whether an edge may be gone, after an `rw` or not.
    fn may_go(self, kind: Kind, after_rw: bool) -> bool {
        match self {
            Walk::Ww => matches!(kind, Kind::Ww | Kind::Rt),
            Walk::WithoutRw => kind != Kind::Rw,
            Walk::RwApart => kind != Kind::Rw || !after_rw,
            Walk::All => true,
        }
    }
}

impl Graph {
    pub fn new(nodes: usize) -> Graph {
        Graph {
            edges: vec![Vec::new(); nodes],
        }
    }

    /// Adds an edge, unless there is one of this kind between the two or they are one.
    pub fn add(&mut self, from: usize, to: usize, kind: Kind, why: Why) {
        let known = |edge: &Edge| edge.to == to && edge.kind == kind;
        if from != to && !self.edges[from].iter().any(known) {
            self.edges[from].push(Edge { to, kind, why });
        }
    }

    pub fn edges(&self) -> usize {
        self.edges.iter().map(Vec::len).sum()
    }

    /// A place is a transaction and whether an `rw` led there, as far as the walk cares.
    fn places(&self, walk: Walk) -> usize {
        self.edges.len() * if walk == Walk::RwApart { 2 } else { 1 }
    }

    /// Where a walk gets from a place, by which edge.
    fn steps(&self, walk: Walk, place: usize) -> impl Iterator<Item = (usize, &Edge)> {
        let apart = walk == Walk::RwApart;
        let (node, after_rw) = match apart {
            true => (place / 2, place % 2 == 1),
            false => (place, false),
        };
        let allowed = self.edges[node]
            .iter()
            .filter(move |edge| walk.may_go(edge.kind, after_rw));
        allowed.map(move |edge| match apart {
            true => (2 * edge.to + usize::from(edge.kind == Kind::Rw), edge),
            false => (edge.to, edge),
        })
    }

    /// A short circle of the walk, if there is any. Of several components the first found is looked at, from no more than
    /// `STARTS_MAX` of its places.
    pub fn circle(&self, walk: Walk) -> Option<Circle> {
        let component = self.component(walk)?;
        let mut inside = vec![false; self.places(walk)];
        component.iter().for_each(|place| inside[*place] = true);
        let circles = component
            .iter()
            .take(STARTS_MAX)
            .filter_map(|start| self.shortest(walk, *start, *start, &inside));
        circles.min_by_key(Vec::len)
    }

    /// A short circle of one `rw` and otherwise none.
    pub fn circle_with_one_rw(&self) -> Option<Circle> {
        let component = self.component(Walk::RwApart)?;
        let mut inside = vec![false; self.edges.len()];
        component.iter().for_each(|place| inside[*place / 2] = true);
        let nodes = (0..self.edges.len()).filter(|node| inside[*node]);
        let rw = nodes.flat_map(|node| {
            let edges = self.edges[node].iter().filter(|edge| edge.kind == Kind::Rw);
            edges.map(move |edge| (node, edge))
        });
        let circles = rw.take(STARTS_MAX).filter_map(|(node, edge)| {
            let mut circle = vec![(node, *edge)];
            circle.extend(self.shortest(Walk::WithoutRw, edge.to, node, &inside)?);
            Some(circle)
        });
        circles.min_by_key(Vec::len)
    }

    /// The shortest walk of at least one step from one place to another, through places that are `inside`.
    fn shortest(&self, walk: Walk, from: usize, to: usize, inside: &[bool]) -> Option<Circle> {
        let node = |place: usize| if walk == Walk::RwApart { place / 2 } else { place };
        let mut came: Vec<Option<(usize, &Edge)>> = vec![None; self.places(walk)];
        let mut queue = VecDeque::from([from]);
        while let Some(place) = queue.pop_front() {
            for (next, edge) in self.steps(walk, place) {
                if !inside[next] || came[next].is_some() {
                    continue;
                }
                came[next] = Some((place, edge));
                if next == to {
                    let mut circle = Vec::new();
                    let mut at = to;
                    while let Some((before, edge)) = came[at] {
                        circle.push((node(before), *edge));
                        at = before;
                        if at == from {
                            break;
                        }
                    }
                    circle.reverse();
                    return Some(circle);
                }
                queue.push_back(next);
            }
        }
        None
    }

    /// A strongly connected component of more than one place. Without recursion: histories are long.
    fn component(&self, walk: Walk) -> Option<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let places = self.places(walk);
        let (mut index, mut low) = (vec![UNSEEN; places], vec![0; places]);
        let mut on_stack = vec![false; places];
        let (mut stack, mut count) = (Vec::new(), 0);
        for root in 0..places {
            if index[root] != UNSEEN {
                continue;
            }
            // What is being visited, with the places that are still to be looked at from there.
            let mut visiting: Vec<(usize, Vec<usize>)> = Vec::new();
            let mut entering = Some(root);
            loop {
                if let Some(place) = entering.take() {
                    (index[place], low[place]) = (count, count);
                    count += 1;
                    stack.push(place);
                    on_stack[place] = true;
                    let next = self.steps(walk, place).map(|(next, _)| next).collect();
                    visiting.push((place, next));
                }
                let Some((place, left)) = visiting.last_mut() else {
                    break;
                };
                let place = *place;
                match left.pop() {
                    Some(next) if index[next] == UNSEEN => entering = Some(next),
                    Some(next) => {
                        if on_stack[next] {
                            low[place] = low[place].min(index[next]);
                        }
                    }
                    None => {
                        visiting.pop();
                        if let Some((parent, _)) = visiting.last() {
                            low[*parent] = low[*parent].min(low[place]);
                        }
                        if low[place] == index[place] {
                            let begin = stack.iter().rposition(|other| *other == place).unwrap_or(0);
                            let component = stack.split_off(begin);
                            component.iter().for_each(|place| on_stack[*place] = false);
                            if component.len() > 1 {
                                return Some(component);
                            }
                        }
                    }
                }
            }
        }
        None
    }
}

/// From how many places of a component a circle is looked for: a short one is easier to read, but not worth minutes.
const STARTS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: usize, edges: &[(usize, usize, Kind)]) -> Graph {
        let mut graph = Graph::new(nodes);
        for (from, to, kind) in edges {
            graph.add(*from, *to, *kind, Why::default());
        }
        graph
    }

    fn nodes(circle: Option<Circle>) -> Vec<usize> {
        let mut nodes: Vec<usize> = circle.unwrap_or_default().iter().map(|(node, _)| *node).collect();
        nodes.sort_unstable();
        nodes
    }

    #[test]
    fn a_graph_without_circles_has_none_and_of_two_the_shorter_is_found() {
        use Kind::Ww;
        let line = graph(4, &[(0, 1, Ww), (1, 2, Ww), (0, 2, Ww), (2, 3, Ww)]);
        assert_eq!(line.circle(Walk::All), None);
        let two = graph(
            6,
            &[
                (0, 1, Ww),
                (1, 2, Ww),
                (2, 3, Ww),
                (3, 0, Ww),
                (2, 4, Ww),
                (4, 2, Ww),
                (5, 0, Ww),
            ],
        );
        assert_eq!(nodes(two.circle(Walk::Ww)), [2, 4]);
    }

    #[test]
    fn a_walk_goes_only_where_it_may() {
        use Kind::{Rt, Rw, Wr, Ww};
        let wr = graph(2, &[(0, 1, Ww), (1, 0, Wr)]);
        assert_eq!(wr.circle(Walk::Ww), None);
        assert_eq!(nodes(wr.circle(Walk::WithoutRw)), [0, 1]);
        let rt = graph(2, &[(0, 1, Ww), (1, 0, Rt)]);
        assert_eq!(nodes(rt.circle(Walk::Ww)), [0, 1]);
        let one = graph(3, &[(0, 1, Rw), (1, 2, Wr), (2, 0, Ww)]);
        assert_eq!(one.circle(Walk::WithoutRw), None);
        assert_eq!(nodes(one.circle_with_one_rw()), [0, 1, 2]);
        // Write skew: two in a row.
        let skew = graph(2, &[(0, 1, Rw), (1, 0, Rw)]);
        assert_eq!(skew.circle(Walk::RwApart), None);
        assert_eq!(skew.circle_with_one_rw(), None);
        assert_eq!(nodes(skew.circle(Walk::All)), [0, 1]);
        // Two, apart from each other.
        let apart = graph(4, &[(0, 1, Rw), (1, 2, Wr), (2, 3, Rw), (3, 0, Ww)]);
        assert_eq!(apart.circle_with_one_rw(), None);
        assert_eq!(nodes(apart.circle(Walk::RwApart)), [0, 1, 2, 3]);
    }

    #[test]
    fn a_long_line_needs_no_stack() {
        let nodes = 200_000;
        let mut graph = Graph::new(nodes);
        for node in 1..nodes {
            graph.add(node - 1, node, Kind::Ww, Why::default());
        }
        assert_eq!(graph.circle(Walk::All), None);
        graph.add(nodes - 1, nodes - 3, Kind::Ww, Why::default());
        assert_eq!(graph.circle(Walk::All).map(|circle| circle.len()), Some(3));
    }
}
