//! Clients that break the protocol: each gets the answer PostgreSQL would give, and nobody else
//! notices.

mod common;

use common::{Home, bind, execute, message, parse, query, run, startup, startup_packet, sync, tags, value};

#[test]
fn encryption_requests_are_declined_and_the_startup_goes_on() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.raw();
    for code in [(1234 << 16) | 5680, (1234 << 16) | 5679] {
        raw.send(&startup_packet(code, b""));
        let mut answer = [0];
        std::io::Read::read_exact(&mut raw.stream, &mut answer).expect("one byte");
        assert_eq!(&answer, b"N");
    }
    raw.send(&startup(&[
        ("user", "ada"),
        ("database", "scry"),
        ("application_name", "test"),
    ]));
    let answer = raw.until_ready();
    assert_eq!(answer[0].tag, b'R');
    let statuses: Vec<String> = answer
        .iter()
        .filter(|message| message.tag == b'S')
        .map(|message| String::from_utf8_lossy(&message.body).replace('\0', "="))
        .collect();
    for wanted in [
        "server_version=15",
        "client_encoding=UTF8",
        "server_encoding=UTF8",
        "DateStyle=ISO, MDY",
        "IntervalStyle=postgres",
        "TimeZone=",
        "integer_datetimes=on",
        "standard_conforming_strings=on",
        "is_superuser=on",
        "session_authorization=ada",
        "application_name=test",
        "in_hot_standby=off",
        "default_transaction_read_only=off",
    ] {
        assert!(
            statuses.iter().any(|status| status.starts_with(wanted)),
            "{wanted} in {statuses:?}"
        );
    }
    assert!(tags(&answer).ends_with("KZ"));
}

#[test]
fn a_newer_minor_version_and_unknown_extensions_are_negotiated_down() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.raw();
    raw.send(&startup_packet(
        3 << 16 | 2,
        b"user\0ada\0database\0scry\0_pq_.compression\0on\0\0",
    ));
    let answer = raw.until_ready();
    assert_eq!(answer[0].tag, b'v');
    assert_eq!(answer[0].body, b"\0\0\0\0\0\0\0\x01_pq_.compression\0");
}

#[test]
fn an_unknown_database_and_an_old_protocol_are_refused_with_their_codes() {
    let home = Home::new();
    let server = home.start();
    for (packet, code) in [
        (startup(&[("user", "ada"), ("database", "shop")]), "3D000"),
        (startup(&[("user", "ada")]), "3D000"),
        (startup(&[("database", "scry")]), "28000"),
        (startup_packet(2 << 16, b"user\0ada\0\0"), "0A000"),
        (startup_packet(3 << 16, b"user\0ada\0database"), "08P01"),
    ] {
        let mut raw = server.raw();
        raw.send(&packet);
        let answer = raw.until_closed();
        assert_eq!(tags(&answer), "E");
        assert_eq!(answer[0].code(), code);
        assert_eq!(answer[0].field(b'S').as_deref(), Some("FATAL"));
    }
    server.assert_alive();
}

#[test]
fn garbage_instead_of_a_startup_packet_ends_only_its_connection() {
    let home = Home::new();
    let server = home.start();
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        &[0xff; 64],
        &[0; 16],
        b"\x7f\xff\xff\xff\0\x03\0\0",
        b"\0\0\0\x04",
    ] {
        let mut raw = server.raw();
        raw.send(garbage);
        let answer = raw.until_closed();
        assert_eq!(tags(&answer), "E", "{garbage:?}");
        assert_eq!(answer[0].code(), "08P01");
    }
    server.assert_alive();
}

#[test]
fn one_session_too_many_is_refused_and_a_place_given_back_is_taken_again() {
    let home = Home::with_config("connections_max = 2");
    let server = home.start();
    let first = server.session();
    let _second = server.session();
    let mut third = server.raw();
    third.send(&startup(&[("user", "ada"), ("database", "scry")]));
    let answer = third.until_closed();
    assert_eq!(answer[0].code(), "53300");
    drop(first);
    let deadline = std::time::Instant::now() + common::DEADLINE;
    loop {
        let mut raw = server.raw();
        raw.send(&startup(&[("user", "ada"), ("database", "scry")]));
        if raw.receive().expect("an answer").tag == b'R' {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the place never came back");
    }
}

#[test]
fn a_silent_client_is_let_go_after_the_startup_timeout() {
    let home = Home::with_config("startup_timeout_s = 1");
    let server = home.start();
    let mut raw = server.raw();
    assert_eq!(raw.until_closed(), []);
    server.assert_alive();
}

#[test]
fn lengths_that_cannot_be_end_the_connection_with_08p01() {
    let home = Home::with_config("message_mib_max = 1");
    let server = home.start();
    for (tag, length) in [
        (b'Q', 0u32),
        (b'Q', 3),
        (b'Q', u32::MAX),
        (b'Q', (1 << 20) + 1),
        (b'S', 10_001),
        (b'P', 1 << 31),
    ] {
        let mut raw = server.session();
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&length.to_be_bytes());
        raw.send(&bytes);
        let answer = raw.until_closed();
        assert_eq!(tags(&answer), "E", "{tag} {length}");
        assert_eq!(answer[0].code(), "08P01");
        assert_eq!(answer[0].field(b'S').as_deref(), Some("FATAL"));
    }
    server.assert_alive();
}

#[test]
fn an_unknown_message_type_ends_the_connection_with_08p01() {
    let home = Home::new();
    let server = home.start();
    for tag in [b'z', b'p', 0u8, 0xff] {
        let mut raw = server.session();
        raw.send(&message(tag, b""));
        let answer = raw.until_closed();
        assert_eq!(answer[0].code(), "08P01", "{tag}");
    }
    server.assert_alive();
}

#[test]
fn a_client_that_leaves_inside_a_message_harms_nobody() {
    let home = Home::new();
    let server = home.start();
    let whole = [
        parse("s", "SELECT $1::int"),
        bind("s", &[Some(b"1")]),
        execute(),
        sync(),
    ]
    .concat();
    for cut in 0..whole.len() {
        let mut raw = server.session();
        raw.send(&whole[..cut]);
        drop(raw);
    }
    server.assert_alive();
}

#[test]
fn malformed_bodies_are_errors_that_the_session_survives() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    for (bytes, code) in [
        (message(b'Q', b"SELECT 1"), "08P01"),
        (message(b'Q', b"SELECT 1\0rest\0"), "08P01"),
        (message(b'Q', b"SELECT '\xff\xfe'\0"), "22021"),
        (message(b'F', b"whatever"), "0A000"),
    ] {
        raw.send(&bytes);
        let answer = raw.until_ready();
        assert_eq!(tags(&answer), "EZ");
        assert_eq!(answer[0].code(), code);
        assert_eq!(answer[1].body, b"I");
    }
    for (bytes, code) in [
        (message(b'P', b"s\0SELECT 1\0\xff\xff"), "08P01"),
        (message(b'P', b"s\0SELECT \xc3\x28\0\0\0"), "22021"),
        (message(b'B', b"\0s\0\0\x01\0\x07"), "22023"),
        (message(b'B', b"\0s\0\0\x02\0\0\0\0\0\0"), "08P01"),
        (message(b'B', b"\0s\0\0\0\xff\xff"), "08P01"),
        (message(b'B', b"\0s\0\0\0\0\x01\x7f\xff\xff\xff\0\0"), "08P01"),
        (message(b'B', b"\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), "08P01"),
        (message(b'D', b"X\0"), "08P01"),
        (message(b'C', b""), "08P01"),
        (message(b'E', b"\0"), "08P01"),
        (message(b'S', b"more"), "08P01"),
    ] {
        raw.send(&bytes);
        raw.send(&sync());
        let answer = raw.until_ready();
        assert_eq!(tags(&answer), "EZ", "{bytes:?}");
        assert_eq!(answer[0].code(), code, "{bytes:?}");
    }
    raw.send(&query("SELECT 1"));
    assert_eq!(tags(&raw.until_ready()), "TDCZ");
}

#[test]
fn a_malformed_message_fails_the_open_transaction() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    raw.send(&query("CREATE TABLE t (k int PRIMARY KEY)"));
    raw.until_ready();
    raw.send(&query("BEGIN; INSERT INTO t VALUES (1)"));
    assert_eq!(raw.until_ready().last().expect("ready").body, b"T");
    raw.send(&message(b'Q', b"SELECT '\xff'\0"));
    assert_eq!(raw.until_ready().last().expect("ready").body, b"E");
    raw.send(&query("COMMIT"));
    let answer = raw.until_ready();
    assert_eq!(answer[0].body, b"ROLLBACK\0");
    raw.send(&query("SELECT count(*) FROM t"));
    let answer = raw.until_ready();
    assert_eq!(answer[1].body, b"\0\x01\0\0\0\x010");
}

#[test]
fn an_error_in_a_pipeline_skips_to_sync_and_undoes_its_own_group_only() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    raw.send(&query("CREATE TABLE t (k int PRIMARY KEY)"));
    raw.until_ready();
    let insert = |value: &'static [u8]| [bind("i", &[Some(value)]), execute()].concat();
    raw.send(
        &[
            parse("i", "INSERT INTO t VALUES ($1)"),
            insert(b"1"),
            sync(),
            insert(b"2"),
            insert(b"1"), // a duplicate
            insert(b"3"), // skipped
            message(b'Q', b"SELECT 1\0"),
            sync(),
            insert(b"4"),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(tags(&raw.until_ready()), "12CZ");
    let failed = raw.until_ready();
    assert_eq!(tags(&failed), "2C2EZ");
    assert_eq!(failed[3].code(), "23505");
    assert_eq!(tags(&raw.until_ready()), "2CZ");
    raw.send(&query("SELECT k FROM t WHERE k IN (1, 2, 3, 4) ORDER BY k"));
    let rows: Vec<u8> = raw
        .until_ready()
        .iter()
        .filter(|message| message.tag == b'D')
        .map(|row| *row.body.last().expect("a value"))
        .collect();
    assert_eq!(rows, b"14");
}

#[test]
fn a_pipeline_that_waits_for_a_lock_still_delivers_what_is_done() {
    let home = Home::new();
    let server = home.start();
    let mut holder = server.session();
    holder.send(&query("CREATE TABLE t (k int PRIMARY KEY, v int)"));
    holder.until_ready();
    holder.send(&query("INSERT INTO t VALUES (1, 0)"));
    holder.until_ready();
    holder.send(&query("BEGIN; UPDATE t SET v = 1 WHERE k = 1"));
    holder.until_ready();
    // Both stand in the server's buffer at once; the second waits for the holder.
    let mut waiter = server.session();
    waiter.send(&[query("SELECT 1"), query("UPDATE t SET v = v + 10 WHERE k = 1")].concat());
    assert_eq!(tags(&waiter.until_ready()), "TDCZ");
    holder.send(&query("COMMIT"));
    holder.until_ready();
    assert_eq!(tags(&waiter.until_ready()), "CZ");
    waiter.send(&query("SELECT v FROM t WHERE k = 1"));
    assert_eq!(waiter.until_ready()[1].body, b"\0\x01\0\0\0\x0211");
}

#[test]
fn messages_that_do_not_belong_in_a_copy_end_the_copy_only() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    raw.send(&query("CREATE TABLE t (k int PRIMARY KEY)"));
    raw.until_ready();
    raw.send(&query("COPY t FROM STDIN"));
    assert_eq!(raw.receive().expect("an answer").tag, b'G');
    raw.send(&message(b'd', b"1\n"));
    raw.send(&query("SELECT 1"));
    let answer = raw.until_ready();
    assert_eq!(tags(&answer), "EZ");
    assert_eq!(answer[0].code(), "08P01");
    // What was still on its way is ignored.
    raw.send(&[message(b'd', b"2\n"), message(b'c', b"")].concat());
    raw.send(&query("COPY t FROM STDIN"));
    assert_eq!(raw.receive().expect("an answer").tag, b'G');
    raw.send(&message(b'f', b"changed my mind\0"));
    let answer = raw.until_ready();
    assert_eq!(answer[0].code(), "57014");
    raw.send(&query("SELECT count(*) FROM t"));
    assert_eq!(raw.until_ready()[1].body, b"\0\x01\0\0\0\x010");
}

#[test]
fn a_client_that_vanishes_while_its_statement_waits_frees_its_locks() {
    let home = Home::new();
    let server = home.start();
    let mut holder = server.session();
    for sql in [
        "CREATE TABLE t (k int PRIMARY KEY, v int)",
        "INSERT INTO t VALUES (1, 0), (2, 0)",
        "BEGIN; UPDATE t SET v = 1 WHERE k = 1",
    ] {
        holder.send(&query(sql));
        holder.until_ready();
    }
    let mut lost = server.session();
    lost.send(&query("BEGIN; UPDATE t SET v = 2 WHERE k = 2"));
    lost.until_ready();
    lost.send(&query("UPDATE t SET v = 2 WHERE k = 1"));
    drop(lost);
    // Would wait for the holder, who ends after it, if the lost client's transaction went on waiting.
    let mut other = server.session();
    other.send(&query("UPDATE t SET v = v + 10 WHERE k = 2"));
    assert_eq!(tags(&other.until_ready()), "CZ");
    holder.send(&query("COMMIT; SELECT v FROM t WHERE k = 2"));
    assert_eq!(holder.until_ready()[2].body, b"\0\x01\0\0\0\x0210");
}

#[test]
fn what_needs_more_memory_than_allowed_ends_with_53200_and_the_session_goes_on() {
    let home = Home::with_config("[transactions]\nmemory_mib_max = 1\n[analytic]\nmemory_mib = 1");
    let server = home.start();
    let mut raw = server.session();
    for sql in [
        "CREATE TABLE t (k int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT g, 'a row among many rows' FROM generate_series(2, 100000) AS g(g)",
    ] {
        raw.send(&query(sql));
        raw.until_ready();
    }
    // Rows that are locked and not written stay in memory.
    for sql in [
        "BEGIN; SELECT k FROM t FOR UPDATE",
        "SELECT g % 100000 AS h, count(*) FROM generate_series(1, 1000000) AS g(g) GROUP BY h ORDER BY h",
    ] {
        raw.send(&query(sql));
        let answer = raw.until_ready();
        let error = answer.iter().find(|message| message.tag == b'E').expect(sql);
        assert_eq!(error.code(), "53200", "{sql}: {error:?}");
        raw.send(&query("ROLLBACK"));
        raw.until_ready();
    }
    raw.send(&query("INSERT INTO t VALUES (1, 'one'); SELECT count(*) FROM t"));
    assert_eq!(tags(&raw.until_ready()), "CTDCZ");
}

#[test]
fn statements_write_many_times_as_much_as_a_transaction_may_have_in_memory() {
    let home = Home::with_config("[transactions]\nmemory_mib_max = 1");
    let mut server = home.start();
    let mut raw = server.session();
    for sql in [
        "CREATE TABLE t (k int PRIMARY KEY, v text, n int)",
        "CREATE INDEX t_n ON t (n)",
        "INSERT INTO t SELECT g, 'a row among many rows', g FROM generate_series(1, 40000) AS g(g)",
        "UPDATE t SET n = n + 100000",
        "BEGIN; UPDATE t SET v = 'another text'; DELETE FROM t WHERE k % 4 = 0; ROLLBACK",
        "DELETE FROM t WHERE k % 4 = 1",
        "UPDATE t SET k = k + 1000000 WHERE k % 4 = 2",
        "BEGIN; UPDATE t SET n = n + 1; SELECT k FROM t FOR UPDATE; UPDATE t SET n = n - 1; COMMIT",
        "BEGIN; UPDATE t SET n = n + 1; SAVEPOINT s; DELETE FROM t WHERE k % 4 = 3; UPDATE t SET v = 'another text'; \
         ROLLBACK TO s; UPDATE t SET n = n - 1; COMMIT",
    ] {
        raw.send(&query(sql));
        let answer = raw.until_ready();
        let error = answer.iter().find(|message| message.tag == b'E');
        assert!(error.is_none(), "{sql}: {error:?}");
    }
    for restart in [false, true] {
        if restart {
            server.kill();
            server = home.start();
            raw = server.session();
        }
        for (sql, expected) in [
            ("SELECT count(*) FROM t", "30000"),
            ("SELECT sum(n) FROM t", "3600030000"),
            ("SELECT sum(k) FROM t", "10600030000"),
            ("SELECT min(v) FROM t", "a row among many rows"),
            // By the key and by the index, on the rows.
            ("SELECT n FROM t WHERE k = 1000002", "100002"),
            ("SELECT k FROM t WHERE n = 100003", "3"),
        ] {
            assert_eq!(value(&mut raw, sql), expected, "{sql}, restart: {restart}");
        }
        let gone = run(&mut raw, "SELECT k FROM t WHERE n = 3");
        assert_eq!(tags(&gone), "TCZ");
    }
}

#[test]
fn rolling_back_much_to_a_savepoint_is_ended_as_any_statement_and_leaves_a_failed_transaction() {
    let home = Home::with_config("[transactions]\nmemory_mib_max = 1");
    let server = home.start();
    let mut raw = server.session();
    for sql in [
        "CREATE TABLE t (k int PRIMARY KEY, v text)",
        "BEGIN; SAVEPOINT s; INSERT INTO t SELECT g, 'a row among many rows' FROM generate_series(1, 40000) AS g(g)",
        "SET LOCAL statement_timeout = '1ms'",
    ] {
        raw.send(&query(sql));
        let answer = raw.until_ready();
        assert!(answer.iter().all(|message| message.tag != b'E'), "{sql}");
    }
    for sql in ["ROLLBACK TO s", "SELECT 1", "ROLLBACK TO s"] {
        raw.send(&query(sql));
        let answer = raw.until_ready();
        let expected = if sql == "SELECT 1" { "25P02" } else { "57014" };
        assert_eq!(answer[0].code(), expected, "{sql}");
    }
    raw.send(&query("COMMIT"));
    assert_eq!(raw.until_ready()[0].body, b"ROLLBACK\0");
    assert_eq!(value(&mut raw, "SELECT count(*) FROM t"), "0");
}

#[test]
fn with_few_open_files_connections_are_refused_with_53300_and_not_left_waiting() {
    let home = Home::new();
    let server = home.start_with_open_files(200);
    let mut sessions = Vec::new();
    let refusal = loop {
        let mut raw = server.raw();
        raw.send(&startup(&[("user", "ada"), ("database", "scry")]));
        match raw.receive().expect("an answer") {
            message if message.tag == b'E' => break message,
            _ => {
                raw.until_ready();
                sessions.push(raw);
            }
        }
        assert!(sessions.len() < 200);
    };
    assert_eq!(refusal.code(), "53300");
    assert!(sessions.len() > 20, "{}", sessions.len());
    let log = home.log();
    assert!(log.contains("open files"), "{log}");
    for session in &mut sessions {
        session.send(&query("SELECT 1"));
        assert_eq!(tags(&session.until_ready()), "TDCZ");
    }
}

#[test]
fn silent_clients_give_way_to_those_who_speak() {
    let home = Home::with_config("startup_timeout_s = 3600");
    let server = home.start_with_open_files(200);
    // Far more than there are places; the first ones are let go without a word.
    let mut silent: Vec<_> = (0..100).map(|_| server.raw()).collect();
    server.assert_alive();
    assert_eq!(silent[0].until_closed(), []);
    drop(silent);
    server.assert_alive();
}
