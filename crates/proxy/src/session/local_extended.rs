//! `highwater.*` statements by the extended protocol: what a server would answer to each message, in order.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_sql::{Facts, Flag, Kind as SqlKind, Setting, Value};
use highwater_wire::backend;
use highwater_wire::frontend::{self, Bind, Describe, Execute, Kind, Parse};

use super::plan::setting_of;
use super::unit::Unit;
use super::{Client, Trouble};
use crate::error::End;

/// The type OID of `text`, in which all our answers come.
const TEXT: u32 = 25;

/// A portal that a Bind of this unit made.
struct Portal {
    facts: Arc<Facts>,
    text: String,
    params: Vec<Option<String>>,
}

impl Client {
    /// Answers a unit whose statements all concern only the proxy.
    pub(super) async fn answer_extended(&mut self, unit: &Unit) -> Result<(), Trouble> {
        let mut portals: HashMap<Vec<u8>, Portal> = HashMap::new();
        let mut at = 0;
        while let Some(header) = self.header(&self.input.filled()[at..unit.length])? {
            let message = self.input.filled()[at..at + header.len].to_vec();
            self.answer_message(header.tag, &message[5..], &mut portals).await?;
            at += header.len;
        }
        Ok(())
    }

    async fn answer_message(
        &mut self,
        tag: u8,
        body: &[u8],
        portals: &mut HashMap<Vec<u8>, Portal>,
    ) -> Result<(), Trouble> {
        match tag {
            b'P' => {
                Parse::read(body).map_err(End::Offence)?;
                self.statements.on_parsed();
                backend::parse_complete(&mut self.out);
            }
            b'B' => {
                let bind = Bind::read(body).map_err(End::Offence)?;
                let values = bind.params().map_err(End::Offence)?.values;
                // Text and binary are the same bytes for text; numbers and booleans are not asked for here.
                let params =
                    values.iter().map(|value| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned())).collect();
                if let Some((facts, text)) = self.known(bind.statement) {
                    portals.insert(bind.portal.to_vec(), Portal { facts, text, params });
                }
                backend::bind_complete(&mut self.out);
            }
            b'D' => self.describe(body, portals)?,
            b'E' => {
                let execute = Execute::read(body).map_err(End::Offence)?;
                if let Some(portal) = portals.get(execute.portal) {
                    for statement in &portal.facts.statements {
                        let given = self.carry_out_local(&statement.kind, &portal.text, &portal.params).await?;
                        given.iter().for_each(|given| self.give(given, false));
                    }
                }
            }
            b'C' => {
                if let Ok(frontend::Close { kind: Kind::Statement, name }) = frontend::Close::read(body) {
                    self.statements.named.remove(name);
                }
                backend::close_complete(&mut self.out);
            }
            b'S' => self.ready(),
            _ => {}
        }
        Ok(())
    }

    fn describe(&mut self, body: &[u8], portals: &HashMap<Vec<u8>, Portal>) -> Result<(), Trouble> {
        let describe = Describe::read(body).map_err(End::Offence)?;
        let facts = match describe.kind {
            Kind::Statement => self.known(describe.name).map(|(facts, _)| facts),
            Kind::Portal => portals.get(describe.name).map(|portal| Arc::clone(&portal.facts)),
        };
        let setting = facts.as_ref().and_then(|facts| facts.statements.iter().find_map(|one| setting_of(&one.kind)));
        if describe.kind == Kind::Statement {
            let count = setting.map_or(0, params);
            backend::parameter_description(&mut self.out, &vec![TEXT; count]);
        }
        let unlocks = facts.iter().any(|facts| facts.statements.iter().any(|one| one.kind == SqlKind::UnlockAll));
        match setting.and_then(column) {
            Some(column) => backend::row_description(&mut self.out, &[column]),
            None if unlocks => backend::void_description(&mut self.out, "pg_advisory_unlock_all"),
            None => backend::no_data(&mut self.out),
        }
        Ok(())
    }

    /// The facts and the text of a statement that was parsed.
    fn known(&self, name: &[u8]) -> Option<(Arc<Facts>, String)> {
        let (facts, parse) = if name.is_empty() {
            (self.statements.unnamed.facts.clone()?, self.statements.unnamed.parse.get(5..)?)
        } else {
            let named = self.statements.named.get(name)?;
            (Arc::clone(&named.facts), &*named.shared.parse)
        };
        let text = Parse::read(parse).ok()?.text;
        Some((facts, String::from_utf8_lossy(text).into_owned()))
    }
}

/// How many parameters the statement has.
fn params(setting: &Setting) -> usize {
    let of = |value: &Value| if let Value::Param(number) = value { *number } else { 0 };
    let highest = match setting {
        Setting::SetConfig { name, value, local, .. } => {
            let local = if let Flag::Param(number) = local { *number } else { 0 };
            of(name).max(of(value)).max(local)
        }
        Setting::Set { value, .. } => of(value),
        Setting::Reset { .. } | Setting::Show { .. } | Setting::CurrentSetting { .. } => 0,
    };
    usize::try_from(highest).unwrap_or(0)
}

/// The result's column, if the statement has a result.
fn column(setting: &Setting) -> Option<&str> {
    match setting {
        Setting::Set { .. } | Setting::Reset { .. } => None,
        Setting::Show { name } => Some(name),
        Setting::SetConfig { column, .. } | Setting::CurrentSetting { column, .. } => Some(column),
    }
}
