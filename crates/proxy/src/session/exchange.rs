//! Carrying a unit out on servers: send it, pass the answer on as it comes, and run it elsewhere when a server could not
//! and nothing of its answer has been shown.
//!
//! What runs here is the hot path: one buffer in, one buffer out, messages looked at by type byte and length only.

use std::future::pending;

use highwater_core::{Level, Role, Scope, Seq, ServerSet, Unit as CoreUnit};
use highwater_sql::{Class, Touch, Value};
use highwater_wire::backend::{self, ErrorResponse, Severity};
use highwater_wire::tracker::{Audience, CopyState, Synthetic, Verdict};
use highwater_wire::{SqlState, TransactionStatus, frame, frontend};

use super::checkout::{Checkout, Wanted};
use super::correction::{Correction, is_stale_statement};
use super::gone::{Asker, overtaken};
use super::leading::Lead;
use super::plan::Plan;
use super::unit::{Unit, UnitKind};
use super::{Client, Transaction, Trouble};
use crate::clock::micros;
use crate::error::{Complaint, End};
use crate::pool::{Pooled, Statements};
use crate::server::{Connection, Failure, Said};

/// Client input read ahead while a server works; more stays in the socket.
pub(super) const READ_AHEAD_BYTES: usize = 64 * 1024;
/// How often one unit is run again elsewhere before its error is shown.
const CORRECTIONS_MAX: u32 = 3;
/// A row shorter than this is looked at whole; longer ones pass as they come.
const WHOLE_ROW_BYTES: usize = 1024;

/// The progress of one answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// How often the unit has run again already, if it may once more and nothing of the answer has been shown.
    may_correct: Option<u32>,
    /// Rows or results stand in `out`: no preamble any more.
    substantial: bool,
    /// The client's ReadyForQuery is kept back until the session's position is known.
    pub(super) hold_ready: bool,
    /// How the last transaction control ended.
    pub(super) committed: Option<bool>,
    pub(super) failed: bool,
    /// A statement was carried out.
    pub(super) completed: bool,
    /// DISCARD ALL was carried out: the server connection is as new.
    pub(super) discarded: bool,
    /// All prepared statements of the server connection are gone.
    pub(super) statements_dropped: bool,
    /// The position read right behind the unit: the text of its one or two columns.
    pub(super) position: Vec<String>,
    /// When it was asked for.
    pub(super) asked: Seq,
    correction: Option<Correction>,
    /// A prepared statement does not fit its tables any more.
    stale_statement: bool,
    /// It tried to write where nothing may be written.
    refused: bool,
    pub(super) asker: Asker,
    /// What a statement yields comes next.
    describes: bool,
    /// The server has said that it is no standby any more.
    is_promoted: bool,
    /// How many characters of the unit's text the server was not given, in front of what it was.
    pub(super) kept_back: usize,
    /// What stood in `out` before the answer.
    pub(super) mark: usize,
}

impl Client {
    /// Runs the unit on the server that its plan and level allow.
    pub(super) async fn on_servers(&mut self, unit: &Unit, plan: &mut Plan) -> Result<(), Trouble> {
        self.lead_on(plan).await;
        let mut wanted = self.wanted(plan);
        self.prepare_others(plan);
        if let (Some(checkout), Transaction::Open) = (&self.held, &self.transaction)
            && plan.differs_on_standby
            && checkout.role() == Role::Standby
        {
            return Err(Complaint::DiffersOnStandby.into());
        }
        self.leave_deposed()?;
        if self.held.is_some() && self.transaction == Transaction::Idle {
            self.confirm_pinned(wanted).await?;
        }
        let (mut held, mut is_lost) = (self.held.take(), false);
        for round in 0.. {
            let fresh = held.is_none();
            let mut checkout = match held.take() {
                Some(checkout) => checkout,
                None => self.checkout_while_asked(wanted, plan, round).await?,
            };
            if plan.names_statements
                && let Err(complaint) = self.name_statements(&mut checkout).await?
            {
                self.keep_or_release(checkout);
                return Err(complaint.into());
            }
            if let Err(complaint) = self.verify_statements(unit, &mut checkout).await? {
                self.keep_or_release(checkout);
                return Err(complaint.into());
            }
            if let Err(complaint) = self.may_run(&mut checkout, fresh).await {
                checkout.release(false);
                return Err(complaint.into());
            }
            let may_go = fresh || matches!(self.transaction, Transaction::Leading { .. });
            let may_correct = may_go && plan.rerun_safe && round < CORRECTIONS_MAX && self.correctable(&checkout, plan);
            let mark = self.out.len();
            match self.exchange(unit, plan, &mut checkout, may_correct.then_some(round)).await {
                Ok(answer) => match answer.correction {
                    None => {
                        if answer.stale_statement {
                            self.retire_statements(unit);
                        }
                        if answer.refused && self.transaction == Transaction::Idle && self.correctable(&checkout, plan)
                        {
                            // Too late for this time: something of the answer has been shown.
                            self.learn_refusal(unit);
                        }
                        return self.finish(checkout, plan, &answer).await;
                    }
                    // What ends two servers shall not end a third.
                    Some(Correction::Lost(failure)) if std::mem::replace(&mut is_lost, true) => {
                        return Err(self.lost(&checkout, failure).into());
                    }
                    Some(correction) => self.correct(unit, &mut wanted, correction, checkout),
                },
                Err(end) => {
                    checkout.abandon(self.proxy.config.connect_timeout.0);
                    return Err(end.into());
                }
            }
            // What was said before stays: a warning may have been.
            self.out.truncate(mark);
            self.statements.on_retry();
        }
        unreachable!("rounds past CORRECTIONS_MAX are not correctable")
    }

    /// What must hold elsewhere before the unit runs.
    fn prepare_others(&self, plan: &Plan) {
        if plan.asks_sequences {
            self.pool.on_sequences_asked();
        }
        if plan.touches.iter().any(sets_synchronous_commit) {
            self.proxy.on_asynchronous_commits("a client sets synchronous_commit");
        }
        if let Some(database) = &plan.empties {
            self.proxy.leave(database);
        }
    }

    /// Gives the server connection the client's prepared statements by the client's own names, for statements that name
    /// them or list them.
    async fn name_statements(&mut self, checkout: &mut Checkout) -> Result<Result<(), Complaint>, End> {
        let (mut messages, server) = (Vec::new(), checkout.server());
        self.statements.in_own_names(&server.statements, &mut messages).map_err(End::Offence)?;
        server.statements = Statements::default();
        match server.connection.answer(&messages).await {
            Ok(_) => Ok(Ok(())),
            Err(failure @ Failure::Said(_)) => {
                // Which of them are there by which names is not known.
                server.disturbed = true;
                Ok(Err(Complaint::Server(failure)))
            }
            Err(failure) => Err(End::ServerLost(failure)),
        }
    }

    /// Announces that the unit runs there, unless it has been cancelled while it waited. In a transaction it runs even so:
    /// its failure must reach the server, where the repeated request stops it. A request that is still on its way to the
    /// connection was for what ran before.
    async fn may_run(&mut self, checkout: &mut Checkout, fresh: bool) -> Result<(), Complaint> {
        let target = &checkout.server().connection.cancel;
        target.when_quiet().await;
        if self.info.signals.on_run(target, !fresh) { Ok(()) } else { Err(self.cancelled()) }
    }

    /// Why the unit has been cancelled.
    pub(super) fn cancelled(&self) -> Complaint {
        if self.info.signals.is_overdue() { Complaint::QueryTimeout } else { Complaint::Cancelled }
    }

    pub(super) fn wanted(&self, plan: &Plan) -> Wanted {
        let level = self.level(plan);
        let read_only = match (&self.transaction, plan.begins) {
            (Transaction::Lazy { leads: true, .. } | Transaction::Leading { .. }, _) => Some(plan.lead != Lead::Other),
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
        plan: &mut Plan,
        checkout: &mut Checkout,
        may_correct: Option<u32>,
    ) -> Result<Answer, End> {
        let behind = self.reports() && checkout.role() == Role::Primary && self.position_behind(unit, plan);
        let waits = self.standbys_wanted(plan).is_some();
        let mut answer = Answer {
            may_correct,
            hold_ready: (self.reports() || waits || self.may_undo_start(plan)) && !plan.ends_flushed,
            kept_back: self.kept_back(plan),
            mark: self.out.len(),
            ..Answer::default()
        };
        if behind {
            answer.asked = self.proxy.cluster.lock().next_seq();
        }
        self.encode(unit, plan, checkout, behind).map_err(End::Offence)?;
        let done = self.relay_all(unit, plan, checkout, &mut answer).await;
        self.info.signals.on_ran();
        match done {
            Ok(()) => Ok(answer),
            Err(Broken::Client(end)) => Err(end),
            Err(Broken::Server(failure)) if answer.may_correct.is_some() => {
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
        plan: &mut Plan,
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
            let tracker = &checkout.server().connection.tracker;
            if tracker.is_idle() && !open {
                return Ok(());
            }
            if tracker.awaits_settling() && !open {
                self.settle_doubt(checkout)?;
                continue;
            }
            if answer.may_correct.is_none() || answer.substantial || self.out.len() > READ_AHEAD_BYTES {
                answer.may_correct = None;
                self.pass_on(checkout, plan, answer).await?;
            }
            let tracker = &checkout.server().connection.tracker;
            let streams = open || tracker.copy() == CopyState::In || tracker.awaits_sync();
            if streams && self.to_server.is_empty() {
                let more = self.encode_next(used, checkout, plan, &mut open).map_err(Broken::Client)?;
                used += more;
                if more > 0 {
                    continue;
                }
            }
            self.wait_for_either(checkout, plan, answer, used, streams).await?;
        }
    }

    /// A Sync crossed a COPY that failed: whether the server has answered it, its answer to another question tells.
    fn settle_doubt(&mut self, checkout: &mut Checkout) -> Result<(), Broken> {
        frontend::query(&mut self.to_server, "");
        let tracker = &mut checkout.server().connection.tracker;
        tracker.on_frontend(b'Q', Audience::Proxy).map_err(|offence| Broken::Server(offence.into()))
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
    async fn pass_on(&mut self, checkout: &mut Checkout, plan: &Plan, answer: &mut Answer) -> Result<(), Broken> {
        if self.out.is_empty() || answer.asker.is_gone() {
            self.out.clear();
            return Ok(());
        }
        self.saw(checkout.server(), answer.mark).map_err(Broken::Server)?;
        answer.mark = 0;
        match self.flush().await {
            Err(End::Broken(_)) => self.on_gone(plan, answer),
            flushed => flushed.map_err(Broken::Client)?,
        }
        Ok(())
    }

    /// Notes, before anything is shown, that the session has seen what this server showed. Of a primary that another one has
    /// replaced nothing is shown any more, and the answer, which begins at `mark` in `out`, is dropped: what it calls done is
    /// lost to everybody else.
    pub(super) fn saw(&mut self, server: &Pooled, mark: usize) -> Result<(), Failure> {
        let mut session = self.session.lock();
        let mut cluster = self.proxy.cluster.lock();
        match server.role {
            Role::Primary if cluster.is_superseded(&server.facts) => {
                self.out.truncate(mark);
                return Err(Failure::Refused("the server has been deposed".into()));
            }
            Role::Primary => drop(session.on_primary_finished(&mut cluster)),
            Role::Standby => session.on_standby_finished(&mut cluster, &server.facts),
        }
        Ok(())
    }

    async fn wait_for_either(
        &mut self,
        checkout: &mut Checkout,
        plan: &Plan,
        answer: &mut Answer,
        used: usize,
        streams: bool,
    ) -> Result<(), Broken> {
        let is_there = !answer.asker.is_gone();
        if streams && !is_there {
            return Err(Broken::Client(End::Closed));
        }
        let ahead = self.input.filled().len().saturating_sub(used);
        // An open unit that has nothing to send needs the rest of a message, however long it is.
        let has_room = checkout.server().connection.tracker.room() > 0;
        let starved = streams && self.to_server.is_empty() && has_room;
        let listens = is_there && (starved || ahead < READ_AHEAD_BYTES);
        let unsent = &self.to_server[self.sent..];
        let server = async {
            let connection = &mut checkout.server().connection;
            if unsent.is_empty() { connection.read().await.map(|()| 0) } else { connection.read_or_write(unsent).await }
        };
        let client = async {
            if listens {
                return self.input.read_from(&mut self.stream).await;
            }
            if streams || !is_there {
                return pending().await;
            }
            overtaken(&self.stream).await;
            Ok(0)
        };
        tokio::select! {
            biased;
            done = server => {
                self.sent += done.map_err(Broken::Server)?;
                Ok(())
            }
            read = client => match read {
                Ok(0) | Err(_) => {
                    self.on_gone(plan, answer);
                    Ok(())
                }
                Ok(_) => Ok(()),
            },
            () = answer.asker.when_over() => self.give_up(checkout, answer),
        }
    }

    /// What a held server connection said while nobody asked: notifications, notices, its own end.
    pub(super) async fn pass_on_unasked(&mut self) -> Result<(), End> {
        let Some(mut checkout) = self.held.take() else { return Ok(()) };
        let mut answer = Answer { mark: self.out.len(), ..Answer::default() };
        let relayed = self.relay(checkout.server(), &mut answer);
        if !self.out.is_empty() {
            self.saw(checkout.server(), answer.mark).map_err(End::ServerLost)?;
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
        let mut at = self.passing.min(bytes.len());
        self.passing -= at;
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
            // Parameters that the proxy's own statements change are not the client's news.
            let own = header.tag == b'S' && tracker.serves_proxy();
            let forward = tracker.on_backend(header.tag, body)? == Verdict::Forward && !own;
            let passes = match forward {
                true => self.look(header.tag, body, statements, answer)?,
                false => {
                    swallowed(header.tag, body, statements, answer)?;
                    Passes::Not
                }
            };
            if !matches!(passes, Passes::AsItIs) {
                self.out.extend_from_slice(&bytes[run..at]);
                run = there;
            }
            if let Passes::As(other) = passes {
                self.out.extend_from_slice(&other);
            }
            at = there;
            self.passing = end - there;
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
        if std::mem::take(&mut answer.is_promoted) && server.role == Role::Standby {
            // Whoever is shown what only the new timeline has must be promised it from now on; no probe may have heard of it.
            self.proxy.cluster.lock().on_promoted(server.facts.server, server.facts.epoch);
            self.proxy.kick(server.facts.server);
        }
        Ok(())
    }

    /// Looks at one message for the client; how it goes on.
    fn look(
        &mut self,
        tag: u8,
        body: &[u8],
        statements: &mut Statements,
        answer: &mut Answer,
    ) -> Result<Passes, Failure> {
        match tag {
            b'A' => {
                answer.substantial = true;
                return self.notification(body);
            }
            b'D' | b'd' | b'G' | b'H' | b'W' | b'I' | b's' => answer.substantial = true,
            b't' => answer.describes = true,
            b'T' | b'n' if std::mem::take(&mut answer.describes) => self.on_described(tag, body, statements)?,
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
                if let Some(message) = self.as_stale(&error) {
                    answer.substantial = true;
                    return Ok(Passes::As(message));
                }
                if let (Some(round), false) = (answer.may_correct, answer.substantial) {
                    answer.correction = self.correction(&error, round);
                }
                answer.stale_statement |= is_stale_statement(&error);
                answer.refused |= error.sqlstate() == Some(SqlState::READ_ONLY_SQL_TRANSACTION);
                answer.substantial = answer.correction.is_none();
                if error.sqlstate() == Some(SqlState::QUERY_CANCELED) && self.info.signals.is_overdue() {
                    return Ok(Self::overdue());
                }
                self.told_last |= answer.substantial && error.severity().is_some_and(Severity::is_last_word);
                return Ok(self.reworded(body, &error, answer));
            }
            b'S' if !self.reportable(body, answer)? => return Ok(Passes::Not),
            b'Z' if answer.hold_ready => return Ok(Passes::Not),
            _ => {}
        }
        Ok(Passes::AsItIs)
    }

    /// Whether the client should hear of this parameter: not what tells the server's role, which is Highwater's to know.
    fn reportable(&mut self, body: &[u8], answer: &mut Answer) -> Result<bool, Failure> {
        let status = backend::ParameterStatus::read(body)?;
        self.reading.on_parameter(status.name, status.value);
        self.note_own_reading(status.name);
        let tells_role = status.name == b"in_hot_standby";
        answer.is_promoted |= tells_role && status.value == b"off";
        Ok(!tells_role)
    }

    /// A reply that the proxy gives in the server's stead.
    fn say(&mut self, due: Synthetic, status: TransactionStatus) {
        if due == Synthetic::ParseComplete {
            self.statements.on_parsed();
        }
        due.encode(&mut self.out, status);
    }
}

impl Answer {
    fn note_command(&mut self, body: &[u8]) {
        self.completed = true;
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

fn sets_synchronous_commit(touch: &Touch) -> bool {
    matches!(touch, Touch::Set(Value::Text(name)) if *name == "synchronous_commit")
}

/// How a server's message goes on to the client.
pub(super) enum Passes {
    AsItIs,
    Not,
    As(Vec<u8>),
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
