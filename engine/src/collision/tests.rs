//! Decisions by rule, and rules as texts and bytes.

use super::*;
use crate::catalog::{ColumnDef, PrimaryKey, TableDef};
use crate::store::backing::bare_home;
use crate::types::{DataType, Numeric};
use scry_wal::StoreId;
use std::sync::Arc;

const BOTH_AGREE: &str = "both sides agree";

/// A table of id, stock int4, price numeric(8,2), note varchar(6), version int8, of these rules.
fn table(row: &str, columns: &[(&str, &str)], fuzzy: &str) -> Table {
    let column = |name: &str, ty, not_null| ColumnDef {
        not_null,
        ..ColumnDef::new(name, ty)
    };
    let def = TableDef {
        oid: 16384,
        name: "t".to_owned(),
        columns: vec![
            column("id", DataType::Int4, true),
            column("stock", DataType::Int4, false),
            column("price", DataType::Numeric(Some((8, 2))), false),
            column("note", DataType::Varchar(Some(6)), false),
            column("version", DataType::Int8, false),
            column("weight", DataType::Float8, false),
        ],
        primary_key: Some(PrimaryKey {
            name: "t_pkey".to_owned(),
            columns: vec![0],
        }),
        store: StoreId::new(1),
        ..TableDef::default()
    };
    let mut rules = Rules {
        row: (!row.is_empty()).then(|| RowRule::parse(row, &def).expect("a row rule")),
        fuzzy: Fuzzy::parse(fuzzy).expect("fuzzy rules"),
        columns: Vec::new(),
    };
    for (name, rule) in columns {
        let number = def
            .columns
            .iter()
            .position(|column| column.name == *name)
            .expect("a column");
        let rule = ColumnRule::parse(rule, &def.columns[number]).expect("a column rule");
        rules.set_column(number, Some(rule));
    }
    Table::with_fresh_store(bare_home(), def, Arc::default()).with_rules(Arc::new(rules))
}

/// (stock, price in cents, note)
type Plain = (i32, i64, &'static str);

fn row(table: &Table, (stock, cents, note): Plain) -> Row {
    let values = [
        Value::Int4(1),
        Value::Int4(stock),
        Value::Numeric(Numeric::new(i128::from(cents), 2).expect("a price")),
        match note {
            "" => Value::Null,
            note => Value::Text(note.to_owned()),
        },
        Value::Int8(i64::from(stock)),
        Value::Float8(f64::from(stock)),
    ];
    table.layout.encode(&values).expect("a row").into()
}

fn plain(table: &Table, row: &Row) -> (i64, String, String) {
    let row = table.layout.row(row);
    let text = |column| match row.get(column) {
        Datum::Text(text) => text.to_owned(),
        Datum::Numeric(number) => number.to_string(),
        _ => String::new(),
    };
    (row.get(1).integer().unwrap_or(-1), text(2), text(3))
}

fn no_expressions(_: &Computation<'_>) -> Result<Value, String> {
    Err("no expressions".to_owned())
}

fn decide_at(
    table: &Table,
    [before, present, proposed]: [Option<Plain>; 3],
    (present_at, proposed_at): (u64, u64),
) -> Decision {
    let [before, present, proposed] =
        [before, present, proposed].map(|plain| plain.map(|plain| row(table, plain)));
    let sides = Sides {
        before: before.as_ref(),
        present: present.as_ref(),
        proposed: proposed.as_ref(),
        present_at: Lsn::new(present_at),
        proposed_at: Lsn::new(proposed_at),
    };
    decide(table, &table.rules, &sides, &no_expressions)
}

fn decide_now(table: &Table, sides: [Option<Plain>; 3]) -> Decision {
    decide_at(table, sides, (20, 10))
}

fn put(table: &Table, decision: Decision) -> (i64, String, String) {
    match decision.outcome {
        Outcome::Put(row) => plain(table, &row),
        other => panic!("{other:?}: {}", decision.reason),
    }
}

fn owned((stock, price, note): (i64, &str, &str)) -> (i64, String, String) {
    (stock, price.to_owned(), note.to_owned())
}

const BEFORE: Option<Plain> = Some((10, 400, "a"));

#[test]
fn without_rules_nothing_is_decided() {
    let table = table("", &[], "");
    for sides in [
        [BEFORE, Some((9, 400, "a")), Some((10, 500, "a"))],
        [BEFORE, Some((9, 400, "a")), None],
        [BEFORE, None, Some((10, 500, "a"))],
        [BEFORE, None, None],
        [None, Some((9, 400, "a")), Some((9, 400, "a"))],
    ] {
        assert_eq!(decide_now(&table, sides).outcome, Outcome::Refuse);
    }
}

#[test]
fn a_row_rule_lets_one_side_win_as_a_whole() {
    let sides = [BEFORE, Some((9, 400, "a")), Some((10, 500, "a"))];
    let wins = |rule: &str, at| {
        let table = table(rule, &[], "");
        match decide_at(&table, sides, at).outcome {
            Outcome::Keep => "present",
            Outcome::Put(row) if plain(&table, &row) == owned((10, "5.00", "a")) => "proposed",
            Outcome::Defer => "defer",
            Outcome::Refuse => "refuse",
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(wins("fail", (20, 10)), "refuse");
    assert_eq!(wins("defer", (20, 10)), "defer");
    assert_eq!(wins("present", (20, 10)), "present");
    assert_eq!(wins("proposed", (20, 10)), "proposed");
    assert_eq!(
        (wins("newest", (20, 10)), wins("newest", (10, 20))),
        ("present", "proposed")
    );
    assert_eq!(
        (wins("oldest", (20, 10)), wins("oldest", (10, 20))),
        ("proposed", "present")
    );
    assert_eq!(wins("highest(version)", (20, 10)), "proposed");
    assert_eq!(wins("lowest(version)", (20, 10)), "present");
    assert_eq!(
        wins("highest(note)", (20, 10)),
        "refuse",
        "the versions are the same"
    );
}

#[test]
fn merging_takes_from_each_side_what_it_alone_changed() {
    let table = table("merge", &[], "");
    // version and weight follow stock.
    let sides = [BEFORE, Some((9, 400, "a")), Some((10, 500, "a"))];
    assert_eq!(put(&table, decide_now(&table, sides)), owned((9, "5.00", "a")));
    let sides = [BEFORE, Some((9, 400, "a")), Some((10, 400, ""))];
    assert_eq!(put(&table, decide_now(&table, sides)), owned((9, "4.00", "")));
    let disputed = [BEFORE, Some((9, 400, "a")), Some((8, 400, "a"))];
    let decision = decide_now(&table, disputed);
    assert_eq!(decision.outcome, Outcome::Refuse);
    assert!(decision.reason.contains("\"stock\""), "{}", decision.reason);
    let agreed = [BEFORE, Some((9, 400, "a")), Some((9, 400, "a"))];
    assert_eq!(decide_now(&table, agreed), decided(Outcome::Keep, BOTH_AGREE));
    // What the candidate wants is there but for a column that it left alone.
    let covered = [BEFORE, Some((9, 500, "a")), Some((10, 500, "a"))];
    assert_eq!(decide_now(&table, covered).outcome, Outcome::Keep);
}

#[test]
fn columns_follow_their_rules() {
    let value = |rule: &str, column: &str, sides: [Option<Plain>; 3]| {
        let others = [("version", "max"), ("weight", "max"), (column, rule)];
        let table = table("", &others, "");
        match decide_now(&table, sides) {
            Decision {
                outcome: Outcome::Put(row),
                ..
            } => Ok(plain(&table, &row)),
            Decision {
                outcome: Outcome::Keep,
                ..
            } => Ok(plain(
                &table,
                &super::tests::row(&table, sides[1].unwrap_or_default()),
            )),
            other => Err(other.reason),
        }
    };
    let stock = |rule: &str, before, present, proposed| {
        let side = |stock| Some((stock, 400, "a"));
        value(rule, "stock", [side(before), side(present), side(proposed)]).map(|(stock, ..)| stock)
    };
    assert_eq!(stock("add", 10, 7, 15), Ok(12));
    assert_eq!(stock("multiply", 10, 8, 15), Ok(12));
    assert_eq!(stock("multiply", 3, 5, 2), Ok(3), "3.33 rounded");
    assert_eq!(
        stock("average", 10, 7, 10 + 4),
        Ok(11),
        "10.5 rounded half away from zero"
    );
    assert_eq!(stock("min", 10, 7, 15), Ok(7));
    assert_eq!(stock("max", 10, 7, 15), Ok(15));
    assert_eq!(
        (stock("present", 10, 7, 15), stock("ignore", 10, 7, 15)),
        (Ok(7), Ok(7))
    );
    assert_eq!(stock("proposed", 10, 7, 15), Ok(15));
    assert_eq!(
        (stock("newest", 10, 7, 15), stock("oldest", 10, 7, 15)),
        (Ok(7), Ok(15))
    );
    assert!(stock("add", -10, i32::MAX, 15).is_err_and(|reason| reason.contains("out of range")));
    assert!(stock("multiply", 0, 7, 15).is_err_and(|reason| reason.contains("zero")));
    assert!(stock("fail", 10, 7, 15).is_err());
    assert!(stock("= present", 10, 7, 15).is_err_and(|reason| reason.contains("no expressions")));
    let price = |rule: &str, before, present, proposed| {
        let side = |cents| Some((10, cents, "a"));
        value(rule, "price", [side(before), side(present), side(proposed)]).map(|(_, price, _)| price)
    };
    assert_eq!(
        price("multiply", 300, 400, 315),
        Ok("4.20".to_owned()),
        "five per cent of what is there"
    );
    assert_eq!(price("add", 300, 400, 315), Ok("4.15".to_owned()));
    assert!(price("multiply", 1, 99_999_998, 99_999_999).is_err());
    let note = |before, present, proposed| {
        let side = |note| Some((10, 400, note));
        value(
            "concatenate(; )",
            "note",
            [side(before), side(present), side(proposed)],
        )
        .map(|(.., note)| note)
    };
    assert_eq!(note("a", "b", "c"), Ok("b; c".to_owned()));
    assert_eq!(note("a", "", "c"), Ok("c".to_owned()));
    assert!(note("a", "bbb", "ccc").is_err_and(|reason| reason.contains("too long")));
}

#[test]
fn a_column_rule_holds_beside_a_row_rule_that_decides() {
    let table = table("proposed", &[("stock", "add")], "");
    let sides = [BEFORE, Some((7, 450, "b")), Some((15, 500, "a"))];
    assert_eq!(put(&table, decide_now(&table, sides)), owned((12, "5.00", "a")));
    // Where the column is not disputed, the row's rule has it.
    let sides = [BEFORE, Some((7, 450, "b")), Some((10, 500, "a"))];
    assert_eq!(put(&table, decide_now(&table, sides)), owned((10, "5.00", "a")));
}

#[test]
fn rows_that_are_gone_or_there_already_follow_the_fuzzy_rules() {
    let gone = [BEFORE, None, Some((10, 500, "a"))];
    let there = [None, Some((9, 400, "a")), Some((10, 500, "a"))];
    let deleted = [BEFORE, Some((9, 400, "a")), None];
    let outcome = |row: &str, fuzzy: &str, sides| {
        let table = table(row, &[], fuzzy);
        match decide_now(&table, sides).outcome {
            Outcome::Put(row) => {
                assert_eq!(plain(&table, &row), owned((10, "5.00", "a")));
                "put"
            }
            Outcome::Keep => "keep",
            Outcome::Delete => "delete",
            Outcome::Defer => "defer",
            Outcome::Refuse => "refuse",
        }
    };
    assert_eq!(outcome("", "update_as_insert", gone), "put");
    assert_eq!(outcome("merge", "update_as_insert", gone), "put");
    assert_eq!(outcome("merge", "", gone), "refuse");
    assert_eq!(
        (outcome("proposed", "", gone), outcome("present", "", gone)),
        ("put", "keep")
    );
    assert_eq!(
        (outcome("newest", "", gone), outcome("defer", "", gone)),
        ("refuse", "defer")
    );
    assert_eq!(outcome("merge", "", there), "refuse");
    assert_eq!(outcome("proposed", "insert_as_update", there), "put");
    assert_eq!(
        (outcome("proposed", "", there), outcome("newest", "", there)),
        ("put", "keep")
    );
    assert_eq!(
        (outcome("proposed", "", deleted), outcome("present", "", deleted)),
        ("delete", "keep")
    );
    assert_eq!(
        (outcome("newest", "", deleted), outcome("oldest", "", deleted)),
        ("keep", "delete")
    );
    assert_eq!(
        (outcome("merge", "", deleted), outcome("defer", "", deleted)),
        ("refuse", "defer")
    );
    assert_eq!(outcome("", "ignore_missing", [BEFORE, None, None]), "keep");
}

#[test]
fn expressions_get_the_three_rows_and_give_the_column_its_value() {
    let table = table("", &[("stock", "= x"), ("version", "max"), ("weight", "max")], "");
    let rows = [(10, 400, "a"), (7, 400, "a"), (15, 400, "a")].map(|plain| row(&table, plain));
    let sides = Sides {
        before: Some(&rows[0]),
        present: Some(&rows[1]),
        proposed: Some(&rows[2]),
        present_at: Lsn::new(1),
        proposed_at: Lsn::new(2),
    };
    let evaluate = |asked: &Computation<'_>| {
        assert_eq!((asked.expression, asked.column), ("x", 1));
        let value = |row: RowRef<'_>| row.get(1).integer().unwrap_or_default();
        let before = asked.before.map(value).unwrap_or_default();
        let sum = before * 100 + value(asked.present) * 10 + value(asked.proposed);
        Ok(Value::Int4(i32::try_from(sum).unwrap_or_default()))
    };
    let decision = decide(&table, &table.rules, &sides, &evaluate);
    assert_eq!(put(&table, decision).0, 1085);
}

#[test]
fn rules_read_back_as_they_are_shown_and_unfit_ones_are_refused() {
    let table = table("", &[], "");
    for text in [
        "fail",
        "defer",
        "proposed",
        "present",
        "newest",
        "oldest",
        "merge",
        "highest(version)",
        "lowest(price)",
    ] {
        let rule = RowRule::parse(text, &table.def).expect(text);
        assert_eq!(rule.text(&table.def.columns), text);
    }
    for text in [
        "min",
        "max",
        "average",
        "add",
        "multiply",
        "= present + 1",
        "defer",
        "newest",
    ] {
        let rule = ColumnRule::parse(text, &table.def.columns[1]).expect(text);
        assert_eq!(rule.text(), text);
    }
    let rule = ColumnRule::parse("Concatenate(, )", &table.def.columns[3]).expect("a rule");
    assert_eq!(rule, ColumnRule::Concatenate(", ".to_owned()));
    assert!(RowRule::parse("highest(nothing)", &table.def).is_err());
    assert!(RowRule::parse("add", &table.def).is_err());
    assert!(ColumnRule::parse("add", &table.def.columns[3]).is_err());
    assert!(ColumnRule::parse("concatenate", &table.def.columns[1]).is_err());
    assert!(ColumnRule::parse("sum", &table.def.columns[1]).is_err());
    assert!(Fuzzy::parse("insert_as_update, whatever").is_err());
    let fuzzy = Fuzzy::parse(" ignore_missing,insert_as_update ").expect("fuzzy rules");
    assert_eq!(fuzzy.text(), "insert_as_update, ignore_missing");
    let set = |rule| Rules {
        columns: vec![(1, rule)],
        ..Rules::default()
    };
    assert_eq!(set(ColumnRule::Add).mixes(&set(ColumnRule::Multiply)), Some(1));
    assert_eq!(set(ColumnRule::Add).mixes(&set(ColumnRule::Max)), None);
    assert_eq!(set(ColumnRule::Add).mixes(&set(ColumnRule::Add)), None);
}
