//! Sessions by key: a bounded table. A key that is not in it may have written whatever the primary shows by now. What an
//! evicted session required is merged into a floor, which it comes back to: a full table costs waiting and never a
//! guarantee, and a loss is told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use highwater_core::{Cluster, Session};
use parking_lot::Mutex;

/// A session that tasks may share.
pub(crate) type Shared = Arc<Mutex<Session>>;

/// The table.
pub(crate) struct Sessions {
    table: Mutex<Table>,
    most: usize,
}

#[derive(Default)]
struct Table {
    by_key: HashMap<String, (Shared, u64)>,
    /// Keys by last use, oldest first.
    by_use: BTreeMap<u64, String>,
    uses: u64,
    floor: Session,
    /// Which keys are in the floor: only they may have lost what it has lost.
    forgotten: HashSet<u64>,
    hasher: RandomState,
}

/// So many evicted keys are told apart for each that the table holds; beyond that anybody may have been one of them.
const FORGOTTEN_FOR_EACH: usize = 8;

impl Sessions {
    pub(crate) fn new(most: usize) -> Self {
        Self { table: Mutex::default(), most: most.max(1) }
    }

    /// The session of `key`, known or new. Call it once per change of key, not per statement.
    pub(crate) fn of(&self, key: &str, cluster: &Mutex<Cluster>) -> Shared {
        let mut table = self.table.lock();
        table.uses += 1;
        let now = table.uses;
        if let Some((session, used)) = table.by_key.get_mut(key) {
            let (session, before) = (Arc::clone(session), std::mem::replace(used, now));
            table.by_use.remove(&before);
            table.by_use.insert(now, key.to_owned());
            return session;
        }
        let session = Arc::new(Mutex::new(table.anew(key, self.most, cluster)));
        table.by_key.insert(key.to_owned(), (Arc::clone(&session), now));
        table.by_use.insert(now, key.to_owned());
        if table.by_key.len() > self.most {
            table.evict(self.most, cluster);
        }
        session
    }

    pub(crate) fn len(&self) -> usize {
        self.table.lock().by_key.len()
    }

    /// All keys with their sessions, most recently used first.
    pub(crate) fn all(&self) -> Vec<(String, Shared)> {
        let table = self.table.lock();
        let keys = table.by_use.values().rev();
        keys.filter_map(|key| table.by_key.get(key).map(|(session, _)| (key.clone(), Arc::clone(session)))).collect()
    }
}

impl Table {
    /// The session of a key that is not held: it may have been evicted, or have been served by another process, or by one
    /// that this one has replaced. So its first read is as one behind a write: whatever it wrote, it was there by now.
    fn anew(&mut self, key: &str, most: usize, cluster: &Mutex<Cluster>) -> Session {
        let mut session = self.floor.clone();
        let is_full = self.forgotten.len() >= most.saturating_mul(FORGOTTEN_FOR_EACH);
        if !is_full && !self.forgotten.contains(&self.hasher.hash_one(key)) {
            session.resolve(&cluster.lock());
            session.on_told();
        }
        let newcomer = Session::newcomer(&mut cluster.lock());
        session.absorb(&cluster.lock(), newcomer);
        session
    }

    /// Forgets the session least recently used that no client holds.
    fn evict(&mut self, most: usize, cluster: &Mutex<Cluster>) {
        let free = |key: &String| self.by_key.get(key).is_some_and(|(session, _)| Arc::strong_count(session) == 1);
        let Some((&used, key)) = self.by_use.iter().find(|(_, key)| free(key)) else { return };
        let key = key.clone();
        self.by_use.remove(&used);
        if let Some((session, _)) = self.by_key.remove(&key) {
            let forgotten = session.lock().clone();
            self.floor.absorb(&cluster.lock(), forgotten);
            if self.forgotten.len() < most.saturating_mul(FORGOTTEN_FOR_EACH) {
                self.forgotten.insert(self.hasher.hash_one(&key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::{Branch, ClusterSettings, History, Identity, Lsn, Micros, Role, ServerId, Timeline, Token};

    fn cluster() -> Mutex<Cluster> {
        Mutex::new(Cluster::new(ClusterSettings::default(), 1))
    }

    #[test]
    fn an_evicted_session_is_not_forgotten() {
        let sessions = Sessions::new(2);
        let cluster = cluster();
        let token = Token { system_id: 1, branch: Branch::FIRST, lsn: Lsn(700), replica_lsn: None, issued: 0 };
        sessions.of("a", &cluster).lock().absorb(&cluster.lock(), token.session());
        for key in ["b", "c"] {
            sessions.of(key, &cluster);
        }
        assert_eq!(sessions.len(), 2);
        assert_eq!(
            sessions.of("a", &cluster).lock().watermark(),
            token.session().watermark(),
            "a comes back with what it had seen"
        );
    }

    #[test]
    fn only_who_was_evicted_may_have_lost_something() {
        let (sessions, cluster) = (Sessions::new(1), cluster());
        let lost = Token { system_id: 1, branch: Branch::FIRST, lsn: Lsn(700), replica_lsn: None, issued: 0 };
        sessions.of("a", &cluster).lock().absorb(&cluster.lock(), lost.session());
        sessions.of("b", &cluster);
        // The cluster goes on from before that.
        let history = History::new(Timeline(2), vec![(Timeline(1), Lsn(100))]);
        let identity = Identity {
            system_id: 1,
            branch: history.branch(),
            role: Role::Primary,
            postmaster_start: 1,
            block_size: 8192,
            segment_size: 16 << 20,
        };
        cluster.lock().on_probe_connected(ServerId(0), identity, history, Micros(1)).expect("of this cluster");
        let told = |key| {
            let session = sessions.of(key, &cluster);
            session.lock().resolve(&cluster.lock());
            let loss = session.lock().loss();
            loss.is_some()
        };
        assert_eq!(["a", "c", "d"].map(told), [true, false, false]);
    }

    #[test]
    fn a_session_in_use_stays() {
        let sessions = Sessions::new(1);
        let held = sessions.of("a", &cluster());
        sessions.of("b", &cluster());
        assert!(Arc::ptr_eq(&held, &sessions.of("a", &cluster())));
    }
}
