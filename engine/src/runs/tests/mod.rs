//! Runs as a whole, against a model.

mod basic;
mod crash;
mod damage;
mod hostile;
mod kit;
mod model;
mod threads;
