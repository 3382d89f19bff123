//! The shop: where a request goes in each of the four ways, and what a browser carries from one request to the next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::seq::IndexedRandom;
use tokio_postgres::Config;

use super::request::{Answer, request};

/// How late the standbys are; see `recovery_min_apply_delay`.
pub(crate) const STANDBY_DELAYS: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(2)];

/// A write is young until the slower standby shows it: its delay, and a tenth of a second to replay and to be noticed.
pub(crate) const LAG_WINDOW: Duration = Duration::from_millis(2100);

/// How long the second way keeps a user on the primary after he wrote.
const PIN: Duration = Duration::from_secs(5);

/// How an application spreads its requests over the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The founding article's router: writes to the primary, each read to a random standby.
    Random,
    /// As before, but a user who wrote stays on the primary for five seconds.
    Pinned,
    /// Highwater; the browser carries the token.
    Token,
    /// Highwater; nothing is carried, nothing is asked for.
    Strong,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Random, Self::Pinned, Self::Token, Self::Strong];

    /// Its name in the lines of progress.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Random => 'a',
            Self::Pinned => 'b',
            Self::Token => 'c',
            Self::Strong => 'd',
        }
    }

    /// Its name at the head of a column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Random => "random standby",
            Self::Pinned => "primary for 5 s\nafter a write",
            Self::Token => "Highwater,\ntoken carried",
            Self::Strong => "Highwater,\nnothing carried",
        }
    }

    pub(crate) fn is_highwater(self) -> bool {
        matches!(self, Self::Token | Self::Strong)
    }

    /// The controls need few rounds to fail; the promise needs many to be believed.
    pub(crate) fn share_of_time(self) -> f64 {
        if self.is_highwater() { 0.4 } else { 0.1 }
    }
}

/// Ports on the loopback address.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) primary: u16,
    pub(crate) standbys: Vec<u16>,
    pub(crate) proxy: u16,
}

/// What a browser carries from one request to the next.
#[derive(Debug, Default)]
pub(crate) struct Cookie {
    token: Option<String>,
    wrote_at: Option<Instant>,
}

/// A read's outcome.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) value: i64,
    pub(crate) is_from_standby: bool,
    /// No write that this read has to show is young.
    pub(crate) is_outside_window: bool,
    pub(crate) took: Duration,
}

/// The application's servers, all alike, in one way.
#[derive(Debug)]
pub(crate) struct Shop {
    way: Way,
    doors: Doors,
    opened_at: Instant,
    day: Duration,
    /// Pairs judged so far, and how many of each kind keep the shop open for longer than its day.
    judged: [AtomicU64; 2],
    wanted: u64,
    /// When anybody was last told that something is saved, in microseconds since the opening; 0 before that.
    last_write: AtomicU64,
}

impl Shop {
    /// Opens now, for `day`, or until `wanted` pairs of each kind have been judged if that takes longer; at the latest
    /// it closes when twice that time is over.
    pub(crate) fn open(way: Way, doors: Doors, day: Duration, wanted: u64) -> Self {
        let judged = [AtomicU64::new(0), AtomicU64::new(0)];
        Self { way, doors, opened_at: Instant::now(), day, judged, wanted, last_write: AtomicU64::new(0) }
    }

    /// Whether new rounds may begin.
    pub(crate) fn is_open(&self) -> bool {
        let elapsed = self.opened_at.elapsed();
        let has_enough = self.judged.iter().all(|pairs| pairs.load(Ordering::Relaxed) >= self.wanted);
        elapsed < self.day || (!has_enough && elapsed < self.day * 2)
    }

    /// Takes note of write-then-read and read-then-read pairs that were judged.
    pub(crate) fn on_judged(&self, pairs: [u64; 2]) {
        for (judged, more) in self.judged.iter().zip(pairs) {
            judged.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// All pairs judged so far.
    pub(crate) fn judged(&self) -> u64 {
        self.judged.iter().map(|pairs| pairs.load(Ordering::Relaxed)).sum()
    }

    /// Runs a writing statement.
    pub(crate) async fn write(&self, cookie: &mut Cookie, sql: &str) -> Result<()> {
        let port = if self.way.is_highwater() { self.doors.proxy } else { self.doors.primary };
        self.request(port, cookie, sql).await?;
        let now = Instant::now();
        cookie.wrote_at = Some(now);
        self.last_write.fetch_max((now - self.opened_at).as_micros() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a reading statement that yields one number. The server that runs it names its port itself.
    pub(crate) async fn read(&self, cookie: &mut Cookie, number: &str, from: &str) -> Result<Page> {
        let started = Instant::now();
        let is_outside_window = !self.must_show_young_write(cookie, started);
        let port = self.port_to_read(cookie, started);
        let sql = format!("SELECT {number}, served_by() FROM {from}");
        let answer = self.request(port, cookie, &sql).await?;
        let took = started.elapsed();
        let [Some(value), Some(port)] = answer.row[..] else { anyhow::bail!("an odd answer: {answer:?}") };
        let is_from_standby = self.doors.standbys.iter().any(|standby| i64::from(*standby) == port);
        Ok(Page { value, is_from_standby, is_outside_window, took })
    }

    /// Strong reads owe everybody's writes, the others the user's own.
    fn must_show_young_write(&self, cookie: &Cookie, now: Instant) -> bool {
        let anybody = || match self.last_write.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(self.opened_at + Duration::from_micros(micros)),
        };
        let write = if self.way == Way::Strong { anybody() } else { cookie.wrote_at };
        write.is_some_and(|at| now.saturating_duration_since(at) < LAG_WINDOW)
    }

    fn port_to_read(&self, cookie: &Cookie, now: Instant) -> u16 {
        let is_pinned = self.way == Way::Pinned && cookie.wrote_at.is_some_and(|at| now < at + PIN);
        match self.way {
            Way::Token | Way::Strong => self.doors.proxy,
            Way::Pinned if is_pinned => self.doors.primary,
            Way::Random | Way::Pinned => *self.doors.standbys.choose(&mut rand::rng()).expect("there are standbys"),
        }
    }

    async fn request(&self, port: u16, cookie: &mut Cookie, sql: &str) -> Result<Answer> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user("trusted").dbname("shop");
        if self.way == Way::Token {
            let carried = cookie.token.iter().map(|token| format!(" -c highwater.token={token}"));
            config.options("-c highwater.report=on".to_owned() + &carried.collect::<String>());
        }
        let answer = request(&config, sql).await.with_context(|| sql.to_owned())?;
        if self.way == Way::Token {
            cookie.token = Some(answer.token.clone().context("the proxy reported no token")?);
        }
        Ok(answer)
    }
}
