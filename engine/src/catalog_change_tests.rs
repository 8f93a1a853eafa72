//! Catalog changes come back from their bytes, and other bytes are refused.

use super::*;
use crate::collision::{ColumnRule, Fuzzy, RowRule};
use crate::election::change::{Score, Verdict};
use crate::election::{Parameter, Privileges, Recorded};
use scry_wal::{Lsn, Micros, Ordinal};

fn samples() -> Vec<CatalogChange> {
    let column = |name: &str, ty, not_null, default: Option<&str>| ColumnDef {
        not_null,
        default: default.map(|text| ColumnDefault::Expression(text.to_owned())),
        ..ColumnDef::new(name, ty)
    };
    let sequence = SequenceDef {
        oid: 16400,
        name: "orders_id_seq".to_owned(),
        store: StoreId::new(11),
        options: SequenceOptions {
            ty: DataType::Int4,
            start: -1,
            increment: -2,
            min: i64::MIN,
            max: -1,
            cache: 20,
            cycle: true,
        },
        owner: Some(SequenceOwner {
            table: 16384,
            column: 1,
        }),
    };
    let key = PrimaryKey {
        name: "orders_pkey".to_owned(),
        columns: vec![1, 0],
    };
    vec![
        CatalogChange::CreateTable(TableDef {
            oid: 16384,
            name: "orders".to_owned(),
            columns: vec![
                column("id", DataType::Int8, true, None),
                ColumnDef {
                    default: Some(ColumnDefault::Identity {
                        sequence: 16400,
                        always: true,
                    }),
                    ..column("number", DataType::Int4, true, None)
                },
                ColumnDef {
                    default: Some(ColumnDefault::Generated("id * 2".to_owned())),
                    ..column("twice", DataType::Int8, false, None)
                },
                column("note", DataType::Varchar(Some(20)), false, Some("'né'")),
            ],
            primary_key: Some(key.clone()),
            store: StoreId::new(3),
            foreign_keys: vec![ForeignKeyDef {
                name: "orders_id_fkey".to_owned(),
                columns: vec![0],
                table: 16385,
                referenced: vec![0],
                on_delete: KeyAction::SetDefault,
                on_update: KeyAction::Cascade,
                matching: KeyMatch::Full,
                deferrable: true,
                deferred: false,
                validated: true,
            }],
            ..TableDef::default()
        }),
        CatalogChange::Redefine(TableDef {
            oid: 16385,
            name: "items".to_owned(),
            columns: vec![
                column("id", DataType::Int4, false, None),
                ColumnDef {
                    missing: Some(Value::Text("né".to_owned())),
                    ..column("note", DataType::Text, true, None)
                },
                ColumnDef {
                    missing: Some(Value::Null),
                    dropped: true,
                    ..column("........pg.dropped.3........", DataType::Int8, false, None)
                },
            ],
            primary_key: None,
            store: StoreId::new(7),
            checks: vec![CheckDef {
                name: "items_id_check".to_owned(),
                expression: "id > 0".to_owned(),
            }],
            indexes: vec![IndexDef {
                oid: 16390,
                name: "items_id_key".to_owned(),
                store: StoreId::new(8),
                columns: vec![0],
                unique: true,
                constraint: true,
                valid: false,
            }],
            referenced_by: vec![ReferenceDef {
                table: 16384,
                columns: vec![0],
            }],
            ..TableDef::default()
        }),
        CatalogChange::CreateSequence(sequence.clone()),
        CatalogChange::RedefineSequence(SequenceDef {
            owner: None,
            ..sequence
        }),
        CatalogChange::DropSequence {
            oid: 16400,
            store: StoreId::new(11),
        },
        CatalogChange::DropTable {
            oid: 16385,
            store: StoreId::new(4),
        },
        CatalogChange::Truncate {
            oid: 16386,
            old: StoreId::new(5),
            new: StoreId::new(6),
        },
        CatalogChange::AddPrimaryKey { oid: 16387, key },
        CatalogChange::SetRules {
            oid: 16388,
            rules: Rules {
                row: Some(RowRule::Highest(2)),
                fuzzy: Fuzzy::parse("insert_as_update, ignore_missing").unwrap_or_default(),
                columns: vec![
                    (1, ColumnRule::Add),
                    (2, ColumnRule::Concatenate(", ".to_owned())),
                    (7, ColumnRule::Expression("present".to_owned())),
                ],
            },
        },
        CatalogChange::Election(ElectionChange::CreateElection {
            id: 1,
            name: "spring".to_owned(),
            owner: "ada".to_owned(),
            created: Micros::new(-1),
            winners: 1,
        }),
        CatalogChange::Election(ElectionChange::CreateCandidate {
            election: 1,
            id: 2,
            name: "up5".to_owned(),
            created: Micros::new(7),
            mirrored: true,
            weight: 0.25,
            note: "five per cent".to_owned(),
        }),
        CatalogChange::Election(ElectionChange::CreateBranch {
            candidate: 2,
            base: StoreId::new(3),
            store: StoreId::new(9),
            mirrored: false,
            columns: vec![column("id", DataType::Int8, true, None)],
        }),
        CatalogChange::Election(ElectionChange::Adopt {
            candidate: 2,
            branch: StoreId::new(9),
            base: StoreId::new(3),
            count: 12,
            skipped: vec![Ordinal::new(4), Ordinal::new(u64::MAX)],
        }),
        CatalogChange::Election(ElectionChange::EndCandidate {
            candidate: 2,
            elected: true,
            branches: vec![StoreId::new(9)],
        }),
        CatalogChange::Election(ElectionChange::EndElection {
            election: 1,
            committed: true,
        }),
        CatalogChange::Election(ElectionChange::ForgetElection { election: 1 }),
        CatalogChange::Election(ElectionChange::Rebase { candidate: 2 }),
        CatalogChange::Election(ElectionChange::Grant {
            election: 1,
            grantee: Some("ada".to_owned()),
            privileges: Privileges::READ.with(Privileges::ELECT),
            revoked: false,
        }),
        CatalogChange::Election(ElectionChange::Grant {
            election: 1,
            grantee: None,
            privileges: Privileges::ALL,
            revoked: true,
        }),
        CatalogChange::Election(ElectionChange::Discard {
            candidate: 2,
            branches: vec![StoreId::new(4), StoreId::new(5)],
        }),
        CatalogChange::Election(ElectionChange::Record {
            candidate: 2,
            statement: Recorded {
                text: "DELETE FROM t WHERE a = $1 OR b = $2".to_owned(),
                zone: "Europe/Berlin".to_owned(),
                parameters: vec![
                    Parameter {
                        ty: 23,
                        value: Some("7".to_owned()),
                    },
                    Parameter { ty: 25, value: None },
                ],
            },
        }),
        CatalogChange::Election(ElectionChange::AlterCandidate {
            candidate: 2,
            mirrored: Some(false),
            weight: None,
            note: Some("later".to_owned()),
        }),
        CatalogChange::Election(ElectionChange::AlterCandidate {
            candidate: 2,
            mirrored: None,
            weight: Some(0.5),
            note: None,
        }),
        CatalogChange::Election(ElectionChange::Expire {
            election: 1,
            upto: Lsn::new(77),
        }),
        CatalogChange::Election(ElectionChange::Decide {
            candidate: 2,
            base: StoreId::new(3),
            verdict: Verdict::Put,
            reason: "merge, price: add".to_owned(),
            keys: vec![vec![1, 0, 255], Vec::new()],
        }),
        CatalogChange::Election(ElectionChange::Score {
            election: 1,
            query: "SELECT sum(price) FROM products".to_owned(),
            maximize: true,
            scores: vec![
                Score {
                    candidate: "up5".to_owned(),
                    score: Some("12.50".to_owned()),
                    admissible: true,
                    elected: true,
                },
                Score {
                    candidate: "sale".to_owned(),
                    score: None,
                    admissible: false,
                    elected: false,
                },
            ],
        }),
    ]
}

#[test]
fn a_change_reads_back_as_it_was_written_and_every_cut_is_refused() {
    for change in samples() {
        let mut bytes = Vec::new();
        change.encode(&mut bytes);
        assert_eq!(CatalogChange::decode(&bytes), Ok(change));
        for length in 0..bytes.len() {
            assert!(
                CatalogChange::decode(&bytes[..length]).is_err(),
                "cut at {length}"
            );
        }
        bytes.push(0);
        assert!(CatalogChange::decode(&bytes).is_err(), "trailing byte");
    }
}

#[test]
fn another_version_or_kind_is_refused() {
    assert!(CatalogChange::decode(&[3, 2, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    assert!(CatalogChange::decode(&[2, 15, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
}
