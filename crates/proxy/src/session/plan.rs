//! From a unit to what it may do: the worst of its statements, the state it leaves in a server connection, and whether
//! the proxy answers it alone.

use std::borrow::Cow;
use std::sync::Arc;

use highwater_core::Level;
use highwater_sql::{
    Catalog, Class, Facts, Isolation, Kind, Pin, Scratch, Setting, Statement, Touch, TransactionControl, Value, Why,
};
use highwater_wire::frontend::{self, Bind, Describe, Execute, FunctionCall, Parse, Query};
use highwater_wire::{TransactionStatus, frame};

use super::given::Param;
use super::leading::Lead;
use super::levels::hints;
use super::preceding::{behind_settings, may_stand_alone};
use super::reading::Reading;
use super::statements::{ClientStatements, Coming, Hinted};
use super::unit::{Unit, UnitKind};
use super::{Client, local, settings};
use crate::error::Complaint;
use crate::shared::Proxy;

/// `lo_open`, `lo_close`, `lo_creat`, `lo_unlink`, `lo_lseek`, `lo_tell`, `loread`, `lowrite`, `lo_truncate`, those for 64 bits, and
/// `lo_create`: the functions that libpq calls (`fe-lobj.c`), by their numbers of `pg_proc.dat`.
const LARGE_OBJECT_FUNCTIONS: [u32; 13] = [952, 953, 957, 964, 956, 958, 954, 955, 1004, 3170, 3171, 3172, 715];

/// What a unit may do and how it is carried out.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) class: Class,
    pub(super) pin: Option<Pin>,
    /// What it left in the server connection may be gone afterwards.
    pub(super) may_unpin: bool,
    /// Settings of the server that it may change for longer than the transaction.
    pub(super) touches: Vec<Touch>,
    /// It changes settings of the server and does nothing else.
    pub(super) only_sets: bool,
    /// It is a single statement.
    pub(super) alone: bool,
    /// It asks what sequences have given to its connection.
    pub(super) asks_sequences: bool,
    /// The server must know the client's prepared statements by the client's names.
    pub(super) names_statements: bool,
    /// It may end a transaction, somewhere.
    pub(super) ends: bool,
    /// It is, among others, a block of code or a procedure, which may commit in between.
    pub(super) runs_code: bool,
    /// It begins with the end of a transaction.
    pub(super) ends_first: bool,
    /// Nobody may be connected to this database while it runs.
    pub(super) empties: Option<Box<str>>,
    /// New server connections will begin with other settings.
    pub(super) alters_defaults: bool,
    /// What it is for a transaction that reads on a standby.
    pub(super) lead: Lead,
    /// Savepoints that it sets, releases or goes back to.
    pub(super) savepoints: Vec<TransactionControl>,
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
    Begin { read_only: bool, leads: bool, text: Vec<u8>, tag: &'static str },
    /// A simple Query that only ends one.
    End { commit: bool },
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            shape: Shape::Ordinary,
            class: Class::Empty,
            pin: None,
            may_unpin: false,
            touches: Vec::new(),
            only_sets: true,
            alone: true,
            asks_sequences: false,
            names_statements: false,
            ends: false,
            runs_code: false,
            ends_first: false,
            empties: None,
            alters_defaults: false,
            lead: Lead::Plain,
            savepoints: Vec::new(),
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

impl Plan {
    /// Of what cannot be read.
    fn unknown() -> Self {
        let pin = Some(Pin::NotUnderstood);
        let (class, lead) = (Class::Unknown, Lead::Other);
        Self { class, pin, ends: true, rerun_safe: false, only_sets: false, lead, ..Self::default() }
    }

    /// Whether nothing of what pins the client can be left by the unit if it fails: it is one statement that rolls back.
    pub(super) fn is_undone_by_failure(&self, pin: Pin) -> bool {
        self.alone && !self.ends && !self.runs_code && matches!(pin, Pin::Setting | Pin::Function)
    }

    /// Another statement of a pipeline: together they are plain reads, or for the primary.
    fn also_leads(&mut self, lead: Lead, first: bool) {
        self.lead = match (&self.lead, lead) {
            (_, lead) if first => lead,
            (Lead::Plain, Lead::Plain) => Lead::Plain,
            _ => Lead::Other,
        };
    }

    /// Notes what the statements leave if they are run; `params` are those that a Bind brings.
    fn runs(&mut self, facts: &Facts, params: Option<&[Param]>) {
        self.pin = self.pin.or(facts.pin);
        self.may_unpin |= facts.may_unpin;
        self.touch(facts, params);
        for statement in &facts.statements {
            use TransactionControl::{Release, RollbackTo, Savepoint};
            if let Kind::Transaction(control @ (Savepoint(_) | RollbackTo(_) | Release(_))) = &statement.kind {
                self.savepoints.push(control.clone());
            }
        }
    }

    /// Notes which settings the statements may change.
    fn touch(&mut self, facts: &Facts, params: Option<&[Param]>) {
        for touch in &facts.touches {
            match (touch, params) {
                (Touch::Set(Value::Param(number)), Some(params)) => match name_of(*number, params) {
                    Some(name) if settings::Name::is_own(&name) => {}
                    Some(name) => self.touches.push(Touch::Set(Value::Text(name))),
                    None => self.pin = self.pin.or(Some(Pin::Setting)),
                },
                (Touch::Set(Value::Param(_)), None) => {}
                (touch, _) => self.touches.push(touch.clone()),
            }
        }
    }
}

/// A setting's name as a parameter brings it.
fn name_of(number: u32, params: &[Param]) -> Option<String> {
    Param::of(number, params)?.text.as_deref().map(str::to_ascii_lowercase)
}

impl Client {
    /// What the unit may do. Prepared statements that it parses are known from here on.
    pub(super) fn plan(&mut self, unit: &Unit) -> Result<Plan, Complaint> {
        self.refresh_catalog();
        match unit.kind {
            UnitKind::Query => self.plan_query(unit),
            UnitKind::Extended { synced } => self.plan_extended(unit, synced),
            _ => Ok(self.plan_function(unit)),
        }
    }

    /// A call by the function-call protocol. Libpq makes such for large objects, which leave nothing behind.
    fn plan_function(&self, unit: &Unit) -> Plan {
        let call = FunctionCall::read(&self.input.filled()[5..unit.length]);
        let harmless = call.is_ok_and(|call| LARGE_OBJECT_FUNCTIONS.contains(&call.function));
        Plan { pin: if harmless { None } else { Some(Pin::NotUnderstood) }, ends: false, ..Plan::unknown() }
    }

    fn refresh_catalog(&mut self) {
        let generation = self.database.generation.load(std::sync::atomic::Ordering::Acquire);
        if generation != self.catalog.generation() {
            self.catalog = self.database.catalog();
        }
    }

    fn plan_query(&mut self, unit: &Unit) -> Result<Plan, Complaint> {
        let message = &self.input.filled()[..unit.length];
        let Ok(query) = Query::read(&message[5..]) else { return Ok(Plan::unknown()) };
        let mut rest = behind_settings(query.text);
        let Some(mut text) = self.reading.text(&query.text[rest..]) else {
            let shape = if rest > 0 { Shape::LocalFirst { rest } } else { Shape::Ordinary };
            return Ok(Plan { shape, ..Plan::unknown() });
        };
        let mut classify = |text: &str| self.proxy.classifier.classify(text, &self.catalog, &mut self.scratch);
        let mut facts = classify(&text);
        if rest > 0 && !may_stand_alone(&facts) {
            // Only the grammar can tell what is whose.
            (rest, text) = (0, self.reading.text(query.text).unwrap_or_default());
            facts = classify(&text);
            if facts.statements.is_empty() {
                return Err(Complaint::MixedSettings);
            }
        }
        let mut plan = Plan { hints: hints(&text)?, ..Plan::default() };
        let lone = if let [statement] = &*facts.statements { Some(&statement.kind) } else { None };
        plan.shape = match lone {
            Some(kind) if rest > 0 && (matches!(kind, Kind::Transaction(_)) || !self.is_local(kind)) => {
                Shape::LocalFirst { rest }
            }
            None if rest > 0 => Shape::LocalFirst { rest },
            Some(kind) if !matches!(kind, Kind::Transaction(_)) && self.is_local(kind) => Shape::Local,
            None if self.sets_nothing_back(&facts) => Shape::Local,
            _ => self.shape(&facts, message)?,
        };
        if rest == 0 && matches!((&plan.shape, &text), (Shape::LocalFirst { .. }, Cow::Owned(_))) {
            // Where the rest begins in the client's own bytes is not known.
            return Err(Complaint::MixedSettings);
        }
        self.merge(&mut plan, &facts);
        plan.runs(&facts, None);
        plan.alone = lone.is_some();
        plan.lead = Lead::of(&facts, (rest == 0).then_some(message));
        Ok(plan)
    }

    fn plan_extended(&mut self, unit: &Unit, synced: bool) -> Result<Plan, Complaint> {
        let mut plan = Plan::default();
        let (mut local, mut elsewhere, mut settings) = (false, false, false);
        let (mut nothing_bound, mut nothing_hinted) = (true, true);
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
                let params = self.params_for(&facts, at, header.len);
                match self.is_ours(&facts, params.as_deref()) {
                    Some(true) => {
                        local = true;
                        settings |= facts.statements.iter().any(|statement| setting_of(&statement.kind).is_some());
                    }
                    Some(false) => elsewhere = true,
                    None => {}
                }
                // BEGIN and its like show nothing, and wish for something only in so many words.
                let shows = |statement: &Statement| !matches!(statement.kind, Kind::Transaction(_));
                if hints.is_some() || facts.statements.iter().any(shows) {
                    let first = std::mem::replace(&mut nothing_hinted, false);
                    plan.hints = if first { hints } else { self.hints_of_both(plan.hints, hints) };
                }
                self.merge(&mut plan, &facts);
                if header.tag == b'B' {
                    let first = std::mem::replace(&mut nothing_bound, false);
                    plan.alone = first && facts.statements.len() == 1;
                    plan.also_leads(self.lead_of_bound(&facts, at, header.len), first);
                    plan.runs(&facts, params.as_deref());
                }
            } else if header.tag == b'B' {
                elsewhere = true;
                plan.lead = Lead::Other;
                plan.class = plan.class.max(Class::Unknown);
            }
            at += header.len;
        }
        if local && elsewhere && settings {
            return Err(Complaint::MixedSettings);
        }
        if (local && !elsewhere) || only_closes {
            plan.shape = Shape::Local;
        }
        // Parsing alone does nothing, whatever is parsed.
        let harmless = plan.class <= Class::Read || nothing_bound;
        plan.ends_flushed = !synced && ends_here && harmless && self.input.filled()[at - 5] == b'H';
        if !ends_here || (!synced && !plan.ends_flushed) {
            plan.lead = Lead::Other;
        }
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

    /// What a Bind is for a transaction that reads on a standby.
    fn lead_of_bound(&self, facts: &Facts, at: usize, length: usize) -> Lead {
        let bind = Bind::read(&self.input.filled()[at + 5..at + length]).ok();
        let bare = bind.filter(|bind| self.is_leading() && bind.params().is_ok_and(|params| params.values.is_empty()));
        let text = bare.and_then(|bind| self.text_to_come(bind.statement, at));
        let query = text.map(|text| {
            let mut query = Vec::new();
            frontend::query(&mut query, text);
            query
        });
        Lead::of(facts, query.as_deref())
    }

    /// The text of a statement when the message at `end` of the input has its turn.
    fn text_to_come(&self, name: &[u8], end: usize) -> Option<&[u8]> {
        let parses = frame::frontend_messages(&self.input.filled()[..end], u32::MAX).flatten();
        let parses = parses.filter(|message| message.tag == b'P').filter_map(|message| Parse::read(message.body).ok());
        let parsed = parses.filter(|parse| parse.name == name).last();
        parsed.map(|parse| parse.text).or_else(|| self.statements.text(name))
    }

    /// What a further message of a unit that is on its way adds to it: where it runs is decided, what it leaves is not.
    pub(super) fn plan_more(&mut self, plan: &mut Plan, at: usize, length: usize) {
        let facts = match self.input.filled()[at] {
            b'Q' => {
                let text = Query::read(&self.input.filled()[at + 5..at + length]).ok();
                let text = text.and_then(|query| self.reading.text(query.text));
                let classify = |text: &str| self.proxy.classifier.classify(text, &self.catalog, &mut self.scratch);
                Some(text.as_deref().map_or_else(|| Arc::new(Facts::unknown()), classify))
            }
            _ => self.plan_message(at, length).ok().flatten().map(|(facts, _)| facts),
        };
        if let Some(facts) = facts {
            let params = self.params_for(&facts, at, length);
            self.merge(plan, &facts);
            if matches!(self.input.filled()[at], b'Q' | b'B') {
                plan.runs(&facts, params.as_deref());
            }
            plan.alone = false;
        }
    }

    /// The parameters that the message at `at` of the input brings, if the facts hang on them.
    fn params_for(&self, facts: &Facts, at: usize, length: usize) -> Option<Vec<Param>> {
        let message = &self.input.filled()[at..at + length];
        let by_param = |touch: &Touch| matches!(touch, Touch::Set(Value::Param(_)));
        let signals = |kind: &Kind| matches!(kind, Kind::Signal { pid: Value::Param(_), .. });
        let matter =
            facts.touches.iter().any(by_param) || facts.statements.iter().any(|statement| signals(&statement.kind));
        if message[0] != b'B' || !matter {
            return None;
        }
        Some(Bind::read(&message[5..]).and_then(|bind| Param::all(&bind)).unwrap_or_default())
    }

    /// The facts behind one message of an extended unit, if it names a statement that is known.
    pub(super) fn plan_message(&mut self, at: usize, length: usize) -> Result<Option<(Arc<Facts>, Hinted)>, Complaint> {
        let message = &self.input.filled()[at..at + length];
        let body = &message[5..];
        let name = match message[0] {
            b'P' => match Parse::read(body) {
                Ok(parse) => {
                    let name = parse.name.into();
                    let text = self.reading.text(parse.text);
                    let text = text.as_deref();
                    let facts = match text {
                        Some(text) => self.proxy.classifier.classify(text, &self.catalog, &mut self.scratch),
                        None => Arc::new(Facts::unknown()),
                    };
                    let hints = text.map_or(Ok(None), hints)?;
                    let (generation, serial) = (self.catalog.generation(), self.proxy.next_serial());
                    let coming = Coming { name, facts: Arc::clone(&facts), hints: hints.clone(), generation, serial };
                    self.statements.expect(coming);
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
        let Self { proxy, catalog, scratch, reading, .. } = self;
        let known = Known { proxy, catalog, scratch, reading: *reading };
        Ok(name.and_then(|name| known.facts(&mut self.statements, name)))
    }

    /// Whether the proxy answers these statements alone; `None` if only their parameters will tell.
    fn is_ours(&self, facts: &Facts, params: Option<&[Param]>) -> Option<bool> {
        let own = |kind: &Kind| match (kind, params) {
            (Kind::Setting(Setting::SetConfig { name: Value::Param(_), .. }), None) => None,
            (Kind::Setting(Setting::SetConfig { name: Value::Param(number), .. }), Some(params)) => {
                Some(name_of(*number, params).is_some_and(|name| settings::Name::is_own(&name)))
            }
            (Kind::Signal { pid: Value::Param(_), .. }, None) => None,
            (Kind::Signal { pid, .. }, params) => Some(self.is_client(pid, params.unwrap_or_default())),
            (kind, _) => Some(self.is_local(kind)),
        };
        facts.statements.iter().try_fold(false, |found, statement| Some(found || own(&statement.kind)?))
    }

    /// Whether the number is that of a client of this process, and of no process of a server.
    fn is_client(&self, pid: &Value, params: &[Param]) -> bool {
        let pid = local::number(pid, params).and_then(|number| u32::try_from(number).ok());
        self.is_well() && pid.is_some_and(|pid| self.proxy.clients.lock().contains_key(&pid))
    }

    /// Whether a statement that concerns no server would be carried out: not in a failed transaction.
    fn is_well(&self) -> bool {
        self.status() != TransactionStatus::Failed
    }

    /// Several statements that set back what is as it was: what pools of drivers send when a connection is returned.
    fn sets_nothing_back(&self, facts: &Facts) -> bool {
        let sets_back = |kind: &Kind| {
            matches!(
                kind,
                Kind::ResetAll | Kind::UnlockAll | Kind::Unlisten { all: true } | Kind::CloseCursor { all: true }
            )
        };
        !facts.statements.is_empty()
            && self.is_as_new()
            && facts.statements.iter().all(|statement| sets_back(&statement.kind))
    }

    /// Whether the proxy answers a statement of this kind alone, as the client stands now.
    fn is_local(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Setting(_) => true,
            // The client's prepared statements are kept here, but for those that SQL-level PREPARE made on the server.
            Kind::Deallocate { .. } => !self.pins.prepared,
            Kind::BackendPid { .. } => self.is_well(),
            Kind::Signal { pid, .. } => self.is_client(pid, &[]),
            Kind::ResetAll
            | Kind::UnlockAll
            | Kind::Unlisten { all: true }
            | Kind::CloseCursor { all: true }
            | Kind::Discard { all: true } => self.is_as_new(),
            Kind::Transaction(TransactionControl::Begin { .. }) => self.may_begin_lazily(),
            Kind::Transaction(
                TransactionControl::Commit { chain: false } | TransactionControl::Rollback { chain: false },
            ) => self.ends_without_server(),
            _ => false,
        }
    }

    /// How a simple Query is carried out.
    fn shape(&self, facts: &Facts, message: &[u8]) -> Result<Shape, Complaint> {
        let [first, rest @ ..] = &*facts.statements else {
            return Ok(if facts.class == Class::Empty { Shape::Empty } else { Shape::Ordinary });
        };
        if rest.is_empty() {
            return Ok(match &first.kind {
                Kind::Setting(_) => Shape::Local,
                Kind::Transaction(TransactionControl::Begin { starts, read_only, isolation, .. }) => Shape::Begin {
                    read_only: self.begins_read_only(*read_only, *isolation),
                    leads: self.may_lead(*isolation),
                    text: message.to_vec(),
                    tag: begin_tag(*starts),
                },
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

    /// Whether a transaction that begins like this may run on a standby: read-only, and not at an isolation that standbys
    /// refuse.
    pub(super) fn begins_read_only(&self, read_only: Option<bool>, isolation: Option<Isolation>) -> bool {
        read_only.unwrap_or(self.state.is_read_only()) && isolation != Some(Isolation::Serializable)
    }

    /// Adds one message's facts to the plan.
    fn merge(&self, plan: &mut Plan, facts: &Facts) {
        if plan.class == Class::Empty {
            use TransactionControl::{Commit, Rollback};
            let first = facts.statements.first().map(|statement| &statement.kind);
            plan.ends_first = matches!(first, Some(Kind::Transaction(Commit { .. } | Rollback { .. })));
        }
        plan.class = plan.class.max(facts.class);
        plan.ends |= facts.statements.is_empty() && facts.class > Class::Empty;
        plan.runs_code |= matches!(facts.why, Why::DoBlock | Why::Procedure);
        plan.asks_sequences |= facts.asks_sequences;
        plan.rerun_safe &= facts.rerun_safe;
        plan.changes_catalog |= facts.changes_catalog;
        plan.differs_on_standby |= matches!(facts.why, Why::AdvisoryLock(_) | Why::Sequence(_));
        for statement in &facts.statements {
            match &statement.kind {
                Kind::Transaction(TransactionControl::Begin { read_only, isolation, .. }) => {
                    plan.begins = Some(self.begins_read_only(*read_only, *isolation));
                }
                Kind::Transaction(
                    TransactionControl::Commit { .. }
                    | TransactionControl::Rollback { .. }
                    | TransactionControl::TwoPhase,
                ) => plan.ends = true,
                Kind::Copy { from_client: true } => plan.copies_in = true,
                Kind::EmptiesDatabase(name) => plan.empties = Some(name.clone()),
                Kind::AltersDefaults => plan.alters_defaults = true,
                Kind::Execute(name) => plan.names_statements |= self.statements.get(name.as_bytes()).is_some(),
                _ => {}
            }
            plan.only_sets &= matches!(statement.kind, Kind::ServerSetting | Kind::ResetAll);
        }
        plan.names_statements |=
            facts.class > Class::Read && facts.tables.iter().any(|table| &*table.name == "pg_prepared_statements");
        if facts.unknown_names {
            self.database.stale.notify_one();
        }
        if !self.proxy.config.tables.is_empty() {
            self.apply_table_rules(plan, facts);
        }
    }
}

/// What it takes to look a prepared statement's facts up by the catalogue of now.
struct Known<'a> {
    proxy: &'a Proxy,
    catalog: &'a Catalog,
    scratch: &'a mut Scratch,
    reading: Reading,
}

impl Known<'_> {
    fn facts(self, statements: &mut ClientStatements, name: &[u8]) -> Option<(Arc<Facts>, Hinted)> {
        if let Some(coming) = statements.expected(name) {
            return Some((Arc::clone(&coming.facts), coming.hints.clone()));
        }
        if name.is_empty() {
            return statements.unnamed.facts.clone().map(|facts| (facts, statements.unnamed.hints.clone()));
        }
        let named = statements.get_mut(name)?;
        if named.generation != self.catalog.generation() {
            let parse = Parse::read(&named.shared.parse).ok()?;
            let text = self.reading.text(parse.text);
            named.facts = match text {
                Some(text) => self.proxy.classifier.classify(&text, self.catalog, self.scratch),
                None => Arc::new(Facts::unknown()),
            };
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

/// The command tag of BEGIN, or of START TRANSACTION.
pub(super) fn begin_tag(starts: bool) -> &'static str {
    if starts { "START TRANSACTION" } else { "BEGIN" }
}

/// The setting that a statement is about, if it is one of ours.
pub(super) fn setting_of(kind: &Kind) -> Option<&Setting> {
    match kind {
        Kind::Setting(setting) => Some(setting),
        _ => None,
    }
}
