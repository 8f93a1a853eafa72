//! LISTEN, UNLISTEN and NOTIFY.

use crate::error::Error;
use crate::plan::cursor::Cursor;
use crate::plan::lex::Kind;
use crate::plan::statement::NotifyStatement;

/// Behind `word`, with which the statement begins.
pub(super) fn parse(word: &str, cursor: &mut Cursor<'_>) -> Result<NotifyStatement, Error> {
    if word == "unlisten" && cursor.operator("*") {
        return Ok(NotifyStatement::UnlistenAll);
    }
    let channel = cursor.identifier()?;
    Ok(match word {
        "listen" => NotifyStatement::Listen(channel),
        "unlisten" => NotifyStatement::Unlisten(channel),
        _ => {
            let payload = match cursor.kind(Kind::Comma) {
                true => cursor.string()?,
                false => String::new(),
            };
            NotifyStatement::Notify { channel, payload }
        }
    })
}
