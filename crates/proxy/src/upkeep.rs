//! Looks after pools while nobody waits: closes connections that have grown old or idle, opens those that shall always be
//! there. Whatever it does, no client waits for it.

use std::sync::Arc;
use std::time::Duration;

use highwater_core::ServerId;
use tokio::time::{Instant, interval, sleep};

use crate::clock::now;
use crate::gate::Traffic;
use crate::pool::Pool;
use crate::session::checkout::open_at;
use crate::shared::Proxy;

/// Lifetimes are minutes, and a new pool has its connections soon enough.
const INTERVAL: Duration = Duration::from_secs(1);
/// A server that refused a connection is asked again after this time, as PgBouncer has it (`server_login_retry`).
const RETRY_AFTER: Duration = Duration::from_secs(15);

/// Looks after all pools for as long as the process lives.
pub(crate) async fn look_after(proxy: Arc<Proxy>) {
    let mut looks = interval(INTERVAL);
    loop {
        looks.tick().await;
        let at = Instant::now();
        for (pool, has_clients) in proxy.pools.survey() {
            pool.close_aged(at, has_clients);
            if has_clients && pool.terms().size_min > 0 {
                for id in known(&proxy).filter(|id| pool.begins_filling(*id)) {
                    tokio::spawn(fill(Arc::clone(&proxy), Arc::clone(&pool), id));
                }
            }
        }
    }
}

/// The servers that are there, of which it is known what they are, and that neither are deposed nor closed by the operator.
fn known(proxy: &Proxy) -> impl Iterator<Item = ServerId> {
    let cluster = proxy.cluster.lock();
    let pretenders = cluster.pretenders();
    let is_met = |id: &ServerId| cluster.server_view(*id, now()).is_some_and(|view| view.identity.is_some());
    let is_open = |id: &ServerId| proxy.server(*id).gate.traffic() == Traffic::Open;
    let is_known = |id: &ServerId| is_met(id) && !pretenders.contains(*id) && is_open(id);
    proxy.servers.iter().map(|server| server.id).filter(is_known).collect::<Vec<_>>().into_iter()
}

/// Opens what is missing, one after the other.
async fn fill(proxy: Arc<Proxy>, pool: Arc<Pool>, id: ServerId) {
    while let Some(ticket) = pool.filling_ticket(id, &proxy.server(id).busy) {
        let Some(places) = proxy.pools.free_places(&pool, id) else { break };
        match open_at(&proxy, &pool, id, places).await {
            Ok(pooled) => pool.put(pooled),
            Err(failure) => {
                drop(ticket);
                tracing::debug!(server = id.0, %failure, "a connection of pool_size_min cannot be opened");
                sleep(RETRY_AFTER).await;
                break;
            }
        }
    }
    pool.on_filled(id);
}
