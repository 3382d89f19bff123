//! What statements change in the state of their server connection, so that it can be known, replayed and ended.

use pg_query::NodeEnum;
use pg_query::protobuf::{DiscardMode, DoStmt, FuncCall, ResTarget, SelectStmt, VariableSetKind, VariableSetStmt};

use crate::facts::{Class, Kind, Pin, Touch};
use crate::found::Found;
use crate::setting::{self, Flag, Value};
use crate::why::Why;

/// Settings of the transaction under way: what is set there ends with it.
const OF_TRANSACTION: [&str; 3] = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
/// What `SET SESSION CHARACTERISTICS` sets.
const CHARACTERISTICS: [&str; 3] =
    ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"];

/// `SET` and `RESET` of a server's settings.
pub(crate) fn set(set: &VariableSetStmt, found: &mut Found) -> Kind {
    use VariableSetKind::{VarReset, VarResetAll, VarSetDefault};
    found.note(Class::Primary, Why::SessionState);
    let kind = VariableSetKind::try_from(set.kind).unwrap_or(VariableSetKind::Undefined);
    let name = set.name.to_ascii_lowercase();
    match (kind, name.as_str()) {
        (VarResetAll, _) => {
            found.touch(Touch::ResetAll);
            return Kind::ResetAll;
        }
        _ if set.is_local => {}
        (_, "seed") => found.pin(Pin::RandomSeed),
        (_, "session characteristics") => CHARACTERISTICS.into_iter().for_each(|name| touch_set(name, found)),
        // It sets the role as well, and takes it back on RESET.
        (_, "session_authorization") => [name.as_str(), "role"].into_iter().for_each(|name| touch_set(name, found)),
        (VarReset | VarSetDefault, _) => found.touch(Touch::Reset(name.into())),
        _ => touch_set(&name, found),
    }
    Kind::ServerSetting
}

fn touch_set(name: &str, found: &mut Found) {
    if !OF_TRANSACTION.contains(&name) {
        found.touch(Touch::Set(Value::Text(name.to_owned())));
    }
}

/// A call of `set_config`, wherever it stands.
pub(crate) fn set_config(call: &FuncCall, found: &mut Found) {
    let [name, value, local] = &*call.args else { return found.pin(Pin::Setting) };
    if setting::flag(local) == Some(Flag::Known(true)) {
        return;
    }
    match (setting::value(name), setting::value(value)) {
        (Some(Value::Text(name)), Some(Value::Null)) => found.touch(Touch::Reset(name.to_ascii_lowercase().into())),
        (Some(Value::Text(name)), _) if name.eq_ignore_ascii_case("seed") => found.pin(Pin::RandomSeed),
        (Some(Value::Text(name)), _) => touch_set(&name.to_ascii_lowercase(), found),
        (Some(Value::Param(number)), _) => found.touch(Touch::Set(Value::Param(number))),
        _ => found.pin(Pin::Setting),
    }
}

/// What a SELECT without a source is, if it only calls functions about the connection's state.
pub(crate) fn of_select(select: &SelectStmt) -> Option<Kind> {
    let bare = SelectStmt { target_list: select.target_list.clone(), ..setting::bare_select(select) };
    let function = |node: &pg_query::protobuf::Node| match &node.node {
        Some(NodeEnum::ResTarget(target)) => call_of(target).and_then(setting::function_name).map(str::to_owned),
        _ => None,
    };
    let functions = select.target_list.iter().map(function).collect::<Option<Vec<_>>>()?;
    if bare != *select || functions.is_empty() {
        return None;
    }
    if functions.iter().all(|function| function == "set_config") {
        return Some(Kind::ServerSetting);
    }
    (functions == ["pg_advisory_unlock_all"]).then_some(Kind::UnlockAll)
}

/// The target, if it is a call of constants and parameters.
fn call_of(target: &ResTarget) -> Option<&FuncCall> {
    let Some(NodeEnum::FuncCall(call)) = target.val.as_ref()?.node.as_ref() else { return None };
    let plain = setting::is_bare(call) && call.args.iter().all(|arg| setting::value(arg).is_some());
    plain.then_some(call)
}

/// `DISCARD`.
pub(crate) fn discard(target: i32, found: &mut Found) -> Kind {
    found.note(Class::Primary, Why::Discard);
    found.may_unpin = true;
    let all = target == DiscardMode::DiscardAll as i32;
    if all {
        found.touch(Touch::ResetAll);
    }
    Kind::Discard { all }
}

/// `DO`: what its code leaves behind, the server can mostly be asked for. Not for settings whose names are not known.
pub(crate) fn block(block: &DoStmt, found: &mut Found) {
    found.may_unpin = true;
    found.pin(Pin::TemporaryTable);
    let code = block.args.iter().find_map(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == "as" => option.arg.as_deref().and_then(setting::string),
        _ => None,
    });
    if code.is_none_or(sets_something) {
        found.pin(Pin::Function);
    }
}

/// Whether code may change a setting for longer than the transaction. A careful look, not a parser's: `set_config`, and
/// `SET` or `RESET` where a statement may begin, in strings too.
fn sets_something(code: &str) -> bool {
    let code = code.to_ascii_lowercase();
    let local =
        |rest: &str| ["local", "constraints", "transaction"].iter().any(|word| rest.trim_start().starts_with(word));
    let sets = |word: &str| {
        code.match_indices(word).any(|(at, _)| {
            let rest = &code[at + word.len()..];
            rest.starts_with(char::is_whitespace) && begins_statement(&code[..at]) && !local(rest)
        })
    };
    code.contains("set_config") || sets("set") || sets("reset")
}

/// Whether a statement may begin behind `code`.
fn begins_statement(code: &str) -> bool {
    let code = code.trim_end();
    let word = code.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    code.is_empty() || code.ends_with([';', '\'', '$']) || ["begin", "then", "else", "loop"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_sets_something_is_told_by_its_look() {
        for code in [
            "BEGIN SET work_mem = 1; END",
            "BEGIN PERFORM 1; RESET ALL; END",
            "BEGIN EXECUTE 'SET ROLE ' || quote_ident(who); END",
            "BEGIN PERFORM set_config('a.b', 'c', true); END",
            "SET ROLE x",
        ] {
            assert!(sets_something(code), "{code}");
        }
        for code in [
            "BEGIN UPDATE t SET a = 1; END",
            "BEGIN SET LOCAL work_mem = 1; SET CONSTRAINTS ALL DEFERRED; END",
            "BEGIN INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2; END",
            "BEGIN SELECT offset FROM asset; END",
        ] {
            assert!(!sets_something(code), "{code}");
        }
    }
}
