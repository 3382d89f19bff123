//! One task per server: keeps a probe connection of its own (never one of the pools'), asks for the position when
//! somebody needs it, and hands the answers to the core. At most one probe is under way; whoever needs a probe sent from
//! now on shares the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_core::{Epoch, Identity, Role, ServerId};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock::now;
use crate::probe;
use crate::server::{Connection, Failure, Login};
use crate::shared::{Proxy, Server};

/// How long to wait before knocking again at a server that is away: doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// A standby that has all that was flushed and still lacks something required: after this long the primary is nudged.
/// Ordinary replication needs about 1 ms, an asynchronous commit up to 200 ms without it.
const NUDGE_AFTER: Duration = Duration::from_millis(5);

/// Watches one server for as long as the process lives.
pub(crate) async fn watch(proxy: Arc<Proxy>, id: ServerId) {
    let mut retry = RETRY_FIRST;
    loop {
        let began = Instant::now();
        let ended = follow(&proxy, id).await;
        let server = proxy.server(id);
        let Err(failure) = ended;
        let text = failure.to_string();
        let news = server.monitor.trouble.lock().replace(text.clone()).is_none_or(|before| before != text);
        if news {
            tracing::warn!(server = server.config.name, "cannot probe the server: {text}");
        }
        proxy.facts.notify_waiters();
        if began.elapsed() > RETRY_LONGEST {
            retry = RETRY_FIRST;
        }
        sleep(retry).await;
        retry = (retry * 2).min(RETRY_LONGEST);
    }
}

/// One probe connection from its opening to its end.
async fn follow(proxy: &Proxy, id: ServerId) -> Result<std::convert::Infallible, Failure> {
    let server = proxy.server(id);
    let (mut connection, identity) = meet(proxy, server).await?;
    let epoch = proxy.cluster.lock().on_probe_connected(id, identity, now()).map_err(|why| Failure::Refused(why.to_string()))?;
    *server.monitor.trouble.lock() = None;
    tracing::info!(server = server.config.name, role = %identity.role, timeline = identity.timeline.0, "server found");
    let ended = probe_on(proxy, server, &mut connection, identity, epoch).await;
    proxy.cluster.lock().on_probe_lost(id);
    for pool in proxy.pools.all() {
        pool.retain(|facts| facts.server != id);
    }
    ended
}

/// Opens the probe connection and learns who is there, timeline included.
async fn meet(proxy: &Proxy, server: &Server) -> Result<(Connection, Identity), Failure> {
    let limit = proxy.config.connect_timeout.0;
    let login = Login::prober(&server.config.url);
    let mut connection = Connection::open(&server.config.url.address, &login, limit).await?;
    let mut identity = probe::introduce(&mut connection).await?.identity;
    identity.timeline = match probe::timeline(&mut connection, identity.role).await? {
        Some(timeline) => timeline,
        None => {
            let login = Login::replication(&server.config.url);
            let mut replication = Connection::open(&server.config.url.address, &login, limit).await.map_err(|failure| {
                Failure::Refused(format!("its timeline is unknown; the probing role needs pg_monitor and REPLICATION ({failure})"))
            })?;
            probe::identify_system(&mut replication).await?
        }
    };
    Ok((connection, identity))
}

async fn probe_on(
    proxy: &Proxy,
    server: &Server,
    connection: &mut Connection,
    identity: Identity,
    epoch: Epoch,
) -> Result<std::convert::Infallible, Failure> {
    let mut checked = Instant::now();
    let mut behind_since = None;
    loop {
        let sent = Instant::now();
        let limit = proxy.config.evidence_age_max.0;
        let probed = probe_once(proxy, server, connection, identity, epoch);
        let unflushed = timeout(limit, probed).await.map_err(|_| Failure::Unreadable("it does not answer probes"))??;
        if checked.elapsed() > proxy.config.probe_interval_idle.0 {
            checked = Instant::now();
            if let Some(timeline) = probe::timeline(connection, identity.role).await? {
                proxy.cluster.lock().on_identity(server.id, epoch, timeline, identity.role);
            }
        }
        nudge_if_stuck(proxy, unflushed, connection, &mut behind_since).await?;
        proxy.facts.notify_waiters();
        rest(proxy, server, sent).await;
    }
}

/// One probe; whether the primary's position stands on WAL that is not flushed.
async fn probe_once(
    proxy: &Proxy,
    server: &Server,
    connection: &mut Connection,
    identity: Identity,
    epoch: Epoch,
) -> Result<bool, Failure> {
    let id = server.id;
    server.monitor.probes.add(1);
    let sent = proxy.cluster.lock().on_probe_sent(id, now());
    if identity.role == Role::Primary {
        let answer = probe::primary(connection).await?;
        proxy.cluster.lock().on_primary_answer(id, epoch, sent, &answer, now());
        return Ok(answer.insert.normalised(identity.block_size, identity.segment_size) > answer.flush);
    }
    let answer = probe::standby(connection).await?;
    let question = {
        let mut cluster = proxy.cluster.lock();
        cluster.on_standby_answer(id, epoch, sent, answer, now());
        let wanted = server.monitor.witness_wanted.swap(false, Ordering::Relaxed);
        let question = if wanted { cluster.witness_question(id) } else { None };
        question.map(|question| (question.id, question.xids.to_vec()))
    };
    if let Some((question, xids)) = question {
        let committed = probe::committed(connection, &xids).await?;
        proxy.cluster.lock().on_witness_answer(id, epoch, question, &committed);
    }
    Ok(false)
}

/// Waits for the time of the next probe: at once when somebody needs it, but never sooner than `probe_gap` after the last.
async fn rest(proxy: &Proxy, server: &Server, sent: Instant) {
    let config = &proxy.config;
    let active = server.monitor.active.swap(false, Ordering::Relaxed);
    let interval = if active { config.probe_interval.0 } else { config.probe_interval_idle.0 };
    let kicked = server.monitor.kick.notified();
    let _ = timeout(interval, kicked).await;
    sleep_until(sent + config.probe_gap.0).await;
}

/// Nudges the primary when readers wait for a position that only unflushed WAL stands for.
async fn nudge_if_stuck(
    proxy: &Proxy,
    unflushed: bool,
    connection: &mut Connection,
    behind_since: &mut Option<Instant>,
) -> Result<(), Failure> {
    if !unflushed || proxy.waiting.load(Ordering::Relaxed) == 0 {
        *behind_since = None;
        return Ok(());
    }
    if behind_since.get_or_insert_with(Instant::now).elapsed() >= NUDGE_AFTER {
        *behind_since = None;
        probe::nudge(connection).await?;
    }
    Ok(())
}
