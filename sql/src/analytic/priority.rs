//! Lowers the scheduling priority of the analytic workers, so that a long query yields the processor to transactions.
#![expect(
    unsafe_code,
    reason = "setpriority has no safe wrapper among the dependencies"
)]

/// Niceness of analytic workers: about a third of a transaction worker's share when both want the processor.
const NICENESS: libc::c_int = 5;

/// Applies to the calling thread. Failure leaves the default priority, which is harmless.
pub fn lower_this_thread() {
    // SAFETY: no pointers are passed. On Linux `which` = PRIO_PROCESS with `who` = 0 means the calling thread.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}
