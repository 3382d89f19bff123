//! A client that says nothing, reduced to what must not be forgotten: no task, no timer, no buffers. It comes back as the
//! client that it was.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use highwater_core::{Level, Scope, ServerId, Session};
use highwater_sql::Scratch;
use tokio::time::Instant;

use super::login::INPUT_BYTES;
use super::reading::Reading;
use super::settings::Settings;
use super::state::{Pins, Touched};
use super::statements::ClientStatements;
use super::{Client, Transaction};
use crate::net::{Buffer, Quiet};
use crate::pool::Pool;
use crate::sessions;
use crate::shared::{ClientInfo, Database, Proxy, Registered, Routed};
use crate::state::Shared;

/// A logged-in client at rest, between transactions. What most clients never have is boxed.
pub(crate) struct Dormant {
    info: Registered,
    stream: Quiet,
    /// When `client_idle_timeout` ends it.
    until: Option<Instant>,
    pool: Arc<Pool>,
    database: Arc<Database>,
    state: Shared,
    base: Shared,
    /// `None` for a session that has seen nothing.
    session: Option<sessions::Shared>,
    extras: Option<Box<Extras>>,
    default_level: Level,
    scope: Scope,
    last_standby: Option<ServerId>,
    last_route: Option<Routed>,
    primary_only: bool,
    token_given: bool,
    reading: Reading,
}

#[derive(Default)]
struct Extras {
    statements: ClientStatements,
    settings: Settings,
    session_key: Option<String>,
    pins: Pins,
}

impl Client {
    /// Whether nothing is under way for the client that needs its task.
    pub(super) fn may_rest(&self) -> bool {
        self.held.is_none()
            && !self.is_pinned()
            && self.transaction == Transaction::Idle
            && self.input.filled().is_empty()
            && self.out.is_empty()
            && self.touched.is_empty()
            && !self.skipping
            && !self.catalog_changed
            && !self.stream.has_decrypted()
    }

    /// Lays the client to rest; `stream` is its own, `until` when it ends.
    pub(super) fn rest(self: Box<Self>, stream: Quiet, until: Option<Instant>) -> Box<Dormant> {
        let Self {
            info,
            pool,
            database,
            state,
            base,
            session,
            session_key,
            statements,
            settings,
            default_level,
            scope,
            last_standby,
            last_route,
            primary_only,
            token_given,
            reading,
            // `may_rest` has seen that nothing is in these.
            stream: _,
            input: _,
            used: _,
            out: _,
            is_writing: _,
            passing: _,
            transaction: _,
            held: _,
            touched: _,
            own_reading: _,
            skipping: _,
            to_server: _,
            sent: _,
            told_last: _,
            catalog_changed: _,
            own_at_start: _,
            // These are found again, or are as new.
            proxy: _,
            catalog: _,
            scratch: _,
            pins,
            last_detail: _,
        } = *self;
        let pins = pins.at_rest();
        let is_plain =
            statements.is_empty() && settings.is_default() && session_key.is_none() && pins == Pins::default();
        let extras = (!is_plain).then(|| Box::new(Extras { statements, settings, session_key, pins }));
        let session = Some(session).filter(|session| !is_blank(session));
        Box::new(Dormant {
            info,
            stream,
            until,
            pool,
            database,
            state,
            base,
            session,
            extras,
            default_level,
            scope,
            last_standby,
            last_route,
            primary_only,
            token_given,
            reading,
        })
    }
}

/// Whether a session is nobody else's and knows nothing, so that a new one is as good.
fn is_blank(session: &sessions::Shared) -> bool {
    Arc::strong_count(session) == 1 && *session.lock() == Session::default()
}

impl Dormant {
    /// What others know of it.
    pub(crate) fn info(&self) -> &Arc<ClientInfo> {
        self.info.info()
    }

    /// When it has rested too long.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        self.until
    }

    /// The client as it was, no longer at rest.
    ///
    /// # Errors
    /// The runtime cannot watch its socket.
    pub(crate) fn wake(self, proxy: Arc<Proxy>) -> std::io::Result<Box<Client>> {
        let Extras { statements, settings, session_key, pins } = self.extras.map(|extras| *extras).unwrap_or_default();
        Ok(Box::new(Client {
            proxy,
            info: self.info,
            stream: self.stream.into_stream()?,
            input: Buffer::new(INPUT_BYTES),
            used: 0,
            out: Vec::new(),
            is_writing: false,
            passing: 0,
            pool: self.pool,
            catalog: self.database.catalog(),
            database: self.database,
            scratch: Scratch::default(),
            statements,
            settings,
            session: self.session.unwrap_or_default(),
            session_key,
            token_given: self.token_given,
            default_level: self.default_level,
            scope: self.scope,
            primary_only: self.primary_only,
            transaction: Transaction::Idle,
            held: None,
            state: self.state,
            base: self.base,
            touched: Touched::default(),
            pins,
            skipping: false,
            last_standby: self.last_standby,
            last_route: self.last_route,
            last_detail: None,
            own_reading: None,
            to_server: Vec::new(),
            sent: 0,
            told_last: false,
            catalog_changed: false,
            reading: self.reading,
            own_at_start: Vec::new(),
        }))
    }
}

impl AsRawFd for Dormant {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}
