//! A connection to a PostgreSQL server: opening, logging in, and plain queries of our own.
//! Knows nothing of clients, pools or positions.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use highwater_wire::backend::{self, Authentication};
use highwater_wire::scram::{self, Binding, Secret};
use highwater_wire::startup::{self, Version};
use highwater_wire::tracker::Tracker;
use highwater_wire::{Offence, SqlState, frame, frontend};
use tokio::time::timeout;

use crate::config::ServerUrl;
use crate::net::{Address, Buffer, Stream};

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
    #[error("the server wants a password, and none is known for user \"{0}\"")]
    NoPassword(String),
    #[error("the server wants a kind of authentication that is not supported")]
    Authentication,
    #[error("unreadable answer: {0}")]
    Unreadable(&'static str),
    #[error("{0}")]
    Refused(String),
}

/// With what to log in.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    /// All start-up parameters, user and database included.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Login {
    /// Logs `user` in to `database` with further start-up settings.
    pub(crate) fn new(user: &str, password: Option<&str>, database: &str, settings: &[(String, String)]) -> Self {
        let mut parameters = vec![("user".to_owned(), user.to_owned()), ("database".to_owned(), database.to_owned())];
        parameters.extend_from_slice(settings);
        Self { user: user.to_owned(), password: password.map(str::to_owned), parameters }
    }

    /// The login of the probing role.
    pub(crate) fn prober(url: &ServerUrl) -> Self {
        let name = ("application_name".to_owned(), "highwater probe".to_owned());
        Self::new(&url.user, url.password.as_deref(), &url.database, &[name])
    }

    /// The same for the replication protocol, which tells the timeline of a standby that receives nothing.
    pub(crate) fn replication(url: &ServerUrl) -> Self {
        let mut login = Self::prober(url);
        login.parameters.push(("replication".to_owned(), "database".to_owned()));
        login
    }
}

/// Where what runs on a connection can be cancelled, and how many cancels are under way there.
#[derive(Debug)]
pub(crate) struct CancelTarget {
    address: Address,
    pid: u32,
    key: Vec<u8>,
    /// While this is not zero the connection must not serve anybody else.
    under_way: AtomicU32,
}

impl CancelTarget {
    /// One more cancel request is under way; [`CancelTarget::cancel`] must follow.
    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// Sends the cancel request that was begun, and waits until the server has taken it.
    pub(crate) async fn cancel(&self, limit: Duration) {
        let sending = async {
            let mut stream = Stream::connect(&self.address, limit).await?;
            let mut packet = Vec::new();
            startup::cancel_request(&mut packet, self.pid, &self.key);
            stream.write_all(&packet, STALL).await?;
            // The server closes once it has signalled the process.
            Buffer::new(16).read_from(&mut stream).await
        };
        let outcome = timeout(limit, sending).await;
        tracing::debug!(?outcome, pid = self.pid, "cancel request passed on");
        self.under_way.fetch_sub(1, Ordering::AcqRel);
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
    pub(crate) pid: u32,
    /// Where what runs here can be cancelled.
    pub(crate) cancel: Arc<CancelTarget>,
}

impl Connection {
    /// Connects and logs in within `limit`.
    pub(crate) async fn open(address: &Address, login: &Login, limit: Duration) -> Result<Self, Failure> {
        let opening = async {
            let stream = Stream::connect(address, limit).await?;
            let mut connection = Self {
                stream,
                input: Buffer::new(INPUT_BYTES),
                tracker: Tracker::new(),
                parameters: Vec::new(),
                pid: 0,
                cancel: Arc::new(CancelTarget {
                    address: address.clone(),
                    pid: 0,
                    key: vec![],
                    under_way: AtomicU32::new(0),
                }),
            };
            connection.log_in(login).await?;
            Ok(connection)
        };
        timeout(limit, opening).await.unwrap_or_else(|_| Err(Failure::Io(std::io::ErrorKind::TimedOut.into())))
    }

    /// Whether a cancel request may still be on its way to what ran here.
    pub(crate) fn cancel_under_way(&self) -> bool {
        self.cancel.under_way.load(Ordering::Acquire) > 0
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

    /// Reads more, or writes some of `unsent`, whichever can be done; how much was written. A server that waits for us to
    /// take results reads no further statements, so neither side may be served alone.
    pub(crate) async fn read_or_write(&mut self, unsent: &[u8]) -> Result<usize, Failure> {
        let ready = self.stream.ready().await?;
        if ready.is_readable() && self.input.read_some(&self.stream)? == Some(0) {
            return Err(Failure::Closed);
        }
        Ok(if ready.is_writable() { self.stream.write_some(unsent)? } else { 0 })
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Failure> {
        let mut packet = Vec::new();
        let parameters = login.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        startup::startup(&mut packet, Version::V3_0, parameters);
        self.send(&packet).await?;
        let mut scram = None;
        loop {
            let length = self.message().await?;
            let (tag, body) = split(self.input.filled(), length);
            let mut answer = Vec::new();
            match tag {
                b'R' => authenticate(&Authentication::read(body)?, login, &mut scram, &mut answer)?,
                b'S' => {
                    let status = backend::ParameterStatus::read(body)?;
                    self.parameters.push((lossy(status.name), lossy(status.value)));
                }
                b'K' => {
                    let key = backend::BackendKeyData::read(body)?;
                    self.pid = key.pid;
                    self.cancel = Arc::new(CancelTarget {
                        address: self.cancel.address.clone(),
                        pid: key.pid,
                        key: key.key.to_vec(),
                        under_way: AtomicU32::new(0),
                    });
                }
                b'E' => return Err(Failure::Said(Box::new(Said::new(body)?))),
                b'Z' => {
                    self.input.consume(length);
                    return Ok(());
                }
                _ => {}
            }
            self.input.consume(length);
            if !answer.is_empty() {
                self.send(&answer).await?;
            }
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
        self.send(&message).await?;
        let (mut rows, mut said) = (Rows::default(), None);
        loop {
            let length = self.message().await?;
            let (tag, body) = split(self.input.filled(), length);
            match tag {
                b'T' => {
                    let description = backend::RowDescription::read(body)?;
                    rows.columns = description.iter().map(|field| lossy(field.name)).collect();
                }
                b'D' => rows.push(&backend::DataRow::read(body)?)?,
                b'E' => said = Some(Said::new(body)?),
                b'S' => {
                    let status = backend::ParameterStatus::read(body)?;
                    tracing::debug!(name = lossy(status.name), value = lossy(status.value), "server parameter changed");
                }
                _ => {}
            }
            self.input.consume(length);
            if tag == b'Z' {
                return said.map_or(Ok(rows), |said| Err(Failure::Said(Box::new(said))));
            }
        }
    }
}

/// Answers one step of the server's demand for proof.
fn authenticate<'a>(
    step: &Authentication<'_>,
    login: &'a Login,
    scram: &mut Option<Scram<'a>>,
    answer: &mut Vec<u8>,
) -> Result<(), Failure> {
    let password = || login.password.as_deref().ok_or_else(|| Failure::NoPassword(login.user.clone()));
    match step {
        Authentication::Ok => {}
        Authentication::CleartextPassword => frontend::password(answer, password()?),
        Authentication::Md5Password { salt } => {
            frontend::password(answer, highwater_wire::md5::response(&login.user, password()?.as_bytes(), *salt));
        }
        Authentication::Sasl(mechanisms) if mechanisms.contains(scram::SCRAM_SHA_256) => {
            let secret = Secret::Password(password()?.as_bytes());
            let (client, first) = scram::Client::start(secret, &scram::nonce(&rand::random()), Binding::Unsupported);
            frontend::sasl_initial_response(answer, scram::SCRAM_SHA_256, &first);
            *scram = Some(Scram::Started(client));
        }
        Authentication::SaslContinue(data) => {
            let Some(Scram::Started(client)) = scram.take() else { return Err(Failure::Authentication) };
            let (proved, proof) = client.on_server_first(data)?;
            frontend::sasl_response(answer, &proof);
            *scram = Some(Scram::Proved(proved));
        }
        Authentication::SaslFinal(data) => {
            let Some(Scram::Proved(client)) = scram.take() else { return Err(Failure::Authentication) };
            client.on_server_final(data)?;
        }
        Authentication::Sasl(_) | Authentication::Other(_) => return Err(Failure::Authentication),
    }
    Ok(())
}

/// Where a SCRAM exchange stands.
enum Scram<'a> {
    Started(scram::Client<'a>),
    Proved(scram::ClientProved),
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
    columns: Vec<String>,
    cells: Vec<Vec<Option<String>>>,
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

    /// The columns' names, of the last statement that had rows.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }
}
