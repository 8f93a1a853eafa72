//! The cache of blocks, bounded in bytes.
//!
//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", 2023) in shards: a new block enters a small
//! queue; if it was asked for again before it comes to the queue's end it goes to the main queue, where each question gives it
//! another turn. What leaves the small queue is remembered by its hash for a while, and comes to the main queue at once
//! when it returns. So one long scan does not drive out what is asked for often, and a hit changes no queue.

use crate::runs::directory::Content;
use crate::runs::hash::remix;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A block in memory.
pub(crate) type Block = Arc<Content>;

/// Which block: the run's number and the offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockId {
    pub(crate) number: u64,
    pub(crate) offset: u64,
}

const SHARDS: usize = 32;

/// What a block costs beside its bytes: its place in the map and in a queue.
const OVERHEAD_BYTES: usize = 128;

/// Questions that are counted.
const TURNS_MAX: u8 = 3;

/// The small queue has a tenth.
const SMALL_SHARE: usize = 10;

/// Block identities are spread well enough by one multiplication.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("identities are numbers");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = remix(self.0.rotate_left(32) ^ number, 0);
    }
}

type Spread = BuildHasherDefault<IdHasher>;

/// A block and how many turns it has. It lies in the map itself: a hit is one look into memory that is likely to be cold.
struct Kept {
    block: Block,
    turns: u8,
}

#[derive(Default)]
struct Shard {
    /// Each of them stands in one of the two queues.
    map: HashMap<BlockId, Kept, Spread>,
    small: VecDeque<BlockId>,
    main: VecDeque<BlockId>,
    small_bytes: usize,
    main_bytes: usize,
    /// What left the small queue, by age.
    gone: VecDeque<BlockId>,
    gone_set: HashSet<BlockId, Spread>,
    hits: u64,
    misses: u64,
}

/// How the cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    /// Of blocks and what surrounds them.
    pub bytes: u64,
}

pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
    /// Of each shard.
    bytes_max: usize,
}

fn cost(block: &Block) -> usize {
    block.memory_bytes() + OVERHEAD_BYTES
}

impl Cache {
    pub(crate) fn new(bytes: usize) -> Cache {
        Cache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            bytes_max: bytes / SHARDS,
        }
    }

    #[inline]
    fn shard(&self, id: BlockId) -> &Mutex<Shard> {
        let hash = remix(id.number.rotate_left(40) ^ id.offset, 1);
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    #[inline]
    pub(crate) fn get(&self, id: BlockId) -> Option<Block> {
        let mut shard = self.shard(id).lock();
        match shard.map.get_mut(&id) {
            Some(kept) => {
                kept.turns = TURNS_MAX.min(kept.turns + 1);
                let block = Arc::clone(&kept.block);
                shard.hits += 1;
                Some(block)
            }
            None => {
                shard.misses += 1;
                None
            }
        }
    }

    pub(crate) fn insert(&self, id: BlockId, block: &Block) {
        // What would drive out half of a shard is not kept.
        if cost(block) > self.bytes_max / 2 {
            return;
        }
        let mut shard = self.shard(id).lock();
        if !shard.map.contains_key(&id) {
            shard.insert(id, Arc::clone(block));
            shard.make_room(self.bytes_max);
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let mut stats = CacheStats::default();
        for shard in &self.shards {
            let shard = shard.lock();
            stats.hits += shard.hits;
            stats.misses += shard.misses;
            stats.bytes += (shard.small_bytes + shard.main_bytes) as u64;
        }
        stats
    }
}

impl Shard {
    fn insert(&mut self, id: BlockId, block: Block) {
        let bytes = cost(&block);
        self.map.insert(id, Kept { block, turns: 0 });
        if self.gone_set.remove(&id) {
            self.put_into_main(id, bytes);
        } else {
            self.small.push_back(id);
            self.small_bytes += bytes;
        }
    }

    fn put_into_main(&mut self, id: BlockId, bytes: usize) {
        self.main.push_back(id);
        self.main_bytes += bytes;
    }

    fn make_room(&mut self, bytes_max: usize) {
        while self.small_bytes + self.main_bytes > bytes_max {
            if self.small_bytes > bytes_max / SMALL_SHARE || self.main.is_empty() {
                self.evict_small();
            } else {
                self.evict_main();
            }
        }
    }

    fn evict_small(&mut self) {
        let Some(id) = self.small.pop_front() else { return };
        let Some(kept) = self.map.get_mut(&id) else { return };
        let bytes = cost(&kept.block);
        self.small_bytes -= bytes;
        if kept.turns > 0 {
            kept.turns = 0;
            self.put_into_main(id, bytes);
            return;
        }
        self.map.remove(&id);
        self.gone.push_back(id);
        self.gone_set.insert(id);
        // As many are remembered as there are.
        while self.gone.len() > self.map.len().max(16) {
            if let Some(old) = self.gone.pop_front() {
                self.gone_set.remove(&old);
            }
        }
    }

    fn evict_main(&mut self) {
        let Some(id) = self.main.pop_front() else { return };
        let Some(kept) = self.map.get_mut(&id) else { return };
        if kept.turns > 0 {
            kept.turns -= 1;
            self.main.push_back(id);
            return;
        }
        self.main_bytes -= cost(&kept.block);
        self.map.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(offset: u64) -> BlockId {
        BlockId { number: 1, offset }
    }

    fn block() -> Block {
        Arc::new(Content::plain(vec![0; 1000]))
    }

    #[test]
    fn the_bound_holds() {
        let cache = Cache::new(1 << 20);
        for offset in 0..10_000 {
            cache.insert(id(offset), &block());
            assert!(cache.stats().bytes <= 1 << 20);
        }
        assert!(cache.stats().bytes > 900 << 10);
        let kept = (0..10_000)
            .filter(|offset| cache.get(id(*offset)).is_some())
            .count();
        assert!(kept > 700, "{kept}");
    }

    #[test]
    fn a_scan_does_not_drive_out_what_is_asked_for_often() {
        let cache = Cache::new(1 << 20);
        for _ in 0..3 {
            for offset in 0..300 {
                if cache.get(id(offset)).is_none() {
                    cache.insert(id(offset), &block());
                }
            }
        }
        for offset in 1000..20_000 {
            cache.insert(id(offset), &block());
        }
        let kept = (0..300).filter(|offset| cache.get(id(*offset)).is_some()).count();
        assert!(kept > 250, "{kept} of 300 are left");
    }

    #[test]
    fn what_returns_soon_stays() {
        let cache = Cache::new(SHARDS * 20 * 1128);
        // One shard's blocks, so that the order is known.
        let ours: Vec<u64> = (0..100_000)
            .filter(|offset| std::ptr::eq(cache.shard(id(*offset)), cache.shard(id(0))))
            .take(60)
            .collect();
        for offset in &ours[..21] {
            cache.insert(id(*offset), &block());
        }
        assert!(cache.get(id(ours[0])).is_none(), "the oldest has gone");
        cache.insert(id(ours[0]), &block());
        for offset in &ours[21..] {
            cache.insert(id(*offset), &block());
        }
        assert!(cache.get(id(ours[0])).is_some());
        assert!(cache.get(id(ours[1])).is_none());
    }

    #[test]
    fn a_block_that_is_too_large_is_not_kept() {
        let cache = Cache::new(1 << 20);
        cache.insert(id(1), &Arc::new(Content::plain(vec![0; 1 << 20])));
        assert!(cache.get(id(1)).is_none());
    }
}
