//! Writes through io_uring: several on their way, one system call to start new ones and wait for old ones.
//!
//! Invariants:
//! - a write's file and bytes are kept in its slot until its completion was seen, also when the queue is dropped;
//! - the poll of the event descriptor is always armed while the queue waits.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::call::Event;
use crate::storage::{Notify, Write, WriteQueue, Written};

/// The completion of the poll, told from those of writes, which carry their slot.
const EVENT: u64 = u64::MAX;

pub(crate) struct UringQueue {
    ring: IoUring,
    event: Arc<Event>,
    event_armed: bool,
    slots: Vec<Option<Write>>,
    free: Vec<usize>,
}

impl UringQueue {
    pub(crate) fn new(in_flight_max: usize) -> io::Result<Self> {
        // One entry per write, one for the poll.
        let entries = u32::try_from((in_flight_max + 1).next_power_of_two())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // Completions handled when this thread asks for them, not by interrupting it; older kernels have no such thing.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            .or_else(|_| IoUring::new(entries))?;
        Ok(Self {
            ring,
            event: Arc::new(Event::new()?),
            event_armed: false,
            slots: (0..in_flight_max).map(|_| None).collect(),
            free: (0..in_flight_max).rev().collect(),
        })
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the poll refers to no memory; a write's bytes and descriptor are kept alive by its slot until its
        // completion was seen, and nobody changes the bytes of a shared frame.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| {
            io::Error::other("the submission queue is full although it has an entry for each slot")
        })
    }

    fn enter(&self, timeout: Option<Duration>) -> io::Result<()> {
        let entered = match timeout {
            None => self.ring.submitter().submit_and_wait(1),
            Some(timeout) => {
                let timespec = types::Timespec::from(timeout);
                let args = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self, over: &mut Vec<Written>) {
        for completion in self.ring.completion() {
            let (data, code) = (completion.user_data(), completion.result());
            if data == EVENT {
                self.event_armed = cqueue::more(completion.flags());
                continue;
            }
            let slot = usize::try_from(data).ok().filter(|&slot| slot < self.slots.len());
            let Some((slot, write)) = slot.and_then(|slot| Some((slot, self.slots[slot].take()?))) else {
                continue;
            };
            self.free.push(slot);
            let result = usize::try_from(code).map_err(|_| io::Error::from_raw_os_error(-code));
            over.push(Written {
                token: write.token,
                result,
            });
        }
    }
}

impl WriteQueue for UringQueue {
    fn in_flight_max(&self) -> usize {
        self.slots.len()
    }

    fn submit(&mut self, write: Write) -> io::Result<()> {
        let slot = self
            .free
            .pop()
            .ok_or_else(|| io::Error::other("more writes than the queue has slots"))?;
        let Some(descriptor) = write.file.descriptor() else {
            return Err(io::Error::other("the file has no descriptor"));
        };
        let bytes = write.bytes.bytes();
        let Ok(len) = u32::try_from(bytes.len()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let entry = opcode::Write::new(types::Fd(descriptor.as_raw_fd()), bytes.as_ptr(), len)
            .offset(write.offset)
            .build()
            .user_data(slot as u64);
        // Kept before it is pushed: from then on the kernel may look at it.
        self.slots[slot] = Some(write);
        self.push(&entry)
    }

    fn wait(&mut self, timeout: Option<Duration>, over: &mut Vec<Written>) -> io::Result<()> {
        if !self.event_armed {
            let descriptor = types::Fd(self.event.descriptor().as_raw_fd());
            let poll = opcode::PollAdd::new(descriptor, libc::POLLIN as u32)
                .multi(true)
                .build()
                .user_data(EVENT);
            self.push(&poll)?;
            self.event_armed = true;
        }
        self.enter(timeout)?;
        self.reap(over);
        Ok(())
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        Arc::<Event>::clone(&self.event)
    }
}

impl Drop for UringQueue {
    fn drop(&mut self) {
        let mut over = Vec::new();
        while self.free.len() < self.slots.len() {
            if self.enter(None).is_err() {
                // The kernel may still use the memory: it is never given back.
                std::mem::take(&mut self.slots)
                    .into_iter()
                    .for_each(std::mem::forget);
                return;
            }
            self.reap(&mut over);
        }
    }
}
