//! A bounded map from keys to facts, in shards, with the clock algorithm: what was used since the hand came by stays.
//!
//! Keys are compared in full: a hash alone decides nothing. A hit allocates nothing. One-off texts enter unreferenced
//! and are the first to go, so that a flood of them does not wash out what is used.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use parking_lot::Mutex;

use crate::facts::Facts;

/// Enough that a handful of worker threads seldom meet; a power of two.
const SHARDS: usize = 16;

pub(crate) struct Cache {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// Entries per shard.
    capacity: usize,
}

#[derive(Default)]
struct Shard {
    places: HashTable<usize>,
    entries: Vec<Entry>,
    hand: usize,
}

struct Entry {
    hash: u64,
    key: Box<[u8]>,
    facts: Arc<Facts>,
    referenced: bool,
}

impl Cache {
    /// A cache of about `capacity` entries, at least one per shard.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            capacity: capacity.div_ceil(SHARDS).max(1),
        }
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<Facts>> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).lock();
        let Shard { places, entries, .. } = &mut *shard;
        let place = *places.find(hash, |&place| *entries[place].key == *key)?;
        entries[place].referenced = true;
        Some(Arc::clone(&entries[place].facts))
    }

    pub(crate) fn insert(&self, key: &[u8], facts: Arc<Facts>) {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).lock();
        if shard.places.find(hash, |&place| *shard.entries[place].key == *key).is_none() {
            shard.insert(Entry { hash, key: key.into(), facts, referenced: false }, self.capacity);
        }
    }

    /// Puts other facts in the place of those of `key`, if it is there.
    pub(crate) fn replace(&self, key: &[u8], facts: Arc<Facts>) {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).lock();
        let Shard { places, entries, .. } = &mut *shard;
        if let Some(&place) = places.find(hash, |&place| *entries[place].key == *key) {
            entries[place].facts = facts;
        }
    }

    /// The top bits choose the shard, the table uses the others.
    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl Shard {
    fn insert(&mut self, entry: Entry, capacity: usize) {
        let hash = entry.hash;
        let place = if self.entries.len() < capacity {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let place = self.victim();
            let old = std::mem::replace(&mut self.entries[place], entry).hash;
            if let Ok(found) = self.places.find_entry(old, |&other| other == place) {
                found.remove();
            }
            place
        };
        let entries = &self.entries;
        self.places.insert_unique(hash, place, |&place| entries[place].hash);
    }

    /// Turns the hand to the first entry that was not used since it came by last; ends after two rounds at most.
    fn victim(&mut self) -> usize {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.entries.len();
            if !std::mem::take(&mut self.entries[place].referenced) {
                return place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_used_and_stays_within_its_bound() {
        let cache = Cache::new(SHARDS * 4);
        let facts = Arc::new(Facts::unknown());
        cache.insert(b"hot", Arc::clone(&facts));
        for number in 0..10_000u32 {
            cache.insert(&number.to_le_bytes(), Arc::clone(&facts));
            assert!(cache.find(b"hot").is_some(), "washed out by entry {number}");
        }
        assert!(cache.shards.iter().all(|shard| shard.lock().entries.len() <= 4));
        assert!(cache.shards.iter().all(|shard| shard.lock().places.len() <= 4));
        assert!(cache.find(b"cold").is_none());
    }
}
