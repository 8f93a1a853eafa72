//! System calls without a safe wrapper in the standard library.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::storage::Notify;

/// Allocates the first `bytes` bytes of a file, so that a full disk is found before anything is written.
pub(crate) fn allocate(file: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: plain numbers and a descriptor that the borrow keeps open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
        0 => Ok(()),
        // The file system cannot allocate ahead; writing the zeros does it.
        libc::EOPNOTSUPP | libc::EINVAL => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The kernel takes no more of an advice than the device reads ahead, which is this much where nobody has changed it.
const ADVICE_BYTES: u64 = 128 << 10;

/// Has the kernel read ahead. Advice: that it is not taken changes nothing but the time.
pub(crate) fn will_read(file: BorrowedFd<'_>, offset: u64, bytes: u64) {
    let end = offset.saturating_add(bytes);
    let mut begin = offset;
    while begin < end {
        let piece = ADVICE_BYTES.min(end - begin);
        let (Ok(at), Ok(length)) = (libc::off_t::try_from(begin), libc::off_t::try_from(piece)) else {
            return;
        };
        // SAFETY: plain numbers and a descriptor that the borrow keeps open.
        let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), at, length, libc::POSIX_FADV_WILLNEED) };
        begin += piece;
    }
}

/// Tells the kernel that a file is read here and there: it reads nothing beside what is asked for. Advice, as above.
pub(crate) fn reads_at_random(file: BorrowedFd<'_>) {
    // SAFETY: plain numbers and a descriptor that the borrow keeps open.
    let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
}

/// A counter in the kernel that io_uring can wait for.
pub(crate) struct Event {
    file: File,
}

impl Event {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Self {
            file: File::from(unsafe { OwnedFd::from_raw_fd(fd) }),
        })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Notify for Event {
    fn notify(&self) {
        if let Err(error) = (&self.file).write(&1_u64.to_ne_bytes()) {
            // The counter is full: nobody has read it, so the notification before this one still stands. Emptying it
            // keeps the next one from being lost.
            debug_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            let _ = (&self.file).read(&mut [0; 8]);
            let _ = (&self.file).write(&1_u64.to_ne_bytes());
        }
    }
}

/// Random bytes from the kernel.
pub(crate) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
