//! What an operator does to servers and clients. Every lever is here, whoever pulls it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_core::ServerId;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::Complaint;
use crate::gate::Traffic;
use crate::shared::Proxy;

/// How often it is looked whether a server is free: short beside what an operator does next.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Keeps new reads away from standbys, and returns when nothing runs there any more, or with a complaint after `limit`.
/// They stay closed until [`resume`].
pub(crate) async fn drain(proxy: &Proxy, servers: &[ServerId], limit: Duration) -> Result<(), Complaint> {
    let primary = proxy.cluster.lock().primary();
    if let Some(id) = servers.iter().find(|id| Some(**id) == primary) {
        let name = &proxy.server(*id).config.name;
        return Err(Complaint::NotNow(
            format!("server \"{name}\" is the primary, which no other server can stand in for"),
            "PAUSE lets whatever must run there wait until RESUME.",
        ));
    }
    close(proxy, servers, Traffic::Draining);
    when_free(proxy, servers, Instant::now() + limit).await
}

/// Has everything that must run on these servers wait, and returns when nothing runs there any more and the positions of
/// all that ran are known: then nothing that the next primary has is missing to any session. They stay closed until
/// [`resume`].
pub(crate) async fn pause(proxy: &Proxy, servers: &[ServerId], limit: Duration) -> Result<(), Complaint> {
    let end = Instant::now() + limit;
    close(proxy, servers, Traffic::Paused);
    when_free(proxy, servers, end).await?;
    when_measured(proxy, servers, end).await
}

/// Gives servers their traffic back.
pub(crate) fn resume(proxy: &Proxy, servers: &[ServerId]) {
    close(proxy, servers, Traffic::Open);
    proxy.facts.notify_waiters();
}

/// Has new connections to servers take the place of all that are pooled, each as soon as nobody uses it. What was made anew
/// on a server, such as an extension whose functions remember its types by number, is met by server processes that know
/// nothing of what was there before.
pub(crate) fn reconnect(proxy: &Proxy) {
    for pool in proxy.pools.all() {
        pool.retire();
    }
    tracing::info!("an administrator has new connections to servers opened");
}

/// Ends a client; what it runs is cancelled first.
pub(crate) async fn kill(proxy: &Proxy, client: u32) -> Result<(), Complaint> {
    let known = proxy.clients.lock().get(&client).cloned();
    let known = known.ok_or(Complaint::NotNow(format!("there is no client {client}"), "See SHOW CLIENTS."))?;
    proxy.end(&known, proxy.config.connect_timeout.0).await;
    tracing::info!(client, user = known.user, "an administrator has ended the client");
    Ok(())
}

fn close(proxy: &Proxy, servers: &[ServerId], traffic: Traffic) {
    for id in servers {
        let server = proxy.server(*id);
        server.gate.set(traffic);
        proxy.cluster.lock().on_server_draining(*id, traffic != Traffic::Open);
        tracing::info!(
            server = server.config.name,
            traffic = traffic.name(),
            "an administrator has changed the traffic"
        );
    }
}

async fn when_free(proxy: &Proxy, servers: &[ServerId], end: Instant) -> Result<(), Complaint> {
    let in_use = |id: &&ServerId| proxy.server(**id).busy.load(Ordering::SeqCst) > 0;
    while let Some(id) = servers.iter().find(in_use) {
        if Instant::now() >= end {
            return Err(still_in_use(proxy, *id));
        }
        sleep(LOOK_INTERVAL).await;
    }
    for pool in proxy.pools.all() {
        pool.retain(|facts| !servers.contains(&facts.server));
    }
    Ok(())
}

/// Nobody writes there any more: what the primary answers from now on bounds all that was written and seen.
async fn when_measured(proxy: &Proxy, servers: &[ServerId], end: Instant) -> Result<(), Complaint> {
    let closed = proxy.cluster.lock().next_seq();
    loop {
        let facts = proxy.facts.notified();
        tokio::pin!(facts);
        facts.as_mut().enable();
        let is_measured = {
            let cluster = proxy.cluster.lock();
            let is_there = cluster.primary().is_some_and(|primary| servers.contains(&primary));
            !is_there || cluster.bound_after(closed).is_some()
        };
        if is_measured {
            return Ok(());
        }
        servers.iter().for_each(|id| proxy.kick(*id));
        timeout_at(end, facts).await.map_err(|_| {
            Complaint::NotNow("the primary's position is not known".into(), "The pause holds until RESUME.")
        })?;
    }
}

fn still_in_use(proxy: &Proxy, id: ServerId) -> Complaint {
    let server = proxy.server(id);
    let clients = proxy.clients.lock();
    let mut holding: Vec<u32> =
        clients.values().filter(|client| client.view.lock().server == Some(id)).map(|client| client.pid).collect();
    holding.sort_unstable();
    let numbers: Vec<String> = holding.iter().map(u32::to_string).collect();
    let held = if numbers.is_empty() { String::new() } else { format!(", by clients {}", numbers.join(", ")) };
    let busy = server.busy.load(Ordering::SeqCst);
    Complaint::NotNow(
        format!("{busy} connections of server \"{}\" are still in use{held}", server.config.name),
        "It stays closed until RESUME. SHOW CLIENTS says what they do, KILL ends one.",
    )
}
