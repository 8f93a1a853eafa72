//! Checking bytes from disk.

use super::kind::{Kind, read_i64, read_i128, read_u32};
use super::{Column, GROUP, HEAD_BYTES, MAX_ROW_BYTES, RowError, RowLayout, head_of};
use crate::types::{NUMERIC_FREE_SCALE, Numeric};

impl RowLayout {
    /// Whether the row has a column that this layout does not know. For bytes from disk.
    pub fn is_wider(&self, bytes: &[u8]) -> bool {
        bytes.len() >= HEAD_BYTES && head_of(bytes) > self.head
    }

    /// How many columns the rows have whose variable area begins at `head`.
    fn count_of(&self, head: usize) -> Option<usize> {
        let count = self.columns.partition_point(|column| column.at() < head);
        let end = match count.checked_sub(1) {
            Some(last) => self.columns[last].at() + self.columns[last].width(),
            None => HEAD_BYTES,
        };
        (end == head && count >= self.first).then_some(count)
    }

    /// Checks that `bytes` are a row of this layout, so that every getter will do. For bytes from disk.
    pub fn validate(&self, bytes: &[u8]) -> Result<(), RowError> {
        let damaged = |what, offset| Err(RowError::Damaged { what, offset });
        if bytes.len() < HEAD_BYTES {
            return damaged("too short", bytes.len());
        }
        let head = head_of(bytes);
        let Some(count) = self.count_of(head) else {
            return damaged("not the columns of its table", 0);
        };
        if bytes.len() < head {
            return damaged("too short", bytes.len());
        }
        if bytes.len() > MAX_ROW_BYTES {
            return damaged("too long", bytes.len());
        }
        let used = count % GROUP;
        if used != 0 {
            let bits = self.columns[count - used].null_at as usize;
            if bytes[bits] >> used != 0 {
                return damaged("null bits of columns that do not exist", bits);
            }
        }
        let mut start = head;
        for column in &self.columns[..count] {
            start = validate_column(column, bytes, start)?;
        }
        if start != bytes.len() {
            damaged("bytes after the last column", start)
        } else {
            Ok(())
        }
    }
}

/// Checks one column. `start` is where its bytes begin in the variable area; answers where those of the next do.
fn validate_column(column: &Column, bytes: &[u8], start: usize) -> Result<usize, RowError> {
    let damaged = |what, offset| Err(RowError::Damaged { what, offset });
    let (null, at) = (column.is_null(bytes), column.at());
    let Some(size) = column.kind.fixed_bytes() else {
        let end = read_u32(bytes, at) as usize;
        let Some(content) = bytes.get(start..end) else {
            return damaged("end offset out of place", at);
        };
        if null && !content.is_empty() {
            return damaged("content of a null column", start);
        }
        if column.kind != Kind::Bytea && std::str::from_utf8(content).is_err() {
            return damaged("invalid UTF-8", start);
        }
        return Ok(end);
    };
    let content = &bytes[at..at + size];
    let valid = match column.kind {
        _ if null => content.iter().all(|byte| *byte == 0),
        Kind::Bool => content[0] <= 1,
        Kind::NumericNarrow { scale } => Numeric::new(i128::from(read_i64(bytes, at)), scale).is_ok(),
        Kind::NumericWide { scale } => Numeric::new(read_i128(bytes, at), scale).is_ok(),
        Kind::NumericFree => {
            // As many digits before the point as its column, and its copy in the mirror, have room for.
            content[0] <= NUMERIC_FREE_SCALE
                && Numeric::new(read_i128(bytes, at + 1), content[0])
                    .is_ok_and(|number| number.rescale(NUMERIC_FREE_SCALE).is_ok())
        }
        _ => true,
    };
    match valid {
        true => Ok(start),
        false => damaged("value out of range", at),
    }
}
