//! Oids of fixed objects, and the oids derived from a table's.

/// Schemas.
pub const PG_CATALOG: u32 = 11;
pub const PUBLIC: u32 = 2200;
pub const INFORMATION_SCHEMA: u32 = 13_000;
/// What is scry's own.
pub const SCRY: u32 = 13_001;
/// Name and oid of every schema.
pub const SCHEMAS: [(&str, u32); 4] = [
    ("pg_catalog", PG_CATALOG),
    ("public", PUBLIC),
    ("information_schema", INFORMATION_SCHEMA),
    ("scry", SCRY),
];

/// The one role: the session's user.
pub const ROLE: u32 = 10;
/// The one database.
pub const DATABASE: u32 = 5;
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// Access methods.
pub const HEAP: u32 = 2;
pub const BTREE: u32 = 403;
/// Collations.
pub const DEFAULT_COLLATION: u32 = 100;
pub const C_COLLATION: u32 = 950;

/// Where derived oids begin: far above what a table's oid reaches in practice.
const INDEX_BASE: u32 = 1 << 30;
const CONSTRAINT_BASE: u32 = 2 << 30;
const DEFAULT_BASE: u32 = 3 << 30;
/// Above those of primary keys, with room for so many of a table: CHECK constraints, and then foreign keys.
const CHECK_BASE: u32 = 1 << 29;
const CHECKS_MAX: u32 = 256;
const FIRST_FOREIGN_KEY: usize = 128;

/// The oid of the index under a table's primary key.
pub fn key_index(table: u32) -> u32 {
    INDEX_BASE.wrapping_add(table)
}

/// The oid of the constraint that is a primary key, of the table with this oid, or stands on the index with this oid.
pub fn key_constraint(of: u32) -> u32 {
    CONSTRAINT_BASE.wrapping_add(of)
}

/// The oid of the n-th CHECK constraint of a table.
pub fn check_constraint(table: u32, number: usize) -> u32 {
    (table.wrapping_mul(CHECKS_MAX).wrapping_add(number as u32) % CHECK_BASE) | CONSTRAINT_BASE | CHECK_BASE
}

/// The oid of the n-th foreign key of a table.
pub fn foreign_key(table: u32, number: usize) -> u32 {
    check_constraint(table, FIRST_FOREIGN_KEY + number)
}

/// A constraint that an oid names.
pub enum Constraint {
    /// As [`key_constraint`] has made it.
    Key {
        of: u32,
    },
    /// The table, as far as the oid tells, and the constraint's number.
    Check {
        table: u32,
        number: usize,
    },
    ForeignKey {
        table: u32,
        number: usize,
    },
}

/// The constraint that has this oid.
pub fn constraint(oid: u32) -> Option<Constraint> {
    let derived = oid.checked_sub(CONSTRAINT_BASE).filter(|oid| *oid < INDEX_BASE)?;
    Some(match derived.checked_sub(CHECK_BASE) {
        None => Constraint::Key { of: derived },
        Some(check) => {
            let (table, number) = (check / CHECKS_MAX, (check % CHECKS_MAX) as usize);
            match number.checked_sub(FIRST_FOREIGN_KEY) {
                None => Constraint::Check { table, number },
                Some(number) => Constraint::ForeignKey { table, number },
            }
        }
    })
}

/// The oid of a column's default. Columns are numbered from 1.
pub fn column_default(table: u32, column: usize) -> u32 {
    DEFAULT_BASE
        .wrapping_add(table.wrapping_mul(2_048))
        .wrapping_add(column as u32)
        | DEFAULT_BASE
}

/// Oids that clients know by heart; other views are numbered by [`view`].
const KNOWN_VIEWS: [(&str, u32); 12] = [
    ("pg_type", 1247),
    ("pg_attribute", 1249),
    ("pg_proc", 1255),
    ("pg_class", 1259),
    ("pg_authid", 1260),
    ("pg_database", 1262),
    ("pg_attrdef", 2604),
    ("pg_constraint", 2606),
    ("pg_description", 2609),
    ("pg_index", 2610),
    ("pg_namespace", 2615),
    ("pg_am", 2601),
];

/// The oid of the n-th view in `pg_class`.
pub fn view(name: &str, number: usize) -> u32 {
    KNOWN_VIEWS
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(12_000 + number as u32, |(_, oid)| *oid)
}
