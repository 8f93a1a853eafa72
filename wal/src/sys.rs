//! The one place with `unsafe`: memory that the disk may read directly, and the calls that the standard library
//! does not have.
//!
//! - [`buffer`]: page-aligned blocks and the pool that reuses them;
//! - [`call`]: allocation of file space, advice on what is read, event descriptors;
//! - [`uring`]: submission of writes to io_uring.
//!
//! Invariant: a block handed to the kernel stays alive and unchanged until the kernel has given it back.
#![expect(
    unsafe_code,
    reason = "aligned memory, system calls and io_uring have no safe interface"
)]

pub(crate) mod buffer;
pub(crate) mod call;
pub(crate) mod uring;
