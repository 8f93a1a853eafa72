//! Rules: who wins what two sides have changed. Set for a table and for single columns, kept in the catalog.
//!
//! In the log, behind the table's oid: option of row rule, fuzzy u8 (bit 0 insert as update, bit 1 update as insert, bit 2
//! ignore missing), list of column rules. A row rule is its kind u8 and a column number u32 (zero where it names none); a
//! column rule is the column number u32, its kind u8 and a text (empty where it has none).

use crate::catalog::{ColumnDef, TableDef};
use crate::catalog_change::{CatalogChangeError, Reader, put_len, put_text, put_u32};
use std::fmt;

/// What decides a row that both sides have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowRule {
    /// Nobody: the election fails.
    Fail,
    /// A person, later.
    Defer,
    /// What the candidate wants.
    Proposed,
    /// What is there.
    Present,
    /// What was committed last.
    Newest,
    /// What was committed first.
    Oldest,
    /// The row with the greater value in this column.
    Highest(usize),
    /// The row with the lesser value in this column.
    Lowest(usize),
    /// Column by column: what one side alone has changed is that side's, and columns that both have changed follow
    /// their own rules.
    Merge,
}

/// What decides a column that both sides have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnRule {
    Fail,
    Defer,
    Proposed,
    Present,
    Newest,
    Oldest,
    Min,
    Max,
    Average,
    /// The candidate's difference is added to what is there.
    Add,
    /// What is there is multiplied by the candidate's factor.
    Multiply,
    /// Both texts, what is there first, with this between them.
    Concatenate(String),
    /// An expression, opaque to the engine.
    Expression(String),
}

/// Which changes may become others when their row is not there, or is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fuzzy {
    /// An insert whose key exists becomes an update.
    pub insert_as_update: bool,
    /// An update whose row is gone becomes an insert.
    pub update_as_insert: bool,
    /// A deletion whose row is gone is done.
    pub ignore_missing: bool,
}

/// All rules of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub row: Option<RowRule>,
    pub fuzzy: Fuzzy,
    /// By column number, ascending.
    pub columns: Vec<(usize, ColumnRule)>,
}

/// Why a text is no rule for a table or a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    Unknown {
        text: String,
    },
    UndefinedColumn {
        name: String,
    },
    /// The rule computes with numbers, or with texts, and the column holds none.
    WrongType {
        rule: &'static str,
        column: String,
    },
    /// A column of the primary key: rows of different keys never collide.
    KeyColumn {
        column: String,
    },
    /// Adding and multiplying do not commute: a column has one of them for as long as candidates are open.
    Mixed {
        column: String,
    },
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::Unknown { text } => write!(f, "\"{text}\" is no collision rule"),
            RuleError::UndefinedColumn { name } => write!(f, "column \"{name}\" does not exist"),
            RuleError::WrongType { rule, column } => {
                write!(f, "rule \"{rule}\" does not fit the type of column \"{column}\"")
            }
            RuleError::KeyColumn { column } => {
                write!(
                    f,
                    "column \"{column}\" is part of the primary key and cannot collide"
                )
            }
            RuleError::Mixed { column } => write!(
                f,
                "column \"{column}\" cannot change between adding and multiplying while candidates are open"
            ),
        }
    }
}

impl std::error::Error for RuleError {}

const ROW_RULES: [(&str, RowRule); 7] = [
    ("fail", RowRule::Fail),
    ("defer", RowRule::Defer),
    ("proposed", RowRule::Proposed),
    ("present", RowRule::Present),
    ("newest", RowRule::Newest),
    ("oldest", RowRule::Oldest),
    ("merge", RowRule::Merge),
];

/// The rules without arguments. A rule with several names is shown by the first.
const COLUMN_RULES: [(&str, ColumnRule); 14] = [
    ("fail", ColumnRule::Fail),
    ("defer", ColumnRule::Defer),
    ("proposed", ColumnRule::Proposed),
    ("present", ColumnRule::Present),
    ("ignore", ColumnRule::Present),
    ("newest", ColumnRule::Newest),
    ("oldest", ColumnRule::Oldest),
    ("min", ColumnRule::Min),
    ("earliest", ColumnRule::Min),
    ("max", ColumnRule::Max),
    ("latest", ColumnRule::Max),
    ("average", ColumnRule::Average),
    ("add", ColumnRule::Add),
    ("multiply", ColumnRule::Multiply),
];

/// `name(argument)`.
fn call(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('(')?;
    Some((name.trim_end(), rest.strip_suffix(')')?))
}

impl RowRule {
    /// Reads `fail`, `defer`, `proposed`, `present`, `newest`, `oldest`, `merge`, `highest(column)` or `lowest(column)`.
    ///
    /// # Errors
    /// `Unknown`, `UndefinedColumn`.
    pub fn parse(text: &str, table: &TableDef) -> Result<RowRule, RuleError> {
        let text = text.trim();
        if let Some((_, rule)) = ROW_RULES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(*rule);
        }
        let unknown = || RuleError::Unknown {
            text: text.to_owned(),
        };
        let (name, argument) = call(text).ok_or_else(unknown)?;
        let name = name.to_ascii_lowercase();
        if name != "highest" && name != "lowest" {
            return Err(unknown());
        }
        let argument = argument.trim();
        let column = table.column(argument).ok_or_else(|| RuleError::UndefinedColumn {
            name: argument.to_owned(),
        })?;
        Ok(match name.as_str() {
            "highest" => RowRule::Highest(column),
            _ => RowRule::Lowest(column),
        })
    }

    /// The column whose values are compared.
    pub fn column(&self) -> Option<usize> {
        match self {
            RowRule::Highest(column) | RowRule::Lowest(column) => Some(*column),
            _ => None,
        }
    }

    /// The rule as `parse` reads it.
    pub fn text(&self, columns: &[ColumnDef]) -> String {
        let name = |column: &usize| columns.get(*column).map_or("?", |column| column.name.as_str());
        match self {
            RowRule::Highest(column) => format!("highest({})", name(column)),
            RowRule::Lowest(column) => format!("lowest({})", name(column)),
            plain => {
                let known = ROW_RULES.iter().find(|(_, rule)| rule == plain);
                known.map_or_else(String::new, |(name, _)| (*name).to_owned())
            }
        }
    }

    fn kind(&self) -> (u8, usize) {
        match self {
            RowRule::Fail => (0, 0),
            RowRule::Defer => (1, 0),
            RowRule::Proposed => (2, 0),
            RowRule::Present => (3, 0),
            RowRule::Newest => (4, 0),
            RowRule::Oldest => (5, 0),
            RowRule::Highest(column) => (6, *column),
            RowRule::Lowest(column) => (7, *column),
            RowRule::Merge => (8, 0),
        }
    }

    fn of_kind(kind: u8, column: usize) -> Option<RowRule> {
        Some(match kind {
            0 => RowRule::Fail,
            1 => RowRule::Defer,
            2 => RowRule::Proposed,
            3 => RowRule::Present,
            4 => RowRule::Newest,
            5 => RowRule::Oldest,
            6 => RowRule::Highest(column),
            7 => RowRule::Lowest(column),
            8 => RowRule::Merge,
            _ => return None,
        })
    }
}

impl ColumnRule {
    /// Reads the name of a rule, `concatenate(separator)`, or an expression behind `=`.
    ///
    /// # Errors
    /// `Unknown`, `WrongType`.
    pub fn parse(text: &str, column: &ColumnDef) -> Result<ColumnRule, RuleError> {
        let text = text.trim();
        let known = COLUMN_RULES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        let rule = if let Some((_, rule)) = known {
            rule.clone()
        } else if let Some(expression) = text.strip_prefix('=') {
            ColumnRule::Expression(expression.trim().to_owned())
        } else if text.eq_ignore_ascii_case("concatenate") {
            ColumnRule::Concatenate(String::new())
        } else {
            match call(text) {
                Some((name, separator)) if name.eq_ignore_ascii_case("concatenate") => {
                    ColumnRule::Concatenate(separator.to_owned())
                }
                _ => {
                    return Err(RuleError::Unknown {
                        text: text.to_owned(),
                    });
                }
            }
        };
        let wrong_type = |rule| {
            Err(RuleError::WrongType {
                rule,
                column: column.name.clone(),
            })
        };
        match &rule {
            ColumnRule::Add if !column.ty.is_number() => wrong_type("add"),
            ColumnRule::Multiply if !column.ty.is_number() => wrong_type("multiply"),
            ColumnRule::Average if !column.ty.is_number() => wrong_type("average"),
            ColumnRule::Concatenate(_) if !column.ty.is_text() => wrong_type("concatenate"),
            _ => Ok(rule),
        }
    }

    /// The rule as `parse` reads it.
    pub fn text(&self) -> String {
        match self {
            ColumnRule::Concatenate(separator) if separator.is_empty() => "concatenate".to_owned(),
            ColumnRule::Concatenate(separator) => format!("concatenate({separator})"),
            ColumnRule::Expression(expression) => format!("= {expression}"),
            plain => {
                let known = COLUMN_RULES.iter().find(|(_, rule)| rule == plain);
                known.map_or_else(String::new, |(name, _)| (*name).to_owned())
            }
        }
    }

    fn kind(&self) -> (u8, &str) {
        match self {
            ColumnRule::Fail => (0, ""),
            ColumnRule::Defer => (1, ""),
            ColumnRule::Proposed => (2, ""),
            ColumnRule::Present => (3, ""),
            ColumnRule::Newest => (4, ""),
            ColumnRule::Oldest => (5, ""),
            ColumnRule::Min => (6, ""),
            ColumnRule::Max => (7, ""),
            ColumnRule::Average => (8, ""),
            ColumnRule::Add => (9, ""),
            ColumnRule::Multiply => (10, ""),
            ColumnRule::Concatenate(separator) => (11, separator),
            ColumnRule::Expression(expression) => (12, expression),
        }
    }

    fn of_kind(kind: u8, text: String) -> Option<ColumnRule> {
        Some(match kind {
            0 => ColumnRule::Fail,
            1 => ColumnRule::Defer,
            2 => ColumnRule::Proposed,
            3 => ColumnRule::Present,
            4 => ColumnRule::Newest,
            5 => ColumnRule::Oldest,
            6 => ColumnRule::Min,
            7 => ColumnRule::Max,
            8 => ColumnRule::Average,
            9 => ColumnRule::Add,
            10 => ColumnRule::Multiply,
            11 => ColumnRule::Concatenate(text),
            12 => ColumnRule::Expression(text),
            _ => return None,
        })
    }
}

impl Fuzzy {
    const NAMES: [&'static str; 3] = ["insert_as_update", "update_as_insert", "ignore_missing"];

    /// Reads a list of `insert_as_update`, `update_as_insert` and `ignore_missing`, separated by commas.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn parse(text: &str) -> Result<Fuzzy, RuleError> {
        let mut bits = 0;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let known = Self::NAMES
                .iter()
                .position(|name| name.eq_ignore_ascii_case(word));
            bits |= 1
                << known.ok_or_else(|| RuleError::Unknown {
                    text: word.to_owned(),
                })?;
        }
        Ok(Fuzzy::of_bits(bits))
    }

    /// The list as `parse` reads it.
    pub fn text(&self) -> String {
        let names = Self::NAMES.iter().enumerate();
        let set = names.filter(|(bit, _)| self.bits() & (1 << bit) != 0);
        set.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    }

    fn bits(&self) -> u8 {
        u8::from(self.insert_as_update)
            | u8::from(self.update_as_insert) << 1
            | u8::from(self.ignore_missing) << 2
    }

    fn of_bits(bits: u8) -> Fuzzy {
        Fuzzy {
            insert_as_update: bits & 1 != 0,
            update_as_insert: bits & 2 != 0,
            ignore_missing: bits & 4 != 0,
        }
    }
}

impl Rules {
    /// No rule at all.
    pub fn is_empty(&self) -> bool {
        *self == Rules::default()
    }

    /// The rule of one column.
    pub fn column(&self, column: usize) -> Option<&ColumnRule> {
        let found = self.columns.binary_search_by_key(&column, |(column, _)| *column);
        found.ok().map(|index| &self.columns[index].1)
    }

    /// Sets or takes away the rule of one column.
    pub fn set_column(&mut self, column: usize, rule: Option<ColumnRule>) {
        self.columns.retain(|(known, _)| *known != column);
        self.columns.extend(rule.map(|rule| (column, rule)));
        self.columns.sort_by_key(|(column, _)| *column);
    }

    /// The rules less those of some columns.
    pub(crate) fn without(&self, columns: &[usize]) -> Rules {
        let mut rules = self.clone();
        rules.columns.retain(|(column, _)| !columns.contains(column));
        rules
    }

    /// The rules less those that look at columns that are dropped.
    pub(crate) fn of_living(&self, dropped: &[usize]) -> Rules {
        let mut rules = self.without(dropped);
        let is_gone = |row: &RowRule| row.column().is_some_and(|column| dropped.contains(&column));
        rules.row = rules.row.filter(|row| !is_gone(row));
        rules
    }

    /// Columns that one set of rules adds to and the other multiplies.
    pub(crate) fn mixes(&self, next: &Rules) -> Option<usize> {
        let relative = |rule: &ColumnRule| matches!(rule, ColumnRule::Add | ColumnRule::Multiply);
        let found = self.columns.iter().find(|(column, rule)| {
            let other = next.column(*column);
            relative(rule) && other.is_some_and(|other| relative(other) && other != rule)
        });
        found.map(|(column, _)| *column)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.row.is_some()));
        if let Some(row) = &self.row {
            let (kind, column) = row.kind();
            out.push(kind);
            put_len(out, column);
        }
        out.push(self.fuzzy.bits());
        put_len(out, self.columns.len());
        for (column, rule) in &self.columns {
            let (kind, text) = rule.kind();
            put_u32(out, u32::try_from(*column).expect("bounded by MAX_COLUMNS"));
            out.push(kind);
            put_text(out, text);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Rules, CatalogChangeError> {
        let unknown = |reader: &Reader<'_>| reader.error("unknown collision rule");
        let row = match reader.flag()? {
            false => None,
            true => {
                let (kind, column) = (reader.u8()?, reader.u32()? as usize);
                Some(RowRule::of_kind(kind, column).ok_or_else(|| unknown(reader))?)
            }
        };
        let bits = reader.u8()?;
        let columns = reader.list(|reader| {
            let column = reader.u32()? as usize;
            let (kind, text) = (reader.u8()?, reader.text()?);
            let rule = ColumnRule::of_kind(kind, text).ok_or_else(|| unknown(reader))?;
            Ok((column, rule))
        })?;
        let ascending = columns.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if bits >= 8 || !ascending {
            return Err(unknown(reader));
        }
        Ok(Rules {
            row,
            fuzzy: Fuzzy::of_bits(bits),
            columns,
        })
    }
}
