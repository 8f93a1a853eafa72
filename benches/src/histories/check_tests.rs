//! Known anomalies, each found and named; and histories without any.

use super::*;

/// A history of one line for each transaction: outcome and steps. They overlap in time, unless times are given.
fn history(lines: &[&str]) -> History {
    let mut text = String::new();
    for (session, line) in lines.iter().enumerate() {
        match line.starts_with(|first: char| first.is_ascii_digit()) {
            true => text += &format!("{session} {line}\n"),
            false => text += &format!("{session} 0 1000 {line}\n"),
        }
    }
    History::parse(&text).expect("a history")
}

fn anomalies(lines: &[&str]) -> Vec<Anomaly> {
    let verdict = check(&history(lines));
    verdict.found.iter().map(|found| found.anomaly).collect()
}

#[test]
fn serial_histories_are_clean() {
    assert!(anomalies(&[]).is_empty());
    let lists = [
        "0 10 ok 1[] 1+1 1[1] 2+1",
        "11 20 ok 1[1] 1+2 1+3 2[1]",
        "21 30 fail 1+4 1[1,2,3,4]",
        "31 40 ok 1[1,2,3] 3[] 2+2",
        "41 50 ok 1[1,2,3] 2[1,2] 3[]",
    ];
    assert!(anomalies(&lists).is_empty());
    let registers = ["0 10 ok 1() 1=1 1(1)", "11 20 ok 1(1) 1=2", "21 30 ok 1(2) 2()"];
    assert!(anomalies(&registers).is_empty());
}

#[test]
fn g0_is_a_circle_of_writes() {
    let found = anomalies(&["ok 1+1 2+1", "ok 1+2 2+2", "ok 1[1,2] 2[2,1]"]);
    assert_eq!(found, [Anomaly::G0]);
    // Against real time: the later one was written over by the earlier.
    let found = anomalies(&["0 10 ok 1+1", "20 30 ok 1+2", "0 40 ok 1[2,1]"]);
    assert_eq!(found, [Anomaly::G0]);
}

#[test]
fn g1a_is_a_read_of_what_was_rolled_back() {
    assert_eq!(
        anomalies(&["fail 1+1", "ok 1[1]"]),
        [Anomaly::Fault(Wrong::AbortedRead)]
    );
    assert_eq!(
        anomalies(&["fail 1=1", "ok 1(1)"]),
        [Anomaly::Fault(Wrong::AbortedRead)]
    );
}

#[test]
fn g1b_is_a_read_of_what_its_writer_wrote_over() {
    let wrong = Anomaly::Fault(Wrong::IntermediateRead);
    assert_eq!(anomalies(&["ok 1+1 1+2", "ok 1[1]"]).first(), Some(&wrong));
    assert_eq!(anomalies(&["ok 1=1 1=2", "ok 1(1)"]), [wrong]);
    assert!(anomalies(&["ok 1+1 1[1] 1+2 1[1,2]", "ok 1[1,2]"]).is_empty());
}

#[test]
fn g1c_is_a_circle_of_information() {
    assert_eq!(anomalies(&["ok 1+1 2[1]", "ok 2+1 1[1]"]), [Anomaly::G1c]);
    assert_eq!(anomalies(&["ok 1=1 2(1)", "ok 2=1 1(1)"]), [Anomaly::G1c]);
}

#[test]
fn g_single_is_a_circle_with_one_anti_dependency() {
    // Read skew.
    let found = anomalies(&["ok 1+1 2+1", "ok 1[] 2[1]", "ok 1[1]"]);
    assert_eq!(found, [Anomaly::GSingle]);
    let found = anomalies(&["ok 1=1 2=1", "ok 1() 2(1)"]);
    assert_eq!(found, [Anomaly::GSingle]);
}

#[test]
fn a_lost_update_is_found_in_lists_and_registers() {
    let found = anomalies(&["ok 1[] 1+1", "ok 1[] 1+2", "ok 1[1,2]"]);
    assert_eq!(found, [Anomaly::LostUpdate]);
    // Of a register is not to be seen which of the two came last: each wrote over what the other had read.
    let found = anomalies(&["ok 1=1", "ok 1(1) 1=2", "ok 1(1) 1=3"]);
    assert_eq!(found, [Anomaly::Fault(Wrong::LostUpdate), Anomaly::G2]);
    let found = anomalies(&["ok 1() 1=2", "ok 1() 1=3"]);
    assert_eq!(found, [Anomaly::Fault(Wrong::LostUpdate), Anomaly::G2]);
    assert!(anomalies(&["ok 1() 1() 1=2"]).is_empty());
}

#[test]
fn g2_is_write_skew_and_snapshots_allow_it() {
    let skew = ["ok 1[] 2[] 1+1", "ok 1[] 2[] 2+1", "ok 1[1] 2[1]"];
    assert_eq!(anomalies(&skew), [Anomaly::G2]);
    let verdict = check(&history(&skew));
    assert!(verdict.allows(Level::RepeatableRead) && !verdict.allows(Level::Serializable));
    assert_eq!(anomalies(&["ok 1() 2=1", "ok 2() 1=1"]), [Anomaly::G2]);
}

#[test]
fn anti_dependencies_apart_from_each_other_are_no_snapshots() {
    // Long fork: two readers see two writers in opposite orders.
    let fork = ["ok 1+1", "ok 2+1", "ok 1[1] 2[]", "ok 1[] 2[1]", "ok 1[1] 2[1]"];
    assert_eq!(anomalies(&fork), [Anomaly::GNonadjacent]);
    let verdict = check(&history(&fork));
    assert!(verdict.allows(Level::ReadCommitted) && !verdict.allows(Level::RepeatableRead));
}

#[test]
fn reads_behind_what_was_committed_before_are_stale() {
    let stale = Anomaly::Fault(Wrong::StaleRead);
    assert!(anomalies(&["0 10 ok 1+1", "20 30 ok 1[]", "40 50 ok 1[1]"]).contains(&stale));
    // A write that nobody ever sees.
    assert!(anomalies(&["0 10 ok 1+1", "20 30 ok 1[]"]).contains(&stale));
    assert!(anomalies(&["0 10 ok 1=1", "20 30 ok 1()"]).contains(&stale));
    assert!(
        anomalies(&["0 25 ok 1+1", "20 30 ok 1[]"]).is_empty(),
        "they overlap"
    );
}

#[test]
fn an_unknown_outcome_follows_from_what_others_read() {
    assert!(anomalies(&["0 - info 1+1 2+1", "20 30 ok 1[] 2[]"]).is_empty());
    assert!(anomalies(&["0 - info 1+1 2+1", "20 30 ok 1[1] 2[1]"]).is_empty());
    // Half of it.
    let half = anomalies(&["0 - info 1+1 2+1", "20 30 ok 1[1] 2[]"]);
    assert_eq!(half, [Anomaly::Fault(Wrong::StaleRead)]);
    let chained = ["0 - info 1[] 1+1", "5 - info 1[1] 1+2", "20 30 ok 1[1,2]"];
    assert!(anomalies(&chained).is_empty());
}

#[test]
fn what_a_transaction_reads_must_agree_with_itself() {
    assert_eq!(
        anomalies(&["ok 1+1 1[]"]),
        [Anomaly::Fault(Wrong::OwnWriteMissing)]
    );
    assert_eq!(
        anomalies(&["ok 1=1 1(2)", "ok 1=2"]),
        [Anomaly::Fault(Wrong::OwnWriteMissing)]
    );
    let twice = ["ok 1+1", "ok 1[] 1[1]"];
    let unrepeatable = Anomaly::Fault(Wrong::Unrepeatable);
    assert!(anomalies(&twice).contains(&unrepeatable));
    let verdict = check(&history(&twice));
    assert!(verdict.allows(Level::ReadCommitted) && !verdict.allows(Level::RepeatableRead));
}

#[test]
fn lists_that_contradict_each_other_and_values_from_nowhere_are_found() {
    let order = anomalies(&["ok 1+1", "ok 1+2", "ok 1[1]", "ok 1[2,1]"]);
    assert!(
        order.contains(&Anomaly::Fault(Wrong::IncompatibleOrder)),
        "{order:?}"
    );
    let garbage = Anomaly::Fault(Wrong::Garbage);
    assert!(anomalies(&["ok 1[7]"]).contains(&garbage));
    assert!(anomalies(&["ok 1(7)"]).contains(&garbage));
    assert!(anomalies(&["ok 1+1", "ok 1[1,1]"]).contains(&garbage));
    assert!(anomalies(&["ok 1+1", "ok 1+1"]).contains(&garbage));
}

#[test]
fn a_circle_is_told_step_by_step() {
    let verdict = check(&history(&["ok 1[] 1+1", "ok 1[] 1+2", "ok 1[1,2]"]));
    let text = &verdict.found[0].text;
    assert!(text.starts_with("a circle of 2 transactions\n"), "{text}");
    for line in [
        "0 0 1000 ok 1[] 1+1",
        "1 0 1000 ok 1[] 1+2",
        "ww: ",
        "rw: ",
        "wrote 2 to 1",
        "wrote 1 to 1, which",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
