//! The prepared statements of one client, by the client's names.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use highwater_sql::Facts;
use highwater_wire::Offence;
use highwater_wire::frontend::{self, Kind, Parse};

use super::settings::Wishes;
use crate::pool::Statements;
use crate::prepared::Shared;

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

/// One client's prepared statements.
#[derive(Debug, Default)]
pub(crate) struct ClientStatements {
    pub(crate) named: HashMap<Box<[u8]>, Named>,
    pub(crate) unnamed: Unnamed,
    /// Names parsed in the unit under way whose ParseComplete has not come (`None` for the unnamed one): an error takes
    /// them back.
    unconfirmed: VecDeque<Option<Box<[u8]>>>,
    /// Names parsed in the unit under way that were taken already.
    pub(crate) taken: Vec<Box<[u8]>>,
    /// Portals of the unit under way that are DEALLOCATE, with the text.
    pub(crate) deallocating: Vec<(Box<[u8]>, String)>,
}

impl ClientStatements {
    /// A Parse of `name` is on its way. The server will refuse it if the name is taken.
    pub(crate) fn on_parse(&mut self, name: &[u8], statement: Named) {
        if self.named.contains_key(name) {
            self.taken.push(name.into());
            return;
        }
        self.named.insert(name.into(), statement);
        self.unconfirmed.push_back(Some(name.into()));
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
            self.named.clear();
            return true;
        }
        self.named.remove(deallocated(text).as_bytes()).is_some()
    }

    /// A Parse of the unnamed statement is on its way; `unnamed` holds it already.
    pub(crate) fn on_parse_unnamed(&mut self) {
        self.unconfirmed.push_back(None);
    }

    /// The client was told that the oldest of them succeeded.
    pub(crate) fn on_parsed(&mut self) {
        self.unconfirmed.pop_front();
    }

    /// Messages that give the server these statements by the client's names, in the place of those by its own.
    pub(crate) fn in_own_names(&self, held: &Statements, out: &mut Vec<u8>) -> Result<(), Offence> {
        held.names().for_each(|name| frontend::close(out, Kind::Statement, name));
        for (name, named) in &self.named {
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
        self.taken.clear();
        self.deallocating.clear();
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
