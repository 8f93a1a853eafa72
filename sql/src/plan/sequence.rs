//! What statements say about sequences, and what becomes of it: PostgreSQL's defaults, checks and messages.

use crate::error::{Error, SqlState};
use crate::expr;
use crate::plan::cursor::Cursor;
use crate::plan::lex::Kind;
use crate::plan::parse;
use scry_engine::{DataType, SequenceOptions};
use sqlparser::ast;

/// The options of CREATE and ALTER SEQUENCE and of identity columns; `None`: not mentioned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SequenceClauses {
    pub ty: Option<DataType>,
    pub increment: Option<i64>,
    /// `Some(None)`: NO MINVALUE.
    pub min: Option<Option<i64>>,
    pub max: Option<Option<i64>>,
    pub start: Option<i64>,
    /// `Some(None)`: RESTART without a number.
    pub restart: Option<Option<i64>>,
    pub cache: Option<i64>,
    pub cycle: Option<bool>,
    pub owned_by: Option<OwnedBy>,
    /// SEQUENCE NAME, which pg_dump gives identity columns.
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedBy {
    None,
    Column { table: String, column: String },
}

fn redundant() -> Error {
    Error::syntax("conflicting or redundant options")
}

fn set<T>(place: &mut Option<T>, value: T) -> Result<(), Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(redundant()),
    }
}

fn invalid(text: String) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, text)
}

fn number(cursor: &mut Cursor<'_>) -> Result<i64, Error> {
    let sign = match cursor.operator("-") {
        true => "-",
        false => {
            cursor.operator("+");
            ""
        }
    };
    let token = cursor.expect(Kind::Integer)?;
    let text = format!("{sign}{}", token.text(cursor.sql));
    text.parse().map_err(|_| {
        Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("value \"{text}\" is out of range for type bigint"),
        )
    })
}

impl SequenceClauses {
    /// Takes the next option, if one stands there.
    pub fn option(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Error> {
        if cursor.word("increment") {
            cursor.word("by");
            set(&mut self.increment, number(cursor)?)?;
        } else if cursor.word("minvalue") {
            set(&mut self.min, Some(number(cursor)?))?;
        } else if cursor.words(&["no", "minvalue"]) {
            set(&mut self.min, None)?;
        } else if cursor.word("maxvalue") {
            set(&mut self.max, Some(number(cursor)?))?;
        } else if cursor.words(&["no", "maxvalue"]) {
            set(&mut self.max, None)?;
        } else if cursor.word("start") {
            cursor.word("with");
            set(&mut self.start, number(cursor)?)?;
        } else if cursor.word("restart") {
            let with = cursor.word("with");
            let at_number = cursor.peek().is_some_and(|token| {
                token.kind == Kind::Integer || matches!(token.text(cursor.sql), "-" | "+")
            });
            let first = match with || at_number {
                true => Some(number(cursor)?),
                false => None,
            };
            set(&mut self.restart, first)?;
        } else if cursor.word("cache") {
            set(&mut self.cache, number(cursor)?)?;
        } else if cursor.word("cycle") {
            set(&mut self.cycle, true)?;
        } else if cursor.words(&["no", "cycle"]) {
            set(&mut self.cycle, false)?;
        } else if cursor.word("as") {
            let mut name = cursor.dotted()?;
            let name = name.pop().unwrap_or_default();
            set(&mut self.ty, integer_type(&name)?)?;
        } else if cursor.words(&["owned", "by"]) {
            let mut parts = cursor.dotted()?;
            let owner = match (parts.pop(), parts.pop()) {
                (Some(none), None) if none == "none" => OwnedBy::None,
                (Some(column), Some(table)) => {
                    parse::check_schema(&parts, &table)?;
                    OwnedBy::Column { table, column }
                }
                _ => {
                    return Err(Error::syntax("invalid OWNED BY option")
                        .with_hint("Specify OWNED BY table.column or OWNED BY NONE."));
                }
            };
            set(&mut self.owned_by, owner)?;
        } else if cursor.words(&["sequence", "name"]) {
            let mut parts = cursor.dotted()?;
            let name = parts.pop().unwrap_or_default();
            parse::check_schema(&parts, &name)?;
            set(&mut self.name, name)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// All options that stand there.
    pub fn all(cursor: &mut Cursor<'_>) -> Result<SequenceClauses, Error> {
        let mut clauses = SequenceClauses::default();
        while clauses.option(cursor)? {}
        Ok(clauses)
    }

    /// The options in parentheses behind AS IDENTITY, if there are any.
    pub fn of_identity(cursor: &mut Cursor<'_>) -> Result<SequenceClauses, Error> {
        if !cursor.kind(Kind::LeftParen) {
            return Ok(SequenceClauses::default());
        }
        let clauses = SequenceClauses::all(cursor)?;
        cursor.expect(Kind::RightParen)?;
        Ok(clauses)
    }

    /// The same of a parsed column definition.
    pub fn of_options(options: &[ast::SequenceOptions]) -> Result<SequenceClauses, Error> {
        let mut clauses = SequenceClauses::default();
        let number = |expr: &ast::Expr| {
            let text = expr.to_string().replace(' ', "");
            text.trim_start_matches('+')
                .parse::<i64>()
                .map_err(|_| Error::syntax(format!("syntax error at or near \"{text}\"")))
        };
        for option in options {
            match option {
                ast::SequenceOptions::IncrementBy(by, _) => set(&mut clauses.increment, number(by)?)?,
                ast::SequenceOptions::MinValue(min) => {
                    set(&mut clauses.min, min.as_ref().map(number).transpose()?)?;
                }
                ast::SequenceOptions::MaxValue(max) => {
                    set(&mut clauses.max, max.as_ref().map(number).transpose()?)?;
                }
                ast::SequenceOptions::StartWith(start, _) => set(&mut clauses.start, number(start)?)?,
                ast::SequenceOptions::Cache(cache) => set(&mut clauses.cache, number(cache)?)?,
                // In sqlparser it says whether NO stands before it.
                ast::SequenceOptions::Cycle(no) => set(&mut clauses.cycle, !no)?,
            }
        }
        Ok(clauses)
    }

    /// The options of a new sequence.
    pub fn new_options(&self, ty: DataType) -> Result<SequenceOptions, Error> {
        self.applied(None, self.ty.unwrap_or(ty))
    }

    /// What the options of a sequence become.
    pub fn changed(&self, known: &SequenceOptions) -> Result<SequenceOptions, Error> {
        self.applied(Some(known), self.ty.unwrap_or(known.ty))
    }

    fn applied(&self, known: Option<&SequenceOptions>, ty: DataType) -> Result<SequenceOptions, Error> {
        let (least, greatest) = range(ty);
        let increment = self.increment.or(known.map(|known| known.increment)).unwrap_or(1);
        if increment == 0 {
            return Err(invalid("INCREMENT must not be zero".to_owned()));
        }
        // Bounds that were those of the old type become those of the new one.
        let kept = known.map(|known| {
            let of_old = range(known.ty);
            let changes = known.ty != ty;
            (
                (!(changes && known.min == of_old.0)).then_some(known.min),
                (!(changes && known.max == of_old.1)).then_some(known.max),
            )
        });
        let (kept_min, kept_max) = kept.unwrap_or_default();
        let max = match self.max {
            Some(Some(max)) => max,
            None if kept_max.is_some() => kept_max.unwrap_or_default(),
            _ if increment > 0 => greatest,
            _ if known.is_some() && self.max.is_none() => greatest,
            _ => -1,
        };
        let min = match self.min {
            Some(Some(min)) => min,
            None if kept_min.is_some() => kept_min.unwrap_or_default(),
            _ if increment < 0 => least,
            _ if known.is_some() && self.min.is_none() => least,
            _ => 1,
        };
        let name = expr::plain_name(&ty);
        for (what, bound) in [("MAXVALUE", max), ("MINVALUE", min)] {
            if !(least..=greatest).contains(&bound) {
                return Err(invalid(format!(
                    "{what} ({bound}) is out of range for sequence data type {name}"
                )));
            }
        }
        if min >= max {
            return Err(invalid(format!(
                "MINVALUE ({min}) must be less than MAXVALUE ({max})"
            )));
        }
        let first = if increment > 0 { min } else { max };
        let start = self.start.or(known.map(|known| known.start)).unwrap_or(first);
        within("START", start, min, max)?;
        if let Some(restart) = self.restart {
            within("RESTART", restart.unwrap_or(start), min, max)?;
        }
        let cache = self.cache.or(known.map(|known| known.cache)).unwrap_or(1);
        if cache < 1 {
            return Err(invalid(format!("CACHE ({cache}) must be greater than zero")));
        }
        Ok(SequenceOptions {
            ty,
            start,
            increment,
            min,
            max,
            cache,
            cycle: self
                .cycle
                .unwrap_or_else(|| known.is_some_and(|known| known.cycle)),
        })
    }
}

/// Refuses a number beyond the bounds; `what` is its clause.
pub fn within(what: &str, number: i64, min: i64, max: i64) -> Result<(), Error> {
    if number < min {
        return Err(invalid(format!(
            "{what} value ({number}) cannot be less than MINVALUE ({min})"
        )));
    }
    if number > max {
        return Err(invalid(format!(
            "{what} value ({number}) cannot be greater than MAXVALUE ({max})"
        )));
    }
    Ok(())
}

/// The least and the greatest number of an integer type.
pub fn range(ty: DataType) -> (i64, i64) {
    match ty {
        DataType::Int2 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int4 => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    }
}

fn integer_type(name: &str) -> Result<DataType, Error> {
    Ok(match name {
        "smallint" | "int2" => DataType::Int2,
        "integer" | "int" | "int4" => DataType::Int4,
        "bigint" | "int8" => DataType::Int8,
        _ => {
            return Err(invalid(
                "sequence type must be smallint, integer, or bigint".to_owned(),
            ));
        }
    })
}

/// The integer type that `serial` and its kin stand for.
pub fn serial_type(ty: &ast::DataType) -> Option<DataType> {
    Some(match ty.to_string().to_ascii_lowercase().as_str() {
        "smallserial" | "serial2" => DataType::Int2,
        "serial" | "serial4" => DataType::Int4,
        "bigserial" | "serial8" => DataType::Int8,
        _ => return None,
    })
}
