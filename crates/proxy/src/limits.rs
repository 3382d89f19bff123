//! How many clients and server connections a user or a database may have, where the configuration says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::Config;
use crate::text;

/// The limits by name of user and of database.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    users: HashMap<String, Limit>,
    databases: HashMap<String, Limit>,
}

/// What one name may have.
#[derive(Debug)]
struct Limit {
    clients: Option<Arc<Semaphore>>,
    /// One for each server.
    connections: Option<(usize, Vec<Arc<Cap>>)>,
}

/// The connections of one user or database to one server, over all pools.
#[derive(Debug)]
pub(crate) struct Cap {
    room: Arc<Semaphore>,
    /// Who waits for one to close: an idle connection of another pool makes room for him.
    waiting: AtomicU32,
}

/// Places among the clients of a user and a database; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct ClientPlaces {
    _permits: Vec<OwnedSemaphorePermit>,
}

/// Whose limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    User,
    Database,
}

/// What a client has waited for in vain: a place among the connections of its pool.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) server: String,
    /// How many connections to the server there may be; all are in use.
    pub(crate) size: usize,
    /// How many clients go on waiting.
    pub(crate) waiting: u32,
    pub(crate) waited: Duration,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, database, server, size, waiting, waited } = self;
        let waited = text::show_duration(*waited);
        write!(f, "The connections to server \"{server}\" for user \"{user}\" and database \"{database}\" ")?;
        write!(f, "(at most {size}) were all in use for {waited} (checkout_timeout); other clients waiting: {waiting}.")
    }
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let servers = config.servers.len();
        let limit = |clients: Option<usize>, connections: Option<usize>| Limit {
            clients: clients.map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
            connections: connections.map(|most| (most, (0..servers).map(|_| Arc::new(Cap::new(most))).collect())),
        };
        let users = config.users.iter();
        let databases = config.databases.iter();
        Self {
            users: users.map(|it| (it.name.clone(), limit(it.clients_max, it.server_connections_max))).collect(),
            databases: databases
                .map(|it| (it.name.clone(), limit(it.clients_max, it.server_connections_max)))
                .collect(),
        }
    }

    /// Places for one more client.
    pub(crate) fn client(&self, user: &str, database: &str) -> Result<ClientPlaces, Full> {
        let mut permits = Vec::new();
        for (limit, full) in [(self.users.get(user), Full::User), (self.databases.get(database), Full::Database)] {
            if let Some(clients) = limit.and_then(|limit| limit.clients.as_ref()) {
                permits.push(Arc::clone(clients).try_acquire_owned().map_err(|_| full)?);
            }
        }
        Ok(ClientPlaces { _permits: permits })
    }

    /// The caps that hold for connections of this user and database, by server, and the smallest number among them.
    pub(crate) fn caps(&self, user: &str, database: &str) -> (usize, Vec<Vec<Arc<Cap>>>) {
        let limits = [self.users.get(user), self.databases.get(database)];
        let capped = limits.into_iter().flatten().filter_map(|limit| limit.connections.as_ref());
        let (mut least, mut by_server) = (usize::MAX, Vec::new());
        for (most, caps) in capped {
            least = least.min(*most);
            by_server.resize(caps.len(), Vec::new());
            by_server.iter_mut().zip(caps).for_each(|(into, cap): (&mut Vec<_>, _)| into.push(Arc::clone(cap)));
        }
        (least, by_server)
    }
}

impl Cap {
    fn new(most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), waiting: AtomicU32::new(0) }
    }

    /// A place, if there is one.
    pub(crate) fn try_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// A place, in turn; `None` when `limit` passed first.
    pub(crate) async fn place(&self, limit: Duration) -> Option<OwnedSemaphorePermit> {
        let _waits = Waits::new(&self.waiting);
        timeout(limit, Arc::clone(&self.room).acquire_owned()).await.ok()?.ok()
    }

    /// Whether somebody waits.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
}

/// Counted for as long as it lives, also when the wait is given up.
pub(crate) struct Waits<'a>(&'a AtomicU32);

impl<'a> Waits<'a> {
    pub(crate) fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_by_user_and_by_database() {
        let text = "[[user]]\nname='u'\nclients_max=2\n[[database]]\nname='d'\nclients_max=1";
        let limits = Limits::new(&Config::from_toml(text).expect("valid"));
        let first = limits.client("u", "d").expect("room");
        assert_eq!(limits.client("x", "d").map(drop), Err(Full::Database));
        let second = limits.client("u", "e").expect("room");
        assert_eq!(limits.client("u", "f").map(drop), Err(Full::User));
        drop((first, second));
        assert!(limits.client("u", "d").is_ok() && limits.client("x", "y").is_ok());
    }

    #[test]
    fn who_waited_in_vain_is_told_for_what_and_how_long() {
        let shortage = Shortage {
            user: "ann".into(),
            database: "d".into(),
            server: "server1".into(),
            size: 2,
            waiting: 47,
            waited: Duration::from_secs(15),
        };
        assert_eq!(
            shortage.to_string(),
            "The connections to server \"server1\" for user \"ann\" and database \"d\" (at most 2) were all in use for 15s \
             (checkout_timeout); other clients waiting: 47."
        );
    }
}
