//! One task per server: keeps a probe connection of its own (never one of the pools'), asks for the position when
//! somebody needs it, and hands the answers to the core. At most one probe is under way; whoever needs a probe sent from
//! now on shares the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use highwater_core::{Epoch, History, Identity, Lsn, PrimaryAnswer, Role, ServerId, StandbyAnswer, Timeline};
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::now;
use crate::config::Visibility;
use crate::probe::{self, Standby};
use crate::server::{Connection, Failure, Login};
use crate::shared::{Proxy, Server};

/// How long to wait before knocking again at a server that is away: doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// A standby that has all that was flushed and still lacks something required: after this long the primary is nudged.
/// Ordinary replication needs about 1 ms, an asynchronous commit up to 200 ms without it.
pub(crate) const NUDGE_AFTER: Duration = Duration::from_millis(5);

/// How often the primary is asked, under `commit_visibility = sync_only`, whether anybody may commit asynchronously.
const COMMITS_INTERVAL: Duration = Duration::from_secs(5);

/// How often a monitor looks, when there is reason to, whether its server's address still leads where it did.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(1);

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
            // It may just have changed its role.
            retry = RETRY_FIRST;
            continue;
        }
        // Somebody who waits for it, or for a primary, has no patience for more.
        let _ = timeout(retry, server.monitor.kick.notified()).await;
        sleep_until(began + RETRY_FIRST).await;
        retry = (retry * 2).min(RETRY_LONGEST);
    }
}

/// One probe connection from its opening to its end.
async fn follow(proxy: &Proxy, id: ServerId) -> Result<std::convert::Infallible, Failure> {
    let server = proxy.server(id);
    let lost = |_: &Failure| proxy.cluster.lock().on_probe_lost(id);
    let met = meet(proxy, server).await.inspect_err(lost);
    proxy.census.vote(usize::from(id.0), met.as_ref().ok().map(|met| met.identity.system_id));
    proxy.facts.notify_waiters();
    let mut met = met?;
    same_cluster(proxy, &met.identity).await.inspect_err(lost)?;
    let epoch = proxy
        .cluster
        .lock()
        .on_probe_connected(id, met.identity, met.history.clone(), now())
        .map_err(|why| Failure::Refused(why.to_string()))?;
    *server.monitor.trouble.lock() = None;
    let Identity { role, branch, .. } = met.identity;
    tracing::info!(server = server.config.name, %role, timeline = branch.timeline.0, "server found");
    fence(proxy);
    let ended = probe_on(proxy, server, &mut met, epoch).await;
    {
        // A change that the server itself has told is known already.
        let mut cluster = proxy.cluster.lock();
        if cluster.is_followed(id, epoch) {
            cluster.on_probe_lost(id);
        }
    }
    fence(proxy);
    for pool in proxy.pools.all() {
        pool.retain(|facts| facts.server != id);
    }
    ended
}

/// Waits until it is decided which cluster this is, and ends the connection to a server of another one.
async fn same_cluster(proxy: &Proxy, identity: &Identity) -> Result<(), Failure> {
    loop {
        let facts = proxy.facts.notified();
        match proxy.census.decided() {
            Some(decided) if decided == identity.system_id => return Ok(()),
            Some(decided) => {
                let text = format!("it belongs to cluster {}, and this is cluster {decided}", identity.system_id);
                return Err(Failure::Refused(text));
            }
            None => drop(timeout(RETRY_LONGEST, facts).await),
        }
    }
}

/// Keeps our traffic away from servers that are out of recovery and not the primary.
fn fence(proxy: &Proxy) {
    let pretenders = proxy.cluster.lock().pretenders();
    for server in &proxy.servers {
        let is_pretender = pretenders.contains(server.id);
        if is_pretender && !server.monitor.deposed.load(Ordering::Relaxed) {
            tracing::error!(
                server = server.config.name,
                "the server is out of recovery and not the primary: whatever is written there is lost"
            );
        }
        server.monitor.deposed.store(is_pretender, Ordering::Relaxed);
    }
    for pool in proxy.pools.all() {
        pool.retain(|facts| !pretenders.contains(facts.server));
    }
}

/// A server that has been met: the probe connection, and who is there.
struct Met {
    connection: Connection,
    identity: Identity,
    history: History,
    /// Speaks the replication protocol; opened when it is needed.
    replication: Option<Connection>,
}

/// Opens the probe connection and learns who is there, history included.
async fn meet(proxy: &Proxy, server: &Server) -> Result<Met, Failure> {
    let login = Login::prober(&server.config.url);
    let mut connection = Connection::open(&server.endpoint, &login, proxy.config.connect_timeout.0).await?;
    let identity = probe::introduce(&mut connection).await?.identity;
    let mut met = Met { connection, identity, history: History::first(), replication: None };
    let timeline = match identity.role {
        Role::Primary => probe::primary_timeline(&mut met.connection).await?,
        Role::Standby => match probe::standby(&mut met.connection).await? {
            Standby::Replaying(_, _, Some(timeline)) => timeline,
            Standby::Replaying(_, _, None) => met.replayed_timeline(proxy, server).await?,
            Standby::Promoted => return Err(Failure::Refused("it is being promoted".into())),
        },
    };
    if timeline != Timeline(1) {
        met.history = match met.replication(proxy, server).await {
            Ok(replication) => probe::history(replication, timeline).await?,
            Err(Failure::Said(failure)) if [*b"42501", *b"28000"].contains(&failure.code.0) => {
                tracing::warn!(
                    server = server.config.name,
                    "the past of timeline {} is unknown, so that what sessions saw before it counts as lost: {}",
                    timeline.0,
                    failure.message
                );
                History::new(timeline, Vec::new())
            }
            // Nothing that time will not mend: a timeline taken for another one would frighten everybody.
            Err(failure) => return Err(failure),
        };
    }
    met.identity.branch = met.history.branch();
    if met.identity.role == Role::Primary {
        met.replication = None;
    }
    Ok(met)
}

impl Met {
    async fn replication(&mut self, proxy: &Proxy, server: &Server) -> Result<&mut Connection, Failure> {
        if self.replication.is_none() {
            let login = Login::replication(&server.config.url);
            self.replication = Some(Connection::open(&server.endpoint, &login, proxy.config.connect_timeout.0).await?);
        }
        Ok(self.replication.as_mut().expect("opened above"))
    }

    /// The timeline of a standby whose receiver does not tell.
    async fn replayed_timeline(&mut self, proxy: &Proxy, server: &Server) -> Result<Timeline, Failure> {
        let replication = self.replication(proxy, server).await.map_err(|failure| {
            Failure::Refused(format!(
                "its timeline is unknown; the probing role needs pg_monitor and REPLICATION ({failure})"
            ))
        })?;
        probe::identify_system(replication).await
    }
}

async fn probe_on(
    proxy: &Proxy,
    server: &Server,
    met: &mut Met,
    epoch: Epoch,
) -> Result<std::convert::Infallible, Failure> {
    let mut stuck = Stuck::default();
    let mut pace = Pace { paid_until: Instant::now() };
    let mut asked = None;
    let mut looked = Instant::now();
    loop {
        let sent = Instant::now();
        if sent.duration_since(looked) >= ADDRESS_INTERVAL && is_in_doubt(proxy, server) {
            still_leads_there(proxy, server, &met.identity).await?;
            looked = Instant::now();
        }
        let limit = proxy.config.evidence_age_max.0;
        if is_asked_for_commits(proxy, met, asked) {
            asked = Some(sent);
            let asking = timeout(limit, probe::commits_asynchronously(&mut met.connection));
            if asking.await.map_err(|_| Failure::Unreadable("it does not answer probes"))?? {
                proxy.on_asynchronous_commits("the configuration or a role's or database's defaults say so");
            }
        }
        let probed = probe_once(proxy, server, met, epoch);
        let primary = timeout(limit, probed).await.map_err(|_| Failure::Unreadable("it does not answer probes"))??;
        if let Some(answer) = primary {
            let helping = stuck.help(proxy, server, &mut met.connection, epoch, met.identity, &answer);
            timeout(limit, helping).await.map_err(|_| Failure::Unreadable("it does not answer probes"))??;
        }
        proxy.facts.notify_waiters();
        rest(proxy, server).await;
        let next = pace.next(sent, proxy.config.probe_gap.0);
        // The timer counts in milliseconds, and would round "now" up.
        if next > Instant::now() {
            sleep_until(next).await;
        }
    }
}

/// Whether the server's address may lead elsewhere by now: a connection did, or the primary is not to be found, and names
/// move with it while connections stay where they are.
fn is_in_doubt(proxy: &Proxy, server: &Server) -> bool {
    server.monitor.astray.swap(false, Ordering::Relaxed) || proxy.cluster.lock().primary().is_none()
}

/// Makes sure that a new connection reaches the instance that the probe connection leads to. One that cannot be made says
/// nothing against it.
async fn still_leads_there(proxy: &Proxy, server: &Server, met: &Identity) -> Result<(), Failure> {
    let login = Login::prober(&server.config.url);
    let look = async {
        let mut connection = Connection::open(&server.endpoint, &login, proxy.config.connect_timeout.0).await?;
        Ok::<_, Failure>(probe::introduce(&mut connection).await?.identity)
    };
    let Ok(Ok(found)) = timeout(ADDRESS_INTERVAL, look).await else { return Ok(()) };
    if (found.system_id, found.postmaster_start) == (met.system_id, met.postmaster_start) {
        return Ok(());
    }
    Err(Failure::Refused("its address leads to another instance now".into()))
}

/// Whether the primary is to be asked if anybody may commit asynchronously.
fn is_asked_for_commits(proxy: &Proxy, met: &Met, asked: Option<Instant>) -> bool {
    proxy.config.commit_visibility == Visibility::SyncOnly
        && met.identity.role == Role::Primary
        && asked.is_none_or(|asked| asked.elapsed() >= COMMITS_INTERVAL)
}

/// One probe; the primary's answer comes back.
async fn probe_once(
    proxy: &Proxy,
    server: &Server,
    met: &mut Met,
    epoch: Epoch,
) -> Result<Option<PrimaryAnswer>, Failure> {
    let id = server.id;
    server.monitor.probes.add(1);
    let sent = proxy.cluster.lock().on_probe_sent(id, now());
    if met.identity.role == Role::Primary {
        let answer = probe::primary(&mut met.connection).await?;
        proxy.cluster.lock().on_primary_answer(id, epoch, sent, &answer, now());
        return Ok(Some(answer));
    }
    let Standby::Replaying(replay, snapshot_xmax, received) = probe::standby(&mut met.connection).await? else {
        proxy.cluster.lock().on_promoted(id, epoch);
        return Err(Failure::Refused("it has been promoted".into()));
    };
    let timeline = match received {
        Some(timeline) => {
            // It would keep a place among the server's max_wal_senders.
            met.replication = None;
            timeline
        }
        None => met.replayed_timeline(proxy, server).await?,
    };
    let answer = StandbyAnswer { replay, timeline, snapshot_xmax };
    let question = {
        let mut cluster = proxy.cluster.lock();
        cluster.on_standby_answer(id, epoch, sent, answer, now());
        if !cluster.is_followed(id, epoch) {
            return Err(Failure::Refused("it follows another timeline now".into()));
        }
        let wanted = server.monitor.witness_wanted.swap(false, Ordering::Relaxed);
        let question = if wanted { cluster.witness_question(id) } else { None };
        question.map(|question| (question.id, question.xids.to_vec()))
    };
    if let Some((question, xids)) = question {
        let committed = probe::committed(&mut met.connection, &xids).await?;
        proxy.cluster.lock().on_witness_answer(id, epoch, question, &committed);
    }
    Ok(None)
}

/// How many probes may follow each other without a gap. Somebody who reads strongly some ten times in a row, as a web page
/// does, waits for a round trip each time and not for the gap, which is longer.
const PROBES_AT_ONCE: u32 = 100;

/// Bounds the probes of one server: one for each gap in the long run, and some at once after a time of fewer.
struct Pace {
    /// Up to when the probes that were sent would last, one for each gap.
    paid_until: Instant,
}

impl Pace {
    /// When the next probe may be sent, if the last one was sent at `sent`.
    fn next(&mut self, sent: Instant, gap: Duration) -> Instant {
        self.paid_until = self.paid_until.max(sent) + gap;
        self.paid_until.checked_sub(gap * (PROBES_AT_ONCE - 1)).map_or(sent, |next| next.max(sent))
    }
}

/// Waits until somebody needs the next probe, or its time has come without that.
async fn rest(proxy: &Proxy, server: &Server) {
    let config = &proxy.config;
    let active = server.monitor.active.swap(false, Ordering::Relaxed);
    let interval = if active { config.probe_interval.0 } else { config.probe_interval_idle.0 };
    let helps = proxy.waiting.load(Ordering::Relaxed) > 0 && server.monitor.helps.load(Ordering::Relaxed);
    server.monitor.helps.store(helps, Ordering::Relaxed);
    let interval = if helps { interval.min(NUDGE_AFTER) } else { interval };
    let kicked = server.monitor.kick.notified();
    let _ = timeout(interval, kicked).await;
}

/// What a primary's monitor does for readers who wait for something that would not come by itself.
#[derive(Default)]
struct Stuck {
    /// Since when they have waited for a position that only unflushed WAL stands for.
    unflushed_since: Option<Instant>,
    /// A position, and the transaction id assigned after it, whose predecessors must end.
    mark: Option<(Lsn, u64)>,
}

impl Stuck {
    async fn help(
        &mut self,
        proxy: &Proxy,
        server: &Server,
        connection: &mut Connection,
        epoch: Epoch,
        identity: Identity,
        answer: &PrimaryAnswer,
    ) -> Result<(), Failure> {
        let unflushed = answer.insert.normalised(identity.block_size, identity.segment_size) > answer.flush;
        // A standby that lacks more than the unflushed end would not be helped, and a delayed one only sees one more commit.
        let at_flush = || proxy.cluster.lock().standby_has(answer.flush);
        if !unflushed || proxy.waiting.load(Ordering::Relaxed) == 0 || !at_flush() {
            self.unflushed_since = None;
        } else if self.unflushed_since.get_or_insert_with(Instant::now).elapsed() >= NUDGE_AFTER {
            self.unflushed_since = None;
            probe::nudge(connection).await?;
        }
        if let Some((position, _)) = self.mark.take_if(|(_, xid)| answer.snapshot.xmin >= *xid) {
            proxy.cluster.lock().on_settled(server.id, epoch, position);
        }
        let wanted = server.monitor.settling_wanted.swap(false, Ordering::Relaxed);
        if wanted && self.mark.is_none() {
            self.mark = Some(probe::mark(connection).await?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_paced() {
        let gap = Duration::from_millis(1);
        let began = Instant::now() + Duration::from_secs(1);
        let mut pace = Pace { paid_until: began };
        let mut sent = began;
        // The first one has been sent.
        for _ in 1..PROBES_AT_ONCE {
            assert_eq!(pace.next(sent, gap), sent, "at once");
        }
        for _ in 0..3 {
            let next = pace.next(sent, gap);
            assert_eq!(next, sent + gap, "then one for each gap");
            sent = next;
        }
        sent += gap * 10;
        let at_once = (0..20).take_while(|_| pace.next(sent, gap) == sent).count();
        assert_eq!(at_once, 10, "a pause of ten gaps is good for as many");
    }
}
