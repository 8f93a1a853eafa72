//! Values in the order of their keys, side by side, with the first eight bytes of each key in an array of their own.

use crate::key::Key;
use std::cmp::Ordering;
use std::ops::Range;

/// Three arrays of one length, keys rising strictly.
pub(crate) struct Sorted<T> {
    prefixes: Vec<u64>,
    keys: Vec<Key>,
    values: Vec<T>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Sorted<T> {
        Sorted {
            prefixes: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
        }
    }
}

/// The first eight bytes of a key, as a number that orders like them.
pub(crate) fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = key.len().min(8);
    bytes[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(bytes)
}

impl<T> Sorted<T> {
    /// One value.
    pub(crate) fn of(key: Key, value: T) -> Sorted<T> {
        let mut sorted = Sorted::default();
        sorted.insert(0, key, value);
        sorted
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn key(&self, place: usize) -> &Key {
        &self.keys[place]
    }

    pub(crate) fn value(&self, place: usize) -> &T {
        &self.values[place]
    }

    pub(crate) fn value_mut(&mut self, place: usize) -> &mut T {
        &mut self.values[place]
    }

    pub(crate) fn pairs(&self, places: Range<usize>) -> impl Iterator<Item = (&Key, &T)> {
        self.keys[places.clone()].iter().zip(&self.values[places])
    }

    /// Where the key is, or where it would go.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let wanted = prefix(key);
        let place = self.prefixes.partition_point(|prefix| *prefix < wanted);
        if self.prefixes.get(place) != Some(&wanted) {
            return Err(place);
        }
        // Most often one key, if any, shares the first eight bytes.
        match self.keys[place].as_ref().cmp(key) {
            Ordering::Equal => Ok(place),
            Ordering::Greater => Err(place),
            Ordering::Less => self.keys[place + 1..]
                .binary_search_by(|other| other.as_ref().cmp(key))
                .map(|found| place + 1 + found)
                .map_err(|missing| place + 1 + missing),
        }
    }

    /// The place of the last key at or before this one. The first key must be.
    pub(crate) fn floor(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(place) => place,
            Err(place) => place
                .checked_sub(1)
                .expect("the first key lies before all that is searched for"),
        }
    }

    pub(crate) fn insert(&mut self, place: usize, key: Key, value: T) {
        self.prefixes.insert(place, prefix(key.as_ref()));
        self.keys.insert(place, key);
        self.values.insert(place, value);
    }

    pub(crate) fn remove(&mut self, place: usize) {
        self.prefixes.remove(place);
        self.keys.remove(place);
        self.values.remove(place);
    }

    /// Takes out what `stays` says no of.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&Key, &T) -> bool) {
        let kept: Vec<bool> = self
            .keys
            .iter()
            .zip(&self.values)
            .map(|(key, value)| stays(key, value))
            .collect();
        if kept.iter().all(|kept| *kept) {
            return;
        }
        let (mut prefixes, mut keys, mut values) = (kept.iter(), kept.iter(), kept.iter());
        self.prefixes.retain(|_| prefixes.next() == Some(&true));
        self.keys.retain(|_| keys.next() == Some(&true));
        self.values.retain(|_| values.next() == Some(&true));
    }

    /// Takes what stands at `place` and behind it into arrays of their own.
    pub(crate) fn split_off(&mut self, place: usize) -> Sorted<T> {
        Sorted {
            prefixes: self.prefixes.split_off(place),
            keys: self.keys.split_off(place),
            values: self.values.split_off(place),
        }
    }
}
