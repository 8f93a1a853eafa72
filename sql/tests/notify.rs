//! LISTEN and NOTIFY between sessions: order, bounds, and what outlives whom.

mod common;

use common::{Fixture, run, script};
use scry_sql::{Executed, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

async fn done(session: &mut Session, sql: &str) {
    let lines = script(session, sql, None).await;
    assert!(
        lines.iter().all(|line| !line.starts_with("ERROR")),
        "{sql}: {lines:?}"
    );
}

fn payloads(session: &mut Session) -> Vec<String> {
    let heard = session.take_notifications();
    heard
        .iter()
        .map(|heard| heard.message.payload.to_string())
        .collect()
}

#[test]
fn notifications_come_in_the_order_of_their_commits() {
    const WRITERS: usize = 4;
    const COMMITS: usize = 50;
    let fixture = Fixture::new();
    run(async {
        let mut first = fixture.session();
        let mut second = fixture.session();
        done(&mut first, "CREATE TABLE t (id int PRIMARY KEY, n int)").await;
        done(&mut first, "INSERT INTO t VALUES (0, 0); LISTEN order_of").await;
        done(&mut second, "LISTEN order_of").await;
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut session = fixture.session();
            writers.push(tokio::spawn(async move {
                for commit in 0..COMMITS {
                    // The row that all of them count up says in which order they commit.
                    let sql = format!(
                        "BEGIN; UPDATE t SET n = n + 1 WHERE id = 0; \
                         SELECT pg_notify('order_of', n || ' {writer} {commit}') FROM t WHERE id = 0; COMMIT"
                    );
                    done(&mut session, &sql).await;
                }
            }));
        }
        for writer in writers {
            writer.await.expect("a writer that ends well");
        }
        let (heard, also) = (payloads(&mut first), payloads(&mut second));
        let counts: Vec<usize> = heard
            .iter()
            .filter_map(|payload| payload.split(' ').next()?.parse().ok())
            .collect();
        assert_eq!(counts, (1..=WRITERS * COMMITS).collect::<Vec<_>>());
        assert_eq!(heard, also);
    });
}

/// Waits until the session has something to tell.
async fn notified(session: &Session) {
    std::future::poll_fn(|context| match session.poll_notified(context.waker()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// The rows of `t`, and what the session heard by then.
async fn count(session: &mut Session) -> (usize, Vec<String>) {
    let mut lines = script(session, "SELECT count(*) FROM t", None).await;
    let heard = lines.split_off(2).into_iter();
    let heard = heard.filter_map(|line| line.strip_prefix("heard on c: ").map(str::to_owned));
    (lines[0].parse().expect("a count"), heard.collect())
}

#[test]
fn who_listens_hears_every_commit_since_and_none_from_before() {
    let fixture = Fixture::new();
    run(async {
        let mut writer = fixture.session();
        done(&mut writer, "CREATE TABLE t (id int PRIMARY KEY)").await;
        let enough = Arc::new(AtomicBool::new(false));
        let stop = enough.clone();
        let writing = tokio::spawn(async move {
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                let sql = format!("BEGIN; INSERT INTO t VALUES ({id}); NOTIFY c, '{id}'; COMMIT");
                done(&mut writer, &sql).await;
                id += 1;
            }
        });
        for _ in 0..50 {
            let mut listener = fixture.session();
            let (before, _) = count(&mut listener).await;
            done(&mut listener, "BEGIN; LISTEN c").await;
            let commit = listener.parse_script("COMMIT").expect("a statement").remove(0);
            let committed = listener.simple(&commit, &mut bytes::BytesMut::new()).await;
            assert!(matches!(committed, Ok(Executed::Complete(_))), "{committed:?}");
            let (after, mut heard) = count(&mut listener).await;
            if heard.is_empty() {
                notified(&listener).await;
                heard = payloads(&mut listener);
            }
            let first: usize = heard[0].parse().expect("a number");
            // Row number n is the n-th that was committed.
            assert!((before..=after).contains(&first), "{first}, {before} to {after}");
        }
        enough.store(true, Ordering::Relaxed);
        writing.await.expect("a writer that ends well");
    });
}

#[test]
fn what_a_slow_listener_cannot_hold_is_lost_and_told_and_nobody_waits() {
    let fixture = Fixture::new();
    run(async {
        let mut slow = fixture.session();
        let mut writer = fixture.session();
        done(&mut slow, "LISTEN c").await;
        for number in 0..200 {
            done(
                &mut writer,
                &format!("SELECT pg_notify('c', '{number}' || repeat('x', 7900)) = ''"),
            )
            .await;
        }
        let heard = payloads(&mut slow);
        let lost = slow.take_notices();
        assert!((100..200).contains(&heard.len()), "{}", heard.len());
        assert!(
            heard
                .iter()
                .enumerate()
                .all(|(number, heard)| heard.starts_with(&format!("{number}x")))
        );
        let text = format!(
            "{} notifications were lost because they were not taken in time",
            200 - heard.len()
        );
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].0.message, text);
        assert_eq!(lost[0].0.code.as_str(), "01000");
        done(&mut writer, "NOTIFY c, 'again'").await;
        assert_eq!(payloads(&mut slow), ["again"]);
        assert!(slow.take_notices().is_empty());
    });
}

#[test]
fn one_transaction_cannot_tell_without_end() {
    let fixture = Fixture::new();
    run(async {
        let mut session = fixture.session();
        done(&mut session, "LISTEN c; CREATE TABLE t (id int PRIMARY KEY)").await;
        done(
            &mut session,
            "INSERT INTO t SELECT * FROM generate_series(1, 2000)",
        )
        .await;
        let sql = "SELECT pg_notify('c', id || repeat('x', 7900)) FROM t WHERE id BETWEEN 1 AND 2000";
        let lines = script(&mut session, sql, None).await;
        assert_eq!(
            lines,
            ["ERROR 54000: too many notifications in one transaction\n  detail: They may take 8 MiB."]
        );
        done(&mut session, "NOTIFY c, 'small'").await;
    });
}

#[test]
fn the_server_itself_can_notify() {
    let fixture = Fixture::new();
    run(async {
        let mut session = fixture.session();
        done(&mut session, "LISTEN scry_conflicts").await;
        assert!(!session.poll_notified(Waker::noop()));
        fixture
            .database
            .notify("scry_conflicts", "spring/up5")
            .expect("told");
        fixture.database.notify("elsewhere", "").expect("told");
        // It may have to wait for the commit of somebody else, so not at once.
        notified(&session).await;
        let heard = session.take_notifications();
        assert_eq!(heard.len(), 1);
        assert_eq!((heard[0].process, &*heard[0].message.payload), (0, "spring/up5"));
        let long = "c".repeat(64);
        assert!(fixture.database.notify(&long, "").is_err());
    });
}

#[test]
fn a_commit_whose_client_has_gone_is_heard_of() {
    let fixture = Fixture::new();
    run(async {
        let mut listener = fixture.session();
        done(&mut listener, "LISTEN c; CREATE TABLE t (id int PRIMARY KEY)").await;
        let mut writer = fixture.session();
        done(
            &mut writer,
            "BEGIN; INSERT INTO t VALUES (1); NOTIFY c, 'from one who went'",
        )
        .await;
        let commit = writer.parse_script("COMMIT").expect("a statement").remove(0);
        let mut out = bytes::BytesMut::new();
        {
            // One look at the commit, which is in the log then and on its way to the disk; nobody waits for it.
            let mut committing = std::pin::pin!(writer.simple(&commit, &mut out));
            let mut context = std::task::Context::from_waker(Waker::noop());
            let _ = committing.as_mut().poll(&mut context);
        }
        drop(writer);
        notified(&listener).await;
        assert_eq!(payloads(&mut listener), ["from one who went"]);
    });
}
