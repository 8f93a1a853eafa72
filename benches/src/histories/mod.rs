//! Histories of concurrent transactions, and whether an isolation level allows them.
//!
//! Clients run random transactions on lists, to which they append, and on registers, which they overwrite; every value is
//! written once. What they were told is a *history*. From it follows who wrote what before whom (`ww`), who read whose write (`wr`),
//! who read what another then overwrote (`rw`), and who had heard of its end before another began (`rt`). A circle in these
//! dependencies is what the levels differ by:
//!
//! | anomaly | a circle of | forbidden from |
//! |---|---|---|
//! | G0 | `ww`, `rt` | READ COMMITTED |
//! | G1c | `ww`, `wr`, `rt` | READ COMMITTED |
//! | G-single | those and one `rw` | REPEATABLE READ |
//! | lost update | a G-single of two transactions on one key | REPEATABLE READ |
//! | G-nonadjacent | those and several `rw`, no two in a row | REPEATABLE READ |
//! | G2 | anything | SERIALIZABLE |
//!
//! Beside these, without a circle: G1a (a read of what was rolled back), G1b (of what its writer overwrote itself), reads that
//! contradict each other, writes that are lost.
//!
//! Adya, "Weak Consistency" (1999); Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
//! Observations" (2020); Cerone and Gotsman, "Analysing Snapshot Isolation" (2016) for the fourth.
//!
//! Reading order: [`history`] (what was done and told), [`graph`] (circles), [`infer`] (dependencies), [`check`] (the verdict),
//! [`workload`] (random transactions), [`drive`] (clients that run them against a server). All but the last is free of I/O.

pub mod check;
pub mod drive;
pub mod graph;
pub mod history;
pub mod infer;
pub mod workload;
