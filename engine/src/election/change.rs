//! Changes of elections as the log carries them, inside catalog changes; see `catalog_change` for how values are written.
//!
//! | change | bytes after version and kind |
//! |---|---|
//! | 16 create election | id u64, name, owner, wall clock i64, winners u32 |
//! | 17 create candidate | election u64, id u64, name, wall clock i64, mirrored u8, weight f64, note |
//! | 18 create branch | candidate u64, base store u32, store u32, mirrored u8, list of columns |
//! | 19 adopt | candidate u64, branch store u32, base store u32, count u64, list of skipped ordinals u64 |
//! | 20 end candidate | candidate u64, elected u8, list of its branch stores u32 |
//! | 21 end election | election u64, committed u8 |
//! | 22 forget election | election u64 |
//! | 23 rebase | candidate u64 |
//! | 24 decide | candidate u64, base store u32, verdict u8, reason, list of keys (length u32 and bytes) |
//! | 25 score | election u64, query, maximize u8, list of scores |
//! | 26 grant | election u64, revoked u8, privileges u8 (1 create, 2 write, 4 read, 8 elect), option of user (else PUBLIC) |
//! | 27 discard | candidate u64, list of its branch stores u32 |
//! | 28 record | candidate u64, text, time zone, list of parameters |
//! | 29 alter candidate | candidate u64, option of mirrored u8, option of weight f64, option of note |
//! | 30 expire | election u64, LSN u64 |
//! | score | candidate, option of score, admissible u8, elected u8 |
//! | parameter | number of its type u32, option of text |

use super::recorded::{Parameter, Recorded};
use crate::catalog::ColumnDef;
use crate::catalog_change::{CatalogChangeError, Reader, put_column, put_len, put_text, put_u32, put_u64};
use crate::election::Privileges;
use scry_wal::{Lsn, Micros, Ordinal, StoreId};

/// One change of the elections.
#[derive(Clone, Debug, PartialEq)]
pub enum ElectionChange {
    CreateElection {
        id: u64,
        name: String,
        owner: String,
        created: Micros,
        winners: u32,
    },
    CreateCandidate {
        election: u64,
        id: u64,
        name: String,
        created: Micros,
        mirrored: bool,
        weight: f64,
        note: String,
    },
    /// A store for what a candidate changes in `base`.
    CreateBranch {
        candidate: u64,
        base: StoreId,
        store: StoreId,
        mirrored: bool,
        columns: Vec<ColumnDef>,
    },
    /// The rows of a branch become rows of its base: ordinal *o* becomes *first + o*, where *first* is the first ordinal
    /// that the commit takes in the base. Deleted ones, and those in `skipped`, are dead from the beginning; the
    /// versions that the others name as replaced end.
    Adopt {
        candidate: u64,
        branch: StoreId,
        base: StoreId,
        count: u64,
        skipped: Vec<Ordinal>,
    },
    /// The branches of the candidate vanish.
    EndCandidate {
        candidate: u64,
        elected: bool,
        branches: Vec<StoreId>,
    },
    EndElection {
        election: u64,
        committed: bool,
    },
    ForgetElection {
        election: u64,
    },
    /// The base of the candidate is now the state that this commit leaves.
    Rebase {
        candidate: u64,
    },
    /// How rows were decided that the candidate and others had changed.
    Decide {
        candidate: u64,
        base: StoreId,
        verdict: Verdict,
        /// The rules that decided.
        reason: String,
        /// Encoded keys of the rows.
        keys: Vec<Vec<u8>>,
    },
    /// What the futures of an election answered to the query by which it was decided.
    Score {
        election: u64,
        /// Text, opaque to the engine.
        query: String,
        maximize: bool,
        scores: Vec<Score>,
    },
    /// What a user may do with the election.
    Grant {
        election: u64,
        /// `None`: PUBLIC.
        grantee: Option<String>,
        privileges: Privileges,
        revoked: bool,
    },
    /// The branches of the candidate vanish; it goes on with others.
    Discard {
        candidate: u64,
        branches: Vec<StoreId>,
    },
    /// A statement that the candidate consists of.
    Record {
        candidate: u64,
        statement: Recorded,
    },
    /// What is `None` stays. The mirror flag changes only of a candidate without branches.
    AlterCandidate {
        candidate: u64,
        mirrored: Option<bool>,
        weight: Option<f64>,
        note: Option<String>,
    },
    /// The bases of the election and its candidates up to this LSN are let go of.
    Expire {
        election: u64,
        upto: Lsn,
    },
}

/// What one candidate's future answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Its name.
    pub candidate: String,
    /// As text; `None`: NULL.
    pub score: Option<String>,
    pub admissible: bool,
    pub elected: bool,
}

/// What became of a row that the candidate and others had changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Kept,
    Put,
    Deleted,
    Deferred,
}

impl Verdict {
    /// In `scry log`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Kept => "kept",
            Verdict::Put => "put",
            Verdict::Deleted => "deleted",
            Verdict::Deferred => "deferred",
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Verdict, CatalogChangeError> {
        let known = [Verdict::Kept, Verdict::Put, Verdict::Deleted, Verdict::Deferred];
        let verdict = known.get(usize::from(reader.u8()?));
        verdict.copied().ok_or_else(|| reader.error("unknown verdict"))
    }
}

pub(crate) const FIRST_KIND: u8 = 16;

impl ElectionChange {
    /// Appends kind and fields.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            ElectionChange::CreateElection {
                id,
                name,
                owner,
                created,
                winners,
            } => {
                out.push(FIRST_KIND);
                put_u64(out, *id);
                put_text(out, name);
                put_text(out, owner);
                put_u64(out, created.get().cast_unsigned());
                put_u32(out, *winners);
            }
            ElectionChange::CreateCandidate {
                election,
                id,
                name,
                created,
                mirrored,
                weight,
                note,
            } => {
                out.push(FIRST_KIND + 1);
                put_u64(out, *election);
                put_u64(out, *id);
                put_text(out, name);
                put_u64(out, created.get().cast_unsigned());
                out.push(u8::from(*mirrored));
                put_u64(out, weight.to_bits());
                put_text(out, note);
            }
            ElectionChange::CreateBranch {
                candidate,
                base,
                store,
                mirrored,
                columns,
            } => {
                out.push(FIRST_KIND + 2);
                put_u64(out, *candidate);
                put_u32(out, base.get());
                put_u32(out, store.get());
                out.push(u8::from(*mirrored));
                put_len(out, columns.len());
                for column in columns {
                    put_column(out, column);
                }
            }
            ElectionChange::Adopt {
                candidate,
                branch,
                base,
                count,
                skipped,
            } => {
                out.push(FIRST_KIND + 3);
                put_u64(out, *candidate);
                put_u32(out, branch.get());
                put_u32(out, base.get());
                put_u64(out, *count);
                put_len(out, skipped.len());
                for ordinal in skipped {
                    put_u64(out, ordinal.get());
                }
            }
            ElectionChange::EndCandidate {
                candidate,
                elected,
                branches,
            } => {
                out.push(FIRST_KIND + 4);
                put_u64(out, *candidate);
                out.push(u8::from(*elected));
                put_len(out, branches.len());
                for store in branches {
                    put_u32(out, store.get());
                }
            }
            ElectionChange::EndElection { election, committed } => {
                out.push(FIRST_KIND + 5);
                put_u64(out, *election);
                out.push(u8::from(*committed));
            }
            ElectionChange::ForgetElection { election } => {
                out.push(FIRST_KIND + 6);
                put_u64(out, *election);
            }
            ElectionChange::Rebase { candidate } => {
                out.push(FIRST_KIND + 7);
                put_u64(out, *candidate);
            }
            ElectionChange::Score {
                election,
                query,
                maximize,
                scores,
            } => {
                out.push(FIRST_KIND + 9);
                put_u64(out, *election);
                put_text(out, query);
                out.push(u8::from(*maximize));
                put_len(out, scores.len());
                for score in scores {
                    put_text(out, &score.candidate);
                    put_optional_text(out, score.score.as_deref());
                    out.push(u8::from(score.admissible));
                    out.push(u8::from(score.elected));
                }
            }
            ElectionChange::Grant {
                election,
                grantee,
                privileges,
                revoked,
            } => {
                out.push(FIRST_KIND + 10);
                put_u64(out, *election);
                out.push(u8::from(*revoked));
                out.push(privileges.byte());
                put_optional_text(out, grantee.as_deref());
            }
            ElectionChange::Discard { candidate, branches } => {
                out.push(FIRST_KIND + 11);
                put_u64(out, *candidate);
                put_len(out, branches.len());
                for store in branches {
                    put_u32(out, store.get());
                }
            }
            ElectionChange::Record { candidate, statement } => {
                out.push(FIRST_KIND + 12);
                put_u64(out, *candidate);
                put_text(out, &statement.text);
                put_text(out, &statement.zone);
                put_len(out, statement.parameters.len());
                for parameter in &statement.parameters {
                    put_u32(out, parameter.ty);
                    put_optional_text(out, parameter.value.as_deref());
                }
            }
            ElectionChange::AlterCandidate {
                candidate,
                mirrored,
                weight,
                note,
            } => {
                out.push(FIRST_KIND + 13);
                put_u64(out, *candidate);
                out.push(u8::from(mirrored.is_some()));
                out.extend(mirrored.map(u8::from));
                out.push(u8::from(weight.is_some()));
                if let Some(weight) = weight {
                    put_u64(out, weight.to_bits());
                }
                put_optional_text(out, note.as_deref());
            }
            ElectionChange::Expire { election, upto } => {
                out.push(FIRST_KIND + 14);
                put_u64(out, *election);
                put_u64(out, upto.get());
            }
            ElectionChange::Decide {
                candidate,
                base,
                verdict,
                reason,
                keys,
            } => {
                out.push(FIRST_KIND + 8);
                put_u64(out, *candidate);
                put_u32(out, base.get());
                out.push(*verdict as u8);
                put_text(out, reason);
                put_len(out, keys.len());
                for key in keys {
                    put_len(out, key.len());
                    out.extend_from_slice(key);
                }
            }
        }
    }

    /// Reads the fields of a change of this kind; `None` when there is no such kind.
    pub(crate) fn decode(
        kind: u8,
        reader: &mut Reader<'_>,
    ) -> Result<Option<ElectionChange>, CatalogChangeError> {
        let Some(kind) = kind.checked_sub(FIRST_KIND) else {
            return Ok(None);
        };
        let micros = |reader: &mut Reader<'_>| Ok(Micros::new(reader.u64()?.cast_signed()));
        Ok(Some(match kind {
            0 => ElectionChange::CreateElection {
                id: reader.u64()?,
                name: reader.text()?,
                owner: reader.text()?,
                created: micros(reader)?,
                winners: reader.u32()?,
            },
            1 => ElectionChange::CreateCandidate {
                election: reader.u64()?,
                id: reader.u64()?,
                name: reader.text()?,
                created: micros(reader)?,
                mirrored: reader.flag()?,
                weight: f64::from_bits(reader.u64()?),
                note: reader.text()?,
            },
            2 => ElectionChange::CreateBranch {
                candidate: reader.u64()?,
                base: StoreId::new(reader.u32()?),
                store: StoreId::new(reader.u32()?),
                mirrored: reader.flag()?,
                columns: reader.table_columns()?,
            },
            3 => ElectionChange::Adopt {
                candidate: reader.u64()?,
                branch: StoreId::new(reader.u32()?),
                base: StoreId::new(reader.u32()?),
                count: reader.u64()?,
                skipped: reader.list(|reader| Ok(Ordinal::new(reader.u64()?)))?,
            },
            4 => ElectionChange::EndCandidate {
                candidate: reader.u64()?,
                elected: reader.flag()?,
                branches: reader.list(|reader| Ok(StoreId::new(reader.u32()?)))?,
            },
            5 => ElectionChange::EndElection {
                election: reader.u64()?,
                committed: reader.flag()?,
            },
            6 => ElectionChange::ForgetElection {
                election: reader.u64()?,
            },
            7 => ElectionChange::Rebase {
                candidate: reader.u64()?,
            },
            8 => ElectionChange::Decide {
                candidate: reader.u64()?,
                base: StoreId::new(reader.u32()?),
                verdict: Verdict::decode(reader)?,
                reason: reader.text()?,
                keys: reader.list(|reader| Ok(reader.bytes()?.to_vec()))?,
            },
            9 => ElectionChange::Score {
                election: reader.u64()?,
                query: reader.text()?,
                maximize: reader.flag()?,
                scores: reader.list(|reader| {
                    Ok(Score {
                        candidate: reader.text()?,
                        score: optional_text(reader)?,
                        admissible: reader.flag()?,
                        elected: reader.flag()?,
                    })
                })?,
            },
            10 => ElectionChange::Grant {
                election: reader.u64()?,
                revoked: reader.flag()?,
                privileges: {
                    let byte = reader.u8()?;
                    Privileges::from_byte(byte).ok_or_else(|| reader.error("unknown privilege"))?
                },
                grantee: optional_text(reader)?,
            },
            11 => ElectionChange::Discard {
                candidate: reader.u64()?,
                branches: reader.list(|reader| Ok(StoreId::new(reader.u32()?)))?,
            },
            12 => ElectionChange::Record {
                candidate: reader.u64()?,
                statement: Recorded {
                    text: reader.text()?,
                    zone: reader.text()?,
                    parameters: reader.list(|reader| {
                        Ok(Parameter {
                            ty: reader.u32()?,
                            value: optional_text(reader)?,
                        })
                    })?,
                },
            },
            13 => ElectionChange::AlterCandidate {
                candidate: reader.u64()?,
                mirrored: reader.flag()?.then(|| reader.flag()).transpose()?,
                weight: reader
                    .flag()?
                    .then(|| Ok(f64::from_bits(reader.u64()?)))
                    .transpose()?,
                note: optional_text(reader)?,
            },
            14 => ElectionChange::Expire {
                election: reader.u64()?,
                upto: Lsn::new(reader.u64()?),
            },
            _ => return Ok(None),
        }))
    }
}

fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(out, text);
    }
}

fn optional_text(reader: &mut Reader<'_>) -> Result<Option<String>, CatalogChangeError> {
    reader.flag()?.then(|| reader.text()).transpose()
}
