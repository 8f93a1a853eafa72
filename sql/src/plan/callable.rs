//! Statements as functions of the schema `scry`, for clients that send nothing but SELECT and CALL.
//!
//! A function is a line in [`ALL`]: how it is called, what it answers, and the statement that it stands for.

use crate::conflicts;
use crate::error::{Error, SqlState};
use crate::plan::election_option as option;
use crate::plan::statement::ElectionStatement;
use scry_engine::DataType;
use scry_engine::election::CandidateChanges;
use std::fmt;

/// The schema of the functions.
pub const SCHEMA: &str = "scry";

/// What a call does.
#[derive(Debug)]
pub enum Action {
    Election(ElectionStatement),
    /// `SET name = value`, one after the other.
    Set(Vec<(&'static str, String)>),
    /// A query that is asked of the futures of an election, to be compared with what becomes true.
    Predict {
        election: String,
        class: String,
        query: String,
    },
    /// What is to be done about an entry of the queue of conflicts.
    Resolve {
        id: i64,
        action: conflicts::Action,
        values: String,
    },
    Savepoint(Savepoint),
}

/// What is to be done about a savepoint of the mirror.
#[derive(Debug)]
pub enum Savepoint {
    Make(String),
    Rollback(String),
    Resume,
    Release(String),
}

/// What the one row of a call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The first argument; NULL when it is empty.
    Name,
    /// How many rows were changed.
    Rows,
    /// Whether there was something to be done.
    Done,
    /// The candidate that was elected.
    Winner,
}

impl Answer {
    pub fn ty(self) -> DataType {
        match self {
            Answer::Name | Answer::Winner => DataType::Text,
            Answer::Rows => DataType::Int8,
            Answer::Done => DataType::Bool,
        }
    }
}

/// A function.
pub struct Callable {
    pub name: &'static str,
    /// `name type [= default], …`. The type is that of parameters which have none; any other argument is taken as
    /// its text.
    pub takes: &'static str,
    pub answer: Answer,
    pub action: fn(&Arguments) -> Result<Action, Error>,
}

pub const ALL: &[Callable] = &[
    Callable {
        name: "create_election",
        takes: "election text, winners integer = 1, private boolean = off",
        answer: Answer::Name,
        action: |given| {
            Ok(Action::Election(ElectionStatement::CreateElection {
                name: option::name(given.text("election"))?,
                winners: option::winners(given.text("winners"))?,
                private: option::flag("private", given.text("private"))?,
            }))
        },
    },
    Callable {
        name: "create_candidate",
        takes: "candidate text, mirror boolean = on, weight double precision = 1, note text = ''",
        answer: Answer::Name,
        action: |given| {
            let (election, name) = option::candidate(given.text("candidate"))?;
            Ok(Action::Election(ElectionStatement::CreateCandidate {
                name,
                election,
                mirrored: option::flag("mirror", given.text("mirror"))?,
                weight: option::weight(given.text("weight"))?,
                note: given.text("note").to_owned(),
            }))
        },
    },
    Callable {
        name: "grant_election",
        takes: "election text, privileges text, grantee text",
        answer: Answer::Name,
        action: |given| grant(given, false),
    },
    Callable {
        name: "revoke_election",
        takes: "election text, privileges text, grantee text",
        answer: Answer::Name,
        action: |given| grant(given, true),
    },
    Callable {
        name: "alter_candidate",
        takes: "candidate text, mirror boolean = '', weight double precision = '', note text = ''",
        answer: Answer::Name,
        action: |given| {
            let (election, name) = option::candidate(given.text("candidate"))?;
            let given = |name| Some(given.text(name)).filter(|text| !text.is_empty());
            Ok(Action::Election(ElectionStatement::AlterCandidate {
                name,
                election,
                changes: CandidateChanges {
                    mirrored: given("mirror")
                        .map(|flag| option::flag("mirror", flag))
                        .transpose()?,
                    weight: given("weight").map(option::weight).transpose()?,
                    note: given("note").map(str::to_owned),
                },
            }))
        },
    },
    Callable {
        name: "set_candidate",
        takes: "candidate text = '', mode text = rows",
        answer: Answer::Name,
        action: |given| {
            Ok(Action::Set(vec![
                ("scry.candidate_mode", given.text("mode").to_owned()),
                ("scry.candidate", given.text("candidate").to_owned()),
            ]))
        },
    },
    Callable {
        name: "set_future",
        takes: "future text = ''",
        answer: Answer::Name,
        action: |given| {
            Ok(Action::Set(vec![(
                "scry.future",
                given.text("future").to_owned(),
            )]))
        },
    },
    Callable {
        name: "drop_candidate",
        takes: "candidate text, if_exists boolean = off",
        answer: Answer::Done,
        action: |given| {
            let (election, name) = option::candidate(given.text("candidate"))?;
            Ok(Action::Election(ElectionStatement::DropCandidate {
                name,
                election,
                if_exists: option::flag("if_exists", given.text("if_exists"))?,
            }))
        },
    },
    Callable {
        name: "drop_election",
        takes: "election text, if_exists boolean = off",
        answer: Answer::Done,
        action: |given| {
            Ok(Action::Election(ElectionStatement::DropElection {
                name: option::name(given.text("election"))?,
                if_exists: option::flag("if_exists", given.text("if_exists"))?,
            }))
        },
    },
    Callable {
        name: "expire_base",
        takes: "election text",
        answer: Answer::Done,
        action: |given| {
            Ok(Action::Election(ElectionStatement::ExpireBase {
                election: option::name(given.text("election"))?,
            }))
        },
    },
    Callable {
        name: "elect",
        takes: "candidate text, on_conflict text = fail",
        answer: Answer::Rows,
        action: |given| {
            let (election, candidate) = option::candidate(given.text("candidate"))?;
            Ok(Action::Election(ElectionStatement::Elect {
                candidate,
                election,
                on_conflict: option::on_conflict(given.text("on_conflict"))?,
            }))
        },
    },
    Callable {
        name: "rebase",
        takes: "candidate text, on_conflict text = fail",
        answer: Answer::Rows,
        action: |given| {
            let (election, candidate) = option::candidate(given.text("candidate"))?;
            Ok(Action::Election(ElectionStatement::Rebase {
                candidate,
                election,
                on_conflict: option::on_conflict(given.text("on_conflict"))?,
            }))
        },
    },
    Callable {
        name: "elect_best",
        takes: "election text, query text, maximize boolean = on, subject_to text = '', on_conflict text = fail",
        answer: Answer::Winner,
        action: |given| {
            Ok(Action::Election(ElectionStatement::ElectBest {
                election: option::name(given.text("election"))?,
                query: given.text("query").to_owned(),
                subject: Some(given.text("subject_to").to_owned()).filter(|text| !text.is_empty()),
                maximize: option::flag("maximize", given.text("maximize"))?,
                on_conflict: option::on_conflict(given.text("on_conflict"))?,
            }))
        },
    },
    Callable {
        name: "resolve_conflict",
        takes: "id bigint, action text, values text = ''",
        answer: Answer::Rows,
        action: |given| {
            let id = given.text("id");
            Ok(Action::Resolve {
                id: id.parse().map_err(|_| option::invalid("id", id))?,
                action: conflicts::Action::parse(given.text("action"))?,
                values: given.text("values").to_owned(),
            })
        },
    },
    Callable {
        name: "predict",
        takes: "election text, query text, class text = aggregate",
        answer: Answer::Rows,
        action: |given| {
            Ok(Action::Predict {
                election: option::name(given.text("election"))?,
                class: given.text("class").to_owned(),
                query: given.text("query").to_owned(),
            })
        },
    },
    Callable {
        name: "mirror_savepoint",
        takes: "name text",
        answer: Answer::Name,
        action: |given| Ok(Action::Savepoint(Savepoint::Make(given.text("name").to_owned()))),
    },
    Callable {
        name: "mirror_rollback",
        takes: "name text",
        answer: Answer::Name,
        action: |given| {
            Ok(Action::Savepoint(Savepoint::Rollback(
                given.text("name").to_owned(),
            )))
        },
    },
    Callable {
        name: "mirror_resume",
        takes: "",
        answer: Answer::Done,
        action: |_| Ok(Action::Savepoint(Savepoint::Resume)),
    },
    Callable {
        name: "mirror_release",
        takes: "name text",
        answer: Answer::Name,
        action: |given| {
            Ok(Action::Savepoint(Savepoint::Release(
                given.text("name").to_owned(),
            )))
        },
    },
];

fn grant(given: &Arguments, revoked: bool) -> Result<Action, Error> {
    Ok(Action::Election(ElectionStatement::Grant {
        election: option::name(given.text("election"))?,
        privileges: option::privileges(given.text("privileges"))?,
        grantees: vec![option::grantee(given.text("grantee"))?],
        revoked,
    }))
}

/// The function of this name.
pub fn find(name: &str) -> Option<&'static Callable> {
    ALL.iter().find(|callable| callable.name == name)
}

/// A parameter of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: &'static str,
    pub ty: DataType,
    pub default: Option<&'static str>,
}

impl Callable {
    pub fn parameters(&self) -> impl Iterator<Item = Parameter> {
        let parameters = self.takes.split(", ").filter(|takes| !takes.is_empty());
        parameters.map(|parameter| {
            let (declared, default) = match parameter.split_once(" = ") {
                Some((declared, default)) => (declared, Some(default.trim_matches('\''))),
                None => (parameter, None),
            };
            let (name, ty) = declared.split_once(' ').unwrap_or((declared, "text"));
            let ty = match ty {
                "integer" => DataType::Int4,
                "bigint" => DataType::Int8,
                "boolean" => DataType::Bool,
                "double precision" => DataType::Float8,
                _ => DataType::Text,
            };
            Parameter { name, ty, default }
        })
    }

    /// The error of a call that does not fit, with the function's signature as a hint.
    pub fn misused(&self, message: impl Into<String>) -> Error {
        Error::new(SqlState::UNDEFINED_FUNCTION, message).with_hint(format!("It is {self}."))
    }
}

impl fmt::Display for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEMA}.{}({})", self.name, self.takes)
    }
}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The arguments of a call, as texts, the defaults among them.
pub struct Arguments {
    values: Vec<(&'static str, String)>,
}

impl Arguments {
    /// From what was given for each parameter; `None` and NULL take the default.
    ///
    /// # Errors
    /// 22004 when a parameter without default is NULL.
    pub fn new(callable: &Callable, given: Vec<Option<String>>) -> Result<Arguments, Error> {
        let mut values = Vec::with_capacity(given.len());
        for (parameter, given) in callable.parameters().zip(given) {
            let value = given.or_else(|| parameter.default.map(str::to_owned));
            let value = value.ok_or_else(|| {
                let text = format!(
                    "argument \"{}\" of {SCHEMA}.{} must not be null",
                    parameter.name, callable.name
                );
                Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, text)
            })?;
            values.push((parameter.name, value));
        }
        Ok(Arguments { values })
    }

    /// The argument of a name that the function's `takes` has.
    pub fn text(&self, name: &str) -> &str {
        let found = self.values.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn first(&self) -> &str {
        self.values.first().map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_as_they_are_written() {
        let create = find("create_candidate").expect("a function");
        let read: Vec<_> = create
            .parameters()
            .map(|parameter| (parameter.name, parameter.ty, parameter.default))
            .collect();
        assert_eq!(
            read,
            [
                ("candidate", DataType::Text, None),
                ("mirror", DataType::Bool, Some("on")),
                ("weight", DataType::Float8, Some("1")),
                ("note", DataType::Text, Some("")),
            ]
        );
    }

    #[test]
    fn defaults_are_values_that_the_functions_take() {
        for callable in ALL {
            let mut given: Vec<_> = callable.parameters().map(|_| None).collect();
            // Only what has no default, and the first.
            let needed = |name: &str| match name {
                "id" => "1",
                "election" => "e",
                "candidate" | "future" => "e/c",
                "name" => "before",
                "query" => "SELECT 1",
                "action" => "keep",
                "privileges" => "create, ALL",
                "grantee" => "ada",
                other => panic!("a value for {other}"),
            };
            for (place, parameter) in callable.parameters().enumerate() {
                if place == 0 || parameter.default.is_none() {
                    given[place] = Some(needed(parameter.name).to_owned());
                }
            }
            let arguments = Arguments::new(callable, given).expect("arguments");
            for parameter in callable.parameters() {
                assert!(callable.takes.contains(parameter.name), "{callable}");
            }
            (callable.action)(&arguments).unwrap_or_else(|error| panic!("{callable}: {error:?}"));
        }
    }
}
