//! Sessions on connections of diesel, its pools' for example. It must not know of HTTP.

use diesel::connection::{LoadConnection, TransactionManager as _};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Nullable, Text};
use diesel::{Connection, QueryResult, RunQueryDsl as _};

use crate::any::{Blocking, Errand, blocking};
use crate::session::Session;

/// Lends a connection to a session, as [`any::enter`](crate::any::enter) does: around `transaction()`, not within it.
///
/// ```no_run
/// use diesel::prelude::*;
///
/// # fn example(connection: &mut PgConnection, session: &highwater_client::Session) -> QueryResult<()> {
/// let mut entered = highwater_client::diesel::enter(connection, session, "default")?;
/// diesel::sql_query("INSERT INTO wish (thing) VALUES ('lightsaber')").execute(entered.connection()?)?;
/// entered.finish();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the connection.
pub fn enter<'a, C>(connection: &'a mut C, session: &Session, place: &str) -> QueryResult<blocking::Entered<'a, C>>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    blocking::enter(connection, session, place)
}

impl<C> Blocking for C
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    type Error = diesel::result::Error;

    fn is_in_transaction(&mut self) -> bool {
        let status = C::TransactionManager::transaction_manager_status_mut(self);
        !matches!(status.transaction_depth(), Ok(None))
    }

    fn carry_out(&mut self, errand: Errand<'_>) -> QueryResult<String> {
        if let Some(first) = errand.first {
            self.batch_execute(first)?;
        }
        let value = match errand.question {
            Some(question) => sql::<Nullable<Text>>(question).get_result(self)?,
            None => None,
        };
        if let Some(last) = errand.last {
            self.batch_execute(last)?;
        }
        Ok(value.unwrap_or_default())
    }
}
