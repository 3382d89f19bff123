//! Keeps each database's catalogue: read from the primary with the rights of the first client who came, again after DDL,
//! when a name is unknown, and from time to time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_sql::Catalog;
use tokio::time::{Instant, sleep, sleep_until};

use crate::pool::{Pool, PoolKey};
use crate::server::{Connection, Failure, Login};
use crate::shared::{Database, Proxy};

/// The least time between two readings that unknown names ask for: doubled while they bring nothing new.
const GAP: Duration = Duration::from_millis(200);
const GAP_LONGEST: Duration = Duration::from_secs(10);
/// How long to wait after a reading failed.
const RETRY: Duration = Duration::from_secs(1);

/// Sees to it that the database's catalogue is kept.
pub(crate) fn watch(proxy: &Arc<Proxy>, database: &Arc<Database>, pool: &Pool) {
    if !database.watched.swap(true, Ordering::AcqRel) {
        tokio::spawn(keep(Arc::clone(proxy), Arc::clone(database), pool.key.clone()));
    }
}

async fn keep(proxy: Arc<Proxy>, database: Arc<Database>, key: PoolKey) {
    let mut gap = GAP;
    loop {
        let read_at = Instant::now();
        let before = database.changes.load(Ordering::Acquire);
        match read(&proxy, &key).await {
            Ok(catalog) => {
                // Names that stay unknown (temporary tables, typing errors) must not turn into a stream of readings.
                let news = catalog.generation() != database.generation.load(Ordering::Acquire);
                gap = if news { GAP } else { (gap * 2).min(GAP_LONGEST) };
                database.accept(catalog, before);
                database.on_looked_at();
            }
            Err(failure) => {
                tracing::warn!(
                    database = key.database,
                    "the catalogue cannot be read, so reads go to the primary: {failure}"
                );
                database.on_looked_at();
                sleep(RETRY).await;
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
