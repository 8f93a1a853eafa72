//! Expressions against `testdata/expressions.txt`, whose answers PostgreSQL 15 gave in time zone Europe/Berlin:
//! expression, then `ok`, type and text, or SQLSTATE and message, separated by tabs. A line that begins with `~` is
//! left to another executor.

use super::*;
use crate::dialect::ScryDialect;
use crate::error::SqlState;
use crate::types;
use proptest::prelude::*;
use scry_engine::row::RowLayout;
use scry_engine::types::Numeric;
use sqlparser::parser::Parser;

const GOLDEN: &str = include_str!("../../testdata/expressions.txt");

fn parse(text: &str) -> sqlparser::ast::Expr {
    Parser::new(&ScryDialect)
        .with_recursion_limit(10_000)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_expr())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

struct Session {
    zone: TimeZone,
    random: AtomicU64,
}

impl Session {
    fn new() -> Session {
        Session {
            zone: TimeZone::parse("Europe/Berlin").expect("a zone"),
            random: AtomicU64::new(1),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            zone: &self.zone,
            transaction_start: 1_709_323_200_000_000,
            statement_start: 1_709_323_201_000_000,
            clock: || 1_709_323_202_000_000,
            random: &self.random,
            user: "ann",
            database: "scry",
            version: "PostgreSQL 15",
            backend_pid: 7,
            transaction_id: None,
            sequences: None,
            outbox: None,
        }
    }
}

fn evaluate(text: &str) -> Result<(Value, DataType), BindError> {
    let session = Session::new();
    let facts = session.facts();
    let expr = bind(&parse(text), &Scope::empty(), &mut Parameters::default(), &facts)?;
    let context = EvalContext {
        row: RowSource::None,
        params: &[],
        facts: &facts,
    };
    Ok((expr.eval_value(&context)?, expr.ty()))
}

fn shown(value: &Value, ty: &DataType) -> String {
    if value.is_null() {
        return "NULL".to_owned();
    }
    let mut out = Vec::new();
    types::write_text(&mut out, &value.as_datum(), ty, &Session::new().zone);
    String::from_utf8(out).expect("text").replace('\n', "<NL>")
}

#[test]
fn expressions_give_what_postgresql_gives() {
    let mut differences = Vec::new();
    // Comments are for who compares with PostgreSQL.
    for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
        let (delegated, line) = line.strip_prefix('~').map_or((false, line), |rest| (true, rest));
        let (text, expected) = line.split_once('\t').expect("an answer");
        let found = match evaluate(text) {
            Ok((value, ty)) => {
                let name = match ty {
                    DataType::Varchar(_) => "character varying".to_owned(),
                    DataType::Char(_) => "character".to_owned(),
                    other => other.without_modifier().to_string(),
                };
                format!("ok\t{name}\t{}", shown(&value, &ty))
            }
            Err(BindError::Error(error)) => format!("{}\t{}", error.code, error.message),
            Err(BindError::Unsupported(_)) if delegated => continue,
            Err(BindError::Unsupported(what)) => format!("unsupported: {what}"),
        };
        if found != expected {
            differences.push(format!("{text}\n  PostgreSQL {expected}\n  here       {found}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn accounts() -> Scope {
    Scope::table(
        "a",
        [
            ("aid", DataType::Int4),
            ("abalance", DataType::Int4),
            ("big", DataType::Int8),
            ("price", DataType::Numeric(Some((10, 2)))),
            ("filler", DataType::Char(10)),
            ("day", DataType::Date),
        ],
    )
}

/// Binds against `accounts`; gives the expression and the parameter types that were inferred.
fn bind_accounts(text: &str) -> Result<(Expr, Vec<DataType>), Error> {
    let session = Session::new();
    let mut parameters = Parameters::default();
    let expr =
        bind(&parse(text), &accounts(), &mut parameters, &session.facts()).map_err(BindError::into_error)?;
    Ok((expr, parameters.resolved()?))
}

#[test]
fn parameters_take_the_type_of_their_context() {
    use DataType::*;
    for (text, types) in [
        ("abalance + $1", vec![Int4]),
        ("aid = $1 and big = $2", vec![Int4, Int8]),
        ("aid = $1 + 1", vec![Int4]),
        ("price * $1 > 5", vec![Numeric(None)]),
        (
            "filler = $1",
            vec![Char(scry_engine::types::MAX_CHARACTER_LENGTH)],
        ),
        ("filler like $1", vec![Text]),
        ("day between $1 and $2", vec![Date, Date]),
        ("$1 between aid and big", vec![Int4]),
        ("aid in ($1, $2, 3)", vec![Int4, Int4]),
        ("$1::bigint = aid", vec![Int8]),
        ("coalesce($1, big)", vec![Int8]),
        ("case when $1 then $2 else price end", vec![Bool, Numeric(None)]),
        ("upper($1)", vec![Text]),
        ("substring('abc', $1)", vec![Int4]),
        ("$2 = $1", vec![Text, Text]),
        ("'a' || $1", vec![Text]),
        ("$1", vec![Text]),
        ("aid = $1 and big = $1", vec![Int4]),
    ] {
        let (_, found) = bind_accounts(text).expect(text);
        assert_eq!(found, types, "{text}");
    }
    let error = |text: &str| bind_accounts(text).expect_err(text).code;
    assert_eq!(error("$1 + $2"), SqlState::AMBIGUOUS_FUNCTION);
    assert_eq!(
        error("aid = $2"),
        SqlState::INDETERMINATE_DATATYPE,
        "$1 is never used"
    );
    assert_eq!(error("aid = $0"), SqlState::UNDEFINED_PARAMETER);
    assert_eq!(
        error("aid = $99999999999999999999"),
        SqlState::UNDEFINED_PARAMETER
    );
}

#[test]
fn parameter_types_that_the_client_gave_stay() {
    let session = Session::new();
    let mut parameters = Parameters::from_oids(&[types::oids::INT8, 0]);
    let expr = bind(
        &parse("aid = $1 and abalance = $2"),
        &accounts(),
        &mut parameters,
        &session.facts(),
    );
    assert!(expr.is_ok());
    assert_eq!(parameters.resolved(), Ok(vec![DataType::Int8, DataType::Int4]));
    assert!(matches!(
        Parameters::from_oids(&[1186]).get(0),
        Err(BindError::Unsupported(_))
    ));
}

#[test]
fn names_are_folded_and_resolved_like_postgresql_does() {
    assert!(matches!(
        bind_accounts("A.AID"),
        Ok((
            Expr::Column {
                index: 0,
                ty: DataType::Int4
            },
            _
        ))
    ));
    assert!(matches!(
        bind_accounts("\"aid\""),
        Ok((Expr::Column { index: 0, .. }, _))
    ));
    for (text, code, message) in [
        ("nope", "42703", "column \"nope\" does not exist"),
        ("\"AID\"", "42703", "column \"AID\" does not exist"),
        ("a.nope", "42703", "column a.nope does not exist"),
        ("b.aid", "42P01", "missing FROM-clause entry for table \"b\""),
    ] {
        let error = bind_accounts(text).expect_err(text);
        assert_eq!((error.code.as_str(), error.message.as_str()), (code, message));
    }
    let mut scope = accounts();
    scope.add_qualified("excluded", [("aid", DataType::Int4)]);
    assert_eq!(scope.resolve(None, "aid"), Ok((0, Some(DataType::Int4))));
    assert_eq!(
        scope.resolve(Some("excluded"), "aid"),
        Ok((6, Some(DataType::Int4)))
    );
    scope.add("b", [("aid", DataType::Int4)]);
    assert_eq!(
        scope.resolve(None, "aid").map_err(|e| e.code),
        Err(SqlState::AMBIGUOUS_COLUMN)
    );
}

#[test]
fn the_comparison_of_a_key_column_is_left_bare() {
    // The planner finds keys by this shape: a column, no cast around it.
    for text in [
        "aid = $1",
        "aid = 5",
        "aid = 5000000000",
        "aid = '7'",
        "big = 5",
        "filler = 'x'",
        "day = '2024-01-01'",
    ] {
        let (expr, _) = bind_accounts(text).expect(text);
        let Expr::Compare {
            op: CompareOp::Equal,
            left,
            right,
        } = &expr
        else {
            panic!("{text}: {expr:?}")
        };
        assert!(matches!(**left, Expr::Column { .. }), "{text}");
        assert!(!right.reads_columns(), "{text}");
    }
    assert_eq!(
        key_datum(Datum::Int8(5), &DataType::Int4),
        cast::KeyDatum::Exact(Datum::Int4(5))
    );
    assert_eq!(
        key_datum(Datum::Int8(5_000_000_000), &DataType::Int4),
        cast::KeyDatum::Above
    );
    assert_eq!(
        key_datum(Datum::Int8(-40_000), &DataType::Int2),
        cast::KeyDatum::Below
    );
}

#[test]
fn rows_and_parameters_are_read_without_copies() {
    let session = Session::new();
    let facts = session.facts();
    let layout = RowLayout::new(&[DataType::Int4, DataType::Int4, DataType::Int8]);
    let row = layout
        .encode(&[Value::Int4(7), Value::Int4(100), Value::Null])
        .expect("encodes");
    let params = [Value::Int4(-30)];
    let context = EvalContext {
        row: RowSource::Row(layout.row(&row)),
        params: &params,
        facts: &facts,
    };
    let run = |text: &str| bind_accounts(text).expect(text).0.eval_value(&context);
    assert_eq!(run("abalance + $1"), Ok(Value::Int4(70)));
    assert_eq!(run("big is null and aid = 7"), Ok(Value::Bool(true)));
    assert_eq!(run("big + 1"), Ok(Value::Null));
    assert_eq!(
        run("aid / (abalance - 100)").map_err(|e| e.code),
        Err(SqlState::DIVISION_BY_ZERO)
    );

    let other = layout
        .encode(&[Value::Int4(7), Value::Int4(5), Value::Int8(1)])
        .expect("encodes");
    let mut scope = Scope::table(
        "t",
        [
            ("k", DataType::Int4),
            ("v", DataType::Int4),
            ("w", DataType::Int8),
        ],
    );
    scope.add_qualified(
        "excluded",
        [
            ("k", DataType::Int4),
            ("v", DataType::Int4),
            ("w", DataType::Int8),
        ],
    );
    let sum = bind(
        &parse("v + excluded.v"),
        &scope,
        &mut Parameters::default(),
        &facts,
    )
    .expect("binds");
    let pair = EvalContext {
        row: RowSource::Pair(layout.row(&row), layout.row(&other)),
        ..context
    };
    assert_eq!(sum.eval_value(&pair), Ok(Value::Int4(105)));
}

fn assign(text: &str, ty: DataType) -> Result<String, Error> {
    let session = Session::new();
    let facts = session.facts();
    let expr = bind_assignment(
        &parse(text),
        "c",
        ty,
        &Scope::empty(),
        &mut Parameters::default(),
        &facts,
    )
    .map_err(BindError::into_error)?;
    let value = expr.eval_value(&EvalContext {
        row: RowSource::None,
        params: &[],
        facts: &facts,
    })?;
    Ok(shown(&value, &ty))
}

#[test]
fn assignments_round_and_check_as_columns_do() {
    use DataType::*;
    for (text, ty, stored) in [
        ("2.5", Int4, "3"),
        ("2.5::float8", Int4, "2"),
        ("'12'", Int4, "12"),
        ("1.005", Numeric(Some((5, 2))), "1.01"),
        ("1.500", Numeric(None), "1.5"),
        ("'1.500'", Numeric(None), "1.5"),
        ("1/3.0", Numeric(None), "0.333333333333333333"),
        ("5", Text, "5"),
        ("true", Text, "true"),
        ("'abc  '", Varchar(Some(3)), "abc"),
        ("'ab'", Char(4), "ab  "),
        ("'2024-02-03'", Date, "2024-02-03"),
        ("timestamp '2024-02-03 10:00'", Date, "2024-02-03"),
        ("date '2024-02-03'", TimestampTz, "2024-02-03 00:00:00+01"),
        ("null", Int4, "NULL"),
        ("'{\"b\":1}'", Jsonb, "{\"b\": 1}"),
    ] {
        assert_eq!(assign(text, ty).as_deref(), Ok(stored), "{text} into {ty}");
    }
    for (text, ty, code, message) in [
        ("3000000000", Int4, "22003", "integer out of range"),
        ("40000", Int2, "22003", "smallint out of range"),
        (
            "'abc'",
            Varchar(Some(2)),
            "22001",
            "value too long for type character varying(2)",
        ),
        (
            "'abc' || 'd'",
            Char(3),
            "22001",
            "value too long for type character(3)",
        ),
        ("1000", Numeric(Some((5, 2))), "22003", "numeric field overflow"),
        ("1e25", Numeric(None), "22003", "value overflows numeric format"),
        (
            "'x'::text",
            Int4,
            "42804",
            "column \"c\" is of type integer but expression is of type text",
        ),
        (
            "true",
            Int4,
            "42804",
            "column \"c\" is of type integer but expression is of type boolean",
        ),
        (
            "5",
            Date,
            "42804",
            "column \"c\" is of type date but expression is of type integer",
        ),
        (
            "'x'",
            Int4,
            "22P02",
            "invalid input syntax for type integer: \"x\"",
        ),
    ] {
        let error = assign(text, ty).expect_err(text);
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            (code, message),
            "{text}"
        );
    }
}

#[test]
fn the_session_answers_for_itself() {
    for (text, expected) in [
        ("now()", "2024-03-01 21:00:00+01"),
        ("current_timestamp", "2024-03-01 21:00:00+01"),
        ("current_date", "2024-03-01"),
        ("localtimestamp", "2024-03-01 21:00:00"),
        ("clock_timestamp()", "2024-03-01 21:00:02+01"),
        ("current_user", "ann"),
        ("session_user", "ann"),
        ("current_database()", "scry"),
        ("current_schema()", "public"),
        ("pg_backend_pid()", "7"),
        ("version()", "PostgreSQL 15"),
        ("txid_current_if_assigned()", "NULL"),
        ("random() >= 0 and random() < 1", "t"),
        ("random() = random()", "f"),
        ("length(gen_random_uuid()::text)", "36"),
        ("'now'::timestamptz = now()", "t"),
    ] {
        let (value, ty) = evaluate(text).map_err(BindError::into_error).expect(text);
        assert_eq!(shown(&value, &ty), expected, "{text}");
    }
}

#[test]
fn conditions_must_be_boolean() {
    let session = Session::new();
    let check = |text: &str| {
        bind_predicate(
            &parse(text),
            "WHERE",
            &accounts(),
            &mut Parameters::default(),
            &session.facts(),
        )
        .map_err(BindError::into_error)
        .map(|_| ())
        .map_err(|error| error.message.clone())
    };
    assert_eq!(
        check("aid"),
        Err("argument of WHERE must be type boolean, not type integer".to_owned())
    );
    assert_eq!(check("$1"), Ok(()));
    assert_eq!(check("'true'"), Ok(()));
    assert_eq!(check("null"), Ok(()));
}

#[test]
fn hostile_nesting_is_refused_and_long_lists_are_not() {
    let nested = |levels: usize| format!("{}1{}", "abs(".repeat(levels), ")".repeat(levels));
    assert!(evaluate(&nested(150)).is_ok());
    let error = evaluate(&nested(2000))
        .map_err(BindError::into_error)
        .expect_err("too deep");
    assert_eq!(error.code, SqlState::STATEMENT_TOO_COMPLEX);
    let sum = vec!["1"; 5000].join(" + ");
    let error = evaluate(&sum)
        .map_err(BindError::into_error)
        .expect_err("too deep");
    assert_eq!(error.code, SqlState::STATEMENT_TOO_COMPLEX);
    let conditions = vec!["1 = 1"; 5000].join(" and ");
    assert!(matches!(evaluate(&conditions), Ok((Value::Bool(true), _))));
}

#[test]
fn what_is_not_known_is_left_to_others() {
    for text in [
        "count(*)",
        "sum(1) over ()",
        "pg_typeof(1)",
        "array[1]",
        "$1::interval",
        "1 & 2",
        "my_function(nope)",
    ] {
        assert!(matches!(evaluate(text), Err(BindError::Unsupported(_))), "{text}");
    }
}

proptest! {
    #[test]
    fn integer_arithmetic_agrees_with_wide_integers(a in any::<i32>(), b in prop_oneof![any::<i32>(), -3i32..4]) {
        let wide = |op: &str| -> Option<i128> {
            let (a, b) = (i128::from(a), i128::from(b));
            match op {
                "+" => Some(a + b),
                "-" => Some(a - b),
                "*" => Some(a * b),
                "/" => a.checked_div(b),
                _ => a.checked_rem(b),
            }
        };
        for op in ["+", "-", "*", "/", "%"] {
            let found = evaluate(&format!("({a}) {op} ({b})")).map(|(value, _)| value).map_err(BindError::into_error);
            match wide(op) {
                None => prop_assert_eq!(found.map_err(|e| e.code), Err(SqlState::DIVISION_BY_ZERO)),
                Some(exact) => match i32::try_from(exact) {
                    Ok(exact) => prop_assert_eq!(found, Ok(Value::Int4(exact))),
                    Err(_) => {
                        prop_assert_eq!(found.map_err(|e| e.code), Err(SqlState::NUMERIC_VALUE_OUT_OF_RANGE));
                    }
                },
            }
        }
    }

    #[test]
    fn like_agrees_with_a_plain_matcher(text in "[ab%_\\\\]{0,8}", pattern in "[ab%_]{0,8}") {
        fn plain(text: &[char], pattern: &[char]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some(('%', rest)) => (0..=text.len()).any(|from| plain(&text[from..], rest)),
                Some(('_', rest)) => !text.is_empty() && plain(&text[1..], rest),
                Some((literal, rest)) => text.first() == Some(literal) && plain(&text[1..], rest),
            }
        }
        let characters = |text: &str| text.chars().collect::<Vec<_>>();
        let expected = plain(&characters(&text), &characters(&pattern));
        prop_assert_eq!(like::matches(&text, &pattern), Ok(expected));
        if let Some(found) = Pattern::compile(&pattern).test(&text) {
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn folding_changes_no_result(a in -50i32..50, b in -5i32..5, c in "[a-c]{0,3}") {
        // The same expression over parameters is not folded.
        let session = Session::new();
        let facts = session.facts();
        let params = [Value::Int4(a), Value::Int4(b), Value::Text(c.clone())];
        let context = EvalContext { row: RowSource::None, params: &params, facts: &facts };
        for template in [
            "A * 2 - B",
            "A / B",
            "abs(A) % 7 = B",
            "A::numeric / 3",
            "C || A",
            "length(C) + A",
            "upper(C) = 'X' or A > B",
            "coalesce(nullif(A, B), 9)",
            "greatest(A, B, 0)",
        ] {
            let literal = template.replace('A', &format!("({a})")).replace('B', &format!("({b})")).replace('C', &format!("'{c}'::text"));
            let open = template.replace('A', "$1::int").replace('B', "$2::int").replace('C', "$3::text");
            let mut parameters = Parameters::default();
            let bound = bind(&parse(&open), &Scope::empty(), &mut parameters, &facts).map_err(BindError::into_error).expect(&open);
            let found = bound.eval_value(&context);
            let folded = evaluate(&literal).map(|(value, _)| value).map_err(BindError::into_error);
            prop_assert_eq!(found, folded, "{}", literal);
        }
    }
}

#[test]
fn numerics_meet_numerics_and_keep_their_scale() {
    let (value, _) = evaluate("1.10 * 3")
        .map_err(BindError::into_error)
        .expect("a product");
    assert_eq!(value, Value::Numeric(Numeric::new(330, 2).expect("in range")));
    assert_eq!(shown(&value, &DataType::Numeric(None)), "3.30");
}
