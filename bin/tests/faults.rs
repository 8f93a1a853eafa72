//! Files of rows that are damaged or gone: named, never served, and all else goes on.

mod common;

use common::{Home, Raw, query, run, value, wait_until};
use std::fs;
use std::path::{Path, PathBuf};

const MANY: &str = "SELECT count(*), max(v) FROM many";

/// Waits for the answer of a statement that fails: its code and message.
fn fails(raw: &mut Raw, sql: &str) -> (String, String) {
    raw.send(&query(sql));
    let answer = raw.until_ready();
    let error = answer.iter().find(|message| message.tag == b'E');
    let error = error.unwrap_or_else(|| panic!("{sql} succeeds"));
    (error.code(), error.field(b'M').expect("a message"))
}

/// A stopped database with more rows in files than memory holds, in a table `many`, and few in `few`.
fn stopped() -> Home {
    let home = Home::with_little_memory();
    let server = home.start();
    let mut raw = server.session();
    run(
        &mut raw,
        "CREATE TABLE few (k int PRIMARY KEY, v text); INSERT INTO few VALUES (1, 'one')",
    );
    run(&mut raw, "CREATE TABLE many (k int PRIMARY KEY, v text)");
    for k in 0..10 {
        let rows = format!("generate_series({}, {})", k * 1000, k * 1000 + 999);
        run(
            &mut raw,
            &format!("INSERT INTO many SELECT g, repeat(md5(g::text), 10) FROM {rows} AS s(g)"),
        );
    }
    server.stop();
    home
}

fn largest_run(home: &Home) -> PathBuf {
    let files = fs::read_dir(home.data().join("runs")).expect("a folder");
    let paths = files.map(|entry| entry.expect("an entry").path());
    let runs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "run"));
    runs.max_by_key(|path| fs::metadata(path).expect("a file").len())
        .expect("rows are in files")
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

#[test]
fn a_damaged_block_is_named_and_never_served_and_all_else_goes_on() {
    let home = stopped();
    let path = largest_run(&home);
    let whole = fs::read(&path).expect("the file");
    let mut damaged = whole.clone();
    let at = damaged.len() / 3;
    damaged[at] ^= 0xff;
    fs::write(&path, damaged).expect("damage");

    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "SET scry.read_from = primary");
    let (code, text) = fails(&mut raw, MANY);
    assert_eq!(code, "XX001", "{text}");
    assert!(
        text.contains(name(&path)) && text.contains("damaged at byte"),
        "{text}"
    );
    let (code, _) = fails(&mut raw, "UPDATE many SET v = 'new'");
    assert_eq!(code, "XX001", "what is to be changed is read first");
    // Others' rows, and new ones.
    assert_eq!(value(&mut raw, "SELECT v FROM few WHERE k = 1"), "one");
    run(
        &mut raw,
        "INSERT INTO few VALUES (2, 'two'); INSERT INTO many VALUES (-1, 'new')",
    );
    wait_until("the server's log tells of damage", || {
        home.log().contains(name(&path))
    });
    server.kill();

    // With the file as it was nothing is missing.
    fs::write(&path, whole).expect("restored");
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "SET scry.read_from = primary");
    let many = "SELECT count(*) FROM many WHERE v <> 'new'";
    assert_eq!(value(&mut raw, many), "10000");
    server.stop();
}

#[test]
fn a_missing_file_of_rows_is_named_and_nothing_is_served() {
    let home = stopped();
    let path = largest_run(&home);
    fs::remove_file(&path).expect("gone");
    let refused = home.command().output().expect("runs");
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        text.contains(name(&path)) && text.contains("No such file"),
        "{text}"
    );
}

#[test]
fn after_a_clean_stop_there_is_nothing_to_replay() {
    let home = stopped();
    let server = home.start();
    assert!(
        server.ready.contains("replayed 0.0 MB of log"),
        "{}",
        server.ready
    );
    server.stop();
}
