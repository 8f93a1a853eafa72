//! COPY: data of the client → rows ([`input`]), rows → data ([`output`]).
//!
//! Records are split without regard to types ([`record`]); a field becomes a datum that borrows from the client's bytes
//! wherever its type allows, and a row is encoded from datums. No field is copied into a string of its own.

mod input;
mod output;
mod record;

pub use input::CopyIn;
pub use output::CopyOut;
