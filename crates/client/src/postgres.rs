//! Sessions on connections of tokio-postgres. It must not know of HTTP.
//!
//! Highwater reports with every answer how far the connection has come and where the statement ran
//! (`highwater.report = known`), so that most uses cost one round trip to it, in which the connection is told whose it is,
//! and those of the same session none. Plain PostgreSQL keeps the first two settings and does nothing, and nothing else is
//! said to it.

mod entered;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::DbError;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Error, SimpleQueryMessage, Socket};

use crate::session::{Session, Use};
use crate::told::Told;

pub use entered::Entered;

/// Nobody reads thousands, and a server may send as many.
const NOTICES_MAX: usize = 50;

/// A connection that knows what it has been told, for one session after the other.
///
/// Pools keep this in the place of a [`Client`].
///
/// ```no_run
/// # async fn example() -> Result<(), tokio_postgres::Error> {
/// use highwater_client::{Position, Session, postgres::Connection};
/// use tokio_postgres::NoTls;
///
/// let config = "host=127.0.0.1 port=6432 user=app password=app dbname=shop".parse()?;
/// let mut connection = Connection::connect(&config, NoTls, "default").await?;
///
/// let session = Session::new(Position::read("default:AbsD5u"), None);
/// let mut entered = connection.enter(&session).await?;
/// entered.execute("INSERT INTO wish (thing) VALUES ($1)", &[&"lightsaber"]).await?;
/// entered.finish().await;
/// println!("what comes behind it must see {}", session.position());
/// # Ok(())
/// # }
/// ```
pub struct Connection {
    client: Client,
    heard: Arc<dyn Heard>,
    place: String,
    /// `None`: nobody has asked yet whether Highwater is at the other end.
    leads_to_highwater: Option<bool>,
    /// `None`: nobody knows what holds.
    told: Option<Told>,
    /// Whether its last session has not finished with it: it may have left a transaction open.
    is_left: bool,
}

impl Connection {
    /// Connects, and keeps the connection going in a task of its own. `place` is the name under which positions of this
    /// Highwater travel: the alias of the database in the settings of the Django site, `default` mostly.
    ///
    /// # Errors
    /// Those of [`Config::connect`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect<T>(config: &Config, tls: T, place: &str) -> Result<Self, Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = config.connect(tls).await?;
        let link = Arc::new(Mutex::new(Link { connection: Some(connection), notices: VecDeque::new() }));
        let driven = Arc::clone(&link);
        tokio::spawn(poll_fn(move |context| locked(&driven).poll(context)));
        Ok(Self { client, heard: link, place: place.to_owned(), leads_to_highwater: None, told: None, is_left: false })
    }

    /// Lends the connection to a session: tells it whose it is, how far its reads must see, and their level, where that
    /// differs from what it was told last.
    ///
    /// # Errors
    /// Those of the connection. It is then not known what it has been told: the next session tells it everything.
    pub async fn enter(&mut self, session: &Session) -> Result<Entered<'_>, Error> {
        let used = Use::begin(session, &self.place);
        if self.is_left {
            // What is said within a transaction is undone with it.
            self.client.batch_execute("ROLLBACK").await?;
            self.is_left = false;
        }
        self.tell(session).await?;
        Ok(Entered::new(self, used))
    }

    /// Whether it has ended, and belongs in no pool.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// What the server has told aside since this was asked last, the last fifty at most. After a failover that lost
    /// something of a session, Highwater tells it so by a warning.
    pub fn take_notices(&self) -> Vec<DbError> {
        self.heard.take_notices()
    }

    async fn tell(&mut self, session: &Session) -> Result<(), Error> {
        if self.leads_to_highwater.is_none() {
            // By itself: behind a pooler, what else is said would stay on a connection that strangers share.
            self.client.batch_execute("SET highwater.report = 'known'; SET highwater.session = ''").await?;
            // When the session changes, Highwater reports a position, if only an empty one; a plain server nothing.
            self.leads_to_highwater = Some(self.heard.parameter("highwater.token").is_some());
        }
        if self.leads_to_highwater == Some(false) {
            return Ok(());
        }
        // If this ends in between, nobody knows what has been heard.
        let before = self.told.take();
        let (mut texts, told) = Told::next(before.as_ref(), session, &self.place);
        if before.is_none() {
            // Somebody may have said RESET ALL.
            texts.insert(0, "SET highwater.report = 'known'".to_owned());
        }
        if !texts.is_empty() {
            self.client.batch_execute(&texts.join("; ")).await?;
        }
        self.told = Some(told);
        Ok(())
    }

    /// The position that was reported last. `None`: it has to be asked for.
    fn reported(&self) -> Option<String> {
        self.heard.parameter("highwater.token").filter(|token| !token.is_empty())
    }

    /// Whether the last statement ran where one runs that writes, or that may; also if nobody says.
    fn last_may_have_written(&self) -> bool {
        let is_write = |route: String| matches!(route.split(' ').nth(1), Some("write" | "must_run_on_primary"));
        self.leads_to_highwater == Some(true) && self.heard.parameter("highwater.last_route").is_none_or(is_write)
    }

    /// The position after everything that was sent, which may take a probe of Highwater's; empty if that cannot say. `None`: the
    /// connection is broken.
    async fn ask(&self) -> Option<String> {
        let messages = self.client.simple_query("SHOW highwater.token").await.ok()?;
        messages.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }
}

/// The part of a connection that a task of its own drives, and that knows what the server has reported.
struct Link<S, T> {
    /// `None`: it has ended. Dropping it tells whoever waits for an answer.
    connection: Option<tokio_postgres::Connection<S, T>>,
    notices: VecDeque<DbError>,
}

impl<S, T> Link<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Goes on until nothing more can be read or written; ready when the connection has ended. Why it has, the statement
    /// under way is told.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(connection) = &mut self.connection {
            match ready!(connection.poll_message(context)) {
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    if self.notices.len() == NOTICES_MAX {
                        self.notices.pop_front();
                    }
                    self.notices.push_back(notice);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => self.connection = None,
            }
        }
        Poll::Ready(())
    }
}

/// What a connection has heard, whatever it runs over.
trait Heard: Send + Sync {
    /// `None` also where the connection has ended.
    fn parameter(&self, name: &str) -> Option<String>;
    fn take_notices(&self) -> Vec<DbError>;
}

impl<S, T> Heard for Mutex<Link<S, T>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// The connection is locked while it reads. So whoever has got an answer gets what was reported in front of its end.
    fn parameter(&self, name: &str) -> Option<String> {
        locked(self).connection.as_ref()?.parameter(name).map(str::to_owned)
    }

    fn take_notices(&self) -> Vec<DbError> {
        locked(self).notices.drain(..).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What has panicked while it was held answers no more, and is then taken for lost.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
