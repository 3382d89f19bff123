//! What runs again elsewhere, unseen: units that a standby refused, cancelled or died under, while nothing of their answer
//! has been shown.

use std::time::Instant;

use highwater_core::{Role, Scope, ServerSet, Unit as CoreUnit};
use highwater_sql::Class;
use highwater_wire::SqlState;
use highwater_wire::backend::ErrorResponse;
use highwater_wire::frame;
use highwater_wire::frontend::{Bind, Parse, Query};

use super::checkout::{Checkout, Wanted};
use super::plan::Plan;
use super::preceding::behind_settings;
use super::unit::Unit;
use super::{Client, Transaction};
use crate::server::Failure;

/// Why a unit must run elsewhere.
#[derive(Debug)]
pub(super) enum Correction {
    /// A standby will not run it: it is a write, or something only a primary does.
    NotOnStandby,
    /// A standby will not run anything: the role's or the database's transactions are serializable.
    NothingOnStandby,
    /// The standby cancelled it in favour of replay, or shut down, or does not have the object yet.
    Elsewhere { primary: bool },
    /// The connection died.
    Lost(Failure),
}

impl Client {
    /// Whether the unit could run again somewhere else: a read on a standby that began no transaction visible to the client.
    pub(super) fn correctable(&self, checkout: &Checkout, plan: &Plan) -> bool {
        checkout.role() == Role::Standby && self.scope == Scope::Any && plan.class == Class::Read
    }

    /// What the next try asks for.
    pub(super) fn correct(&mut self, unit: &Unit, wanted: &mut Wanted, correction: Correction, checkout: Checkout) {
        let id = checkout.id();
        match correction {
            Correction::NotOnStandby => {
                self.proxy.stats.corrections.add(1);
                self.learn_refusal(unit);
                *wanted = Wanted { unit: CoreUnit::PrimaryRead, ..*wanted };
            }
            Correction::NothingOnStandby => *wanted = Wanted { unit: CoreUnit::PrimaryRead, ..*wanted },
            Correction::Elsewhere { primary } => {
                self.proxy.stats.retries.add(1);
                // What one standby must replay the next one must too: where nothing is replayed, nothing is cancelled.
                let again = wanted.excluded != ServerSet::EMPTY;
                wanted.excluded = wanted.excluded.with(id);
                if primary || again {
                    wanted.unit = CoreUnit::PrimaryRead;
                }
            }
            Correction::Lost(ref failure) => {
                tracing::debug!(server = id.0, %failure, "a read runs again elsewhere");
                self.proxy.stats.retries.add(1);
                wanted.excluded = wanted.excluded.with(id);
            }
        }
        if matches!(self.transaction, Transaction::Leading { .. }) {
            self.leave_standby();
            *wanted = Wanted { unit: CoreUnit::PrimaryRead, ..*wanted };
        }
        if !matches!(correction, Correction::Lost(_)) {
            checkout.release(false);
        }
    }

    /// What an error of a standby is answered with, unless too many have been of late. A unit that has run again `round`
    /// times goes to the primary and so feeds no storm.
    pub(super) fn correction(&self, error: &ErrorResponse<'_>, round: u32) -> Option<Correction> {
        let correction = correction(error)?;
        let feeds = round == 0 && matches!(correction, Correction::Elsewhere { primary: false });
        if feeds && !self.proxy.retries.take(Instant::now()) {
            self.proxy.stats.retries_refused.add(1);
            return None;
        }
        Some(correction)
    }

    /// Whoever prepares the statements that the unit binds gets new ones from now on.
    pub(super) fn retire_statements(&self, unit: &Unit) {
        for message in frame::frontend_messages(&self.input.filled()[..unit.length], u32::MAX).flatten() {
            let name =
                if message.tag == b'B' { Bind::read(message.body).ok().map(|bind| bind.statement) } else { None };
            if let Some(named) = name.and_then(|name| self.statements.get(name)) {
                self.proxy.statements.retire(&named.shared);
            }
        }
    }

    /// A standby refused the unit: its statements are taken for writes from now on.
    pub(super) fn learn_refusal(&mut self, unit: &Unit) {
        let mut at = 0;
        while let Ok(Some(header)) = frame::header(&self.input.filled()[at..unit.length]) {
            let message = &self.input.filled()[at..at + header.len];
            let body = &message[5..];
            let parse = |parse| Parse::read(parse).ok().map(|parse| parse.text);
            let text = match message[0] {
                b'Q' => Query::read(body).ok().map(|query| query.text),
                b'P' => parse(body),
                b'B' => match Bind::read(body).map(|bind| bind.statement) {
                    Ok(name) => self.statements.get_mut(name).and_then(|named| {
                        named.generation = !named.generation;
                        parse(&named.shared.parse)
                    }),
                    Err(_) => None,
                },
                _ => None,
            };
            if let Some(text) = text.and_then(|text| std::str::from_utf8(&text[behind_settings(text)..]).ok()) {
                self.proxy.classifier.learn_refusal(text, &self.catalog, &mut self.scratch);
            }
            at += header.len;
        }
    }
}

/// Whether an error of a standby says that the unit belongs elsewhere.
fn correction(error: &ErrorResponse<'_>) -> Option<Correction> {
    let state = error.sqlstate().unwrap_or(SqlState::INTERNAL_ERROR);
    match &state.0 {
        b"0A000" if is_stale_statement(error) => None,
        // Raised by this function of predicate.c for every statement (manual, Hot Standby Caveats).
        b"0A000" if error.field(b'R') == Some(b"GetSerializableTransactionSnapshot") => {
            Some(Correction::NothingOnStandby)
        }
        // A write, or something else that needs a primary, was taken for a read.
        b"25006" | b"0A000" | b"55000" | b"XX000" | b"58P01" => Some(Correction::NotOnStandby),
        // DDL that this standby has not replayed yet may explain a missing object; the primary knows.
        b"42P01" | b"42703" | b"42883" | b"3F000" | b"42704" => Some(Correction::Elsewhere { primary: true }),
        // SERIALIZABLE cannot run on a standby, so this is always a conflict with replay.
        b"40001" | b"57P01" | b"57P02" | b"57P03" | b"57P04" => Some(Correction::Elsewhere { primary: false }),
        _ => None,
    }
}

/// Whether a prepared statement does not fit its tables any more: "cached plan must not change result type", in whatever
/// language, is raised by this function of plancache.c.
pub(super) fn is_stale_statement(error: &ErrorResponse<'_>) -> bool {
    error.field(b'R') == Some(b"RevalidateCachedQuery")
}
