//! All 22 TPC-H queries at scale 0.01, on the mirror and on the primary, against the reference answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use scry_engine::{ColumnDef, DataType, Isolation, Value};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use support::{Harness, TextRow, value};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

const SCALE: f64 = 0.01;

/// Columns as `name type`, the type by its first letter: i int4, d date, m decimal(15,2), c char(n), v varchar(n).
fn columns(definition: &str) -> Vec<ColumnDef> {
    definition
        .split(',')
        .map(|item| {
            let (name, ty) = item.trim().split_once(' ').unwrap();
            let length = ty[1..].parse().unwrap_or(0);
            let ty = match &ty[..1] {
                "i" => DataType::Int4,
                "d" => DataType::Date,
                "m" => DataType::Numeric(Some((15, 2))),
                "c" => DataType::Char(length),
                _ => DataType::Varchar(Some(length)),
            };
            ColumnDef {
                not_null: true,
                ..ColumnDef::new(name, ty)
            }
        })
        .collect()
}

/// Creates a table and fills it with rows printed as `a|b|c|`.
fn load(
    harness: &mut Harness,
    name: &str,
    definition: &str,
    key: &[usize],
    rows: impl Iterator<Item = impl Display>,
) {
    let columns = columns(definition);
    let table = harness.create(name, columns.clone(), key);
    let rows: Vec<Vec<Value>> = rows
        .map(|row| {
            let line = row.to_string();
            let fields = line.trim_end_matches('|').split('|');
            columns
                .iter()
                .zip(fields)
                .map(|(column, field)| value(column.ty, field))
                .collect()
        })
        .collect();
    harness.insert(&table, rows);
}

fn loaded() -> Harness {
    let mut h = Harness::new();
    load(
        &mut h,
        "region",
        "r_regionkey i, r_name c25, r_comment v152",
        &[0],
        RegionGenerator::new(SCALE, 1, 1).iter(),
    );
    load(
        &mut h,
        "nation",
        "n_nationkey i, n_name c25, n_regionkey i, n_comment v152",
        &[0],
        NationGenerator::new(SCALE, 1, 1).iter(),
    );
    load(
        &mut h,
        "supplier",
        "s_suppkey i, s_name c25, s_address v40, s_nationkey i, s_phone c15, s_acctbal m, s_comment v101",
        &[0],
        SupplierGenerator::new(SCALE, 1, 1).iter(),
    );
    load(
        &mut h,
        "part",
        "p_partkey i, p_name v55, p_mfgr c25, p_brand c10, p_type v25, p_size i, p_container c10, \
         p_retailprice m, p_comment v23",
        &[0],
        PartGenerator::new(SCALE, 1, 1).iter(),
    );
    load(
        &mut h,
        "partsupp",
        "ps_partkey i, ps_suppkey i, ps_availqty i, ps_supplycost m, ps_comment v199",
        &[0, 1],
        PartSuppGenerator::new(SCALE, 1, 1).iter(),
    );
    load(
        &mut h,
        "customer",
        "c_custkey i, c_name v25, c_address v40, c_nationkey i, c_phone c15, c_acctbal m, c_mktsegment c10, \
         c_comment v117",
        &[0],
        CustomerGenerator::new(SCALE, 1, 1).iter(),
    );
    load(
        &mut h,
        "orders",
        "o_orderkey i, o_custkey i, o_orderstatus c1, o_totalprice m, o_orderdate d, o_orderpriority c15, \
         o_clerk c15, o_shippriority i, o_comment v79",
        &[0],
        OrderGenerator::new(SCALE, 1, 1).iter(),
    );
    load(
        &mut h,
        "lineitem",
        "l_orderkey i, l_partkey i, l_suppkey i, l_linenumber i, l_quantity m, l_extendedprice m, l_discount m, \
         l_tax m, l_returnflag c1, l_linestatus c1, l_shipdate d, l_commitdate d, l_receiptdate d, \
         l_shipinstruct c25, l_shipmode c10, l_comment v44",
        &[0, 3],
        LineItemGenerator::new(SCALE, 1, 1).iter(),
    );
    h
}

fn data(kind: &str, file: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../benches/testdata/tpch")
        .join(kind)
        .join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// RFC 4180 without its first line; an empty field is NULL.
fn answer(text: &str) -> Vec<TextRow> {
    let mut rows = Vec::new();
    for line in text.lines().skip(1) {
        let mut row = Vec::new();
        let mut field = String::new();
        let mut inside = false;
        for c in line.chars() {
            match c {
                '"' => inside = !inside,
                ',' if !inside => row.push(std::mem::take(&mut field)),
                c => field.push(c),
            }
        }
        row.push(field);
        rows.push(
            row.into_iter()
                .map(|f| Some(f).filter(|f| !f.is_empty()))
                .collect(),
        );
    }
    rows
}

/// Texts, dates and counts are equal; numbers with a point differ only in the last digits of a quotient.
fn same(want: &Option<String>, have: &Option<String>) -> bool {
    let (Some(want), Some(have)) = (want, have) else {
        return want.is_none() && have.is_none();
    };
    let (want, have) = (want.trim_end_matches(' '), have.trim_end_matches(' '));
    if want == have {
        return true;
    }
    match (want.parse::<f64>(), have.parse::<f64>()) {
        (Ok(a), Ok(b)) if want.contains('.') => (a - b).abs() <= 1e-9 + 1e-9 * a.abs(),
        _ => false,
    }
}

fn check(number: usize, found: &[TextRow], failures: &mut Vec<String>) {
    let expected = answer(&data("answers-sf0.01", &format!("q{number:02}.csv")));
    let equal = expected.len() == found.len()
        && expected
            .iter()
            .zip(found)
            .all(|(want, have)| want.len() == have.len() && want.iter().zip(have).all(|(w, h)| same(w, h)));
    if !equal {
        let difference = expected
            .iter()
            .zip(found)
            .find(|(w, h)| !w.iter().zip(*h).all(|(w, h)| same(w, h)));
        failures.push(format!(
            "q{number}: {} rows, expected {}; first difference {difference:?}",
            found.len(),
            expected.len()
        ));
    }
}

#[test]
fn every_query_gives_the_reference_answer_on_the_mirror_and_on_the_primary() {
    let mut harness = loaded();
    let mut failures = Vec::new();
    for number in 1..=22 {
        let sql = data("queries", &format!("q{number:02}.sql"));
        match harness.query(&sql) {
            Ok(rows) => check(number, &rows, &mut failures),
            Err(error) => failures.push(format!("q{number}: {} {}", error.code, error.message)),
        }
        let mut txn = harness.begin(Isolation::ReadCommitted);
        match harness.query_primary(&mut txn, &sql) {
            Ok(rows) => check(number, &rows, &mut failures),
            Err(error) => failures.push(format!(
                "q{number} on the primary: {} {}",
                error.code, error.message
            )),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
