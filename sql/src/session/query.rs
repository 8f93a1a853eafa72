//! Statements that DataFusion answers, or for which it finds the rows.

use super::portal::{Portal, Stream};
use super::run::Advance;
use super::settings::ReadFrom;
use super::{ColumnDescription, Session, facts};
use crate::analytic::{self, AnalyticPlan, Need, PrimarySource, Scope, Source};
use crate::error::{Error, SqlState};
use crate::exec::context::{self, Exec};
use crate::exec::{foreign_keys, insert, update};
use crate::plan::parse;
use crate::plan::planner::Kind;
use crate::plan::scalar::{self, Env, Scalar};
use crate::plan::searched::SearchedPlan;
use crate::tags::CommandTag;
use crate::types;
use bytes::BytesMut;
use datafusion::common::ScalarValue;
use scry_engine::{Catalog, DataType, Key, KeyRange, OwnWrites, Row, RowLayout, Table, Value};
use scry_mirror::Snapshot;
use scry_wal::{Lsn, Micros, StoreId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// How often the rows of a searched UPDATE or DELETE are looked for again because one of them had changed.
const MAX_SEARCHES: u32 = 16;

/// Most rows that one searched UPDATE or DELETE finds.
const MAX_FOUND: usize = 4_000_000;

/// The engine's types of result columns; text where it has none.
pub(super) fn column_types(columns: &[ColumnDescription]) -> Vec<DataType> {
    let of = |column: &ColumnDescription| {
        types::from_oid(column.type_oid, column.type_mod).unwrap_or(DataType::Text)
    };
    columns.iter().map(of).collect()
}

/// A row to be changed: its key, and the new values of the assigned columns.
struct Found {
    key: Key,
    before: Row,
    values: Vec<Value>,
}

impl Session {
    /// What a query can ask of the session.
    pub(super) fn scope(&self, catalog: &Arc<Catalog>) -> Scope {
        let settings = Arc::new(self.settings.snapshot());
        let all = settings.clone();
        Scope {
            catalog: catalog.clone(),
            user: self.identity.user.as_str().into(),
            process: self.identity.process,
            now: Micros::new(self.times.transaction),
            settings: Arc::new(move |name| settings.show(name).ok().map(|(_, value)| value)),
            all_settings: Arc::new(move || all.all()),
            future: self.settings.future().cloned(),
            status: Some(self.database.status()),
            listening: self.ear.channels().clone(),
            sequences: Some(self.identity.sequences.clone()),
        }
    }

    /// Chooses the source of a query's rows and starts it.
    pub(super) async fn open_stream(
        &mut self,
        plan: &AnalyticPlan,
        params: Vec<ScalarValue>,
    ) -> Result<Stream, Error> {
        let primary = self.settings.active().read_from == ReadFrom::Primary;
        let source = self.source(plan, primary).await?;
        let catalog = self.catalog();
        let scope = self.scope(&catalog);
        let rows = self.database.analytic().execute(plan, source, &scope, params);
        Ok(Stream::new(plan.clone(), rows, self.settings.zone().clone()))
    }

    /// The types and the rows that a query of the session itself answers. `accept` may refuse the types before anything is read.
    pub(super) async fn query_values(
        &mut self,
        asked: &str,
        accept: impl FnOnce(&[DataType]) -> Result<(), Error>,
    ) -> Result<(Vec<DataType>, Vec<Vec<Value>>), Error> {
        let statement = parse::statement(asked)?;
        let planned = self.plan(&statement, &[])?;
        let Kind::Analytic(plan) = &planned.kind else {
            return Err(Error::internal("a query of the session without analytic plan"));
        };
        let types = column_types(planned.columns.as_deref().unwrap_or_default());
        accept(&types)?;
        let mut stream = self.open_stream(plan, Vec::new()).await?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.batch(&self.interrupt).await? {
            for index in 0..batch.num_rows() {
                let mut row = analytic::row_values(&batch, index)?;
                scalar::settle_values(&mut row, &types, &self.facts())?;
                rows.push(row);
            }
        }
        Ok((types, rows))
    }

    /// Does what blocks where queries do.
    pub(super) async fn at_workers<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, scry_mirror::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let working = self.database.analytic().workers().spawn_blocking(work);
        let done = working.await;
        Ok(done.map_err(|_| Error::internal("a worker on the mirror failed"))??)
    }

    /// Where the rows of a plan come from. The caller has begun the statement.
    pub(super) async fn source(&mut self, plan: &AnalyticPlan, primary: bool) -> Result<Source, Error> {
        if plan.catalog_only() {
            return Ok(Source::None);
        }
        if plan.reads_futures() {
            return self.source_with_futures(plan, primary).await;
        }
        if primary {
            return self.primary_source(plan).await;
        }
        if let Some(snapshot) = self.held(plan)? {
            let own = HashMap::new();
            return Ok(Source::Mirror { snapshot, own });
        }
        let txn = self.transaction.open_txn()?;
        for table in plan.tables() {
            txn.note_store_read(table.def.store);
        }
        let (isolation, depends_on) = (txn.isolation(), txn.depends_on());
        let own = match txn.has_writes() {
            true => plan
                .tables()
                .iter()
                .map(|table| Ok((table.def.store, txn.own_writes(table.def.store)?)))
                .collect::<Result<_, Error>>()?,
            false => HashMap::new(),
        };
        if isolation.keeps_snapshot() {
            return self.source_at_snapshot(plan, own).await;
        }
        let snapshot = self.mirror_snapshot(Need::AtLeast(depends_on)).await?;
        Ok(Source::Mirror { snapshot, own })
    }

    /// The rows of the state that the transaction reads, with its `own`: of the mirror, or where that has not got it, as when it was made after
    /// the snapshot was taken, of the engine.
    async fn source_at_snapshot(
        &mut self,
        plan: &AnalyticPlan,
        own: HashMap<StoreId, OwnWrites>,
    ) -> Result<Source, Error> {
        let at = self.transaction.open_txn()?.snapshot();
        match self.mirror_snapshot(Need::Exactly(at)).await {
            Ok(snapshot) => Ok(Source::Mirror { snapshot, own }),
            Err(error) if error.code == SqlState::SNAPSHOT_TOO_OLD => {
                match self.settings.active().read_from {
                    ReadFrom::Mirror => {
                        Err(error.with_hint("SET scry.read_from = auto reads the primary instead."))
                    }
                    ReadFrom::Auto | ReadFrom::Primary => self.primary_source(plan).await,
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The primary's rows at the statement's snapshot.
    pub(super) async fn primary_source(&mut self, plan: &AnalyticPlan) -> Result<Source, Error> {
        let txn = self.transaction.open_txn()?;
        let source = PrimarySource::open(plan, |table| Ok(txn.begin_scan(table, KeyRange::all())?))?;
        let snapshot = txn.snapshot();
        self.durable(snapshot).await?;
        Ok(Source::Primary(source))
    }

    /// The mirror, once it has what a query needs.
    pub(super) async fn mirror_snapshot(&self, need: Need) -> Result<Arc<Snapshot>, Error> {
        let freshness = self.settings.active().freshness;
        let database = &self.database;
        let opening =
            analytic::mirror_snapshot(database.analytic(), database.mirror(), &self.log, freshness, need);
        self.interrupt.waiting(opening).await?
    }

    /// UPDATE or DELETE whose rows a query finds.
    pub(super) async fn start_searched(
        &mut self,
        portal: &mut Portal,
        limit: usize,
        out: &mut BytesMut,
    ) -> Result<Advance, Error> {
        let planned = portal.planned.clone();
        let Kind::Searched(plan) = &planned.kind else {
            return Err(Error::internal("not a searched plan"));
        };
        let what = if plan.assigned.is_some() {
            "UPDATE"
        } else {
            "DELETE"
        };
        self.transaction.check_writable(&self.settings, what)?;
        let found = self.settle(portal, plan).await?;
        let (txn, foreign_keys) = self.transaction.parts()?;
        let facts = facts(&self.identity, &self.settings, self.times);
        let mut exec = Exec {
            txn,
            foreign_keys,
            interrupt: &self.interrupt,
            params: portal.params.values(),
            facts: &facts,
            formats: &portal.formats,
            read: Lsn::ZERO,
        };
        let mut buffer = BytesMut::new();
        let sink = if limit == 0 { &mut *out } else { &mut buffer };
        let count = found.len() as u64;
        if plan.assigned.is_none() || plan.touches.references {
            foreign_keys::enter(&mut exec, &plan.table, true).await?;
        }
        for row in found {
            apply(&mut exec, plan, row, sink).await?;
        }
        foreign_keys::settle(&mut exec).await?;
        let tag = if plan.assigned.is_some() {
            CommandTag::Update(count)
        } else {
            CommandTag::Delete(count)
        };
        self.wrote(portal, tag, plan.returning().is_some(), buffer, limit, out)
            .await
    }

    /// Finds the rows and locks them. When one has changed since the snapshot, the locks are kept and the rows are
    /// looked for again at a fresh one, until what was found is what is locked.
    async fn settle(&mut self, portal: &Portal, plan: &SearchedPlan) -> Result<Vec<Found>, Error> {
        for _ in 0..MAX_SEARCHES {
            let found = self.search(portal, plan).await?;
            let txn = self.transaction.open_txn()?;
            let mut same = true;
            for row in &found {
                self.interrupt.waiting(txn.room()).await??;
                let locked = self
                    .interrupt
                    .locking(txn.lock(&plan.table, row.key.as_ref()))
                    .await??;
                same &= locked.is_some_and(|version| version.row == row.before);
            }
            if same {
                return Ok(found);
            }
            txn.statement();
        }
        Err(Error::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not update: the rows found keep changing",
        ))
    }

    async fn search(&mut self, portal: &Portal, plan: &SearchedPlan) -> Result<Vec<Found>, Error> {
        let table = &plan.table;
        let params = portal.params.scalars(plan.query.param_types())?;
        let source = self.source(&plan.query, true).await?;
        let catalog = self.catalog();
        let scope = self.scope(&catalog);
        let rows = self
            .database
            .analytic()
            .execute(&plan.query, source, &scope, params);
        let mut stream = Stream::new(plan.query.clone(), rows, self.settings.zone().clone());
        let facts = facts(&self.identity, &self.settings, self.times);
        // Identity → new values. The first match of a join counts.
        let mut wanted: HashMap<Vec<u8>, Vec<Value>> = HashMap::new();
        while let Some(batch) = stream.batch(&self.interrupt).await? {
            for index in 0..batch.num_rows() {
                let mut row = analytic::row_values(&batch, index)?;
                scalar::settle_values(&mut row, &plan.types, &facts)?;
                let env = Env::new(&[], &facts).with_values(&row);
                let cast = |casts: &[Scalar]| -> Result<Vec<Value>, Error> {
                    casts
                        .iter()
                        .map(|cast| Ok(scalar::eval(cast, &env)?.into_value()))
                        .collect()
                };
                let known = cast(&plan.identity_casts)?;
                let identity = identify(table, &known)?;
                if wanted.len() >= MAX_FOUND {
                    return Err(Error::new(
                        SqlState::PROGRAM_LIMIT_EXCEEDED,
                        format!(
                            "cannot change more than {MAX_FOUND} rows that a query has to find in one statement"
                        ),
                    ));
                }
                let Entry::Vacant(place) = wanted.entry(identity) else {
                    continue;
                };
                place.insert(cast(&plan.value_casts)?);
            }
        }
        let txn = self.transaction.open_txn()?;
        let mut found = Vec::with_capacity(wanted.len());
        if table.key_columns().is_some() {
            for (key, values) in wanted {
                let key = Key::from_bytes(&key);
                if let Some(version) = txn.get(table, key.as_ref())? {
                    found.push(Found {
                        key,
                        before: version.row,
                        values,
                    });
                }
            }
            // One order for everybody: fewer deadlocks.
            found.sort_unstable_by(|a, b| a.key.as_ref().cmp(b.key.as_ref()));
        } else if !wanted.is_empty() {
            let (columns, layout) = identity_layout(table);
            let mut cursor = txn.begin_scan(table, KeyRange::all())?;
            loop {
                let batch = cursor.next_batch(1024)?;
                if batch.is_empty() {
                    break;
                }
                self.interrupt.check()?;
                for (key, version) in batch {
                    let row = table.layout.row(&version.row);
                    let row: Vec<_> = columns.iter().map(|column| row.get(*column)).collect();
                    if let Some(values) = wanted.get(&layout.encode_datums(&row)?) {
                        found.push(Found {
                            key,
                            before: version.row,
                            values: values.clone(),
                        });
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The bytes by which a row is known: its key, or the whole row.
fn identify(table: &Table, values: &[Value]) -> Result<Vec<u8>, Error> {
    if table.key_columns().is_some() {
        return Ok(Key::encode(values.iter().map(Value::as_datum)).as_ref().to_vec());
    }
    Ok(identity_layout(table).1.encode(values)?)
}

/// The columns by whose values rows are known that have no key, and their layout.
fn identity_layout(table: &Table) -> (Vec<usize>, RowLayout) {
    let (numbers, types): (Vec<usize>, Vec<DataType>) = table
        .def
        .live_columns()
        .map(|(number, column)| (number, column.ty))
        .unzip();
    let layout = RowLayout::new(&types);
    (numbers, layout)
}

async fn apply(
    exec: &mut Exec<'_>,
    plan: &SearchedPlan,
    found: Found,
    out: &mut BytesMut,
) -> Result<(), Error> {
    let table = &plan.table;
    let Some(columns) = &plan.assigned else {
        update::returning(exec, plan.returning(), table, &found.before, out)?;
        return update::remove(exec, table, &found.key, &found.before).await;
    };
    let mut row = table.layout.row(&found.before).values();
    for (column, value) in columns.iter().zip(found.values) {
        if value.is_null() && table.def.columns[*column].not_null {
            row[*column] = Value::Null;
            return Err(context::not_null_violation(table, *column, &row, exec.facts));
        }
        row[*column] = value;
    }
    let (row, _) = insert::encode(exec, table, |column| row[column].as_datum())?;
    update::returning(exec, plan.returning(), table, &row, out)?;
    update::replace(exec, table, &found.key, (&found.before, row), plan.touches).await
}
