//! What a walk over a parse tree gathers.

use std::collections::HashSet;
use std::hash::Hash;

use crate::facts::{Class, Pin, TableName, Touch};
use crate::why::Why;

/// The findings of a statement, or of a whole message; they only ever get worse.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) class: Class,
    pub(crate) why: Why,
    pub(crate) pin: Option<Pin>,
    pub(crate) tables: InOrder<TableName>,
    pub(crate) rerun_safe: bool,
    pub(crate) changes_catalog: bool,
    pub(crate) unknown_names: bool,
    pub(crate) hangs_on_transaction: bool,
    pub(crate) touches: InOrder<Touch>,
    pub(crate) may_unpin: bool,
}

/// Different things in the order in which they came first. A text may name very many: each is looked up, not compared with
/// all others.
#[derive(Clone, Debug)]
pub(crate) struct InOrder<T> {
    known: HashSet<T>,
    list: Vec<T>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), list: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> InOrder<T> {
    pub(crate) fn add(&mut self, one: T) {
        if !self.known.contains(&one) {
            self.known.insert(one.clone());
            self.list.push(one);
        }
    }

    pub(crate) fn into_inner(self) -> Vec<T> {
        self.list
    }
}

impl Found {
    pub(crate) fn new() -> Self {
        Self {
            class: Class::Empty,
            why: Why::Empty,
            pin: None,
            tables: InOrder::default(),
            rerun_safe: true,
            changes_catalog: false,
            unknown_names: false,
            hangs_on_transaction: false,
            touches: InOrder::default(),
            may_unpin: false,
        }
    }

    /// Notes a reason for at least `class`; the first reason for the worst class stays.
    pub(crate) fn note(&mut self, class: Class, why: Why) {
        self.rerun_safe &= class <= Class::Primary;
        if class > self.class {
            (self.class, self.why) = (class, why);
        }
    }

    /// Notes state that stays in the server connection; of several the one that stays longest, and of those the first.
    pub(crate) fn pin(&mut self, pin: Pin) {
        self.pin = self.pin.into_iter().chain([pin]).min_by_key(|pin| (!pin.outlasts_discard(), pin.can_be_asked()));
    }

    /// Notes a change of a setting of the server connection.
    pub(crate) fn touch(&mut self, touch: Touch) {
        self.touches.add(touch);
    }

    /// Notes a relation that the text names.
    pub(crate) fn table(&mut self, table: TableName) {
        self.tables.add(table);
    }

    /// Takes over what another statement of the message has shown.
    pub(crate) fn merge(&mut self, other: Self) {
        self.note(other.class, other.why);
        other.pin.into_iter().for_each(|pin| self.pin(pin));
        other.tables.into_inner().into_iter().for_each(|table| self.table(table));
        self.rerun_safe &= other.rerun_safe;
        self.changes_catalog |= other.changes_catalog;
        self.unknown_names |= other.unknown_names;
        self.hangs_on_transaction |= other.hangs_on_transaction;
        other.touches.into_inner().into_iter().for_each(|touch| self.touch(touch));
        self.may_unpin |= other.may_unpin;
    }
}
