//! Tests of the mirror as a whole, driven with change sets and without a log.

mod durability;
mod kit;
mod model;
mod segments;
mod shape;
