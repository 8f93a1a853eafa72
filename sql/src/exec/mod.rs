//! Row plans at work: [`select`], [`insert`], [`update`] (and DELETE), with [`targets`] finding and locking rows;
//! [`foreign_keys`] what these ask beside, and [`deferred`] what that leaves to the end of the transaction; [`copy`] between COPY data and rows; [`message`] writing what leaves.

pub mod context;
pub mod copy;
pub mod deferred;
pub mod foreign_keys;
pub mod index;
pub mod insert;
pub mod interrupt;
pub mod message;
pub mod select;
pub mod targets;
pub mod update;
