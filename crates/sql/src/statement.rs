//! One message: its statements, each with its kind, and the worst of what they do.

use std::ops::Range;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CopyStmt, CreatedbStmt, ExplainStmt, Node, ObjectType, RangeVar, RawStmt, VariableSetKind, VariableSetStmt,
};

use crate::catalog::Catalog;
use crate::facts::{Class, Facts, Kind, Pin, Statement, Touch};
use crate::found::{Found, InOrder};
use crate::setting::{self, Setting, Value};
use crate::state;
use crate::transaction;
use crate::walk::{Walk, table_name};
use crate::why::Why;

/// `CURSOR_OPT_HOLD` of `parsenodes.h`.
const CURSOR_HOLD: i32 = 0x0020;

/// The facts of a message, by the grammar.
pub(crate) fn analyse(text: &str, catalog: &Catalog) -> Facts {
    let parsed = match pg_query::parse(text, 0) {
        Ok(parsed) => parsed,
        // The server will refuse it as well, so nothing will have changed.
        Err(pg_query::Error::Parse(_)) => return Facts { changes_catalog: false, ..Facts::unknown() },
        Err(_) => return Facts { why: Why::NotUnderstood, ..Facts::unknown() },
    };
    let mut total = Found::new();
    let mut statements = Vec::with_capacity(parsed.protobuf.stmts.len());
    for raw in &parsed.protobuf.stmts {
        let mut walk = Walk::new(catalog);
        let kind = match raw.stmt.as_ref().and_then(|node| node.node.as_ref()) {
            Some(node) => kind_of(node, &mut walk),
            None => Kind::Plain,
        };
        statements.push(Statement { kind, class: walk.found.class, range: range(raw, text) });
        total.merge(walk.found);
    }
    Facts {
        class: total.class,
        why: total.why,
        pin: total.pin,
        statements: statements.into(),
        tables: total.tables.into_inner().into(),
        rerun_safe: total.rerun_safe,
        changes_catalog: total.changes_catalog,
        unknown_names: total.unknown_names,
        hangs_on_transaction: total.hangs_on_transaction,
        touches: total.touches.into_inner().into(),
        may_unpin: total.may_unpin,
    }
}

/// A length of zero means "to the end".
fn range(raw: &RawStmt, text: &str) -> Range<usize> {
    let start = usize::try_from(raw.stmt_location).unwrap_or(0).min(text.len());
    let length = usize::try_from(raw.stmt_len).unwrap_or(0);
    start..if length == 0 { text.len() } else { (start + length).min(text.len()) }
}

/// Notes what one statement does, and says what it is.
fn kind_of(node: &NodeEnum, walk: &mut Walk<'_>) -> Kind {
    query(node, walk).or_else(|| session(node, &mut walk.found)).unwrap_or_else(|| utility(node, walk))
}

/// Statements with a query in them.
fn query(node: &NodeEnum, walk: &mut Walk<'_>) -> Option<Kind> {
    Some(match node {
        NodeEnum::SelectStmt(select) => match setting::of_select(select) {
            Some(setting) => own_setting(setting, &mut walk.found),
            None => {
                walk.select(select);
                state::of_select(select).unwrap_or(Kind::Plain)
            }
        },
        NodeEnum::InsertStmt(_) | NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_) | NodeEnum::MergeStmt(_) => {
            walk.enum_node(node);
            Kind::Plain
        }
        NodeEnum::ExplainStmt(explain) => explained(explain, walk),
        NodeEnum::CopyStmt(copy) => copied(copy, walk),
        NodeEnum::DeclareCursorStmt(declare) => {
            let held = declare.options & CURSOR_HOLD != 0;
            walk.optional(&declare.query);
            walk.found.hangs_on_transaction = true;
            if held {
                walk.found.note(Class::Primary, Why::HeldCursor);
                walk.found.pin(Pin::HeldCursor);
            }
            Kind::Declare { held }
        }
        NodeEnum::CallStmt(call) => {
            walk.found.note(Class::Write, Why::Procedure);
            if let Some(call) = &call.funccall {
                walk.all(&call.args);
                let name = call.funcname.last().and_then(setting::string).unwrap_or_default();
                walk.catalog.note_function(name, &mut walk.found);
            }
            Kind::Plain
        }
        NodeEnum::CreateTableAsStmt(create) => {
            walk.found.note(Class::Write, Why::SelectInto);
            walk.optional(&create.query);
            created(create.into.as_ref().and_then(|into| into.rel.as_ref()), &mut walk.found);
            Kind::Plain
        }
        _ => return None,
    })
}

fn own_setting(setting: Setting, found: &mut Found) -> Kind {
    // Only the value of the parameter will tell whose setting it is.
    if let Setting::SetConfig { name: Value::Param(number), .. } = setting {
        found.note(Class::Primary, Why::SessionState);
        found.touch(Touch::Set(Value::Param(number)));
    } else {
        found.note(Class::Read, Why::ProxySetting);
    }
    Kind::Setting(setting)
}

/// Without ANALYZE nothing runs. Any mention of ANALYZE counts: whether it is switched off may stand in a literal.
fn explained(explain: &ExplainStmt, walk: &mut Walk<'_>) -> Kind {
    let Some(inner) = explain.query.as_ref().and_then(|node| node.node.as_ref()) else { return Kind::Plain };
    kind_of(inner, walk);
    let analyze =
        |option: &Node| matches!(&option.node, Some(NodeEnum::DefElem(option)) if option.defname == "analyze");
    if !explain.options.iter().any(analyze) {
        let found = &mut walk.found;
        if found.class == Class::Write {
            (found.class, found.why) = (Class::Primary, Why::ExplainOfWrite);
            found.rerun_safe = true;
        }
        found.pin = None;
        found.touches = InOrder::default();
        found.changes_catalog = false;
    }
    Kind::Plain
}

fn copied(copy: &CopyStmt, walk: &mut Walk<'_>) -> Kind {
    let by_client = copy.filename.is_empty() && !copy.is_program;
    if copy.is_from {
        walk.found.note(Class::Write, Why::CopyFrom);
        if let Some(relation) = &copy.relation {
            walk.found.table(table_name(relation));
            walk.catalog.note_triggers(&relation.relname, &mut walk.found);
        }
        walk.optional(&copy.where_clause);
    } else {
        walk.found.note(Class::Read, Why::PlainRead);
        copy.relation.iter().for_each(|relation| walk.relation(relation));
        walk.optional(&copy.query);
        if !by_client {
            walk.found.note(Class::Primary, Why::ServerFile);
            walk.found.rerun_safe = false;
        }
    }
    if by_client { Kind::Copy { from_client: copy.is_from } } else { Kind::Plain }
}

/// Statements about the transaction or the connection.
fn session(node: &NodeEnum, found: &mut Found) -> Option<Kind> {
    Some(match node {
        NodeEnum::TransactionStmt(stmt) => transaction::control(stmt, found),
        NodeEnum::VariableSetStmt(set) => set_statement(set, found),
        NodeEnum::VariableShowStmt(show) => match setting::of_show(show) {
            Some(setting) => own_setting(setting, found),
            None => plain(found, Class::Primary, Why::Show),
        },
        NodeEnum::FetchStmt(_) => {
            found.note(Class::Read, Why::Cursor);
            found.hangs_on_transaction = true;
            Kind::Fetch
        }
        NodeEnum::ClosePortalStmt(close) => {
            found.note(Class::Read, Why::Cursor);
            found.hangs_on_transaction = true;
            found.may_unpin = true;
            Kind::CloseCursor { all: close.portalname.is_empty() }
        }
        NodeEnum::ListenStmt(_) => pinned(found, Why::Listen, Pin::Listen),
        NodeEnum::UnlistenStmt(unlisten) => {
            found.note(Class::Primary, Why::Listen);
            found.may_unpin = true;
            Kind::Unlisten { all: unlisten.conditionname.is_empty() }
        }
        NodeEnum::NotifyStmt(_) => plain(found, Class::Write, Why::Notify),
        NodeEnum::PrepareStmt(_) => pinned(found, Why::SqlPrepared, Pin::Prepare),
        NodeEnum::ExecuteStmt(execute) => {
            found.note(Class::Write, Why::Execute);
            // What was prepared may leave anything.
            found.may_unpin = true;
            Kind::Execute(execute.name.as_str().into())
        }
        NodeEnum::DeallocateStmt(deallocate) => {
            found.note(Class::Primary, Why::SqlPrepared);
            found.may_unpin = true;
            Kind::Deallocate { all: deallocate.isall }
        }
        NodeEnum::DiscardStmt(discard) => state::discard(discard.target, found),
        NodeEnum::LoadStmt(_) => pinned(found, Why::SessionState, Pin::Library),
        NodeEnum::ConstraintsSetStmt(_) => plain(found, Class::Primary, Why::SessionState),
        NodeEnum::CheckPointStmt(_) => plain(found, Class::Primary, Why::Checkpoint),
        _ => return None,
    })
}

fn plain(found: &mut Found, class: Class, why: Why) -> Kind {
    found.note(class, why);
    Kind::Plain
}

fn pinned(found: &mut Found, why: Why, pin: Pin) -> Kind {
    found.pin(pin);
    plain(found, Class::Primary, why)
}

fn set_statement(set: &VariableSetStmt, found: &mut Found) -> Kind {
    use VariableSetKind::VarSetMulti;
    let kind = VariableSetKind::try_from(set.kind).unwrap_or(VariableSetKind::Undefined);
    match (kind, set.name.as_str()) {
        (VarSetMulti, "TRANSACTION") => return transaction::set_transaction(set, found),
        (VarSetMulti, "TRANSACTION SNAPSHOT") => return plain(found, Class::Primary, Why::ImportedSnapshot),
        _ => {}
    }
    if let Some(setting) = setting::of_set(set) {
        return own_setting(setting, found);
    }
    state::set(set, found)
}

/// All that is neither a query nor about the connection: maintenance, definitions, and whatever comes later.
fn utility(node: &NodeEnum, walk: &mut Walk<'_>) -> Kind {
    let found = &mut walk.found;
    match node {
        NodeEnum::LockStmt(lock) => {
            tables(&lock.relations, found);
            return plain(found, Class::Primary, Why::TableLock);
        }
        NodeEnum::TruncateStmt(truncate) => {
            tables(&truncate.relations, found);
            return plain(found, Class::Write, Why::DataChange);
        }
        NodeEnum::VacuumStmt(_)
        | NodeEnum::ClusterStmt(_)
        | NodeEnum::ReindexStmt(_)
        | NodeEnum::RefreshMatViewStmt(_) => {
            return plain(found, Class::Write, Why::Maintenance);
        }
        NodeEnum::DoStmt(block) => {
            state::block(block, found);
            return plain(found, Class::Write, Why::DoBlock);
        }
        NodeEnum::CreateStmt(create) => created(create.relation.as_ref(), found),
        NodeEnum::CreateSeqStmt(create) => created(create.sequence.as_ref(), found),
        NodeEnum::ViewStmt(create) => created(create.view.as_ref(), found),
        NodeEnum::CompositeTypeStmt(create) => created(create.typevar.as_ref(), found),
        NodeEnum::CreateFunctionStmt(create) => created_name(&create.funcname, found),
        NodeEnum::DefineStmt(create) => created_name(&create.defnames, found),
        NodeEnum::CreateDomainStmt(create) => created_name(&create.domainname, found),
        NodeEnum::CreateEnumStmt(create) => created_name(&create.type_name, found),
        NodeEnum::CreateRangeStmt(create) => created_name(&create.type_name, found),
        _ => {}
    }
    // What is created temporary is not in the catalogue.
    found.changes_catalog |= found.pin != Some(Pin::TemporaryTable);
    found.may_unpin = true;
    found.note(Class::Write, Why::Definition);
    server_wide(node).unwrap_or(Kind::Plain)
}

/// Definitions that reach beyond the database.
fn server_wide(node: &NodeEnum) -> Option<Kind> {
    let empties = |name: &str| Some(Kind::EmptiesDatabase(name.into()));
    match node {
        NodeEnum::DropdbStmt(drop) => empties(&drop.dbname),
        NodeEnum::CreatedbStmt(create) => empties(template(create)),
        NodeEnum::RenameStmt(rename) if rename.rename_type == ObjectType::ObjectDatabase as i32 => {
            empties(&rename.subname)
        }
        // Besides much else it moves a database to another tablespace, for which nobody may be connected.
        NodeEnum::AlterDatabaseStmt(alter) => empties(&alter.dbname),
        NodeEnum::AlterRoleSetStmt(_) | NodeEnum::AlterDatabaseSetStmt(_) => Some(Kind::AltersDefaults),
        _ => None,
    }
}

/// The database that a new one is copied from (manual, CREATE DATABASE).
fn template(create: &CreatedbStmt) -> &str {
    let named = create.options.iter().find_map(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == "template" => {
            option.arg.as_deref().and_then(setting::string)
        }
        _ => None,
    });
    named.unwrap_or("template1")
}

fn tables(relations: &[Node], found: &mut Found) {
    for relation in relations {
        if let Some(NodeEnum::RangeVar(relation)) = &relation.node {
            found.table(table_name(relation));
        }
    }
}

/// A relation that a statement creates: a temporary one stays with the connection.
pub(crate) fn created(relation: Option<&RangeVar>, found: &mut Found) {
    if relation.is_some_and(|relation| relation.relpersistence == "t" || relation.schemaname == "pg_temp") {
        found.pin(Pin::TemporaryTable);
    } else {
        found.changes_catalog = true;
    }
}

fn created_name(name: &[Node], found: &mut Found) {
    if name.len() > 1 && name.first().and_then(setting::string) == Some("pg_temp") {
        found.pin(Pin::TemporaryTable);
    }
}
