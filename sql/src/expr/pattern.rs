//! SIMILAR TO and the operators `~`, `~*`: PostgreSQL's regular expressions on a library that finds in linear time.
//!
//! A pattern of SIMILAR TO is first written as an advanced regular expression, by the rules of PostgreSQL's `similar_to_escape`
//! (`%` is `.*`, `_` is `.`, the whole text has to match); an advanced regular expression (documentation, 9.7.3) is then
//! written as the library wants it, where every character that is none of PostgreSQL's syntax is quoted. What the library cannot do, back references and looking around, is refused.
//!
//! A thread keeps the last patterns that it has compiled, as a session of PostgreSQL does: most are constants, and those that are not are few.

use crate::error::{Error, SqlState};
use regex::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// How many compiled patterns a thread keeps: as many as PostgreSQL does.
const KEPT_MAX: usize = 32;

/// The greatest number in `{m,n}`, as in PostgreSQL.
const REPETITIONS_MAX: u32 = 255;

/// How a pattern is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// SIMILAR TO, with its escape character, if there is one.
    Similar(Option<char>),
    /// `~`, or `~*`.
    Advanced { fold_case: bool },
}

struct Kept {
    syntax: Syntax,
    pattern: String,
    regex: Regex,
}

thread_local! {
    /// The last one used stands first.
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Whether `text` matches `pattern`.
///
/// # Errors
/// 2201B for a pattern that is none, 0A000 for one that is not supported.
pub(super) fn matches(text: &str, pattern: &str, syntax: Syntax) -> Result<bool, Error> {
    KEPT.with_borrow_mut(|kept| {
        let known = kept
            .iter()
            .position(|kept| kept.syntax == syntax && kept.pattern == pattern);
        match known {
            Some(0) => {}
            Some(at) => kept[..=at].rotate_right(1),
            None => {
                let regex = compile(pattern, syntax)?;
                kept.truncate(KEPT_MAX - 1);
                let pattern = pattern.to_owned();
                kept.insert(
                    0,
                    Kept {
                        syntax,
                        pattern,
                        regex,
                    },
                );
            }
        }
        Ok(kept.first().is_some_and(|first| first.regex.is_match(text)))
    })
}

/// The escape character that a text names.
pub(super) fn escape_character(text: &str) -> Result<Option<char>, Error> {
    let mut characters = text.chars();
    let escape = characters.next();
    if characters.next().is_some() {
        return Err(
            Error::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
                .with_hint("Escape string must be empty or one character."),
        );
    }
    Ok(escape)
}

fn invalid(what: &str) -> Error {
    Error::new(
        SqlState::INVALID_REGULAR_EXPRESSION,
        format!("invalid regular expression: {what}"),
    )
}

fn unsupported(what: &str) -> Error {
    Error::unsupported(format!("{what} in a regular expression"))
}

fn compile(pattern: &str, syntax: Syntax) -> Result<Regex, Error> {
    let (written, fold_case) = match syntax {
        Syntax::Similar(escape) => (written(&advanced(pattern, escape)?)?, false),
        Syntax::Advanced { fold_case } => {
            let (option, pattern) = with_options(pattern)?;
            (written(pattern)?, option.unwrap_or(fold_case))
        }
    };
    RegexBuilder::new(&written)
        .case_insensitive(fold_case)
        .dot_matches_new_line(true)
        .build()
        .map_err(|_| invalid("regular expression is too complex"))
}

/// A pattern of SIMILAR TO as an advanced regular expression.
fn advanced(pattern: &str, escape: Option<char>) -> Result<String, Error> {
    let mut out = String::from("^(?:");
    let (mut escaped, mut in_class, mut separators) = (false, false, 0);
    for character in pattern.chars() {
        if escaped {
            escaped = false;
            // Separators of SUBSTRING, which mean nothing here.
            if character == '"' && !in_class {
                out.push_str(match separators {
                    0 => "){1,1}?(",
                    1 => "){1,1}(?:",
                    _ => {
                        return Err(Error::new(
                            SqlState::INVALID_USE_OF_ESCAPE_CHARACTER,
                            "SQL regular expression may not contain more than two escape-double-quote separators",
                        ));
                    }
                });
                separators += 1;
            } else {
                out.push('\\');
                out.push(character);
            }
        } else if Some(character) == escape {
            escaped = true;
        } else if in_class {
            if character == '\\' {
                out.push('\\');
            }
            out.push(character);
            in_class = character != ']';
        } else {
            match character {
                '%' => out.push_str(".*"),
                '_' => out.push('.'),
                '(' => out.push_str("(?:"),
                '\\' | '.' | '^' | '$' => {
                    out.push('\\');
                    out.push(character);
                }
                other => {
                    in_class = other == '[';
                    out.push(other);
                }
            }
        }
    }
    out.push_str(")$");
    Ok(out)
}

/// What stands before an advanced regular expression: whether it says how cases count, and the rest.
fn with_options(pattern: &str) -> Result<(Option<bool>, &str), Error> {
    if pattern.starts_with("***") {
        return Err(unsupported("a director (***)"));
    }
    let options = pattern
        .strip_prefix("(?")
        .and_then(|rest| rest.split_once(')'))
        .filter(|(options, _)| {
            !options.is_empty() && options.bytes().all(|option| option.is_ascii_alphabetic())
        });
    let Some((options, rest)) = options else {
        return Ok((None, pattern));
    };
    let mut fold_case = None;
    for option in options.chars() {
        match option {
            'i' => fold_case = Some(true),
            'c' => fold_case = Some(false),
            's' | 't' => {}
            'b' | 'e' | 'm' | 'n' | 'p' | 'q' | 'w' | 'x' => {
                return Err(unsupported(&format!("the option {option}")));
            }
            _ => return Err(invalid("invalid embedded option")),
        }
    }
    Ok((fold_case, rest))
}

/// An advanced regular expression in the library's syntax.
fn written(pattern: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    // Whether there is something before that a quantifier may stand behind.
    let mut atom = false;
    let mut open = 0u32;
    while let Some(character) = rest.next() {
        match character {
            '\\' => atom = escape(&mut rest, &mut out)?,
            '[' => {
                bracket(&mut rest, &mut out)?;
                atom = true;
            }
            '(' => {
                group(&mut rest, &mut out)?;
                open += 1;
                atom = false;
            }
            ')' => {
                open = open
                    .checked_sub(1)
                    .ok_or_else(|| invalid("parentheses () not balanced"))?;
                out.push(')');
                atom = true;
            }
            '|' | '^' | '$' => {
                out.push(character);
                atom = false;
            }
            '.' => {
                out.push('.');
                atom = true;
            }
            '*' | '+' | '?' => {
                quantifier(&mut atom)?;
                out.push(character);
                lazy(&mut rest, &mut out);
            }
            '{' if rest.peek().is_some_and(char::is_ascii_digit) => {
                quantifier(&mut atom)?;
                bound(&mut rest, &mut out)?;
                lazy(&mut rest, &mut out);
            }
            literal => {
                push_literal(literal, &mut out);
                atom = true;
            }
        }
    }
    if open > 0 {
        return Err(invalid("parentheses () not balanced"));
    }
    Ok(out)
}

type Rest<'p> = Peekable<Chars<'p>>;

fn push_literal(character: char, out: &mut String) {
    let mut bytes = [0; 4];
    out.push_str(&regex::escape(character.encode_utf8(&mut bytes)));
}

fn quantifier(atom: &mut bool) -> Result<(), Error> {
    if !std::mem::replace(atom, false) {
        return Err(invalid("quantifier operand invalid"));
    }
    Ok(())
}

/// `?` behind a quantifier. It changes what is found, not whether.
fn lazy(rest: &mut Rest<'_>, out: &mut String) {
    if let Some(mark) = rest.next_if_eq(&'?') {
        out.push(mark);
    }
}

/// `{m}`, `{m,}` or `{m,n}`, behind the brace.
fn bound(rest: &mut Rest<'_>, out: &mut String) -> Result<(), Error> {
    let least = repetitions(rest)?.unwrap_or(0);
    let most = match rest.next_if_eq(&',') {
        Some(_) => repetitions(rest)?,
        None => Some(least),
    };
    match rest.next() {
        Some('}') => {}
        Some(_) => return Err(invalid("invalid repetition count(s)")),
        None => return Err(invalid("braces {} not balanced")),
    }
    let _ = match most {
        Some(most) if most < least => return Err(invalid("invalid repetition count(s)")),
        Some(most) => write!(out, "{{{least},{most}}}"),
        None => write!(out, "{{{least},}}"),
    };
    Ok(())
}

fn repetitions(rest: &mut Rest<'_>) -> Result<Option<u32>, Error> {
    let mut value = None;
    while let Some(digit) = rest.peek().and_then(|digit| digit.to_digit(10)) {
        rest.next();
        let next = value.unwrap_or(0) * 10 + digit;
        if next > REPETITIONS_MAX {
            return Err(invalid("invalid repetition count(s)"));
        }
        value = Some(next);
    }
    Ok(value)
}

/// Behind `(`.
fn group(rest: &mut Rest<'_>, out: &mut String) -> Result<(), Error> {
    out.push_str("(?:");
    if rest.next_if_eq(&'?').is_none() {
        return Ok(());
    }
    match rest.next() {
        Some(':') => Ok(()),
        Some('=' | '!' | '<') => Err(unsupported("looking ahead or behind")),
        _ => Err(invalid("quantifier operand invalid")),
    }
}

/// Behind `\`. Gives whether a quantifier may follow.
fn escape(rest: &mut Rest<'_>, out: &mut String) -> Result<bool, Error> {
    let bad = || invalid("invalid escape \\ sequence");
    let character = rest.next().ok_or_else(bad)?;
    let constraint = match character {
        'A' => "\\A",
        'Z' => "\\z",
        'm' => "\\b{start}",
        'M' => "\\b{end}",
        'y' => "\\b",
        'Y' => "\\B",
        shorthand if members(shorthand).is_some() => {
            out.push('[');
            push_shorthand(shorthand, out);
            out.push(']');
            return Ok(true);
        }
        _ => {
            push_literal(escaped(character, rest)?, out);
            return Ok(true);
        }
    };
    out.push_str(constraint);
    Ok(false)
}

/// The character that an escape stands for.
fn escaped(character: char, rest: &mut Rest<'_>) -> Result<char, Error> {
    let bad = || invalid("invalid escape \\ sequence");
    Ok(match character {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'B' => '\\',
        'c' => char::from(rest.next().and_then(|of| u8::try_from(of).ok()).ok_or_else(bad)? & 0x1f),
        'e' => '\u{1b}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        'u' | 'U' | 'x' => {
            let digits = match character {
                'u' => 4..=4,
                'U' => 8..=8,
                _ => 1..=8,
            };
            let (mut code, mut read) = (0u32, 0);
            while read < *digits.end()
                && let Some(digit) = rest.peek().and_then(|digit| digit.to_digit(16))
            {
                rest.next();
                code = code << 4 | digit;
                read += 1;
            }
            let code = digits.contains(&read).then_some(code);
            code.and_then(char::from_u32).ok_or_else(bad)?
        }
        '0'..='9' => return Err(unsupported("a back reference or an octal number")),
        other if other.is_ascii_alphanumeric() => return Err(bad()),
        other => other,
    })
}

/// Behind `[`, to its `]`.
fn bracket(rest: &mut Rest<'_>, out: &mut String) -> Result<(), Error> {
    let unbalanced = || invalid("brackets [] not balanced");
    let ahead: String = rest.clone().take(6).collect();
    for (mark, constraint) in [("[:<:]]", "\\b{start}"), ("[:>:]]", "\\b{end}")] {
        if ahead == mark {
            rest.nth(mark.len() - 1);
            out.push_str(constraint);
            return Ok(());
        }
    }
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut first = true;
    loop {
        let character = rest.next().ok_or_else(unbalanced)?;
        let low = match character {
            ']' if !first => {
                out.push(']');
                return Ok(());
            }
            '[' if rest.next_if_eq(&':').is_some() => {
                class(rest, out)?;
                first = false;
                continue;
            }
            '\\' if rest.peek().is_some_and(|next| members(*next).is_some()) => {
                if let Some(shorthand) = rest.next() {
                    push_shorthand(shorthand, out);
                }
                first = false;
                continue;
            }
            other => single(other, rest)?,
        };
        first = false;
        let mut ahead = rest.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|next| next != ']');
        push_literal(low, out);
        if is_range {
            rest.next();
            let high = rest.next().ok_or_else(unbalanced)?;
            if high == '\\' && rest.peek().is_some_and(|next| members(*next).is_some()) {
                return Err(invalid("invalid character range"));
            }
            let high = single(high, rest)?;
            if high < low {
                return Err(invalid("invalid character range"));
            }
            out.push('-');
            push_literal(high, out);
        }
    }
}

/// One character of a bracket expression, which begins with `character`.
fn single(character: char, rest: &mut Rest<'_>) -> Result<char, Error> {
    match character {
        '\\' => {
            let next = rest.next().ok_or_else(|| invalid("invalid escape \\ sequence"))?;
            escaped(next, rest)
        }
        '[' if matches!(rest.peek(), Some('.' | '=')) => {
            let mark = rest.next();
            let element = rest.next();
            match (element, rest.next(), rest.next()) {
                (Some(element), close, Some(']')) if close == mark => Ok(element),
                _ => Err(invalid("invalid collating element")),
            }
        }
        other => Ok(other),
    }
}

/// Behind `[:` in a bracket expression.
fn class(rest: &mut Rest<'_>, out: &mut String) -> Result<(), Error> {
    let mut name = String::new();
    while let Some(letter) = rest.next_if(char::is_ascii_alphabetic) {
        name.push(letter);
    }
    if rest.next() != Some(':') || rest.next() != Some(']') {
        return Err(invalid("invalid character class"));
    }
    let members = match name.as_str() {
        "alnum" => ALNUM,
        "alpha" => "\\p{Alphabetic}",
        "blank" => "\\t\\p{Zs}",
        "cntrl" => "\\p{Cc}",
        "digit" => DIGIT,
        "graph" => "^\\s\\p{Cc}\\p{Cn}\\p{Cs}",
        "lower" => "\\p{Lowercase}",
        "print" => "^\\p{Cc}\\p{Cn}\\p{Cs}",
        "punct" => "\\p{P}\\p{S}",
        "space" => SPACE,
        "upper" => "\\p{Uppercase}",
        "word" => WORD,
        "xdigit" => "0-9A-Fa-f",
        _ => return Err(invalid("invalid character class")),
    };
    let _ = write!(out, "[{members}]");
    Ok(())
}

const ALNUM: &str = "\\p{Alphabetic}\\p{Nd}";
const WORD: &str = "\\p{Alphabetic}\\p{Nd}_";
const DIGIT: &str = "0-9";
/// What breaks no line does not count as space.
const SPACE: &str = "\\s--[\\x{a0}\\x{2007}\\x{202f}]";

/// The characters of a shorthand, or those that it leaves out.
fn members(shorthand: char) -> Option<&'static str> {
    match shorthand {
        'd' | 'D' => Some(DIGIT),
        's' | 'S' => Some(SPACE),
        'w' | 'W' => Some(WORD),
        _ => None,
    }
}

/// Writes a shorthand into a bracket expression.
fn push_shorthand(shorthand: char, out: &mut String) {
    let negation = if shorthand.is_ascii_uppercase() { "^" } else { "" };
    let _ = write!(out, "[{negation}{}]", members(shorthand).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_patterns_match_as_in_postgresql() {
        for (text, pattern, expected) in [
            ("abc", "abc", true),
            ("abc", "a", false),
            ("abc", "a%", true),
            ("abc", "_b_", true),
            ("abc", "%(b|d)%", true),
            ("abc", "(b|c)%", false),
            ("abc", "a|abc", true),
            ("xabc", "a|abc", false),
            ("aab", "a+b", true),
            ("b", "a*b", true),
            ("ab", "a?b", true),
            ("aaa", "a{3}", true),
            ("aaa", "a{1,2}", false),
            ("aaa", "a{2,}", true),
            ("a.c", "a.c", true),
            ("abc", "a.c", false),
            ("a^$c", "a^$c", true),
            ("a%c", "a\\%c", true),
            ("abc", "a\\%c", false),
            ("b", "[a-c]", true),
            ("d", "[^a-c]", true),
            ("%", "[%_]", true),
            ("x", "[%_]", false),
            ("5", "[[:digit:]]", true),
            ("]", "[]]", true),
            ("a\nb", "a%b", true),
            ("", "%", true),
            ("", "", true),
            ("é", "_", true),
            ("a", "a\\", true),
            ("ab", "a\"b", false),
            ("a5", "a\\d", true),
        ] {
            assert_eq!(
                matches(text, pattern, Syntax::Similar(Some('\\'))),
                Ok(expected),
                "{text} SIMILAR TO {pattern}"
            );
        }
        assert_eq!(matches("a%", "a#%", Syntax::Similar(Some('#'))), Ok(true));
        assert_eq!(matches("a\\b", "a\\_", Syntax::Similar(None)), Ok(true));
    }

    #[test]
    fn regular_expressions_match_as_in_postgresql() {
        let exact = Syntax::Advanced { fold_case: false };
        for (text, pattern, expected) in [
            ("a\nc", "a.c", true),
            ("abc", "A", false),
            ("abc", "(?i)A", true),
            ("one two", "\\mtwo", true),
            ("one two", "\\mwo", false),
            ("one two", "one\\y", true),
            ("[x]", "[[x]", true),
            ("a&&b", "[a&&b]{4}", true),
            ("{a", "{a", true),
            ("a", "", true),
            ("a", "b|", true),
            ("-", "[a-]", true),
            ("#", "x#| #|#", true),
            ("é", "[[:alpha:]]", true),
            ("é", "^\\w$", true),
            ("\u{301}", "\\w", false),
            ("١", "\\d", false),
            ("\u{a0}", "\\s", false),
            ("\u{2003}", "[[:space:]]", true),
            ("²", "[[:alnum:]]", false),
            ("b", "[\\D]", true),
            ("b", "[^\\D]", false),
            ("a{,2}", "a{,2}", true),
            ("a", "[[.a.]]", true),
        ] {
            assert_eq!(matches(text, pattern, exact), Ok(expected), "{text} ~ {pattern}");
        }
        assert_eq!(
            matches("ABC", "b", Syntax::Advanced { fold_case: true }),
            Ok(true)
        );
    }

    #[test]
    fn what_is_no_pattern_is_told_as_in_postgresql() {
        let exact = Syntax::Advanced { fold_case: false };
        for (pattern, what) in [
            ("(", "parentheses () not balanced"),
            (")", "parentheses () not balanced"),
            ("[a", "brackets [] not balanced"),
            ("*", "quantifier operand invalid"),
            ("a**", "quantifier operand invalid"),
            ("a{2,1}", "invalid repetition count(s)"),
            ("a{256}", "invalid repetition count(s)"),
            ("[b-a]", "invalid character range"),
            ("[a-\\d]", "invalid character range"),
            ("a{1,x}", "invalid repetition count(s)"),
            ("a{1", "braces {} not balanced"),
            ("^*", "quantifier operand invalid"),
            ("(?z)a", "invalid embedded option"),
            ("[[:nonsense:]]", "invalid character class"),
            ("a\\", "invalid escape \\ sequence"),
            ("\\q", "invalid escape \\ sequence"),
        ] {
            assert_eq!(matches("a", pattern, exact), Err(invalid(what)), "{pattern}");
        }
        for pattern in ["(a)\\1", "a(?=b)", "***=a"] {
            let refused = matches("a", pattern, exact).map_err(|error| error.code);
            assert_eq!(refused, Err(SqlState::FEATURE_NOT_SUPPORTED), "{pattern}");
        }
        let two = matches("a", "a\\\"b\\\"c\\\"", Syntax::Similar(Some('\\'))).map_err(|error| error.code);
        assert_eq!(two, Err(SqlState::INVALID_USE_OF_ESCAPE_CHARACTER));
    }
}
