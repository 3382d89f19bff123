//! The exact reason for a class: a label for metrics, a sentence for people.

use std::fmt;

type Name = Box<str>;

/// Why a message has its class. [`Why::name`] is a stable label; `Display` is a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A standby refused it when it was tried there as a read.
    RefusedByStandby,
    /// No statement.
    Empty,
    /// Nothing but reads of permanent tables and harmless functions.
    PlainRead,
    /// Transaction control that a standby understands as well.
    TransactionControl,
    /// Answered by the proxy itself.
    ProxySetting,
    /// Works on a cursor, where that is.
    Cursor,
    /// A function that speaks of the server, or of the connection, that runs it.
    ServerLocalFunction(Name),
    /// A system view of the server's own state.
    ServerLocalView(Name),
    /// The state of a sequence reaches standbys some values ahead.
    Sequence(Name),
    /// Has no contents on a standby.
    Unlogged(Name),
    /// Its data are elsewhere.
    Foreign(Name),
    /// Advisory locks exclude nobody on another server.
    AdvisoryLock(Name),
    /// `LOCK TABLE`.
    TableLock,
    /// A standby cannot be serializable.
    Serializable,
    /// `READ WRITE` asked for.
    ReadWrite,
    /// A snapshot of another session of the same server.
    ImportedSnapshot,
    /// `EXPLAIN`, not executed, of a write.
    ExplainOfWrite,
    /// `COPY` to a file or program of the server.
    ServerFile,
    /// `SET`, `RESET`, `set_config`, `LOAD` and the like.
    SessionState,
    /// `SHOW`: the server's or the connection's own value.
    Show,
    /// `DECLARE ... WITH HOLD`.
    HeldCursor,
    /// `LISTEN` or `UNLISTEN`.
    Listen,
    /// SQL-level `PREPARE` or `DEALLOCATE`.
    SqlPrepared,
    /// `DISCARD`.
    Discard,
    /// `CHECKPOINT`.
    Checkpoint,
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE` or `TRUNCATE`.
    DataChange,
    /// A data-modifying `WITH`.
    ModifyingCte,
    /// `FOR UPDATE` and its kin.
    RowLock,
    /// `SELECT INTO` or `CREATE TABLE AS`.
    SelectInto,
    /// `COPY ... FROM`.
    CopyFrom,
    /// `NOTIFY`.
    Notify,
    /// A function that is volatile: it may write.
    VolatileFunction(Name),
    /// A function that the catalogue does not hold.
    UnknownFunction(Name),
    /// A function that moves a sequence.
    SequenceFunction(Name),
    /// A function of large objects.
    LargeObject(Name),
    /// An operator whose function is volatile.
    VolatileOperator(Name),
    /// An operator that the catalogue does not hold.
    UnknownOperator(Name),
    /// A type whose casts or checks call a volatile function.
    VolatileType(Name),
    /// `CALL`.
    Procedure,
    /// `DO`.
    DoBlock,
    /// `EXECUTE`: what was prepared may write.
    Execute,
    /// Two-phase commit.
    TwoPhase,
    /// `VACUUM`, `ANALYZE`, `CLUSTER`, `REINDEX`, `REFRESH MATERIALIZED VIEW`.
    Maintenance,
    /// `CREATE`, `ALTER`, `DROP`, `GRANT` and all that is no query.
    Definition,
    /// A view, or a policy of row-level security, that is no plain read.
    Through {
        /// The view or table.
        relation: Name,
        /// What is in it.
        because: Box<Why>,
    },
    /// A relation that the catalogue does not hold.
    UnknownRelation(Name),
    /// PostgreSQL's grammar does not accept the text.
    Syntax,
    /// Too deep or too new for the analysis.
    NotUnderstood,
}

impl Why {
    /// The label for logs, metrics and tests.
    pub fn name(&self) -> &'static str {
        self.describe().0
    }

    /// The named thing, if the reason has one.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::ServerLocalFunction(name)
            | Self::ServerLocalView(name)
            | Self::Sequence(name)
            | Self::Unlogged(name)
            | Self::Foreign(name)
            | Self::AdvisoryLock(name)
            | Self::VolatileFunction(name)
            | Self::UnknownFunction(name)
            | Self::SequenceFunction(name)
            | Self::LargeObject(name)
            | Self::VolatileOperator(name)
            | Self::UnknownOperator(name)
            | Self::VolatileType(name)
            | Self::UnknownRelation(name)
            | Self::Through { relation: name, .. } => Some(name),
            _ => None,
        }
    }

    /// Label and sentence; `{}` in the sentence is the subject.
    fn describe(&self) -> (&'static str, &'static str) {
        match self {
            Self::Empty => ("empty", "there is no statement"),
            Self::RefusedByStandby => ("refused_by_standby", "a standby refused it"),
            Self::PlainRead => ("plain_read", "it only reads"),
            Self::TransactionControl => ("transaction_control", "it only controls the transaction"),
            Self::ProxySetting => ("proxy_setting", "it is addressed to the proxy"),
            Self::Cursor => ("cursor", "it works on a cursor"),
            Self::ServerLocalFunction(_) => ("server_local_function", "function {} speaks of the server that runs it"),
            Self::ServerLocalView(_) => ("server_local_view", "view {} shows the state of the server that runs it"),
            Self::Sequence(_) => ("sequence", "sequence {} looks different on a standby"),
            Self::Unlogged(_) => ("unlogged", "unlogged relation {} has no contents on a standby"),
            Self::Foreign(_) => ("foreign", "the data of foreign table {} are elsewhere"),
            Self::AdvisoryLock(_) => ("advisory_lock", "function {} deals in advisory locks"),
            Self::TableLock => ("table_lock", "LOCK TABLE excludes nobody on another server"),
            Self::Serializable => ("serializable", "a standby cannot be serializable"),
            Self::ReadWrite => ("read_write", "a READ WRITE transaction is asked for"),
            Self::ImportedSnapshot => ("imported_snapshot", "the snapshot belongs to one server"),
            Self::ExplainOfWrite => ("explain_of_write", "it explains a statement that writes"),
            Self::ServerFile => ("server_file", "COPY writes to a file or program of the server"),
            Self::SessionState => ("session_state", "it changes the state of the server connection"),
            Self::Show => ("show", "SHOW tells a value of the server or connection that runs it"),
            Self::HeldCursor => ("held_cursor", "a cursor WITH HOLD outlives the transaction"),
            Self::Listen => ("listen", "notifications exist on the primary only"),
            Self::SqlPrepared => ("sql_prepared", "SQL-level prepared statements live in the server connection"),
            Self::Discard => ("discard", "DISCARD changes the state of the server connection"),
            Self::Checkpoint => ("checkpoint", "CHECKPOINT acts on the server that runs it"),
            Self::DataChange => ("data_change", "it modifies data"),
            Self::ModifyingCte => ("modifying_cte", "a CTE modifies data"),
            Self::RowLock => ("row_lock", "SELECT ... FOR UPDATE or FOR SHARE locks rows"),
            Self::SelectInto => ("select_into", "it creates a table from a query"),
            Self::CopyFrom => ("copy_from", "COPY FROM writes"),
            Self::Notify => ("notify", "NOTIFY writes to the notification queue"),
            Self::VolatileFunction(_) => ("volatile_function", "function {} is volatile and may write"),
            Self::UnknownFunction(_) => ("unknown_function", "function {} is not in the catalogue"),
            Self::SequenceFunction(_) => ("sequence_function", "function {} advances or sets a sequence"),
            Self::LargeObject(_) => ("large_object", "function {} works on large objects"),
            Self::VolatileOperator(_) => ("volatile_operator", "operator {} calls a volatile function"),
            Self::UnknownOperator(_) => ("unknown_operator", "operator {} is not in the catalogue"),
            Self::VolatileType(_) => ("volatile_type", "type {} calls a volatile function"),
            Self::Procedure => ("procedure", "CALL runs a procedure, which may write"),
            Self::DoBlock => ("do_block", "DO runs code, which may write"),
            Self::Execute => ("execute", "EXECUTE runs a statement that may write"),
            Self::TwoPhase => ("two_phase", "two-phase commit writes"),
            Self::Maintenance => ("maintenance", "maintenance writes"),
            Self::Definition => ("definition", "it defines, alters or drops something"),
            Self::Through { .. } => ("through", "relation {} is more than it seems"),
            Self::UnknownRelation(_) => ("unknown_relation", "relation {} is not in the catalogue"),
            Self::Syntax => ("syntax", "PostgreSQL's grammar does not accept it"),
            Self::NotUnderstood => ("not_understood", "it is too deep or too new to be understood"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Through { relation, because } = self {
            return write!(f, "behind {relation}: {because}");
        }
        let (_, sentence) = self.describe();
        match (sentence.split_once("{}"), self.subject()) {
            (Some((before, after)), Some(subject)) => write!(f, "{before}{subject}{after}"),
            _ => f.write_str(sentence),
        }
    }
}
