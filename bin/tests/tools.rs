//! `scry log` and `scry verify` on directories that a real server wrote.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;

use common::{Home, grow, query, run, segments, startup, text, tool, value, wait_until};

#[test]
fn the_trail_names_who_changed_what_from_what_to_what() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    run(
        &mut raw,
        "CREATE TABLE lamp (id int PRIMARY KEY, colour text, price numeric(8,2))",
    );
    run(&mut raw, "INSERT INTO lamp VALUES (7, 'red', 12.50)");
    run(&mut raw, "UPDATE lamp SET colour = 'blue' WHERE id = 7");
    run(&mut raw, "DELETE FROM lamp WHERE id = 7");
    run(&mut raw, "CREATE TABLE other (x int)");
    run(&mut raw, "INSERT INTO other VALUES (1)");
    // The server still runs: the trail of a live directory can be read.
    let output = tool(&["log", "--table", "lamp"], &home.data());
    assert!(output.status.success(), "{output:?}");
    let log = text(&output.stdout);
    let line = |wanted: &str| {
        log.lines()
            .find(|line| line.contains(wanted))
            .unwrap_or_else(|| panic!("{wanted} in\n{log}"))
    };
    let insert = line("INSERT");
    assert!(insert.contains("→ id=7, colour='red', price=12.50"), "{insert}");
    assert!(insert.contains(" tester "), "{insert}");
    assert!(line("UPDATE").contains("colour: 'red' → 'blue'"), "{log}");
    assert!(
        line("DELETE").contains("id=7, colour='blue', price=12.50 →"),
        "{log}"
    );
    assert!(line("CREATE").contains("columns id, colour, price"), "{log}");
    assert!(!log.contains("other"), "{log}");

    let from = line("UPDATE")
        .split_whitespace()
        .next()
        .expect("an LSN")
        .to_owned();
    let output = tool(&["log", "--from", &from, "--limit", "1", "--json"], &home.data());
    let json = text(&output.stdout);
    assert_eq!(json.lines().count(), 1, "{json}");
    assert!(
        json.contains(
            r#""op":"UPDATE","key":{"id":"7"},"before":{"colour":"red"},"after":{"colour":"blue"}"#
        ),
        "{json}"
    );

    let output = tool(&["log", "--table", "nowhere"], &home.data());
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("nowhere"));
}

/// The lines of `scry log --audit`, without its header.
fn audit(home: &Home, table: &str, key: &[&str], further: &[&str]) -> Vec<String> {
    let keys = key.iter().flat_map(|value| ["--key", value]);
    let arguments: Vec<&str> = ["log", "--audit", "--table", table]
        .into_iter()
        .chain(keys)
        .chain(further.iter().copied())
        .collect();
    let output = tool(&arguments, &home.data());
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout);
    lines
        .lines()
        .filter(|line| !line.starts_with("LSN "))
        .map(str::to_owned)
        .collect()
}

/// That these lines hold these texts, one after the other and no more.
fn tells(lines: &[String], wanted: &[&[&str]]) {
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, parts) in lines.iter().zip(wanted) {
        for part in *parts {
            assert!(line.contains(part), "{part} in {lines:#?}");
        }
    }
}

#[test]
fn the_story_of_one_row_names_who_and_when_and_from_what() {
    let home = Home::new();
    let server = home.start();
    let mut ann = server.raw();
    ann.send(&startup(&[
        ("user", "ann"),
        ("database", "scry"),
        ("application_name", "till 7"),
    ]));
    ann.until_ready();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE lamp (id int PRIMARY KEY, colour text)");
    run(&mut ann, "INSERT INTO lamp VALUES (7, 'red'), (8, 'red')");
    run(&mut raw, "UPDATE lamp SET colour = 'blue' WHERE id = 7");
    run(&mut raw, "UPDATE lamp SET colour = 'grey' WHERE id = 8");
    run(&mut ann, "UPDATE lamp SET id = 9 WHERE id = 7");
    run(&mut raw, "INSERT INTO lamp VALUES (7, 'new')");
    run(&mut raw, "BEGIN; DELETE FROM lamp WHERE id = 7; ROLLBACK");
    run(&mut raw, "TRUNCATE lamp");
    let ann = [" ann ", "application till 7", "client 127.0.0.1"];
    let story = audit(&home, "lamp", &["7"], &[]);
    assert_eq!(
        story
            .iter()
            .filter(|line| ann.iter().all(|part| line.contains(part)))
            .count(),
        story.iter().filter(|line| line.contains(" ann ")).count(),
    );
    assert!(
        story[0].contains("INSERT") && story[0].contains("→ id=7, colour='red'"),
        "{story:#?}"
    );
    assert!(story[0].contains(" ann "), "{story:#?}");
    assert!(
        story[1].contains(" tester ") && story[1].contains("colour: 'red' → 'blue'"),
        "{story:#?}"
    );
    // The change of the key takes the row away from this one, whether as one record or as two.
    assert!(story[2].contains(" ann "), "{story:#?}");
    let end = &story[story.len() - 2..];
    assert!(end[0].contains("→ id=7, colour='new'"), "{story:#?}");
    assert!(
        end[1].contains("TRUNCATE") && end[1].contains(" tester "),
        "{story:#?}"
    );
    assert!(story.iter().all(|line| !line.contains("grey")), "{story:#?}");
    let moved = audit(&home, "lamp", &["9"], &[]);
    assert!(moved[0].contains(" ann ") && moved[0].contains('9'), "{moved:#?}");

    let json = audit(&home, "lamp", &["8"], &["--json"]);
    tells(
        &json,
        &[
            &[
                r#""op":"INSERT""#,
                r#""user":"ann""#,
                r#""application":"till 7""#,
                r#""client":"#,
            ],
            &[r#""before":{"colour":"red"},"after":{"colour":"grey"}"#],
            &[r#""op":"TRUNCATE""#],
        ],
    );
    let from = story[1].split_whitespace().next().expect("an LSN");
    let later = audit(&home, "lamp", &["7"], &["--from", from, "--limit", "1"]);
    assert_eq!(later, [story[1].clone()]);
}

#[test]
fn the_story_of_a_row_spans_keys_of_all_kinds_and_what_candidates_made_of_it() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    run(
        &mut raw,
        "CREATE TABLE seat (hall text, number int, who text, PRIMARY KEY (hall, number))",
    );
    run(
        &mut raw,
        "INSERT INTO seat VALUES ('a', 1, 'ann'), ('a', 2, 'bob'), ('b', 1, 'eve')",
    );
    run(&mut raw, "DELETE FROM seat WHERE hall = 'a' AND number = 1");
    tells(
        &audit(&home, "seat", &["a", "1"], &[]),
        &[&["INSERT", "who='ann'"], &["DELETE", "who='ann' →"]],
    );
    // Rows that were there before the table had its key.
    run(&mut raw, "CREATE TABLE late (k int NOT NULL, v text)");
    run(&mut raw, "INSERT INTO late VALUES (1, 'early'), (2, 'other')");
    run(&mut raw, "ALTER TABLE late ADD PRIMARY KEY (k)");
    run(&mut raw, "UPDATE late SET v = 'keyed' WHERE k = 1");
    tells(
        &audit(&home, "late", &["1"], &[]),
        &[&["INSERT", "v='early'"], &["UPDATE", "v: 'early' → 'keyed'"]],
    );
    // What a candidate did counts from its adoption on, and stands under its name.
    run(&mut raw, "CREATE ELECTION spring");
    run(&mut raw, "CREATE CANDIDATE up IN spring");
    run(&mut raw, "SET scry.candidate = 'spring/up'");
    run(&mut raw, "UPDATE late SET v = 'candidate' WHERE k = 1");
    run(&mut raw, "RESET scry.candidate");
    run(&mut raw, "ELECT CANDIDATE up IN spring");
    let story = audit(&home, "late", &["1"], &[]);
    tells(
        &story[2..],
        &[
            &["\"spring/up\".late", "v='candidate'"],
            &["ADOPT", "candidate spring/up"],
        ],
    );
    let other = audit(&home, "late", &["2"], &[]);
    assert_eq!(other.len(), 1, "{other:#?}");

    for (key, wanted) in [
        (vec!["1"], "(hall, number)"),
        (vec!["a", "1", "2"], "(hall, number)"),
    ] {
        let keys = key.iter().flat_map(|value| ["--key", value]);
        let arguments: Vec<&str> = ["log", "--audit", "--table", "seat"]
            .into_iter()
            .chain(keys)
            .collect();
        let output = tool(&arguments, &home.data());
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(wanted), "{output:?}");
    }
    assert_eq!(audit(&home, "seat", &["a", "77"], &[]), [""; 0]);
}

#[test]
fn what_was_archived_is_read_and_checked_with_the_rest() {
    let home = Home::with_archive();
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY, v text)");
    run(&mut raw, "INSERT INTO t VALUES (1, 'first')");
    for k in 2..60 {
        run(
            &mut raw,
            &format!("INSERT INTO t VALUES ({k}, repeat('x', 100000))"),
        );
    }
    run(&mut raw, "UPDATE t SET v = 'last' WHERE k = 1");
    wait_until("segments are archived", || segments(&home.archive()).len() >= 5);
    server.stop();
    // As if they had been recycled.
    for name in &segments(&home.archive())[..5] {
        let (kept, copy) = (home.data().join("wal").join(name), home.archive().join(name));
        assert_eq!(fs::read(&kept).expect("segment"), fs::read(copy).expect("copy"));
        fs::remove_file(kept).expect("removed");
    }
    let archive = home.archive();
    let archive = archive.to_str().expect("text");
    let output = tool(&["log", "--table", "t"], &home.data());
    assert!(text(&output.stderr).contains("--archive"), "{output:?}");
    tells(
        &audit(&home, "t", &["1"], &["--archive", archive]),
        &[&["INSERT", "v='first'"], &["UPDATE", "v: 'first' → 'last'"]],
    );
    let output = tool(&["verify"], &home.data());
    assert!(text(&output.stdout).contains("it begins at LSN"), "{output:?}");
    let output = tool(&["verify", "--archive", archive], &home.data());
    let verdict = text(&output.stdout);
    assert!(
        verdict.contains("sound") && !verdict.contains("it begins"),
        "{verdict}"
    );
}

#[test]
fn verify_says_what_it_checked_and_finds_one_changed_byte() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY, v text)");
    for k in 0..50 {
        run(
            &mut raw,
            &format!("INSERT INTO t VALUES ({k}, 'a value that can be found {k}')"),
        );
    }
    server.stop();
    let output = tool(&["verify"], &home.data());
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("sound"), "{output:?}");

    let (path, at) = fs::read_dir(home.data().join("wal"))
        .expect("segments")
        .filter_map(|entry| {
            let path = entry.expect("entry").path();
            let bytes = fs::read(&path).ok()?;
            let wanted = b"a value that can be found 20";
            Some((
                path,
                bytes.windows(wanted.len()).position(|window| window == wanted)?,
            ))
        })
        .next()
        .expect("the value stands in the trail");
    let segment = fs::File::options().write(true).open(&path).expect("segment");
    segment.write_all_at(b"X", at as u64).expect("one byte");
    let output = tool(&["verify"], &home.data());
    assert!(!output.status.success());
    let report = text(&output.stdout);
    assert!(report.contains("DAMAGE") && report.contains("offset"), "{report}");
    assert!(report.contains("scry repair"), "{report}");
    let refused = home.command().output().expect("runs");
    assert!(!refused.status.success(), "a damaged trail is not served");
}

#[test]
fn a_damaged_mirror_file_is_reported_and_made_anew() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY, v text)");
    run(
        &mut raw,
        "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')",
    );
    // What the mirror has seen is in its files after the stop.
    run(&mut raw, "SET scry.read_from = mirror; SELECT count(*) FROM t");
    server.stop();
    let segment = fs::read_dir(home.data().join("mirror"))
        .expect("the mirror's files")
        .map(|entry| entry.expect("entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .expect("a segment was sealed at the stop");
    let bytes = fs::read(&segment).expect("segment");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 0xff;
    fs::write(&segment, damaged).expect("one byte");
    let output = tool(&["verify"], &home.data());
    assert!(!output.status.success());
    assert!(text(&output.stdout).contains("DAMAGE"), "{output:?}");
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "SET scry.read_from = mirror");
    assert_eq!(value(&mut raw, "SELECT count(*) FROM t"), "3");
    let log = home.log();
    assert!(log.contains("made anew") && log.contains("parquet"), "{log}");
}

#[test]
fn a_trail_whose_end_is_missing_is_not_taken_for_a_short_one() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY)");
    run(&mut raw, "INSERT INTO t VALUES (1)");
    server.stop();
    // As if a volume had not been mounted.
    let (trail, away) = (home.data().join("wal"), home.data().with_file_name("away"));
    fs::rename(&trail, &away).expect("moved");
    let output = tool(&["verify"], &home.data());
    assert!(!output.status.success());
    let report = text(&output.stdout);
    assert!(
        report.contains("no segment") && report.contains("end is missing"),
        "{report}"
    );
    let refused = home.command().output().expect("runs");
    assert!(!refused.status.success());
    let message = text(&refused.stderr);
    assert!(
        message.contains("end is missing") && message.contains("mirror"),
        "{message}"
    );
    assert_eq!(
        fs::read_dir(&trail).map_or(0, Iterator::count),
        0,
        "no trail was begun"
    );
    let _ = fs::remove_dir(&trail);
    fs::rename(&away, &trail).expect("moved back");
    let server = home.start();
    let mut raw = server.session();
    assert_eq!(value(&mut raw, "SELECT count(*) FROM t"), "1");
}

#[test]
fn a_damaged_trail_is_repaired_into_a_new_directory_and_stays_as_it_was() {
    let home = Home::new();
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY, v text)");
    for k in 0..20 {
        run(&mut raw, &format!("INSERT INTO t VALUES ({k}, 'the value {k}.')"));
    }
    let output = tool(&["repair"], &home.data());
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("stop the server first"),
        "{output:?}"
    );
    server.stop();
    let output = tool(&["repair"], &home.data());
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("nothing to repair"), "{output:?}");

    let segment = home.data().join("wal/0000000000000000.wal");
    let mut bytes = fs::read(&segment).expect("segment");
    let wanted = b"the value 7.";
    let at = bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
        .expect("the value stands in the trail");
    bytes[at] ^= 0x20;
    fs::write(&segment, &bytes).expect("one bit");
    let refused = home.command().output().expect("runs");
    let message = text(&refused.stderr);
    assert!(
        message.contains("scry repair") && message.contains("offset"),
        "{message}"
    );
    let output = tool(&["repair"], &home.data());
    assert!(output.status.success(), "{output:?}");
    let report = text(&output.stdout);
    assert!(
        report.contains("8 commits") && report.contains("12 commits"),
        "{report}"
    );

    let saved = home.data().with_file_name("saved");
    let into = ["repair", "--into", saved.to_str().expect("UTF-8")];
    let output = tool(&into, &home.data());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(&segment).expect("segment"), bytes);
    let output = tool(&into, &home.data());
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("there already"), "{output:?}");
    fs::rename(home.data(), home.data().with_file_name("damaged")).expect("moved");
    fs::rename(&saved, home.data()).expect("moved");
    let server = home.start();
    let mut raw = server.session();
    for place in ["primary", "mirror"] {
        run(&mut raw, &format!("SET scry.read_from = {place}"));
        raw.send(&query("SELECT count(*), max(k) FROM t"));
        assert_eq!(
            raw.until_ready()[1].body,
            b"\0\x02\0\0\0\x017\0\0\0\x016",
            "{place}"
        );
    }
    run(&mut raw, "INSERT INTO t VALUES (7, 'again')");
}

#[test]
fn the_tools_refuse_what_is_no_data_directory() {
    let empty = tempfile::tempdir().expect("temporary directory");
    for name in ["log", "verify", "repair"] {
        let output = tool(&[name], empty.path());
        assert!(!output.status.success());
        assert!(
            text(&output.stderr).contains("not a scry data directory"),
            "{output:?}"
        );
        let output = tool(&[name], &empty.path().join("nowhere"));
        assert!(text(&output.stderr).contains("no directory"), "{output:?}");
    }
}

#[test]
fn privileges_of_elections_stand_in_the_trail_and_who_may_create_them_in_the_configuration() {
    let home = Home::with_config("[elections]\ncreators = ['ada', 'tester']\n");
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE ELECTION spring WITH (private = on)");
    run(&mut raw, "GRANT WRITE, READ ON ELECTION spring TO bob");
    let mut eve = server.raw();
    eve.send(&startup(&[("user", "eve"), ("database", "scry")]));
    eve.until_ready();
    eve.send(&query("CREATE ELECTION summer"));
    let refused = eve.until_ready();
    assert_eq!(refused[0].code(), "42501", "{refused:?}");
    let output = tool(&["log"], &home.data());
    let log = text(&output.stdout);
    let line = |op: &str, wanted: &str| {
        let found = log
            .lines()
            .find(|line| line.contains(op) && line.contains("election spring"));
        let found = found.unwrap_or_else(|| panic!("{op} in\n{log}"));
        assert!(found.contains(wanted), "{found}");
    };
    line("REVOKE", "privileges CREATE, WRITE, READ, ELECT  grantee PUBLIC");
    line("GRANT", "privileges WRITE, READ  grantee bob");
}

/// The bytes of a folder's files whose names end so.
fn bytes_of(folder: &std::path::Path, ending: &str) -> u64 {
    let files = fs::read_dir(folder).expect("a folder");
    // What goes away while it is looked at is not there.
    let sizes = files.filter_map(|entry| {
        let entry = entry.ok()?;
        let is_one = entry.file_name().to_string_lossy().ends_with(ending);
        is_one.then(|| entry.metadata().ok()).flatten()
    });
    sizes.map(|metadata| metadata.len()).sum()
}

#[test]
fn a_trail_under_load_stays_bounded_and_what_is_left_is_enough() {
    const SUM: &str = "SELECT sum(v) || '/' || count(*) || '/' || min(length(w)) FROM t";
    let home = Home::with_recycling();
    let mut server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY, v int8, w text)");
    run(&mut raw, "CREATE TABLE early (k int PRIMARY KEY, w text)");
    run(&mut raw, "INSERT INTO early VALUES (1, 'first')");
    run(&mut raw, "CREATE ELECTION e; CREATE CANDIDATE c IN e");
    for round in 0..4 {
        grow(&mut raw, 40);
        run(&mut raw, "SET scry.candidate = 'e/c'");
        run(
            &mut raw,
            &format!("UPDATE early SET w = 'round {round}' WHERE k = 1"),
        );
        run(&mut raw, "RESET scry.candidate; SET scry.read_from = primary");
        let expected = value(&mut raw, SUM);
        server.kill();
        // Segments of 1 MiB: what is kept, two checkpoint distances, what is being written, and the next one.
        let wal = bytes_of(&home.data().join("wal"), ".wal");
        assert!(wal <= 10 << 20, "{wal} bytes in round {round}");
        if round % 2 == 1 {
            fs::remove_dir_all(home.data().join("mirror")).expect("removed");
        }
        server = home.start();
        raw = server.session();
        assert_eq!(value(&mut raw, SUM), expected);
        run(&mut raw, "SET scry.read_from = mirror");
        assert_eq!(value(&mut raw, SUM), expected, "round {round}");
        let future = value(&mut raw, "SELECT w FROM \"e/c\".early");
        assert_eq!(future, format!("round {round}"));
    }
    let held = "SELECT count(*) FROM scry_stat_log_consumers WHERE name = 'mirror' AND NOT dropped";
    assert_eq!(value(&mut raw, held), "1");
    let begin = value(
        &mut raw,
        "SELECT value FROM scry_stat_engine WHERE name = 'log_begin_lsn'",
    );
    assert!(
        begin.parse::<u64>().is_ok_and(|begin| begin >= 8 << 20),
        "{begin}"
    );

    // Beside the server, and after it.
    for running in [true, false] {
        if !running {
            server.signal("TERM");
            while server.is_running() {
                std::thread::yield_now();
            }
        }
        let verified = tool(&["verify"], &home.data());
        let report = text(&verified.stdout);
        assert!(verified.status.success(), "{report}");
        assert!(
            report.contains("it begins at LSN") && report.contains("rows: checkpoint at"),
            "{report}"
        );
        let log = tool(&["log", "--table", "t", "--limit", "3"], &home.data());
        assert!(text(&log.stderr).contains("the trail begins at LSN"), "{log:?}");
        let lines = text(&log.stdout);
        assert!(
            lines.contains(" k=") || lines.contains("v: "),
            "names from before: {lines}"
        );
        assert!(audit(&home, "t", &["199"], &[]).len() > 1);
        let unknown = tool(&["log", "--table", "nowhere"], &home.data());
        assert!(
            text(&unknown.stderr).contains("which begins at LSN"),
            "{unknown:?}"
        );
    }

    // A run with another byte is named, and the rows are not made anew from a part of the trail.
    let run_file = fs::read_dir(home.data().join("runs"))
        .expect("runs")
        .map(|entry| entry.expect("entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "run"))
        .expect("a run");
    let whole = fs::read(&run_file).expect("read");
    let mut harmed = whole.clone();
    harmed[whole.len() / 2] ^= 0x40;
    fs::write(&run_file, &harmed).expect("written");
    let verified = tool(&["verify"], &home.data());
    let report = text(&verified.stdout);
    let name = run_file.file_name().expect("a name").to_string_lossy();
    assert!(!verified.status.success(), "{report}");
    assert!(
        report.contains(&*name) && report.contains("damaged at byte"),
        "{report}"
    );
    assert_eq!(fs::read(&run_file).expect("read"), harmed, "nothing was changed");
    fs::write(&run_file, &whole).expect("written");
    assert!(tool(&["verify"], &home.data()).status.success());

    // Without a manifest of the rows nobody knows from where a start reads the trail: that is not called too short.
    let manifest = home.data().join("runs/MANIFEST");
    let mut harmed = fs::read(&manifest).expect("read");
    let middle = harmed.len() / 2;
    harmed[middle] ^= 0x40;
    fs::write(&manifest, &harmed).expect("written");
    let verified = tool(&["verify"], &home.data());
    let report = text(&verified.stdout);
    assert!(!verified.status.success(), "{report}");
    assert!(report.contains("rows: the manifest cannot be used"), "{report}");
    assert_eq!(report.matches("DAMAGE: ").count(), 1, "{report}");
}
