//! Prepared statements made independent of clients and server connections: equal texts that mean the same share one number
//! in the whole process, and a server connection that lacks the statement gets it the moment somebody binds it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::server::Column;

/// A statement that servers know as `hw_<id>`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: u64,
    /// Its name on servers.
    pub(crate) name: String,
    /// The body of its Parse with an empty name: zero, text, zero, parameter types.
    pub(crate) parse: Arc<[u8]>,
    /// How it is read. Literals are taken for what they mean when the statement is parsed.
    settings: Box<[u8]>,
    generation: u64,
    /// What the first client that asked was told that it yields.
    pub(crate) result: OnceLock<Box<[Column]>>,
}

/// How a statement's text is read: by whose settings, and after which change of the catalogue. A statement that was
/// prepared before its tables changed does not work any more (0A000), and whoever prepares it anew must get a new one.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) settings: &'a [u8],
    pub(crate) generation: u64,
}

/// All statements that some client holds, by reading, text and parameter types.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_key: Mutex<HashMap<Box<[u8]>, Weak<Shared>>>,
}

impl Registry {
    /// The statement with this text and these types, read in this way; `id` is its number if it is new.
    pub(crate) fn of(&self, parse: &[u8], reading: Reading<'_>, id: u64) -> Arc<Shared> {
        let key = [&reading.generation.to_le_bytes()[..], reading.settings, b"\0", parse].concat();
        let mut by_key = self.by_key.lock();
        if let Some(shared) = by_key.get(&*key).and_then(Weak::upgrade) {
            return shared;
        }
        if by_key.len() == by_key.capacity() {
            by_key.retain(|_, shared| shared.strong_count() > 0);
        }
        let shared = Arc::new(Shared {
            id,
            name: format!("hw_{id}"),
            parse: Arc::from(parse),
            settings: reading.settings.into(),
            generation: reading.generation,
            result: OnceLock::new(),
        });
        by_key.insert(key.into(), Arc::downgrade(&shared));
        shared
    }

    /// The same statement as it is read by these settings; `id` numbers it if it is new.
    pub(crate) fn reread(&self, other: &Arc<Shared>, settings: &[u8], id: impl FnOnce() -> u64) -> Arc<Shared> {
        if *other.settings == *settings {
            return Arc::clone(other);
        }
        let reread = self.of(&other.parse, Reading { settings, generation: other.generation }, id());
        if let Some(told) = other.result.get() {
            reread.result.get_or_init(|| told.clone());
        }
        reread
    }

    /// Another one in its place: a client has prepared the same text and been told that it yields `result`.
    pub(crate) fn renew(&self, other: &Arc<Shared>, id: u64, result: Box<[Column]>) -> Arc<Shared> {
        let (name, parse) = (format!("hw_{id}"), Arc::clone(&other.parse));
        let (settings, generation) = (other.settings.clone(), other.generation);
        let renewed = Arc::new(Shared { id, name, parse, settings, generation, result: OnceLock::from(result) });
        let mut by_key = self.by_key.lock();
        let place = by_key.values_mut().find(|shared| std::ptr::eq(shared.as_ptr(), Arc::as_ptr(other)));
        place.into_iter().for_each(|shared| *shared = Arc::downgrade(&renewed));
        renewed
    }

    /// The server says that the statement does not fit its tables any more: who prepares the text next gets a new one.
    pub(crate) fn retire(&self, stale: &Arc<Shared>) {
        self.by_key.lock().retain(|_, shared| !std::ptr::eq(shared.as_ptr(), Arc::as_ptr(stale)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_a_statement_for_as_long_as_somebody_holds_it() {
        let (registry, parse) = (Registry::default(), b"\0SELECT 1\0\0\0");
        let plain = Reading { settings: b"", generation: 7 };
        let one = registry.of(parse, plain, 1);
        let two = registry.of(parse, plain, 2);
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!((one.id, one.name.as_str()), (1, "hw_1"));
        drop((one, two));
        assert_eq!(registry.of(parse, plain, 3).id, 3);
    }

    #[test]
    fn what_is_read_in_another_way_is_another_statement() {
        let (registry, parse) = (Registry::default(), b"\0SELECT 1\0\0\0");
        let plain = Reading { settings: b"", generation: 7 };
        let one = registry.of(parse, plain, 1);
        assert_eq!(registry.of(parse, Reading { settings: b"search_path\0a\0", ..plain }, 2).id, 2);
        let reread = registry.reread(&one, b"TimeZone\0UTC\0", || 5);
        assert_eq!((reread.id, registry.reread(&reread, b"", || 6).id), (5, 1), "and back");
        assert_eq!(registry.of(parse, Reading { generation: 8, ..plain }, 3).id, 3);
        registry.retire(&one);
        assert_eq!(registry.of(parse, plain, 4).id, 4);
    }
}
