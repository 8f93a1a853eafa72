//! System tables: tables that sessions keep for themselves, found by fixed oids. They are written by transactions like others, so
//! durable, mirrored and read like any table; each is made when it is first needed.

use crate::error::{Error, SqlState};
use scry_engine::{
    Catalog, ColumnDef, DataType, Datum, Engine, Error as EngineError, InsertOutcome, Isolation, Key,
    NewTable, PrimaryKey, SessionInfo, Table, Txn, Value,
};
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
        let columns = columns.map(|(name, ty)| {
            let ty = match ty {
                "int8" => DataType::Int8,
                "float8" => DataType::Float8,
                "jsonb" => DataType::Jsonb,
                "timestamptz" => DataType::TimestampTz,
                _ => DataType::Text,
            };
            ColumnDef {
                not_null: name == "id",
                ..ColumnDef::new(name, ty)
            }
        });
        NewTable {
            name: self.name.to_owned(),
            columns: columns.collect(),
            primary_key: Some(PrimaryKey {
                name: format!("{}_pkey", self.name),
                columns: vec![0],
            }),
            ..NewTable::default()
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

    /// Adds a row under `id`, or the next that is free; answers which. The first of `values` is written here.
    ///
    /// # Errors
    /// What `insert` answers.
    pub async fn insert(
        txn: &mut Txn,
        table: &Table,
        mut id: i64,
        mut values: Vec<Value>,
    ) -> Result<i64, Error> {
        loop {
            values[0] = Value::Int8(id);
            let row = table.layout.encode(&values)?;
            if matches!(
                txn.insert(table, Some(key(id)), row).await?,
                InsertOutcome::Inserted(_)
            ) {
                return Ok(id);
            }
            id += 1;
        }
    }

    /// The columns with these numbers have these names, and there are so many.
    #[cfg(test)]
    pub fn check_numbers(&self, numbers: &[(usize, &str)], count: usize) {
        let columns = self.definition().columns;
        for (number, name) in numbers {
            assert_eq!(columns[*number].name, *name);
        }
        assert_eq!(columns.len(), count);
    }
}

/// The key of the row with this id.
pub fn key(id: i64) -> Key {
    Key::encode([Datum::Int8(id)])
}
