//! COPY in both directions.

use arbitrary::{Result, Unstructured};
use bytes::BytesMut;
use scry_sql::{Error, Executed, Session};

use super::sessions::{Place, check_error, simple};
use crate::target::{Outcome, Target};

const SCHEMA: &str =
    "CREATE TABLE c (a int, b text, n numeric(10, 2), t timestamp, y bytea, f boolean DEFAULT true)";

/// What COPY is told. The first byte of an input chooses.
const OPTIONS: [&str; 8] = [
    "",
    "(FORMAT csv)",
    "(FORMAT csv, HEADER)",
    "(DELIMITER ';', NULL 'none')",
    "(FORMAT csv, QUOTE '''', ESCAPE '\\', DELIMITER '|')",
    "(FORMAT csv, NULL '\\N', FORCE_QUOTE *)",
    "(FORMAT csv, FORCE_NOT_NULL (b), FORCE_NULL (y))",
    "(FORMAT csv, NULL 'x', QUOTE 'q')",
];

/// Of these, the ones that COPY TO does not take.
const ONLY_FROM: [usize; 1] = [6];
/// And those that COPY FROM does not take.
const ONLY_TO: [usize; 1] = [5];

pub struct Copy {
    place: Place,
}

impl Copy {
    pub fn new() -> Self {
        Self {
            place: Place::new(SCHEMA),
        }
    }
}

impl Target for Copy {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let text = b"1\tone\t1.50\t2024-02-29 12:00:00\t\\\\x00ff\tt\n-2\t\\N\t\\N\t\\N\t\\N\tf\n3\ta\\tb\\\\\\\nc\\r\\v\t0\tepoch\t\t\\N\n";
        let csv = b"1,one,1.50,2024-02-29 12:00:00,\\x00ff,t\r\n2,\"two, \"\"quoted\"\"\nlines\",,,,f\r\n3,\"\",0,epoch,,\r\n4,\"a\rb|q';x\",,,,\r\n5,\"a,b\",,,,\r\n";
        let header = b"a,b,n,t,y,f\n1,one,1.50,2024-02-29,\\x00ff,t\n";
        let semicolons = b"1;none;2;none;none;none\n2;a\\;b;3;none;none;t\n\\.\n";
        let bars = b"1|'it\\'s \\\\'|2|||\n";
        let markers = b"1,one,1.50,2024-02-29,\\x00ff,t\n2,\\N,\\N,\\N,\\N,f\n3,\"\\N\",0,epoch,\\N,\\N\n";
        let letters = b"1,one,1.50,2024-02-29,\\x00ff,t\n2,qone, twoq,x,x,x,f\n";
        let texts: [&[u8]; 7] = [text, csv, header, semicolons, bars, markers, letters];
        (0..OPTIONS.len() as u8)
            .flat_map(|option| texts.map(|text| [&[option, 3][..], text].concat()))
            .collect()
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let words = [
            "\\N", "\\.", "\n\\.\n", "\"", "\"\"", "'", "\\", "\t", ",", ";", "|", "\n", "\r\n", "\r", "q",
            "x", "none", "\\x41", "\\101", "\\n", "1", "one", "t", "\u{e9}",
        ];
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        let [option, piece, data @ ..] = input else {
            return Outcome::of("too short");
        };
        let option = usize::from(*option) % OPTIONS.len();
        let mut session = self.place.session();
        self.place.runtime.block_on(async {
            let whole = copied(&mut session, option, &[data]).await;
            let pieces: Vec<&[u8]> = data.chunks(usize::from(*piece % 9) + 1).collect();
            let split = copied(&mut session, option, &pieces).await;
            assert_eq!(split, whole, "data means the same however it is split");
            match whole {
                Ok(written) => {
                    if !ONLY_FROM.contains(&option) {
                        let again = copied(&mut session, option, &[&written]).await;
                        assert_eq!(again.as_ref(), Ok(&written), "what COPY wrote it reads");
                    }
                    Outcome::of((option, written.len().min(40)))
                }
                Err(error) => {
                    check_error(&error);
                    Outcome::of((option, error.code, Outcome::of_message(&error.message)))
                }
            }
        })
    }
}

/// Copies into the table, and what is in it out again; nothing of it stays.
async fn copied(
    session: &mut Session,
    option: usize,
    pieces: &[&[u8]],
) -> std::result::Result<Vec<u8>, Error> {
    let result = round(session, option, pieces).await;
    simple(session, "ROLLBACK").await.expect("a transaction ends");
    result
}

async fn round(
    session: &mut Session,
    option: usize,
    pieces: &[&[u8]],
) -> std::result::Result<Vec<u8>, Error> {
    let from = if ONLY_TO.contains(&option) {
        "(FORMAT csv, NULL '\\N')"
    } else {
        OPTIONS[option]
    };
    let to = if ONLY_FROM.contains(&option) {
        "(FORMAT csv)"
    } else {
        OPTIONS[option]
    };
    simple(session, "BEGIN").await.expect("a transaction begins");
    let script = format!("COPY c FROM STDIN {from}");
    let statements = session.parse_script(&script).expect("one statement");
    let mut out = BytesMut::new();
    let begun = session
        .simple(&statements[0], &mut out)
        .await
        .expect("a copy begins");
    assert_eq!(begun, Executed::CopyIn);
    for piece in pieces {
        session.copy_data(piece).await?;
    }
    session.copy_done().await?;
    session.sync().await?;
    let script = format!("COPY c TO STDOUT {to}");
    let statements = session.parse_script(&script).expect("one statement");
    out.clear();
    let mut step = session.simple(&statements[0], &mut out).await?;
    while step == Executed::MoreRows {
        step = session.resume(&mut out).await?;
    }
    session.sync().await?;
    Ok(copy_data(&out).unwrap_or_else(|_| panic!("messages that are not whole")))
}

/// The content of the CopyData messages.
fn copy_data(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut u = Unstructured::new(bytes);
    let mut data = Vec::new();
    while !u.is_empty() {
        let header = u.bytes(5)?;
        let length = u32::from_be_bytes(header[1..].try_into().expect("four bytes")) as usize - 4;
        let body = u.bytes(length)?;
        if header[0] == b'd' {
            data.extend_from_slice(body);
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_of_options_has_a_seed_that_is_copied() {
        let target = Copy::new();
        let mut session = target.place.session();
        let mut copied_with = [0; OPTIONS.len()];
        for seed in target.seeds() {
            let option = usize::from(seed[0]);
            let result = target
                .place
                .runtime
                .block_on(copied(&mut session, option, &[&seed[2..]]));
            copied_with[option] += usize::from(result.is_ok_and(|written| !written.is_empty()));
        }
        assert!(copied_with.iter().all(|count| *count > 0), "{copied_with:?}");
    }
}
