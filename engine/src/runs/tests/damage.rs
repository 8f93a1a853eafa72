//! Bytes that are not what was written: an error or the right answer.

use super::kit::{Op, Pair, small_options};
use crate::Error;
use crate::runs::Runs;
use crate::runs::folder::sim::SimFolder;
use std::sync::Arc;

/// A few small runs of all kinds.
fn sample() -> (SimFolder, Pair) {
    let folder = SimFolder::default();
    let mut pair = Pair::new(Arc::new(folder.clone())).unwrap();
    for flush in 0..6_u16 {
        let writes = (0..12).map(|n| (1, n * 9 + flush, (n % 4 > 0).then_some(n * 3)));
        pair.apply(&Op::Flush(writes.collect())).unwrap();
        if flush == 4 {
            pair.apply(&Op::Compact(1)).unwrap();
        }
    }
    let stats = pair.runs.stats();
    assert!(stats.fresh_layers > 0 && stats.levels.iter().skip(1).any(|level| level.runs > 0));
    (folder, pair)
}

/// Opens, asks for everything, and verifies. The first error of the questions, and of the verification.
fn ask(folder: &SimFolder, pair: &Pair) -> (Result<(), Error>, Result<(), Error>) {
    match Runs::open_in(Arc::new(folder.clone()), small_options()) {
        Ok((runs, _)) => {
            let asked = pair.model.check(&runs.current());
            (asked, runs.verify().map(|_| ()))
        }
        Err(error) => (Ok(()), Err(error)),
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_does_no_harm() {
    let (folder, pair) = sample();
    let (mut asked_in_vain, mut tried) = (0, 0);
    for name in folder.names() {
        let mut length = 0;
        folder.edit(&name, |bytes| length = bytes.len());
        for at in 0..length {
            let damaged = folder.copy();
            damaged.edit(&name, |bytes| bytes[at] ^= 1 << (at % 8));
            let (asked, verified) = ask(&damaged, &pair);
            let error = verified.expect_err("a flipped byte was not noticed");
            match &error {
                Error::DamagedFile { path, offset, .. } => {
                    assert!(path.ends_with(&name), "{error} instead of {name}");
                    assert!(*offset <= length as u64);
                }
                Error::NewerFormat { path, .. } => assert!(path.ends_with(&name) && at == 7),
                other => panic!("byte {at} of {name}: {other}"),
            }
            if let Err(error) = asked {
                assert!(matches!(error, Error::DamagedFile { .. }), "{error}");
                asked_in_vain += 1;
            }
            tried += 1;
        }
    }
    assert!(asked_in_vain > tried / 4, "{asked_in_vain} of {tried}");
}

#[test]
fn every_cut_file_is_refused() {
    let (folder, pair) = sample();
    for name in folder.names() {
        let mut length = 0;
        folder.edit(&name, |bytes| length = bytes.len());
        for cut in (0..length).step_by(7) {
            let damaged = folder.copy();
            damaged.edit(&name, |bytes| bytes.truncate(cut));
            let (_, verified) = ask(&damaged, &pair);
            let error = verified.expect_err("a cut file was not noticed");
            assert!(matches!(error, Error::DamagedFile { .. }), "{error}");
        }
    }
}

#[test]
fn runs_that_changed_places_are_refused() {
    let (folder, pair) = sample();
    let names = folder.names();
    let mut first = Vec::new();
    folder.edit(&names[1], |bytes| first.clone_from(bytes));
    folder.edit(&names[2], |bytes| *bytes = first);
    let (_, verified) = ask(&folder, &pair);
    let error = verified.unwrap_err();
    assert!(matches!(error, Error::DamagedFile { .. }), "{error}");
}

#[test]
fn a_missing_run_is_named() {
    use crate::runs::folder::Folder;
    let (folder, pair) = sample();
    let name = folder.names().remove(0);
    folder.remove(&name).unwrap();
    let error = ask(&folder, &pair).1.unwrap_err();
    assert!(
        matches!(&error, Error::Io { path, .. } if path.ends_with(&name)),
        "{error}"
    );
}

#[test]
fn a_newer_run_is_refused() {
    let (folder, pair) = sample();
    for name in folder.names() {
        let newer = folder.copy();
        newer.edit(&name, |bytes| bytes[7] = 2);
        let error = ask(&newer, &pair).1.unwrap_err();
        let Error::NewerFormat {
            path,
            found: 2,
            supported: 1,
        } = &error
        else {
            panic!("{error}");
        };
        assert!(path.ends_with(&name));
    }
}
