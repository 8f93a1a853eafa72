//! Messages that clients send after startup, borrowed from the read buffer.
//!
//! ```text
//! type u8 | length i32 (itself included, the type not) | body
//! ```
//!
//! `frame` finds a message, `decode` reads it. The two steps are apart because a message with a
//! sound frame and a bad body costs the client one ERROR, a bad frame costs it the connection.

use smallvec::SmallVec;

use super::WireError;
use super::cursor::Cursor;

/// Type byte and length word.
pub const HEADER_BYTES: usize = 5;
/// PostgreSQL's PQ_SMALL_MESSAGE_LIMIT: messages that only hold a name or nothing.
pub const SMALL_BYTES_MAX: usize = 10_000;

/// Where a complete message stands in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub tag: u8,
    /// Length of the whole message, header included.
    pub bytes: usize,
}

/// The message at the front of `buffer`: `Ok(Err(n))` when it needs `n` bytes in all to be whole.
///
/// `large_bytes_max` bounds the messages that carry statements and data.
pub fn frame(buffer: &[u8], large_bytes_max: usize) -> Result<Result<Frame, usize>, WireError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return match buffer.first() {
            Some(&tag) => limit(tag, large_bytes_max).map(|_| Err(HEADER_BYTES)),
            None => Ok(Err(HEADER_BYTES)),
        };
    };
    let [tag, length @ ..] = *header;
    let limit = limit(tag, large_bytes_max)?;
    let length = i32::from_be_bytes(length);
    let bytes = match usize::try_from(length) {
        Ok(bytes) if (4..=limit).contains(&bytes) => bytes + 1,
        _ => {
            return Err(WireError::MessageLength {
                tag,
                length: i64::from(length),
                limit,
            });
        }
    };
    Ok(if buffer.len() >= bytes {
        Ok(Frame { tag, bytes })
    } else {
        Err(bytes)
    })
}

fn limit(tag: u8, large_bytes_max: usize) -> Result<usize, WireError> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Ok(large_bytes_max),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Ok(SMALL_BYTES_MAX),
        _ => Err(WireError::UnknownType(tag)),
    }
}

/// What Describe and Close name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    Statement(&'a str),
    Portal(&'a str),
}

/// Format codes: few in nearly every Bind, so they stay on the stack.
pub type Formats = SmallVec<[i16; 8]>;

#[derive(Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub parameter_formats: Formats,
    /// `None` is NULL.
    pub parameters: SmallVec<[Option<&'a [u8]>; 8]>,
    pub result_formats: Formats,
}

/// One message from the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Query(&'a str),
    Parse {
        name: &'a str,
        sql: &'a str,
        parameter_types: SmallVec<[u32; 8]>,
    },
    Bind(Bind<'a>),
    Describe(Target<'a>),
    /// `max_rows` 0: all of them.
    Execute {
        portal: &'a str,
        max_rows: usize,
    },
    Close(Target<'a>),
    Sync,
    Flush,
    CopyData(&'a [u8]),
    CopyDone,
    CopyFail(&'a str),
    FunctionCall,
    Terminate,
}

/// Reads the body of a framed message.
pub fn decode(tag: u8, body: &[u8]) -> Result<Message<'_>, WireError> {
    let mut cursor = Cursor::new(body);
    let message = match tag {
        b'Q' => Message::Query(cursor.string()?),
        b'P' => parse(&mut cursor)?,
        b'B' => Message::Bind(bind(&mut cursor)?),
        b'D' => Message::Describe(target(&mut cursor, "DESCRIBE")?),
        b'C' => Message::Close(target(&mut cursor, "CLOSE")?),
        b'E' => {
            let portal = cursor.string()?;
            Message::Execute {
                portal,
                max_rows: usize::try_from(cursor.i32()?).unwrap_or(0),
            }
        }
        b'S' => Message::Sync,
        b'H' => Message::Flush,
        b'd' => return Ok(Message::CopyData(body)),
        b'c' => Message::CopyDone,
        b'f' => Message::CopyFail(cursor.string()?),
        b'F' => return Ok(Message::FunctionCall),
        b'X' => return Ok(Message::Terminate),
        _ => return Err(WireError::UnknownType(tag)),
    };
    cursor.finish()?;
    Ok(message)
}

fn parse<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, WireError> {
    let name = cursor.string()?;
    let sql = cursor.string()?;
    let count = usize::from(cursor.u16()?);
    let oids = cursor.bytes(count * 4)?;
    let (oids, _) = oids.as_chunks::<4>();
    let parameter_types = oids.iter().map(|oid| u32::from_be_bytes(*oid)).collect();
    Ok(Message::Parse {
        name,
        sql,
        parameter_types,
    })
}

fn bind<'a>(cursor: &mut Cursor<'a>) -> Result<Bind<'a>, WireError> {
    let portal = cursor.string()?;
    let statement = cursor.string()?;
    let parameter_formats = formats(cursor)?;
    let count = usize::from(cursor.u16()?);
    if parameter_formats.len() > 1 && parameter_formats.len() != count {
        return Err(WireError::FormatCount {
            formats: parameter_formats.len(),
            parameters: count,
        });
    }
    let mut parameters = SmallVec::new();
    for _ in 0..count {
        let length = cursor.i32()?;
        parameters.push(match length {
            -1 => None,
            _ => {
                let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
                Some(cursor.bytes(length)?)
            }
        });
    }
    let result_formats = formats(cursor)?;
    Ok(Bind {
        portal,
        statement,
        parameter_formats,
        parameters,
        result_formats,
    })
}

fn formats(cursor: &mut Cursor<'_>) -> Result<Formats, WireError> {
    let count = usize::from(cursor.u16()?);
    let (codes, _) = cursor.bytes(count * 2)?.as_chunks::<2>();
    codes
        .iter()
        .map(|code| match i16::from_be_bytes(*code) {
            code @ (0 | 1) => Ok(code),
            code => Err(WireError::FormatCode(code)),
        })
        .collect()
}

fn target<'a>(cursor: &mut Cursor<'a>, message: &'static str) -> Result<Target<'a>, WireError> {
    match cursor.u8()? {
        b'S' => Ok(Target::Statement(cursor.string()?)),
        b'P' => Ok(Target::Portal(cursor.string()?)),
        subtype => Err(WireError::Target { message, subtype }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn bind_body() -> Vec<u8> {
        let mut body = b"p\0s\0".to_vec();
        body.extend_from_slice(&[0, 1, 0, 1]); // one format: binary
        body.extend_from_slice(&[0, 2]); // two parameters
        body.extend_from_slice(&[0, 0, 0, 3, b'a', b'b', b'c']);
        body.extend_from_slice(&(-1i32).to_be_bytes());
        body.extend_from_slice(&[0, 2, 0, 0, 0, 1]);
        body
    }

    #[test]
    fn bind_borrows_its_parameters() {
        let body = bind_body();
        let Message::Bind(bind) = decode(b'B', &body).expect("valid") else {
            panic!("not a Bind")
        };
        assert_eq!((bind.portal, bind.statement), ("p", "s"));
        assert_eq!(bind.parameters.as_slice(), [Some(&b"abc"[..]), None]);
        assert_eq!(bind.parameter_formats.as_slice(), [1]);
        assert_eq!(bind.result_formats.as_slice(), [0, 1]);
    }

    #[test]
    fn no_cut_of_a_bind_decodes_and_none_panics() {
        let body = bind_body();
        for cut in 0..body.len() {
            let error = decode(b'B', &body[..cut]).expect_err("a cut message is an error");
            assert!(
                matches!(error, WireError::Truncated | WireError::Unterminated),
                "{cut}: {error:?}"
            );
            assert!(!error.is_fatal());
        }
        let longer = [&body[..], &[0]].concat();
        assert_eq!(decode(b'B', &longer), Err(WireError::Trailing { bytes: 1 }));
    }

    #[test]
    fn counts_larger_than_the_message_are_refused_without_allocating() {
        let parse = b"n\0select 1\0\xff\xff";
        assert_eq!(decode(b'P', parse), Err(WireError::Truncated));
        let bind = b"\0\0\0\0\xff\xff";
        assert_eq!(decode(b'B', bind), Err(WireError::Truncated));
        let negative = b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0";
        assert_eq!(decode(b'B', negative), Err(WireError::Truncated));
    }

    #[test]
    fn format_counts_and_codes_are_checked() {
        let mut two_formats_one_parameter = b"\0\0".to_vec();
        two_formats_one_parameter.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            decode(b'B', &two_formats_one_parameter),
            Err(WireError::FormatCount {
                formats: 2,
                parameters: 1
            })
        );
        assert_eq!(decode(b'B', b"\0\0\0\x01\0\x07"), Err(WireError::FormatCode(7)));
    }

    #[test]
    fn invalid_utf8_names_the_bytes() {
        let error = decode(b'Q', b"select '\xc3\x28'\0").expect_err("not UTF-8");
        assert_eq!(
            error.to_string(),
            "invalid byte sequence for encoding \"UTF8\": 0xc3"
        );
        assert_eq!(error.code(), "22021");
        let cut_off = decode(b'Q', b"\xe2\x82\0").expect_err("not UTF-8");
        assert_eq!(
            cut_off.to_string(),
            "invalid byte sequence for encoding \"UTF8\": 0xe2 0x82"
        );
    }

    #[test]
    fn frames_are_found_only_when_whole() {
        let message = b"Q\0\0\0\x0dselect 1\0";
        for cut in 0..HEADER_BYTES {
            assert_eq!(frame(&message[..cut], LIMIT), Ok(Err(HEADER_BYTES)));
        }
        for cut in HEADER_BYTES..message.len() {
            assert_eq!(frame(&message[..cut], LIMIT), Ok(Err(message.len())), "{cut}");
        }
        assert_eq!(
            frame(message, LIMIT),
            Ok(Ok(Frame {
                tag: b'Q',
                bytes: message.len()
            }))
        );
    }

    #[test]
    fn unknown_types_and_lengths_out_of_bounds_end_the_connection() {
        assert_eq!(frame(b"z", LIMIT), Err(WireError::UnknownType(b'z')));
        for (tag, length) in [
            (b'Q', 3),
            (b'Q', -1),
            (b'Q', LIMIT as i32 + 1),
            (b'S', 10_001),
            (b'd', i32::MIN),
        ] {
            let mut bytes = vec![tag];
            bytes.extend_from_slice(&i32::to_be_bytes(length));
            let error = frame(&bytes, LIMIT).expect_err("a bad length");
            assert!(error.is_fatal() && error.code() == "08P01", "{error:?}");
        }
    }

    #[test]
    fn any_bytes_decode_or_fail_but_never_panic() {
        // A small deterministic walk; the fuzz target goes further.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..200_000 {
            let length = (next() % 40) as usize;
            let body: Vec<u8> = (0..length).map(|_| (next() % 7) as u8).collect();
            let tag = b"QPBDCESHdcfFXz"[(next() % 14) as usize];
            let _ = decode(tag, &body);
            let _ = frame(&body, LIMIT);
        }
    }
}
