//! Packets before the first message: startup, cancel request, requests for encryption.
//!
//! ```text
//! length i32 (itself included, 8 ..= 10000) | code u32 | body
//!   code 3<<16 | minor        startup: name\0 value\0 … \0
//!   code 1234<<16 | 5678      cancel request: pid i32, secret u32
//!   code 1234<<16 | 5679      TLS, 5680 GSSAPI encryption: empty body, answered with one byte
//! ```

use super::WireError;
use super::cursor::Cursor;

/// PostgreSQL's MAX_STARTUP_PACKET_LENGTH.
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// How many parameters one startup packet may hold: far more than any client sends.
const PARAMETERS_MAX: usize = 256;

const CANCEL: u32 = (1234 << 16) | 5678;
const TLS: u32 = (1234 << 16) | 5679;
const GSSAPI: u32 = (1234 << 16) | 5680;

/// A packet that opens a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Startup<'a> {
    Tls,
    Gssapi,
    Cancel { pid: i32, secret: u32 },
    Session(Parameters<'a>),
}

/// The body of a startup packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parameters<'a> {
    /// The minor version the client would like; this server speaks 3.0.
    pub minor: u16,
    pub user: &'a str,
    pub database: Option<&'a str>,
    /// Everything else that is a setting, in the order sent.
    pub settings: Vec<(&'a str, &'a str)>,
    /// Names that begin with `_pq_.`: protocol extensions, none of which is known here.
    pub extensions: Vec<&'a str>,
}

/// The packet at the front of `buffer` and its length; `None` when more bytes are needed.
pub fn decode(buffer: &[u8]) -> Result<Option<(Startup<'_>, usize)>, WireError> {
    let Some(length) = buffer.first_chunk() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    let length = usize::try_from(length)
        .ok()
        .filter(|length| (8..=STARTUP_BYTES_MAX).contains(length))
        .ok_or(WireError::StartupLayout)?;
    let Some(packet) = buffer.get(4..length) else {
        return Ok(None);
    };
    let mut cursor = Cursor::new(packet);
    let startup = match cursor.u32()? {
        CANCEL => {
            let pid = cursor.i32().map_err(|_| WireError::StartupLayout)?;
            let secret = cursor.u32().map_err(|_| WireError::StartupLayout)?;
            Startup::Cancel { pid, secret }
        }
        TLS => Startup::Tls,
        GSSAPI => Startup::Gssapi,
        version => {
            let (major, minor) = ((version >> 16) as u16, version as u16);
            if major != 3 {
                return Err(WireError::Version { major, minor });
            }
            Startup::Session(parameters(&mut cursor, minor)?)
        }
    };
    cursor.finish().map_err(|_| WireError::StartupLayout)?;
    Ok(Some((startup, length)))
}

fn parameters<'a>(cursor: &mut Cursor<'a>, minor: u16) -> Result<Parameters<'a>, WireError> {
    let mut parameters = Parameters {
        minor,
        ..Parameters::default()
    };
    for _ in 0..PARAMETERS_MAX {
        let name = layout(cursor.string())?;
        if name.is_empty() {
            if parameters.user.is_empty() {
                return Err(WireError::NoUser);
            }
            return Ok(parameters);
        }
        let value = layout(cursor.string())?;
        match name {
            "user" => parameters.user = value,
            "database" => parameters.database = Some(value).filter(|name| !name.is_empty()),
            _ if name.starts_with("_pq_.") => parameters.extensions.push(name),
            _ => parameters.settings.push((name, value)),
        }
    }
    Err(WireError::StartupLayout)
}

/// A string that is cut off is a layout error here; one that is not UTF-8 stays what it is.
fn layout<T>(result: Result<T, WireError>) -> Result<T, WireError> {
    result.map_err(|error| match error {
        WireError::InvalidUtf8 { .. } => error,
        _ => WireError::StartupLayout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        packet.extend_from_slice(&code.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    #[test]
    fn startup_parameters_are_sorted_by_meaning() {
        let bytes = packet(
            3 << 16 | 2,
            b"user\0ada\0database\0scry\0application_name\0psql\0_pq_.compress\0on\0\0",
        );
        let (startup, used) = decode(&bytes).expect("valid").expect("complete");
        assert_eq!(used, bytes.len());
        let Startup::Session(parameters) = startup else {
            panic!("{startup:?}")
        };
        assert_eq!(
            (parameters.minor, parameters.user, parameters.database),
            (2, "ada", Some("scry"))
        );
        assert_eq!(parameters.settings, [("application_name", "psql")]);
        assert_eq!(parameters.extensions, ["_pq_.compress"]);
    }

    #[test]
    fn every_cut_of_a_startup_packet_asks_for_more_bytes() {
        let bytes = packet(3 << 16, b"user\0ada\0\0");
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn lengths_outside_the_limits_are_refused_before_any_body_arrives() {
        for length in [i32::MIN, -1, 0, 7, STARTUP_BYTES_MAX as i32 + 1, i32::MAX] {
            assert_eq!(
                decode(&length.to_be_bytes()),
                Err(WireError::StartupLayout),
                "{length}"
            );
        }
    }

    #[test]
    fn a_packet_whose_strings_do_not_end_is_a_layout_error() {
        for body in [
            &b"user\0ada\0"[..],
            b"user\0ada",
            b"user\0ada\0\0rest",
            b"",
            b"user",
        ] {
            assert_eq!(decode(&packet(3 << 16, body)), Err(WireError::StartupLayout));
        }
        assert_eq!(decode(&packet(CANCEL, b"1234567")), Err(WireError::StartupLayout));
        assert_eq!(
            decode(&packet(CANCEL, b"123456789")),
            Err(WireError::StartupLayout)
        );
    }

    #[test]
    fn version_two_and_a_missing_user_are_named() {
        assert_eq!(
            decode(&packet(2 << 16, b"")),
            Err(WireError::Version { major: 2, minor: 0 })
        );
        assert_eq!(
            decode(&packet(3 << 16, b"database\0scry\0\0")),
            Err(WireError::NoUser)
        );
    }
}
