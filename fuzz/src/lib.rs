//! Attacks on everything that reads bytes from outside: the network, SQL text, COPY data, files on disk.
//!
//! A *target* takes bytes and panics when a promise is broken. Inputs are made from valid ones by random changes, all of
//! them from one seed, so every finding can be repeated. It runs on stable Rust, where no compiler reports which
//! code an input reached; instead a target says in a word what happened (an SQLSTATE, a kind of damage), and an input that
//! made something new happen joins the corpus from which later ones are made.
//!
//! In reading order: [`target`] is what is attacked, [`targets`] the list; [`mutate`] changes inputs; [`runner`] runs, and
//! makes a finding small. The program is in `main.rs`; `tests/bounded.rs` runs a bounded part with the other tests.
//! `corpus/<target>/` holds inputs that once broke something: they run first, ever after.

pub mod mutate;
pub mod runner;
pub mod target;
pub mod targets;
