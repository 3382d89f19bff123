//! One history: what happens next is thrown by the dice, until it ends, all is made well, and everybody must get what he wants.

use std::collections::VecDeque;

use highwater_core::{Level, Lsn, Micros, Role, Timeline, Token};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::{Around, Client, MAX_LAG, WAIT_BUDGET, Wish};
use crate::judge::{Account, Commits, Violation};
use crate::proxy::{Mistake, Proxy};
use crate::servers::Servers;
use crate::tally::Tally;

/// Tokens remembered for later bearers.
const TOKENS_KEPT: usize = 8;
/// After this many rounds of a cluster in which all is well nobody may wait any more.
const ROUNDS_MAX: usize = 80;

/// What a seed has led to.
#[derive(Debug)]
pub struct Found {
    /// What was wrong, if anything was.
    pub violation: Option<Violation>,
    /// What has happened, line by line; empty unless it was asked for.
    pub trace: Vec<String>,
    /// The same in numbers.
    pub tally: Tally,
}

struct World {
    servers: Servers,
    proxies: Vec<Proxy>,
    clients: Vec<Client>,
    tokens: VecDeque<(Token, Account)>,
    now: Micros,
    dice: StdRng,
    tally: Tally,
    promotions: usize,
    /// Since when the primary has shown at least this; cleared when a promotion or a second primary lifts promises about it.
    shown: VecDeque<(Micros, Commits)>,
    mistake: Option<Mistake>,
    trace: Option<Vec<String>>,
}

/// Plays one history. With a mistake the shell breaks that rule.
#[must_use]
pub fn play(seed: u64, mistake: Option<Mistake>, traced: bool) -> Found {
    let mut world = World::new(seed, mistake, traced);
    let violation = world.history().err();
    Found { violation, trace: world.trace.unwrap_or_default(), tally: world.tally }
}

impl World {
    fn new(seed: u64, mistake: Option<Mistake>, traced: bool) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let servers = dice.random_range(2..=4);
        let proxies = dice.random_range(1..=3);
        let clients = dice.random_range(1..=4);
        Self {
            servers: Servers::new(servers),
            proxies: (0..proxies).map(|_| Proxy::new(servers, mistake)).collect(),
            clients: (0..clients).map(|client| Client::at(client % proxies)).collect(),
            tokens: VecDeque::new(),
            now: Micros(1_000_000),
            dice,
            tally: Tally::default(),
            promotions: 0,
            shown: VecDeque::new(),
            mistake,
            trace: traced.then(Vec::new),
        }
    }

    fn history(&mut self) -> Result<(), Violation> {
        let steps = self.dice.random_range(60..400);
        // Some histories are quiet, so that long chains of ordinary events are seen, too.
        let trouble = [0, 1, 4, 10][self.dice.random_range(0..4)];
        for _ in 0..steps {
            self.now = self.now.plus(Micros(self.dice.random_range(200..3000)));
            self.step(trouble)?;
            self.remember();
        }
        self.heal();
        self.settle()
    }

    /// One event.
    fn step(&mut self, trouble: u32) -> Result<(), Violation> {
        match self.dice.random_range(0..100 + trouble) {
            0..28 => self.client_step(),
            28..58 => {
                let (proxy, place) = (self.any_proxy(), self.any_server());
                let eager = self.dice.random_bool(0.3);
                self.monitor(proxy, place, eager);
                Ok(())
            }
            58..64 => {
                let (proxy, place) = (self.any_proxy(), self.any_server());
                if self.proxies[proxy].witness(&self.servers, place) {
                    self.note("witness", || format!("proxy {proxy} asks at place {place}"));
                }
                Ok(())
            }
            64..82 => {
                let server = self.any_server();
                for _ in 0..self.dice.random_range(1..4) {
                    if self.servers.apply(server) {
                        self.note("commits replayed", || format!("server {server}"));
                    }
                }
                Ok(())
            }
            82..91 => self.foreign_commit(),
            91..93 => {
                let server = self.any_server();
                if self.servers.flush(server) {
                    self.note("logs flushed late", || format!("server {server}"));
                }
                Ok(())
            }
            93..98 => {
                let server = self.servers.leader;
                let hidden = &mut self.servers.all[server].hidden;
                if !hidden.is_empty() {
                    let which = self.dice.random_range(0..hidden.len());
                    let position = hidden.swap_remove(which);
                    self.note("commits shown late", || format!("position {position} on server {server}"));
                }
                Ok(())
            }
            98..100 => {
                self.hand_over();
                Ok(())
            }
            _ => {
                self.fault();
                Ok(())
            }
        }
    }

    fn client_step(&mut self) -> Result<(), Violation> {
        let client = self.dice.random_range(0..self.clients.len());
        let wish = match self.dice.random_range(0..20) {
            0..8 => Wish::Read(Level::Session),
            8..10 => Wish::Read(Level::Strong),
            10..11 => Wish::Read(Level::Bounded { max_lag: MAX_LAG }),
            11..12 => Wish::Read(Level::Eventual),
            12..15 => Wish::ReadOnPrimary,
            _ => Wish::Write,
        };
        if !self.clients[client].is_busy() {
            self.with_client(client, |client, around| client.begin(wish, WAIT_BUDGET, around));
        }
        self.attempt(client).map(drop)
    }

    fn attempt(&mut self, client: usize) -> Result<bool, Violation> {
        let wish = self.clients[client].pending.map(|pending| pending.wish);
        let ended = self.with_client(client, Client::attempt);
        if !matches!(ended, Ok(false)) {
            let home = self.clients[client].home;
            self.note("units ended", || format!("session {client} at proxy {home}: {wish:?}: {ended:?}"));
        }
        ended
    }

    fn with_client<T>(&mut self, client: usize, act: impl FnOnce(&mut Client, &mut Around<'_>) -> T) -> T {
        let bounded_due = self.bounded_due();
        let (now, dice, promotions) = (self.now, self.dice.random(), self.promotions);
        let Self { servers, proxies, clients, tally, trace, .. } = self;
        let client = &mut clients[client];
        let proxy = &mut proxies[client.home];
        act(client, &mut Around { servers, proxy, tally, now, dice, promotions, bounded_due, trace: trace.as_mut() })
    }

    fn monitor(&mut self, proxy: usize, place: usize, eager: bool) {
        let said = self.proxies[proxy].monitor(&self.servers, place, self.now, eager);
        if let Some(what) = said {
            self.note("monitor steps", || format!("proxy {proxy}, place {place}: {what}"));
        }
    }

    fn foreign_commit(&mut self) -> Result<(), Violation> {
        let primaries: Vec<usize> = (0..self.servers.all.len())
            .filter(|server| self.servers.all[*server].is_up && self.servers.all[*server].role == Role::Primary)
            .collect();
        if let Some(server) = self.pick(&primaries)
            && !self.servers.is_full()
        {
            let (hidden, asynchronous) = (self.dice.random_bool(0.5), self.dice.random_bool(0.3));
            let commit = self.servers.commit(server, hidden);
            if asynchronous {
                self.tally.count("asynchronous commits");
            } else {
                self.servers.flush(server);
            }
            let what = || format!("#{commit} on server {server}, hidden: {hidden}, asynchronous: {asynchronous}");
            self.note("foreign commits", what);
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        let from = self.dice.random_range(0..self.clients.len());
        if self.clients[from].is_busy() {
            return;
        }
        if let Some(token) = self.with_client(from, Client::token) {
            self.tokens.push_back(token);
            if self.tokens.len() > TOKENS_KEPT {
                self.tokens.pop_front();
            }
        }
        let (to, home) = (self.dice.random_range(0..self.clients.len()), self.any_proxy());
        // Mostly the newest one.
        let which = if self.dice.random_bool(0.7) { 0 } else { self.dice.random_range(0..TOKENS_KEPT) };
        let Some(&(token, known)) = self.tokens.iter().rev().nth(which) else { return };
        let (token, known) =
            if self.dice.random_bool(0.1) { (self.forged(token), Account::default()) } else { (token, known) };
        let Ok(token) = Token::decode(&token.encode()) else { return };
        self.clients[to].arrive(home, token, known, &mut self.proxies[home]);
        self.note("tokens carried", || format!("session {to} begins anew at proxy {home} with {token:?}"));
    }

    fn forged(&mut self, mut token: Token) -> Token {
        match self.dice.random_range(0..4) {
            0 => token.lsn = Lsn(token.lsn.0 + self.dice.random_range(0..1 << 40)),
            1 => token.branch.timeline = Timeline(self.dice.random_range(0..9)),
            2 => token.branch.origin = self.dice.random(),
            _ => token.system_id ^= 1,
        }
        token.replica_lsn = self.dice.random_bool(0.5).then_some(token.lsn);
        token
    }

    fn fault(&mut self) {
        let server = self.any_server();
        match self.dice.random_range(0..18) {
            0..3 => {
                let paused = self.servers.all[server].role == Role::Standby && !self.servers.all[server].is_paused;
                self.servers.all[server].is_paused = paused;
                self.note("replay paused or resumed", || format!("server {server}: {paused}"));
            }
            3..5 => self.crash(server, false),
            5..7 => {
                self.servers.all[server].is_up = false;
                self.note("servers gone", || format!("server {server}"));
            }
            7..10 => self.revive(server),
            10..12 => {
                let proxy = self.any_proxy();
                self.proxies[proxy].cut_off[server] ^= true;
                let cut_off = self.proxies[proxy].cut_off[server];
                self.note("partitions", || format!("proxy {proxy} and server {server}: {cut_off}"));
            }
            12 => self.restart_proxy(),
            13 => {
                self.now = self.now.plus(Micros(self.dice.random_range(1_000_000..9_000_000)));
                self.note("long silences", String::new);
            }
            14..16 => self.move_place(server),
            _ => self.fail_over(server),
        }
    }

    /// A name, or the address behind it, leads elsewhere from now on; connections stay where they are.
    fn move_place(&mut self, place: usize) {
        let (other, leader) = (self.any_server(), self.servers.leader);
        let leads = &mut self.servers.leads;
        match self.dice.random_range(0..4) {
            0 => leads.swap(place, other),
            1 => leads[place] = leader,
            2 => leads[place] = other,
            _ => *leads = (0..leads.len()).collect(),
        }
        let leads = self.servers.leads.clone();
        self.note("places that lead elsewhere", || format!("to servers {leads:?}"));
    }

    /// A standby steps back at most to a consistent state; a primary comes back where it was.
    fn crash(&mut self, server: usize, restarts: bool) {
        let real = &self.servers.all[server];
        let position = match real.role {
            Role::Primary => real.position,
            Role::Standby => self.dice.random_range(real.position.saturating_sub(6)..=real.position),
        };
        self.servers.crash(server, position, restarts);
        self.note("crashes", || format!("server {server} comes back at {position}"));
    }

    fn revive(&mut self, server: usize) {
        if !self.servers.all[server].is_up {
            self.servers.all[server].is_up = true;
            self.crash(server, true);
        }
        // A server that has gone another way is rewound, or made anew.
        if server != self.servers.leader && self.servers.all[self.servers.leader].is_up && self.dice.random_bool(0.6) {
            self.servers.follow(server);
            self.note("servers follow", || format!("server {server}"));
        }
    }

    fn restart_proxy(&mut self) {
        let proxy = self.any_proxy();
        self.proxies[proxy] = Proxy::new(self.servers.all.len(), self.mistake);
        for client in self.clients.iter_mut().filter(|client| client.home == proxy) {
            *client = Client::at(proxy);
        }
        self.note("proxies restarted", || format!("proxy {proxy}"));
    }

    fn fail_over(&mut self, server: usize) {
        let real = &self.servers.all[server];
        let old = self.servers.leader;
        if real.role != Role::Standby || !real.is_up || self.servers.would_be_mistaken(server) {
            return;
        }
        // Of two that bear the same number only one may live: else nobody promises anything.
        let goes_on = self.dice.random_bool(0.3) && self.servers.all[old].log == real.log;
        if !goes_on {
            self.servers.all[old].is_up = false;
            self.servers.all[old].run += 1;
        }
        self.servers.promote(server);
        self.promotions += 1;
        self.shown.clear();
        self.note("promotions", || format!("server {server} instead of {old}, which goes on: {goes_on}"));
        if self.dice.random_bool(0.3) {
            // The primary's name goes along.
            let place = self.servers.leads.iter().position(|leads| *leads == old).unwrap_or(server);
            self.servers.leads[place] = server;
            self.note("places that lead elsewhere", || format!("place {place} to server {server}"));
        }
        for other in 0..self.servers.all.len() {
            let follows = self.servers.all[other].role == Role::Standby && self.dice.random_bool(0.5);
            if follows && self.servers.all[other].is_up {
                self.servers.follow(other);
                self.note("servers follow", || format!("server {other}"));
            }
        }
    }

    /// Everything is made well.
    fn heal(&mut self) {
        let leader = self.servers.leader;
        if !self.servers.all[leader].is_up {
            self.servers.all[leader].is_up = true;
            self.crash(leader, true);
        }
        self.servers.all[leader].hidden.clear();
        for server in (0..self.servers.all.len()).filter(|server| *server != leader) {
            self.servers.follow(server);
            self.servers.all[server].is_paused = false;
        }
        if !self.servers.are_all_at_places() {
            self.servers.leads = (0..self.servers.all.len()).collect();
        }
        self.proxies.iter_mut().for_each(|proxy| proxy.cut_off.fill(false));
        self.note("healed", String::new);
    }

    /// Now everybody gets what he wants.
    fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS_MAX {
            self.round()?;
        }
        for wish in [Wish::Read(Level::Session), Wish::ReadOnPrimary, Wish::Write, Wish::Read(Level::Strong)] {
            for client in 0..self.clients.len() {
                self.with_client(client, |client, around| client.begin(wish, Micros::from_millis(60_000), around));
            }
            for _ in 0..ROUNDS_MAX {
                self.round()?;
            }
            for client in 0..self.clients.len() {
                if self.clients[client].is_busy() {
                    let what = self.with_client(client, |client, around| client.situation(around));
                    return Err(Violation::WaitsForEver(format!("session {client} {what}")));
                }
            }
        }
        Ok(())
    }

    fn round(&mut self) -> Result<(), Violation> {
        self.now = self.now.plus(Micros(1000));
        self.servers.flush(self.servers.leader);
        for server in 0..self.servers.all.len() {
            while self.servers.apply(server) {}
            for proxy in 0..self.proxies.len() {
                self.monitor(proxy, server, true);
            }
        }
        for client in 0..self.clients.len() {
            self.attempt(client)?;
        }
        Ok(())
    }

    /// What the primary has shown, for bounded reads.
    fn remember(&mut self) {
        if self.servers.has_zombie() {
            self.shown.clear();
        }
        let leader = self.servers.leader;
        self.shown.push_back((self.now, self.servers.visible(leader)));
        while self.shown.get(1).is_some_and(|(at, _)| self.now.since(*at) > MAX_LAG) {
            self.shown.pop_front();
        }
    }

    fn bounded_due(&self) -> Option<Commits> {
        let (at, shown) = self.shown.front()?;
        (self.now.since(*at) > MAX_LAG).then_some(*shown)
    }

    fn any_server(&mut self) -> usize {
        self.dice.random_range(0..self.servers.all.len())
    }

    fn any_proxy(&mut self) -> usize {
        self.dice.random_range(0..self.proxies.len())
    }

    fn pick(&mut self, from: &[usize]) -> Option<usize> {
        (!from.is_empty()).then(|| from[self.dice.random_range(0..from.len())])
    }

    fn note(&mut self, what: &'static str, line: impl FnOnce() -> String) {
        self.tally.count(what);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} ms  {what}: {}", self.now.0 as f64 / 1000.0, line()));
        }
    }
}
