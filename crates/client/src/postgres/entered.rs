//! One use of a connection by a session.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement, ToStatement};

use super::Connection;
use crate::session::Use;

/// A connection in the hands of one session.
///
/// Before each statement the connection is told what the session has come to see elsewhere meanwhile. The session is
/// advanced by [`finish`](Self::finish). Without that, by what has been reported already when this is dropped; where that is
/// not all, the session has lost its position, and its reads are strong. A transaction may then still be open: whoever enters
/// the connection next has it rolled back first, in a round trip of its own.
///
/// Transactions must be over by then. `RESET ALL`, `DISCARD ALL` and the settings of Highwater named `session`, `token` and
/// `report` are nobody else's to say.
pub struct Entered<'a> {
    connection: &'a mut Connection,
    used: Use,
    /// The position when it began.
    began: Option<String>,
    has_run: bool,
    /// Something has run whose end nobody has heard, and which may have written.
    is_in_doubt: bool,
    /// Somebody has used the client himself.
    is_by_hand: bool,
}

impl<'a> Entered<'a> {
    pub(super) fn new(connection: &'a mut Connection, used: Use) -> Self {
        let began = connection.reported();
        Self { connection, used, began, has_run: false, is_in_doubt: false, is_by_hand: false }
    }

    /// [`Client::query`]. Whether it has written is known from where it ran.
    ///
    /// # Errors
    /// Those of the client; and so for all that run a statement.
    pub async fn query<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error>
    where
        T: ?Sized + ToStatement,
    {
        let doubt = self.begin().await?;
        let rows = self.connection.client.query(statement, params).await;
        self.hear(rows, doubt)
    }

    /// [`Client::query_one`].
    pub async fn query_one<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Row, Error>
    where
        T: ?Sized + ToStatement,
    {
        let doubt = self.begin().await?;
        let row = self.connection.client.query_one(statement, params).await;
        self.hear(row, doubt)
    }

    /// [`Client::query_opt`].
    pub async fn query_opt<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error>
    where
        T: ?Sized + ToStatement,
    {
        let doubt = self.begin().await?;
        let row = self.connection.client.query_opt(statement, params).await;
        self.hear(row, doubt)
    }

    /// [`Client::execute`]; how many rows it has changed.
    pub async fn execute<T>(&mut self, statement: &T, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Error>
    where
        T: ?Sized + ToStatement,
    {
        let doubt = self.begin().await?;
        let count = self.connection.client.execute(statement, params).await;
        self.hear(count, doubt)
    }

    /// [`Client::prepare`]. The statement is good on this connection as long as that lives.
    pub async fn prepare(&mut self, query: &str) -> Result<Statement, Error> {
        self.connection.client.prepare(query).await
    }

    /// The client itself, for transactions, COPY, statements sent at once, and code that wants one. Nobody hears each of its
    /// statements, so all of it counts as a write.
    pub async fn client(&mut self) -> Result<&mut Client, Error> {
        if self.connection.leads_to_highwater == Some(true) {
            // Now, so that what is read behind it sees it, by the same borrow also.
            self.used.session.note_write();
        }
        self.begin().await?;
        self.is_by_hand = true;
        Ok(&mut self.connection.client)
    }

    /// The client itself for what only reads, by the word of whoever calls this: it gives nobody a cookie.
    pub async fn client_to_read(&mut self) -> Result<&mut Client, Error> {
        self.is_in_doubt = self.begin().await?;
        self.is_by_hand = true;
        Ok(&mut self.connection.client)
    }

    /// Finds out how far the session has come. That is a round trip to Highwater only where it has not been reported, as
    /// behind a read on a standby. A connection that broke, or cannot say, makes the session lose its position.
    pub async fn finish(mut self) {
        self.measure().await;
    }

    /// Has the connection told what it must have heard before a statement, which is in doubt until it is answered; whether
    /// something has been before.
    async fn begin(&mut self) -> Result<bool, Error> {
        if self.connection.leads_to_highwater == Some(false) {
            self.used.pass_by();
            return Ok(false);
        }
        match &self.connection.told {
            // Nobody knows what it was told last time, and so whose reports these are.
            None => self.used.lose(),
            // It is about to become somebody else's.
            Some(told) if !told.holds_key() => self.measure().await,
            Some(_) => {}
        }
        if self.is_in_doubt {
            // Nobody has heard the last one, which may have written: what is read now is to see it.
            self.used.session.note_write();
        }
        self.connection.tell(&self.used.session).await?;
        self.has_run = true;
        Ok(std::mem::replace(&mut self.is_in_doubt, true))
    }

    /// Notes what a statement did. Behind an error nothing is reported yet: that comes with the end of the answer.
    fn hear<R>(&mut self, answer: Result<R, Error>, doubt: bool) -> Result<R, Error> {
        if answer.is_ok() {
            self.is_in_doubt = doubt;
            if self.connection.last_may_have_written() {
                self.used.session.note_write();
            }
        }
        answer
    }

    async fn measure(&mut self) {
        if !self.has_run {
            return;
        }
        let reported = self.connection.reported().filter(|_| self.is_heard());
        let token = match reported {
            Some(token) => Some(token),
            None => self.connection.ask().await,
        };
        self.settle(token);
    }

    /// Whether all that has run has been answered, so that what is reported includes it.
    fn is_heard(&self) -> bool {
        !self.is_in_doubt && !self.is_by_hand
    }

    fn settle(&mut self, token: Option<String>) {
        if self.is_in_doubt && token != self.began {
            self.used.session.note_write();
        }
        match (&token, &mut self.connection.told) {
            (Some(token), Some(told)) => told.come_to(&self.used.place, token),
            _ if self.is_in_doubt => self.used.lose(),
            _ => self.used.session.lose(&self.used.place),
        }
        if self.is_by_hand {
            // Somebody may have said RESET ALL.
            self.connection.told = None;
        }
        if token.is_none() {
            self.leave();
        }
        self.began = token;
        (self.has_run, self.is_in_doubt, self.is_by_hand) = (false, false, false);
    }

    /// There may be a transaction that is still open, or has failed.
    fn leave(&mut self) {
        (self.connection.is_left, self.connection.told) = (true, None);
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if !self.has_run {
            return;
        }
        let reported = self.connection.reported().filter(|_| self.is_heard());
        self.settle(reported);
        self.leave();
    }
}
