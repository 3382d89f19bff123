//! Sessions on connections whose driver blocks.

use std::future::{self, Future};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Driver, Errand};
use crate::session::Session;

/// A connection whose driver blocks until it has been answered.
pub trait Blocking {
    /// What the driver says when something fails.
    type Error: Send;

    /// Whether a transaction is open, as far as the driver knows.
    fn is_in_transaction(&mut self) -> bool;

    /// Runs the statements, and returns what the question yields; an empty text for NULL, and where there is no question.
    ///
    /// # Errors
    /// Those of the connection. What stands behind a statement that failed need not run.
    fn carry_out(&mut self, errand: Errand<'_>) -> Result<String, Self::Error>;
}

/// Lends a connection to a session, as [`any::enter`](super::enter) does.
///
/// # Errors
/// Those of the connection.
pub fn enter<'a, B: Blocking>(
    connection: &'a mut B,
    session: &Session,
    place: &str,
) -> Result<Entered<'a, B>, B::Error> {
    at_once(super::enter(AtOnce(connection), session, place)).map(Entered)
}

/// A connection in the hands of one session, as [`any::Entered`](super::Entered) is.
pub struct Entered<'a, B: Blocking>(super::Entered<AtOnce<'a, B>>);

impl<B: Blocking> Entered<'_, B> {
    /// The connection for any statements, which count as a write. To be asked for anew for each.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn connection(&mut self) -> Result<&mut B, B::Error> {
        at_once(self.0.connection())
    }

    /// The connection for what only reads, by the word of whoever calls this: it gives nobody a cookie.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn connection_to_read(&mut self) -> Result<&mut B, B::Error> {
        at_once(self.0.connection_to_read())
    }

    /// Finds out how far the session has come, and leaves the connection as it was.
    pub fn finish(self) {
        at_once(self.0.finish());
    }
}

/// A driver of the other kind that never waits.
struct AtOnce<'a, B>(&'a mut B);

impl<B: Blocking> Driver for AtOnce<'_, B> {
    type Connection = B;
    type Error = B::Error;

    fn connection(&mut self) -> &mut B {
        self.0
    }

    fn is_in_transaction(&mut self) -> bool {
        self.0.is_in_transaction()
    }

    fn carry_out(&mut self, errand: Errand<'_>) -> impl Future<Output = Result<String, B::Error>> + Send {
        future::ready(self.0.carry_out(errand))
    }
}

/// What there is nothing to wait for in.
fn at_once<T>(what: impl Future<Output = T>) -> T {
    match pin!(what).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("it waits for its driver only, which has answered"),
    }
}
