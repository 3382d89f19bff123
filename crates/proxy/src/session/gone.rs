//! Clients that go while a unit of theirs waits or runs: by the end of the stream, a reset, or a write that failed.
//!
//! ```text
//!   There ---goes---> Gone ---would be missed by nobody, or client_gone_timeout---> cancelled, again and again
//!     |                 |                                                             |
//!     +-----------------+------------------ the unit ends ---------------------------+
//! ```
//!
//! PostgreSQL looks at its client between statements only. Here somebody else waits for the server connection, so that
//! what nobody would miss ends at once: reads, and what belongs to a transaction that will be rolled back. A write by
//! itself goes on, since a client may send it and go, and so does what has more behind it; but not for ever.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use highwater_sql::Class;
use highwater_wire::frame;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::checkout::{Checkout, Wanted};
use super::exchange::{Answer, Broken, READ_AHEAD_BYTES};
use super::plan::Plan;
use super::{Client, Transaction, Trouble};
use crate::error::{Complaint, End};
use crate::net::{Buffer, Stream};
use crate::signals::{REPEAT_AFTER, REPEATS_MAX};

/// How often a client is looked at that has sent more than is read ahead: behind that, its end is not to be read.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Whether there is still somebody to answer.
#[derive(Debug, Default)]
pub(super) enum Asker {
    #[default]
    There,
    /// When the unit is cancelled next, if ever, and how often it was.
    Gone { cancel_at: Option<Instant>, cancelled: u32 },
}

impl Asker {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Returns when the unit is to be cancelled.
    pub(super) async fn when_over(&self) {
        match self {
            Self::Gone { cancel_at: Some(at), .. } => sleep_until(*at).await,
            _ => pending().await,
        }
    }
}

impl Client {
    /// Whether nothing of the unit lasts without its client: it only reads, or is part of a transaction that it does not end.
    fn leaves_nothing(&self, plan: &Plan) -> bool {
        let in_transaction = self.transaction != Transaction::Idle || plan.begins.is_some();
        if in_transaction { !plan.ends } else { plan.class <= Class::Read }
    }

    /// Whether the client has sent another unit behind this one, before it went.
    pub(super) fn has_sent_more(&self) -> bool {
        asks(&self.input.filled()[self.used..])
    }

    /// The client has gone under the unit.
    pub(super) fn on_gone(&self, plan: &Plan, answer: &mut Answer) {
        let limit = self.proxy.config.client_gone_timeout.0;
        let now = Instant::now();
        let cancel_at = match self.leaves_nothing(plan) && !self.has_sent_more() {
            true => Some(now),
            false => (!limit.is_zero()).then(|| now + limit),
        };
        answer.asker = Asker::Gone { cancel_at, cancelled: 0 };
    }

    /// Cancels what runs for a client that is gone. A server forgets a request that comes before the statement, so it is
    /// repeated. The connection goes to nobody else before the last one is done.
    pub(super) fn give_up(&self, checkout: &mut Checkout, answer: &mut Answer) -> Result<(), Broken> {
        let Asker::Gone { cancel_at, cancelled } = &mut answer.asker else { return Ok(()) };
        if *cancelled == REPEATS_MAX {
            return Err(Broken::Client(End::Closed));
        }
        *cancelled += 1;
        *cancel_at = Some(Instant::now() + REPEAT_AFTER);
        let request = checkout.server().connection.cancel.begin();
        tokio::spawn(request.send(self.proxy.config.connect_timeout.0));
        Ok(())
    }

    /// A server connection for the unit, which has run `round` times in vain, unless it is cancelled while it waits, or its
    /// client goes and would not miss it.
    pub(super) async fn checkout_while_asked(
        &mut self,
        wanted: Wanted,
        plan: &Plan,
        round: u32,
    ) -> Result<Checkout, Trouble> {
        let info = Arc::clone(self.info.info());
        let used = self.used;
        let (checkout, prevented) = loop {
            // What it says meanwhile is read on the side.
            let mut input = std::mem::replace(&mut self.input, Buffer::new(0));
            let done = tokio::select! {
                biased;
                checkout = self.checkout(wanted) => checkout.map_err(Trouble::from),
                () = info.signals.cancelled() => Err(self.cancelled().into()),
                () = went(&self.stream, &mut input, used), if self.leaves_nothing(plan) => Err(End::Closed.into()),
            };
            self.input = input;
            match done {
                Err(Trouble::Complaint(Complaint::Lost(loss))) => self.tell_loss(loss)?,
                done => break done?,
            }
        };
        self.note_route(&checkout, prevented, round);
        Ok(checkout)
    }
}

/// Whether bytes behind a unit begin another one.
fn asks(behind: &[u8]) -> bool {
    frame::header(behind).is_ok_and(|next| next.is_some_and(|header| header.tag != b'X'))
}

/// Returns when the client has gone and has sent nothing behind the unit, which takes the first `used` bytes of its input.
/// Reads ahead what it says, no further than is read ahead of answers.
async fn went(stream: &Stream, input: &mut Buffer, used: usize) {
    while input.filled().len() < used + READ_AHEAD_BYTES {
        if stream.readable().await.is_err() || matches!(input.read_some(stream), Ok(Some(0)) | Err(_)) {
            if !asks(&input.filled()[used..]) {
                return;
            }
            break;
        }
    }
    pending().await
}

/// Returns when the client has gone that has said more than anybody has read.
pub(super) async fn overtaken(stream: &Stream) {
    loop {
        sleep(LOOK_AFTER).await;
        if stream.has_ended().await {
            return;
        }
    }
}

impl Checkout {
    /// Closes the connection of a client that went in the middle of a unit. What runs is cancelled: a server looks at its
    /// client only between statements. The place in the pool is free when the server has closed, too.
    pub(super) fn abandon(mut self, limit: Duration) {
        tokio::spawn(timeout(REPEAT_AFTER * REPEATS_MAX, async move {
            let connection = &mut self.server().connection;
            if connection.stream.finish().await.is_err() {
                return;
            }
            while timeout(REPEAT_AFTER, connection.until_closed()).await.is_err() {
                connection.cancel.begin().send(limit).await;
            }
        }));
    }
}
