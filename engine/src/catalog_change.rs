//! Changes of the catalog as the log carries them.
//!
//! Integers are little-endian. A text is its length (u32) and its UTF-8 bytes; an option is a byte 0 or 1 and the
//! value; a list is its length (u32) and its items.
//!
//! | change | bytes |
//! |---|---|
//! | every change | version u8 = 2, kind u8, then: |
//! | 1 create table | definition |
//! | 2 drop table | oid u32, store u32 |
//! | 3 truncate | oid u32, old store u32, new store u32 |
//! | 4 add primary key | oid u32, primary key |
//! | 5 set collision rules | oid u32, rules (see `collision::rules`) |
//! | 6 redefine | definition, of a table that exists and keeps its store |
//! | 10 create sequence | sequence |
//! | 11 redefine sequence | sequence; another store: it begins again |
//! | 12 drop sequence | oid u32, store u32 |
//! | 16 to 30 | elections: see `election::change` |
//! | definition | oid u32, store u32, name, list of columns, option of primary key, list of checks, list of indexes, list of foreign keys, list of references |
//! | index | oid u32, name, store u32, list of column numbers u32, unique u8, constraint u8, valid u8 |
//! | foreign key | constraint name, list of column numbers u32, oid u32 of the table referred to, list of its column numbers u32, |
//! | | on delete u8, on update u8 (0 no action, 1 restrict, 2 cascade, 3 set null, 4 set default), |
//! | | match full u8, deferrable u8, deferred u8, validated u8 |
//! | reference | oid u32 of the table that refers, list of column numbers u32 |
//! | check | constraint name, expression text |
//! | column | name, type (5 bytes, see `DataType::encode`), not null u8, default, dropped u8, option of missing value |
//! | missing value | its length u32 and a row of this column alone (see `row`) |
//! | default | u8 = 0: none; 1: expression text; 2: identity, oid of its sequence u32, always u8; 3: generated, expression text |
//! | sequence | oid u32, name, store u32, type (5 bytes), start, increment, min, max, cache i64 each, cycle u8, option of owner (table's oid u32, column number u32) |
//! | primary key | constraint name, list of column numbers u32 |

use crate::catalog::{CheckDef, ColumnDef, ColumnDefault, PrimaryKey, TableDef, has_valid_missing_values};
use crate::collision::Rules;
use crate::election::change::ElectionChange;
use crate::foreign::{ForeignKeyDef, KeyAction, KeyMatch, ReferenceDef};
use crate::index::IndexDef;
use crate::row::RowLayout;
use crate::sequence::{SequenceDef, SequenceOptions, SequenceOwner};
use crate::types::{DataType, Value};
use scry_wal::StoreId;
use std::fmt;

const FORMAT: u8 = 2;

/// Actions of foreign keys by their bytes.
const ACTIONS: [KeyAction; 5] = [
    KeyAction::NoAction,
    KeyAction::Restrict,
    KeyAction::Cascade,
    KeyAction::SetNull,
    KeyAction::SetDefault,
];

/// One change of the catalog, as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub enum CatalogChange {
    CreateTable(TableDef),
    DropTable {
        oid: u32,
        store: StoreId,
    },
    Truncate {
        oid: u32,
        old: StoreId,
        new: StoreId,
    },
    /// Columns of the key become NOT NULL. Store and ordinals stay.
    AddPrimaryKey {
        oid: u32,
        key: PrimaryKey,
    },
    /// All collision rules of the table.
    SetRules {
        oid: u32,
        rules: Rules,
    },
    /// Another definition of a table: other names, defaults and constraints. Oid, store, ordinals, the types of columns and the primary
    /// key stay.
    Redefine(TableDef),
    CreateSequence(SequenceDef),
    /// Another definition of a sequence. Its oid stays.
    RedefineSequence(SequenceDef),
    DropSequence {
        oid: u32,
        store: StoreId,
    },
    /// Something about elections.
    Election(ElectionChange),
}

/// Bytes that are no catalog change, or one of a newer version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogChangeError {
    pub offset: usize,
    pub what: &'static str,
}

impl fmt::Display for CatalogChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "catalog change: {} at byte {}", self.what, self.offset)
    }
}

impl std::error::Error for CatalogChangeError {}

impl CatalogChange {
    /// Appends the encoded change.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        match self {
            CatalogChange::CreateTable(def) => {
                out.push(1);
                put_definition(out, def);
            }
            CatalogChange::Redefine(def) => {
                out.push(6);
                put_definition(out, def);
            }
            CatalogChange::DropTable { oid, store } => {
                out.push(2);
                put_u32(out, *oid);
                put_u32(out, store.get());
            }
            CatalogChange::Truncate { oid, old, new } => {
                out.push(3);
                put_u32(out, *oid);
                put_u32(out, old.get());
                put_u32(out, new.get());
            }
            CatalogChange::AddPrimaryKey { oid, key } => {
                out.push(4);
                put_u32(out, *oid);
                put_key(out, key);
            }
            CatalogChange::SetRules { oid, rules } => {
                out.push(5);
                put_u32(out, *oid);
                rules.encode(out);
            }
            CatalogChange::CreateSequence(def) => {
                out.push(10);
                put_sequence(out, def);
            }
            CatalogChange::RedefineSequence(def) => {
                out.push(11);
                put_sequence(out, def);
            }
            CatalogChange::DropSequence { oid, store } => {
                out.push(12);
                put_u32(out, *oid);
                put_u32(out, store.get());
            }
            CatalogChange::Election(change) => change.encode(out),
        }
    }

    /// Reads one change, which must fill `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<CatalogChange, CatalogChangeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return Err(CatalogChangeError {
                offset: 0,
                what: "unknown version",
            });
        }
        let change = match reader.u8()? {
            1 => CatalogChange::CreateTable(reader.definition()?),
            6 => CatalogChange::Redefine(reader.definition()?),
            2 => CatalogChange::DropTable {
                oid: reader.u32()?,
                store: StoreId::new(reader.u32()?),
            },
            3 => CatalogChange::Truncate {
                oid: reader.u32()?,
                old: StoreId::new(reader.u32()?),
                new: StoreId::new(reader.u32()?),
            },
            4 => CatalogChange::AddPrimaryKey {
                oid: reader.u32()?,
                key: reader.key()?,
            },
            5 => CatalogChange::SetRules {
                oid: reader.u32()?,
                rules: Rules::decode(&mut reader)?,
            },
            10 => CatalogChange::CreateSequence(reader.sequence()?),
            11 => CatalogChange::RedefineSequence(reader.sequence()?),
            12 => CatalogChange::DropSequence {
                oid: reader.u32()?,
                store: StoreId::new(reader.u32()?),
            },
            kind => match ElectionChange::decode(kind, &mut reader)? {
                Some(change) => CatalogChange::Election(change),
                None => {
                    return Err(CatalogChangeError {
                        offset: 1,
                        what: "unknown kind",
                    });
                }
            },
        };
        reader.end()?;
        Ok(change)
    }
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_len(out: &mut Vec<u8>, length: usize) {
    put_u32(out, u32::try_from(length).expect("a record is far below 4 GiB"));
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn put_column(out: &mut Vec<u8>, column: &ColumnDef) {
    put_text(out, &column.name);
    column.ty.encode(out);
    out.push(u8::from(column.not_null));
    match &column.default {
        None => out.push(0),
        Some(ColumnDefault::Expression(text)) => {
            out.push(1);
            put_text(out, text);
        }
        Some(ColumnDefault::Identity { sequence, always }) => {
            out.push(2);
            put_u32(out, *sequence);
            out.push(u8::from(*always));
        }
        Some(ColumnDefault::Generated(text)) => {
            out.push(3);
            put_text(out, text);
        }
    }
    out.push(u8::from(column.dropped));
    out.push(u8::from(column.missing.is_some()));
    if let Some(missing) = &column.missing {
        let row = RowLayout::new(&[column.ty]).encode(std::slice::from_ref(missing));
        let row = row.expect("missing values are checked with the definition");
        put_len(out, row.len());
        out.extend_from_slice(&row);
    }
}

fn put_sequence(out: &mut Vec<u8>, def: &SequenceDef) {
    put_u32(out, def.oid);
    put_text(out, &def.name);
    put_u32(out, def.store.get());
    let options = &def.options;
    options.ty.encode(out);
    for number in [
        options.start,
        options.increment,
        options.min,
        options.max,
        options.cache,
    ] {
        put_u64(out, number.cast_unsigned());
    }
    out.push(u8::from(options.cycle));
    out.push(u8::from(def.owner.is_some()));
    if let Some(owner) = &def.owner {
        put_u32(out, owner.table);
        put_len(out, owner.column);
    }
}

fn put_definition(out: &mut Vec<u8>, def: &TableDef) {
    put_u32(out, def.oid);
    put_u32(out, def.store.get());
    put_text(out, &def.name);
    put_len(out, def.columns.len());
    for column in &def.columns {
        put_column(out, column);
    }
    out.push(u8::from(def.primary_key.is_some()));
    if let Some(key) = &def.primary_key {
        put_key(out, key);
    }
    put_len(out, def.checks.len());
    for check in &def.checks {
        put_text(out, &check.name);
        put_text(out, &check.expression);
    }
    put_len(out, def.indexes.len());
    for index in &def.indexes {
        put_u32(out, index.oid);
        put_text(out, &index.name);
        put_u32(out, index.store.get());
        put_columns(out, &index.columns);
        out.push(u8::from(index.unique));
        out.push(u8::from(index.constraint));
        out.push(u8::from(index.valid));
    }
    put_len(out, def.foreign_keys.len());
    for key in &def.foreign_keys {
        put_foreign_key(out, key);
    }
    put_len(out, def.referenced_by.len());
    for reference in &def.referenced_by {
        put_u32(out, reference.table);
        put_columns(out, &reference.columns);
    }
}

fn put_foreign_key(out: &mut Vec<u8>, key: &ForeignKeyDef) {
    put_text(out, &key.name);
    put_columns(out, &key.columns);
    put_u32(out, key.table);
    put_columns(out, &key.referenced);
    for action in [key.on_delete, key.on_update] {
        let place = ACTIONS.iter().position(|known| *known == action);
        out.push(place.expect("all actions are listed") as u8);
    }
    out.push(u8::from(key.matching == KeyMatch::Full));
    out.push(u8::from(key.deferrable));
    out.push(u8::from(key.deferred));
    out.push(u8::from(key.validated));
}

fn put_columns(out: &mut Vec<u8>, columns: &[usize]) {
    put_len(out, columns.len());
    for column in columns {
        put_len(out, *column);
    }
}

fn put_key(out: &mut Vec<u8>, key: &PrimaryKey) {
    put_text(out, &key.name);
    put_columns(out, &key.columns);
}

pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Refuses bytes that were not read.
    pub(crate) fn end(&self) -> Result<(), CatalogChangeError> {
        match self.at == self.bytes.len() {
            true => Ok(()),
            false => Err(self.error("bytes after the end")),
        }
    }

    pub(crate) fn error(&self, what: &'static str) -> CatalogChangeError {
        CatalogChangeError {
            offset: self.at,
            what,
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CatalogChangeError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("a field reaches beyond the end"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CatalogChangeError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn flag(&mut self) -> Result<bool, CatalogChangeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CatalogChangeError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CatalogChangeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CatalogChangeError> {
        let low = self.u32()?;
        let high = self.u32()?;
        Ok(u64::from(low) | u64::from(high) << 32)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, CatalogChangeError> {
        Ok(self.u64()?.cast_signed())
    }

    /// A list; nothing is reserved for items that are not there.
    pub(crate) fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, CatalogChangeError>,
    ) -> Result<Vec<T>, CatalogChangeError> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CatalogChangeError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<String, CatalogChangeError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.error("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn column(&mut self) -> Result<ColumnDef, CatalogChangeError> {
        let name = self.text()?;
        let ty = self.data_type()?;
        let not_null = self.flag()?;
        let default = match self.u8()? {
            0 => None,
            1 => Some(ColumnDefault::Expression(self.text()?)),
            2 => Some(ColumnDefault::Identity {
                sequence: self.u32()?,
                always: self.flag()?,
            }),
            3 => Some(ColumnDefault::Generated(self.text()?)),
            _ => return Err(self.error("unknown kind of default")),
        };
        let dropped = self.flag()?;
        let missing = match self.flag()? {
            true => Some(self.missing(ty)?),
            false => None,
        };
        Ok(ColumnDef {
            name,
            ty,
            not_null,
            default,
            missing,
            dropped,
        })
    }

    fn data_type(&mut self) -> Result<DataType, CatalogChangeError> {
        let ty = self.take(DataType::ENCODED_BYTES)?;
        DataType::decode(ty).ok_or_else(|| self.error("unknown column type"))
    }

    fn sequence(&mut self) -> Result<SequenceDef, CatalogChangeError> {
        Ok(SequenceDef {
            oid: self.u32()?,
            name: self.text()?,
            store: StoreId::new(self.u32()?),
            options: SequenceOptions {
                ty: self.data_type()?,
                start: self.i64()?,
                increment: self.i64()?,
                min: self.i64()?,
                max: self.i64()?,
                cache: self.i64()?,
                cycle: self.flag()?,
            },
            owner: match self.flag()? {
                false => None,
                true => Some(SequenceOwner {
                    table: self.u32()?,
                    column: self.u32()? as usize,
                }),
            },
        })
    }

    fn missing(&mut self, ty: DataType) -> Result<Value, CatalogChangeError> {
        let layout = RowLayout::new(&[ty]);
        let row = self.bytes()?;
        match layout.validate(row) {
            Ok(()) => Ok(layout.row(row).get(0).to_value()),
            Err(_) => Err(self.error("a missing value is not of its column")),
        }
    }

    /// All columns of a table.
    pub(crate) fn table_columns(&mut self) -> Result<Vec<ColumnDef>, CatalogChangeError> {
        let columns = self.list(Reader::column)?;
        match has_valid_missing_values(&columns) {
            true => Ok(columns),
            false => Err(self.error("missing values that make no row")),
        }
    }

    fn definition(&mut self) -> Result<TableDef, CatalogChangeError> {
        let oid = self.u32()?;
        let store = StoreId::new(self.u32()?);
        let name = self.text()?;
        let columns = self.table_columns()?;
        let primary_key = if self.flag()? { Some(self.key()?) } else { None };
        let checks = self.list(|reader| {
            Ok(CheckDef {
                name: reader.text()?,
                expression: reader.text()?,
            })
        })?;
        let indexes = self.list(|reader| {
            Ok(IndexDef {
                oid: reader.u32()?,
                name: reader.text()?,
                store: StoreId::new(reader.u32()?),
                columns: reader.columns()?,
                unique: reader.flag()?,
                constraint: reader.flag()?,
                valid: reader.flag()?,
            })
        })?;
        Ok(TableDef {
            oid,
            name,
            columns,
            primary_key,
            store,
            checks,
            indexes,
            foreign_keys: self.list(Reader::foreign_key)?,
            referenced_by: self.list(|reader| {
                Ok(ReferenceDef {
                    table: reader.u32()?,
                    columns: reader.columns()?,
                })
            })?,
        })
    }

    fn foreign_key(&mut self) -> Result<ForeignKeyDef, CatalogChangeError> {
        Ok(ForeignKeyDef {
            name: self.text()?,
            columns: self.columns()?,
            table: self.u32()?,
            referenced: self.columns()?,
            on_delete: self.key_action()?,
            on_update: self.key_action()?,
            matching: match self.flag()? {
                true => KeyMatch::Full,
                false => KeyMatch::Simple,
            },
            deferrable: self.flag()?,
            deferred: self.flag()?,
            validated: self.flag()?,
        })
    }

    fn key_action(&mut self) -> Result<KeyAction, CatalogChangeError> {
        let action = ACTIONS.get(usize::from(self.u8()?)).copied();
        action.ok_or_else(|| self.error("unknown action of a foreign key"))
    }

    fn columns(&mut self) -> Result<Vec<usize>, CatalogChangeError> {
        self.list(|reader| Ok(reader.u32()? as usize))
    }

    fn key(&mut self) -> Result<PrimaryKey, CatalogChangeError> {
        let name = self.text()?;
        let columns = self.columns()?;
        Ok(PrimaryKey { name, columns })
    }
}

#[cfg(test)]
#[path = "catalog_change_tests.rs"]
mod tests;
