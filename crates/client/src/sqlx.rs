//! Sessions on connections of sqlx, its pool's for example. It must not know of HTTP.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Error, Row as _};

use crate::any::{self, Driver, Errand};
use crate::session::Session;

/// A connection in the hands of one session.
pub type Entered<'a> = any::Entered<&'a mut PgConnection>;

/// Lends a connection to a session, as [`any::enter`] does.
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
    any::enter(connection, session, place).await
}

impl Driver for &mut PgConnection {
    type Connection = PgConnection;
    type Error = Error;

    fn connection(&mut self) -> &mut PgConnection {
        self
    }

    fn is_in_transaction(&mut self) -> bool {
        Connection::is_in_transaction(&**self)
    }

    async fn carry_out(&mut self, errand: Errand<'_>) -> Result<String, Error> {
        let rows = sqlx::raw_sql(AssertSqlSafe(errand.to_string())).fetch_all(&mut **self).await?;
        let value = rows.first().map(|row| row.try_get::<Option<String>, _>(0)).transpose()?;
        Ok(value.flatten().unwrap_or_default())
    }
}
