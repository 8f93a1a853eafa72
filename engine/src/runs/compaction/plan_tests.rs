use super::*;
use crate::runs::internal_key;
use crate::runs::meta::Share;

const SIZES: Sizes = Sizes {
    file_bytes: 1000,
    base_bytes: 10_000,
};

fn meta(space: u32, first: u8, last: u8) -> Meta {
    let space = SpaceId::new(space);
    Meta {
        entries: 100,
        keys: 100,
        lsn_max: Lsn::new(500),
        content_bytes: 900,
        first: internal_key(space, &[first]).to_vec(),
        last: internal_key(space, &[last]).to_vec(),
        spaces: vec![Share {
            space,
            entries: 100,
            bytes: 900,
        }],
        ..Meta::default()
    }
}

/// A level of runs, each its number, its bytes, and its meta.
fn level(runs: &[(u64, u64, Meta)]) -> Level<'_> {
    Level {
        runs: runs
            .iter()
            .map(|(number, bytes, meta)| Candidate {
                number: *number,
                bytes: *bytes,
                meta,
            })
            .collect(),
        bytes: runs.iter().map(|run| run.1).sum(),
    }
}

type Runs = Vec<(u64, u64, Meta)>;

fn decide_with(fresh: &[Runs], below: &[(usize, Runs)], horizon: u64, pins: &[Lsn], dead: &[u32]) -> Plan {
    let fresh: Vec<Level<'_>> = fresh.iter().map(|runs| level(runs)).collect();
    let mut levels: Vec<Level<'_>> = (0..LEVELS).map(|_| level(&[])).collect();
    for (number, runs) in below {
        levels[*number] = level(runs);
    }
    let keep = Keep {
        horizon: Lsn::new(horizon),
        pins,
        is_live: &|space| !dead.contains(&space.get()),
    };
    decide(&fresh, &levels, SIZES, &keep)
}

fn decide_live(fresh: &[Runs], below: &[(usize, Runs)]) -> Plan {
    decide_with(fresh, below, 0, &[], &[])
}

const LAST: usize = LEVELS - 1;

#[test]
fn levels_begin_at_the_last_and_grow_upwards() {
    let targets = |last: u64| {
        let mut bytes = vec![0; LEVELS];
        bytes[LAST] = last;
        Targets::of(&bytes, 10_000)
    };
    assert_eq!((targets(0).base, targets(10_000).base), (LAST, LAST));
    let one = targets(50_000);
    assert_eq!((one.base, one.bytes[LAST - 1]), (LAST - 1, 5000));
    let two = targets(500_000);
    assert_eq!(two.base, LAST - 2);
    assert_eq!(two.bytes[LAST - 2..], [5000, 50_000, 500_000]);
    // A level that is there is not passed by.
    let mut bytes = vec![0; LEVELS];
    (bytes[LAST - 1], bytes[LAST]) = (10, 100);
    assert_eq!(Targets::of(&bytes, 10_000).base, LAST - 1);
}

#[test]
fn few_flushes_wait() {
    let fresh: Vec<Runs> = (0..3).map(|n| vec![(n, 1000, meta(1, 0, 9))]).collect();
    assert_eq!(decide_live(&fresh, &[]), Plan::Nothing);
}

#[test]
fn flushes_are_merged_into_the_base_with_what_they_overlap() {
    let fresh: Vec<Runs> = (10..14).rev().map(|n| vec![(n, 200, meta(1, 20, 40))]).collect();
    let below = vec![
        (1, 1000, meta(1, 0, 10)),
        (2, 1000, meta(1, 30, 35)),
        (3, 1000, meta(1, 50, 60)),
    ];
    assert_eq!(
        decide_live(&fresh, &[(LAST, below)]),
        Plan::Merge {
            parts: vec![vec![13], vec![12], vec![11], vec![10], vec![2]],
            into: Target::Level(LAST),
        }
    );
}

#[test]
fn small_flushes_are_merged_with_each_other_and_not_with_a_large_base() {
    let fresh: Vec<Runs> = vec![
        vec![(15, 10, meta(1, 0, 99))],
        vec![(14, 20, meta(1, 0, 99))],
        vec![(13, 30, meta(1, 0, 99))],
        vec![(12, 40, meta(1, 0, 99))],
        vec![(11, 4000, meta(1, 0, 99))],
    ];
    let base = vec![(1, 9000, meta(1, 0, 99))];
    assert_eq!(
        decide_live(&fresh, &[(LAST, base.clone())]),
        Plan::Merge {
            parts: vec![vec![15], vec![14], vec![13], vec![12]],
            into: Target::Fresh,
        }
    );
    // Where no tier is wide enough, there is the base.
    let steep: Vec<Runs> = (0..4)
        .map(|n| vec![(14 - n, 10_u64.pow(n as u32), meta(1, 0, 99))])
        .collect();
    let Plan::Merge { parts, into } = decide_live(&steep, &[(LAST, base)]) else {
        panic!("no merge");
    };
    assert_eq!((parts.len(), into), (5, Target::Level(LAST)));
}

#[test]
fn a_flush_that_overlaps_nothing_is_moved() {
    let mut fresh: Vec<Runs> = (11..14).rev().map(|n| vec![(n, 1000, meta(1, 20, 40))]).collect();
    fresh.push(vec![
        (9, 900, meta(1, 4, 5)),
        (10, 900, meta(1, 12, 14)),
        (8, 20, meta(1, 15, 16)),
    ]);
    let below = vec![(1, 1000, meta(1, 0, 10))];
    let moved = Plan::Move {
        runs: vec![10],
        into: LAST,
    };
    assert_eq!(decide_live(&fresh, &[(LAST, below)]), moved);
}

#[test]
fn the_run_that_costs_least_goes_down() {
    let upper = vec![
        (1, 4000, meta(1, 0, 30)),
        (2, 4000, meta(1, 40, 44)),
        (3, 4000, meta(1, 50, 90)),
    ];
    let lower = vec![
        (4, 40_000, meta(1, 0, 20)),
        (5, 20_000, meta(1, 41, 42)),
        (6, 40_000, meta(1, 55, 99)),
    ];
    let below = [(LAST - 1, upper), (LAST, lower)];
    assert_eq!(
        decide_live(&[], &below),
        Plan::Merge {
            parts: vec![vec![2], vec![5]],
            into: Target::Level(LAST),
        }
    );
}

#[test]
fn a_run_that_overlaps_nothing_below_goes_down_as_it_is() {
    let upper = vec![(1, 8000, meta(1, 0, 30)), (2, 8000, meta(1, 40, 44))];
    let lower = vec![(4, 90_000, meta(1, 0, 20))];
    assert_eq!(
        decide_live(&[], &[(LAST - 1, upper), (LAST, lower)]),
        Plan::Move {
            runs: vec![2],
            into: LAST,
        }
    );
}

#[test]
fn small_neighbours_are_merged_along() {
    let fresh: Vec<Runs> = (10..14).rev().map(|n| vec![(n, 10, meta(1, 20, 21))]).collect();
    let below = vec![
        (1, 30, meta(1, 0, 1)),
        (2, 30, meta(1, 10, 11)),
        (3, 1000, meta(1, 50, 60)),
    ];
    let Plan::Merge { parts, .. } = decide_live(&fresh, &[(LAST, below)]) else {
        panic!("no merge");
    };
    assert_eq!(parts[4], [2]);
}

#[test]
fn runs_of_dead_spaces_are_dropped_unread() {
    let below = vec![(1, 1000, meta(1, 0, 10)), (2, 1000, meta(2, 0, 10))];
    assert_eq!(
        decide_with(&[vec![(3, 5, meta(2, 3, 4))]], &[(LAST, below)], 0, &[], &[2]),
        Plan::Drop { runs: vec![3, 2] }
    );
}

#[test]
fn garbage_is_written_away_only_when_all_of_it_is_certain_to_go() {
    let mut run = meta(1, 0, 9);
    run.superseded = 30;
    run.superseded_max = Lsn::new(400);
    let below = vec![(LAST, vec![(1, 1000, run.clone())])];
    let rewritten = Plan::Merge {
        parts: vec![vec![1]],
        into: Target::Level(LAST),
    };
    let decide = |horizon, pins: &[u64]| {
        let pins: Vec<Lsn> = pins.iter().map(|pin| Lsn::new(*pin)).collect();
        decide_with(&[], &below, horizon, &pins, &[])
    };
    assert_eq!(decide(399, &[]), Plan::Nothing);
    assert_eq!(decide(400, &[]), rewritten);
    assert_eq!(decide(400, &[399]), Plan::Nothing);
    assert_eq!(decide(400, &[400]), rewritten);
    run.superseded = 24;
    let little = vec![(LAST, vec![(1, 1000, run)])];
    assert_eq!(decide_with(&[], &little, 900, &[], &[]), Plan::Nothing);
}

#[test]
fn deletions_go_where_nothing_is_below() {
    let mut run = meta(1, 0, 9);
    run.deletions = 50;
    let rewritten = |level| Plan::Merge {
        parts: vec![vec![1]],
        into: Target::Level(level),
    };
    let last = vec![(LAST, vec![(1, 1000, run.clone())])];
    assert_eq!(decide_with(&[], &last, 500, &[], &[]), rewritten(LAST));
    assert_eq!(decide_with(&[], &last, 499, &[], &[]), Plan::Nothing);
    let upper = vec![
        (LAST - 1, vec![(1, 900, run.clone())]),
        (LAST, vec![(2, 9000, meta(1, 20, 30))]),
    ];
    assert_eq!(decide_with(&[], &upper, 500, &[], &[]), rewritten(LAST - 1));
    let covered = vec![
        (LAST - 1, vec![(1, 900, run.clone())]),
        (LAST, vec![(2, 9000, meta(1, 5, 30))]),
    ];
    assert_eq!(decide_with(&[], &covered, 499, &[], &[]), Plan::Nothing);
    assert_eq!(
        decide_with(&[], &covered, 500, &[], &[]),
        Plan::Merge {
            parts: vec![vec![1], vec![2]],
            into: Target::Level(LAST),
        }
    );
    // A flush of deletions does not wait for others.
    assert_eq!(
        decide_with(&[vec![(3, 10, run.clone())]], &covered[1..], 500, &[], &[]),
        Plan::Merge {
            parts: vec![vec![3], vec![2]],
            into: Target::Level(LAST),
        }
    );
    // They do where they are few for what would be written again.
    let mut large = meta(1, 5, 30);
    large.entries = 401;
    let large = vec![(LAST, vec![(2, 9000, large)])];
    let waits = decide_with(&[vec![(3, 10, run.clone())]], &large, 500, &[], &[]);
    assert_eq!(waits, Plan::Nothing);
    let upper = [(LAST - 1, vec![(1, 900, run)]), large[0].clone()];
    assert_eq!(decide_with(&[], &upper, 500, &[], &[]), Plan::Nothing);
}
