//! Sessions on connections of any driver. It must know neither of HTTP nor of any driver.
//!
//! Most drivers keep what a server reports to themselves, so that Highwater is asked instead. That is two round trips to it
//! when a connection is entered, and one to finish, where a driver takes several statements at once; three and two where it
//! does not. Plain PostgreSQL keeps nothing of that.
//!
//! No pooler that hands out connections by the transaction may stand in between: what is said here would stay with strangers.
//!
//! A driver that waits for the server is a [`Driver`], one that blocks a [`Blocking`]. This makes one of diesel-async, whose
//! pools lend connections of tokio-postgres:
//!
//! ```no_run
//! use diesel::{QueryResult, dsl::sql, sql_types::{Nullable, Text}};
//! use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager as _};
//! use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
//! use highwater_client::{Session, any::{self, Driver, Errand}};
//!
//! struct Diesel<'a>(&'a mut AsyncPgConnection);
//!
//! impl Driver for Diesel<'_> {
//!     type Connection = AsyncPgConnection;
//!     type Error = diesel::result::Error;
//!
//!     fn connection(&mut self) -> &mut AsyncPgConnection {
//!         self.0
//!     }
//!
//!     fn is_in_transaction(&mut self) -> bool {
//!         let status = AnsiTransactionManager::transaction_manager_status_mut(self.0);
//!         !matches!(status.transaction_depth(), Ok(None))
//!     }
//!
//!     async fn carry_out(&mut self, errand: Errand<'_>) -> QueryResult<String> {
//!         if let Some(first) = errand.first {
//!             self.0.batch_execute(first).await?;
//!         }
//!         let value = match errand.question {
//!             Some(question) => sql::<Nullable<Text>>(question).get_result(self.0).await?,
//!             None => None,
//!         };
//!         if let Some(last) = errand.last {
//!             self.0.batch_execute(last).await?;
//!         }
//!         Ok(value.unwrap_or_default())
//!     }
//! }
//!
//! async fn add(connection: &mut AsyncPgConnection, session: &Session) -> QueryResult<()> {
//!     let mut entered = any::enter(Diesel(connection), session, "default").await?;
//!     let insert = sql::<Text>("INSERT INTO wish (thing) VALUES ('lightsaber')");
//!     insert.execute(entered.connection().await?).await?;
//!     entered.finish().await;
//!     Ok(())
//! }
//! ```

pub mod blocking;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;

use crate::session::{Session, Use};
use crate::told::Told;

pub use blocking::Blocking;

/// Nothing that is said here is anybody's any more.
const LEAVE: &str = "SET highwater.session = ''; SET highwater.consistency TO DEFAULT";

/// What a connection must run: statements without parameters, in this order. `first` and `last` may be
/// more than one. Its text is all of it, for drivers that take several statements at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errand<'a> {
    /// Yields no rows.
    pub first: Option<&'a str>,
    /// Yields one row with one text.
    pub question: Option<&'a str>,
    /// Yields no rows.
    pub last: Option<&'a str>,
}

impl fmt::Display for Errand<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = [self.first, self.question, self.last].into_iter().flatten().collect();
        to.write_str(&parts.join("; "))
    }
}

/// A connection, lent by whoever owns it, whose driver does not block.
pub trait Driver {
    /// What statements run on.
    type Connection: ?Sized;
    /// What the driver says when something fails.
    type Error: Send;

    /// What statements run on.
    fn connection(&mut self) -> &mut Self::Connection;

    /// Whether a transaction is open, as far as the driver knows. Then nobody knows yet what the session will have written, and
    /// its position is lost.
    fn is_in_transaction(&mut self) -> bool;

    /// Runs the statements, and returns what the question yields; an empty text for NULL, and where there is no question.
    ///
    /// # Errors
    /// Those of the connection. What stands behind a statement that failed need not run.
    fn carry_out(&mut self, errand: Errand<'_>) -> impl Future<Output = Result<String, Self::Error>> + Send;
}

/// Lends a connection to a session: tells it whose it is, how far its reads must see, and their level. `place` is the name
/// under which positions of this Highwater travel: the alias of the database in the settings of the Django site, `default`
/// mostly. No transaction is open.
///
/// # Errors
/// Those of the connection.
pub async fn enter<D: Driver>(mut driver: D, session: &Session, place: &str) -> Result<Entered<D>, D::Error> {
    let used = Use::begin(session, place);
    // By itself: behind a pooler, what else is said would stay on a connection that strangers share. Highwater has a level
    // by default; plain PostgreSQL a setting that is empty.
    let (first, question) = (Some("SET highwater.consistency TO DEFAULT"), Some("SHOW highwater.consistency"));
    let level = driver.carry_out(Errand { first, question, last: None }).await?;
    let mut entered =
        Entered { driver, used, told: None, leads_to_highwater: !level.is_empty(), has_run: HasRun::Nothing };
    entered.tell().await?;
    Ok(entered)
}

/// A connection in the hands of one session.
///
/// The session is advanced by [`finish`](Self::finish), which also leaves the connection as it was. Without that the
/// session has lost its position, and its reads are strong; and the connection is its own until the next one enters it.
///
/// Transactions must be over by then: within one that the driver knows of, the position is lost, and one that was begun by
/// hand makes it a wrong one. `RESET ALL`, `DISCARD ALL` and the settings of Highwater named `session` and `token` are
/// nobody else's to say.
pub struct Entered<D: Driver> {
    driver: D,
    used: Use,
    told: Option<Told>,
    leads_to_highwater: bool,
    has_run: HasRun,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum HasRun {
    Nothing,
    Reads,
    Anything,
}

impl<D: Driver> Entered<D> {
    /// The connection for any statements, which count as a write. To be asked for anew for each: it is told then what the
    /// session has come to see elsewhere meanwhile.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn connection(&mut self) -> Result<&mut D::Connection, D::Error> {
        self.lend(HasRun::Anything).await
    }

    /// The connection for what only reads, by the word of whoever calls this: it gives nobody a cookie.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn connection_to_read(&mut self) -> Result<&mut D::Connection, D::Error> {
        self.lend(HasRun::Reads).await
    }

    /// Finds out how far the session has come, which may take a probe of Highwater's. A connection that broke, or cannot say,
    /// makes the session lose its position.
    pub async fn finish(mut self) {
        if self.leads_to_highwater {
            self.measure(Some(LEAVE)).await;
        }
    }

    async fn lend(&mut self, what: HasRun) -> Result<&mut D::Connection, D::Error> {
        if !self.leads_to_highwater {
            self.used.pass_by();
            return Ok(self.driver.connection());
        }
        match &self.told {
            // Nobody knows what it was told last time, and so whose position it would be.
            None => self.used.lose(),
            // It is about to become somebody else's.
            Some(told) if !told.holds_key() => self.measure(None).await,
            Some(_) => {}
        }
        if what == HasRun::Anything {
            // Now, so that what is read behind it sees it, by the same borrow also.
            self.used.session.note_write();
        }
        self.tell().await?;
        self.has_run = self.has_run.max(what);
        Ok(self.driver.connection())
    }

    async fn tell(&mut self) -> Result<(), D::Error> {
        if !self.leads_to_highwater {
            return Ok(());
        }
        // If this ends in between, nobody knows what has been heard.
        let before = self.told.take();
        let (texts, told) = Told::next(before.as_ref(), &self.used.session, &self.used.place);
        if !texts.is_empty() {
            self.driver.carry_out(Errand { first: Some(&texts.join("; ")), ..Errand::default() }).await?;
        }
        self.told = Some(told);
        Ok(())
    }

    /// Takes over the position after everything that has run, and says what is to be said then.
    async fn measure(&mut self, last: Option<&'static str>) {
        // Where it cannot say, that is no token, and the position is lost.
        let question = (!self.driver.is_in_transaction()).then_some("SHOW highwater.token");
        let asked = self.driver.carry_out(Errand { first: None, question, last }).await;
        if asked.is_err() && last.is_some() {
            // What stood behind the error was not heard. If this is not either, the connection is broken.
            drop(self.driver.carry_out(Errand { last, ..Errand::default() }).await);
        }
        let token = asked.unwrap_or_default();
        if std::mem::replace(&mut self.has_run, HasRun::Nothing) == HasRun::Nothing {
            return;
        }
        match &mut self.told {
            Some(told) => told.come_to(&self.used.place, &token),
            None => self.used.lose(),
        }
    }
}

impl<D: Driver> Drop for Entered<D> {
    fn drop(&mut self) {
        match self.has_run {
            HasRun::Nothing => {}
            HasRun::Reads => self.used.session.lose(&self.used.place),
            HasRun::Anything => self.used.lose(),
        }
    }
}
