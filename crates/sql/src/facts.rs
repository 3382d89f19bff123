//! What a message says about itself: the result of the classification, as plain data.

use std::fmt;
use std::ops::Range;

use crate::setting::{Setting, Value};
use crate::why::Why;

/// What is known of one message: the text of a simple Query, or of a Parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The worst class of all statements.
    pub class: Class,
    /// The reason for `class`: that of the first statement of this class.
    pub why: Why,
    /// State that will live in the server connection after the message succeeded. A message that failed leaves none.
    pub pin: Option<Pin>,
    /// The statements in their order. Empty when the grammar does not accept the text.
    pub statements: Box<[Statement]>,
    /// Relations that the text names, without those that views stand for.
    pub tables: Box<[TableName]>,
    /// Nothing in it has an effect outside the database: it may be run again elsewhere, unseen.
    pub rerun_safe: bool,
    /// It defines, alters or drops something: the catalogue must be read again once it is committed.
    pub changes_catalog: bool,
    /// It names something that the catalogue does not hold: reading it again may help.
    pub unknown_names: bool,
    /// It shows or leaves something that hangs on the transaction it runs in: its time, a cursor, or what a function of a user
    /// may do with those. Two halves of one transaction on two servers would differ in it. A constant such as `'now'` is
    /// not seen.
    pub hangs_on_transaction: bool,
    /// Settings of the server connection that may outlast it, and its transaction.
    pub touches: Box<[Touch]>,
    /// It may end state that pins a client: it drops, closes, unlocks, discards, or does what nobody knows.
    pub may_unpin: bool,
}

impl Facts {
    /// The facts of what cannot be read: it may do anything.
    pub fn unknown() -> Self {
        Self {
            class: Class::Unknown,
            why: Why::Syntax,
            pin: Some(Pin::NotUnderstood),
            statements: Box::default(),
            tables: Box::default(),
            rerun_safe: false,
            changes_catalog: true,
            unknown_names: false,
            hangs_on_transaction: true,
            touches: Box::default(),
            may_unpin: true,
        }
    }

    /// The statements with their texts; `text` is the one that was classified.
    pub fn parts<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (&'a Statement, &'a str)> {
        let single = self.statements.len() == 1;
        let part = move |range: &Range<usize>| if single { text } else { text.get(range.clone()).unwrap_or(text) };
        self.statements.iter().map(move |statement| (statement, part(&statement.range)))
    }
}

/// Where a statement may run. The order is from harmless to unknown: the class of a message is the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// No statement at all.
    Empty,
    /// May run on a standby, with the same meaning.
    Read,
    /// Writes nothing, but only the primary answers it truly.
    Primary,
    /// Writes, or may write, or takes row locks.
    Write,
    /// Not understood: to be treated as a write.
    Unknown,
}

impl Class {
    /// The label for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Read => "read",
            Self::Primary => "primary",
            Self::Write => "write",
            Self::Unknown => "unknown",
        }
    }
}

/// One statement of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is, as far as a proxy must know.
    pub kind: Kind,
    /// Where it may run.
    pub class: Class,
    /// Its bytes in the text of a message of several statements, without the semicolon. A message of one statement is
    /// its own range, whatever stands here; [`Facts::parts`] knows that.
    pub range: Range<usize>,
}

/// Statements that a proxy must tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything else.
    Plain,
    /// Begins, ends or shapes a transaction.
    Transaction(TransactionControl),
    /// Addressed to the proxy: a `highwater.` setting.
    Setting(Setting),
    /// Changes settings of the server and does nothing else: `SET`, `SET LOCAL`, `RESET`, a SELECT of `set_config` alone.
    ServerSetting,
    /// `RESET ALL`.
    ResetAll,
    /// Switches the connection to COPY; a COPY of the server's own files and programs is `Plain`.
    Copy {
        /// `COPY ... FROM STDIN`; otherwise `TO STDOUT`.
        from_client: bool,
    },
    /// `DECLARE`.
    Declare {
        /// `WITH HOLD`: the cursor outlives the transaction.
        held: bool,
    },
    /// `FETCH` or `MOVE`.
    Fetch,
    /// `CLOSE`.
    CloseCursor {
        /// `CLOSE ALL`.
        all: bool,
    },
    /// `DEALLOCATE`: of the protocol's prepared statements too.
    Deallocate {
        /// `DEALLOCATE ALL`.
        all: bool,
    },
    /// `EXECUTE`, and what it executes.
    Execute(Box<str>),
    /// `DISCARD`.
    Discard {
        /// `DISCARD ALL`.
        all: bool,
    },
    /// `UNLISTEN`.
    Unlisten {
        /// `UNLISTEN *`.
        all: bool,
    },
    /// `SELECT pg_advisory_unlock_all()` and nothing else.
    UnlockAll,
    /// `SELECT pg_backend_pid()` and nothing else.
    BackendPid {
        /// The name of the result's column.
        column: String,
    },
    /// `SELECT pg_cancel_backend(...)` or `pg_terminate_backend(...)` of a constant or parameter, and nothing else.
    Signal {
        /// `pg_terminate_backend`.
        terminate: bool,
        /// Whose process.
        pid: Value,
        /// The name of the result's column.
        column: String,
    },
    /// Nobody may be connected to this database while it runs: `DROP DATABASE`, or the source of `CREATE DATABASE`.
    EmptiesDatabase(Box<str>),
    /// Changes what new connections begin with: `ALTER ROLE ... SET`, `ALTER DATABASE ... SET`.
    AltersDefaults,
}

/// A change of a server's setting for longer than the transaction. Names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Touch {
    /// `SET`, `set_config`; a name that a parameter brings comes as it stands there.
    Set(Value),
    /// `RESET`, `SET ... TO DEFAULT`: back to what the connection began with.
    Reset(Box<str>),
    /// `RESET ALL`, `DISCARD ALL`.
    ResetAll,
}

/// Transaction control, as PostgreSQL's grammar sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionControl {
    /// `BEGIN` or `START TRANSACTION`; `None` is "not said".
    Begin {
        /// `START TRANSACTION`: its command tag is another one.
        starts: bool,
        /// `READ ONLY` or `READ WRITE`.
        read_only: Option<bool>,
        /// `ISOLATION LEVEL`.
        isolation: Option<Isolation>,
        /// `DEFERRABLE` or `NOT DEFERRABLE`.
        deferrable: Option<bool>,
    },
    /// `SET TRANSACTION`; the same as for `Begin`.
    SetTransaction {
        /// `READ ONLY` or `READ WRITE`.
        read_only: Option<bool>,
        /// `ISOLATION LEVEL`.
        isolation: Option<Isolation>,
        /// `DEFERRABLE` or `NOT DEFERRABLE`.
        deferrable: Option<bool>,
    },
    /// `COMMIT` or `END`.
    Commit {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `ROLLBACK` or `ABORT`.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `SAVEPOINT`, and its name.
    Savepoint(Box<str>),
    /// `ROLLBACK TO SAVEPOINT`.
    RollbackTo(Box<str>),
    /// `RELEASE SAVEPOINT`.
    Release(Box<str>),
    /// `PREPARE TRANSACTION`, `COMMIT PREPARED` or `ROLLBACK PREPARED`.
    TwoPhase,
}

/// Isolation levels by their SQL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In PostgreSQL the same as `ReadCommitted`.
    ReadUncommitted,
    /// The default.
    ReadCommitted,
    /// Snapshot isolation.
    RepeatableRead,
    /// Not to be had on a hot standby.
    Serializable,
}

/// Session state that lives in a server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// A setting of which not even the name is known.
    Setting,
    /// The seed of `random()`.
    RandomSeed,
    /// `LOAD`.
    Library,
    /// A function whose source changes the state of its connection.
    Function,
    /// A temporary table, view or sequence.
    TemporaryTable,
    /// A cursor `WITH HOLD`.
    HeldCursor,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// `LISTEN`.
    Listen,
    /// SQL-level `PREPARE`.
    Prepare,
    /// The grammar did not accept the text; if the server does, it may have left anything.
    NotUnderstood,
}

impl Pin {
    /// Whether the server can be asked if there is still such state.
    pub fn can_be_asked(self) -> bool {
        use Pin::{AdvisoryLock, HeldCursor, Listen, Prepare, TemporaryTable};
        matches!(self, TemporaryTable | HeldCursor | AdvisoryLock | Listen | Prepare)
    }

    /// Whether not even DISCARD ALL ends it: only the end of the server connection does.
    pub fn outlasts_discard(self) -> bool {
        matches!(self, Self::RandomSeed | Self::Library)
    }

    /// The label for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::RandomSeed => "random_seed",
            Self::Library => "library",
            Self::Function => "function",
            Self::TemporaryTable => "temporary_table",
            Self::HeldCursor => "held_cursor",
            Self::AdvisoryLock => "advisory_lock",
            Self::Listen => "listen",
            Self::Prepare => "prepare",
            Self::NotUnderstood => "not_understood",
        }
    }
}

/// A relation as the text names it, in the server's spelling (folded to lower case unless quoted).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    /// The schema, if the text says one.
    pub schema: Option<Box<str>>,
    /// The relation.
    pub name: Box<str>,
}

impl TableName {
    /// Whether `rule`, `name` or `schema.name` in the server's spelling, means this relation. A text that says no
    /// schema may mean any.
    pub fn matches(&self, rule: &str) -> bool {
        match rule.split_once('.') {
            Some((schema, name)) => *self.name == *name && self.schema.as_deref().is_none_or(|own| own == schema),
            None => *self.name == *rule,
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
