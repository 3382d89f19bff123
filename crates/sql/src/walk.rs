//! The walk over a query: every function, operator, type and relation in it is looked up.
//!
//! It knows the scopes of WITH, and looks through views and the policies of row-level security. What it does not know
//! it notes as not understood.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, ColumnRef, DeleteStmt, FuncCall, InsertStmt, MergeStmt, Node, RangeVar, SelectStmt,
    SqlValueFunctionOp, SubLink, TypeName, UpdateStmt, WithClause,
};

use crate::builtin::{self, Effect};
use crate::catalog::{Catalog, Relation, RelationKind, Rule, Volatility};
use crate::children::{Child, children, on_conflict};
use crate::facts::{Class, Pin, TableName};
use crate::found::{Found, InOrder};
use crate::scope::Scope;
use crate::setting::string;
use crate::state;
use crate::statement::created;
use crate::why::Why;

/// Views upon views: deeper ones, and views that are defined in a circle, are not understood.
const VIEW_DEPTH_MAX: usize = 16;

/// One walk over one statement.
pub(crate) struct Walk<'a> {
    pub(crate) catalog: &'a Catalog,
    /// Names of WITH that are in sight.
    ctes: Scope,
    /// Views that we are in.
    depth: usize,
    pub(crate) found: Found,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, ctes: Scope::default(), depth: 0, found: Found::new() }
    }

    pub(crate) fn all(&mut self, nodes: &[Node]) {
        nodes.iter().for_each(|node| self.node(node));
    }

    pub(crate) fn optional(&mut self, node: &Option<Box<Node>>) {
        node.iter().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &Node) {
        node.node.iter().for_each(|node| self.enum_node(node));
    }

    fn child(&mut self, child: Child<'_>) {
        match child {
            Child::Node(node) => self.node(node),
            Child::Type(name) => self.type_name(name),
        }
    }

    pub(crate) fn enum_node(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::SelectStmt(select) => return self.select(select),
            NodeEnum::InsertStmt(insert) => return self.insert(insert),
            NodeEnum::UpdateStmt(update) => return self.update(update),
            NodeEnum::DeleteStmt(delete) => return self.delete(delete),
            NodeEnum::MergeStmt(merge) => return self.merge(merge),
            NodeEnum::RangeVar(relation) => return self.relation(relation),
            NodeEnum::FuncCall(call) => self.function(call),
            NodeEnum::AExpr(expr) => self.expression(expr),
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::ColumnRef(column) => self.column(column),
            NodeEnum::AIndirection(indirection) => self.attribute(indirection.indirection.last()),
            NodeEnum::SortBy(sort) if !sort.use_op.is_empty() => self.operator(&sort.use_op),
            NodeEnum::JoinExpr(join) if join.is_natural || !join.using_clause.is_empty() => self.operator_name("="),
            NodeEnum::SqlvalueFunction(function) => self.found.hangs_on_transaction |= tells_time(function.op),
            NodeEnum::CaseExpr(case) if case.arg.is_some() => self.operator_name("="),
            _ => {}
        }
        if !children(node, &mut |child| self.child(child)) {
            self.found.note(Class::Unknown, Why::NotUnderstood);
        }
    }

    pub(crate) fn select(&mut self, select: &SelectStmt) {
        self.found.note(Class::Read, Why::PlainRead);
        let outer = self.ctes.here();
        self.with(select.with_clause.as_ref());
        if let Some(into) = &select.into_clause {
            self.found.note(Class::Write, Why::SelectInto);
            created(into.rel.as_ref(), &mut self.found);
        }
        if !select.locking_clause.is_empty() {
            self.found.note(Class::Write, Why::RowLock);
        }
        select.larg.iter().chain(&select.rarg).for_each(|branch| self.select(branch));
        for nodes in [&select.from_clause, &select.target_list, &select.distinct_clause, &select.group_clause] {
            self.all(nodes);
        }
        for nodes in [&select.window_clause, &select.values_lists, &select.sort_clause] {
            self.all(nodes);
        }
        for node in [&select.where_clause, &select.having_clause, &select.limit_offset, &select.limit_count] {
            self.optional(node);
        }
        self.ctes.back_to(outer);
    }

    /// A name of WITH is seen by those after it, and by all if recursive; then by the statement that has the WITH.
    fn with(&mut self, with: Option<&WithClause>) {
        let Some(with) = with else { return };
        let ctes = || {
            with.ctes.iter().filter_map(|cte| match &cte.node {
                Some(NodeEnum::CommonTableExpr(cte)) => Some(cte),
                _ => None,
            })
        };
        if with.recursive {
            ctes().for_each(|cte| self.ctes.add(&cte.ctename));
        }
        for cte in ctes() {
            let query = cte.ctequery.as_ref().and_then(|query| query.node.as_ref());
            if !matches!(query, Some(NodeEnum::SelectStmt(_))) {
                self.found.note(Class::Write, Why::ModifyingCte);
            }
            query.iter().for_each(|query| self.enum_node(query));
            if let Some(cycle) = &cte.cycle_clause {
                self.optional(&cycle.cycle_mark_value);
                self.optional(&cycle.cycle_mark_default);
                self.operator_name("<>");
            }
            if !with.recursive {
                self.ctes.add(&cte.ctename);
            }
        }
    }

    /// The common part of the statements that change data; `rest` walks what is their own, with WITH in sight.
    fn change(&mut self, target: Option<&RangeVar>, with: Option<&WithClause>, rest: impl FnOnce(&mut Self)) {
        self.found.note(Class::Write, Why::DataChange);
        if let Some(target) = target {
            self.found.table(table_name(target));
            self.catalog.note_triggers(&target.relname, &mut self.found);
        }
        let outer = self.ctes.here();
        self.with(with);
        rest(self);
        self.ctes.back_to(outer);
    }

    fn insert(&mut self, insert: &InsertStmt) {
        self.change(insert.relation.as_ref(), insert.with_clause.as_ref(), |walk| {
            walk.all(&insert.cols);
            walk.optional(&insert.select_stmt);
            insert.on_conflict_clause.iter().for_each(|clause| on_conflict(clause, &mut |child| walk.child(child)));
            insert.returning_clause.iter().for_each(|returning| walk.all(&returning.exprs));
        });
    }

    fn update(&mut self, update: &UpdateStmt) {
        self.change(update.relation.as_ref(), update.with_clause.as_ref(), |walk| {
            walk.all(&update.target_list);
            walk.all(&update.from_clause);
            walk.optional(&update.where_clause);
            update.returning_clause.iter().for_each(|returning| walk.all(&returning.exprs));
        });
    }

    fn delete(&mut self, delete: &DeleteStmt) {
        self.change(delete.relation.as_ref(), delete.with_clause.as_ref(), |walk| {
            walk.all(&delete.using_clause);
            walk.optional(&delete.where_clause);
            delete.returning_clause.iter().for_each(|returning| walk.all(&returning.exprs));
        });
    }

    fn merge(&mut self, merge: &MergeStmt) {
        self.change(merge.relation.as_ref(), merge.with_clause.as_ref(), |walk| {
            walk.optional(&merge.source_relation);
            walk.optional(&merge.join_condition);
            walk.all(&merge.merge_when_clauses);
            merge.returning_clause.iter().for_each(|returning| walk.all(&returning.exprs));
        });
    }

    /// A relation that is read. Without a schema in the text it may be any of this name: the worst counts.
    pub(crate) fn relation(&mut self, range: &RangeVar) {
        if range.schemaname.is_empty() && self.ctes.has(&range.relname) {
            return;
        }
        let table = table_name(range);
        let catalog = self.catalog;
        let mut known = false;
        for relation in catalog.relations(table.schema.as_deref(), &table.name) {
            known = true;
            let name = || table.name.clone();
            match relation.kind {
                RelationKind::Table => {}
                RelationKind::Unlogged => self.found.note(Class::Primary, Why::Unlogged(name())),
                RelationKind::Foreign => self.found.note(Class::Primary, Why::Foreign(name())),
                RelationKind::Sequence => self.found.note(Class::Primary, Why::Sequence(name())),
                RelationKind::ServerLocal => self.found.note(Class::Primary, Why::ServerLocalView(name())),
            }
            self.definitions(&table.name, relation);
        }
        if !known {
            self.found.note(Class::Unknown, Why::UnknownRelation(table.name.clone()));
            self.found.unknown_names = true;
        }
        self.found.table(table);
    }

    /// What a view stands for, and what the policies of a table call.
    fn definitions(&mut self, name: &str, relation: &Relation) {
        if relation.definitions.is_empty() {
            return;
        }
        let inside = match relation.verdict.get() {
            Some(inside) => inside.clone(),
            None => {
                let inside = self.inside(&relation.definitions);
                // Another thread may have been first, with the same result.
                let _ = relation.verdict.set(inside.clone());
                inside
            }
        };
        self.found.unknown_names |= inside.unknown_names;
        self.found.hangs_on_transaction |= inside.hangs_on_transaction;
        if inside.class > Class::Read {
            let why = Why::Through { relation: name.into(), because: Box::new(inside.why) };
            self.found.note(inside.class, why);
        }
        self.found.rerun_safe &= inside.rerun_safe;
        inside.pin.into_iter().for_each(|pin| self.found.pin(pin));
        inside.touches.into_inner().into_iter().for_each(|touch| self.found.touch(touch));
        self.found.may_unpin |= inside.may_unpin;
    }

    fn inside(&self, definitions: &[Box<str>]) -> Found {
        let mut walk = Walk { depth: self.depth + 1, ..Walk::new(self.catalog) };
        for text in definitions {
            match pg_query::parse(text, 0) {
                Ok(parsed) if walk.depth <= VIEW_DEPTH_MAX => {
                    parsed.protobuf.stmts.iter().for_each(|raw| walk.optional(&raw.stmt));
                }
                _ => walk.found.note(Class::Unknown, Why::NotUnderstood),
            }
        }
        walk.found.tables = InOrder::default();
        walk.found
    }

    /// A function by its name: all overloads of it that the call may mean, the worst counts.
    fn function(&mut self, call: &FuncCall) {
        let (schema, name) = match &*call.funcname {
            [name] => (None, string(name)),
            [schema, name] => (string(schema), string(name)),
            _ => (None, None),
        };
        let Some(name) = name else { return self.found.note(Class::Unknown, Why::NotUnderstood) };
        if name == "set_config" {
            state::set_config(call, &mut self.found);
        }
        let catalog = self.catalog;
        catalog.note_function(name, &mut self.found);
        let mut known = false;
        for function in catalog.functions(schema, name) {
            known = true;
            self.found.hangs_on_transaction |= !function.builtin || builtin::OF_TRANSACTION.contains(&name);
            let volatile = function.volatility == Volatility::Volatile;
            match catalog.rule(&function.schema, name) {
                Some(Rule::Reads) => self.found.rerun_safe &= !volatile,
                Some(Rule::Writes) => self.found.note(Class::Write, Why::VolatileFunction(name.into())),
                None if function.builtin => self.builtin(name, function.volatility),
                None if volatile => self.found.note(Class::Write, Why::VolatileFunction(name.into())),
                None => {}
            }
        }
        if !known {
            self.found.note(Class::Write, Why::UnknownFunction(name.into()));
            self.found.unknown_names = true;
            // What it leaves behind must be known all the same.
            self.leaves(builtin::effect(name, Volatility::Volatile));
        }
    }

    fn builtin(&mut self, name: &str, volatility: Volatility) {
        let effect = builtin::effect(name, volatility);
        let name: Box<str> = name.into();
        let (class, why) = match effect {
            Effect::Harmless => return,
            Effect::Local => (Class::Primary, Why::ServerLocalFunction(name)),
            Effect::MovesSequence => (Class::Write, Why::SequenceFunction(name)),
            Effect::SessionLock | Effect::AdvisoryLock => (Class::Primary, Why::AdvisoryLock(name)),
            Effect::ReadsLargeObject => (Class::Primary, Why::LargeObject(name)),
            Effect::WritesLargeObject => (Class::Write, Why::LargeObject(name)),
            Effect::Setting | Effect::RandomSeed => (Class::Primary, Why::SessionState),
            Effect::Notifies => (Class::Write, Why::Notify),
            Effect::Writes => (Class::Write, Why::VolatileFunction(name)),
        };
        self.found.note(class, why);
        self.found.rerun_safe &= volatility == Volatility::Steady;
        self.leaves(effect);
    }

    /// What a function leaves in the state of the connection.
    fn leaves(&mut self, effect: Effect) {
        match effect {
            Effect::SessionLock => self.found.pin(Pin::AdvisoryLock),
            Effect::AdvisoryLock => self.found.may_unpin = true,
            Effect::RandomSeed => self.found.pin(Pin::RandomSeed),
            _ => {}
        }
    }

    /// `t.f` and `(t).f` call `f(t)` if `t` has no column `f` (manual, "Field Selection").
    fn column(&mut self, column: &ColumnRef) {
        if column.fields.len() > 1 {
            self.attribute(column.fields.last());
        }
    }

    fn attribute(&mut self, field: Option<&Node>) {
        let catalog = self.catalog;
        if let Some(name) = field.and_then(string)
            && catalog
                .functions(None, name)
                .any(|function| function.of_row && function.volatility == Volatility::Volatile)
        {
            self.found.note(Class::Write, Why::VolatileFunction(name.into()));
        }
    }

    fn expression(&mut self, expr: &AExpr) {
        match AExprKind::try_from(expr.kind) {
            Ok(
                AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => ["<", ">", "<=", ">="].into_iter().for_each(|name| self.operator_name(name)),
            _ => self.operator(&expr.name),
        }
    }

    /// `IN (SELECT ...)` names no operator and means equality.
    fn sub_link(&mut self, link: &SubLink) {
        if !link.oper_name.is_empty() {
            self.operator(&link.oper_name);
        } else if link.testexpr.is_some() {
            self.operator_name("=");
        }
    }

    /// An operator, whatever its schema.
    fn operator(&mut self, name: &[Node]) {
        match name.last().and_then(string) {
            Some(name) => self.operator_name(name),
            None => self.found.note(Class::Unknown, Why::NotUnderstood),
        }
    }

    fn operator_name(&mut self, name: &str) {
        match self.catalog.operator(name) {
            Some(Volatility::Volatile) => self.found.note(Class::Write, Why::VolatileOperator(name.into())),
            Some(Volatility::Steady) => {}
            None => {
                self.found.note(Class::Write, Why::UnknownOperator(name.into()));
                self.found.unknown_names = true;
            }
        }
    }

    fn type_name(&mut self, name: &TypeName) {
        self.all(&name.typmods);
        if let Some(name) = name.names.last().and_then(string)
            && self.catalog.is_volatile_type(name)
        {
            self.found.note(Class::Write, Why::VolatileType(name.into()));
        }
    }
}

/// The name as the text has it.
pub(crate) fn table_name(range: &RangeVar) -> TableName {
    let schema = (!range.schemaname.is_empty()).then(|| range.schemaname.as_str().into());
    TableName { schema, name: range.relname.as_str().into() }
}

/// `CURRENT_TIMESTAMP` and its kin: the time at which the transaction began.
fn tells_time(op: i32) -> bool {
    use SqlValueFunctionOp as Op;
    let others = [
        Op::SvfopCurrentRole,
        Op::SvfopCurrentUser,
        Op::SvfopUser,
        Op::SvfopSessionUser,
        Op::SvfopCurrentCatalog,
        Op::SvfopCurrentSchema,
    ];
    !others.into_iter().any(|other| other as i32 == op)
}
