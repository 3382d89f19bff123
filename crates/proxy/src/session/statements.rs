//! The prepared statements of one client, by the client's names.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use highwater_sql::Facts;
use highwater_wire::Offence;
use highwater_wire::frontend::{self, Kind, Parse};
use memchr::memmem;

use super::settings::Wishes;
use crate::pool::Statements;
use crate::prepared::{Reading, Registry, Shared};

/// Wishes in a statement's comments.
pub(crate) type Hinted = Option<Arc<Wishes>>;

/// What a client knows under a name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) shared: Arc<Shared>,
    pub(crate) facts: Arc<Facts>,
    /// The catalogue by which `facts` were found.
    pub(crate) generation: u64,
    /// The wishes in its comments.
    pub(crate) hints: Hinted,
    /// Which of all of the process: later ones have larger numbers.
    serial: u64,
}

/// The unnamed statement: its Parse message as the client sent it.
#[derive(Debug, Default)]
pub(crate) struct Unnamed {
    pub(crate) parse: Vec<u8>,
    pub(crate) facts: Option<Arc<Facts>>,
    pub(crate) hints: Hinted,
    /// Which of all unnamed statements of the process it is.
    pub(crate) serial: u64,
}

/// What a Parse that the client has sent will define, when its turn comes.
#[derive(Debug)]
pub(crate) struct Coming {
    pub(crate) name: Box<[u8]>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) hints: Hinted,
    pub(crate) generation: u64,
    pub(crate) serial: u64,
}

/// A statement of which the client has asked what it yields.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) name: Box<[u8]>,
    pub(crate) shared: Arc<Shared>,
}

/// One client's prepared statements.
#[derive(Debug, Default)]
pub(crate) struct ClientStatements {
    named: HashMap<Box<[u8]>, Named>,
    pub(crate) unnamed: Unnamed,
    /// The Parses of the unit under way, and how many of them have been carried out.
    coming: Vec<Coming>,
    carried_out: usize,
    /// What names meant before the unit changed it, oldest first: a unit that runs again begins from there.
    changed: Vec<(Box<[u8]>, Option<Named>)>,
    /// Names parsed in the unit under way whose ParseComplete has not come (`None` for the unnamed one): an error takes
    /// them back.
    unconfirmed: VecDeque<Option<Box<[u8]>>>,
    /// Statements that the client has asked the server about in the unit under way, oldest first; `None` for those without
    /// a name that is known here.
    pub(crate) described: VecDeque<Option<Asked>>,
    /// Numbers of those that yield something else than the client was told.
    stale: Vec<u64>,
    /// Portals of the unit under way that are DEALLOCATE, with the text.
    pub(crate) deallocating: Vec<(Box<[u8]>, String)>,
}

impl ClientStatements {
    /// The client has sent a Parse; [`ClientStatements::on_parse`] follows when its turn comes.
    pub(crate) fn expect(&mut self, coming: Coming) {
        self.coming.push(coming);
    }

    /// What a statement of this name will be when all that was sent has been carried out: for planning.
    pub(crate) fn expected(&self, name: &[u8]) -> Option<&Coming> {
        self.coming[self.carried_out..].iter().rev().find(|coming| *coming.name == *name)
    }

    /// The next Parse is carried out. `false` if its name is taken: the server will refuse it.
    pub(crate) fn on_parse(&mut self, message: &[u8], registry: &Registry, settings: &[u8]) -> bool {
        let Some(coming) = self.coming.get(self.carried_out) else { return true };
        self.carried_out += 1;
        if coming.name.is_empty() {
            self.unnamed.parse.clear();
            self.unnamed.parse.extend_from_slice(message);
            self.unnamed.facts = Some(Arc::clone(&coming.facts));
            self.unnamed.hints = coming.hints.clone();
            self.unnamed.serial = coming.serial;
            self.unconfirmed.push_back(None);
            return true;
        }
        if self.named.contains_key(&coming.name) {
            return false;
        }
        // The body with an empty name begins at the name's own terminating zero.
        let nameless = &message[5 + coming.name.len()..];
        let reading = Reading { settings, generation: coming.generation };
        let shared = registry.of(nameless, reading, coming.serial);
        let facts = Arc::clone(&coming.facts);
        let (generation, hints, serial) = (coming.generation, coming.hints.clone(), coming.serial);
        let named = Named { shared, facts, generation, hints, serial };
        let name = coming.name.clone();
        self.unconfirmed.push_back(Some(name.clone()));
        self.change(name, Some(named));
        true
    }

    fn change(&mut self, name: Box<[u8]>, to: Option<Named>) -> bool {
        let before = match to {
            Some(named) => self.named.insert(name.clone(), named),
            None => self.named.remove(&name),
        };
        let was_there = before.is_some();
        self.changed.push((name, before));
        was_there
    }

    /// The unit runs again, from its beginning.
    pub(crate) fn on_retry(&mut self) {
        while let Some((name, before)) = self.changed.pop() {
            match before {
                Some(named) => drop(self.named.insert(name, named)),
                None => drop(self.named.remove(&name)),
            }
        }
        self.carried_out = 0;
        self.unconfirmed.clear();
        self.described.clear();
        self.deallocating.clear();
    }

    /// The statements by their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Named)> {
        self.named.iter().map(|(name, named)| (&**name, named))
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Named> {
        self.named.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Named> {
        self.named.get_mut(name)
    }

    /// A statement by its name, read by these settings from now on; `id` numbers it if it is new so.
    pub(crate) fn reread(
        &mut self,
        name: &[u8],
        registry: &Registry,
        settings: &[u8],
        id: impl FnOnce() -> u64,
    ) -> Option<Arc<Shared>> {
        let named = self.named.get_mut(name)?;
        named.shared = registry.reread(&named.shared, settings, id);
        Some(Arc::clone(&named.shared))
    }

    /// Forgets a statement; whether it was there.
    pub(crate) fn close(&mut self, name: &[u8]) -> bool {
        self.named.contains_key(name) && self.change(name.into(), None)
    }

    /// Forgets all of them.
    pub(crate) fn close_all(&mut self) {
        let names: Vec<_> = self.named.keys().cloned().collect();
        for name in names {
            self.change(name, None);
        }
    }

    /// Whether there is none, not even an unnamed one.
    pub(crate) fn is_empty(&self) -> bool {
        self.named.is_empty() && self.unnamed.facts.is_none()
    }

    /// What is known of a statement by its name; the unnamed one has none.
    pub(crate) fn facts(&self, name: &[u8]) -> Option<&Arc<Facts>> {
        if name.is_empty() { self.unnamed.facts.as_ref() } else { self.named.get(name).map(|named| &named.facts) }
    }

    /// The text of a statement.
    pub(crate) fn text(&self, name: &[u8]) -> Option<&[u8]> {
        let parse = if name.is_empty() { self.unnamed.parse.get(5..)? } else { &*self.named.get(name)?.shared.parse };
        Parse::read(parse).ok().map(|parse| parse.text)
    }

    /// Forgets what DEALLOCATE names; whether it was there.
    pub(crate) fn deallocate(&mut self, text: &str, all: bool) -> bool {
        if all {
            self.close_all();
            return true;
        }
        self.close(deallocated(text).as_bytes())
    }

    /// The client was told that the oldest of them succeeded.
    pub(crate) fn on_parsed(&mut self) {
        self.unconfirmed.pop_front();
    }

    /// Messages that give the server these statements by the client's names, in the place of those by its own.
    pub(crate) fn in_own_names(&self, held: &Statements, out: &mut Vec<u8>) -> Result<(), Offence> {
        held.names().for_each(|name| frontend::close(out, Kind::Statement, name));
        let mut in_order: Vec<_> = self.named.iter().collect();
        in_order.sort_by_key(|(_, named)| named.serial);
        for (name, named) in in_order {
            frontend::parse_with_name(out, &named.shared.parse, name)?;
        }
        frontend::sync(out);
        Ok(())
    }

    /// Messages that take them back.
    pub(crate) fn out_of_own_names(&self, out: &mut Vec<u8>) {
        self.named.keys().for_each(|name| frontend::close(out, Kind::Statement, name));
        frontend::sync(out);
    }

    /// The unit ended; what was not confirmed by then does not exist.
    pub(crate) fn on_unit_end(&mut self) {
        while let Some(parsed) = self.unconfirmed.pop_front() {
            match parsed {
                Some(name) => drop(self.named.remove(&name)),
                None => self.unnamed.facts = None,
            }
        }
        self.coming.clear();
        self.carried_out = 0;
        self.changed.clear();
        self.described.clear();
        self.deallocating.clear();
    }

    /// Whether none has a name.
    pub(crate) fn has_no_names(&self) -> bool {
        self.named.is_empty()
    }

    /// The statement yields something else than the client was told. What is not held any more is forgotten here, too.
    pub(crate) fn on_stale(&mut self, id: u64) {
        let named = &self.named;
        self.stale.retain(|stale| named.values().any(|named| named.shared.id == *stale));
        self.stale.push(id);
    }

    /// Whether servers must not get the statement any more.
    pub(crate) fn is_stale(&self, id: u64) -> bool {
        self.stale.contains(&id)
    }

    /// Whether a message names such a statement, as servers know it; in which quotes is a matter of their language.
    pub(crate) fn names_stale(&self, message: &[u8]) -> bool {
        self.stale.iter().any(|id| {
            let name = format!("hw_{id}");
            let end = memmem::find(message, name.as_bytes()).map(|start| start + name.len());
            end.is_some_and(|end| !message.get(end).is_some_and(u8::is_ascii_digit))
        })
    }
}

/// The name behind DEALLOCATE, in the server's spelling.
pub(crate) fn deallocated(text: &str) -> String {
    let last = text.trim_end().trim_end_matches(';').split_whitespace().last().unwrap_or_default();
    match last.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => last.to_ascii_lowercase(),
    }
}
