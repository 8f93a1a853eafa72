//! Damage to the files of a mirror.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use scry_mirror::{Checksum, Error, Mirror, MirrorOptions, verify};
use scry_wal::{Lsn, StoreId};

use super::sessions::{Place, simple};
use super::values;
use crate::target::{Outcome, Target};

/// Columns of every kind, pieces that are sealed, rows that are dead.
const SCHEMA: &str = "
    CREATE TABLE m (k int PRIMARY KEY, t text, n numeric(12, 3), f float8, d timestamp, b boolean, y bytea);
    INSERT INTO m SELECT g, 'row ' || g, g / 7.0, g * 1.5, timestamp '2024-01-01', g % 2 = 0, NULL FROM generate_series(1, 900) AS g(g);
    DELETE FROM m WHERE k BETWEEN 200 AND 260;
    UPDATE m SET t = NULL WHERE k BETWEEN 500 AND 540";

/// Small pieces make several files.
const PIECE_ROWS: usize = 256;

const MANIFEST: &str = "MANIFEST";
/// Bytes of the manifest before its body; where the body's checksum and length stand.
const HEADER_BYTES: usize = 24;
const CRC: std::ops::Range<usize> = 12..16;
const LENGTH: std::ops::Range<usize> = 16..24;

type Files = BTreeMap<String, Vec<u8>>;

pub struct Damage {
    place: Place,
    files: Files,
    store: StoreId,
    rows: Checksum,
}

impl Damage {
    pub fn new() -> Self {
        let place = Place::new(SCHEMA);
        let mut session = place.session();
        let read = place.runtime.block_on(simple(
            &mut session,
            "SET scry.read_from = mirror; SELECT count(*) FROM m",
        ));
        read.expect("the mirror follows");
        let store = place
            .database
            .engine()
            .catalog()
            .table("m")
            .expect("a table")
            .def
            .store;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (mirror, rows) = opened(&place, dir.path(), store).expect("a new mirror");
        mirror.close();
        drop(mirror);
        assert!(rows.rows > 0);
        let files = read_files(dir.path());
        assert!(files.len() > 2, "{:?}", files.keys());
        Self {
            place,
            files,
            store,
            rows,
        }
    }
}

/// Opens a mirror of the database's log and reads the table from it.
fn opened(place: &Place, dir: &Path, store: StoreId) -> std::result::Result<(Arc<Mirror>, Checksum), Error> {
    let log = place.database.engine().log().clone();
    let mut options = MirrorOptions::new(Arc::new(|| Lsn::MAX));
    options.piece_rows = PIECE_ROWS;
    options.extractors = 1;
    let upto = log.durable_lsn();
    let mirror = Mirror::open(dir, log, options)?;
    place.runtime.block_on(mirror.applied(upto))?;
    let rows = match mirror.newest_snapshot().table(store) {
        Some(table) => table.checksum()?,
        // Only a forged manifest can leave it out.
        None => Checksum::default(),
    };
    Ok((mirror, rows))
}

fn read_files(dir: &Path) -> Files {
    std::fs::read_dir(dir)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("our own names");
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

impl Target for Damage {
    fn seeds(&self) -> Vec<Vec<u8>> {
        values::seeds()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        let mut u = Unstructured::new(input);
        self.check(&mut u).unwrap_or(Outcome::of("too short"))
    }
}

impl Damage {
    fn check(&self, u: &mut Unstructured<'_>) -> Result<Outcome> {
        let mut files = self.files.clone();
        let forged = u.ratio(1, 3)?;
        for _ in 0..u.int_in_range(1..=2u8)? {
            edit(u, &mut files, forged)?;
        }
        // An open mirror takes a while to stop.
        let open = u.ratio(1, 6)?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, bytes) in &files {
            std::fs::write(dir.path().join(name), bytes).expect("written");
        }
        let report = verify(dir.path());
        assert!(read_files(dir.path()) == files, "looking changes nothing");
        let newer = matches!(report, Err(Error::NewerFormat { .. }));
        if !newer {
            let report = report.as_ref().expect("damage is a finding");
            // Without a manifest it is an empty mirror.
            if files.contains_key(MANIFEST) && !forged {
                assert_eq!(
                    report.problems.is_empty(),
                    files == self.files,
                    "{:?}",
                    report.problems
                );
            }
        }
        if open {
            match opened(&self.place, dir.path(), self.store) {
                Ok((mirror, rows)) => {
                    assert!(!newer, "a newer format is refused");
                    if !forged {
                        assert_eq!(rows, self.rows, "right rows, whatever the files were");
                        assert_eq!(
                            mirror.status().rebuilt.is_some(),
                            files.contains_key(MANIFEST) && files != self.files
                        );
                    }
                    // Without a last checkpoint: the disk is not what is tested here.
                    drop(mirror);
                }
                Err(error) => assert!(newer || forged, "{error}"),
            }
        }
        let kinds: Vec<_> = report
            .map(|report| report.problems.iter().map(std::mem::discriminant).collect())
            .unwrap_or_default();
        Ok(Outcome::of((newer, kinds)))
    }
}

/// One thing that happens to files. A forged manifest has a checksum that is right for what was made of it.
fn edit(u: &mut Unstructured<'_>, files: &mut Files, forged: bool) -> Result<()> {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = if forged {
        MANIFEST.to_owned()
    } else {
        u.choose(&names)?.clone()
    };
    let other = u.choose(&names)?.clone();
    let position = u32::arbitrary(u)? as usize;
    let length = usize::from(u16::arbitrary(u)?) >> u.int_in_range(0..=15u8)?;
    let kind = u.int_in_range(0..=7u8)?;
    let source = files[&other].clone();
    let Some(file) = files.get_mut(&name).filter(|file| !file.is_empty()) else {
        return Ok(());
    };
    let at = position % file.len();
    let end = (at + length + 1).min(file.len());
    match kind {
        0 | 1 => file[at] ^= 1 << u.int_in_range(0..=7u8)?,
        2 | 3 => file[at] = u8::arbitrary(u)?,
        4 => file[at..end].fill(0xff),
        5 if !forged => file.truncate(at),
        6 if !forged => {
            files.remove(&name);
            return Ok(());
        }
        7 if !forged => *file = source,
        _ => drop(file.drain(at..end)),
    }
    if forged && file.len() >= HEADER_BYTES {
        let body = (file.len() - HEADER_BYTES) as u64;
        file[LENGTH].copy_from_slice(&body.to_le_bytes());
        let crc = crc32fast::hash(&file[HEADER_BYTES..]);
        file[CRC].copy_from_slice(&crc.to_le_bytes());
    }
    Ok(())
}
