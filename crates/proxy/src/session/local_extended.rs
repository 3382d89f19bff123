//! `highwater.*` statements by the extended protocol: what a server would answer to each message, in order.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_sql::{Facts, Flag, Kind as SqlKind, Setting, Value};
use highwater_wire::Format;
use highwater_wire::backend::{self, ColumnType};
use highwater_wire::frontend::{self, Bind, Describe, Execute, Kind, Parse};

use super::given::Param;
use super::plan::setting_of;
use super::unit::Unit;
use super::{Client, Trouble};
use crate::error::End;

/// A portal that a Bind of this unit made.
struct Portal {
    facts: Arc<Facts>,
    text: String,
    params: Vec<Param>,
    /// How the result shall be written.
    format: Format,
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
                let params = Param::all(&bind).map_err(End::Offence)?;
                let formats = bind.params().map_err(End::Offence)?.result_formats;
                if let Some((facts, text)) = self.known(bind.statement) {
                    let format = formats.of(0).unwrap_or(Format::Text);
                    portals.insert(bind.portal.to_vec(), Portal { facts, text, params, format });
                }
                backend::bind_complete(&mut self.out);
            }
            b'D' => self.describe(body, portals)?,
            b'E' => {
                let execute = Execute::read(body).map_err(End::Offence)?;
                if let Some(portal) = portals.get(execute.portal) {
                    for statement in &portal.facts.statements {
                        let given = self.carry_out_local(&statement.kind, &portal.text, &portal.params).await?;
                        given.iter().for_each(|given| given.write(&mut self.out, portal.format, false));
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
        let (facts, format) = match describe.kind {
            Kind::Statement => (self.known(describe.name).map(|(facts, _)| facts), Format::Text),
            Kind::Portal => {
                let portal = portals.get(describe.name);
                (portal.map(|portal| Arc::clone(&portal.facts)), portal.map_or(Format::Text, |portal| portal.format))
            }
        };
        let first = facts.as_ref().and_then(|facts| facts.statements.first()).map(|statement| &statement.kind);
        if describe.kind == Kind::Statement {
            let count = first.and_then(setting_of).map_or(0, params);
            backend::parameter_description(&mut self.out, &vec![ColumnType::TEXT.oid; count]);
        }
        match first.and_then(column) {
            Some((name, of)) => backend::column_description(&mut self.out, name, of, format),
            None => backend::no_data(&mut self.out),
        }
        Ok(())
    }

    /// The facts and the text of a statement that was parsed.
    fn known(&self, name: &[u8]) -> Option<(Arc<Facts>, String)> {
        let facts = Arc::clone(self.statements.facts(name)?);
        Some((facts, String::from_utf8_lossy(self.statements.text(name)?).into_owned()))
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
fn column(kind: &SqlKind) -> Option<(&str, ColumnType)> {
    match kind {
        SqlKind::Setting(Setting::Show { name }) => Some((name, ColumnType::TEXT)),
        SqlKind::Setting(Setting::SetConfig { column, .. } | Setting::CurrentSetting { column, .. }) => {
            Some((column, ColumnType::TEXT))
        }
        SqlKind::UnlockAll => Some(("pg_advisory_unlock_all", ColumnType::VOID)),
        SqlKind::BackendPid { column } => Some((column, ColumnType::INT4)),
        SqlKind::Signal { column, .. } => Some((column, ColumnType::BOOL)),
        _ => None,
    }
}
