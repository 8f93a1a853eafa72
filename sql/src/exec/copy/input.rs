//! COPY FROM STDIN.

use super::record::{CsvDialect, CsvScan, Fields, MAX_RECORD_BYTES, TextDialect};
use crate::error::{Error, SqlState};
use crate::exec::context::{self, Exec};
use crate::exec::foreign_keys;
use crate::exec::insert;
use crate::expr::Evaluated;
use crate::plan::column_default;
use crate::plan::dml;
use crate::plan::parse;
use crate::plan::scalar::{self, Binder, Facts, ParamTypes, Scalar};
use crate::plan::select::no_such_table;
use crate::plan::statement::{ColumnChoice, CopyFormat, CopySource, CopyStatement};
use crate::types::{self, InputContext};
use scry_engine::{Catalog, DataType, Datum, InsertOutcome, Table, Value};
use smallvec::SmallVec;
use std::sync::Arc;

/// Rows between two looks at the interrupt and at the log's room.
const ROWS_PER_ROUND: u64 = 512;

/// Characters of data that an error's context shows.
const SHOWN: usize = 100;

enum Dialect {
    Text(TextDialect),
    Csv(CsvDialect),
}

/// Where a column of the row comes from.
enum Source {
    Field(usize),
    Default(usize),
    Null,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    None,
    Skip,
    Match,
}

/// One field's value while its row is made.
enum Cell<'r> {
    Null,
    Text(&'r str),
    Value(Value),
}

impl Cell<'_> {
    fn datum(&self) -> Datum<'_> {
        match self {
            Cell::Null => Datum::Null,
            Cell::Text(text) => Datum::Text(text),
            Cell::Value(value) => value.as_datum(),
        }
    }
}

/// Everything about the table and the format that stays the same from record to record.
struct Shape {
    table: Arc<Table>,
    dialect: Dialect,
    /// The table's column of each field.
    columns: Vec<usize>,
    sources: Vec<Source>,
    defaults: Vec<Scalar>,
    filter: Option<Scalar>,
}

/// A COPY FROM STDIN under way.
pub struct CopyIn {
    /// The last statement of a simple query.
    pub last: bool,
    shape: Shape,
    header: Header,
    /// The beginning of a record whose end has not come yet.
    partial: Vec<u8>,
    text_scan: usize,
    csv_scan: CsvScan,
    fields: Fields,
    line: u64,
    /// Whether lines end with CR LF, once one has been seen.
    carriage_return: Option<bool>,
    /// `\.` was read.
    ended: bool,
    pub rows: u64,
}

fn malformed(message: String) -> Error {
    Error::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

fn chosen(choice: &ColumnChoice, table: &Table, columns: &[usize], option: &str) -> Result<Vec<bool>, Error> {
    Ok(match choice {
        ColumnChoice::None => Vec::new(),
        ColumnChoice::All => vec![true; columns.len()],
        ColumnChoice::Names(names) => {
            let mut list = vec![false; columns.len()];
            for name in names {
                let column = dml::column(table, name)?;
                let Some(field) = columns.iter().position(|known| *known == column) else {
                    return Err(Error::new(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        format!("{option} column \"{name}\" not referenced by COPY"),
                    ));
                };
                list[field] = true;
            }
            list
        }
    })
}

impl CopyIn {
    pub fn new(statement: &CopyStatement, catalog: &Catalog, facts: &Facts<'_>) -> Result<Self, Error> {
        let CopySource::Table {
            name, columns: names, ..
        } = &statement.source
        else {
            return Err(Error::internal("COPY FROM a query"));
        };
        let table = catalog.table(name).cloned().ok_or_else(|| no_such_table(name))?;
        let mut columns: Vec<usize> = Vec::new();
        for name in names {
            let column = dml::column(&table, name)?;
            if table.def.columns[column].generated().is_some() {
                return Err(Error::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    format!("column \"{name}\" is a generated column"),
                )
                .with_detail("Generated columns cannot be used in COPY."));
            }
            if columns.contains(&column) {
                return Err(Error::new(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{name}\" specified more than once"),
                ));
            }
            columns.push(column);
        }
        if names.is_empty() {
            let live = table.def.live_columns();
            let given = live.filter(|(_, column)| column.generated().is_none());
            columns = given.map(|(number, _)| number).collect();
        }
        let mut param_types = ParamTypes::default();
        let mut binder = Binder::new(&mut param_types, facts);
        let mut defaults = Vec::new();
        let mut sources = Vec::with_capacity(table.def.columns.len());
        for (index, definition) in table.def.columns.iter().enumerate() {
            let field = columns.iter().position(|column| *column == index);
            sources.push(match field {
                Some(field) => Source::Field(field),
                None => match column_default::compiled(definition, &mut binder)
                    .map_err(scalar::Refusal::into_error)?
                {
                    Some(default) => {
                        defaults.push(default);
                        Source::Default(defaults.len() - 1)
                    }
                    None => Source::Null,
                },
            });
        }
        let filter = match &statement.filter {
            None => None,
            Some(text) => {
                binder.set_relations(&[(name, &table)]);
                let condition = parse::expression(text)?;
                Some(
                    binder
                        .condition(&condition)
                        .map_err(scalar::Refusal::into_error)?,
                )
            }
        };
        let dialect = match statement.format {
            CopyFormat::Csv => Dialect::Csv(CsvDialect {
                delimiter: statement.delimiter.unwrap_or(b','),
                null: statement.null.clone().unwrap_or_default().into_bytes(),
                quote: statement.quote.unwrap_or(b'"'),
                escape: statement.escape.or(statement.quote).unwrap_or(b'"'),
                force_not_null: chosen(&statement.force_not_null, &table, &columns, "FORCE_NOT_NULL")?,
                force_null: chosen(&statement.force_null, &table, &columns, "FORCE_NULL")?,
            }),
            _ => Dialect::Text(TextDialect {
                delimiter: statement.delimiter.unwrap_or(b'\t'),
                null: statement
                    .null
                    .clone()
                    .unwrap_or_else(|| "\\N".to_owned())
                    .into_bytes(),
            }),
        };
        let header = match (statement.header, statement.header_match) {
            (_, true) => Header::Match,
            (true, false) => Header::Skip,
            (false, false) => Header::None,
        };
        Ok(CopyIn {
            last: false,
            shape: Shape {
                table,
                dialect,
                columns,
                sources,
                defaults,
                filter,
            },
            header,
            partial: Vec::new(),
            text_scan: 0,
            csv_scan: CsvScan::default(),
            fields: Fields::default(),
            line: 0,
            carriage_return: None,
            ended: false,
            rows: 0,
        })
    }

    /// Fields of a record, for CopyInResponse.
    pub fn width(&self) -> usize {
        self.shape.columns.len()
    }

    /// Takes data that may begin and end anywhere.
    pub async fn feed(&mut self, exec: &mut Exec<'_>, data: &[u8]) -> Result<(), Error> {
        if self.partial.is_empty() {
            let used = self.records(exec, data).await?;
            self.partial.extend_from_slice(&data[used..]);
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(data);
            let used = self.records(exec, &whole).await?;
            whole.drain(..used);
            self.partial = whole;
        }
        if self.partial.len() > MAX_RECORD_BYTES {
            return Err(
                Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "COPY line is too long")
                    .with_context(self.at_line()),
            );
        }
        Ok(())
    }

    /// The client has sent everything: the last record may lack its line end.
    pub async fn finish(&mut self, exec: &mut Exec<'_>) -> Result<(), Error> {
        let last = std::mem::take(&mut self.partial);
        if last.is_empty() {
            return Ok(());
        }
        self.record(exec, &last).await
    }

    /// The end of the first record.
    fn record_end(&mut self, data: &[u8]) -> Option<usize> {
        match &self.shape.dialect {
            Dialect::Text(text) => {
                let found = text.record_end(data, self.text_scan);
                self.text_scan = if found.is_some() { 0 } else { data.len() };
                found
            }
            Dialect::Csv(csv) => {
                let found = csv.record_end(data, &mut self.csv_scan);
                if found.is_some() {
                    self.csv_scan = CsvScan::default();
                }
                found
            }
        }
    }

    /// Inserts all whole records; returns the bytes used.
    async fn records(&mut self, exec: &mut Exec<'_>, data: &[u8]) -> Result<usize, Error> {
        let mut at = 0;
        while let Some(end) = self.record_end(&data[at..]) {
            self.record(exec, &data[at..at + end]).await?;
            at += end + 1;
        }
        Ok(at)
    }

    /// Takes off the CR of a CR LF, and holds every line to what the first one ended with.
    fn without_carriage_return<'r>(&mut self, record: &'r [u8]) -> Result<&'r [u8], Error> {
        let stripped = record.strip_suffix(b"\r");
        match (self.carriage_return, stripped) {
            (None, _) => self.carriage_return = Some(stripped.is_some()),
            (Some(true), Some(_)) | (Some(false), None) => {}
            (Some(true), None) => return Ok(record),
            (Some(false), Some(_)) => {
                if matches!(self.shape.dialect, Dialect::Text(_)) {
                    return Err(malformed("literal carriage return found in data".into())
                        .with_hint("Use \"\\r\" to represent carriage return.")
                        .with_context(self.at_line()));
                }
                return Ok(record);
            }
        }
        Ok(stripped.unwrap_or(record))
    }

    async fn record(&mut self, exec: &mut Exec<'_>, record: &[u8]) -> Result<(), Error> {
        self.line += 1;
        let record = self.without_carriage_return(record)?;
        if record == b"\\." {
            self.ended = true;
            return Ok(());
        }
        if self.ended {
            return Err(malformed("received copy data after EOF marker".into()).with_context(self.at_line()));
        }
        if self.header != Header::None {
            let header = std::mem::replace(&mut self.header, Header::None);
            return if header == Header::Match {
                self.check_header(record)
            } else {
                Ok(())
            };
        }
        self.split(record)?;
        let (row, key) = self.shape.row(exec, record, &self.fields, self.line)?;
        self.line += embedded_lines(&self.shape.dialect, record);
        if let Some(filter) = &self.shape.filter {
            let row = self.shape.table.layout.row(&row);
            if !filter_holds(filter, exec, row)? {
                return Ok(());
            }
        }
        let table = &self.shape.table;
        let outcome = exec
            .interrupt
            .locking(exec.txn.insert(table, key, row.clone()))
            .await?;
        let outcome = outcome.map_err(|error| Error::from(error).with_context(self.at_line()))?;
        let exists = match outcome {
            InsertOutcome::Inserted(key) => {
                // As if at the end of the statement: of no line.
                foreign_keys::written(exec, table, &key, (None, false), &row).await?;
                None
            }
            InsertOutcome::Exists(_) => Some(context::unique_violation(table, &row, exec.facts)),
            InsertOutcome::Taken { index, .. } => Some(table.key_exists(index, &row).into()),
        };
        if let Some(error) = exists {
            return Err(error.with_context(self.at_line()));
        }
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_PER_ROUND) {
            exec.interrupt.check()?;
            exec.txn.room().await?;
        }
        Ok(())
    }

    fn split(&mut self, record: &[u8]) -> Result<(), Error> {
        let width = self.shape.columns.len();
        let split = match &self.shape.dialect {
            Dialect::Text(text) => text.split(record, &mut self.fields),
            Dialect::Csv(csv) => csv.split(record, &mut self.fields),
        };
        split.map_err(|error| error.with_context(self.with_line_text(record)))?;
        let found = self.fields.list.len();
        // A table without columns is sent as empty lines.
        if width == 0 && record.is_empty() {
            self.fields.list.clear();
            return Ok(());
        }
        if found > width {
            return Err(malformed("extra data after last expected column".into())
                .with_context(self.with_line_text(record)));
        }
        if found < width {
            let missing = &self.shape.table.def.columns[self.shape.columns[found]].name;
            return Err(malformed(format!("missing data for column \"{missing}\""))
                .with_context(self.with_line_text(record)));
        }
        Ok(())
    }

    fn check_header(&mut self, record: &[u8]) -> Result<(), Error> {
        self.split(record)
            .map_err(|_| malformed("wrong number of fields in header line".into()))?;
        for (index, field) in self.fields.list.iter().enumerate() {
            let expected = &self.shape.table.def.columns[self.shape.columns[index]].name;
            let found = self.fields.bytes(record, *field).unwrap_or_default();
            if found != expected.as_bytes() {
                return Err(malformed(format!(
                    "column name mismatch in header line field {}: got \"{}\", expected \"{expected}\"",
                    index + 1,
                    String::from_utf8_lossy(found)
                ))
                .with_context(self.at_line()));
            }
        }
        Ok(())
    }

    /// `COPY t, line 3`.
    pub fn at_line(&self) -> String {
        self.shape.at_line(self.line)
    }

    fn with_line_text(&self, record: &[u8]) -> String {
        format!("{}: \"{}\"", self.at_line(), shown(record))
    }
}

/// Line ends inside of a record's quotes.
fn embedded_lines(dialect: &Dialect, record: &[u8]) -> u64 {
    match dialect {
        Dialect::Text(_) => 0,
        Dialect::Csv(_) => memchr::memchr_iter(b'\n', record).count() as u64,
    }
}

fn filter_holds(filter: &Scalar, exec: &Exec<'_>, row: scry_engine::RowRef<'_>) -> Result<bool, Error> {
    scalar::all_true(std::slice::from_ref(filter), &exec.env().with_row(row))
}

/// Data as an error shows it.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

impl Shape {
    fn at_line(&self, line: u64) -> String {
        format!("COPY {}, line {line}", self.table.def.name)
    }

    fn in_column(&self, line: u64, column: usize, bytes: &[u8]) -> String {
        let name = &self.table.def.columns[column].name;
        format!("{}, column {name}: \"{}\"", self.at_line(line), shown(bytes))
    }

    /// The encoded row and key of a record that was split.
    fn row(
        &self,
        exec: &Exec<'_>,
        record: &[u8],
        fields: &Fields,
        line: u64,
    ) -> Result<(scry_engine::Row, Option<scry_engine::Key>), Error> {
        let input = InputContext {
            zone: exec.facts.zone,
            now: exec.facts.transaction_start,
        };
        let mut cells: SmallVec<[Cell<'_>; 16]> = SmallVec::with_capacity(fields.list.len());
        for (field, column) in fields.list.iter().zip(&self.columns) {
            let Some(bytes) = fields.bytes(record, *field) else {
                cells.push(Cell::Null);
                continue;
            };
            let ty = &self.table.def.columns[*column].ty;
            let cell = cell(bytes, ty, &input);
            cells.push(cell.map_err(|error| error.with_context(self.in_column(line, *column, bytes)))?);
        }
        let env = exec.env();
        let made: SmallVec<[Evaluated<'_>; 4]> = self
            .defaults
            .iter()
            .map(|default| scalar::eval(default, &env))
            .collect::<Result<_, _>>()?;
        let value = |column: usize| match &self.sources[column] {
            Source::Field(field) => cells[*field].datum(),
            Source::Default(default) => made[*default].datum(),
            Source::Null => Datum::Null,
        };
        insert::encode(exec, &self.table, value)
            .map_err(|error| error.with_context(format!("{}: \"{}\"", self.at_line(line), shown(record))))
    }
}

/// A field as a value of its column's type.
#[inline]
fn cell<'r>(bytes: &'r [u8], ty: &DataType, input: &InputContext<'_>) -> Result<Cell<'r>, Error> {
    let text = types::check_text(bytes)?;
    Ok(match ty {
        DataType::Text | DataType::Varchar(None) => Cell::Text(text),
        // Fewer bytes than characters allowed cannot be too long.
        DataType::Varchar(Some(length)) if text.len() <= *length as usize => Cell::Text(text),
        DataType::Char(length) if text.len() <= *length as usize => Cell::Text(text.trim_end_matches(' ')),
        _ => Cell::Value(types::parse_text(text, ty, input)?),
    })
}
