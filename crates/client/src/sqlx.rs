//! Sessions on connections of sqlx, its pool's for example. It must not know of HTTP.
//!
//! sqlx keeps what a server reports to itself, so that Highwater is asked instead: two round trips to it when a connection is
//! entered, and one to finish. Plain PostgreSQL keeps nothing of that.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Error, Row as _};

use crate::session::{Session, Use};
use crate::told::Told;

/// Nothing that is said here is anybody's any more.
const LEAVE: &str = "SET highwater.session = ''; SET highwater.consistency TO DEFAULT";

/// Lends a connection to a session: tells it whose it is, how far its reads must see, and their level. `place` is the name
/// under which positions of this Highwater travel: the alias of the database in the settings of the Django site, `default`
/// mostly.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool, session: highwater_client::Session) -> Result<(), sqlx::Error> {
/// let mut connection = pool.acquire().await?;
/// let mut entered = highwater_client::sqlx::enter(&mut connection, &session, "default").await?;
/// let wish = sqlx::query("INSERT INTO wish (thing) VALUES ($1)").bind("lightsaber");
/// wish.execute(entered.connection().await?).await?;
/// entered.finish().await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the connection.
pub async fn enter<'a>(connection: &'a mut PgConnection, session: &Session, place: &str) -> Result<Entered<'a>, Error> {
    let used = Use::begin(session, place);
    // By itself: behind a pooler, what else is said would stay on a connection that strangers share. Highwater has a level
    // by default; plain PostgreSQL a setting that is empty.
    let level = ask(connection, "SET highwater.consistency TO DEFAULT; SHOW highwater.consistency").await?;
    let mut entered =
        Entered { connection, used, told: None, leads_to_highwater: !level.is_empty(), has_run: HasRun::Nothing };
    entered.tell().await?;
    Ok(entered)
}

/// A connection in the hands of one session.
///
/// The session is advanced by [`finish`](Self::finish), which also leaves the connection as it was. Without that the
/// session has lost its position, and its reads are strong; and the connection is its own until the next one enters it.
///
/// Transactions must be over by then. `RESET ALL`, `DISCARD ALL` and the settings of Highwater named `session` and `token` are
/// nobody else's to say.
pub struct Entered<'a> {
    connection: &'a mut PgConnection,
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

impl Entered<'_> {
    /// The connection for any statements, which count as a write. To be asked for anew for each: it is told then what the
    /// session has come to see elsewhere meanwhile.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        self.lend(HasRun::Anything).await
    }

    /// The connection for what only reads, by the word of whoever calls this: it gives nobody a cookie.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn connection_to_read(&mut self) -> Result<&mut PgConnection, Error> {
        self.lend(HasRun::Reads).await
    }

    /// Finds out how far the session has come, which may take a probe of Highwater's. A connection that broke, or cannot say,
    /// makes the session lose its position.
    pub async fn finish(mut self) {
        if self.leads_to_highwater {
            self.measure(LEAVE).await;
        }
    }

    async fn lend(&mut self, what: HasRun) -> Result<&mut PgConnection, Error> {
        if !self.leads_to_highwater {
            self.used.pass_by();
            return Ok(self.connection);
        }
        match &self.told {
            // Nobody knows what it was told last time, and so whose position it would be.
            None => self.used.lose(),
            // It is about to become somebody else's.
            Some(told) if !told.holds_key() => self.measure("").await,
            Some(_) => {}
        }
        self.tell().await?;
        self.has_run = self.has_run.max(what);
        if what == HasRun::Anything {
            // Now, so that what is read behind it sees it.
            self.used.session.note_write();
        }
        Ok(self.connection)
    }

    async fn tell(&mut self) -> Result<(), Error> {
        if !self.leads_to_highwater {
            return Ok(());
        }
        // If this ends in between, nobody knows what has been heard.
        let before = self.told.take();
        let (texts, told) = Told::next(before.as_ref(), &self.used.session, &self.used.place);
        if !texts.is_empty() {
            sqlx::raw_sql(AssertSqlSafe(texts.join("; "))).execute(&mut *self.connection).await?;
        }
        self.told = Some(told);
        Ok(())
    }

    /// Takes over the position after everything that has run, and says what is to be said then.
    async fn measure(&mut self, last: &'static str) {
        // Where it cannot say, that is no token, and the position is lost.
        let asked = ask(self.connection, &format!("SHOW highwater.token; {last}")).await;
        if asked.is_err() && !last.is_empty() {
            // What stood behind the error was not heard. If this is not either, the connection is broken.
            drop(sqlx::raw_sql(last).execute(&mut *self.connection).await);
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

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        match self.has_run {
            HasRun::Nothing => {}
            HasRun::Reads => self.used.session.lose(&self.used.place),
            HasRun::Anything => self.used.lose(),
        }
    }
}

/// The text of the first value that these statements yield.
async fn ask(connection: &mut PgConnection, statements: &str) -> Result<String, Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(connection).await?;
    let value = rows.first().map(|row| row.try_get::<Option<String>, _>(0)).transpose()?;
    Ok(value.flatten().unwrap_or_default())
}
