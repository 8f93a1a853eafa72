//! Bounded reading and plain writing of the numbers that records are made of.

use super::RecordError;

/// A cursor over bytes from disk; every read is checked against what is left.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(RecordError::Short {
                needed: count,
                found: self.rest.len(),
            }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(RecordError::Short {
                needed: N,
                found: self.rest.len(),
            }),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, RecordError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, RecordError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A LEB128 length in its shortest form.
    pub(super) fn length(&mut self) -> Result<usize, RecordError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                if (byte == 0 && shift > 0) || value > u64::from(u32::MAX) {
                    return Err(RecordError::BadLength);
                }
                return usize::try_from(value).map_err(|_| RecordError::BadLength);
            }
        }
        Err(RecordError::BadLength)
    }

    pub(super) fn sized(&mut self) -> Result<&'a [u8], RecordError> {
        let len = self.length()?;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.sized()?).map_err(|_| RecordError::NotUtf8)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) const fn end(&self) -> Result<(), RecordError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(RecordError::Trailing(count)),
        }
    }
}

/// Appends a LEB128 length. The limit of a record keeps it far below 32 bits.
fn put_length(out: &mut Vec<u8>, len: usize) {
    let mut rest = len;
    while rest >= 0x80 {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a length and the bytes.
pub(super) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}
