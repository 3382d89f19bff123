//! The children of an expression or FROM item in PostgreSQL's raw parse tree.
//!
//! The list is closed: a node that is not in it is not understood, and a tree with such a node is no read. Nothing here
//! knows what a node means.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    JsonAggConstructor, JsonBehavior, JsonOutput, JsonTablePathSpec, JsonValueExpr, Node, OnConflictClause, TypeName,
    WindowDef,
};

/// A child worth a visit.
pub(crate) enum Child<'a> {
    Node(&'a Node),
    Type(&'a TypeName),
}

type Visit<'v, 'a> = &'v mut dyn FnMut(Child<'a>);

/// Visits the children of `node`; false if the node is not known.
///
/// SELECT, INSERT, UPDATE, DELETE and MERGE are not in the list: WITH gives them scopes, which is the walk's affair.
pub(crate) fn children<'a>(node: &'a NodeEnum, visit: Visit<'_, 'a>) -> bool {
    leaf(node) || expression(node, visit) || from_item(node, visit) || clause(node, visit) || json(node, visit)
}

fn leaf(node: &NodeEnum) -> bool {
    matches!(
        node,
        NodeEnum::AConst(_)
            | NodeEnum::AStar(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::ColumnRef(_)
            | NodeEnum::String(_)
            | NodeEnum::Integer(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::MergeSupportFunc(_)
            | NodeEnum::ReturningOption(_)
    )
}

fn expression<'a>(node: &'a NodeEnum, visit: Visit<'_, 'a>) -> bool {
    match node {
        NodeEnum::AExpr(expr) => two(&expr.lexpr, &expr.rexpr, visit),
        NodeEnum::BoolExpr(expr) => all(&expr.args, visit),
        NodeEnum::FuncCall(call) => {
            all(&call.args, visit);
            all(&call.agg_order, visit);
            one(&call.agg_filter, visit);
            call.over.iter().for_each(|over| window(over, visit));
        }
        NodeEnum::SubLink(link) => two(&link.testexpr, &link.subselect, visit),
        NodeEnum::TypeCast(cast) => {
            one(&cast.arg, visit);
            type_name(&cast.type_name, visit);
        }
        NodeEnum::CollateClause(clause) => one(&clause.arg, visit),
        NodeEnum::NullTest(test) => one(&test.arg, visit),
        NodeEnum::BooleanTest(test) => one(&test.arg, visit),
        NodeEnum::CaseExpr(case) => {
            two(&case.arg, &case.defresult, visit);
            all(&case.args, visit);
        }
        NodeEnum::CaseWhen(when) => two(&when.expr, &when.result, visit),
        NodeEnum::CoalesceExpr(expr) => all(&expr.args, visit),
        NodeEnum::MinMaxExpr(expr) => all(&expr.args, visit),
        NodeEnum::RowExpr(row) => all(&row.args, visit),
        NodeEnum::AArrayExpr(array) => all(&array.elements, visit),
        NodeEnum::AIndices(indices) => two(&indices.lidx, &indices.uidx, visit),
        NodeEnum::AIndirection(indirection) => {
            one(&indirection.arg, visit);
            all(&indirection.indirection, visit);
        }
        NodeEnum::NamedArgExpr(arg) => one(&arg.arg, visit),
        NodeEnum::MultiAssignRef(assign) => one(&assign.source, visit),
        NodeEnum::GroupingFunc(grouping) => all(&grouping.args, visit),
        NodeEnum::XmlExpr(xml) => {
            all(&xml.named_args, visit);
            all(&xml.args, visit);
        }
        NodeEnum::XmlSerialize(xml) => {
            one(&xml.expr, visit);
            type_name(&xml.type_name, visit);
        }
        _ => return false,
    }
    true
}

fn from_item<'a>(node: &'a NodeEnum, visit: Visit<'_, 'a>) -> bool {
    match node {
        NodeEnum::JoinExpr(join) => {
            two(&join.larg, &join.rarg, visit);
            one(&join.quals, visit);
        }
        NodeEnum::RangeSubselect(range) => one(&range.subquery, visit),
        NodeEnum::RangeFunction(range) => {
            all(&range.functions, visit);
            all(&range.coldeflist, visit);
        }
        NodeEnum::RangeTableSample(sample) => {
            two(&sample.relation, &sample.repeatable, visit);
            all(&sample.args, visit);
        }
        NodeEnum::RangeTableFunc(table) => {
            two(&table.docexpr, &table.rowexpr, visit);
            all(&table.namespaces, visit);
            all(&table.columns, visit);
        }
        NodeEnum::RangeTableFuncCol(column) => {
            two(&column.colexpr, &column.coldefexpr, visit);
            type_name(&column.type_name, visit);
        }
        // In a query, a column definition is a name and a type: `AS t(a int)`.
        NodeEnum::ColumnDef(column) => type_name(&column.type_name, visit),
        _ => return false,
    }
    true
}

fn clause<'a>(node: &'a NodeEnum, visit: Visit<'_, 'a>) -> bool {
    match node {
        NodeEnum::ResTarget(target) => {
            one(&target.val, visit);
            all(&target.indirection, visit);
        }
        NodeEnum::SortBy(sort) => one(&sort.node, visit),
        NodeEnum::GroupingSet(set) => all(&set.content, visit),
        NodeEnum::WindowDef(def) => window(def, visit),
        NodeEnum::List(list) => all(&list.items, visit),
        NodeEnum::TypeName(name) => visit(Child::Type(name)),
        NodeEnum::IndexElem(element) => one(&element.expr, visit),
        NodeEnum::MergeWhenClause(when) => {
            one(&when.condition, visit);
            all(&when.target_list, visit);
            all(&when.values, visit);
        }
        _ => return false,
    }
    true
}

fn json<'a>(node: &'a NodeEnum, visit: Visit<'_, 'a>) -> bool {
    match node {
        NodeEnum::JsonFuncExpr(func) => {
            json_value(func.context_item.as_deref(), visit);
            one(&func.pathspec, visit);
            all(&func.passing, visit);
            json_output(func.output.as_ref(), visit);
            json_behavior(func.on_empty.as_deref(), visit);
            json_behavior(func.on_error.as_deref(), visit);
        }
        NodeEnum::JsonTable(table) => {
            json_value(table.context_item.as_deref(), visit);
            json_path(table.pathspec.as_deref(), visit);
            all(&table.passing, visit);
            all(&table.columns, visit);
            json_behavior(table.on_error.as_deref(), visit);
        }
        NodeEnum::JsonTableColumn(column) => {
            type_name(&column.type_name, visit);
            json_path(column.pathspec.as_deref(), visit);
            all(&column.columns, visit);
            json_behavior(column.on_empty.as_deref(), visit);
            json_behavior(column.on_error.as_deref(), visit);
        }
        NodeEnum::JsonTablePathSpec(path) => one(&path.string, visit),
        NodeEnum::JsonArgument(argument) => json_value(argument.val.as_deref(), visit),
        NodeEnum::JsonValueExpr(value) => json_value(Some(value), visit),
        NodeEnum::JsonKeyValue(pair) => {
            one(&pair.key, visit);
            json_value(pair.value.as_deref(), visit);
        }
        NodeEnum::JsonIsPredicate(predicate) => one(&predicate.expr, visit),
        NodeEnum::JsonBehavior(behavior) => json_behavior(Some(behavior), visit),
        NodeEnum::JsonOutput(output) => json_output(Some(output), visit),
        _ => return json_constructor(node, visit),
    }
    true
}

fn json_constructor<'a>(node: &'a NodeEnum, visit: Visit<'_, 'a>) -> bool {
    match node {
        NodeEnum::JsonParseExpr(parse) => {
            json_value(parse.expr.as_deref(), visit);
            json_output(parse.output.as_ref(), visit);
        }
        NodeEnum::JsonScalarExpr(scalar) => {
            one(&scalar.expr, visit);
            json_output(scalar.output.as_ref(), visit);
        }
        NodeEnum::JsonSerializeExpr(serialize) => {
            json_value(serialize.expr.as_deref(), visit);
            json_output(serialize.output.as_ref(), visit);
        }
        NodeEnum::JsonObjectConstructor(object) => {
            all(&object.exprs, visit);
            json_output(object.output.as_ref(), visit);
        }
        NodeEnum::JsonArrayConstructor(array) => {
            all(&array.exprs, visit);
            json_output(array.output.as_ref(), visit);
        }
        NodeEnum::JsonArrayQueryConstructor(array) => {
            one(&array.query, visit);
            json_output(array.output.as_ref(), visit);
        }
        NodeEnum::JsonObjectAgg(aggregate) => {
            json_aggregate(aggregate.constructor.as_deref(), visit);
            if let Some(pair) = &aggregate.arg {
                one(&pair.key, visit);
                json_value(pair.value.as_deref(), visit);
            }
        }
        NodeEnum::JsonArrayAgg(aggregate) => {
            json_aggregate(aggregate.constructor.as_deref(), visit);
            json_value(aggregate.arg.as_deref(), visit);
        }
        _ => return false,
    }
    true
}

/// `ON CONFLICT`.
pub(crate) fn on_conflict<'a>(clause: &'a OnConflictClause, visit: Visit<'_, 'a>) {
    all(&clause.target_list, visit);
    one(&clause.where_clause, visit);
    if let Some(infer) = &clause.infer {
        all(&infer.index_elems, visit);
        one(&infer.where_clause, visit);
    }
}

fn one<'a>(node: &'a Option<Box<Node>>, visit: Visit<'_, 'a>) {
    node.iter().for_each(|node| visit(Child::Node(node)));
}

fn two<'a>(first: &'a Option<Box<Node>>, second: &'a Option<Box<Node>>, visit: Visit<'_, 'a>) {
    one(first, visit);
    one(second, visit);
}

fn all<'a>(nodes: &'a [Node], visit: Visit<'_, 'a>) {
    nodes.iter().for_each(|node| visit(Child::Node(node)));
}

fn type_name<'a>(name: &'a Option<TypeName>, visit: Visit<'_, 'a>) {
    name.iter().for_each(|name| visit(Child::Type(name)));
}

fn window<'a>(def: &'a WindowDef, visit: Visit<'_, 'a>) {
    all(&def.partition_clause, visit);
    all(&def.order_clause, visit);
    two(&def.start_offset, &def.end_offset, visit);
}

fn json_value<'a>(value: Option<&'a JsonValueExpr>, visit: Visit<'_, 'a>) {
    if let Some(value) = value {
        two(&value.raw_expr, &value.formatted_expr, visit);
    }
}

fn json_output<'a>(output: Option<&'a JsonOutput>, visit: Visit<'_, 'a>) {
    output.iter().for_each(|output| type_name(&output.type_name, visit));
}

fn json_behavior<'a>(behavior: Option<&'a JsonBehavior>, visit: Visit<'_, 'a>) {
    behavior.iter().for_each(|behavior| one(&behavior.expr, visit));
}

fn json_path<'a>(path: Option<&'a JsonTablePathSpec>, visit: Visit<'_, 'a>) {
    path.iter().for_each(|path| one(&path.string, visit));
}

fn json_aggregate<'a>(constructor: Option<&'a JsonAggConstructor>, visit: Visit<'_, 'a>) {
    if let Some(constructor) = constructor {
        json_output(constructor.output.as_ref(), visit);
        one(&constructor.agg_filter, visit);
        all(&constructor.agg_order, visit);
        constructor.over.iter().for_each(|over| window(over, visit));
    }
}
