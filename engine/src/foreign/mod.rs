//! Foreign keys: a row that refers to a key of a table, and what keeps that key there.
//!
//! The definition stands with the table that refers, *child* here; the table referred to, *parent*, has the note that it is. So
//! whoever writes either knows from its definition alone that there is something to be looked at, and a new foreign key
//! retires the definitions of both: who waited for either lock meanwhile, looks again.
//!
//! A *key lock* is a lock of its own beside the row's (`keys`). Who refers to a key holds the key's lock shared to the end of its transaction;
//! who deletes the row or changes the key holds it exclusively. A change of other columns takes no key lock, so
//! writers of a hot parent and its new children never wait for each other. After it has the lock, each looks at the newest
//! committed state, whatever its snapshot:
//! - a child sees whether the key is there: it cannot go before the child's transaction has ended;
//! - who ended a key sees all children that there are: each has committed before the lock was given, and no other can come.
//!
//! What is found so stays true until the transaction ends, hence SERIALIZABLE notes none of it as read.
//!
//! The engine looks (`check`, `children`), and refuses; actions like CASCADE are changes of rows like any others and are the SQL
//! layer's. A constraint that is checked at the end of a transaction is checked against the transaction's net changes
//! (`changes`); so is what an election adopts, which nothing else has checked against the present.
//!
//! Inside of a candidate there are no key locks, and what is looked at is what the candidate sees: two sessions of one candidate that
//! miss each other make a candidate that cannot be elected.

mod changes;
mod check;
mod children;
mod define;
mod keys;

pub use changes::Which;
pub use children::Children;
pub(crate) use define::{noted, parents};

use crate::catalog::{Table, TableDef};
use crate::key::Key;
use crate::types::{DataType, Datum, Numeric, Value};

/// What becomes of rows whose key goes or changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyAction {
    /// Nothing: they must not be there at the end of the statement, or of the transaction.
    #[default]
    NoAction,
    /// They must not be there.
    Restrict,
    Cascade,
    SetNull,
    SetDefault,
}

/// When a row with NULLs refers to something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyMatch {
    /// When no column is NULL.
    #[default]
    Simple,
    /// The same; and either all columns are NULL or none is.
    Full,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignKeyDef {
    /// The constraint's name.
    pub name: String,
    /// Column numbers from 0.
    pub columns: Vec<usize>,
    /// The oid of the table referred to; in a [`NewTable`](crate::NewTable), 0: itself.
    pub table: u32,
    /// Its columns, each at the place of the column that refers to it.
    pub referenced: Vec<usize>,
    pub on_delete: KeyAction,
    pub on_update: KeyAction,
    pub matching: KeyMatch,
    pub deferrable: bool,
    /// Whether it is checked at the end of the transaction, unless the transaction says otherwise.
    pub deferred: bool,
    /// Whether rows that were there before it satisfy it.
    pub validated: bool,
}

/// A note at a table that another, or itself, refers to columns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceDef {
    /// The oid of the table that refers.
    pub table: u32,
    /// Columns of the table referred to.
    pub columns: Vec<usize>,
}

/// A key by which at most one row of a table is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueKey {
    Primary,
    /// The n-th index.
    Index(usize),
}

impl TableDef {
    /// The unique key that has just these columns, in whatever order.
    pub fn unique_key(&self, columns: &[usize]) -> Option<UniqueKey> {
        let same = |key: &[usize]| key.len() == columns.len() && key.iter().all(|c| columns.contains(c));
        if self.primary_key.as_ref().is_some_and(|key| same(&key.columns)) {
            return Some(UniqueKey::Primary);
        }
        let mut indexes = self.indexes.iter();
        let index = indexes.position(|index| index.unique && index.valid && same(&index.columns));
        index.map(UniqueKey::Index)
    }

    /// Whether an assignment to these columns can change some foreign key's columns, or columns that one refers to: generated ones
    /// follow whatever is assigned.
    pub fn is_bound_by(&self, columns: &[usize]) -> bool {
        let of_own = self.foreign_keys.iter().flat_map(|key| &key.columns);
        let of_others = self.referenced_by.iter().flat_map(|reference| &reference.columns);
        of_own
            .chain(of_others)
            .any(|column| columns.contains(column) || self.columns[*column].generated().is_some())
    }

    /// The unique keys that are referred to.
    pub(crate) fn referenced_keys(&self) -> Vec<UniqueKey> {
        let mut keys = Vec::new();
        for reference in &self.referenced_by {
            match self.unique_key(&reference.columns) {
                Some(key) if !keys.contains(&key) => keys.push(key),
                _ => {}
            }
        }
        keys
    }
}

impl Table {
    /// Whether two rows have the same values in these columns.
    pub fn agree(&self, columns: &[usize], a: &[u8], b: &[u8]) -> bool {
        let (a, b) = (self.layout.row(a), self.layout.row(b));
        let mut columns = columns.iter();
        columns.all(|column| a.get(*column).compare(&b.get(*column)).is_eq())
    }

    /// The columns of a unique key, in its order.
    fn unique_columns(&self, unique: UniqueKey) -> &[usize] {
        match unique {
            UniqueKey::Primary => self.key_columns().unwrap_or_default(),
            UniqueKey::Index(index) => &self.indexes[index].def.columns,
        }
    }

    /// What has the unique key's rows under their keys.
    fn unique_rows(&self, unique: UniqueKey) -> &Table {
        match unique {
            UniqueKey::Primary => self,
            UniqueKey::Index(index) => self.indexes[index].rows(),
        }
    }

    /// The unique key of a row, which has the key `own`; `None`: a column is NULL, and nothing can refer to it.
    pub(crate) fn unique_key_of(&self, unique: UniqueKey, own: &[u8], row: &[u8]) -> Option<Key> {
        match unique {
            UniqueKey::Primary => Some(Key::from_bytes(own)),
            UniqueKey::Index(index) => self.indexes[index].unique_key(&self.layout, row),
        }
    }

    /// The unique key with these values of `columns`; `None`: the columns cannot have them.
    fn unique_key_with(&self, unique: UniqueKey, columns: &[usize], values: &[Value]) -> Option<Key> {
        let mut key = Key::new();
        for column in self.unique_columns(unique) {
            let place = columns.iter().position(|named| named == column)?;
            let value = as_type(values.get(place)?.as_datum(), self.def.columns[*column].ty)?;
            match unique {
                UniqueKey::Primary => key.push(&value),
                UniqueKey::Index(_) => key.push_nullable(&value),
            }
        }
        Some(key)
    }
}

/// Whether a column of one type can refer to one of another: equal values have one key once [`as_type`] has been asked.
pub fn is_comparable(child: DataType, parent: DataType) -> bool {
    let kin = |of: fn(&DataType) -> bool| of(&child) && of(&parent);
    kin(DataType::is_integer)
        || kin(DataType::is_float)
        || kin(DataType::is_text)
        || child.is_integer() && matches!(parent, DataType::Numeric(_))
        || child.without_modifier() == parent.without_modifier()
}

/// The value as a column of a comparable type has it; `None`: no value of that type equals it.
pub fn as_type(value: Datum<'_>, ty: DataType) -> Option<Datum<'_>> {
    let integer = match value {
        Datum::Int2(value) => Some(i64::from(value)),
        Datum::Int4(value) => Some(i64::from(value)),
        Datum::Int8(value) => Some(value),
        Datum::Numeric(value) if ty.is_integer() => {
            let integer = value.to_i64()?;
            Some(integer).filter(|integer| Numeric::from_i64(*integer) == value)
        }
        _ => None,
    };
    match (ty, integer, value) {
        (DataType::Int2, integer, _) => i16::try_from(integer?).ok().map(Datum::Int2),
        (DataType::Int4, integer, _) => i32::try_from(integer?).ok().map(Datum::Int4),
        (DataType::Int8, integer, _) => integer.map(Datum::Int8),
        (DataType::Numeric(_), Some(integer), _) => Some(Datum::Numeric(Numeric::from_i64(integer))),
        (DataType::Float8, _, Datum::Float4(value)) => Some(Datum::Float8(f64::from(value))),
        (DataType::Float4, _, Datum::Float8(value)) => {
            let narrow = value as f32;
            let same = value.is_nan() || f64::from(narrow) == value;
            same.then_some(Datum::Float4(narrow))
        }
        _ => Some(value),
    }
}
