//! The servers as they really are: logs that branch, standbys that replay them, crashes, promotions. Knows no proxy.

use highwater_core::{Branch, History, Identity, Lsn, MvccSnapshot, Role, Timeline};

use crate::judge::Commits;

/// A place in a log: so many commits come before it.
pub(crate) type Position = usize;

/// Bytes of log that a commit takes: every other one ends with a page.
const COMMIT_BYTES: u64 = PAGE_BYTES / 2;
const PAGE_BYTES: u64 = 8192;
/// What a page begins with.
const HEADER_BYTES: u64 = 24;
/// Commits have numbers below this.
pub(crate) const COMMITS_MAX: usize = 120;

/// One history of commits: where it left another one, and all that it holds.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) timeline: u32,
    /// The timelines before it, oldest first, and where each was left.
    pub(crate) ancestors: Vec<(u32, Position)>,
    /// The numbers of the commits, from the very first one on.
    pub(crate) commits: Vec<u8>,
    /// What each prefix holds.
    prefixes: Vec<Commits>,
    /// What is on the primary's disk: standbys get no more.
    flushed: Position,
}

impl Log {
    fn first() -> Self {
        Self { timeline: 1, ancestors: vec![], commits: vec![], prefixes: vec![0], flushed: 0 }
    }

    fn push(&mut self, commit: u8) {
        let before = self.prefixes[self.commits.len()];
        self.commits.push(commit);
        self.prefixes.push(before | 1 << commit);
    }

    fn branched(&self, at: Position, timeline: u32) -> Self {
        let mut ancestors = self.ancestors.clone();
        ancestors.push((self.timeline, at));
        let (commits, prefixes) = (self.commits[..at].to_vec(), self.prefixes[..=at].to_vec());
        Self { timeline, ancestors, commits, prefixes, flushed: at }
    }

    pub(crate) fn up_to(&self, position: Position) -> Commits {
        self.prefixes[position]
    }
}

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) log: usize,
    pub(crate) position: Position,
    /// How far its own copy of the log reaches at least: a crash does not take that away.
    received: Position,
    pub(crate) role: Role,
    pub(crate) is_up: bool,
    pub(crate) is_paused: bool,
    /// Connections of an earlier run are dead.
    pub(crate) run: u32,
    /// When it was started; a crash of its processes alone does not change that.
    pub(crate) starts: i64,
    /// Commits in a primary's log that it does not show yet, by position.
    pub(crate) hidden: Vec<Position>,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) logs: Vec<Log>,
    pub(crate) all: Vec<Server>,
    /// The server that each place leads to: whoever connects there now gets that one.
    pub(crate) leads: Vec<usize>,
    /// The newest primary.
    pub(crate) leader: usize,
    next_commit: u8,
}

pub(crate) fn lsn(position: Position) -> Lsn {
    Lsn(position as u64 * COMMIT_BYTES)
}

impl Servers {
    pub(crate) fn new(count: usize) -> Self {
        let server = |index| Server {
            log: 0,
            position: 0,
            received: 0,
            role: if index == 0 { Role::Primary } else { Role::Standby },
            is_up: true,
            is_paused: false,
            run: 0,
            starts: 1,
            hidden: vec![],
        };
        Self {
            logs: vec![Log::first()],
            all: (0..count).map(server).collect(),
            leads: (0..count).collect(),
            leader: 0,
            next_commit: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        usize::from(self.next_commit) >= COMMITS_MAX
    }

    /// A new commit at the end of a primary's log, not on its disk yet; its number.
    pub(crate) fn commit(&mut self, server: usize, hidden: bool) -> u8 {
        let commit = self.next_commit;
        self.next_commit += 1;
        let Server { log, .. } = self.all[server];
        self.logs[log].push(commit);
        self.all[server].position = self.logs[log].commits.len();
        if hidden {
            let position = self.all[server].position;
            self.all[server].hidden.push(position);
        }
        commit
    }

    /// All that a primary has is on its disk now; whether anything was missing.
    pub(crate) fn flush(&mut self, server: usize) -> bool {
        let Server { log, position, role, is_up, .. } = self.all[server];
        let log = &mut self.logs[log];
        let flushes = is_up && role == Role::Primary && log.flushed < position;
        log.flushed = if flushes { position } else { log.flushed };
        flushes
    }

    /// How far a primary has flushed.
    pub(crate) fn flushed(&self, server: usize) -> Lsn {
        lsn(self.logs[self.all[server].log].flushed)
    }

    /// Where a primary would insert next, by its own word: behind the header of a page that nothing else is on yet.
    pub(crate) fn insert(&self, server: usize) -> Lsn {
        let end = lsn(self.all[server].position).0;
        Lsn(if end > 0 && end.is_multiple_of(PAGE_BYTES) { end + HEADER_BYTES } else { end })
    }

    /// What a read on the server sees.
    pub(crate) fn visible(&self, server: usize) -> Commits {
        let Server { log, position, ref hidden, .. } = self.all[server];
        let log = &self.logs[log];
        hidden.iter().fold(log.up_to(position), |shown, at| shown & !(1 << log.commits[at - 1]))
    }

    /// What is not lost, as things stand.
    pub(crate) fn surviving(&self) -> Commits {
        let Server { log, position, .. } = self.all[self.leader];
        self.logs[log].up_to(position)
    }

    /// Whether a primary goes on that has been replaced.
    pub(crate) fn has_zombie(&self) -> bool {
        let primaries = self.all.iter().filter(|server| server.is_up && server.role == Role::Primary);
        primaries.count() > 1
    }

    /// A standby replays the next commit of its log, if there is one.
    pub(crate) fn apply(&mut self, server: usize) -> bool {
        let Server { log, position, is_up, is_paused, role, .. } = self.all[server];
        let can = is_up && !is_paused && role == Role::Standby && position < self.logs[log].flushed;
        let server = &mut self.all[server];
        server.position += usize::from(can);
        server.received = server.received.max(server.position);
        can
    }

    /// Its processes die, and it comes back at `position`, where it was or behind. A primary keeps all: what a crash of its
    /// own takes from asynchronous commits is between PostgreSQL and who asked for them.
    pub(crate) fn crash(&mut self, server: usize, position: Position, restarts: bool) {
        self.flush(server);
        let server = &mut self.all[server];
        server.run += 1;
        server.starts += i64::from(restarts);
        server.position = position;
        // Whoever waited for his commit is gone, and the commit shows.
        server.hidden.clear();
    }

    /// A standby begins a timeline of its own, when it has replayed all that it has.
    pub(crate) fn promote(&mut self, server: usize) {
        self.all[server].position = self.end_of_copy(server);
        let Server { log, position, .. } = self.all[server];
        // As PostgreSQL does, it takes the number after the highest that it knows of: others may take the same one.
        let timeline = self.logs[log].timeline + 1;
        let branched = self.logs[log].branched(position, timeline);
        self.logs.push(branched);
        let new = self.logs.len() - 1;
        let server_now = &mut self.all[server];
        (server_now.log, server_now.role, server_now.is_paused) = (new, Role::Primary, false);
        self.leader = server;
    }

    /// Whether every server can be found at some place.
    pub(crate) fn are_all_at_places(&self) -> bool {
        (0..self.all.len()).all(|server| self.leads.contains(&server))
    }

    /// Whether promoting it would make a branch that proxies take for an older one than they know, or one that nobody could
    /// tell from another by name and origin.
    pub(crate) fn would_be_mistaken(&self, server: usize) -> bool {
        let (log, position) = (self.all[server].log, self.end_of_copy(server));
        let (timeline, parent) = (self.logs[log].timeline + 1, &self.logs[log]);
        let is_old = self.logs.iter().any(|other| other.timeline > timeline);
        is_old
            || self.logs.iter().any(|other| {
                other.timeline == timeline
                    && other.ancestors.last() == Some(&(parent.timeline, position))
                    && other.ancestors[..other.ancestors.len() - 1] == parent.ancestors[..]
            })
    }

    /// A server becomes a standby of the leader; one that has gone another way is rewound.
    pub(crate) fn follow(&mut self, server: usize) {
        let to = self.all[self.leader].log;
        let Server { log, position, role, .. } = self.all[server];
        let shared =
            self.logs[log].commits.iter().zip(&self.logs[to].commits).take_while(|(ours, theirs)| ours == theirs);
        // Positions count as the same only as far as the histories do.
        let shared = shared.count().min(self.shared_by_history(log, to));
        // It replays all of its copy before it asks for more.
        let end = self.end_of_copy(server);
        let real = &mut self.all[server];
        if role == Role::Primary || end > shared || !real.is_up {
            (real.run, real.starts) = (real.run + 1, real.starts + 1);
        }
        (real.log, real.role, real.is_up) = (to, Role::Standby, true);
        real.position = position.min(shared);
        real.received = real.received.min(shared);
        real.hidden.clear();
    }

    fn end_of_copy(&self, server: usize) -> Position {
        let Server { position, received, .. } = self.all[server];
        position.max(received)
    }

    fn shared_by_history(&self, one: usize, other: usize) -> Position {
        let shared = self.history(one).shared_with(&self.history(other));
        shared.map_or(0, |lsn| usize::try_from(lsn.0 / COMMIT_BYTES).unwrap_or(usize::MAX))
    }

    pub(crate) fn history(&self, log: usize) -> History {
        let log = &self.logs[log];
        let ancestors = log.ancestors.iter().map(|(timeline, at)| (Timeline(*timeline), lsn(*at)));
        History::new(Timeline(log.timeline), ancestors.collect())
    }

    /// All commits of the log that bears this name.
    pub(crate) fn of_branch(&self, branch: Branch) -> Commits {
        let found = (0..self.logs.len()).find(|log| self.history(*log).branch() == branch);
        found.map_or(0, |log| self.logs[log].up_to(self.logs[log].commits.len()))
    }

    pub(crate) fn identity(&self, server: usize, system_id: u64) -> Identity {
        let real = &self.all[server];
        Identity {
            system_id,
            branch: self.history(real.log).branch(),
            role: real.role,
            // No two servers were started at once.
            postmaster_start: real.starts * 64 + server as i64,
            block_size: 8192,
            segment_size: 16 << 20,
        }
    }

    /// A primary's MVCC snapshot; a transaction's id is its position. As PostgreSQL builds it: xmax follows the latest
    /// *ended* transaction, whatever else runs beyond.
    pub(crate) fn snapshot(&self, server: usize) -> MvccSnapshot {
        let Server { position, ref hidden, .. } = self.all[server];
        let shown = (1..=position).rev().find(|at| !hidden.contains(at)).unwrap_or(0);
        let xmax = shown as u64 + 1;
        let mut xip: Vec<u64> = hidden.iter().map(|at| *at as u64).filter(|xid| *xid < xmax).collect();
        xip.sort_unstable();
        MvccSnapshot { xmin: xip.first().copied().unwrap_or(xmax), xmax, xip }
    }
}
