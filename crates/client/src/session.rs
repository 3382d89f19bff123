//! Whom consistency is promised to: a request, a job, a message. It must not know how positions travel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::level::Level;
use crate::position::Position;

/// What one request has seen and written. Its clones are the same session, for the tasks of one request.
///
/// ```
/// use highwater_client::{Level, Position, Session};
///
/// let stranger = Session::new(Position::default(), None);
/// assert_eq!(stranger.level("default"), None, "as Highwater is configured");
/// let known = Session::new(Position::read("default:AbsD5u"), None);
/// assert_eq!(known.level("default"), Some(Level::Session));
/// known.lose("default");
/// assert_eq!(known.level("default"), Some(Level::Strong));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Session(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    brought: Position,
    joined: Position,
    position: Position,
    otherwise: Option<Level>,
    key: Option<String>,
    has_written: bool,
    /// How many connections it is using now, by place. How far it comes on them is not known yet.
    in_use: BTreeMap<String, usize>,
}

impl Session {
    /// `brought` is what this one must see at least. Where it says nothing, reads see what `otherwise` promises; `None`: as
    /// Highwater is configured, which is `strong` unless somebody says otherwise.
    pub fn new(brought: Position, otherwise: Option<Level>) -> Self {
        let inner = Inner { position: brought.clone(), brought, otherwise, ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// From now on this is the session of `key` (a user, a device, an account) as far as the same Highwater process serves
    /// it, whatever device it comes by. `None`: of nobody.
    pub fn identify(&self, key: Option<&str>) {
        self.inner().key = key.map(str::to_owned);
    }

    /// Whose session it is, if somebody has said so.
    pub fn key(&self) -> Option<String> {
        self.inner().key.clone()
    }

    /// The level of reads at `place`; `None`: as Highwater is configured. One that has written sees that, also where
    /// `otherwise` promises less.
    pub fn level(&self, place: &str) -> Option<Level> {
        self.inner().level(place)
    }

    /// All that has been seen and written. What is done now on a connection that has not been finished with is lost in it.
    pub fn position(&self) -> Position {
        let inner = self.inner();
        let mut position = inner.position.clone();
        inner.in_use.keys().for_each(|place| position.lose(place));
        position
    }

    /// Whether it came with a position.
    pub fn has_begun(&self) -> bool {
        !self.inner().brought.is_empty()
    }

    /// Whether something was written, or may have been.
    pub fn has_written(&self) -> bool {
        self.inner().has_written
    }

    /// Something is written for it, by whatever way: its client gets a position. Connections of this crate say so
    /// themselves.
    pub fn note_write(&self) {
        self.inner().has_written = true;
    }

    /// Nobody knows how far it has come at `place`: its reads are strong from now on.
    pub fn lose(&self, place: &str) {
        self.inner().position.lose(place);
    }

    /// Takes in the position of another one, such as of a job that it has waited for.
    pub fn join(&self, other: &Position) {
        let mut inner = self.inner();
        inner.joined.join(other);
        inner.position.join(other);
    }

    /// A connection that had been told `included` has come to `token`.
    pub(crate) fn advance(&self, place: &str, token: &str, included: BTreeSet<String>) {
        self.inner().position.advance(place, token, included);
    }

    /// How far reads must see on one of its connections, and their level there.
    pub(crate) fn needs(&self, place: &str) -> Needs {
        let inner = self.inner();
        let level = inner.level(place);
        // What is done on the others has no position yet, and without all of its position it would be shown the past.
        let is_alone = inner.in_use.get(place).is_none_or(|count| *count <= 1);
        let is_by_position = matches!(level, None | Some(Level::Session));
        let level = if is_alone || !is_by_position { level } else { Some(Level::Strong) };
        Needs { key: inner.key.clone(), tokens: inner.position.tokens(place), level }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held, and what is in it is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn level(&self, place: &str) -> Option<Level> {
        match (self.position.is_lost(place), self.brought.knows(place) || self.joined.knows(place)) {
            (true, _) => Some(Level::Strong),
            (false, true) => Some(Level::Session),
            // Its own writes it is to see at once.
            (false, false) if self.has_written => self.otherwise.map(|level| level.max(Level::Session)),
            (false, false) => self.otherwise,
        }
    }
}

/// What a connection must have been told before it runs a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) key: Option<String>,
    pub(crate) tokens: BTreeSet<String>,
    pub(crate) level: Option<Level>,
}

/// One use of a connection by a session, which is noted as long as this lives.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) session: Session,
    pub(crate) place: String,
}

impl Use {
    pub(crate) fn begin(session: &Session, place: &str) -> Self {
        *session.inner().in_use.entry(place.to_owned()).or_default() += 1;
        Self { session: session.clone(), place: place.to_owned() }
    }

    /// The connection broke, or cannot say how far it has come. Whether something was written nobody knows either.
    pub(crate) fn lose(&self) {
        let mut inner = self.session.inner();
        inner.position.lose(&self.place);
        inner.has_written = true;
    }

    /// A connection to a server that reports nothing was used. A position that was brought says nothing of that; where there
    /// is none, none is wrong.
    pub(crate) fn pass_by(&self) {
        let is_known = self.session.inner().position.knows(&self.place);
        if is_known {
            self.lose();
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut inner = self.session.inner();
        let count = inner.in_use.get_mut(&self.place).map(|count| {
            *count -= 1;
            *count
        });
        if count == Some(0) {
            inner.in_use.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_on_another_connection_is_not_known() {
        let session = Session::new(Position::read("default:a"), None);
        let one = Use::begin(&session, "default");
        assert_eq!(session.needs("default").level, Some(Level::Session), "its own connection knows by itself");
        let other = Use::begin(&session, "default");
        assert_eq!(session.needs("default").level, Some(Level::Strong));
        drop(one);
        assert_eq!(session.position().to_string(), "default:.", "whoever is told now must not miss the rest");
        drop(other);
        assert_eq!(session.position().to_string(), "default:a");
    }

    #[test]
    fn a_looser_level_ends_with_the_first_write() {
        let session = Session::new(Position::default(), Some(Level::Bounded));
        assert_eq!(session.level("default"), Some(Level::Bounded));
        session.note_write();
        assert_eq!(session.level("default"), Some(Level::Session));
        let strong = Session::new(Position::default(), Some(Level::Strong));
        strong.note_write();
        assert_eq!(strong.level("default"), Some(Level::Strong));
    }

    #[test]
    fn a_level_that_asks_for_less_is_left_alone() {
        let session = Session::new(Position::default(), Some(Level::Eventual));
        let _uses = [Use::begin(&session, "default"), Use::begin(&session, "default")];
        assert_eq!(session.needs("default").level, Some(Level::Eventual));
    }
}
