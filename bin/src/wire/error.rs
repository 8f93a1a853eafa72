//! What can be wrong with the bytes a client sends, with PostgreSQL's code and words for it.

use std::fmt;

/// A violation of the protocol. `is_fatal` says what it does to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// The length word is below four, or above the limit for the message's type.
    MessageLength { tag: u8, length: i64, limit: usize },
    /// No such message type in protocol 3.
    UnknownType(u8),
    /// A field reaches past the end of its message.
    Truncated,
    /// Bytes are left over behind the last field.
    Trailing { bytes: usize },
    /// A string without its zero byte.
    Unterminated,
    /// Text that is not UTF-8; the offending bytes, four at most.
    InvalidUtf8 { bytes: Vec<u8> },
    /// Describe or Close of something that is neither statement nor portal.
    Target { message: &'static str, subtype: u8 },
    /// A Bind whose format codes are neither none, one, nor one for each parameter.
    FormatCount { formats: usize, parameters: usize },
    /// A format code other than 0 (text) and 1 (binary).
    FormatCode(i16),
    /// A startup packet that is too short, too long, or not laid out as one.
    StartupLayout,
    /// A protocol version other than 3.x.
    Version { major: u16, minor: u16 },
    /// A startup packet without a user.
    NoUser,
    /// The connection ended inside a message.
    UnexpectedEof,
}

impl WireError {
    /// The SQLSTATE that PostgreSQL gives the same mistake.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidUtf8 { .. } => "22021",
            Self::FormatCode(_) => "22023",
            Self::Version { .. } => "0A000",
            Self::NoUser => "28000",
            _ => "08P01",
        }
    }

    /// True when the place of the next message is unknown or not to be trusted: the connection
    /// ends. False when only this message is bad: its frame was sound, so the next one is found.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::MessageLength { .. }
            | Self::UnknownType(_)
            | Self::StartupLayout
            | Self::Version { .. }
            | Self::NoUser
            | Self::UnexpectedEof => true,
            Self::Truncated
            | Self::Trailing { .. }
            | Self::Unterminated
            | Self::InvalidUtf8 { .. }
            | Self::Target { .. }
            | Self::FormatCount { .. }
            | Self::FormatCode(_) => false,
        }
    }

    pub(super) fn utf8(bytes: &[u8], error: std::str::Utf8Error) -> Self {
        let rest = &bytes[error.valid_up_to()..];
        let bad = error
            .error_len()
            .unwrap_or(rest.len())
            .clamp(1, 4)
            .min(rest.len());
        Self::InvalidUtf8 {
            bytes: rest[..bad].to_vec(),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageLength { tag, length, limit } => {
                write!(
                    f,
                    "invalid message length {length} for message type {} ",
                    Tag(*tag)
                )?;
                write!(f, "(the limit is {limit} bytes)")
            }
            Self::UnknownType(tag) => write!(f, "invalid frontend message type {tag}"),
            Self::Truncated => f.write_str("insufficient data left in message"),
            Self::Trailing { bytes } => write!(f, "invalid message format: {bytes} bytes left over"),
            Self::Unterminated => f.write_str("invalid string in message"),
            Self::InvalidUtf8 { bytes } => {
                f.write_str("invalid byte sequence for encoding \"UTF8\":")?;
                bytes.iter().try_for_each(|byte| write!(f, " 0x{byte:02x}"))
            }
            Self::Target { message, subtype } => write!(f, "invalid {message} message subtype {subtype}"),
            Self::FormatCount { formats, parameters } => {
                write!(
                    f,
                    "bind message has {formats} parameter formats but {parameters} parameters"
                )
            }
            Self::FormatCode(code) => write!(f, "unsupported format code: {code}"),
            Self::StartupLayout => f.write_str("invalid startup packet layout"),
            Self::Version { major, minor } => {
                write!(
                    f,
                    "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"
                )
            }
            Self::NoUser => f.write_str("no PostgreSQL user name specified in startup packet"),
            Self::UnexpectedEof => f.write_str("unexpected EOF on client connection"),
        }
    }
}

impl std::error::Error for WireError {}

/// A message type as people know it: its letter, or its number when it is not a letter.
struct Tag(u8);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(f, "\"{}\"", char::from(self.0))
        } else {
            write!(f, "{}", self.0)
        }
    }
}
