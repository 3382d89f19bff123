//! What units leave in their server connection, known by asking the server and not by imitating it: settings are read back
//! when the transaction has ended, and so is whether anything is left that only this one connection has.
//!
//! ```text
//! settings touched   -- end of the transaction --> values read back: the client's state, carried to every connection
//! perhaps something  -- end of the transaction --> asked for: a pin, for as long as the server says so
//! ```

use std::collections::BTreeSet;

use highwater_sql::{Class, Pin, Touch, Value};
use highwater_wire::TransactionStatus;

use super::checkout::Checkout;
use super::exchange::Answer;
use super::plan::Plan;
use super::{Client, Transaction};
use crate::error::End;
use crate::server::Failure;
use crate::state::{self, Values};

/// What can be asked for, in the order of the columns of [`LEFT`].
const ASKED: [Pin; 5] = [Pin::TemporaryTable, Pin::HeldCursor, Pin::AdvisoryLock, Pin::Listen, Pin::Prepare];

/// Whether the server connection has what no other one has. Everything in a schema depends on it, functions too.
const LEFT: &str = "SELECT \
    EXISTS (SELECT FROM pg_catalog.pg_depend \
        WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
        AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
    EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
    EXISTS (SELECT FROM pg_catalog.pg_locks \
        WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()), \
    EXISTS (SELECT FROM pg_catalog.pg_listening_channels()), \
    EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)";

/// Why a client keeps its server connection.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pins {
    /// What the server cannot be asked for: lasts until DISCARD ALL, or longer.
    certain: Option<Pin>,
    /// What the server has said there is.
    found: Option<Pin>,
    /// Something may have come or gone since it was asked.
    unsure: bool,
    /// Statements of SQL-level PREPARE are there, or may be.
    pub(super) prepared: bool,
    /// The client has asked for what sequences gave it.
    asks_sequences: bool,
    /// It has written since it asked last, and may ask again.
    written: bool,
}

impl Pins {
    /// The reason, if there is one.
    pub(super) fn reason(&self) -> Option<Pin> {
        self.certain.or(self.found).or(self.written.then_some(Pin::SequenceValue))
    }

    /// Whether something may be left of which nobody has asked the server yet.
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Those of a client that rests, of which only this stays.
    pub(super) fn at_rest(&self) -> Self {
        Self { asks_sequences: self.asks_sequences, ..Self::default() }
    }

    /// Whether only the end of the server connection ends it.
    pub(super) fn outlasts_discard(&self) -> bool {
        self.certain.is_some_and(Pin::outlasts_discard)
    }
}

/// Settings that the transaction under way may have changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Set, or set back to what the server connection began with.
    names: BTreeSet<Box<str>>,
    /// Set back: these by name.
    reset: BTreeSet<Box<str>>,
    /// And all others.
    reset_all: bool,
}

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.reset.is_empty() && !self.reset_all
    }

    fn add(&mut self, touch: &Touch) {
        match touch {
            Touch::Set(Value::Text(name)) => drop(self.names.insert(name.as_str().into())),
            // Resolved when it was bound.
            Touch::Set(_) => {}
            Touch::Reset(name) => drop(self.reset.insert(name.clone())),
            Touch::ResetAll => self.reset_all = true,
        }
    }

    fn resets(&self, name: &str) -> bool {
        self.reset_all || self.reset.contains(name)
    }
}

impl Client {
    /// Whether the client must keep its server connection, or the connection must be cleaned before others get it.
    pub(super) fn is_pinned(&self) -> bool {
        self.pins.reason().is_some()
    }

    /// Whether units may reset what the client's start-up packet has set.
    pub(super) fn may_undo_start(&self, plan: &Plan) -> bool {
        !self.base.is_empty() && plan.touches.iter().any(|touch| !matches!(touch, Touch::Set(_)))
    }

    /// Notes what the unit may have left; `was_open` says that it ran in a transaction that was open before.
    pub(super) async fn follow_state(
        &mut self,
        checkout: &mut Checkout,
        plan: &Plan,
        answer: &Answer,
        was_open: bool,
    ) -> Result<(), End> {
        plan.touches.iter().for_each(|touch| self.touched.add(touch));
        if !answer.failed && plan.touches.iter().any(|touch| matches!(touch, Touch::ResetAll)) {
            self.reset_own_settings();
        }
        self.note_pins(plan, answer);
        match checkout.status() {
            TransactionStatus::Idle => {
                if !self.touched.is_empty() {
                    let alone = plan.alone && answer.completed && !answer.failed && !was_open;
                    self.read_back(checkout, alone).await?;
                }
                if self.pins.unsure {
                    self.ask_what_is_left(checkout).await?;
                }
                self.own_reading = None;
            }
            TransactionStatus::InTransaction if self.may_undo_start(plan) => self.redo_start(checkout).await?,
            TransactionStatus::InTransaction | TransactionStatus::Failed => {}
        }
        Ok(())
    }

    /// The server has told that this setting has another value. What holds is known when the transaction is over; until then
    /// nobody shares what is read by it.
    pub(super) fn note_own_reading(&mut self, name: &[u8]) {
        if [&b"TimeZone"[..], b"DateStyle", b"IntervalStyle"].contains(&name) && self.own_reading.is_none() {
            let number = self.proxy.next_serial().to_le_bytes();
            self.own_reading = Some([self.state.reading(), b"\0own", &number].concat().into());
        }
    }

    fn note_pins(&mut self, plan: &Plan, answer: &Answer) {
        if answer.discarded {
            let asks_sequences = self.pins.asks_sequences;
            let certain = self.pins.certain.filter(|pin| pin.outlasts_discard());
            self.pins = Pins { certain, asks_sequences, ..Pins::default() };
        }
        let is_pinned = self.is_pinned();
        self.pins.asks_sequences |= plan.asks_sequences;
        if answer.completed {
            self.pins.written = self.pins.asks_sequences && (plan.class > Class::Primary || plan.asks_sequences);
        }
        match plan.pin {
            Some(pin) if pin.can_be_asked() => self.pins.unsure = true,
            Some(pin) if !(answer.failed && plan.is_undone_by_failure(pin)) => {
                self.pins.certain.get_or_insert(pin);
                // What leaves the one may leave others too.
                self.pins.unsure = true;
            }
            _ => {}
        }
        self.pins.unsure |= plan.may_unpin && is_pinned;
        self.pins.prepared |= plan.pin == Some(Pin::Prepare);
        self.count_pin(is_pinned);
    }

    fn count_pin(&self, before: bool) {
        if let (false, Some(pin)) = (before, self.pins.reason()) {
            tracing::debug!(client = self.info.pid, pin = pin.name(), "the client keeps its server connection");
            self.proxy.stats.pinned(pin);
        }
    }

    /// Learns the client's settings from the server connection. `alone`: a single statement by itself has succeeded, so
    /// that it is known what it has set back.
    async fn read_back(&mut self, checkout: &mut Checkout, alone: bool) -> Result<(), End> {
        let touched = std::mem::take(&mut self.touched);
        let mut values = self.state.values().clone();
        let mut unknown = touched.names.clone();
        if alone {
            values.retain(|name, _| !touched.resets(name));
        } else {
            unknown.extend(touched.reset.iter().cloned());
            unknown.extend(values.keys().filter(|name| touched.resets(name)).cloned());
        }
        if !unknown.is_empty() && !self.ask_values(checkout, &unknown, &mut values).await? {
            self.pins.certain.get_or_insert(Pin::Setting);
        }
        // Back to the start is, for the client, back to its own start-up packet.
        let mut undone = self.base.values().clone();
        undone.retain(|name, _| touched.resets(name));
        if !alone && !undone.is_empty() {
            self.keep_defaults(checkout, &mut undone).await?;
            values.retain(|name, _| !undone.contains_key(name));
        }
        checkout.server().state = self.proxy.states.of(values.clone());
        values.extend(undone);
        self.state = self.proxy.states.of(values);
        let told = self.align(checkout, false).await.map_err(End::ServerLost)?;
        self.out.extend_from_slice(&told);
        Ok(())
    }

    /// Keeps of `values` those that the server connection has as it began.
    async fn keep_defaults(&mut self, checkout: &mut Checkout, values: &mut Values) -> Result<(), End> {
        let question = state::question_of_defaults(values.keys().map(|name| &**name));
        let row = self.ask_held(checkout, &question).await?.unwrap_or_default();
        let names = row.into_iter().flatten().next().unwrap_or_default();
        values.retain(|name, _| names.split(' ').any(|default| default == &**name));
        Ok(())
    }

    /// Asks the server for the settings' values; whether it told them.
    async fn ask_values(
        &mut self,
        checkout: &mut Checkout,
        names: &BTreeSet<Box<str>>,
        values: &mut Values,
    ) -> Result<bool, End> {
        let question = state::question(names.iter().map(|name| &**name));
        let Some(row) = self.ask_held(checkout, &question).await? else { return Ok(false) };
        for (name, value) in names.iter().zip(row) {
            match value {
                Some(value) => drop(values.insert(name.clone(), value.into())),
                None => drop(values.remove(name)),
            }
        }
        Ok(true)
    }

    /// In a transaction: what was set back goes on as the start-up packet says.
    async fn redo_start(&mut self, checkout: &mut Checkout) -> Result<(), End> {
        let undone = self.base.values().iter().filter(|(name, _)| self.touched.resets(name));
        let wanted = self.proxy.states.of(undone.map(|(name, value)| (name.clone(), value.clone())).collect());
        if !wanted.is_empty() {
            let change = wanted.change_from(&state::State::default());
            self.ask_held(checkout, &change).await?;
            self.carry(&change);
        }
        Ok(())
    }

    async fn ask_what_is_left(&mut self, checkout: &mut Checkout) -> Result<(), End> {
        let was_pinned = self.is_pinned();
        self.pins.unsure = false;
        let Some(row) = self.ask_held(checkout, LEFT).await? else {
            self.pins.certain.get_or_insert(Pin::NotUnderstood);
            return Ok(());
        };
        let is_there =
            |pin: Pin| ASKED.iter().zip(&row).any(|(asked, cell)| *asked == pin && cell.as_deref() != Some("f"));
        self.pins.prepared = is_there(Pin::Prepare);
        self.pins.found = ASKED.into_iter().find(|pin| is_there(*pin));
        self.count_pin(was_pinned);
        Ok(())
    }

    /// Asks the held server connection for one row; `None` when it answered with an error. What it told aside is passed on.
    async fn ask_held(&mut self, checkout: &mut Checkout, question: &str) -> Result<Option<Vec<Option<String>>>, End> {
        let server = checkout.server();
        server.statements.unnamed = 0;
        match server.connection.query(question).await {
            Ok(rows) => {
                self.out.extend_from_slice(&rows.aside);
                Ok(rows.into_inner().pop())
            }
            Err(failure @ (Failure::Said(_) | Failure::Unreadable(_))) => {
                tracing::debug!(client = self.info.pid, %failure, "the state cannot be asked");
                Ok(None)
            }
            Err(failure) => Err(End::ServerLost(failure)),
        }
    }

    /// Brings a server connection into the client's state; what the server told aside comes back. What decides nothing may
    /// `wait` for the next unit.
    pub(super) async fn align(&self, checkout: &mut Checkout, wait: bool) -> Result<Vec<u8>, Failure> {
        let server = checkout.server();
        if std::sync::Arc::ptr_eq(&server.state, &self.state) {
            return Ok(Vec::new());
        }
        server.statements.unnamed = 0;
        let change = self.state.change_from(&server.state);
        let in_name_only = self.state.differs_in_name_only(&server.state);
        server.state = std::sync::Arc::clone(&self.state);
        // One more round trip would be a high price for a name.
        if wait && in_name_only {
            server.unsaid = Some(change);
            return Ok(Vec::new());
        }
        let change = server.unsaid.take().map_or(change.clone(), |unsaid| format!("{unsaid}; {change}"));
        Ok(server.connection.query(&change).await?.aside)
    }

    /// Whether nothing distinguishes the client from one that has just logged in, so that setting back does nothing.
    pub(super) fn is_as_new(&self) -> bool {
        self.held.is_none() && self.transaction == Transaction::Idle && std::sync::Arc::ptr_eq(&self.state, &self.base)
    }
}
