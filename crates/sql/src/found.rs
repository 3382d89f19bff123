//! What a walk over a parse tree gathers.

use std::collections::HashSet;

use crate::facts::{Class, Pin, TableName};
use crate::why::Why;

/// The findings of a statement, or of a whole message; they only ever get worse.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) class: Class,
    pub(crate) why: Why,
    pub(crate) pin: Option<Pin>,
    pub(crate) tables: Tables,
    pub(crate) rerun_safe: bool,
    pub(crate) changes_catalog: bool,
    pub(crate) unknown_names: bool,
}

/// Relations in the order in which they were named first. A text may name very many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    known: HashSet<TableName>,
    in_order: Vec<TableName>,
}

impl Tables {
    pub(crate) fn add(&mut self, table: TableName) {
        if !self.known.contains(&table) {
            self.known.insert(table.clone());
            self.in_order.push(table);
        }
    }

    pub(crate) fn into_inner(self) -> Vec<TableName> {
        self.in_order
    }
}

impl Found {
    pub(crate) fn new() -> Self {
        Self {
            class: Class::Empty,
            why: Why::Empty,
            pin: None,
            tables: Tables::default(),
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
        self.tables.add(table);
    }

    /// Takes over what another statement of the message has shown.
    pub(crate) fn merge(&mut self, other: Self) {
        self.note(other.class, other.why);
        self.pin = self.pin.or(other.pin);
        other.tables.into_inner().into_iter().for_each(|table| self.table(table));
        self.rerun_safe &= other.rerun_safe;
        self.changes_catalog |= other.changes_catalog;
        self.unknown_names |= other.unknown_names;
    }
}
