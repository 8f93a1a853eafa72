//! Before-images: what must be known beside a row to get back the one that it replaced.
//!
//! | part | bytes |
//! |---|---|
//! | size | u8: bytes of each of the two bitmaps, which have a bit for each column |
//! | changed | the columns that differ |
//! | null | those of them that were NULL |
//! | values | of each other one, in column order, its bytes as they were, preceded by a u32 length when of variable size |

use super::kind::{decode, read_i64, read_u32};
use super::reader::raw;
use super::{GROUP, MAX_COLUMNS, RowError, RowLayout};
use crate::types::Datum;

impl RowLayout {
    /// The before-image of `old` beside `new`.
    pub fn encode_before(&self, old: &[u8], new: &[u8]) -> Vec<u8> {
        let bitmap = self.columns.len().div_ceil(GROUP);
        let mut out = Vec::with_capacity(1 + 2 * bitmap + 16);
        out.push(u8::try_from(bitmap).expect("a table has at most MAX_COLUMNS"));
        out.resize(1 + 2 * bitmap, 0);
        let (old_row, new_row) = (self.row(old), self.row(new));
        for (index, column) in self.columns.iter().enumerate() {
            let (old, new) = (old_row.source(index), new_row.source(index));
            let null = column.is_null(old);
            // Words are compared as such: a call to compare four bytes costs more than all else here.
            let same = match column.kind.fixed_bytes() {
                Some(4) => read_u32(old, column.at()) == read_u32(new, column.at()),
                Some(8) => read_i64(old, column.at()) == read_i64(new, column.at()),
                _ => raw(old, column) == raw(new, column),
            };
            if same && null == column.is_null(new) {
                continue;
            }
            let before = raw(old, column);
            out[1 + index / GROUP] |= column.null_bit;
            if null {
                out[1 + bitmap + index / GROUP] |= column.null_bit;
                continue;
            }
            if column.is_variable() {
                out.extend_from_slice(&(before.len() as u32).to_le_bytes());
            }
            out.extend_from_slice(before);
        }
        out
    }

    /// Reads what `encode_before` wrote with this layout, or when the table had fewer columns: (column, value before). Hostile
    /// bytes are refused.
    pub fn decode_before<'a>(&self, before: &'a [u8]) -> Result<Vec<(usize, Datum<'a>)>, RowError> {
        let damaged = |what, offset| RowError::Damaged { what, offset };
        let bitmap = usize::from(*before.first().ok_or(damaged("before-image too short", 0))?);
        let mut at = 1 + 2 * bitmap;
        if before.len() < at {
            return Err(damaged("before-image too short", before.len()));
        }
        if bitmap > self.columns.len().div_ceil(GROUP) {
            return Err(damaged("before-image of columns that do not exist", 0));
        }
        let (changed, nulls) = before[1..at].split_at(bitmap);
        let mut columns = Vec::new();
        for (index, column) in self.columns.iter().enumerate().take(bitmap * GROUP) {
            if changed[index / GROUP] & column.null_bit == 0 {
                continue;
            }
            if nulls[index / GROUP] & column.null_bit != 0 {
                columns.push((index, Datum::Null));
                continue;
            }
            let size = match column.kind.fixed_bytes() {
                Some(bytes) => bytes,
                None if before.len() - at >= 4 => {
                    at += 4;
                    read_u32(before, at - 4) as usize
                }
                None => return Err(damaged("before-image cut", at)),
            };
            if before.len() - at < size {
                return Err(damaged("before-image cut", at));
            }
            let datum = decode(column.kind, &before[at..at + size]).ok_or(damaged("before-image", at))?;
            columns.push((index, datum));
            at += size;
        }
        if at != before.len() {
            return Err(damaged("bytes after the before-image", at));
        }
        Ok(columns)
    }
}

const _: () = assert!(MAX_COLUMNS.div_ceil(GROUP) <= u8::MAX as usize);
