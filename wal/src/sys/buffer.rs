//! Page-aligned blocks: direct I/O wants address, offset and length to be multiples of the device's sector.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::format::WRITE_UNIT;

/// One write unit of memory.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; WRITE_UNIT]);

const _: () = assert!(size_of::<Page>() == WRITE_UNIT && align_of::<Page>() == WRITE_UNIT);

const ZERO_PAGE: Page = Page([0; WRITE_UNIT]);

/// Pages per size class of the pool: 4 KiB, 16 KiB, 64 KiB, 256 KiB, 1280 KiB (a full frame of a bulk load). Larger
/// blocks go back to the allocator.
const CLASS_PAGES: [usize; 5] = [1, 4, 16, 64, 320];

/// Blocks kept per class: 4 MiB, 4 MiB, 8 MiB, 8 MiB and 20 MiB at most.
const CLASS_KEPT: [usize; 5] = [1024, 256, 128, 32, 16];

/// Blocks that are not in use, by size class.
#[derive(Default)]
pub(crate) struct Pool {
    classes: [Mutex<Vec<Vec<Page>>>; CLASS_PAGES.len()],
}

impl Pool {
    pub(crate) fn new() -> Arc<Pool> {
        Arc::new(Pool::default())
    }

    /// A block of at least `bytes` bytes. Its content is whatever it was.
    pub(crate) fn block(self: &Arc<Self>, bytes: usize) -> Block {
        let pages = bytes.div_ceil(WRITE_UNIT).max(1);
        let pages = match CLASS_PAGES.iter().position(|&class| class >= pages) {
            Some(class) => {
                let kept = self.classes[class].lock().pop();
                kept.unwrap_or_else(|| vec![ZERO_PAGE; CLASS_PAGES[class]])
            }
            None => vec![ZERO_PAGE; pages],
        };
        Block {
            pages,
            pool: Arc::clone(self),
        }
    }

    fn give_back(&self, pages: Vec<Page>) {
        if let Some(class) = CLASS_PAGES.iter().position(|&class| class == pages.len()) {
            let mut kept = self.classes[class].lock();
            if kept.len() < CLASS_KEPT[class] {
                kept.push(pages);
            }
        }
    }
}

/// Page-aligned memory, given back to its pool when dropped.
pub(crate) struct Block {
    pages: Vec<Page>,
    pool: Arc<Pool>,
}

impl Block {
    pub(crate) fn capacity(&self) -> usize {
        self.pages.len() * WRITE_UNIT
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the pages are contiguous, initialised, and bytes have no alignment or validity of their own.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.capacity()) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; the exclusive borrow of `self` is the exclusive borrow of the pages.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.capacity()) }
    }

    /// Makes room for `bytes` bytes, keeping the first `keep`.
    pub(crate) fn grow(&mut self, bytes: usize, keep: usize) {
        if bytes > self.capacity() {
            // At least doubled, so that a frame that grows record by record is copied a bounded number of times.
            let mut larger = self.pool.block(bytes.max(2 * self.capacity()));
            larger.bytes_mut()[..keep].copy_from_slice(&self.bytes()[..keep]);
            *self = larger;
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.pages));
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("capacity", &self.capacity())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_hold_what_was_asked_for() {
        let pool = Pool::new();
        for bytes in [0, 1, 4096, 4097, 70_000, 300_000, 2_000_000] {
            let block = pool.block(bytes);
            assert!(block.capacity() >= bytes);
            assert_eq!(block.bytes().as_ptr().addr() % WRITE_UNIT, 0);
        }
    }

    #[test]
    fn a_grown_block_keeps_its_beginning() {
        let pool = Pool::new();
        let mut block = pool.block(1);
        block.bytes_mut()[..5].copy_from_slice(b"hello");
        block.grow(500_000, 5);
        assert!(block.capacity() >= 500_000);
        assert_eq!(&block.bytes()[..5], b"hello");
    }

    #[test]
    fn a_dropped_block_is_used_again() {
        let pool = Pool::new();
        for (bytes, fewer) in [(4096, 100), (1_100_000, 1_000_000)] {
            let first = pool.block(bytes);
            let address = first.bytes().as_ptr().addr();
            drop(first);
            assert_eq!(pool.block(fewer).bytes().as_ptr().addr(), address);
        }
    }
}
