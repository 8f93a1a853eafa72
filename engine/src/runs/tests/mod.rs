//! Runs as a whole, against a model.

mod basic;
