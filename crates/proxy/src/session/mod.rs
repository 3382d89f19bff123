//! One client's connection after login: collects what the client sends into units, decides each unit's way, and carries
//! it out. A unit is what is answered as a whole: one simple Query, or extended messages up to Sync.
//!
//! ```text
//!              BEGIN                    first statement
//!   Idle ----------------> Lazy --------------------------> Open (server connection held)
//!    ^  ^    COMMIT/ROLLBACK  |  routing failed                |
//!    |  +---------------------+----------------> Aborted       |  ReadyForQuery says idle
//!    +------------------------ROLLBACK-----------------<-------+
//! ```
//!
//! A pin keeps the server connection in `Idle` too.

mod authenticate;
pub(crate) mod checkout;
mod correction;
mod described;
mod door;
pub(crate) mod dormant;
mod encode;
mod exchange;
mod finish;
mod given;
mod gone;
mod idle;
mod leading;
mod levels;
mod local;
mod local_extended;
pub(crate) mod login;
mod plan;
mod preceding;
mod reading;
mod reworded;
mod settings;
mod standbys;
mod state;
pub(crate) mod statements;
mod unit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_core::{Level, Scope, ServerId};
use highwater_sql::{Catalog, Pin, Scratch};
use highwater_wire::TransactionStatus;
use highwater_wire::backend;
use tokio::time::{Instant, sleep};

use self::checkout::Checkout;
use self::dormant::Dormant;
use self::plan::{Plan, Shape};
use self::reading::Reading;
use self::settings::Settings;
use self::state::{Pins, Touched};
use self::statements::ClientStatements;
use self::unit::{Next, Unit, UnitKind};
use crate::error::{self, Complaint, End, LoginFailure};
use crate::net::{Buffer, Quiet, Stream};
use crate::pool::Pool;
use crate::sessions;
use crate::shared::{Database, Detail, Proxy, Registered, Routed};
use crate::state::Shared;
use crate::text;

/// Where a client's transaction stands.
#[derive(Debug, PartialEq, Eq)]
enum Transaction {
    /// None open.
    Idle,
    /// BEGIN was answered and no server has seen it: the queries to begin with, and whether it may read on a standby before
    /// it writes.
    Lazy { begin: Vec<u8>, read_only: bool, leads: bool },
    /// A standby's connection is in it, and it can still begin anew elsewhere, with these queries.
    Leading { begin: Vec<u8> },
    /// A server connection is in it.
    Open,
    /// It failed before any server had seen it.
    Aborted,
}

/// A logged-in client.
pub(crate) struct Client {
    proxy: Arc<Proxy>,
    info: Registered,
    stream: Stream,
    input: Buffer,
    /// Bytes of the input that the unit under way has used: its own, and what followed in an open pipeline or a COPY.
    used: usize,
    /// Answers not yet written.
    out: Vec<u8>,
    /// Some of `out` may have been written, and not the rest.
    is_writing: bool,
    /// Bytes of a long row that are still to come from the server.
    passing: usize,
    pool: Arc<Pool>,
    database: Arc<Database>,
    catalog: Arc<Catalog>,
    scratch: Scratch,
    statements: ClientStatements,
    settings: Settings,
    session: sessions::Shared,
    /// The key behind `session`, if it has one.
    session_key: Option<String>,
    /// A token was accepted on this connection.
    token_given: bool,
    /// The level when the client asks for none.
    default_level: Level,
    scope: Scope,
    /// `database@primary`: everything on the primary.
    primary_only: bool,
    transaction: Transaction,
    held: Option<Checkout>,
    /// What the server's settings are for this client, wherever its next statement runs.
    state: Shared,
    /// Those of the start-up packet, to which RESET goes back.
    base: Shared,
    /// What the transaction under way may have changed of them.
    touched: Touched,
    pins: Pins,
    /// An extended unit failed here: everything up to the next Sync is skipped.
    skipping: bool,
    /// The standby read last: preferred for the next read.
    last_standby: Option<ServerId>,
    last_route: Option<Routed>,
    last_detail: Option<Detail>,
    /// In a transaction that has changed how literals are read: by what settings, in words that nobody else uses.
    own_reading: Option<Box<[u8]>>,
    /// What goes to the server next; reused.
    to_server: Vec<u8>,
    /// How much of it has gone.
    sent: usize,
    /// A server has told the client that its connection ends.
    told_last: bool,
    /// A committed or open change of the catalogue that must be read.
    catalog_changed: bool,
    reading: Reading,
    /// `highwater.*` settings of the start-up packet, not yet in force.
    own_at_start: Vec<(String, String)>,
}

/// Why a client is attended to.
pub(crate) enum Occasion {
    /// It has just logged in.
    Login,
    /// It has rested, and says something.
    Word,
    /// It has rested, and its connection ends.
    Over(End),
}

/// How attending to a client ends.
pub(crate) enum Parting {
    Rest(Box<Dormant>),
    End(End),
}

impl Client {
    /// Serves the client until it rests or one side ends it.
    pub(crate) async fn run(mut self: Box<Self>, occasion: Occasion) -> Parting {
        let served = match occasion {
            Occasion::Login => match self.greet().await {
                Ok(()) => self.serve().await,
                Err(end) => Err(end),
            },
            Occasion::Word => self.serve().await,
            Occasion::Over(end) => Err(end),
        };
        match served {
            Ok((stream, until)) => Parting::Rest(self.rest(stream, until)),
            Err(end) => Parting::End(Box::pin(self.take_leave(end)).await),
        }
    }

    /// Tells the client why its connection ends, and gives back what it held.
    async fn take_leave(mut self: Box<Self>, end: End) -> End {
        // The server's own last word is enough.
        let is_told = self.told_last && matches!(end, End::ServerLost(_) | End::OutcomeUnknown(_));
        // Behind a part of a message it would be taken for the rest.
        let may_speak = !is_told && !self.is_writing && self.passing == 0;
        if let Some(told) = error::end(&end).filter(|_| may_speak) {
            self.out.clear();
            backend::error_response(&mut self.out, &told.report());
            let _ = self.stream.write_all(&self.out, Duration::from_secs(1)).await;
        }
        if let Some(checkout) = self.held.take()
            && !self.pins.outlasts_discard()
        {
            checkout.release(self.is_pinned() || self.pins.is_unsure() || !self.touched.is_empty());
        }
        end
    }

    /// Where the client is, if it has an address.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.info.peer
    }

    /// Ends the login: the client may speak.
    async fn greet(&mut self) -> Result<(), End> {
        for (name, value) in std::mem::take(&mut self.own_at_start) {
            let set = self.set_at_start(&name, &value).await;
            let failure =
                |complaint| End::Login { user: self.info.user.to_string(), why: LoginFailure::Setting(complaint) };
            set.map_err(failure)?;
        }
        self.settings.on_login();
        self.ready();
        self.flush().await?;
        // Many clients log in long before they say anything.
        self.out = Vec::new();
        self.input.give_back();
        Ok(())
    }

    /// Carries out unit after unit, until the client may rest, until when, with its stream.
    async fn serve(&mut self) -> Result<(Quiet, Option<Instant>), End> {
        loop {
            let unit = match self.next_unit().await? {
                Next::Unit(unit) => unit,
                Next::Rest(until) => match self.stream.quieted() {
                    Ok(stream) => return Ok((stream, until)),
                    Err(_) => {
                        self.info.signals.on_stay();
                        continue;
                    }
                },
            };
            self.used = unit.length;
            match unit.kind {
                UnitKind::Terminate => return Err(End::Closed),
                UnitKind::Stray => {}
                UnitKind::Skipped { sync } => self.after_skipped(sync).await?,
                UnitKind::Query | UnitKind::Extended { .. } | UnitKind::FunctionCall => self.on_unit(&unit).await?,
            }
            self.input.consume(self.used);
        }
    }

    /// Carries out one unit; a complaint is the unit's answer, only an end ends the connection.
    async fn on_unit(&mut self, unit: &Unit) -> Result<(), End> {
        self.info.view.lock().state = "active";
        self.info.signals.on_begin();
        let plan = self.plan(unit);
        let done = match plan {
            Ok(mut plan) => {
                self.info.view.lock().level = text::level_name(&self.level(&plan));
                self.carry_out_in_time(unit, &mut plan).await
            }
            Err(complaint) => Err(complaint.into()),
        };
        match done {
            Ok(()) => {}
            Err(Trouble::End(end)) => return Err(end),
            Err(Trouble::Complaint(complaint)) => self.complain(unit, &complaint),
        }
        self.statements.on_unit_end();
        self.info.signals.on_end();
        self.publish();
        if self.info.signals.is_ended() {
            return Err(End::Terminated);
        }
        self.flush().await
    }

    /// What the console shows of this client from now on.
    fn publish(&self) {
        let mut view = self.info.view.lock();
        view.state = match self.status() {
            TransactionStatus::Idle => "idle",
            TransactionStatus::InTransaction => "transaction",
            TransactionStatus::Failed => "failed",
        };
        view.server = self.held.as_ref().map(Checkout::id);
        view.pin = self.pins.reason().map(Pin::name);
        view.last_route = self.last_route;
    }

    /// Carries a unit out; what takes longer than `query_timeout` is cancelled. A server that does not act on that ends the
    /// connection.
    async fn carry_out_in_time(&mut self, unit: &Unit, plan: &mut Plan) -> Result<(), Trouble> {
        let limit = self.proxy.config.query_timeout.0;
        if limit.is_zero() {
            return self.carry_out(unit, plan).await;
        }
        let (info, to_cancel) = (Arc::clone(self.info.info()), self.proxy.config.connect_timeout.0);
        let overdue = async {
            sleep(limit).await;
            // In a task of its own: a request that is under way when the unit ends must still arrive.
            drop(tokio::spawn(async move { info.signals.time_out(to_cancel).await }).await);
        };
        tokio::select! {
            biased;
            done = self.carry_out(unit, plan) => done,
            () = overdue => Err(End::Unstoppable.into()),
        }
    }

    async fn carry_out(&mut self, unit: &Unit, plan: &mut Plan) -> Result<(), Trouble> {
        if self.transaction == Transaction::Aborted && !matches!(plan.shape, Shape::End { .. } | Shape::Local) {
            if !plan.ends_first {
                return Err(Complaint::AbortedTransaction.into());
            }
            // More than its end: the server warns that there is no transaction, and goes on.
            self.transaction = Transaction::Idle;
            self.on_transaction_end(false);
        }
        match &plan.shape {
            Shape::Local => self.answer_locally(unit).await,
            Shape::LocalFirst { rest } => {
                self.apply_preceding(unit, *rest).await?;
                self.on_servers(unit, plan).await
            }
            Shape::Empty => {
                backend::empty_query_response(&mut self.out);
                self.ready();
                Ok(())
            }
            Shape::Begin { read_only, leads, text, tag } if self.may_begin_lazily() => {
                self.begin_lazily(text.clone(), *read_only, *leads, tag);
                self.ready();
                Ok(())
            }
            Shape::End { commit } if self.ends_without_server() => {
                self.end_without_server(*commit);
                self.ready();
                Ok(())
            }
            Shape::Begin { .. } | Shape::End { .. } | Shape::Ordinary => self.on_servers(unit, plan).await,
        }
    }

    /// Answers BEGIN; `begin` is the Query to send once it is known where.
    fn begin_lazily(&mut self, begin: Vec<u8>, read_only: bool, leads: bool, tag: &str) {
        // A read-only one runs on a standby as a whole.
        self.transaction = Transaction::Lazy { begin, read_only, leads: leads && !read_only };
        self.settings.on_begin();
        backend::command_complete(&mut self.out, tag);
    }

    fn may_begin_lazily(&self) -> bool {
        self.held.is_none() && self.transaction == Transaction::Idle
    }

    fn ends_without_server(&self) -> bool {
        self.held.is_none()
    }

    /// COMMIT or ROLLBACK of a transaction that no server has seen.
    fn end_without_server(&mut self, commit: bool) {
        if self.transaction == Transaction::Idle {
            backend::notice_response(&mut self.out, &error::no_transaction().report());
        }
        let commit = commit && self.transaction != Transaction::Aborted;
        self.transaction = Transaction::Idle;
        self.on_transaction_end(commit);
        backend::command_complete(&mut self.out, if commit { "COMMIT" } else { "ROLLBACK" });
    }

    fn on_transaction_end(&mut self, committed: bool) {
        self.settings.on_end(committed);
        self.follow_session_key(true);
    }

    /// ReadyForQuery as the client's transaction stands.
    fn ready(&mut self) {
        let status = self.status();
        backend::ready_for_query(&mut self.out, status);
    }

    fn status(&self) -> TransactionStatus {
        match (&self.transaction, &self.held) {
            (Transaction::Aborted, _) => TransactionStatus::Failed,
            (Transaction::Lazy { .. }, _) => TransactionStatus::InTransaction,
            (_, Some(checkout)) => checkout.status(),
            (_, None) => TransactionStatus::Idle,
        }
    }

    /// Answers the unit with an error of ours.
    fn complain(&mut self, unit: &Unit, complaint: &Complaint) {
        let told = error::complaint(complaint);
        tracing::debug!(client = self.info.pid, code = %told.code, "{}", told.message);
        backend::error_response(&mut self.out, &told.report());
        if matches!(self.transaction, Transaction::Lazy { .. }) {
            self.transaction = Transaction::Aborted;
        }
        match unit.kind {
            UnitKind::Extended { synced: false } => self.skipping = true,
            _ => self.ready(),
        }
    }

    /// The end of a pipeline that had failed.
    async fn after_skipped(&mut self, sync: bool) -> Result<(), End> {
        if sync {
            self.skipping = false;
            self.ready();
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes what stands in `out`.
    async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.is_writing = true;
        let written = self.stream.write_all(&self.out, self.proxy.config.client_stall_timeout.0).await;
        self.is_writing = false;
        self.out.clear();
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => End::Stalled,
            _ => End::Broken(error),
        })
    }
}

/// What stops a unit: the statement's failure or the connection's end.
#[derive(Debug)]
enum Trouble {
    Complaint(Complaint),
    End(End),
}

impl From<Complaint> for Trouble {
    fn from(complaint: Complaint) -> Self {
        Self::Complaint(complaint)
    }
}

impl From<End> for Trouble {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}
