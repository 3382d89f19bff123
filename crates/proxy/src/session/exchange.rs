//! Carrying a unit out on servers: send it, pass the answer on as it comes, and run it elsewhere when a server could not
//! and nothing of its answer has been shown.
//!
//! What runs here is the hot path: one buffer in, one buffer out, messages looked at by type byte and length only.

use std::sync::Arc;

use highwater_core::{Level, Role, Scope, Seq, ServerSet, Unit as CoreUnit};
use highwater_sql::Class;
use highwater_wire::backend::{self, ErrorResponse};
use highwater_wire::tracker::{CopyState, Synthetic, Verdict};
use highwater_wire::{TransactionStatus, frame};

use super::checkout::{Checkout, Wanted};
use super::correction::{Correction, correction, is_stale_statement};
use super::plan::Plan;
use super::unit::{Unit, UnitKind};
use super::{Client, Transaction, Trouble};
use crate::clock::micros;
use crate::error::{Complaint, End};
use crate::pool::{Pooled, Statements};
use crate::server::{Connection, Failure, Said};

/// Client input read ahead while a server works; more stays in the socket.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// How often one unit is run again elsewhere before its error is shown.
const CORRECTIONS_MAX: u32 = 3;
/// A row shorter than this is looked at whole; longer ones pass as they come.
const WHOLE_ROW_BYTES: usize = 1024;

/// The progress of one answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The unit may run elsewhere, and nothing of the answer has been shown.
    may_correct: bool,
    /// Rows or results stand in `out`: no preamble any more.
    substantial: bool,
    /// Bytes of a long row that are still to come.
    passing: usize,
    /// The client's ReadyForQuery is kept back until the session's position is known.
    hold_ready: bool,
    /// How the last transaction control ended.
    committed: Option<bool>,
    pub(super) failed: bool,
    /// DISCARD ALL was carried out: the server connection is as new.
    pub(super) discarded: bool,
    /// All prepared statements of the server connection are gone.
    statements_dropped: bool,
    /// The position read right behind the unit: the text of its one or two columns.
    pub(super) position: Vec<String>,
    /// When it was asked for.
    pub(super) asked: Seq,
    correction: Option<Correction>,
    /// A prepared statement does not fit its tables any more.
    stale_statement: bool,
    client_gone: bool,
    /// Nobody would miss it: a read by itself is cancelled when its client goes.
    abandonable: bool,
    /// What stood in `out` before the answer.
    mark: usize,
}

impl Client {
    /// Runs the unit on the server that its plan and level allow.
    pub(super) async fn on_servers(&mut self, unit: &Unit, plan: &Plan) -> Result<(), Trouble> {
        let mark = self.out.len();
        let mut wanted = self.wanted(plan);
        if let Some(database) = &plan.empties {
            self.proxy.leave(database);
        }
        if let (Some(checkout), Transaction::Open) = (&self.held, &self.transaction)
            && plan.differs_on_standby
            && checkout.role() == Role::Standby
        {
            return Err(Complaint::DiffersOnStandby.into());
        }
        if self.held.is_some() && self.transaction == Transaction::Idle {
            self.confirm_held(wanted).await?;
        }
        let mut held = self.held.take();
        for round in 0.. {
            let fresh = held.is_none();
            let mut checkout = match held.take() {
                Some(checkout) => checkout,
                None => self.checkout(wanted).await?,
            };
            let correctable = fresh && plan.rerun_safe && round < CORRECTIONS_MAX && self.correctable(&checkout, plan);
            match self.exchange(unit, plan, &mut checkout, correctable).await {
                Ok(answer) => match answer.correction {
                    None => {
                        if answer.stale_statement {
                            self.retire_statements(unit);
                        }
                        return self.finish(checkout, plan, &answer).await;
                    }
                    Some(correction) => self.correct(unit, &mut wanted, correction, checkout),
                },
                Err(end) => return Err(end.into()),
            }
            self.out.truncate(mark);
        }
        unreachable!("rounds past CORRECTIONS_MAX are not correctable")
    }

    fn wanted(&self, plan: &Plan) -> Wanted {
        let level = self.level(plan);
        let read_only = match (&self.transaction, plan.begins) {
            (Transaction::Lazy { read_only, .. }, _) => Some(*read_only),
            (_, begins) => begins,
        };
        let sets = plan.only_sets && plan.class == Class::Primary;
        let reads = match read_only {
            Some(read_only) => read_only && (plan.class == Class::Read || sets),
            None => plan.class == Class::Read,
        };
        let may_leave = !self.primary_only && !self.state.needs_primary();
        let unit = if (reads || self.scope != Scope::Any) && may_leave {
            CoreUnit::Read
        } else if sets && read_only.is_none() {
            return self.wanted_to_set();
        } else {
            CoreUnit::PrimaryRead
        };
        // The primary shows every acknowledged commit anyway; what this session saw on standbys is looked after as well.
        let level = if unit == CoreUnit::PrimaryRead && level == Level::Strong { Level::Session } else { level };
        Wanted { unit, level, wait_budget: self.wait_budget(plan), excluded: ServerSet::EMPTY }
    }

    /// Settings show nothing, so that nothing must be visible first; without a primary any server will do.
    fn wanted_to_set(&self) -> Wanted {
        let alone = self.proxy.cluster.lock().primary().is_none();
        let (unit, level) = if alone { (CoreUnit::Read, Level::Eventual) } else { (CoreUnit::Write, Level::Session) };
        Wanted { unit, level, wait_budget: micros(self.proxy.config.wait_budget.0), excluded: ServerSet::EMPTY }
    }

    /// Sends the unit and passes its answer on.
    async fn exchange(
        &mut self,
        unit: &Unit,
        plan: &Plan,
        checkout: &mut Checkout,
        may_correct: bool,
    ) -> Result<Answer, End> {
        let behind = self.reports() && self.position_behind(unit, plan);
        let mut answer = Answer {
            may_correct,
            hold_ready: (self.reports() || self.may_undo_start(plan)) && !plan.ends_flushed,
            mark: self.out.len(),
            abandonable: plan.class == Class::Read && self.transaction == Transaction::Idle,
            ..Answer::default()
        };
        if behind {
            answer.asked = self.proxy.cluster.lock().next_seq();
        }
        *self.info.cancel.lock() = Some(Arc::clone(&checkout.server().connection.cancel));
        self.encode(unit, plan, checkout, behind).map_err(End::Offence)?;
        let done = self.relay_all(unit, plan, checkout, &mut answer).await;
        *self.info.cancel.lock() = None;
        match done {
            Ok(()) => Ok(answer),
            Err(Broken::Client(end)) => Err(end),
            Err(Broken::Server(failure)) if answer.may_correct => {
                answer.correction = Some(Correction::Lost(failure));
                Ok(answer)
            }
            Err(Broken::Server(failure)) => Err(self.lost(checkout, failure)),
        }
    }

    /// The truth about a connection that died under a statement.
    fn lost(&self, checkout: &Checkout, failure: Failure) -> End {
        match checkout.role() {
            Role::Primary => End::OutcomeUnknown(failure),
            Role::Standby => End::ServerLost(failure),
        }
    }

    async fn relay_all(
        &mut self,
        unit: &Unit,
        plan: &Plan,
        checkout: &mut Checkout,
        answer: &mut Answer,
    ) -> Result<(), Broken> {
        let mut open = matches!(unit.kind, UnitKind::Extended { synced: false }) && !plan.ends_flushed;
        let mut used = unit.length;
        loop {
            // What went to the server with the unit must never be taken for a unit of its own.
            self.used = used;
            self.send_some(checkout).map_err(Broken::Server)?;
            self.relay(checkout.server(), answer).map_err(Broken::Server)?;
            if checkout.server().connection.tracker.is_idle() && !open {
                return Ok(());
            }
            if !answer.may_correct || answer.substantial || self.out.len() > READ_AHEAD_BYTES {
                answer.may_correct = false;
                self.pass_on(checkout, answer).await?;
            }
            let streams = open || checkout.server().connection.tracker.copy() == CopyState::In;
            if streams && self.to_server.is_empty() {
                let more = self.encode_next(used, checkout, &mut open).map_err(Broken::Client)?;
                used += more;
                if more > 0 {
                    continue;
                }
            }
            self.wait_for_either(checkout, answer, used, streams).await?;
        }
    }

    /// Sends what can be sent at once.
    fn send_some(&mut self, checkout: &mut Checkout) -> Result<(), Failure> {
        if self.sent < self.to_server.len() {
            self.sent += checkout.server().connection.stream.write_some(&self.to_server[self.sent..])?;
        }
        if self.sent == self.to_server.len() {
            self.to_server.clear();
            self.sent = 0;
        }
        Ok(())
    }

    /// Shows the client what has been answered so far. The session has seen it from now on.
    async fn pass_on(&mut self, checkout: &mut Checkout, answer: &Answer) -> Result<(), Broken> {
        if self.out.is_empty() || answer.client_gone {
            self.out.clear();
            return Ok(());
        }
        self.saw(checkout.server());
        self.flush().await.map_err(Broken::Client)
    }

    /// Notes, before anything is shown, that the session has seen what this server showed.
    pub(super) fn saw(&self, server: &Pooled) {
        let mut session = self.session.lock();
        let mut cluster = self.proxy.cluster.lock();
        match server.role {
            Role::Primary => drop(session.on_primary_finished(&mut cluster)),
            Role::Standby => session.on_standby_finished(&mut cluster, &server.facts),
        }
    }

    async fn wait_for_either(
        &mut self,
        checkout: &mut Checkout,
        answer: &mut Answer,
        used: usize,
        streams: bool,
    ) -> Result<(), Broken> {
        let ahead = self.input.filled().len().saturating_sub(used);
        // An open unit that has nothing to send needs the rest of a message, however long it is.
        let starved = streams && self.to_server.is_empty();
        let listens = !answer.client_gone && (starved || ahead < READ_AHEAD_BYTES);
        let unsent = &self.to_server[self.sent..];
        let server = async {
            let connection = &mut checkout.server().connection;
            if unsent.is_empty() { connection.read().await.map(|()| 0) } else { connection.read_or_write(unsent).await }
        };
        tokio::select! {
            biased;
            done = server => {
                self.sent += done.map_err(Broken::Server)?;
                Ok(())
            }
            read = self.input.read_from(&mut self.stream), if listens => match read {
                Ok(0) if streams => Err(Broken::Client(End::Closed)),
                Ok(0) => {
                    answer.client_gone = true;
                    if answer.abandonable {
                        self.abandon(checkout);
                    }
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(Broken::Client(End::Broken(error))),
            },
        }
    }

    /// Cancels what runs for a client that is gone. The connection goes to nobody else before that is done.
    fn abandon(&self, checkout: &mut Checkout) {
        let target = Arc::clone(&checkout.server().connection.cancel);
        let limit = self.proxy.config.connect_timeout.0;
        target.begin();
        tokio::spawn(async move { target.cancel(limit).await });
    }

    /// What a held server connection said while nobody asked: notifications, notices, its own end.
    pub(super) async fn pass_on_unasked(&mut self) -> Result<(), End> {
        let Some(mut checkout) = self.held.take() else { return Ok(()) };
        let mut answer = Answer::default();
        let relayed = self.relay(checkout.server(), &mut answer);
        if !self.out.is_empty() {
            self.saw(checkout.server());
        }
        self.held = Some(checkout);
        relayed.map_err(End::ServerLost)?;
        self.flush().await
    }

    /// Moves what has arrived from the server to `out`, message by message.
    fn relay(&mut self, server: &mut Pooled, answer: &mut Answer) -> Result<(), Failure> {
        let Pooled { connection: Connection { input, tracker, .. }, statements, .. } = server;
        while let Some(due) = tracker.take_due() {
            self.say(due, tracker.status());
        }
        let bytes = input.filled();
        let mut at = answer.passing.min(bytes.len());
        answer.passing -= at;
        // bytes[run..at] is looked at and goes on to the client.
        let mut run = 0;
        while let Some(header) = frame::header(&bytes[at..])? {
            let end = at + header.len;
            let row = matches!(header.tag, b'D' | b'd') && header.len > WHOLE_ROW_BYTES;
            if end > bytes.len() && !row {
                break;
            }
            let there = end.min(bytes.len());
            let body = &bytes[at + 5..there];
            let forward = tracker.on_backend(header.tag, body)? == Verdict::Forward;
            let kept = match forward {
                true => self.look(header.tag, body, statements, answer)?,
                false => {
                    swallowed(header.tag, body, statements, answer)?;
                    false
                }
            };
            if !kept {
                self.out.extend_from_slice(&bytes[run..at]);
                run = there;
            }
            at = there;
            answer.passing = end - there;
            while let Some(due) = tracker.take_due() {
                self.out.extend_from_slice(&bytes[run..at]);
                run = at;
                self.say(due, tracker.status());
            }
        }
        self.out.extend_from_slice(&bytes[run..at]);
        input.consume(at);
        if answer.correction.is_some() {
            self.out.truncate(answer.mark);
        }
        Ok(())
    }

    /// Looks at one message for the client; whether it goes on as it is.
    fn look(
        &mut self,
        tag: u8,
        body: &[u8],
        statements: &mut Statements,
        answer: &mut Answer,
    ) -> Result<bool, Failure> {
        match tag {
            b'D' | b'd' | b'G' | b'H' | b'W' | b'I' | b's' | b'A' => answer.substantial = true,
            b'1' => {
                statements.on_parsed();
                self.statements.on_parsed();
            }
            b'C' => {
                answer.substantial = true;
                answer.note_command(body);
            }
            b'E' => {
                statements.on_error();
                answer.failed = true;
                let error = ErrorResponse::read(body)?;
                if answer.may_correct && !answer.substantial {
                    answer.correction = correction(&error);
                }
                answer.stale_statement |= is_stale_statement(&error);
                answer.substantial = answer.correction.is_none();
            }
            b'S' => return self.reportable(body),
            b'Z' => return Ok(!answer.hold_ready),
            _ => {}
        }
        Ok(true)
    }

    /// Whether the client should hear of this parameter: not what tells the server's role, which is Highwater's to know.
    fn reportable(&mut self, body: &[u8]) -> Result<bool, Failure> {
        let status = backend::ParameterStatus::read(body)?;
        if status.name == b"standard_conforming_strings" {
            self.standard_strings = status.value == b"on";
        }
        Ok(status.name != b"in_hot_standby")
    }

    /// A reply that the proxy gives in the server's stead.
    fn say(&mut self, due: Synthetic, status: TransactionStatus) {
        if due == Synthetic::ParseComplete {
            self.statements.on_parsed();
        }
        due.encode(&mut self.out, status);
    }

    /// The unit is done: what it changed here, what it means for the session, and whether the connection stays.
    async fn finish(&mut self, mut checkout: Checkout, plan: &Plan, answer: &Answer) -> Result<(), Trouble> {
        let status = checkout.status();
        let measured = self.reports() && self.measure(&mut checkout, status, answer).await;
        if !measured {
            self.saw(checkout.server());
            // Measured soon, so that it normally is before the next read arrives.
            if checkout.role() == Role::Primary && self.level(plan) == Level::Session {
                self.proxy.kick(checkout.id());
            }
        }
        let was_open = self.transaction != Transaction::Idle;
        self.follow_transaction(plan, status, answer);
        self.follow_statements(&mut checkout, answer);
        self.follow_state(&mut checkout, plan, answer, was_open).await?;
        // The client thinks that the pipeline goes on: after an error it must be skipped up to the client's own Sync.
        self.skipping |= plan.ends_flushed && answer.failed;
        if answer.hold_ready {
            self.report(status).await;
        }
        if answer.client_gone {
            // Whoever asked is gone; an open transaction goes with him, as it does in PostgreSQL.
            self.held = Some(checkout);
            return Err(End::Closed.into());
        }
        if status != TransactionStatus::Idle || self.is_pinned() {
            self.held = Some(checkout);
        } else {
            checkout.release(false);
        }
        Ok(())
    }

    fn follow_transaction(&mut self, plan: &Plan, status: TransactionStatus, answer: &Answer) {
        let was_open = !matches!(self.transaction, Transaction::Idle);
        if status == TransactionStatus::Idle {
            self.transaction = Transaction::Idle;
            if was_open {
                self.on_transaction_end(answer.committed == Some(true));
            }
        } else if !matches!(self.transaction, Transaction::Open) {
            self.settings.on_begin();
            self.transaction = Transaction::Open;
        }
        if plan.alters_defaults {
            self.proxy.pools.all().iter().for_each(|pool| pool.retire());
        }
        self.catalog_changed |= plan.changes_catalog;
        if status == TransactionStatus::Idle && self.catalog_changed {
            self.catalog_changed = false;
            self.database.forget_catalog();
        }
    }

    /// The server has dropped its prepared statements, and so the client's.
    fn follow_statements(&mut self, checkout: &mut Checkout, answer: &Answer) {
        if answer.statements_dropped {
            checkout.server().statements = Statements::default();
            self.statements.named.clear();
            self.statements.unnamed.facts = None;
        }
    }
}

impl Answer {
    fn note_command(&mut self, body: &[u8]) {
        match body {
            b"COMMIT\0" => self.committed = Some(true),
            b"ROLLBACK\0" => self.committed = Some(false),
            // By what the server says it has done: a statement that was only parsed has done nothing yet.
            b"DISCARD ALL\0" => (self.discarded, self.statements_dropped) = (true, true),
            b"DEALLOCATE ALL\0" => self.statements_dropped = true,
            _ => {}
        }
    }
}

/// Which side a unit broke on.
pub(super) enum Broken {
    Client(End),
    Server(Failure),
}

/// Takes in what the proxy asked for itself.
fn swallowed(tag: u8, body: &[u8], statements: &mut Statements, answer: &mut Answer) -> Result<(), Failure> {
    match tag {
        b'1' => statements.on_parsed(),
        b'D' => {
            let row = backend::DataRow::read(body)?;
            answer.position =
                row.values.iter().flatten().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        }
        b'E' => {
            statements.on_error();
            tracing::debug!(error = ?Said::new(body)?, "a statement of the proxy's own failed");
        }
        _ => {}
    }
    Ok(())
}
