//! A checksum of rows that does not depend on their order or on how they are stored.
//!
//! Each row is hashed with its ordinal, and the hashes are added. Used to compare a mirror's table with the primary's
//! at the same LSN; whoever has the primary's rows turns them into the same columns (`scry_stream::RowBatchBuilder`) and
//! calls [`checksum_rows`]. It finds accidents, not adversaries.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, ToByteSlice,
};
use arrow::record_batch::RecordBatch;

/// Number of rows and sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Rows.
    pub rows: u64,
    /// Sum of the rows' hashes, modulo 2^64.
    pub sum: u64,
}

impl Checksum {
    /// Adds the checksum of other rows.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const NULL: u64 = 0x6E75_6C6C;

/// A round of the finalizer of splitmix64.
fn mix(hash: u64, value: u64) -> u64 {
    let mut x = (hash ^ value).wrapping_mul(MULTIPLIER);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 27)
}

fn mix_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(hash, bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    hash
}

/// The checksum of rows of which `ordinals` are the ordinals. Columns of types that no store has count as null.
#[must_use]
pub fn checksum_rows(ordinals: &[u64], batch: &RecordBatch) -> Checksum {
    let hashes = hash_rows(ordinals, batch);
    Checksum {
        rows: hashes.len() as u64,
        sum: hashes.iter().fold(0, |sum: u64, &hash| sum.wrapping_add(hash)),
    }
}

/// A hash of each row: what a checksum adds.
#[must_use]
pub fn hash_rows(ordinals: &[u64], batch: &RecordBatch) -> Vec<u64> {
    assert_eq!(ordinals.len(), batch.num_rows(), "an ordinal for each row");
    let mut hashes: Vec<u64> = ordinals.iter().map(|&ordinal| mix(MULTIPLIER, ordinal)).collect();
    for column in batch.columns() {
        add_column(&mut hashes, column);
    }
    hashes.iter_mut().for_each(|hash| *hash = mix(*hash, 0));
    hashes
}

fn add_column(hashes: &mut [u64], column: &ArrayRef) {
    match column.data_type() {
        DataType::Boolean => {
            let array = column.as_boolean();
            add_values(hashes, column, |hash, row| mix(hash, u64::from(array.value(row))));
        }
        DataType::Int16 => add_numbers::<Int16Type>(hashes, column),
        DataType::Int32 => add_numbers::<Int32Type>(hashes, column),
        DataType::Int64 => add_numbers::<Int64Type>(hashes, column),
        DataType::Float32 => add_numbers::<Float32Type>(hashes, column),
        DataType::Float64 => add_numbers::<Float64Type>(hashes, column),
        DataType::Decimal128(_, _) => add_numbers::<Decimal128Type>(hashes, column),
        DataType::Date32 => add_numbers::<Date32Type>(hashes, column),
        DataType::Time64(_) => add_numbers::<Time64MicrosecondType>(hashes, column),
        DataType::Timestamp(_, _) => add_numbers::<TimestampMicrosecondType>(hashes, column),
        DataType::Utf8 => {
            let array = column.as_string::<i32>();
            add_values(hashes, column, |hash, row| {
                mix_bytes(hash, array.value(row).as_bytes())
            });
        }
        DataType::Binary => {
            let array = column.as_binary::<i32>();
            add_values(hashes, column, |hash, row| mix_bytes(hash, array.value(row)));
        }
        _ => hashes.iter_mut().for_each(|hash| *hash = mix(*hash, NULL)),
    }
}

fn add_values(hashes: &mut [u64], column: &ArrayRef, value: impl Fn(u64, usize) -> u64) {
    for (row, hash) in hashes.iter_mut().enumerate() {
        *hash = if column.is_null(row) {
            mix(*hash, NULL)
        } else {
            value(*hash, row)
        };
    }
}

fn add_numbers<T: ArrowPrimitiveType>(hashes: &mut [u64], column: &ArrayRef) {
    let array: &PrimitiveArray<T> = column.as_primitive();
    add_values(hashes, column, |hash, row| {
        mix_bytes(hash, array.value(row).to_byte_slice())
    });
}
