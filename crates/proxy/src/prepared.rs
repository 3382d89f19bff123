//! Prepared statements made independent of clients and server connections: equal texts share one number in the whole
//! process, and a server connection that lacks the statement gets it the moment somebody binds it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// A statement that servers know as `hw_<id>`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: u64,
    /// Its name on servers.
    pub(crate) name: String,
    /// The body of its Parse with an empty name: zero, text, zero, parameter types.
    pub(crate) parse: Arc<[u8]>,
}

/// All statements that some client holds, by text and parameter types.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_parse: Mutex<HashMap<Arc<[u8]>, Weak<Shared>>>,
}

impl Registry {
    /// The statement with this text and these types; `next_id` is asked if it is new.
    pub(crate) fn of(&self, parse: &[u8], next_id: impl FnOnce() -> u64) -> Arc<Shared> {
        let mut by_parse = self.by_parse.lock();
        if let Some(shared) = by_parse.get(parse).and_then(Weak::upgrade) {
            return shared;
        }
        if by_parse.len() == by_parse.capacity() {
            by_parse.retain(|_, shared| shared.strong_count() > 0);
        }
        let id = next_id();
        let parse: Arc<[u8]> = Arc::from(parse);
        let shared = Arc::new(Shared { id, name: format!("hw_{id}"), parse: Arc::clone(&parse) });
        by_parse.insert(parse, Arc::downgrade(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_a_statement_for_as_long_as_somebody_holds_it() {
        let registry = Registry::default();
        let one = registry.of(b"\0SELECT 1\0\0\0", || 1);
        let two = registry.of(b"\0SELECT 1\0\0\0", || 2);
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!((one.id, one.name.as_str()), (1, "hw_1"));
        drop((one, two));
        assert_eq!(registry.of(b"\0SELECT 1\0\0\0", || 3).id, 3);
    }
}
