//! Keeps each database's catalogue: read from the primary with the rights of the client who came last, again after DDL,
//! when a name is unknown, and from time to time, for as long as there is the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_sql::Catalog;
use highwater_wire::SqlState;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::pool::{Pool, PoolKey};
use crate::server::{Connection, Failure, Login};
use crate::shared::{Database, Proxy};

/// The least time between two readings that unknown names ask for: doubled while they bring nothing new.
const GAP: Duration = Duration::from_millis(200);
const GAP_LONGEST: Duration = Duration::from_secs(10);
/// How long to wait after a reading failed.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// So many logins are remembered.
const READERS: usize = 4;

/// Sees to it that the database's catalogue is kept.
pub(crate) fn watch(proxy: &Arc<Proxy>, database: &Arc<Database>, pool: &Pool) {
    {
        let mut readers = database.readers.lock();
        if readers.front() != Some(&pool.key) {
            readers.retain(|reader| *reader != pool.key);
            readers.push_front(pool.key.clone());
            readers.truncate(READERS);
            database.came.notify_one();
        }
    }
    if !database.watched.swap(true, Ordering::AcqRel) {
        tokio::spawn(keep(Arc::clone(proxy), Arc::clone(database)));
    }
}

async fn keep(proxy: Arc<Proxy>, database: Arc<Database>) {
    let (mut gap, mut retry) = (GAP, RETRY);
    let mut trouble = None;
    loop {
        let Some(key) = database.readers.lock().front().cloned() else { return };
        let read_at = Instant::now();
        let before = database.changes.load(Ordering::Acquire);
        match read(&proxy, &key).await {
            Ok(catalog) => {
                // Names that stay unknown (temporary tables, typing errors) must not turn into a stream of readings.
                let news = catalog.generation() != database.generation.load(Ordering::Acquire);
                gap = if news { GAP } else { (gap * 2).min(GAP_LONGEST) };
                database.accept(catalog, before);
                database.on_looked_at();
                (trouble, retry) = (None, RETRY);
            }
            Err(Failure::Said(said)) if said.code == SqlState::INVALID_CATALOG_NAME => {
                // It is dropped. Whoever logs in to another one of that name begins anew.
                database.watched.store(false, Ordering::Release);
                return database.on_looked_at();
            }
            Err(failure) => {
                let text = failure.to_string();
                if trouble.as_ref() != Some(&text) {
                    tracing::warn!(
                        database = key.database,
                        user = key.user,
                        "the catalogue cannot be read, so reads go to the primary: {text}"
                    );
                }
                trouble = Some(text);
                // Roles go, and passwords change: another one may still read it.
                database.readers.lock().rotate_left(1);
                database.on_looked_at();
                let _ = timeout(retry, database.came.notified()).await;
                retry = (retry * 2).min(RETRY_LONGEST);
                continue;
            }
        }
        let asked = async {
            sleep_until(read_at + gap).await;
            database.stale.notified().await;
        };
        tokio::select! {
            () = database.changed.notified() => {}
            () = asked => {}
            () = sleep(proxy.config.catalog_refresh.0) => {}
        }
    }
}

async fn read(proxy: &Proxy, key: &PoolKey) -> Result<Catalog, Failure> {
    let primary = proxy.cluster.lock().primary().ok_or_else(|| Failure::Refused("no primary is known".into()))?;
    let name = [("application_name".to_owned(), "highwater catalogue".to_owned())];
    let login = Login::new(&key.user, proxy.secret(&key.user), &key.database, &name);
    let opened = Connection::open(&proxy.server(primary).endpoint, &login, proxy.config.connect_timeout.0).await;
    let mut connection = opened.inspect_err(|failure| proxy.on_refused(primary, &login, failure))?;
    let rows = connection.query(Catalog::QUERY).await?.into_inner();
    Catalog::from_rows(rows).map_err(|_| Failure::Unreadable("the catalogue"))
}
