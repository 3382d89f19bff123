//! `highwater.*` statements, answered by the proxy in the protocol the client used.

use std::time::Duration;

use highwater_core::Micros;
use highwater_sql::{Flag, Kind, Setting, TransactionControl, Value};
use highwater_wire::Format;
use highwater_wire::backend;
use highwater_wire::frontend::{self, Query};

use super::given::{Datum, Given, Param};
use super::plan::{Plan, begin_tag};
use super::settings::{Name, show_span};
use super::statements::deallocated;
use super::unit::{Unit, UnitKind};
use super::{Client, Trouble};
use crate::config::TransactionReads;
use crate::error::{Complaint, End, TokenRefusal};
use crate::text;

impl Client {
    /// Carries out a unit that concerns only the proxy; also in a failed transaction, which it does not touch.
    pub(super) async fn answer_locally(&mut self, unit: &Unit) -> Result<(), Trouble> {
        if unit.kind != UnitKind::Query {
            return self.answer_extended(unit).await;
        }
        self.apply_settings(unit, usize::MAX).await?;
        self.ready();
        Ok(())
    }

    /// Carries out the statements in front of the byte `rest` of a Query's text.
    pub(super) async fn apply_settings(&mut self, unit: &Unit, rest: usize) -> Result<(), Trouble> {
        let query = Query::read(&self.input.filled()[5..unit.length]).map_err(End::Offence)?;
        let text = String::from_utf8_lossy(query.text).into_owned();
        let facts = self.proxy.classifier.classify(&text, &self.catalog, &mut self.scratch);
        let until = facts.statements.iter().take_while(|statement| statement.range.start < rest).count();
        for statement in &facts.statements[..until] {
            if let Some(given) = self.carry_out_local(&statement.kind, &text, &[]).await? {
                given.write(&mut self.out, Format::Text, true);
            }
        }
        Ok(())
    }

    /// Does what one statement for the proxy asks; `None` when its answer is written already.
    pub(super) async fn carry_out_local(
        &mut self,
        kind: &Kind,
        text: &str,
        params: &[Param],
    ) -> Result<Option<Given>, Complaint> {
        match kind {
            Kind::Setting(setting) => self.carry_out_setting(setting, params).await.map(Some),
            Kind::Deallocate { all } if self.statements.deallocate(text, *all) => {
                Ok(Some(Given::Done(if *all { "DEALLOCATE ALL" } else { "DEALLOCATE" })))
            }
            Kind::Deallocate { .. } => Err(Complaint::NoStatement(deallocated(text))),
            Kind::ResetAll => {
                self.reset_own_settings();
                Ok(Some(Given::Done("RESET")))
            }
            Kind::Unlisten { .. } => Ok(Some(Given::Done("UNLISTEN"))),
            Kind::CloseCursor { .. } => Ok(Some(Given::Done("CLOSE CURSOR ALL"))),
            Kind::UnlockAll => Ok(Some(row("pg_advisory_unlock_all", Datum::Void, "SELECT 1"))),
            Kind::BackendPid { column } => {
                let pid = i32::try_from(self.info.pid).unwrap_or_default();
                Ok(Some(row(column, Datum::Int4(pid), "SELECT 1")))
            }
            Kind::Signal { terminate, pid, column } => {
                let reached = self.signal(pid, params, *terminate).await?;
                Ok(Some(row(column, Datum::Bool(reached), "SELECT 1")))
            }
            Kind::Discard { .. } => {
                self.statements.close_all();
                self.reset_own_settings();
                Ok(Some(Given::Done("DISCARD ALL")))
            }
            Kind::Transaction(TransactionControl::Begin { starts, read_only, isolation, .. }) => {
                let mut begin = Vec::new();
                frontend::query(&mut begin, text);
                let read_only = self.begins_read_only(*read_only, *isolation);
                self.begin_lazily(begin, read_only, self.may_lead(*isolation), begin_tag(*starts));
                Ok(None)
            }
            Kind::Transaction(control) => {
                self.end_without_server(matches!(control, TransactionControl::Commit { .. }));
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Cancels or ends another client of this process, as its own user and administrators may; whether there is one.
    async fn signal(&mut self, pid: &Value, params: &[Param], terminate: bool) -> Result<bool, Complaint> {
        let number = number(pid, params).and_then(|number| u32::try_from(number).ok());
        let Some(client) = number.and_then(|pid| self.proxy.clients.lock().get(&pid).cloned()) else {
            return Ok(false);
        };
        if client.user != self.info.user && !self.proxy.config.admins.iter().any(|admin| **admin == *self.info.user) {
            return Err(Complaint::NotYours);
        }
        let limit = self.proxy.config.connect_timeout.0;
        if terminate {
            self.proxy.end(&client, limit).await;
        } else {
            Box::pin(client.signals.cancel(limit)).await;
        }
        Ok(true)
    }

    /// Does what one `highwater.*` statement asks.
    async fn carry_out_setting(&mut self, setting: &Setting, params: &[Param]) -> Result<Given, Complaint> {
        match setting {
            Setting::Set { name, value, local } => {
                self.set(name, bound(value, params), *local).await?;
                Ok(Given::Done("SET"))
            }
            Setting::Reset { name } => {
                self.set(name, None, false).await?;
                Ok(Given::Done("RESET"))
            }
            Setting::Show { name } => {
                let value = self.show(name).await?;
                Ok(row(name, Datum::Text(value), "SHOW"))
            }
            Setting::SetConfig { name, value, local, column } => {
                let name = bound(name, params).unwrap_or_default();
                let value = bound(value, params);
                let local = match local {
                    Flag::Known(local) => *local,
                    Flag::Param(number) => {
                        matches!(parameter(*number, params), Some("t" | "true" | "on" | "1" | "\u{1}"))
                    }
                };
                self.set(name, value, local).await?;
                Ok(row(column, Datum::Text(value.unwrap_or_default().to_owned()), "SELECT 1"))
            }
            Setting::CurrentSetting { name, column } => {
                let value = self.show(name).await?;
                Ok(row(column, Datum::Text(value), "SELECT 1"))
            }
        }
    }

    /// Sets one of ours, or sets it back. Tokens and keys take effect at once.
    pub(super) async fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<(), Complaint> {
        let known = known(name)?;
        match (known, value) {
            (Name::LastRoute, _) => return Err(Complaint::ReadOnlySetting("last_route")),
            (Name::Version, _) => return Err(Complaint::ReadOnlySetting("version")),
            (Name::Token, Some(token)) if !token.trim().is_empty() => self.take_token(token).await?,
            (Name::Token, _) => {}
            _ => {
                let reported = self.reports();
                self.settings.set(known, value, local).map_err(|invalid| Complaint::InvalidSetting {
                    name: bare(name).to_owned(),
                    value: value.unwrap_or_default().to_owned(),
                    wanted: invalid.wanted,
                })?;
                if known == Name::Session {
                    self.follow_session_key(false);
                }
                if !reported && self.reports() {
                    // Whoever asks for reports can say then that it was made for another version.
                    backend::parameter_status(&mut self.out, "highwater.version", VERSION);
                }
            }
        }
        Ok(())
    }

    async fn show(&mut self, name: &str) -> Result<String, Complaint> {
        let now = self.settings.now();
        let own =
            |span: Option<Micros>, default: Duration| span.map_or_else(|| text::show_duration(default), show_span);
        Ok(match known(name)? {
            Name::Session => self.session_key.clone().unwrap_or_default(),
            Name::Consistency => text::level_name(&self.level(&Plan::default())).to_owned(),
            Name::MaxLag => own(now.max_lag, self.proxy.config.max_lag.0),
            Name::WaitBudget => own(now.wait_budget, self.proxy.config.wait_budget.0),
            Name::Report => self.settings.now().report.unwrap_or_default().to_string(),
            Name::TransactionReads => match now.transaction_reads.unwrap_or(self.proxy.config.transaction_reads) {
                TransactionReads::Primary => "primary".to_owned(),
                TransactionReads::Standby => "standby".to_owned(),
            },
            Name::WaitForStandbys => now.standbys.unwrap_or_default().to_string(),
            Name::StandbysTimeout => own(now.standbys_timeout, self.proxy.config.standbys_timeout.0),
            Name::LastRoute => self.last_route_text(),
            Name::Version => VERSION.to_owned(),
            Name::Token => self.token().await.ok_or(Complaint::NoToken(TokenRefusal::Unverified))?,
        })
    }

    /// RESET ALL and DISCARD ALL set all back to the start-up packet. What the session has seen is no setting, and goes only
    /// with its key.
    pub(super) fn reset_own_settings(&mut self) {
        let (before, reported) = (self.settings.now().session.clone(), self.reports());
        self.settings.reset_all();
        if self.settings.now().session != before {
            self.follow_session_key(false);
        }
        if reported && !self.reports() {
            // Whoever goes on reading the last token that was pushed must not take it for the newest.
            backend::parameter_status(&mut self.out, "highwater.token", "");
        }
    }

    /// A setting of the start-up packet.
    pub(super) async fn set_at_start(&mut self, name: &str, value: &str) -> Result<(), Complaint> {
        self.set(name, Some(value), false).await
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn bare(name: &str) -> &str {
    name.strip_prefix("highwater.").unwrap_or(name)
}

fn known(name: &str) -> Result<Name, Complaint> {
    Name::parse(name).ok_or_else(|| Complaint::UnknownSetting(bare(name).to_owned()))
}

fn row(column: &str, value: Datum, tag: &'static str) -> Given {
    Given::Row { column: column.to_owned(), value, tag }
}

/// A value as the statement's parameters make it; `None` is the default.
fn bound<'a>(value: &'a Value, params: &'a [Param]) -> Option<&'a str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Param(number) => parameter(*number, params),
        Value::Null | Value::Default => None,
    }
}

fn parameter(number: u32, params: &[Param]) -> Option<&str> {
    Param::of(number, params)?.text.as_deref()
}

/// A number as the statement's parameters make it.
pub(super) fn number(value: &Value, params: &[Param]) -> Option<i64> {
    match value {
        Value::Text(text) => text.parse().ok(),
        Value::Param(number) => Param::of(*number, params)?.number,
        Value::Null | Value::Default => None,
    }
}
