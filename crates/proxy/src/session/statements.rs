//! The prepared statements of one client, by the client's names.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use highwater_sql::Facts;

use super::settings::Wishes;
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
}

impl ClientStatements {
    /// A Parse of `name` is on its way.
    pub(crate) fn on_parse(&mut self, name: &[u8], statement: Named) {
        self.named.insert(name.into(), statement);
        self.unconfirmed.push_back(Some(name.into()));
    }

    /// A Parse of the unnamed statement is on its way; `unnamed` holds it already.
    pub(crate) fn on_parse_unnamed(&mut self) {
        self.unconfirmed.push_back(None);
    }

    /// The client was told that the oldest of them succeeded.
    pub(crate) fn on_parsed(&mut self) {
        self.unconfirmed.pop_front();
    }

    /// The unit ended; what was not confirmed by then does not exist.
    pub(crate) fn on_unit_end(&mut self) {
        while let Some(parsed) = self.unconfirmed.pop_front() {
            match parsed {
                Some(name) => drop(self.named.remove(&name)),
                None => self.unnamed.facts = None,
            }
        }
    }
}
