//! From a unit to the bytes that go to a server: BEGIN in front where it was put off, prepared statements under the names
//! that servers know, statements the server connection lacks, and the question for the position behind it all.

use std::sync::Arc;

use highwater_sql::{Class, Kind as SqlKind, Statement};
use highwater_wire::frame::{self, Message};
use highwater_wire::frontend::{self, Bind, Close, Describe, Execute, Kind};
use highwater_wire::tracker::{Audience, CopyState, Synthetic, Tracker};
use highwater_wire::{Offence, TransactionStatus};

use super::checkout::Checkout;
use super::plan::{Plan, Shape};
use super::statements::{Asked, ClientStatements, deallocated};
use super::unit::{Unit, UnitKind};
use super::{Client, Transaction};
use crate::error::End;
use crate::pool::{Pooled, Sequences, Statements};
use crate::prepared::Shared;
use crate::shared::Proxy;

/// The primary's position, sent behind the client's Sync: inside its implicit transaction it would be too low.
pub(super) const PRIMARY_POSITION: &str =
    "SELECT pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_current_wal_flush_lsn()";

impl Client {
    /// Whether the position can be asked in the same flight: the unit will leave the server idle and reading queries.
    pub(super) fn position_behind(&self, unit: &Unit, plan: &Plan) -> bool {
        let ends = match self.transaction {
            Transaction::Idle => plan.begins.is_none(),
            Transaction::Open | Transaction::Leading { .. } => matches!(plan.shape, Shape::End { .. }),
            Transaction::Lazy { .. } | Transaction::Aborted => false,
        };
        let whole = matches!(unit.kind, UnitKind::Query | UnitKind::Extended { synced: true });
        ends && whole && !plan.copies_in && plan.class != Class::Unknown
    }

    /// Fills `to_server` with the unit as this server connection needs it, and tells its tracker.
    pub(super) fn encode(
        &mut self,
        unit: &Unit,
        plan: &Plan,
        checkout: &mut Checkout,
        behind: bool,
    ) -> Result<(), Offence> {
        self.to_server.clear();
        self.sent = 0;
        let server = checkout.server();
        if let Some(unsaid) = server.unsaid.take() {
            frontend::query(&mut self.to_server, &unsaid);
            server.connection.tracker.on_frontend(b'Q', Audience::Proxy)?;
            server.statements.unnamed = 0;
        }
        self.separate_sequences(plan, server)?;
        if let Transaction::Lazy { begin, .. } = &self.transaction {
            self.to_server.extend_from_slice(begin);
            for _ in frame::frontend_messages(begin, u32::MAX) {
                server.connection.tracker.on_frontend(b'Q', Audience::Proxy)?;
            }
        }
        match (&plan.shape, unit.kind) {
            (Shape::LocalFirst { rest }, _) => {
                let text = &self.input.filled()[5 + rest..unit.length - 1];
                frontend::query(&mut self.to_server, text);
                server.connection.tracker.on_frontend(b'Q', Audience::Client)?;
            }
            (_, UnitKind::Extended { .. }) => self.encode_messages(0, unit.length, server)?,
            _ => {
                let bytes = &self.input.filled()[..unit.length];
                self.to_server.extend_from_slice(bytes);
                server.connection.tracker.on_frontend(bytes[0], Audience::Client)?;
            }
        }
        if plan.ends_flushed {
            frontend::sync(&mut self.to_server);
            server.connection.tracker.on_frontend(b'S', Audience::Proxy)?;
        }
        if behind {
            frontend::query(&mut self.to_server, PRIMARY_POSITION);
            server.connection.tracker.on_frontend(b'Q', Audience::Proxy)?;
            // A simple Query destroys the unnamed statement.
            server.statements.unnamed = 0;
        }
        Ok(())
    }

    /// Before a unit that may move sequences, or asks what they have given: values of other clients are dropped where somebody
    /// asks for such at all.
    fn separate_sequences(&mut self, plan: &Plan, server: &mut Pooled) -> Result<(), Offence> {
        let own = Sequences::Of(self.info.pid);
        if server.sequences == own || (plan.class <= Class::Read && !plan.asks_sequences) {
            return Ok(());
        }
        if server.connection.tracker.status() == TransactionStatus::Failed {
            // Nothing can be dropped there, and nothing be asked.
            return Ok(());
        }
        if server.sequences == Sequences::Nobodys {
            server.sequences = own;
        } else if self.pool.asks_sequences() {
            frontend::query(&mut self.to_server, "DISCARD SEQUENCES");
            server.connection.tracker.on_frontend(b'Q', Audience::Proxy)?;
            server.statements.unnamed = 0;
            server.sequences = own;
        } else {
            server.sequences = Sequences::Mixed;
        }
        Ok(())
    }

    /// Encodes whole messages of the client that stand at `from..to` in its input.
    fn encode_messages(&mut self, from: usize, to: usize, server: &mut Pooled) -> Result<(), Offence> {
        let most = self.proxy.config.prepared_max;
        let Self { input, to_server, statements, pins, proxy, state, own_reading, .. } = self;
        let mut encoder = Encoder {
            out: to_server,
            tracker: &mut server.connection.tracker,
            held: &mut server.statements,
            statements,
            proxy,
            settings: own_reading.as_deref().unwrap_or(state.reading()),
            prepared_in_sql: pins.prepared,
        };
        while !encoder.tracker.is_discarding()
            && let Some(id) = encoder.held.evict(most)
        {
            encoder.close(id)?;
        }
        for message in frame::frontend_messages(&input.filled()[from..to], u32::MAX) {
            let message = message?;
            match message.tag {
                b'P' => encoder.on_parse(message)?,
                b'B' => encoder.on_bind(message)?,
                b'D' => encoder.on_describe(message)?,
                b'C' => encoder.on_close(message)?,
                b'E' => encoder.on_execute(message)?,
                _ => encoder.as_it_is(message)?,
            }
        }
        Ok(())
    }

    /// Encodes what the client adds to an open unit or to a COPY; how many bytes of input that were.
    pub(super) fn encode_next(
        &mut self,
        used: usize,
        checkout: &mut Checkout,
        plan: &mut Plan,
        open: &mut bool,
    ) -> Result<usize, End> {
        if checkout.server().connection.tracker.copy() == CopyState::In {
            self.encode_copy(used, checkout.server())
        } else {
            self.encode_more(used, checkout.server(), plan, open)
        }
    }

    /// The further messages of a pipeline, up to and with what ends it: Sync, or a simple message.
    fn encode_more(
        &mut self,
        used: usize,
        server: &mut Pooled,
        plan: &mut Plan,
        open: &mut bool,
    ) -> Result<usize, End> {
        let mut at = used;
        // A COPY took the unit's own Sync for a part of its data: another one follows.
        let mut awaited = server.connection.tracker.awaits_sync();
        let room = server.connection.tracker.room();
        for _ in 0..room {
            if !*open && !awaited {
                break;
            }
            let rest = &self.input.filled()[at..];
            let Some(header) = self.header(rest)?.filter(|header| header.len <= rest.len()) else { break };
            if header.tag == b'X' {
                return Err(End::Closed);
            }
            let ends = matches!(header.tag, b'S' | b'Q' | b'F');
            *open &= !ends;
            awaited &= !ends;
            // Hints come too late for a pipeline that is on its way; a bad one is no reason to break it.
            self.plan_more(plan, at, header.len);
            at += header.len;
        }
        self.encode_messages(used, at, server).map_err(End::Offence)?;
        Ok(at - used)
    }

    /// COPY data as it comes: large rows pass in pieces that are whole messages for the server anyway.
    fn encode_copy(&mut self, used: usize, server: &mut Pooled) -> Result<usize, End> {
        let mut at = used;
        while server.connection.tracker.copy() == CopyState::In {
            let rest = &self.input.filled()[at..];
            let Some(header) = self.header(rest)?.filter(|header| header.len <= rest.len()) else { break };
            server.connection.tracker.on_frontend(header.tag, Audience::Client).map_err(End::Offence)?;
            self.to_server.extend_from_slice(&rest[..header.len]);
            at += header.len;
        }
        Ok(at - used)
    }
}

/// Where encoded messages go, and what must know of them.
struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    tracker: &'a mut Tracker,
    held: &'a mut Statements,
    statements: &'a mut ClientStatements,
    proxy: &'a Proxy,
    /// The client's settings as far as texts are read by them.
    settings: &'a [u8],
    /// Statements of SQL's PREPARE live on this server connection.
    prepared_in_sql: bool,
}

impl Encoder<'_> {
    fn as_it_is(&mut self, message: Message<'_>) -> Result<(), Offence> {
        self.tracker.on_frontend(message.tag, Audience::Client)?;
        if message.tag == b'P' {
            self.note_parse(0);
        }
        self.out.extend_from_slice(message.whole);
        Ok(())
    }

    /// The client's own Parse: of a named statement sent, or answered here if the server has it.
    fn on_parse(&mut self, message: Message<'_>) -> Result<(), Offence> {
        let Ok(frontend::Parse { name, .. }) = frontend::Parse::read(message.body) else {
            return self.as_it_is(message);
        };
        if !self.statements.on_parse(message.whole, &self.proxy.statements, self.settings) {
            return self.parse_again(name);
        }
        if self.deallocates(name) {
            return self.tracker.on_skipped(Synthetic::ParseComplete);
        }
        if name.is_empty() {
            return self.unnamed(Audience::Client, message.whole);
        }
        match self.named(name) {
            Some(shared) if self.held.holds(shared.id) => self.tracker.on_skipped(Synthetic::ParseComplete),
            Some(shared) => self.send_parse(&shared, Audience::Client),
            None => self.as_it_is(message),
        }
    }

    fn on_bind(&mut self, message: Message<'_>) -> Result<(), Offence> {
        let Ok(bind) = Bind::read(message.body) else { return self.as_it_is(message) };
        self.statements.deallocating.retain(|(portal, _)| **portal != *bind.portal);
        if self.deallocates(bind.statement) {
            let text = self.statements.text(bind.statement).map(String::from_utf8_lossy).unwrap_or_default();
            let portal = (bind.portal.into(), text.into_owned());
            self.statements.deallocating.push(portal);
            return self.tracker.on_skipped(Synthetic::BindComplete);
        }
        if bind.statement.is_empty() {
            let unnamed = &self.statements.unnamed;
            if unnamed.facts.is_some() && self.held.unnamed != unnamed.serial {
                let parse = unnamed.parse.clone();
                self.unnamed(Audience::Proxy, &parse)?;
            }
            return self.as_it_is(message);
        }
        let Some(shared) = self.named(bind.statement) else { return self.as_it_is(message) };
        self.need(&shared)?;
        self.tracker.on_frontend(b'B', Audience::Client)?;
        frontend::bind_with_statement(self.out, message.body, &shared.name)
    }

    fn on_describe(&mut self, message: Message<'_>) -> Result<(), Offence> {
        let named = match Describe::read(message.body) {
            Ok(Describe { kind: Kind::Statement, name }) => {
                let named = self.named(name);
                self.statements.described.push_back(named.clone().map(|shared| Asked { name: name.into(), shared }));
                named
            }
            Ok(Describe { kind: Kind::Portal, name }) if self.deallocation(name).is_some() => {
                return self.tracker.on_skipped(Synthetic::NoData);
            }
            _ => None,
        };
        let Some(shared) = named else { return self.as_it_is(message) };
        self.need(&shared)?;
        self.tracker.on_frontend(b'D', Audience::Client)?;
        frontend::describe(self.out, Kind::Statement, &shared.name);
        Ok(())
    }

    /// A DEALLOCATE in the middle of a pipeline is answered here, as it is alone: servers know other names.
    fn on_execute(&mut self, message: Message<'_>) -> Result<(), Offence> {
        let portal = Execute::read(message.body).map_or(&[][..], |execute| execute.portal);
        let Some(place) = self.deallocation(portal) else { return self.as_it_is(message) };
        let (_, text) = self.statements.deallocating.swap_remove(place);
        let all = text.to_ascii_lowercase().trim_end_matches([';', ' ']).ends_with("all");
        self.statements.deallocate(&text, all);
        self.tracker.on_skipped(Synthetic::CommandComplete(if all { "DEALLOCATE ALL" } else { "DEALLOCATE" }))
    }

    fn deallocation(&self, portal: &[u8]) -> Option<usize> {
        self.statements.deallocating.iter().position(|(own, _)| **own == *portal)
    }

    /// Whether the statement is a DEALLOCATE of something that is kept here.
    fn deallocates(&self, name: &[u8]) -> bool {
        let facts = self.statements.facts(name).map(|facts| &*facts.statements);
        let Some([Statement { kind: SqlKind::Deallocate { all }, .. }]) = facts else { return false };
        let text = || self.statements.text(name).map(String::from_utf8_lossy).unwrap_or_default();
        !self.prepared_in_sql && (*all || self.statements.get(deallocated(&text()).as_bytes()).is_some())
    }

    /// A Parse of a name that is taken: the server says so.
    fn parse_again(&mut self, name: &[u8]) -> Result<(), Offence> {
        if let Some(shared) = self.named(name) {
            self.need(&shared)?;
            self.tracker.on_frontend(b'P', Audience::Client)?;
            self.note_parse(0);
            frontend::parse_with_name(self.out, &shared.parse, &shared.name)?;
        }
        Ok(())
    }

    fn on_close(&mut self, message: Message<'_>) -> Result<(), Offence> {
        match Close::read(message.body) {
            Ok(Close { kind: Kind::Statement, name }) if self.statements.close(name) => {
                self.tracker.on_skipped(Synthetic::CloseComplete)
            }
            _ => self.as_it_is(message),
        }
    }

    fn named(&mut self, name: &[u8]) -> Option<Arc<Shared>> {
        self.statements.reread(name, &self.proxy.statements, self.settings, || self.proxy.next_serial())
    }

    /// A statement that is about to be used: sent first if the server lacks it.
    fn need(&mut self, shared: &Shared) -> Result<(), Offence> {
        // A stale one is not given to the server, which then says so in its turn.
        let is_there = self.held.holds(shared.id) || self.statements.is_stale(shared.id);
        if is_there { Ok(()) } else { self.send_parse(shared, Audience::Proxy) }
    }

    fn send_parse(&mut self, shared: &Shared, audience: Audience) -> Result<(), Offence> {
        self.tracker.on_frontend(b'P', audience)?;
        self.note_parse(shared.id);
        frontend::parse_with_name(self.out, &shared.parse, &shared.name)
    }

    fn unnamed(&mut self, audience: Audience, parse: &[u8]) -> Result<(), Offence> {
        self.tracker.on_frontend(b'P', audience)?;
        self.note_parse(0);
        self.held.unnamed = if self.tracker.is_discarding() { 0 } else { self.statements.unnamed.serial };
        self.out.extend_from_slice(parse);
        Ok(())
    }

    /// A Parse is sent. One that the server will not even look at is confirmed by nothing.
    fn note_parse(&mut self, id: u64) {
        if !self.tracker.is_discarding() {
            self.held.on_parse_sent(id);
        }
    }

    fn close(&mut self, id: u64) -> Result<(), Offence> {
        self.tracker.on_frontend(b'C', Audience::Proxy)?;
        frontend::close(self.out, Kind::Statement, format!("hw_{id}"));
        Ok(())
    }
}

/// Whether a connection in this state takes a further query of the proxy's own.
pub(super) fn takes_query(status: TransactionStatus) -> bool {
    status == TransactionStatus::Idle
}
