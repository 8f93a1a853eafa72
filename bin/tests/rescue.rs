//! What is left when something goes wrong: backups and restores that are killed, and repair of a trail that was shortened.

mod common;

use common::{Home, Raw, SCRY, grow, run, segments, text, tool, value, verified, wait_until};
use scry_wal::Lsn;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const STATE: &str =
    "SELECT count(*) || '/' || coalesce(sum(v), 0) || '/' || coalesce(max(length(w)), 0) FROM t";

fn command(arguments: &[&dyn AsRef<OsStr>]) -> Command {
    let mut command = Command::new(SCRY);
    command.args(arguments.iter().map(AsRef::as_ref));
    command
}

/// Backs up all that is committed; answers what it is. A backup has what the log itself says is durable, which is all of it a moment later.
fn back_up(home: &Home, folder: &Path, raw: &mut Raw) -> String {
    let committed = Lsn::new(engine_figure(raw, "visible_lsn"));
    wait_until("a backup has all", || {
        let output = command(&[&"backup", &home.data(), &"--to", &folder]).output();
        let output = output.expect("the tool runs");
        assert!(output.status.success(), "{output:?}");
        let told = text(&output.stdout);
        let end = told
            .split_once(" to ")
            .and_then(|(_, rest)| rest.split(' ').next());
        end.and_then(|end| end.parse::<Lsn>().ok())
            .unwrap_or_else(|| panic!("no end: {told}"))
            > committed
    });
    value(raw, STATE)
}

fn restore(folder: &Path, into: &Path, further: &[&dyn AsRef<OsStr>]) -> Output {
    let mut restore = command(&[&"restore", &"--from", &folder, &"--into", &into]);
    restore.args(further.iter().map(AsRef::as_ref));
    restore.output().expect("the tool runs")
}

/// The state of the newest backup, as its server tells it.
fn restored(folder: &Path, further: &[&dyn AsRef<OsStr>]) -> String {
    let home = Home::new();
    let output = restore(folder, &home.data(), further);
    assert!(output.status.success(), "{output:?}");
    let server = home.start();
    let state = value(&mut server.session(), STATE);
    server.stop();
    verified(&home.data());
    state
}

/// About three MiB of trail.
const STEPS: u64 = 30;

fn engine_figure(raw: &mut Raw, name: &str) -> u64 {
    let value = value(
        raw,
        &format!("SELECT value FROM scry_stat_engine WHERE name = '{name}'"),
    );
    value.parse().expect("a number")
}

/// Opening one waits for somebody at the other end.
fn make_pipes(paths: &[PathBuf]) {
    let made = Command::new("mkfifo").args(paths).status().expect("mkfifo runs");
    assert!(made.success());
}

fn killed(mut child: Child) {
    assert!(child.try_wait().expect("status").is_none(), "it is not done");
    child.kill().expect("killed");
    child.wait().expect("gone");
}

/// A backup that is killed where it makes a file for a segment of the trail.
fn killed_backup(home: &Home, folder: &Path, raw: &mut Raw) {
    let wal = folder.join("wal");
    fs::create_dir_all(&wal).expect("a folder");
    let end = engine_figure(raw, "durable_lsn") + (8 << 20);
    let pipes: Vec<PathBuf> = (0..end >> 20)
        .map(|segment| wal.join(format!("{:016x}.wal.new", segment << 20)))
        .collect();
    make_pipes(&pipes);
    let backup = command(&[&"backup", &home.data(), &"--to", &folder])
        .stdout(Stdio::null())
        .spawn()
        .expect("the tool runs");
    let is_consumer = "SELECT count(*) FROM scry_stat_log_consumers WHERE name = 'backup' AND NOT dropped";
    wait_until("the trail is kept for the backup", || {
        value(raw, is_consumer) == "1"
    });
    killed(backup);
    wait_until("it is not kept for it any more", || {
        value(raw, is_consumer) == "0"
    });
    for pipe in pipes {
        fs::remove_file(pipe).expect("removed");
    }
}

#[test]
fn a_backup_that_is_killed_leaves_the_one_before_and_the_next_one_is_whole() {
    let home = Home::with_recycling();
    let server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY, v int8, w text)");
    let folder = home.data().with_file_name("backups");
    grow(&mut raw, STEPS);
    killed_backup(&home, &folder, &mut raw);
    let into = home.data().with_file_name("restored");
    let refused = restore(&folder, &into, &[]);
    assert!(!refused.status.success());
    let message = text(&refused.stderr);
    assert!(message.contains("it has no complete backup"), "{message}");
    assert!(!into.exists(), "nothing was made");

    let first = back_up(&home, &folder, &mut raw);
    grow(&mut raw, STEPS);
    killed_backup(&home, &folder, &mut raw);
    assert_eq!(restored(&folder, &[]), first);
    let second = back_up(&home, &folder, &mut raw);
    assert_ne!(first, second);
    assert_eq!(restored(&folder, &[]), second);
}

#[test]
fn the_trail_goes_on_in_the_archive_and_a_restore_that_is_killed_leaves_no_database() {
    let home = Home::with_archive();
    let mut server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY, v int8, w text)");
    grow(&mut raw, STEPS);
    // Rows are in files from then on.
    server.stop();
    server = home.start();
    raw = server.session();
    let folder = home.data().with_file_name("backups");
    let first = back_up(&home, &folder, &mut raw);
    grow(&mut raw, STEPS);
    let (at, state) = (engine_figure(&mut raw, "visible_lsn"), value(&mut raw, STATE));
    grow(&mut raw, STEPS);
    let archive = home.archive();
    wait_until("the archive has the state", || {
        archive.join(format!("{:016x}.wal", (at >> 20) << 20)).exists()
    });

    let to: [&dyn AsRef<OsStr>; 4] = [&"--archive", &archive, &"--to", &at.to_string()];
    assert_eq!(restored(&folder, &to), state);
    assert_eq!(restored(&folder, &[]), first);
    let into = home.data().with_file_name("restored");
    let refused = restore(&folder, &into, &to[2..]);
    assert!(!refused.status.success(), "the backup does not reach so far");
    fs::remove_dir(&into).expect("nothing in it");

    // Where a file of rows is copied.
    let runs = fs::read_dir(folder.join("runs")).expect("runs");
    let run = runs.map(|entry| entry.expect("an entry").path()).next();
    let run = run.expect("rows are in files");
    let aside = folder.with_file_name("aside");
    fs::rename(&run, &aside).expect("moved");
    make_pipes(std::slice::from_ref(&run));
    let mut restoring = command(&[&"restore", &"--from", &folder, &"--into", &into]);
    let restoring = restoring.args(to.iter().map(AsRef::as_ref)).spawn();
    wait_until("rows are being restored", || into.join("runs").exists());
    killed(restoring.expect("the tool runs"));
    fs::rename(&aside, &run).expect("moved back");
    let refused = restore(&folder, &into, &to);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("not empty"), "{refused:?}");
    server.stop();
    fs::rename(home.data(), home.data().with_file_name("original")).expect("moved");
    fs::rename(&into, home.data()).expect("moved");
    let refused = home.command().output().expect("runs");
    let message = text(&refused.stderr);
    assert!(
        !refused.status.success() && message.contains("has no file FORMAT"),
        "{message}"
    );
    assert_eq!(restored(&folder, &to), state);
}

/// Changes a byte at the last place where a file has some text; false when it has not.
fn harm(path: &Path, wanted: &[u8]) -> bool {
    let mut bytes = fs::read(path).expect("a segment");
    let at = bytes.windows(wanted.len()).rposition(|window| window == wanted);
    let Some(at) = at else {
        return false;
    };
    bytes[at] ^= 0x20;
    fs::write(path, bytes).expect("written");
    true
}

#[test]
fn a_shortened_trail_is_repaired_upon_the_last_checkpoint_and_not_before_it() {
    let home = Home::with_recycling();
    let mut server = home.start();
    let mut raw = server.session();
    run(&mut raw, "CREATE TABLE t (k int PRIMARY KEY, v int8, w text)");
    run(&mut raw, "CREATE TABLE m (k int PRIMARY KEY, v text)");
    wait_until("the trail is shortened", || {
        grow(&mut raw, STEPS);
        engine_figure(&mut raw, "log_begin_lsn") > 0
    });
    let state = value(&mut raw, STATE);
    // With a checkpoint at the end; what comes then is in the trail alone.
    server.stop();
    server = home.start();
    raw = server.session();
    for k in 0..20 {
        run(
            &mut raw,
            &format!("INSERT INTO m VALUES ({k}, 'the marker {k}.')"),
        );
    }
    server.kill();
    let wal = home.data().join("wal");
    let trail: Vec<PathBuf> = segments(&wal).iter().map(|name| wal.join(name)).collect();
    let harmed = trail.iter().filter(|path| harm(path, b"the marker 7."));
    assert_eq!(harmed.count(), 1);
    let refused = home.command().output().expect("runs");
    let message = text(&refused.stderr);
    assert!(
        !refused.status.success() && message.contains("scry repair"),
        "{message}"
    );
    let saved = home.data().with_file_name("saved");
    let into: [&str; 3] = ["repair", "--into", saved.to_str().expect("UTF-8")];
    let output = tool(&into, &home.data());
    assert!(output.status.success(), "{output:?}");

    // Damage before the checkpoint leaves nothing to begin from.
    assert!(harm(&trail[0], b"xxxx"));
    let other = home.data().with_file_name("other");
    let into: [&str; 3] = ["repair", "--into", other.to_str().expect("UTF-8")];
    let refused = tool(&into, &home.data());
    let message = text(&refused.stderr);
    assert!(
        !refused.status.success() && message.contains("lies behind the damage"),
        "{refused:?}"
    );
    assert!(!other.exists());

    fs::rename(home.data(), home.data().with_file_name("damaged")).expect("moved");
    fs::rename(&saved, home.data()).expect("moved");
    let server = home.start();
    let mut raw = server.session();
    for place in ["primary", "mirror"] {
        run(&mut raw, &format!("SET scry.read_from = {place}"));
        assert_eq!(value(&mut raw, STATE), state, "{place}");
        let markers = value(&mut raw, "SELECT count(*) || '/' || max(k) FROM m");
        assert_eq!(markers, "7/6", "{place}");
    }
    run(&mut raw, "INSERT INTO m VALUES (7, 'again')");
    server.stop();
    verified(&home.data());
}
