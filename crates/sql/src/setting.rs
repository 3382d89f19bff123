//! Statements addressed to the proxy: SET, RESET, SHOW, `set_config` and `current_setting` of `highwater.` names.
//!
//! Only whole statements count: `set_config('highwater.token', ...)` inside a larger query is an ordinary function call.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AConst, FuncCall, Node, SelectStmt, VariableSetKind, VariableSetStmt, VariableShowStmt, a_const::Val,
};

const PREFIX: &str = "highwater.";

/// A statement about settings that the proxy answers itself. Names are complete (`highwater.session`), in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `SET [LOCAL] name = value`.
    Set {
        /// The setting.
        name: String,
        /// What it is set to.
        value: Value,
        /// `SET LOCAL`.
        local: bool,
    },
    /// `RESET name`.
    Reset {
        /// The setting.
        name: String,
    },
    /// `SHOW name`.
    Show {
        /// The setting.
        name: String,
    },
    /// `SELECT set_config(name, value, is_local)`, one row with the new value.
    SetConfig {
        /// The setting; a parameter may turn out to be a server's own setting.
        name: Value,
        /// What it is set to.
        value: Value,
        /// Whether only for the transaction.
        local: Flag,
        /// The name of the result's column.
        column: String,
    },
    /// `SELECT current_setting(name [, missing_ok])`, one row with the value.
    CurrentSetting {
        /// The setting.
        name: String,
        /// The name of the result's column.
        column: String,
    },
}

/// A value in the text, or the parameter that will bring it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Written out; numbers as they stand.
    Text(String),
    /// `$n`, from 1.
    Param(u32),
    /// NULL.
    Null,
    /// `DEFAULT`.
    Default,
}

/// A truth value in the text, or the parameter that will bring it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Written out.
    Known(bool),
    /// `$n`, from 1.
    Param(u32),
}

/// `SET` and `RESET` of a setting of ours.
pub(crate) fn of_set(set: &VariableSetStmt) -> Option<Setting> {
    let name = ours(&set.name)?;
    let local = set.is_local;
    Some(match VariableSetKind::try_from(set.kind).ok()? {
        VariableSetKind::VarSetValue => {
            let parts = set.args.iter().map(|arg| value(arg).and_then(Value::into_text)).collect::<Option<Vec<_>>>()?;
            Setting::Set { name, value: Value::Text(parts.join(", ")), local }
        }
        VariableSetKind::VarSetDefault => Setting::Set { name, value: Value::Default, local },
        VariableSetKind::VarReset => Setting::Reset { name },
        _ => return None,
    })
}

/// `SHOW` of a setting of ours.
pub(crate) fn of_show(show: &VariableShowStmt) -> Option<Setting> {
    Some(Setting::Show { name: ours(&show.name)? })
}

/// `SELECT set_config(...)` or `SELECT current_setting(...)` and nothing else, of a name that is ours or not known yet.
pub(crate) fn of_select(select: &SelectStmt) -> Option<Setting> {
    let [Node { node: Some(NodeEnum::ResTarget(target)) }] = &*select.target_list else { return None };
    let Some(NodeEnum::FuncCall(call)) = target.val.as_ref()?.node.as_ref() else { return None };
    let bare = SelectStmt { target_list: select.target_list.clone(), ..bare_select(select) };
    if bare != *select || !is_bare(call) {
        return None;
    }
    let function = function_name(call)?;
    let column = if target.name.is_empty() { function.to_owned() } else { target.name.clone() };
    match (function, &*call.args) {
        ("set_config", [name, value_of, local]) => {
            let name = match value(name)? {
                Value::Text(name) => Value::Text(ours(&name)?),
                Value::Param(number) => Value::Param(number),
                Value::Null | Value::Default => return None,
            };
            Some(Setting::SetConfig { name, value: value(value_of)?, local: flag(local)?, column })
        }
        ("current_setting", [name] | [name, _]) => match value(name)? {
            Value::Text(name) => Some(Setting::CurrentSetting { name: ours(&name)?, column }),
            _ => None,
        },
        _ => None,
    }
}

/// What the grammar fills in for a SELECT without any clause.
pub(crate) fn bare_select(like: &SelectStmt) -> SelectStmt {
    SelectStmt { limit_option: like.limit_option, op: like.op, ..SelectStmt::default() }
}

pub(crate) fn is_bare(call: &FuncCall) -> bool {
    call.agg_order.is_empty()
        && call.agg_filter.is_none()
        && call.over.is_none()
        && !(call.agg_star || call.agg_distinct || call.func_variadic || call.agg_within_group)
}

/// The name of a function of `pg_catalog`, or one without a schema.
pub(crate) fn function_name(call: &FuncCall) -> Option<&str> {
    match &*call.funcname {
        [name] => string(name),
        [schema, name] if string(schema) == Some("pg_catalog") => string(name),
        _ => None,
    }
}

/// The text of a String node.
pub(crate) fn string(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(string)) => Some(&string.sval),
        _ => None,
    }
}

fn ours(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    name.starts_with(PREFIX).then_some(name)
}

impl Value {
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A constant or a parameter; casts are looked through, as drivers write `$1::text`.
pub(crate) fn value(node: &Node) -> Option<Value> {
    match node.node.as_ref()? {
        NodeEnum::ParamRef(param) => u32::try_from(param.number).ok().map(Value::Param),
        NodeEnum::TypeCast(cast) => value(cast.arg.as_ref()?),
        NodeEnum::AConst(AConst { isnull: true, .. }) => Some(Value::Null),
        NodeEnum::AConst(AConst { val: Some(val), .. }) => Some(Value::Text(match val {
            Val::Sval(text) => text.sval.clone(),
            Val::Ival(number) => number.ival.to_string(),
            Val::Fval(number) => number.fval.clone(),
            Val::Boolval(truth) => truth.boolval.to_string(),
            Val::Bsval(_) => return None,
        })),
        _ => None,
    }
}

pub(crate) fn flag(node: &Node) -> Option<Flag> {
    match value(node)? {
        Value::Param(number) => Some(Flag::Param(number)),
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "y" | "1" => Some(Flag::Known(true)),
            "f" | "false" | "off" | "no" | "n" | "0" => Some(Flag::Known(false)),
            _ => None,
        },
        Value::Null | Value::Default => None,
    }
}
