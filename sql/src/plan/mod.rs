//! Text → statement → plan.
//!
//! [`lex`] → [`split`] (a script's statements, depth limits) → [`parse`] ([`utility`], [`copy_syntax`] by hand; sqlparser for the rest)
//! → [`statement`]. Then names are looked up and row plans compiled; what they cannot do is planned by `analytic`.

pub mod access;
pub mod call;
pub mod callable;
pub mod column_default;
pub mod copy_syntax;
pub mod create_table;
pub mod cursor;
pub mod dml;
pub mod election_option;
pub mod foreign_key;
pub mod lex;
mod listening;
pub mod open_items;
pub mod output_name;
pub mod parse;
pub mod planner;
pub mod row;
pub mod scalar;
pub mod searched;
pub mod select;
pub mod sequence;
pub mod split;
pub mod statement;
pub mod syntax;
pub mod template;
pub mod utility;
