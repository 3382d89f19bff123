//! The stage: a cluster whose standbys are late, the proxy before it, the tables, and how one way is played on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use highwater_lab::{Cluster, ClusterOptions};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;

use super::judge::Tally;
use super::report::PAIRS_MIN;
use super::shop::{Doors, LAG_WINDOW, STANDBY_DELAYS, Shop, Way};
use super::visitor::{Habit, Visitor};
use crate::figures::grouped;
use crate::proxy::Proxy;

/// Each way has users of its own, counted from a multiple of this.
const VISITORS_MAX: u32 = 10_000;

/// `served_by` tells which server runs a statement, by its port. It is declared STABLE like any reading function: a proxy
/// that sees `inet_server_port` itself would be right to send the statement to the primary.
const TABLES: &str = "
    CREATE FUNCTION served_by() RETURNS int LANGUAGE sql STABLE AS 'SELECT inet_server_port()';
    CREATE TABLE wish (visitor int, number int, PRIMARY KEY (visitor, number));
    CREATE TABLE message (visitor int, number int, PRIMARY KEY (visitor, number));
    CREATE TABLE session (key text PRIMARY KEY, visitor int);";

/// What playing one way came to.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// What the proxy counted meanwhile: reads that blind balancing would have answered from the past.
    pub(crate) stale_reads_prevented: u64,
    pub(crate) took: Duration,
}

/// The servers. Dropping it ends them, the proxy first.
pub(crate) struct Stage {
    proxy: Proxy,
    cluster: Cluster,
}

impl Stage {
    /// Starts everything, Highwater with these settings (`key=value`).
    pub(crate) fn set(settings: &[String]) -> Result<Self> {
        let mut options = ClusterOptions::with_standbys(STANDBY_DELAYS.len());
        // Its commits are somebody's writes too, and in the evening nobody shall write.
        options.settings.push(("autovacuum".to_owned(), "off".to_owned()));
        for (standby, delay) in options.standbys.iter_mut().zip(STANDBY_DELAYS) {
            standby.delay = delay;
        }
        println!("Starting a primary and two standbys, 300 ms and 2 s late, and Highwater before them.");
        let cluster = Cluster::start(options)?;
        cluster.primary().sql("shop", &format!("SET ROLE app; {TABLES}"))?;
        cluster.settle(Duration::from_secs(30))?;
        // While somebody writes, all strong reads end up on the primary; the default would refuse some, for its sake.
        let mut all_settings = vec![format!("primary_fallback_max={VISITORS_MAX}")];
        all_settings.extend_from_slice(settings);
        let proxy = Proxy::start(&cluster, &all_settings)?;
        Ok(Self { proxy, cluster })
    }

    /// Lets users come for the time of `day`, waits until nobody writes, and lets them look around once more.
    pub(crate) async fn play(&self, way: Way, day: Duration) -> Result<Outcome> {
        let began = Instant::now();
        let console = self.proxy.console();
        let before = console.figure("stale_reads_prevented").await?;
        // The controls need no number.
        let wanted = if way.is_highwater() { PAIRS_MIN / 2 } else { 0 };
        let shop = Arc::new(Shop::open(way, self.doors(), day, wanted));
        let progress = show_progress(way, day, Arc::clone(&shop));

        let visitors = all(visitors(way).into_iter().map(|visitor| {
            let shop = Arc::clone(&shop);
            async move { visitor.spend_day(&shop).await }
        }))
        .await?;
        tokio::time::sleep(LAG_WINDOW).await;
        let visitors = all(visitors.into_iter().map(|visitor| {
            let shop = Arc::clone(&shop);
            async move { visitor.spend_evening(&shop).await }
        }))
        .await?;

        progress.abort();
        let mut tally = Tally::default();
        visitors.into_iter().for_each(|visitor| tally.merge(visitor.tally));
        let stale_reads_prevented = console.figure("stale_reads_prevented").await? - before;
        Ok(Outcome { tally, stale_reads_prevented, took: began.elapsed() })
    }

    /// What to type to see it oneself.
    pub(crate) fn how_to_look_around(&self, is_kept: bool) -> String {
        if !is_kept {
            return "`cargo xtask demo --keep` leaves everything running, and says how to connect with psql and look \
                    around."
                .to_owned();
        }
        let psql =
            |port, user, database| format!("  psql 'host=127.0.0.1 port={port} user={user} dbname={database}'\n");
        let mut text = "Everything stays up until Ctrl-C.\n".to_owned();
        text += "Through Highwater (after a statement: SHOW highwater.last_route):\n";
        text += &psql(self.proxy.port, "trusted", "shop");
        text += "Its console (SHOW SERVERS, SHOW ROUTES, SHOW STATS, SHOW LAG, EXPLAIN shop SELECT ...):\n";
        text += &psql(self.proxy.port, "highwater", "highwater");
        for server in self.cluster.servers() {
            text += &format!("The server {} itself:\n{}", server.name(), psql(server.port(), "trusted", "shop"));
        }
        text
    }

    fn doors(&self) -> Doors {
        Doors {
            primary: self.cluster.primary().port(),
            standbys: self.cluster.standbys().iter().map(|standby| standby.port()).collect(),
            proxy: self.proxy.port,
        }
    }
}

/// The controls connect to PostgreSQL directly, where each connection is a process; so fewer come.
fn visitors(way: Way) -> Vec<Visitor> {
    let [wishing, reading] = if way.is_highwater() { [400, 100] } else { [48, 12] };
    let first = (way as u32) * VISITORS_MAX;
    (0..wishing + reading)
        .map(|index| Visitor::new(first + index, if index < wishing { Habit::Wishing } else { Habit::Reading }))
        .collect()
}

/// Runs all at once; the first failure ends it.
async fn all<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = Result<T>> + Send + 'static>,
) -> Result<Vec<T>> {
    let mut running: JoinSet<Result<T>> = tasks.collect();
    let mut results = Vec::with_capacity(running.len());
    while let Some(result) = running.join_next().await {
        results.push(result.context("a user's task ended")??);
    }
    Ok(results)
}

/// A bar that follows the clock; nothing where nobody looks. It ends when its task is aborted.
fn show_progress(way: Way, day: Duration, shop: Arc<Shop>) -> tokio::task::JoinHandle<()> {
    let style = ProgressStyle::with_template("  {prefix}: {wide_bar} {msg}").expect("a correct template");
    let bar = ProgressBar::new(day.as_millis() as u64).with_style(style).with_prefix(way.letter().to_string());
    let bar = Clearing(bar);
    let began = Instant::now();
    tokio::spawn(async move {
        loop {
            bar.0.set_position(began.elapsed().as_millis() as u64);
            bar.0.set_message(format!("{} pairs", grouped(shop.judged())));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

/// A progress bar that disappears when it is dropped.
struct Clearing(ProgressBar);

impl Drop for Clearing {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
