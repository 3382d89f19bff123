//! What clients were told that their prepared statements yield, and whether it is still so.
//!
//! Drivers ask once what a statement yields, and decode rows by that for ever. When its tables change, PostgreSQL refuses
//! what was prepared before (0A000). A server connection that never had the statement would prepare it for the tables as they
//! are now, and say nothing; so it is asked first what the statement yields. If that is another thing, the statement is not
//! given to it, and the error that the server raises for want of it becomes the one that PostgreSQL would have raised.

use std::sync::Arc;

use highwater_core::Role;
use highwater_wire::backend::{self, ErrorResponse, RowDescription};
use highwater_wire::frame;
use highwater_wire::frontend::{self, Bind, Kind};

use super::Client;
use super::checkout::Checkout;
use super::statements::Asked;
use super::unit::{Unit, UnitKind};
use crate::error::{Complaint, End};
use crate::pool::Statements;
use crate::prepared::Shared;
use crate::server::{Failure, columns};

/// What PostgreSQL says of a statement prepared before its tables changed. Drivers know it by its code, its text, or the
/// function that raises it.
const STALE: &[u8] = b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0\
    Fplancache.c\0RRevalidateCachedQuery\0\0";

impl Client {
    /// Asks the server connection about those of the unit's statements that it lacks and whose results the client has been
    /// told.
    pub(super) async fn verify_statements(
        &mut self,
        unit: &Unit,
        checkout: &mut Checkout,
    ) -> Result<Result<(), Complaint>, End> {
        while let Some(shared) = self.unverified(unit, &checkout.server().statements) {
            let role = checkout.role();
            let server = checkout.server();
            let mut messages = Vec::new();
            // An outdated one may still be there.
            frontend::close(&mut messages, Kind::Statement, &shared.name);
            server.statements.forget(shared.id);
            frontend::parse_with_name(&mut messages, &shared.parse, &shared.name).map_err(End::Offence)?;
            frontend::describe(&mut messages, Kind::Statement, &shared.name);
            frontend::sync(&mut messages);
            match server.connection.answer(&messages).await {
                Ok(rows) => {
                    self.out.extend_from_slice(&rows.aside);
                    server.statements.on_parse_sent(shared.id);
                    server.statements.on_parsed();
                    if shared.result.get().is_some_and(|told| **told != *rows.columns()) {
                        self.refuse(&shared, checkout).await?;
                    }
                }
                // A standby may not have replayed what the statement needs: elsewhere it may be there.
                Err(Failure::Said(_)) if role == Role::Standby => return Ok(Ok(())),
                Err(failure @ Failure::Said(_)) => return Ok(Err(Complaint::Server(failure))),
                Err(failure) => return Err(End::ServerLost(failure)),
            }
        }
        Ok(Ok(()))
    }

    /// A statement that the unit binds, that the server connection lacks, and of which it matters what it yields.
    fn unverified(&mut self, unit: &Unit, held: &Statements) -> Option<Arc<Shared>> {
        if self.statements.has_no_names() || !matches!(unit.kind, UnitKind::Extended { .. }) {
            return None;
        }
        let Self { input, statements, proxy, state, own_reading, .. } = self;
        let settings = own_reading.as_deref().unwrap_or(state.reading());
        let messages = frame::frontend_messages(&input.filled()[..unit.length], u32::MAX).flatten();
        messages.filter(|message| message.tag == b'B').find_map(|message| {
            let name = Bind::read(message.body).ok()?.statement;
            let shared = statements.reread(name, &proxy.statements, settings, || proxy.next_serial())?;
            let matters = shared.result.get().is_some() && !held.holds(shared.id) && !statements.is_stale(shared.id);
            matters.then_some(shared)
        })
    }

    /// The statement yields something else now: it is kept from the server, and from whoever prepares its text next.
    async fn refuse(&mut self, shared: &Arc<Shared>, checkout: &mut Checkout) -> Result<(), End> {
        let mut messages = Vec::new();
        frontend::close(&mut messages, Kind::Statement, &shared.name);
        frontend::sync(&mut messages);
        let server = checkout.server();
        server.connection.answer(&messages).await.map_err(End::ServerLost)?;
        server.statements.forget(shared.id);
        self.proxy.statements.retire(shared);
        self.statements.on_stale(shared.id);
        Ok(())
    }

    /// The server has told what the oldest statement yields that the client asked about.
    pub(super) fn on_described(&mut self, tag: u8, body: &[u8], held: &mut Statements) -> Result<(), Failure> {
        let Some(Asked { name, shared }) = self.statements.described.pop_front().flatten() else { return Ok(()) };
        let found = if tag == b'T' { columns(&RowDescription::read(body)?) } else { Box::default() };
        if *shared.result.get_or_init(|| found.clone()) != found {
            // Others go by what they were told earlier, and must not find this one by the name of theirs.
            held.outdate(shared.id);
            let renewed = self.proxy.statements.renew(&shared, self.proxy.next_serial(), found);
            if let Some(named) = self.statements.get_mut(&name).filter(|named| Arc::ptr_eq(&named.shared, &shared)) {
                named.shared = renewed;
            }
        }
        Ok(())
    }

    /// The error to tell in place of one that only says that the server was not given a stale statement.
    pub(super) fn as_stale(&self, error: &ErrorResponse<'_>) -> Option<Vec<u8>> {
        let named = error.field(b'R') == Some(b"FetchPreparedStatement");
        let is_stale = named && self.statements.names_stale(error.field(b'M')?);
        is_stale.then(|| {
            let mut message = Vec::new();
            backend::message(&mut message, b'E', &[STALE]);
            message
        })
    }
}
