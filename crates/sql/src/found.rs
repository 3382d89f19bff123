//! What a walk over a parse tree gathers.

use crate::facts::{Class, Pin, TableName};
use crate::why::Why;

/// The findings of a statement, or of a whole message; they only ever get worse.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) class: Class,
    pub(crate) why: Why,
    pub(crate) pin: Option<Pin>,
    pub(crate) tables: Vec<TableName>,
    pub(crate) rerun_safe: bool,
    pub(crate) changes_catalog: bool,
    pub(crate) unknown_names: bool,
}

impl Found {
    pub(crate) fn new() -> Self {
        Self {
            class: Class::Empty,
            why: Why::Empty,
            pin: None,
            tables: Vec::new(),
            rerun_safe: true,
            changes_catalog: false,
            unknown_names: false,
        }
    }

    /// Notes a reason for at least `class`; the first reason for the worst class stays.
    pub(crate) fn note(&mut self, class: Class, why: Why) {
        self.rerun_safe &= class <= Class::Primary;
        if class > self.class {
            (self.class, self.why) = (class, why);
        }
    }

    /// Notes state that stays in the server connection; the first stays.
    pub(crate) fn pin(&mut self, pin: Pin) {
        self.pin = self.pin.or(Some(pin));
    }

    /// Notes a relation that the text names.
    pub(crate) fn table(&mut self, table: TableName) {
        if !self.tables.contains(&table) {
            self.tables.push(table);
        }
    }

    /// Takes over what another statement of the message has shown.
    pub(crate) fn merge(&mut self, other: Self) {
        self.note(other.class, other.why);
        self.pin = self.pin.or(other.pin);
        other.tables.into_iter().for_each(|table| self.table(table));
        self.rerun_safe &= other.rerun_safe;
        self.changes_catalog |= other.changes_catalog;
        self.unknown_names |= other.unknown_names;
    }
}
