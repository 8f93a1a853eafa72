//! The parser's PostgreSQL dialect, but for two rules.
//!
//! sqlparser's own dialect lets any expression name an argument (`json_object('a': 1)`), so that the parser tries each
//! argument as a name first and as an argument again: a call nested n deep takes 2^n steps, and thirty parentheses
//! from a client hold a thread for hours. Here a name is an identifier, which is decided by looking at two tokens.
//!
//! The options of identity columns may stand in any order.
//!
//! Also left away: underscores in numbers, which PostgreSQL has since version 16, and names for `*`. Strings on several
//! lines are one, as the standard has it, and arguments are named with `:=`, too.

use sqlparser::ast::{ColumnOption, GeneratedAs, SequenceOptions};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;
use std::any::TypeId;

const POSTGRESQL: PostgreSqlDialect = PostgreSqlDialect {};

/// The dialect in which every statement is parsed.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScryDialect;

macro_rules! as_postgresql {
    ($($rule:ident)*) => {
        $(fn $rule(&self) -> bool {
            POSTGRESQL.$rule()
        })*
    };
}

impl Dialect for ScryDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRESQL.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        POSTGRESQL.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        POSTGRESQL.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        POSTGRESQL.is_identifier_part(character)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRESQL.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, character: char) -> bool {
        POSTGRESQL.is_custom_operator_part(character)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        POSTGRESQL.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRESQL.prec_value(precedence)
    }

    fn parse_column_option(&self, parser: &mut Parser) -> Result<Option<ParsedOption>, ParserError> {
        use Keyword::{ALWAYS, AS, BY, DEFAULT, GENERATED, IDENTITY};
        let generated_as = if parser.parse_keywords(&[GENERATED, ALWAYS, AS, IDENTITY]) {
            GeneratedAs::Always
        } else if parser.parse_keywords(&[GENERATED, BY, DEFAULT, AS, IDENTITY]) {
            GeneratedAs::ByDefault
        } else {
            return Ok(None);
        };
        let mut options = Vec::new();
        if parser.consume_token(&Token::LParen) {
            while !parser.consume_token(&Token::RParen) {
                options.push(sequence_option(parser)?);
            }
        }
        Ok(Some(Ok(Some(ColumnOption::Generated {
            generated_as,
            sequence_options: Some(options),
            generation_expr: None,
            generation_expr_mode: None,
            generated_keyword: true,
        }))))
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    fn supports_named_fn_args_with_assignment_operator(&self) -> bool {
        true
    }

    fn supports_string_literal_concatenation_with_newline(&self) -> bool {
        true
    }

    as_postgresql! {
        supports_unicode_string_literal
        supports_filter_during_aggregation
        supports_group_by_expr
        allow_extract_custom
        allow_extract_single_quotes
        supports_create_index_with_clause
        supports_explain_with_utility_options
        supports_listen_notify
        supports_factorial_operator
        supports_bitwise_shift_operators
        supports_comment_on
        supports_load_extension
        supports_empty_projections
        supports_nested_comments
        supports_string_escape_constant
        supports_array_typedef_with_brackets
        supports_geometric_types
        supports_set_names
        supports_alter_column_type_using
        supports_notnull_operator
        supports_interval_options
        supports_insert_table_alias
        supports_create_table_like_parenthesized
        supports_comma_separated_trim
        supports_xml_expressions
        supports_comment_optimizer_hint
    }
}

type ParsedOption = Result<Option<ColumnOption>, ParserError>;

/// One option of an identity column's sequence.
fn sequence_option(parser: &mut Parser) -> Result<SequenceOptions, ParserError> {
    use Keyword::{BY, CACHE, CYCLE, INCREMENT, MAXVALUE, MINVALUE, NO, START, WITH};
    Ok(if parser.parse_keyword(INCREMENT) {
        let by = parser.parse_keyword(BY);
        SequenceOptions::IncrementBy(parser.parse_prefix()?, by)
    } else if parser.parse_keyword(MINVALUE) {
        SequenceOptions::MinValue(Some(parser.parse_prefix()?))
    } else if parser.parse_keyword(MAXVALUE) {
        SequenceOptions::MaxValue(Some(parser.parse_prefix()?))
    } else if parser.parse_keyword(START) {
        let with = parser.parse_keyword(WITH);
        SequenceOptions::StartWith(parser.parse_prefix()?, with)
    } else if parser.parse_keyword(CACHE) {
        SequenceOptions::Cache(parser.parse_prefix()?)
    } else if parser.parse_keyword(CYCLE) {
        SequenceOptions::Cycle(false)
    } else if parser.parse_keywords(&[NO, MINVALUE]) {
        SequenceOptions::MinValue(None)
    } else if parser.parse_keywords(&[NO, MAXVALUE]) {
        SequenceOptions::MaxValue(None)
    } else if parser.parse_keywords(&[NO, CYCLE]) {
        // It says whether NO stands there.
        SequenceOptions::Cycle(true)
    } else {
        parser.expected("an option of a sequence", parser.peek_token())?
    })
}

/// A text as a literal of SQL.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(sql: &str) -> Result<usize, ParserError> {
        Parser::parse_sql(&ScryDialect, sql).map(|statements| statements.len())
    }

    #[test]
    fn nested_calls_are_parsed_in_time_that_grows_with_their_number() {
        // With the library's dialect this test would outlast the machine.
        let sql = |levels: usize| format!("select {}1{}", "abs(".repeat(levels), ")".repeat(levels));
        assert!(parse(&sql(20)).is_ok());
        let outcome = Parser::new(&ScryDialect)
            .with_recursion_limit(1000)
            .try_with_sql(&sql(150))
            .and_then(|mut parser| parser.parse_statements());
        assert!(outcome.is_ok());
        assert!(parse(&sql(10_000)).is_err(), "beyond the parser's depth");
    }

    #[test]
    fn the_rest_of_postgresql_is_still_understood() {
        for sql in [
            "select make_date(year => 2024, month => 1, day := 2)",
            "select 'a' ~ 'b', 1::int, $1, E'\\n', $$x$$, interval '1' day, 2 ^ 3",
            "insert into t as x values (1) on conflict (a) do update set b = excluded.b returning *",
            "select sum(a) filter (where b > 1) from t group by grouping sets ((a), ())",
            "select from t",
            "select 'a'\n 'b'",
            "create table t (a int generated by default as identity (start with 5 no cycle increment by -2 cache 3 minvalue -9))",
        ] {
            assert_eq!(parse(sql).map_err(|error| error.to_string()), Ok(1), "{sql}");
        }
    }
}
