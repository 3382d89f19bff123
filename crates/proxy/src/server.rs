//! A connection to a PostgreSQL server: opening, logging in, and plain queries of our own.
//! Knows nothing of clients, pools or positions.

mod login;
mod reach;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use highwater_wire::backend::{self, Authentication};
use highwater_wire::startup::{self, Version};
use highwater_wire::tracker::Tracker;
use highwater_wire::{Offence, SqlState, frame, frontend, scram};
use tokio::time::timeout;

use self::login::{Channel, Exchange};
pub(crate) use self::login::{KnownPassword, Login, Secret};
pub(crate) use self::reach::{CancelRequest, CancelTarget, Endpoint};
use self::reach::{Way, other_way_may_help};
use crate::net::{Buffer, Stream};

/// One read of a busy socket; PostgreSQL sends 8 kB at a time.
const INPUT_BYTES: usize = 16 * 1024;
/// The longest message that we must hold whole to understand it. Rows for clients are never held whole.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// How long a server may take nothing of what we send.
const STALL: Duration = Duration::from_secs(60);

/// Why a server connection is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("connection closed by the server")]
    Closed,
    #[error("{0}")]
    Protocol(#[from] Offence),
    #[error("{0}")]
    Scram(#[from] scram::Failure),
    /// The server's own error.
    #[error("{} (SQLSTATE {})", .0.message, .0.code)]
    Said(Box<Said>),
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("channel_binding asks for SCRAM-SHA-256-PLUS, and the server does not do that")]
    Unbound,
    #[error("the password of user \"{0}\" has been changed since it was proved here")]
    PasswordChanged(String),
    #[error("the role may not run the statement")]
    NotAllowed,
    #[error("all server connections that the user or the database may have are in use")]
    NoPlace,
    #[error("the server wants a password, and none is known for user \"{0}\"")]
    NoPassword(String),
    #[error("the server wants a kind of authentication that is not supported")]
    Authentication,
    #[error("unreadable answer: {0}")]
    Unreadable(&'static str),
    #[error("another pooler stands between Highwater and the server")]
    Pooler,
    #[error("the server is not the one that is being probed")]
    Changed,
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// Whether it may be over in a moment: the server is gone, on its way down or up, or changes its role.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Failure::Io(_) | Failure::Closed | Failure::Changed => true,
            // Operator intervention: shutting down, crashed, starting up.
            Failure::Said(said) => said.code.class() == *b"57",
            _ => false,
        }
    }
}

/// A connection that is logged in.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) input: Buffer,
    pub(crate) tracker: Tracker,
    /// What the server reported at login, in its order.
    pub(crate) parameters: Vec<(String, String)>,
    /// What it said aside at login: whole messages.
    pub(crate) notices: Vec<u8>,
    pub(crate) pid: u32,
    /// Where what runs here can be cancelled.
    pub(crate) cancel: Arc<CancelTarget>,
}

impl Connection {
    /// Connects and logs in within `limit`.
    pub(crate) async fn open(endpoint: &Endpoint, login: &Login, limit: Duration) -> Result<Self, Failure> {
        let opening = async {
            let (last, earlier) = endpoint.ways().split_last().expect("there is always a way");
            for way in earlier {
                match Self::open_by(endpoint, *way, login, limit).await {
                    Err(failure) if other_way_may_help(&failure) => {
                        tracing::debug!(?way, %failure, "connecting to a server another way");
                    }
                    opened => return opened,
                }
            }
            Self::open_by(endpoint, *last, login, limit).await
        };
        timeout(limit, opening).await.unwrap_or_else(|_| Err(Failure::Io(std::io::ErrorKind::TimedOut.into())))
    }

    async fn open_by(endpoint: &Endpoint, way: Way, login: &Login, limit: Duration) -> Result<Self, Failure> {
        let stream = endpoint.connect(way, limit).await?;
        let cancel = Arc::new(CancelTarget::new(endpoint, &stream, 0, &[]));
        let mut connection = Self {
            stream,
            input: Buffer::new(INPUT_BYTES),
            tracker: Tracker::new(),
            parameters: Vec::new(),
            notices: Vec::new(),
            pid: 0,
            cancel,
        };
        connection.log_in(endpoint, login).await?;
        Ok(connection)
    }

    /// Sends bytes that the tracker already knows of.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(bytes, STALL).await?)
    }

    /// Reads more of what the server says.
    pub(crate) async fn read(&mut self) -> Result<(), Failure> {
        match self.input.read_from(&mut self.stream).await? {
            0 => Err(Failure::Closed),
            _ => Ok(()),
        }
    }

    /// Reads on until the server closes, whatever it says.
    pub(crate) async fn until_closed(&mut self) {
        while self.read().await.is_ok() {
            self.input.consume(self.input.filled().len());
        }
    }

    /// Reads more, or writes some of `unsent`, whichever can be done; how much was written. A server that waits for us to
    /// take results reads no further statements, so neither side may be served alone.
    pub(crate) async fn read_or_write(&mut self, unsent: &[u8]) -> Result<usize, Failure> {
        let ready = self.stream.ready().await?;
        if ready.is_readable() && self.input.read_some(&self.stream)? == Some(0) {
            return Err(Failure::Closed);
        }
        Ok(if ready.is_writable() { self.stream.write_some(unsent)? } else { 0 })
    }

    async fn log_in(&mut self, endpoint: &Endpoint, login: &Login) -> Result<(), Failure> {
        let mut packet = Vec::new();
        let parameters = login.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        startup::startup(&mut packet, Version::V3_0, parameters);
        self.send(&packet).await?;
        let channel = Channel::of(&self.stream, endpoint.binding);
        let mut exchange = Exchange::Begun;
        loop {
            let length = self.message().await?;
            let (tag, body) = split(self.input.filled(), length);
            match tag {
                b'R' => {
                    let answer = exchange.step(&Authentication::read(body)?, login, &channel).await?;
                    self.input.consume(length);
                    self.send(&answer).await?;
                    continue;
                }
                b'S' => {
                    let status = backend::ParameterStatus::read(body)?;
                    self.parameters.push((lossy(status.name), lossy(status.value)));
                }
                b'K' => {
                    let key = backend::BackendKeyData::read(body)?;
                    self.pid = key.pid;
                    self.cancel = Arc::new(CancelTarget::new(endpoint, &self.stream, key.pid, key.key));
                }
                b'N' => self.notices.extend_from_slice(&self.input.filled()[..length]),
                b'E' => return Err(Failure::Said(Box::new(Said::new(body)?))),
                b'Z' => {
                    self.input.consume(length);
                    return Ok(());
                }
                _ => {}
            }
            self.input.consume(length);
        }
    }

    /// Reads until the next message is whole; its length.
    async fn message(&mut self) -> Result<usize, Failure> {
        loop {
            match frame::header_within(self.input.filled(), MESSAGE_BYTES_MAX)? {
                Some(header) if header.len <= self.input.filled().len() => return Ok(header.len),
                _ => self.read().await?,
            }
        }
    }

    /// Runs statements of our own by the simple protocol on an idle connection; all rows of all of them.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Rows, Failure> {
        let mut message = Vec::new();
        frontend::query(&mut message, sql);
        self.answer(&message).await
    }

    /// Runs one statement with one text parameter, `$1`.
    pub(crate) async fn query_with(&mut self, sql: &str, parameter: &str) -> Result<Rows, Failure> {
        let mut messages = Vec::new();
        frontend::parse(&mut messages, "", sql, &[]);
        frontend::bind(&mut messages, "", "", &[Some(parameter)]);
        frontend::describe(&mut messages, frontend::Kind::Portal, "");
        frontend::execute(&mut messages, "", 0);
        frontend::sync(&mut messages);
        self.answer(&messages).await
    }

    /// Sends what ends in one ReadyForQuery, and takes in all rows.
    pub(crate) async fn answer(&mut self, messages: &[u8]) -> Result<Rows, Failure> {
        self.send(messages).await?;
        let (mut rows, mut said, mut unread) = (Rows::default(), None, None);
        loop {
            let length = self.message().await?;
            let (tag, body) = split(self.input.filled(), length);
            match tag {
                b'T' => {
                    let description = backend::RowDescription::read(body)?;
                    rows.columns = columns(&description);
                }
                // The answer is taken in whole even so: the connection goes on.
                b'D' => unread = unread.or(rows.push(&backend::DataRow::read(body)?).err()),
                b'E' => said = Some(Said::new(body)?),
                b'S' => {
                    note_parameter(&mut self.parameters, &backend::ParameterStatus::read(body)?);
                    rows.aside.extend_from_slice(&self.input.filled()[..length]);
                }
                b'N' => rows.notices.extend_from_slice(&self.input.filled()[..length]),
                b'A' => rows.aside.extend_from_slice(&self.input.filled()[..length]),
                _ => {}
            }
            self.input.consume(length);
            if tag == b'Z' {
                let failure = said.map(|said| Failure::Said(Box::new(said))).or(unread);
                return failure.map_or(Ok(rows), Err);
            }
        }
    }
}

/// A column of a result, as far as a change of it is a change of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    type_oid: u32,
    type_modifier: i32,
}

/// The columns of a description.
pub(crate) fn columns(description: &backend::RowDescription<'_>) -> Box<[Column]> {
    let column = |field: backend::Field<'_>| Column {
        name: String::from_utf8_lossy(field.name).into_owned(),
        type_oid: field.type_oid,
        type_modifier: field.type_modifier,
    };
    description.iter().map(column).collect()
}

/// The newest value of a reported parameter.
fn note_parameter(parameters: &mut Vec<(String, String)>, status: &backend::ParameterStatus<'_>) {
    let (name, value) = (lossy(status.name), lossy(status.value));
    match parameters.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => parameters.push((name, value)),
    }
}

fn split(bytes: &[u8], length: usize) -> (u8, &[u8]) {
    (bytes[0], &bytes[5..length])
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server's own error.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: SqlState,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Said {
    pub(crate) fn new(body: &[u8]) -> Result<Self, Offence> {
        let error = backend::ErrorResponse::read(body)?;
        Ok(Self {
            code: error.sqlstate().unwrap_or(SqlState::INTERNAL_ERROR),
            message: lossy(error.message()),
            detail: error.detail().map(lossy),
            hint: error.hint().map(lossy),
        })
    }
}

/// Text rows of our own queries. Reading a cell that is not there, or not what it should be, is a [`Failure`].
#[derive(Debug, Default)]
pub(crate) struct Rows {
    columns: Box<[Column]>,
    cells: Vec<Vec<Option<String>>>,
    /// Parameters and notifications that were told meanwhile, as they came: they may be a client's.
    pub(crate) aside: Vec<u8>,
    /// Notices, as they came: the proxy's own affair, mostly.
    pub(crate) notices: Vec<u8>,
}

impl Rows {
    fn push(&mut self, row: &backend::DataRow<'_>) -> Result<(), Failure> {
        let cell =
            |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Failure::Unreadable("text that is not UTF-8"));
        self.cells.push(row.values.iter().map(|value| value.map(cell).transpose()).collect::<Result<_, _>>()?);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn is_null(&self, row: usize, column: usize) -> bool {
        self.text(row, column).is_err()
    }

    pub(crate) fn text(&self, row: usize, column: usize) -> Result<&str, Failure> {
        let cell = self.cells.get(row).and_then(|cells| cells.get(column));
        cell.and_then(Option::as_deref).ok_or(Failure::Unreadable("a value is missing"))
    }

    pub(crate) fn parse<T: FromStr>(&self, row: usize, column: usize) -> Result<T, Failure> {
        self.text(row, column)?.parse().map_err(|_| Failure::Unreadable("a value is not of its type"))
    }

    pub(crate) fn bool(&self, row: usize, column: usize) -> Result<bool, Failure> {
        match self.text(row, column)? {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err(Failure::Unreadable("a value is not a boolean")),
        }
    }

    /// All rows as text, NULL kept apart.
    pub(crate) fn into_inner(self) -> Vec<Vec<Option<String>>> {
        self.cells
    }

    /// The columns of the last statement that had rows.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }
}
