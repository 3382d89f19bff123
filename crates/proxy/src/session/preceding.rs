//! Settings of ours in front of a statement in the same Query, as drivers send them to save a round trip: the proxy carries
//! them out, and the server gets what is behind them.

use std::borrow::Cow;

use highwater_sql::{Class, Facts, leading_settings};
use highwater_wire::backend;

use super::plan::{Plan, Shape, setting_of};
use super::unit::Unit;
use super::{Client, Trouble};

impl Client {
    /// Carries out the settings in front of the byte `rest` of a Query's text.
    pub(super) async fn apply_preceding(&mut self, unit: &Unit, rest: usize) -> Result<(), Trouble> {
        let text = self.preceding(rest).into_owned();
        if behind_settings(text.as_bytes()) < rest {
            return self.apply_settings(unit, rest).await;
        }
        for (name, value) in leading_settings(&text) {
            self.set(name, value, false).await?;
            backend::command_complete(&mut self.out, "SET");
        }
        Ok(())
    }

    /// How many characters of the unit's text go to no server.
    pub(super) fn kept_back(&self, plan: &Plan) -> usize {
        if let Shape::LocalFirst { rest } = plan.shape { self.preceding(rest).chars().count() } else { 0 }
    }

    fn preceding(&self, rest: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.input.filled()[5..5 + rest])
    }
}

/// Where a Query's text begins behind the settings that can be told without the grammar. They are ASCII without backslashes,
/// so that this holds in every client encoding, and however the rest is read.
pub(super) fn behind_settings(text: &[u8]) -> usize {
    if !text.starts_with(b"SET highwater.") {
        return 0;
    }
    let ascii = text.iter().position(|byte| !byte.is_ascii()).unwrap_or(text.len());
    let mut settings = leading_settings(std::str::from_utf8(&text[..ascii]).unwrap_or_default());
    settings.by_ref().for_each(drop);
    settings.rest()
}

/// Whether there is something to run, and no setting of ours in it. What is not understood has none: those in front must not
/// be taken for a part of it.
pub(super) fn may_stand_alone(facts: &Facts) -> bool {
    facts.class > Class::Empty && facts.statements.iter().all(|statement| setting_of(&statement.kind).is_none())
}
