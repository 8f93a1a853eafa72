//! What a segment file says of its rows.

use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::cache::Cache;
use crate::error::Error;
use crate::piece::batch_bytes;
use crate::segment::SegmentFile;

fn write(folder: &Path, columns: Vec<ArrayRef>) -> (SegmentFile, RecordBatch) {
    let fields = columns.iter().enumerate().map(|(number, column)| {
        let name = format!("c{number}");
        Field::new(name, column.data_type().clone(), true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema, columns).expect("columns");
    let rows = batch.num_rows() as u64;
    let path = folder.join("piece.parquet");
    let _ = fs::remove_file(&path);
    let written = SegmentFile::write(path.clone(), &batch, 0..rows).expect("written");
    let file = SegmentFile::new(path, written.parts().to_vec(), &batch.schema()).expect("described");
    (file, batch)
}

/// The upper bound of a column of floats.
fn bound(file: &SegmentFile, column: usize) -> Option<f64> {
    let max = file.statistics(column)?.max?;
    Some(max.as_primitive::<Float64Type>().value(0))
}

#[test]
fn bounds_do_not_leave_out_nan() {
    let folder = tempfile::tempdir().expect("a folder");
    let floats = |values: &[f64]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
    let (file, _) = write(
        folder.path(),
        vec![
            floats(&[1.0, 2.0, 3.0]),
            floats(&[1.0, f64::NAN, 3.0]),
            floats(&[-1.0, 0.0, 9.0]),
        ],
    );
    assert_eq!(bound(&file, 0), Some(3.0));
    assert!(
        bound(&file, 1).is_none_or(f64::is_nan),
        "a query for NaN or for large numbers must look"
    );
    assert_eq!(bound(&file, 2), Some(9.0));
}

#[test]
fn a_file_knows_what_its_rows_take_in_memory_however_well_they_are_compressed() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "the same again ".repeat(10_000);
    let texts = StringArray::from_iter_values((0..64).map(|_| text.as_str()));
    let (file, batch) = write(folder.path(), vec![Arc::new(texts)]);
    let bytes = batch_bytes(&batch);
    assert!(
        bytes > 9 << 20 && file.bytes() < 1 << 20,
        "{bytes} in {}",
        file.bytes()
    );
    assert_eq!(file.decoded_bytes().expect("readable"), bytes);
}

#[test]
fn a_file_that_could_not_be_read_for_a_moment_is_read_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, batch) = write(folder.path(), vec![Arc::new(Float64Array::from(vec![1.0, 2.0]))]);
    let cache = Cache::new(0);
    let away = folder.path().join("away");
    fs::rename(file.path(), &away).expect("moved");
    assert!(matches!(file.columns(&[0], 2, &cache), Err(Error::Io { .. })));
    fs::rename(&away, file.path()).expect("moved back");
    assert_eq!(file.columns(&[0], 2, &cache).expect("readable"), batch);
    assert_eq!(batch.column(0).data_type(), &DataType::Float64);
}
