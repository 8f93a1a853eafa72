//! What a client sends, as the connection takes it apart.

use arbitrary::{Arbitrary, Result, Unstructured};
use scry_server::wire::backend::{self, Report};
use scry_server::wire::frontend::{self, Bind, Formats, HEADER_BYTES, Message, Target as Named};
use scry_server::wire::{WireError, startup};
use scry_wal::sim::Random;

use super::values;
use crate::target::{Outcome, Target};

/// Small, so that inputs reach it.
const LARGE_BYTES_MAX: usize = 1 << 16;

/// Bytes at the front of an input that say where the rest is split.
const SPLIT_BYTES: usize = 2;

pub struct Wire;

impl Target for Wire {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut stream = vec![0; SPLIT_BYTES];
        for message in [
            Message::Query("SELECT 1"),
            Message::Parse {
                name: "s",
                sql: "SELECT $1",
                parameter_types: [23, 0].into_iter().collect(),
            },
            Message::Bind(Bind {
                portal: "p",
                statement: "s",
                parameter_formats: [1].into_iter().collect(),
                parameters: [Some(&b"\0\0\0\x01"[..]), None].into_iter().collect(),
                result_formats: [0, 1].into_iter().collect(),
            }),
            Message::Describe(Named::Portal("p")),
            Message::Execute {
                portal: "p",
                max_rows: 5,
            },
            Message::Close(Named::Statement("s")),
            Message::Flush,
            Message::CopyData(b"1\t2\n"),
            Message::CopyDone,
            Message::CopyFail("no"),
            Message::Sync,
            Message::Terminate,
        ] {
            stream.extend(encoded(&message));
        }
        let mut startup = vec![0; SPLIT_BYTES];
        let body = b"\0\x03\0\0user\0ann\0database\0scry\0_pq_.x\0on\0options\0-c a=b\0\0";
        startup.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        startup.extend_from_slice(body);
        let mut cancel = vec![0; SPLIT_BYTES];
        cancel.extend_from_slice(&[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2]);
        let mut seeds = values::seeds();
        seeds.extend([stream, startup, cancel]);
        seeds
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = "QPBDCESHdcfFX".bytes().map(|tag| vec![tag, 0, 0, 0, 4]).collect();
        words.extend([b"\0".to_vec(), b"\xff\xff\xff\xff".to_vec(), b"\xc3\x28".to_vec()]);
        words
    }

    fn run(&mut self, input: &[u8]) -> Outcome {
        let Some((split, stream)) = input.split_at_checked(SPLIT_BYTES) else {
            return Outcome::of("too short");
        };
        let _ = with_message(&mut Unstructured::new(stream), |message| {
            let bytes = encoded(message);
            let frame = frontend::frame(&bytes, LARGE_BYTES_MAX)
                .expect("a good frame")
                .expect("whole");
            assert_eq!(frame.bytes, bytes.len());
            let decoded = frontend::decode(frame.tag, &bytes[HEADER_BYTES..]).expect("its own encoding");
            assert_eq!(format!("{decoded:?}"), format!("{message:?}"));
        });
        answer(&String::from_utf8_lossy(stream));
        started(stream);
        let seed = u64::from(u16::from_le_bytes([split[0], split[1]]));
        let whole = read(&mut [stream].into_iter());
        let pieces = pieces(stream, seed);
        assert_eq!(read(&mut pieces.into_iter()), whole);
        Outcome::of(
            whole
                .iter()
                .map(|line| Outcome::of_message(line))
                .collect::<Vec<_>>(),
        )
    }
}

/// Cuts at random places, some of them very near.
fn pieces(stream: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut random = Random::new(seed);
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let reach = if random.below(2) == 0 { 3 } else { 40 };
        let (piece, behind) = rest.split_at(rest.len().min(1 + random.below(reach) as usize));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Reads as a connection does: frames out of a buffer that grows piece by piece.
fn read<'a>(pieces: &mut impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut buffer = Vec::new();
    let mut seen = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match frontend::frame(&buffer, LARGE_BYTES_MAX) {
                Ok(Ok(frame)) => {
                    assert!((HEADER_BYTES..=buffer.len()).contains(&frame.bytes));
                    match frontend::decode(frame.tag, &buffer[HEADER_BYTES..frame.bytes]) {
                        Ok(message) => seen.push(format!("{message:?}")),
                        Err(error) => {
                            assert!(!error.is_fatal(), "the next frame is known: {error}");
                            check_error(&error);
                            seen.push(error.to_string());
                        }
                    }
                    buffer.drain(..frame.bytes);
                }
                Ok(Err(wanted)) => {
                    assert!(wanted > buffer.len() && wanted <= LARGE_BYTES_MAX + 1);
                    break;
                }
                Err(error) => {
                    assert!(error.is_fatal(), "the next frame is not known: {error}");
                    check_error(&error);
                    seen.push(error.to_string());
                    return seen;
                }
            }
        }
    }
    seen.push(format!("{} bytes wait", buffer.len()));
    seen
}

fn check_error(error: &WireError) {
    assert_eq!(error.code().len(), 5);
    assert!(!error.code().starts_with("XX"));
}

/// A startup packet is found when it is whole, and not before.
fn started(stream: &[u8]) {
    let whole = startup::decode(stream);
    if let Ok(Some((_, used))) = &whole {
        assert!((8..=stream.len()).contains(used));
        for cut in 0..*used {
            assert_eq!(startup::decode(&stream[..cut]), Ok(None));
        }
        assert_eq!(startup::decode(&stream[..*used]), whole);
    }
    if let Err(error) = &whole {
        check_error(error);
    }
}

/// Whatever text stands in an error, the message around it is whole and has these fields.
fn answer(text: &str) {
    let mut out = bytes::BytesMut::new();
    let report = Report {
        detail: Some(text),
        hint: Some(text),
        position: Some(7),
        table: Some(text),
        ..Report::error("42601", text)
    };
    backend::error_response(&mut out, &report);
    backend::command_complete(&mut out, text);
    let length = u32::from_be_bytes(out[1..5].try_into().expect("four bytes")) as usize;
    let mut fields = &out[5..=length];
    let mut tags = Vec::new();
    while let [tag, rest @ ..] = fields
        && *tag != 0
    {
        tags.push(*tag);
        let end = rest.iter().position(|&byte| byte == 0).expect("every field ends");
        fields = &rest[end + 1..];
    }
    assert_eq!((fields, tags.as_slice()), (&[0][..], &b"SVCMDHPt"[..]));
    assert_eq!(out[length + 1], b'C');
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    let tag = match message {
        Message::Query(sql) => {
            string(&mut body, sql);
            b'Q'
        }
        Message::Parse {
            name,
            sql,
            parameter_types,
        } => {
            string(&mut body, name);
            string(&mut body, sql);
            body.extend_from_slice(&(parameter_types.len() as u16).to_be_bytes());
            parameter_types
                .iter()
                .for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
            b'P'
        }
        Message::Bind(bind) => {
            string(&mut body, bind.portal);
            string(&mut body, bind.statement);
            formats(&mut body, &bind.parameter_formats);
            body.extend_from_slice(&(bind.parameters.len() as u16).to_be_bytes());
            for parameter in &bind.parameters {
                let length = parameter.map_or(-1, |bytes| bytes.len() as i32);
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(parameter.unwrap_or_default());
            }
            formats(&mut body, &bind.result_formats);
            b'B'
        }
        Message::Describe(named) => {
            target(&mut body, *named);
            b'D'
        }
        Message::Close(named) => {
            target(&mut body, *named);
            b'C'
        }
        Message::Execute { portal, max_rows } => {
            string(&mut body, portal);
            body.extend_from_slice(&(*max_rows as u32).to_be_bytes());
            b'E'
        }
        Message::CopyData(data) => {
            body.extend_from_slice(data);
            b'd'
        }
        Message::CopyFail(reason) => {
            string(&mut body, reason);
            b'f'
        }
        Message::Sync => b'S',
        Message::Flush => b'H',
        Message::CopyDone => b'c',
        Message::FunctionCall => b'F',
        Message::Terminate => b'X',
    };
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn formats(out: &mut Vec<u8>, formats: &Formats) {
    out.extend_from_slice(&(formats.len() as u16).to_be_bytes());
    formats
        .iter()
        .for_each(|format| out.extend_from_slice(&format.to_be_bytes()));
}

fn target(out: &mut Vec<u8>, named: Named<'_>) {
    let (kind, name) = match named {
        Named::Statement(name) => (b'S', name),
        Named::Portal(name) => (b'P', name),
    };
    out.push(kind);
    string(out, name);
}

/// A message made from the bytes.
fn with_message(u: &mut Unstructured<'_>, work: impl FnOnce(&Message<'_>)) -> Result<()> {
    let (name, sql, data) = (values::text(u)?, values::text(u)?, values::bytes(u)?);
    let codes = |u: &mut Unstructured<'_>, count: usize| {
        (0..count)
            .map(|_| u.int_in_range(0..=1i16))
            .collect::<Result<Formats>>()
    };
    let count = u.int_in_range(0..=3usize)?;
    let message = match u.int_in_range(0..=12u8)? {
        0 => Message::Query(&sql),
        1 => Message::Parse {
            name: &name,
            sql: &sql,
            parameter_types: (0..count).map(|_| u32::arbitrary(u)).collect::<Result<_>>()?,
        },
        2 => {
            let parameter_formats = match u.int_in_range(0..=2u8)? {
                0 => codes(u, 0)?,
                1 => codes(u, 1)?,
                _ => codes(u, count)?,
            };
            let results = u.int_in_range(0..=3usize)?;
            Message::Bind(Bind {
                portal: &name,
                statement: &sql,
                parameter_formats,
                parameters: (0..count)
                    .map(|_| Ok(bool::arbitrary(u)?.then_some(&data[..])))
                    .collect::<Result<_>>()?,
                result_formats: codes(u, results)?,
            })
        }
        3 => Message::Describe(Named::Statement(&name)),
        4 => Message::Close(Named::Portal(&name)),
        5 => Message::Execute {
            portal: &name,
            max_rows: u.int_in_range(0..=i32::MAX as usize)?,
        },
        6 => Message::CopyData(&data),
        7 => Message::CopyFail(&sql),
        8 => Message::Sync,
        9 => Message::Flush,
        10 => Message::CopyDone,
        11 => Message::FunctionCall,
        _ => Message::Terminate,
    };
    work(&message);
    Ok(())
}
