//! Decoded columns of sealed pieces, within a bound of bytes, least recently used out first.
//!
//! The unit is one column of one piece: a query decodes only what it reads, and pieces have few enough rows that a column is decoded
//! whole. Entries are shared pointers; a scan that holds one is not disturbed by its eviction.

use arrow::array::{Array, ArrayRef};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

/// A column of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub file: u64,
    pub column: usize,
}

#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    array: ArrayRef,
    bytes: usize,
    used: u64,
}

impl Cache {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Mutex::new(State::default()),
        }
    }

    /// Bytes of the columns held.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    pub fn get(&self, key: Key) -> Option<ArrayRef> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let entry = state.entries.get_mut(&key)?;
        state.clock += 1;
        state.order.remove(&entry.used);
        entry.used = state.clock;
        state.order.insert(entry.used, key);
        Some(entry.array.clone())
    }

    /// Keeps a column, and lets go of others when the bound is passed. One that is larger than the bound is not kept.
    pub fn put(&self, key: Key, array: ArrayRef) {
        let bytes = array.get_array_memory_size();
        if bytes > self.bytes_max {
            return;
        }
        let mut evicted = Vec::new();
        let mut state = self.state.lock();
        evicted.extend(state.remove(key));
        while state.bytes + bytes > self.bytes_max {
            let Some((_, oldest)) = state.order.first_key_value() else {
                break;
            };
            let oldest = *oldest;
            evicted.extend(state.remove(oldest));
        }
        state.clock += 1;
        let used = state.clock;
        state.order.insert(used, key);
        state.entries.insert(key, Entry { array, bytes, used });
        state.bytes += bytes;
        drop(state);
        // The arrays are freed here, outside of the lock.
        drop(evicted);
    }

    /// Lets go of the columns of a file that is no longer part of the mirror.
    pub fn forget(&self, file: u64, columns: usize) {
        let mut state = self.state.lock();
        for column in 0..columns {
            state.remove(Key { file, column });
        }
    }
}

impl State {
    fn remove(&mut self, key: Key) -> Option<ArrayRef> {
        let entry = self.entries.remove(&key)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use std::sync::Arc;

    #[test]
    fn the_least_recently_used_column_goes_first_and_the_bound_holds() {
        let column = || Arc::new(Int64Array::from(vec![0; 1000])) as ArrayRef;
        let size = column().get_array_memory_size();
        let key = |file| Key { file, column: 0 };
        let cache = Cache::new(size * 3);
        for file in 0..3 {
            cache.put(key(file), column());
        }
        assert!(cache.get(key(0)).is_some());
        cache.put(key(3), column());
        assert!(cache.get(key(1)).is_none(), "the oldest is out");
        assert!(cache.get(key(0)).is_some() && cache.get(key(2)).is_some() && cache.get(key(3)).is_some());
        assert_eq!(cache.bytes(), size * 3);
        cache.forget(0, 1);
        assert_eq!(cache.bytes(), size * 2);
    }
}
