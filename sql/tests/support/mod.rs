//! An engine and its mirror in a temporary directory, with queries straight into the analytic executor.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use bytes::BytesMut;
use scry_engine::{
    ColumnDef, DataType, Engine, EngineOptions, EngineSession, Isolation, KeyRange, NewTable, Numeric,
    PrimaryKey, SessionInfo, Table, Txn, Value,
};
use scry_mirror::{Mirror, MirrorOptions};
use scry_sql::Error;
use scry_sql::analytic::{
    Analytic, AnalyticOptions, AnalyticPlan, Freshness, Need, PrimarySource, Scope, Source, encode,
    mirror_snapshot, parameter,
};
use scry_sql::types::{InputContext, TimeZone};
use scry_wal::{Lsn, Micros};
use sqlparser::ast::{Query, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::future::Future;
use std::sync::Arc;

/// A row of a result as text; `None` is NULL.
pub type TextRow = Vec<Option<String>>;

pub struct Harness {
    pub engine: Arc<Engine>,
    pub mirror: Arc<Mirror>,
    pub analytic: Arc<Analytic>,
    pub session: EngineSession,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

pub fn column(name: &str, ty: DataType) -> ColumnDef {
    ColumnDef::new(name, ty)
}

pub fn parse(sql: &str) -> Query {
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
    match statements.into_iter().next() {
        Some(Statement::Query(query)) => *query,
        other => panic!("no query: {other:?}"),
    }
}

impl Harness {
    pub fn new() -> Self {
        Self::with_memory(1 << 30)
    }

    pub fn with_memory(memory_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(&directory.path().join("primary"), EngineOptions::default()).unwrap();
        let horizon = {
            let engine = engine.clone();
            Arc::new(move || engine.horizon())
        };
        let mirror = Mirror::open(
            &directory.path().join("mirror"),
            engine.log().clone(),
            MirrorOptions::new(horizon),
        )
        .unwrap();
        let analytic = Analytic::new(AnalyticOptions {
            threads: 2,
            memory_bytes,
            spill_dir: None,
        })
        .unwrap();
        let session = engine.session(SessionInfo {
            user: "tester".to_owned(),
            client: "local".to_owned(),
            application: "tests".to_owned(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Harness {
            engine,
            mirror,
            analytic,
            session,
            runtime,
            _directory: directory,
        }
    }

    pub fn block<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn begin(&mut self, isolation: Isolation) -> Txn {
        self.session.begin(isolation)
    }

    pub fn create(&mut self, name: &str, columns: Vec<ColumnDef>, key: &[usize]) -> Arc<Table> {
        let mut txn = self.begin(Isolation::ReadCommitted);
        let primary_key = (!key.is_empty()).then(|| PrimaryKey {
            name: format!("{name}_pkey"),
            columns: key.to_vec(),
        });
        let table = self
            .block(txn.create_table(NewTable {
                name: name.to_owned(),
                columns,
                primary_key,
                ..NewTable::default()
            }))
            .unwrap();
        txn.commit("CREATE TABLE").unwrap();
        table
    }

    pub fn insert(&mut self, table: &Arc<Table>, rows: impl IntoIterator<Item = Vec<Value>>) -> Option<Lsn> {
        let mut txn = self.begin(Isolation::ReadCommitted);
        for row in rows {
            self.insert_in(&mut txn, table, &row);
        }
        txn.commit("INSERT").unwrap()
    }

    pub fn insert_in(&self, txn: &mut Txn, table: &Arc<Table>, row: &[Value]) {
        let bytes = table.layout.encode(row).unwrap();
        let key = table.key_of(&bytes);
        self.block(txn.insert(table, key, bytes)).unwrap();
    }

    pub fn scope(&self, txn: &Txn) -> Scope {
        Scope {
            catalog: txn.catalog().clone(),
            user: "tester".into(),
            process: 1,
            now: Micros::new(1_700_000_000_000_000),
            settings: Arc::new(|name| (name == "search_path").then(|| "public".to_owned())),
            all_settings: Arc::new(|| vec![("search_path".to_owned(), "public".to_owned())]),
            future: None,
            status: None,
            listening: Arc::default(),
            sequences: None,
        }
    }

    /// Runs a query on the mirror in a transaction of its own.
    pub fn query(&mut self, sql: &str) -> Result<Vec<TextRow>, Error> {
        let mut txn = self.begin(Isolation::ReadCommitted);
        self.query_in(&mut txn, sql, &[])
    }

    pub fn query_with(&mut self, sql: &str, params: &[(u32, &str)]) -> Result<Vec<TextRow>, Error> {
        let mut txn = self.begin(Isolation::ReadCommitted);
        self.query_in(&mut txn, sql, params)
    }

    /// Runs a query on the mirror as the open transaction sees it. Everything committed becomes durable first.
    pub fn query_in(
        &mut self,
        txn: &mut Txn,
        sql: &str,
        params: &[(u32, &str)],
    ) -> Result<Vec<TextRow>, Error> {
        txn.statement();
        let scope = self.scope(txn);
        let oids: Vec<u32> = params.iter().map(|(oid, _)| *oid).collect();
        let plan = self.analytic.plan(&parse(sql), &scope, &oids)?;
        let source = self.mirror_source(txn, &plan)?;
        self.run(&plan, source, &scope, params)
    }

    pub fn mirror_source(&self, txn: &mut Txn, plan: &AnalyticPlan) -> Result<Source, Error> {
        if plan.catalog_only() {
            return Ok(Source::None);
        }
        let log = self.engine.log();
        log.wait_durable(txn.snapshot()).unwrap();
        let need = match txn.isolation() {
            Isolation::RepeatableRead => Need::Exactly(txn.snapshot()),
            _ => Need::AtLeast(txn.snapshot()),
        };
        let snapshot = self.block(mirror_snapshot(
            &self.analytic,
            &self.mirror,
            log,
            Freshness::Strict,
            need,
        ))?;
        let own = plan
            .tables()
            .iter()
            .map(|table| (table.def.store, txn.own_writes(table.def.store).unwrap()))
            .collect();
        Ok(Source::Mirror { snapshot, own })
    }

    /// Runs a query over the primary's rows.
    pub fn query_primary(&mut self, txn: &mut Txn, sql: &str) -> Result<Vec<TextRow>, Error> {
        let scope = self.scope(txn);
        let plan = self.analytic.plan(&parse(sql), &scope, &[])?;
        let source = PrimarySource::open(&plan, |table| Ok(txn.begin_scan(table, KeyRange::all())?))?;
        self.run(&plan, Source::Primary(source), &scope, &[])
    }

    pub fn run(
        &self,
        plan: &AnalyticPlan,
        source: Source,
        scope: &Scope,
        params: &[(u32, &str)],
    ) -> Result<Vec<TextRow>, Error> {
        let zone = TimeZone::utc();
        let context = InputContext { zone: &zone, now: 0 };
        let values = plan
            .param_types()
            .iter()
            .zip(params)
            .map(|(oid, (_, text))| parameter(*oid, 0, Some(text.as_bytes()), &context))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut stream = self.analytic.execute(plan, source, scope, values);
        let mut rows = Vec::new();
        while let Some(batch) = self.block(stream.next())? {
            let mut out = BytesMut::new();
            let end = encode(
                plan.columns(),
                &batch,
                0..batch.num_rows(),
                &[],
                &scry_sql::types::TimeZone::utc(),
                &mut out,
                usize::MAX,
            )?;
            assert_eq!(end, batch.num_rows());
            rows.extend(data_rows(&out));
        }
        Ok(rows)
    }

    pub fn error(&mut self, sql: &str) -> (String, String) {
        let error = self.query(sql).expect_err(sql);
        (error.code.to_string(), error.message.clone())
    }

    /// The rows as one string: columns by `|`, rows by `;`, NULL as `∅`.
    pub fn text(&mut self, sql: &str) -> String {
        match self.query(sql) {
            Ok(rows) => joined(&rows),
            Err(error) => format!("{} {}", error.code, error.message),
        }
    }
}

pub fn joined(rows: &[TextRow]) -> String {
    let row = |row: &TextRow| {
        row.iter()
            .map(|v| v.as_deref().unwrap_or("∅"))
            .collect::<Vec<_>>()
            .join("|")
    };
    rows.iter().map(row).collect::<Vec<_>>().join(";")
}

/// Splits DataRow messages.
pub fn data_rows(mut bytes: &[u8]) -> Vec<TextRow> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes[0], b'D');
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let mut body = &bytes[5..1 + length];
        bytes = &bytes[1 + length..];
        let count = u16::from_be_bytes(body[..2].try_into().unwrap());
        body = &body[2..];
        let mut row = Vec::new();
        for _ in 0..count {
            let length = i32::from_be_bytes(body[..4].try_into().unwrap());
            body = &body[4..];
            row.push(usize::try_from(length).ok().map(|length| {
                let value = String::from_utf8_lossy(&body[..length]).into_owned();
                body = &body[length..];
                value
            }));
        }
        assert!(body.is_empty());
        rows.push(row);
    }
    rows
}

/// A value of a column type from its text.
pub fn value(ty: DataType, text: &str) -> Value {
    match ty {
        DataType::Int2 => Value::Int2(text.parse().unwrap()),
        DataType::Int4 => Value::Int4(text.parse().unwrap()),
        DataType::Int8 => Value::Int8(text.parse().unwrap()),
        DataType::Float8 => Value::Float8(text.parse().unwrap()),
        DataType::Bool => Value::Bool(text == "t"),
        DataType::Numeric(scale) => {
            let number = Numeric::parse(text).unwrap();
            Value::Numeric(match scale {
                Some((_, scale)) => number.rescale(scale).unwrap(),
                None => number,
            })
        }
        DataType::Date => Value::Date(days(text)),
        DataType::Char(_) => Value::Text(text.trim_end_matches(' ').to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

/// Days since 1970 of `YYYY-MM-DD`.
pub fn days(text: &str) -> i32 {
    let mut parts = text.split('-').map(|part| part.parse::<i64>().unwrap());
    let (year, month, day) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468) as i32
}
