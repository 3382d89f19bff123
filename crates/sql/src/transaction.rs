//! Transaction control, and the modes that it says.

use pg_query::NodeEnum;
use pg_query::protobuf::{AConst, DefElem, Node, TransactionStmt, TransactionStmtKind, VariableSetStmt, a_const::Val};

use crate::facts::{Class, Isolation, Kind, TransactionControl};
use crate::found::Found;
use crate::why::Why;

/// `BEGIN`, `COMMIT` and all others with a node of their own.
pub(crate) fn control(stmt: &TransactionStmt, found: &mut Found) -> Kind {
    use TransactionStmtKind as Tag;
    let chain = stmt.chain;
    let control = match TransactionStmtKind::try_from(stmt.kind) {
        Ok(tag @ (Tag::TransStmtBegin | Tag::TransStmtStart)) => {
            let Modes { read_only, isolation, deferrable } = modes(&stmt.options, found);
            TransactionControl::Begin { starts: tag == Tag::TransStmtStart, read_only, isolation, deferrable }
        }
        Ok(Tag::TransStmtCommit) => TransactionControl::Commit { chain },
        Ok(Tag::TransStmtRollback) => TransactionControl::Rollback { chain },
        Ok(Tag::TransStmtSavepoint) => TransactionControl::Savepoint(stmt.savepoint_name.as_str().into()),
        Ok(Tag::TransStmtRelease) => TransactionControl::Release(stmt.savepoint_name.as_str().into()),
        Ok(Tag::TransStmtRollbackTo) => TransactionControl::RollbackTo(stmt.savepoint_name.as_str().into()),
        Ok(Tag::TransStmtPrepare | Tag::TransStmtCommitPrepared | Tag::TransStmtRollbackPrepared) => {
            found.note(Class::Write, Why::TwoPhase);
            TransactionControl::TwoPhase
        }
        Ok(Tag::Undefined) | Err(_) => {
            found.note(Class::Unknown, Why::NotUnderstood);
            return Kind::Plain;
        }
    };
    found.note(Class::Read, Why::TransactionControl);
    Kind::Transaction(control)
}

/// `SET TRANSACTION ISOLATION LEVEL ...`.
pub(crate) fn set_transaction(set: &VariableSetStmt, found: &mut Found) -> Kind {
    let Modes { read_only, isolation, deferrable } = modes(&set.args, found);
    found.note(Class::Read, Why::TransactionControl);
    Kind::Transaction(TransactionControl::SetTransaction { read_only, isolation, deferrable })
}

#[derive(Default)]
struct Modes {
    read_only: Option<bool>,
    isolation: Option<Isolation>,
    deferrable: Option<bool>,
}

/// The grammar writes modes as definitions with constants; the last one of a name counts, as in the server.
fn modes(options: &[Node], found: &mut Found) -> Modes {
    let mut modes = Modes::default();
    for option in options {
        let Some(NodeEnum::DefElem(option)) = &option.node else {
            found.note(Class::Unknown, Why::NotUnderstood);
            continue;
        };
        match (option.defname.as_str(), constant(option)) {
            ("transaction_read_only", Some(Val::Ival(flag))) => modes.read_only = Some(flag.ival != 0),
            ("transaction_deferrable", Some(Val::Ival(flag))) => modes.deferrable = Some(flag.ival != 0),
            ("transaction_isolation", Some(Val::Sval(level))) => modes.isolation = isolation(&level.sval),
            _ => found.note(Class::Unknown, Why::NotUnderstood),
        }
    }
    if modes.read_only == Some(false) {
        found.note(Class::Primary, Why::ReadWrite);
    }
    if modes.isolation == Some(Isolation::Serializable) {
        found.note(Class::Primary, Why::Serializable);
    }
    modes
}

fn constant(option: &DefElem) -> Option<&Val> {
    match option.arg.as_ref()?.node.as_ref()? {
        NodeEnum::AConst(AConst { val: Some(val), .. }) => Some(val),
        _ => None,
    }
}

fn isolation(name: &str) -> Option<Isolation> {
    Some(match name {
        "read uncommitted" => Isolation::ReadUncommitted,
        "read committed" => Isolation::ReadCommitted,
        "repeatable read" => Isolation::RepeatableRead,
        "serializable" => Isolation::Serializable,
        _ => return None,
    })
}
