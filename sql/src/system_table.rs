//! System tables: tables that sessions keep for themselves, found by fixed oids. They are written by transactions like others, so
//! durable, mirrored and read like any table; each is made when it is first needed.

use crate::error::{Error, SqlState};
use scry_engine::{
    Catalog, ColumnDef, DataType, Engine, Error as EngineError, Isolation, KeyRange, NewTable, PrimaryKey,
    SessionInfo, Table, Txn,
};
use std::ops::ControlFlow;
use std::sync::Arc;

/// One system table. Its first column, `id int8`, is the primary key.
#[derive(Debug)]
pub struct SystemTable {
    pub oid: u32,
    /// Its name in the schema `scry`.
    pub name: &'static str,
    /// The columns as a view declares them.
    pub columns: &'static str,
}

impl SystemTable {
    pub fn definition(&self) -> NewTable {
        let columns = self.columns.split(',');
        let columns = columns.filter_map(|column| column.trim().split_once(' '));
        let columns = columns.map(|(name, ty)| ColumnDef {
            name: name.to_owned(),
            ty: match ty {
                "int8" => DataType::Int8,
                "float8" => DataType::Float8,
                "jsonb" => DataType::Jsonb,
                "timestamptz" => DataType::TimestampTz,
                _ => DataType::Text,
            },
            not_null: name == "id",
            default: None,
        });
        NewTable {
            name: self.name.to_owned(),
            columns: columns.collect(),
            primary_key: Some(PrimaryKey {
                name: format!("{}_pkey", self.name),
                columns: vec![0],
            }),
        }
    }

    /// The table as a transaction or a query finds it; `None`: nothing was ever put into it.
    pub fn table<'c>(&self, catalog: &'c Catalog) -> Option<&'c Arc<Table>> {
        catalog.by_oid(self.oid)
    }

    /// The table for a transaction that writes into it; `ensure` came before.
    ///
    /// # Errors
    /// 40001 when the transaction began before there was a table.
    pub fn for_writing(&self, txn: &Txn) -> Result<Arc<Table>, Error> {
        self.table(txn.catalog()).cloned().ok_or_else(|| {
            let text = format!("scry.{} is younger than this transaction", self.name);
            Error::new(SqlState::SERIALIZATION_FAILURE, text)
        })
    }

    /// Makes the table if there is none.
    pub async fn ensure(&self, engine: &Arc<Engine>) -> Result<(), Error> {
        while self.table(&engine.catalog()).is_none() {
            let mut session = engine.session(SessionInfo::default());
            let mut txn = session.begin(Isolation::ReadCommitted);
            let created = txn.create_system_table(self.oid, self.definition()).await;
            match created.and_then(|_| txn.commit("CREATE TABLE")) {
                // Another session was first.
                Ok(_) | Err(EngineError::DuplicateTable { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The greatest id in it.
    pub fn last_id(&self, txn: &mut Txn, table: &Table) -> i64 {
        let mut last = 0;
        txn.scan(table, &KeyRange::all(), &mut |_, version| {
            last = table.layout.row(&version.row).get(0).integer().unwrap_or(last);
            ControlFlow::Continue(())
        });
        last
    }
}
