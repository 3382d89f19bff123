//! What is outstanding on one server connection: which reply comes next, whose it is, and when the connection
//! may be given to somebody else.
//!
//! Requests stand in one queue in the order in which the server reads them; its replies come in the same order.
//! The proxy may put requests of its own among the client's (their replies are swallowed), and may leave out
//! client requests and answer them itself (a [`Synthetic`] reply, given when its turn comes).
//!
//! ```text
//!             on_frontend, on_skipped                 on_backend
//!   client ------------------------> [ queue ] <------------------- server
//!                                        | front
//!                    take_due <----------+----------> Verdict::Forward or Swallow
//! ```
//!
//! Between two ReadyForQuery lies a unit:
//!
//! ```text
//!             any reply                 error in the extended protocol, no Sync sent yet
//!   Closed -------------> Open -----------------------------------------> Discarding
//!     ^                    | ReadyForQuery          ^   Sync sent             |
//!     +--------------------+                        +-------------------------+
//! ```
//!
//! After an error in the extended protocol the server reads on to the next Sync and answers nothing in between,
//! simple queries included (`ignore_till_sync` in postgres.c). While it reads COPY data it ignores Sync and Flush
//! (`CopyGetData` in copyfromparse.c), so that a Sync sent in that time is answered only if COPY failed before the
//! server came to it. No reply says which; such a Sync is *doubtful* until a later reply settles the question. A request
//! behind it is discarded in the one case and run in the other, so that its replies cannot be attributed: an offence.
//!
//! Must not know message bodies (but the status byte), sockets, or why the proxy does what it does.

use crate::{Offence, TransactionStatus, backend};
use std::collections::VecDeque;

/// From so many requests without a reply on, [`Tracker::room`] asks the caller to stop reading the client.
/// The server always drains such a queue: it sends its replies whenever 8 KiB of them have gathered.
pub const OUTSTANDING_SOFT_LIMIT: usize = 65_536;

/// Beyond so many the caller has not listened: an offence. The slack holds one buffer's worth of requests.
pub const OUTSTANDING_LIMIT: usize = 2 * OUTSTANDING_SOFT_LIMIT;

/// Capacity that an idle connection keeps, in requests; a burst's memory is given back.
const IDLE_CAPACITY: usize = 1024;

/// Who asked, and so who gets the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// The client: replies are forwarded.
    Client,
    /// The proxy: replies are swallowed.
    Proxy,
}

/// A reply that the proxy gives itself, at its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Synthetic {
    /// To a Parse that was not sent.
    ParseComplete,
    /// To a Bind that was not sent.
    BindComplete,
    /// To a Close that was not sent.
    CloseComplete,
    /// To a Describe that was not sent.
    NoData,
    /// To an Execute or a simple statement that was not sent: its tag.
    CommandComplete(&'static str),
    /// To an empty statement that was not sent.
    EmptyQueryResponse,
    /// The end of a simple Query that was not sent. (A Sync is always sent: it ends the server's unit too.)
    ReadyForQuery,
}

impl Synthetic {
    /// Appends the message; `status` is the [`Tracker::status`] at this moment.
    pub fn encode(self, out: &mut Vec<u8>, status: TransactionStatus) {
        match self {
            Synthetic::ParseComplete => backend::parse_complete(out),
            Synthetic::BindComplete => backend::bind_complete(out),
            Synthetic::CloseComplete => backend::close_complete(out),
            Synthetic::NoData => backend::no_data(out),
            Synthetic::CommandComplete(tag) => backend::command_complete(out, tag),
            Synthetic::EmptyQueryResponse => backend::empty_query_response(out),
            Synthetic::ReadyForQuery => backend::ready_for_query(out, status),
        }
    }
}

/// What to do with a message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is the client's.
    Forward,
    /// It is the proxy's.
    Swallow,
}

impl From<Audience> for Verdict {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Client => Verdict::Forward,
            Audience::Proxy => Verdict::Swallow,
        }
    }
}

/// Whether COPY data flows, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyState {
    /// No COPY.
    None,
    /// The server reads data.
    In,
    /// The client has said CopyDone or CopyFail, the server has not answered it yet.
    InEnded,
    /// The server sends data.
    Out,
    /// Both: streaming replication.
    Both,
}

/// A request, by its type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Request {
    Query = b'Q',
    Function = b'F',
    Parse = b'P',
    Bind = b'B',
    Describe = b'D',
    Execute = b'E',
    Close = b'C',
    Sync = b'S',
    /// CopyDone or CopyFail sent before COPY was seen to begin. Has no reply of its own.
    CopyEnd = b'c',
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Asked { request: Request, audience: Audience },
    Skipped(Synthetic),
}

/// What has been seen since the last ReadyForQuery; the diagram is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Closed,
    Open,
    Discarding,
}

/// The bookkeeping of one server connection, from its first ReadyForQuery on.
#[derive(Debug)]
pub struct Tracker {
    queue: VecDeque<Item>,
    due: VecDeque<Synthetic>,
    /// How many items of `queue` are not simply the client's.
    foreign: usize,
    /// Syncs that the server may have ignored as part of COPY data, or may yet answer.
    doubtful: usize,
    copy: CopyState,
    unit: Unit,
    status: TransactionStatus,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::new()
    }
}

impl Tracker {
    /// The tracker of a server connection that has just said its first ReadyForQuery.
    pub fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            due: VecDeque::new(),
            foreign: 0,
            doubtful: 0,
            copy: CopyState::None,
            unit: Unit::Closed,
            status: TransactionStatus::Idle,
        }
    }

    /// What the last ReadyForQuery said.
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    /// Whether nothing is outstanding: every request answered, the last unit ended by a ReadyForQuery, no COPY,
    /// no doubtful Sync. The connection may still be in a transaction block: see [`status`](Self::status).
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.due.is_empty() && self.doubtful == 0 && self.unit == Unit::Closed
    }

    /// Whether everything that comes is the client's, in the order in which the server sends it.
    #[inline]
    pub fn only_client(&self) -> bool {
        self.foreign == 0 && self.due.is_empty() && self.doubtful == 0
    }

    /// Whether what the server works on now is the proxy's own.
    #[inline]
    pub fn serves_proxy(&self) -> bool {
        matches!(self.queue.front(), Some(Item::Asked { audience: Audience::Proxy, .. }))
    }

    /// Whether the server has failed in this unit, and ignores all that comes before its Sync.
    pub fn is_discarding(&self) -> bool {
        self.unit == Unit::Discarding
    }

    /// How many more of the client's requests may be sent before some are answered. Each may cost one of the proxy's own.
    #[inline]
    pub fn room(&self) -> usize {
        OUTSTANDING_SOFT_LIMIT.saturating_sub(self.len()) / 2
    }

    /// How many ReadyForQuery are certain to come.
    pub fn outstanding_syncs(&self) -> usize {
        let ends_unit = |item: &&Item| {
            matches!(item, Item::Asked { request: Request::Query | Request::Function | Request::Sync, .. })
        };
        self.queue.iter().filter(ends_unit).count()
    }

    /// How many Syncs the server may or may not answer, since they crossed a failing COPY. While this is not zero
    /// the connection is not idle. Any later reply settles it; to force one, send an empty Query as
    /// [`Audience::Proxy`].
    pub fn doubtful_syncs(&self) -> usize {
        self.doubtful
    }

    /// Whether the server says no ReadyForQuery before another Sync is sent: the unit's own went with the data of a COPY.
    pub fn awaits_sync(&self) -> bool {
        self.unit != Unit::Closed && self.copy != CopyState::In && self.outstanding_syncs() == 0
    }

    /// Whether all has been answered but for Syncs that may never be: an empty Query of the proxy's settles it.
    pub fn awaits_settling(&self) -> bool {
        self.doubtful > 0 && self.unit == Unit::Closed && self.queue.is_empty() && self.due.is_empty()
    }

    /// Whether COPY data flows.
    pub fn copy(&self) -> CopyState {
        self.copy
    }

    /// A message of type `tag` was sent to the server.
    ///
    /// # Errors
    /// A type that has no place after login; a request other than Sync while a simple COPY reads data, or behind a doubtful
    /// Sync of a COPY that failed; more than [`OUTSTANDING_LIMIT`] requests.
    #[inline]
    pub fn on_frontend(&mut self, tag: u8, audience: Audience) -> Result<(), Offence> {
        let request = match tag {
            b'Q' => Request::Query,
            b'P' => Request::Parse,
            b'B' => Request::Bind,
            b'D' => Request::Describe,
            b'E' => Request::Execute,
            b'C' => Request::Close,
            b'S' => Request::Sync,
            b'F' => Request::Function,
            b'c' | b'f' => Request::CopyEnd,
            b'd' | b'H' | b'X' => return Ok(()),
            _ => return Err(Offence::Unexpected { tag }),
        };
        match self.copy {
            CopyState::In if request == Request::Sync => self.doubtful += 1,
            CopyState::In if request == Request::CopyEnd => self.copy = CopyState::InEnded,
            CopyState::In => return self.on_request_during_copy(request, audience),
            CopyState::Both if request == Request::CopyEnd => (),
            _ => return self.push(Item::Asked { request, audience }),
        }
        Ok(())
    }

    /// The server answers a request among COPY data with an error. In the extended protocol that discards up to the
    /// next Sync whether COPY had failed before or not; in the simple one the two cases differ.
    fn on_request_during_copy(&mut self, request: Request, audience: Audience) -> Result<(), Offence> {
        if !self.front_is(Request::Execute) {
            return Err(Offence::RequestDuringCopy { tag: request as u8 });
        }
        self.copy = CopyState::InEnded;
        self.push(Item::Asked { request, audience })
    }

    /// A client request was not sent; `reply` is due when everything before it has been answered.
    ///
    /// # Errors
    /// More than [`OUTSTANDING_LIMIT`] requests.
    pub fn on_skipped(&mut self, reply: Synthetic) -> Result<(), Offence> {
        self.push(Item::Skipped(reply))
    }

    /// The next synthetic reply whose turn has come. To be asked after each `on_skipped`, and after each
    /// `on_backend` once its message is forwarded, until it says `None`.
    #[inline]
    pub fn take_due(&mut self) -> Option<Synthetic> {
        self.due.pop_front()
    }

    /// The server sent one complete message. Of the bodies only ReadyForQuery's is looked at.
    ///
    /// Notices, parameter statuses and notifications are always forwarded: they answer no request. An error is
    /// forwarded unless it ends a unit of the proxy's own: an error in a request that the proxy put into a client's
    /// unit discards the rest of that unit, so the client must be told.
    ///
    /// # Errors
    /// A message that nothing outstanding calls for, or the failure of a COPY whose doubtful Sync has requests behind it:
    /// what the connection says can no longer be attributed.
    #[inline]
    pub fn on_backend(&mut self, tag: u8, body: &[u8]) -> Result<Verdict, Offence> {
        match tag {
            b'N' | b'S' | b'A' => Ok(Verdict::Forward),
            b'Z' => self.on_ready(backend::ReadyForQuery::read(body)?.status),
            b'E' => self.on_error(),
            _ => self.on_reply(tag),
        }
    }

    fn on_reply(&mut self, tag: u8) -> Result<Verdict, Offence> {
        let unexpected = Offence::Unexpected { tag };
        let Some(&Item::Asked { request, audience }) = self.queue.front() else { return Err(unexpected) };
        let is_last = is_last_reply(request, tag).ok_or(unexpected)?;
        self.unit = Unit::Open;
        self.doubtful = 0;
        match tag {
            b'G' => self.on_copy_in()?,
            b'H' => self.copy = CopyState::Out,
            b'W' => self.copy = CopyState::Both,
            b'd' | b'c' if !matches!(self.copy, CopyState::Out | CopyState::Both) => return Err(unexpected),
            b'C' => self.copy = CopyState::None,
            b'c' if self.copy == CopyState::Out => self.copy = CopyState::None,
            _ => (),
        }
        if is_last {
            self.remove(0);
            self.settle();
        }
        Ok(audience.into())
    }

    /// The server begins to read COPY data: what was sent behind the COPY already is read as part of it.
    fn on_copy_in(&mut self) -> Result<(), Offence> {
        self.copy = CopyState::In;
        let mut next = 1;
        while let Some(&item) = self.queue.get(next) {
            match item {
                Item::Skipped(_) => next += 1,
                Item::Asked { request: Request::Sync, .. } => {
                    self.remove(next);
                    self.doubtful += 1;
                }
                Item::Asked { request: Request::CopyEnd, .. } => {
                    self.remove(next);
                    self.copy = CopyState::InEnded;
                    break;
                }
                Item::Asked { .. } if self.front_is(Request::Execute) => {
                    self.copy = CopyState::InEnded;
                    break;
                }
                Item::Asked { request, .. } => return Err(Offence::RequestDuringCopy { tag: request as u8 }),
            }
        }
        Ok(())
    }

    fn on_ready(&mut self, status: TransactionStatus) -> Result<Verdict, Offence> {
        let verdict = match self.queue.front() {
            Some(&Item::Asked { request: Request::Sync, audience }) => {
                self.remove(0);
                audience.into()
            }
            // Neither ends without a word before it: such a ReadyForQuery is a doubtful Sync's.
            Some(&Item::Asked { request: Request::Query | Request::Function, audience }) if self.unit == Unit::Open => {
                self.remove(0);
                audience.into()
            }
            _ if self.doubtful > 0 => {
                self.doubtful -= 1;
                // While discarding, the client still waits for the end of its unit, and this is it.
                if self.unit == Unit::Discarding { Verdict::Forward } else { Verdict::Swallow }
            }
            _ => return Err(Offence::Unexpected { tag: b'Z' }),
        };
        self.status = status;
        self.unit = Unit::Closed;
        self.copy = CopyState::None;
        self.settle();
        if self.queue.is_empty() && self.queue.capacity() > IDLE_CAPACITY {
            self.queue.shrink_to(IDLE_CAPACITY);
        }
        Ok(verdict)
    }

    fn on_error(&mut self) -> Result<Verdict, Offence> {
        // With nothing outstanding it is the server's last word (shutdown, time-out): the client must hear it.
        let Some(&Item::Asked { request, audience }) = self.queue.front() else { return Ok(Verdict::Forward) };
        let in_copy = matches!(self.copy, CopyState::In | CopyState::InEnded);
        if request != Request::Sync && !in_copy {
            self.doubtful = 0;
        }
        self.copy = CopyState::None;
        self.unit = Unit::Open;
        if matches!(request, Request::Query | Request::Function | Request::Sync) {
            return Ok(audience.into());
        }
        self.remove(0);
        Ok(match (self.discard_to_sync()?, audience) {
            (Some(Audience::Proxy), Audience::Proxy) => Verdict::Swallow,
            _ => Verdict::Forward,
        })
    }

    /// Forgets everything before the next Sync, as the server does; says whose that Sync is.
    fn discard_to_sync(&mut self) -> Result<Option<Audience>, Offence> {
        while let Some(&item) = self.queue.front() {
            match item {
                Item::Asked { request: Request::Sync, audience } => return Ok(Some(audience)),
                Item::Asked { request, .. } => self.discard(request)?,
                Item::Skipped(_) => (),
            }
            self.remove(0);
        }
        self.unit = Unit::Discarding;
        Ok(None)
    }

    /// A request is taken for discarded. With a doubtful Sync before it, it may as well be run.
    fn discard(&self, request: Request) -> Result<(), Offence> {
        match request {
            Request::CopyEnd => Ok(()),
            _ if self.doubtful == 0 => Ok(()),
            _ => Err(Offence::RequestDuringCopy { tag: request as u8 }),
        }
    }

    fn front_is(&self, wanted: Request) -> bool {
        matches!(self.queue.front(), Some(Item::Asked { request, .. }) if *request == wanted)
    }

    fn len(&self) -> usize {
        self.queue.len() + self.due.len() + self.doubtful
    }

    fn push(&mut self, item: Item) -> Result<(), Offence> {
        if self.unit == Unit::Discarding {
            match item {
                Item::Asked { request: Request::Sync, .. } => self.unit = Unit::Open,
                Item::Asked { request, .. } => return self.discard(request),
                Item::Skipped(_) => return Ok(()),
            }
        }
        if self.len() >= OUTSTANDING_LIMIT {
            return Err(Offence::TooManyOutstanding);
        }
        self.foreign += usize::from(is_foreign(item));
        self.queue.push_back(item);
        self.settle();
        Ok(())
    }

    fn remove(&mut self, at: usize) {
        if let Some(item) = self.queue.remove(at) {
            self.foreign -= usize::from(is_foreign(item));
        }
    }

    /// Moves on to the next request that the server answers.
    fn settle(&mut self) {
        while let Some(&item) = self.queue.front() {
            match item {
                Item::Skipped(reply) => self.due.push_back(reply),
                // The server ignores the end of a COPY that did not begin or has failed.
                Item::Asked { request: Request::CopyEnd, .. } => (),
                Item::Asked { .. } => return,
            }
            self.remove(0);
        }
    }
}

fn is_foreign(item: Item) -> bool {
    matches!(item, Item::Skipped(_) | Item::Asked { audience: Audience::Proxy, .. })
}

/// Whether `tag` is the last reply to `request`; `None` if it is no reply to it at all. Simple queries and function
/// calls end with a ReadyForQuery, which is not asked for here.
fn is_last_reply(request: Request, tag: u8) -> Option<bool> {
    match (request, tag) {
        (Request::Parse, b'1') | (Request::Bind, b'2') | (Request::Close, b'3') => Some(true),
        (Request::Describe, b'T' | b'n') | (Request::Execute, b'C' | b'I' | b's') => Some(true),
        (Request::Describe, b't') | (Request::Function, b'V') => Some(false),
        (Request::Execute, b'D' | b'G' | b'H' | b'W' | b'd' | b'c') => Some(false),
        (Request::Query, b'T' | b'D' | b'C' | b'I' | b'G' | b'H' | b'W' | b'd' | b'c') => Some(false),
        _ => None,
    }
}
