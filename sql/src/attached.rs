//! What is kept with the definition of a table: its expressions, compiled when they are first needed.

use crate::constraint::Checks;
use crate::generated::Generated;
use scry_engine::Table;
use std::sync::OnceLock;

#[derive(Default)]
pub struct Attached {
    checks: OnceLock<Checks>,
    generated: OnceLock<Generated>,
}

fn of(table: &Table) -> &Attached {
    table.attached(Attached::default)
}

pub fn checks(table: &Table) -> &Checks {
    of(table).checks.get_or_init(|| Checks::compile(&table.def))
}

#[inline]
pub fn generated(table: &Table) -> &Generated {
    of(table).generated.get_or_init(|| Generated::compile(&table.def))
}
