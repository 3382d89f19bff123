//! Who used which process of the primary last: notifications tell the process that sent them, and drivers compare that with
//! the number they got at login.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// The primary's processes behind our connections, by their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    by_pid: Arc<Mutex<HashMap<u32, Arc<AtomicU32>>>>,
}

/// One server connection's entry; gone with it.
#[derive(Debug)]
pub(crate) struct Owner {
    all: Owners,
    pid: u32,
    client: Arc<AtomicU32>,
}

impl Owners {
    /// An entry for the process `pid`, which no client has used yet.
    pub(crate) fn enter(&self, pid: u32) -> Owner {
        let client = Arc::default();
        self.by_pid.lock().insert(pid, Arc::clone(&client));
        Owner { all: self.clone(), pid, client }
    }

    /// The number of the client that used the process last.
    pub(crate) fn of(&self, pid: u32) -> Option<u32> {
        let client = self.by_pid.lock().get(&pid)?.load(Ordering::Relaxed);
        (client != 0).then_some(client)
    }
}

impl Owner {
    /// This client uses it from now on.
    pub(crate) fn set(&self, client: u32) {
        self.client.store(client, Ordering::Relaxed);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut by_pid = self.all.by_pid.lock();
        // Another process may have got the number meanwhile.
        if by_pid.get(&self.pid).is_some_and(|client| Arc::ptr_eq(client, &self.client)) {
            by_pid.remove(&self.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lives_as_long_as_its_connection() {
        let owners = Owners::default();
        let old = owners.enter(7);
        assert_eq!(owners.of(7), None);
        old.set(9_000_001);
        assert_eq!(owners.of(7), Some(9_000_001));
        let new = owners.enter(7);
        drop(old);
        new.set(9_000_002);
        assert_eq!(owners.of(7), Some(9_000_002));
        drop(new);
        assert_eq!(owners.of(7), None);
    }
}
