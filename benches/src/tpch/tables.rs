//! The eight tables: definition and rows in COPY's text format.
//!
//! `tpchgen` prints a row as `a|b|c|`. Neither `|`, tab nor backslash occurs in a value, so replacing the separators
//! and dropping the last one makes a row of COPY's text format.

use std::fmt::{Display, Write as _};

use clap::ValueEnum;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

/// How many bytes of rows are handed on at once: a few system calls for each megabyte, and no long wait for the first.
const CHUNK_BYTES: usize = 128 * 1024;

/// One of the eight tables, in an order that respects their references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Table {
    Region,
    Nation,
    Supplier,
    Part,
    Partsupp,
    Customer,
    Orders,
    Lineitem,
}

/// Rows in COPY's text format, a chunk of whole rows at a time.
pub type Chunks = Box<dyn Iterator<Item = Chunk> + Send>;

/// Whole rows in COPY's text format.
#[derive(Debug)]
pub struct Chunk {
    /// The bytes, ending with a line feed.
    pub bytes: Vec<u8>,
    /// How many rows they are.
    pub rows: u64,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 8] = [
        Table::Region,
        Table::Nation,
        Table::Supplier,
        Table::Part,
        Table::Partsupp,
        Table::Customer,
        Table::Orders,
        Table::Lineitem,
    ];

    /// The table's name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Table::Region => "region",
            Table::Nation => "nation",
            Table::Supplier => "supplier",
            Table::Part => "part",
            Table::Partsupp => "partsupp",
            Table::Customer => "customer",
            Table::Orders => "orders",
            Table::Lineitem => "lineitem",
        }
    }

    /// CREATE TABLE as section 1.4 of the TPC-H specification lays it out, with its primary key.
    pub fn definition(self) -> &'static str {
        match self {
            Table::Region => {
                "CREATE TABLE region (r_regionkey integer NOT NULL, r_name char(25) NOT NULL, r_comment varchar(152), \
                 PRIMARY KEY (r_regionkey))"
            }
            Table::Nation => {
                "CREATE TABLE nation (n_nationkey integer NOT NULL, n_name char(25) NOT NULL, \
                 n_regionkey integer NOT NULL, n_comment varchar(152), PRIMARY KEY (n_nationkey))"
            }
            Table::Supplier => {
                "CREATE TABLE supplier (s_suppkey integer NOT NULL, s_name char(25) NOT NULL, \
                 s_address varchar(40) NOT NULL, s_nationkey integer NOT NULL, s_phone char(15) NOT NULL, \
                 s_acctbal decimal(15,2) NOT NULL, s_comment varchar(101) NOT NULL, PRIMARY KEY (s_suppkey))"
            }
            Table::Part => {
                "CREATE TABLE part (p_partkey integer NOT NULL, p_name varchar(55) NOT NULL, p_mfgr char(25) NOT NULL, \
                 p_brand char(10) NOT NULL, p_type varchar(25) NOT NULL, p_size integer NOT NULL, \
                 p_container char(10) NOT NULL, p_retailprice decimal(15,2) NOT NULL, \
                 p_comment varchar(23) NOT NULL, PRIMARY KEY (p_partkey))"
            }
            Table::Partsupp => {
                "CREATE TABLE partsupp (ps_partkey integer NOT NULL, ps_suppkey integer NOT NULL, \
                 ps_availqty integer NOT NULL, ps_supplycost decimal(15,2) NOT NULL, \
                 ps_comment varchar(199) NOT NULL, PRIMARY KEY (ps_partkey, ps_suppkey))"
            }
            Table::Customer => {
                "CREATE TABLE customer (c_custkey integer NOT NULL, c_name varchar(25) NOT NULL, \
                 c_address varchar(40) NOT NULL, c_nationkey integer NOT NULL, c_phone char(15) NOT NULL, \
                 c_acctbal decimal(15,2) NOT NULL, c_mktsegment char(10) NOT NULL, \
                 c_comment varchar(117) NOT NULL, PRIMARY KEY (c_custkey))"
            }
            Table::Orders => {
                "CREATE TABLE orders (o_orderkey bigint NOT NULL, o_custkey integer NOT NULL, \
                 o_orderstatus char(1) NOT NULL, o_totalprice decimal(15,2) NOT NULL, o_orderdate date NOT NULL, \
                 o_orderpriority char(15) NOT NULL, o_clerk char(15) NOT NULL, o_shippriority integer NOT NULL, \
                 o_comment varchar(79) NOT NULL, PRIMARY KEY (o_orderkey))"
            }
            Table::Lineitem => {
                "CREATE TABLE lineitem (l_orderkey bigint NOT NULL, l_partkey integer NOT NULL, \
                 l_suppkey integer NOT NULL, l_linenumber integer NOT NULL, l_quantity decimal(15,2) NOT NULL, \
                 l_extendedprice decimal(15,2) NOT NULL, l_discount decimal(15,2) NOT NULL, \
                 l_tax decimal(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL, \
                 l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL, \
                 l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL, \
                 PRIMARY KEY (l_orderkey, l_linenumber))"
            }
        }
    }

    /// The table's rows at a scale factor.
    pub fn chunks(self, scale: f64) -> Chunks {
        match self {
            Table::Region => chunked(RegionGenerator::new(scale, 1, 1).into_iter()),
            Table::Nation => chunked(NationGenerator::new(scale, 1, 1).into_iter()),
            Table::Supplier => chunked(SupplierGenerator::new(scale, 1, 1).into_iter()),
            Table::Part => chunked(PartGenerator::new(scale, 1, 1).into_iter()),
            Table::Partsupp => chunked(PartSuppGenerator::new(scale, 1, 1).into_iter()),
            Table::Customer => chunked(CustomerGenerator::new(scale, 1, 1).into_iter()),
            Table::Orders => chunked(OrderGenerator::new(scale, 1, 1).into_iter()),
            Table::Lineitem => chunked(LineItemGenerator::new(scale, 1, 1).into_iter()),
        }
    }
}

fn chunked<I>(mut rows: I) -> Chunks
where
    I: Iterator + Send + 'static,
    I::Item: Display,
{
    let mut line = String::new();
    Box::new(std::iter::from_fn(move || {
        let mut chunk = Chunk {
            bytes: Vec::with_capacity(CHUNK_BYTES + 1024),
            rows: 0,
        };
        while chunk.bytes.len() < CHUNK_BYTES {
            let Some(row) = rows.next() else { break };
            line.clear();
            write!(line, "{row}").expect("writing to a String cannot fail");
            let fields = line.strip_suffix('|').unwrap_or(&line);
            chunk
                .bytes
                .extend(fields.bytes().map(|byte| if byte == b'|' { b'\t' } else { byte }));
            chunk.bytes.push(b'\n');
            chunk.rows += 1;
        }
        (chunk.rows > 0).then_some(chunk)
    }))
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn rows_have_as_many_fields_as_the_definition_has_columns() {
        for table in Table::ALL {
            let chunk = table.chunks(0.001).next().expect("a table has rows");
            let text = String::from_utf8(chunk.bytes).expect("generated rows are UTF-8");
            assert_eq!(text.lines().count() as u64, chunk.rows);
            let columns = table.definition().matches(", ").count()
                - table
                    .definition()
                    .split("PRIMARY KEY")
                    .nth(1)
                    .map_or(0, |key| key.matches(", ").count());
            for line in text.lines() {
                assert_eq!(line.split('\t').count(), columns, "{}: {line}", table.name());
                assert!(!line.contains(['\\', '|']), "{line}");
            }
        }
    }

    #[test]
    fn lineitem_of_scale_one_hundredth_has_its_known_size() {
        let rows: u64 = Table::Lineitem.chunks(0.01).map(|chunk| chunk.rows).sum();
        assert_eq!(rows, 60_175);
    }
}
