//! CREATE, ALTER and DROP SEQUENCE.

use super::table::{cascade, table_name, table_names};
use crate::error::Error;
use crate::plan::cursor::Cursor;
use crate::plan::sequence::SequenceClauses;
use crate::plan::statement::{SequenceStatement, Statement};

/// Behind CREATE; `None`: it is something else.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Result<Option<Statement>, Error> {
    for word in ["temporary", "temp"] {
        if cursor.words(&[word, "sequence"]) {
            return Err(Error::unsupported("CREATE TEMPORARY SEQUENCE"));
        }
    }
    if !cursor.words(&["unlogged", "sequence"]) && !cursor.word("sequence") {
        return Ok(None);
    }
    let if_not_exists = cursor.words(&["if", "not", "exists"]);
    let name = table_name(cursor)?;
    let clauses = SequenceClauses::all(cursor)?;
    if clauses.restart.is_some() || clauses.name.is_some() {
        return Err(Error::syntax("invalid option of CREATE SEQUENCE"));
    }
    Ok(Some(Statement::Sequence(Box::new(SequenceStatement::Create {
        name,
        if_not_exists,
        clauses,
    }))))
}

/// Behind ALTER SEQUENCE.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let if_exists = cursor.words(&["if", "exists"]);
    let name = table_name(cursor)?;
    let statement = if cursor.words(&["rename", "to"]) {
        SequenceStatement::Rename {
            name,
            if_exists,
            to: cursor.identifier()?,
        }
    } else if cursor.words(&["owner", "to"]) {
        // There is one owner.
        cursor.identifier()?;
        SequenceStatement::Alter {
            name,
            if_exists,
            clauses: SequenceClauses::default(),
        }
    } else {
        let clauses = SequenceClauses::all(cursor)?;
        if clauses == SequenceClauses::default() || clauses.name.is_some() {
            return Err(cursor.unexpected());
        }
        SequenceStatement::Alter {
            name,
            if_exists,
            clauses,
        }
    };
    Ok(Statement::Sequence(Box::new(statement)))
}

/// Behind DROP SEQUENCE.
pub(super) fn drop(cursor: &mut Cursor<'_>) -> Result<Statement, Error> {
    let if_exists = cursor.words(&["if", "exists"]);
    let names = table_names(cursor)?;
    let cascade = cascade(cursor);
    Ok(Statement::Sequence(Box::new(SequenceStatement::Drop {
        names,
        if_exists,
        cascade,
    })))
}
