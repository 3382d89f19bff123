//! From a unit to what it may do: the worst of its statements, the state it leaves in a server connection, and whether
//! the proxy answers it alone.

use std::sync::Arc;

use highwater_core::Level;
use highwater_sql::{Catalog, Class, Facts, Isolation, Kind, Pin, Scratch, Setting, TransactionControl, Why};
use highwater_wire::frame;
use highwater_wire::frontend::{self, Bind, Describe, Execute, Parse, Query};

use super::statements::{ClientStatements, Hinted, Named};
use super::unit::{Unit, UnitKind};
use super::{Client, settings};
use crate::config::Consistency;
use crate::error::Complaint;
use crate::shared::Proxy;
use crate::text;

/// What a unit may do and how it is carried out.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) class: Class,
    pub(super) pin: Option<Pin>,
    /// It may silently run again elsewhere.
    pub(super) rerun_safe: bool,
    pub(super) changes_catalog: bool,
    pub(super) copies_in: bool,
    /// It opens a transaction; whether a read-only one.
    pub(super) begins: Option<bool>,
    /// A standby would run it without complaint and mean something else.
    pub(super) differs_on_standby: bool,
    /// The strictest level that the operator has put on its tables; `None` if none of them has one.
    pub(super) tables: Option<Level>,
    /// All its tables have a level of their own.
    pub(super) tables_decide: bool,
    /// Wishes in its comments.
    pub(super) hints: Hinted,
    /// It ends in Flush and can be closed with a Sync of the proxy's own: only reads, and no portal is left open.
    pub(super) ends_flushed: bool,
}

/// How a unit is carried out.
#[derive(Debug)]
pub(super) enum Shape {
    /// On a server, as it is.
    Ordinary,
    /// By the proxy alone.
    Local,
    /// `highwater.*` settings first, then from this byte of the text on a server.
    LocalFirst { rest: usize },
    /// Nothing to run.
    Empty,
    /// A simple Query that only begins a transaction: its message, for later.
    Begin { read_only: bool, text: Vec<u8> },
    /// A simple Query that only ends one.
    End { commit: bool },
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            shape: Shape::Ordinary,
            class: Class::Empty,
            pin: None,
            rerun_safe: true,
            changes_catalog: false,
            copies_in: false,
            begins: None,
            differs_on_standby: false,
            tables: None,
            tables_decide: true,
            hints: None,
            ends_flushed: false,
        }
    }
}

impl Client {
    /// What the unit may do. Prepared statements that it parses are known from here on.
    pub(super) fn plan(&mut self, unit: &Unit) -> Result<Plan, Complaint> {
        self.refresh_catalog();
        match unit.kind {
            UnitKind::Query => self.plan_query(unit),
            UnitKind::Extended { synced } => self.plan_extended(unit, synced),
            _ => Ok(Plan { class: Class::Unknown, rerun_safe: false, ..Plan::default() }),
        }
    }

    fn refresh_catalog(&mut self) {
        let generation = self.database.generation.load(std::sync::atomic::Ordering::Acquire);
        if generation != self.catalog.generation() {
            self.catalog = self.database.catalog();
        }
    }

    fn plan_query(&mut self, unit: &Unit) -> Result<Plan, Complaint> {
        let message = &self.input.filled()[..unit.length];
        let text = Query::read(&message[5..]).ok().and_then(|query| std::str::from_utf8(query.text).ok());
        let Some(text) = text.filter(|_| self.standard_strings) else {
            return Ok(Plan { class: Class::Unknown, rerun_safe: false, ..Plan::default() });
        };
        let facts = self.proxy.classifier.classify(text, &self.catalog, &mut self.scratch);
        let mut plan = Plan { hints: hints(text)?, ..Plan::default() };
        let lone = if let [statement] = &*facts.statements { Some(&statement.kind) } else { None };
        plan.shape = match lone {
            Some(kind @ Kind::Deallocate { .. }) if self.is_local(kind) => Shape::Local,
            _ => shape(&facts, message)?,
        };
        self.merge(&mut plan, &facts);
        Ok(plan)
    }

    fn plan_extended(&mut self, unit: &Unit, synced: bool) -> Result<Plan, Complaint> {
        let mut plan = Plan::default();
        let (mut local, mut elsewhere) = (false, false);
        // A part that is flushed and leaves nothing behind may end here, whatever follows it.
        let mut ends_here = true;
        // Where no server connection is held there are neither portals nor statements but those kept here.
        let mut only_closes = self.held.is_none();
        let mut at = 0;
        while let Ok(Some(header)) = frame::header(&self.input.filled()[at..unit.length]) {
            let body = &self.input.filled()[at + 5..at + header.len];
            ends_here &= leaves_nothing(header.tag, body);
            only_closes &= matches!(header.tag, b'C' | b'H' | b'S');
            if let Some((facts, hints)) = self.plan_message(at, header.len)? {
                let ours = facts.statements.iter().any(|statement| self.is_local(&statement.kind));
                local |= ours;
                elsewhere |= !ours;
                plan.hints = plan.hints.or(hints);
                self.merge(&mut plan, &facts);
            } else if header.tag == b'B' {
                elsewhere = true;
                plan.class = plan.class.max(Class::Unknown);
            }
            at += header.len;
        }
        if local && elsewhere {
            return Err(Complaint::MixedSettings);
        }
        if local || only_closes {
            plan.shape = Shape::Local;
        }
        plan.ends_flushed = !synced && ends_here && plan.class <= Class::Read && self.input.filled()[at - 5] == b'H';
        if !synced && !plan.ends_flushed {
            // What will follow is not known yet.
            plan.class = plan.class.max(Class::Unknown);
            plan.rerun_safe = false;
        } else if plan.class == Class::Empty {
            // An Execute of a portal that is not there, a Sync of a pinned client: any server answers it truly.
            plan.class = Class::Read;
        }
        Ok(plan)
    }

    /// The facts behind one message of an extended unit, if it names a statement that is known.
    pub(super) fn plan_message(&mut self, at: usize, length: usize) -> Result<Option<(Arc<Facts>, Hinted)>, Complaint> {
        let message = &self.input.filled()[at..at + length];
        let body = &message[5..];
        let name = match message[0] {
            b'P' => match Parse::read(body) {
                Ok(parse) => {
                    let text = std::str::from_utf8(parse.text).ok().filter(|_| self.standard_strings);
                    let facts = match text {
                        Some(text) => self.proxy.classifier.classify(text, &self.catalog, &mut self.scratch),
                        None => Arc::new(Facts::unknown()),
                    };
                    let hints = text.map_or(Ok(None), hints)?;
                    self.keep_statement(at, length, Arc::clone(&facts), hints.clone());
                    return Ok(Some((facts, hints)));
                }
                Err(_) => None,
            },
            b'B' => Bind::read(body).ok().map(|bind| bind.statement),
            b'D' => match Describe::read(body) {
                Ok(Describe { kind: frontend::Kind::Statement, name }) => Some(name),
                _ => None,
            },
            _ => None,
        };
        let known = Known { proxy: &self.proxy, catalog: &self.catalog, scratch: &mut self.scratch };
        Ok(name.and_then(|name| known.facts(&mut self.statements, name)))
    }

    /// Whether the proxy answers a statement of this kind alone, as the client stands now.
    fn is_local(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Setting(_) => true,
            // The client's prepared statements are kept here, but for those that SQL-level PREPARE made on the server.
            Kind::Deallocate { .. } => !self.sql_prepared,
            Kind::Transaction(TransactionControl::Begin { .. }) => self.may_begin_lazily(),
            Kind::Transaction(
                TransactionControl::Commit { chain: false } | TransactionControl::Rollback { chain: false },
            ) => self.ends_without_server(),
            _ => false,
        }
    }

    /// Remembers what a Parse at `at` of the input defines.
    fn keep_statement(&mut self, at: usize, length: usize, facts: Arc<Facts>, hints: Hinted) {
        let message = &self.input.filled()[at..at + length];
        let name_length = Parse::read(&message[5..]).map_or(0, |parse| parse.name.len());
        let serial = self.proxy.next_serial();
        if name_length == 0 {
            let unnamed = &mut self.statements.unnamed;
            unnamed.parse.clear();
            unnamed.parse.extend_from_slice(message);
            unnamed.facts = Some(facts);
            unnamed.hints = hints;
            unnamed.serial = serial;
            self.statements.on_parse_unnamed();
        } else {
            // The body with an empty name begins at the name's own terminating zero.
            let (name, nameless) = message[5..].split_at(name_length);
            let shared = self.proxy.statements.of(nameless, || serial);
            let named = Named { shared, facts, generation: self.catalog.generation(), hints };
            self.statements.on_parse(name, named);
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
                    Ok(name) => self.statements.named.get_mut(name).and_then(|named| {
                        named.generation = !named.generation;
                        parse(&named.shared.parse)
                    }),
                    Err(_) => None,
                },
                _ => None,
            };
            if let Some(text) = text.and_then(|text| std::str::from_utf8(text).ok()) {
                self.proxy.classifier.learn_refusal(text, &self.catalog, &mut self.scratch);
            }
            at += header.len;
        }
    }

    /// Adds one message's facts to the plan.
    fn merge(&self, plan: &mut Plan, facts: &Facts) {
        plan.class = plan.class.max(facts.class);
        plan.pin = plan.pin.or(facts.pin);
        plan.rerun_safe &= facts.rerun_safe;
        plan.changes_catalog |= facts.changes_catalog;
        plan.differs_on_standby |= matches!(facts.why, Why::AdvisoryLock(_) | Why::Sequence(_));
        for statement in &facts.statements {
            match &statement.kind {
                Kind::Transaction(TransactionControl::Begin { read_only, isolation, .. }) => {
                    plan.begins = Some(runs_read_only(*read_only, *isolation));
                }
                Kind::Copy { from_client: true } => plan.copies_in = true,

                _ => {}
            }
        }
        if facts.unknown_names {
            self.database.stale.notify_one();
        }
        if !self.proxy.config.tables.is_empty() {
            self.apply_table_rules(plan, facts);
        }
    }

    fn apply_table_rules(&self, plan: &mut Plan, facts: &Facts) {
        for table in &facts.tables {
            let rule = self.proxy.config.tables.iter().find(|rule| table.matches(&rule.name));
            match rule.map(|rule| rule.consistency) {
                Some(Consistency(level)) => {
                    let stricter = plan.tables.is_none_or(|now| text::strictness(&level) > text::strictness(&now));
                    plan.tables = if stricter { Some(level) } else { plan.tables };
                }
                None => plan.tables_decide = false,
            }
        }
        plan.tables_decide &= !facts.tables.is_empty();
    }
}

/// What it takes to look a prepared statement's facts up by the catalogue of now.
struct Known<'a> {
    proxy: &'a Proxy,
    catalog: &'a Catalog,
    scratch: &'a mut Scratch,
}

impl Known<'_> {
    fn facts(self, statements: &mut ClientStatements, name: &[u8]) -> Option<(Arc<Facts>, Hinted)> {
        if name.is_empty() {
            return statements.unnamed.facts.clone().map(|facts| (facts, statements.unnamed.hints.clone()));
        }
        let named = statements.named.get_mut(name)?;
        if named.generation != self.catalog.generation() {
            let parse = Parse::read(&named.shared.parse).ok()?;
            let text = std::str::from_utf8(parse.text).ok()?;
            named.facts = self.proxy.classifier.classify(text, self.catalog, self.scratch);
            named.generation = self.catalog.generation();
        }
        Some((Arc::clone(&named.facts), named.hints.clone()))
    }
}

/// Whether an extended message leaves nothing behind that a Sync would end: an unnamed portal run to its end does not.
fn leaves_nothing(tag: u8, body: &[u8]) -> bool {
    match tag {
        b'B' => Bind::read(body).is_ok_and(|bind| bind.portal.is_empty()),
        b'E' => Execute::read(body).is_ok_and(|execute| execute.portal.is_empty() && execute.max_rows <= 0),
        _ => true,
    }
}

/// How a simple Query is carried out.
fn shape(facts: &Facts, message: &[u8]) -> Result<Shape, Complaint> {
    let [first, rest @ ..] = &*facts.statements else {
        return Ok(if facts.class == Class::Empty { Shape::Empty } else { Shape::Ordinary });
    };
    if rest.is_empty() {
        return Ok(match &first.kind {
            Kind::Setting(_) => Shape::Local,
            Kind::Transaction(TransactionControl::Begin { read_only, isolation, .. }) => {
                Shape::Begin { read_only: runs_read_only(*read_only, *isolation), text: message.to_vec() }
            }
            Kind::Transaction(TransactionControl::Commit { chain: false }) => Shape::End { commit: true },
            Kind::Transaction(TransactionControl::Rollback { chain: false }) => Shape::End { commit: false },
            _ => Shape::Ordinary,
        });
    }
    let is_setting = |kind: &Kind| matches!(kind, Kind::Setting(_));
    let leading = facts.statements.iter().take_while(|statement| is_setting(&statement.kind)).count();
    let settings = facts.statements.iter().filter(|statement| is_setting(&statement.kind)).count();
    match facts.statements.get(leading) {
        _ if settings != leading => Err(Complaint::MixedSettings),
        None => Ok(Shape::Local),
        Some(_) if leading == 0 => Ok(Shape::Ordinary),
        Some(statement) => Ok(Shape::LocalFirst { rest: statement.range.start }),
    }
}

/// Whether the transaction may run on a standby: read-only, and not at an isolation that standbys refuse.
pub(super) fn runs_read_only(read_only: Option<bool>, isolation: Option<Isolation>) -> bool {
    read_only == Some(true) && isolation != Some(Isolation::Serializable)
}

/// Wishes in the statement's comments.
fn hints(text: &str) -> Result<Hinted, Complaint> {
    let Some(hints) = highwater_sql::hints(text) else { return Ok(None) };
    let mut wishes = settings::Wishes::default();
    for (name, value) in hints.iter() {
        let known = settings::Name::parse(name).ok_or_else(|| Complaint::UnknownSetting(name.to_owned()))?;
        wishes.set(known, Some(value)).map_err(|invalid| Complaint::InvalidSetting {
            name: name.to_owned(),
            value: value.to_owned(),
            wanted: invalid.wanted,
        })?;
    }
    Ok(Some(Arc::new(wishes)))
}

/// The setting that a statement is about, if it is one of ours.
pub(super) fn setting_of(kind: &Kind) -> Option<&Setting> {
    match kind {
        Kind::Setting(setting) => Some(setting),
        _ => None,
    }
}
