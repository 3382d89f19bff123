//! What goes wrong, and the one place that says it in PostgreSQL's words: SQLSTATE, message, detail, hint.

use std::net::IpAddr;
use std::time::Duration;

use highwater_core::{Loss, Refusal};
use highwater_wire::backend::{Report, Severity};
use highwater_wire::{Offence, SqlState, scram};

use crate::limits::{Full, Shortage};
use crate::server::{Failure, Said};
use crate::text;

/// Why a client's connection ends, and by whose act.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the client closed the connection")]
    Closed,
    #[error("the client's connection broke: {0}")]
    Broken(std::io::Error),
    #[error("the client took nothing of its answer for too long")]
    Stalled,
    #[error("the client broke the protocol: {0}")]
    Offence(Offence),
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("the client was idle for too long")]
    Idle,
    #[error("the client was idle in a transaction for too long")]
    IdleInTransaction,
    #[error("the login took too long")]
    LoginTimeout,
    #[error("the login failed for user \"{user}\": {why}")]
    Login { user: String, why: LoginFailure },
    #[error("too many clients")]
    TooManyClients,
    #[error("a statement ran into query_timeout, and the server did not stop it")]
    Unstoppable,
    #[error("somebody has ended the connection")]
    Terminated,
    #[error("the server connection was lost while it was held: {0}")]
    ServerLost(Failure),
    #[error("a query was running when the server connection was lost: {0}")]
    OutcomeUnknown(Failure),
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginFailure {
    #[error("no password is known here")]
    NoPassword,
    #[error("wrong password")]
    WrongPassword,
    #[error("no server could be asked for the password")]
    NoLookup,
    #[error("no [[allow]] entry fits")]
    NotListed { database: String, address: Option<IpAddr>, encrypted: bool },
    #[error("an [[allow]] entry rejects it")]
    Rejected(Option<IpAddr>, bool),
    #[error("TLS is required")]
    TlsRequired,
    #[error("a certificate is required")]
    NoCertificate,
    #[error("its certificate is that of {0:?}")]
    WrongCertificate(Option<String>),
    #[error("too many clients of this {0:?}")]
    Full(Full, String),
    #[error("{0}")]
    Scram(scram::Failure),
    #[error("unexpected message")]
    UnexpectedMessage,
    #[error("unknown server \"{0}\" after @ in the database name")]
    UnknownServer(String),
    #[error("no user name")]
    NoUser,
    #[error("replication connections are not passed on")]
    Replication,
    #[error("not an administrator")]
    NotAdministrator,
    #[error("bad setting at start-up: {0}")]
    Setting(Complaint),
    #[error("{0}")]
    Server(Failure),
}

/// Why one statement, or pipeline, failed; the connection goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Complaint {
    #[error("{0}")]
    Refused(Refusal),
    #[error("what this session wrote or saw may be lost")]
    Lost(Loss),
    #[error("no server connection became free in time")]
    CheckoutTimeout(Box<Shortage>),
    #[error("no server connection could be used in time")]
    NotUsable(Duration),
    #[error("an administrator has paused the server")]
    Paused(Duration),
    #[error("{0}")]
    NotNow(String, &'static str),
    #[error("canceling statement due to query timeout")]
    QueryTimeout,
    #[error("canceling statement due to user request")]
    Cancelled,
    #[error("permission denied to signal the connection of another user")]
    NotYours,
    #[error("{0}")]
    Server(Failure),
    #[error("unrecognized configuration parameter \"highwater.{0}\"")]
    UnknownSetting(String),
    #[error("parameter \"highwater.{0}\" cannot be set in a comment")]
    NotInComments(String),
    #[error("parameter \"highwater.{0}\" cannot be changed")]
    ReadOnlySetting(&'static str),
    #[error("invalid value for parameter \"highwater.{name}\": \"{value}\"")]
    InvalidSetting { name: String, value: String, wanted: &'static str },
    #[error("highwater settings must come first, or alone, in a message with several statements")]
    MixedSettings,
    #[error("current transaction is aborted, commands ignored until end of transaction block")]
    AbortedTransaction,
    #[error("this statement would mean something else on a standby, where the read-only transaction runs")]
    DiffersOnStandby,
    #[error("prepared statement \"{0}\" already exists")]
    NameTaken(String),
    #[error("prepared statement \"{0}\" does not exist")]
    NoStatement(String),
    #[error("the session's position could not be measured in time: {0}")]
    NoToken(TokenRefusal),
    #[error("{0}")]
    Console(String),
}

/// A token that was not accepted: told as a warning, changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    #[error("it cannot be read")]
    Unreadable,
    #[error("it comes from another cluster")]
    Foreign,
    #[error("its timeline is not part of this cluster's history")]
    UnknownTimeline,
    #[error("it is ahead of the primary")]
    AheadOfPrimary,
    #[error("the primary could not be asked in time")]
    Unverified,
}

/// One error or notice in PostgreSQL's fields.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) severity: Severity,
    pub(crate) code: SqlState,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Told {
    /// The fields as the wire writes them.
    pub(crate) fn report(&self) -> Report<'_> {
        Report {
            severity: self.severity,
            code: self.code,
            message: &self.message,
            detail: self.detail.as_deref(),
            hint: self.hint.as_deref(),
        }
    }

    fn new(severity: Severity, code: SqlState, message: impl Into<String>) -> Self {
        Self { severity, code, message: message.into(), detail: None, hint: None }
    }

    fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }

    fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }
}

/// What the client is told last; `None` when there is nobody to tell.
pub(crate) fn end(end: &End) -> Option<Told> {
    let fatal = |code, text: &str| Some(Told::new(Severity::Fatal, code, text));
    match end {
        End::Closed | End::Broken(_) | End::Stalled | End::Handshake(_) => None,
        End::Idle => fatal(SqlState::IDLE_SESSION_TIMEOUT, "terminating connection due to idle-session timeout"),
        End::IdleInTransaction => fatal(
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            "terminating connection due to idle-in-transaction timeout",
        ),
        End::Offence(offence @ Offence::ProtocolVersion { .. }) => {
            fatal(SqlState::FEATURE_NOT_SUPPORTED, &offence.to_string())
        }
        End::Offence(offence) => fatal(SqlState::PROTOCOL_VIOLATION, &offence.to_string()),
        End::LoginTimeout => fatal(SqlState::INVALID_AUTHORIZATION, "canceling authentication due to timeout"),
        End::Login { user, why } => Some(login(user, why)),
        End::Terminated => fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"),
        End::Unstoppable => Some(
            Told::new(Severity::Fatal, SqlState::QUERY_CANCELED, "terminating connection due to query timeout")
                .detail("The server does not act on cancel requests. Whether the statement took effect is not known."),
        ),
        End::TooManyClients => fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"),
        End::ServerLost(failure) => Some(
            Told::new(Severity::Fatal, SqlState::CONNECTION_FAILURE, "the server connection was lost")
                .detail(failure.to_string()),
        ),
        End::OutcomeUnknown(failure) => Some(
            Told::new(
                Severity::Fatal,
                SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
                "the server connection was lost while a statement ran on the primary",
            )
            .detail(format!("Whether it took effect is not known. {failure}"))
            .hint("Connect again and look before repeating it."),
        ),
    }
}

fn login(user: &str, why: &LoginFailure) -> Told {
    let fatal = |code, text: String| Told::new(Severity::Fatal, code, text);
    match why {
        LoginFailure::NoPassword | LoginFailure::WrongPassword => wrong_password(Severity::Fatal, user),
        LoginFailure::Scram(failure) => scram(user, *failure),
        LoginFailure::NoLookup => fatal(SqlState::CANNOT_CONNECT_NOW, "no server can be asked for passwords now".into())
            .hint("Try again; see SHOW SERVERS in the console."),
        LoginFailure::NotListed { database, address, encrypted } => fatal(
            SqlState::INVALID_AUTHORIZATION,
            format!("no allow entry for {}, user \"{user}\", database \"{database}\"{}", host(*address), encryption(*address, *encrypted)),
        ),
        LoginFailure::Rejected(address, encrypted) => fatal(
            SqlState::INVALID_AUTHORIZATION,
            format!("allow entry rejects connection for {}, user \"{user}\"{}", host(*address), encryption(*address, *encrypted)),
        ),
        LoginFailure::TlsRequired => {
            fatal(SqlState::INVALID_AUTHORIZATION, "connection requires TLS".into()).hint("Connect with sslmode=require or more.")
        }
        LoginFailure::NoCertificate => {
            fatal(SqlState::INVALID_AUTHORIZATION, "connection requires a valid client certificate".into())
        }
        LoginFailure::WrongCertificate(_) => {
            fatal(SqlState::INVALID_AUTHORIZATION, format!("certificate authentication failed for user \"{user}\""))
        }
        LoginFailure::Full(Full::User, _) => {
            fatal(SqlState::TOO_MANY_CONNECTIONS, format!("too many connections for role \"{user}\""))
        }
        LoginFailure::Full(Full::Database, database) => {
            fatal(SqlState::TOO_MANY_CONNECTIONS, format!("too many connections for database \"{database}\""))
        }
        LoginFailure::UnexpectedMessage => fatal(SqlState::PROTOCOL_VIOLATION, "expected a password or SASL response".into()),
        LoginFailure::UnknownServer(name) => {
            fatal(SqlState::INVALID_CATALOG_NAME, format!("there is no server \"{name}\""))
                .hint("After @ in a database name stands primary, replica or a server's name; SHOW SERVERS in the console lists them.")
        }
        LoginFailure::NoUser => fatal(
            SqlState::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet".into(),
        ),
        LoginFailure::Replication => {
            fatal(SqlState::FEATURE_NOT_SUPPORTED, "replication connections are not supported".into())
                .hint("Connect to the PostgreSQL server itself.")
        }
        LoginFailure::NotAdministrator => {
            fatal(SqlState::INSUFFICIENT_PRIVILEGE, format!("user \"{user}\" may not use the console"))
                .hint("The console is for the users of the server URLs and those listed in admins.")
        }
        LoginFailure::Setting(complaint) => Told { severity: Severity::Fatal, ..self::complaint(complaint) },
        LoginFailure::Server(failure) => Told { severity: Severity::Fatal, ..server(failure) },
    }
}

fn wrong_password(severity: Severity, user: &str) -> Told {
    Told::new(severity, SqlState::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""))
}

/// The texts and codes of auth-scram.c.
fn scram(user: &str, failure: scram::Failure) -> Told {
    let fatal = |code| Told::new(Severity::Fatal, code, failure.to_string());
    match failure {
        scram::Failure::Malformed | scram::Failure::Nonce | scram::Failure::Iterations => {
            fatal(SqlState::PROTOCOL_VIOLATION)
        }
        scram::Failure::Unsupported => fatal(SqlState::FEATURE_NOT_SUPPORTED),
        scram::Failure::ChannelBinding => fatal(SqlState::INVALID_AUTHORIZATION)
            .detail("The client saw another certificate, or an offer of channel binding did not reach it."),
        scram::Failure::WrongPassword
        | scram::Failure::OtherVerifier
        | scram::Failure::WrongServer
        | scram::Failure::Refused => wrong_password(Severity::Fatal, user),
    }
}

/// A client's address in the words of auth.c.
fn host(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "host \"[local]\"".to_owned(), |address| format!("host \"{}\"", address.to_canonical()))
}

fn encryption(address: Option<IpAddr>, encrypted: bool) -> &'static str {
    match (address, encrypted) {
        (None, _) => "",
        (_, true) => ", SSL encryption",
        (_, false) => ", no encryption",
    }
}

/// What the client is told of one statement.
pub(crate) fn complaint(complaint: &Complaint) -> Told {
    let error = |code| Told::new(Severity::Error, code, complaint.to_string());
    match complaint {
        Complaint::Refused(refusal) => refused(refusal),
        Complaint::Lost(loss) => self::loss(*loss, Severity::Error),
        Complaint::Cancelled => error(SqlState::QUERY_CANCELED),
        Complaint::NotYours => error(SqlState::INSUFFICIENT_PRIVILEGE),
        Complaint::CheckoutTimeout(shortage) => error(SqlState::TOO_MANY_CONNECTIONS)
            .detail(shortage.to_string())
            .hint("See pool_size, and SHOW POOLS in the console; shorter transactions help, too."),
        Complaint::NotUsable(waited) => error(SqlState::CONFIGURATION_LIMIT_EXCEEDED)
            .detail(format!(
                "Of none it became known within {} that it shows what this session has seen.",
                text::show_duration(*waited)
            ))
            .hint("See SHOW SERVERS in the console."),
        Complaint::Paused(waited) => error(SqlState::CANNOT_CONNECT_NOW)
            .detail(format!("It was not resumed within {}.", text::show_duration(*waited)))
            .hint("See pause_timeout in Highwater's configuration."),
        Complaint::NotNow(_, hint) => error(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE).hint(*hint),
        Complaint::QueryTimeout => {
            error(SqlState::QUERY_CANCELED).hint("See query_timeout in Highwater's configuration.")
        }
        Complaint::Server(failure) => server(failure),
        Complaint::UnknownSetting(_) => error(SqlState::UNDEFINED_OBJECT).hint(
            "There are session, token, consistency, max_lag, wait_budget, transaction_reads, wait_for_standbys, standbys_timeout, report, last_route and version.",
        ),
        Complaint::NotInComments(_) => error(SqlState::FEATURE_NOT_SUPPORTED).hint(
            "Use SET. A comment says consistency, max_lag, wait_budget, wait_for_standbys and standbys_timeout for its statement.",
        ),
        Complaint::ReadOnlySetting(_) => error(SqlState(*b"55P02")),
        Complaint::InvalidSetting { wanted, .. } => {
            error(SqlState::INVALID_PARAMETER_VALUE).hint(format!("It takes {wanted}."))
        }
        Complaint::MixedSettings => error(SqlState::FEATURE_NOT_SUPPORTED).hint("Send it as a message of its own."),
        Complaint::AbortedTransaction => error(SqlState::IN_FAILED_SQL_TRANSACTION),
        Complaint::DiffersOnStandby => error(SqlState::FEATURE_NOT_SUPPORTED)
            .detail("Advisory locks taken on a standby exclude nobody, and sequences stand ahead there.")
            .hint("SET highwater.consistency = 'primary' before the transaction, or begin it without READ ONLY."),
        Complaint::NameTaken(_) => error(SqlState::DUPLICATE_PREPARED_STATEMENT),
        Complaint::NoStatement(_) => error(SqlState::INVALID_SQL_STATEMENT_NAME),
        Complaint::NoToken(_) => error(SqlState::CANNOT_CONNECT_NOW),
        Complaint::Console(_) => error(SqlState::SYNTAX_ERROR),
    }
}

fn server(failure: &Failure) -> Told {
    match failure {
        Failure::Said(said) => {
            let Said { code, message, detail, hint } = said.as_ref();
            Told {
                severity: Severity::Error,
                code: *code,
                message: message.clone(),
                detail: detail.clone(),
                hint: hint.clone(),
            }
        }
        Failure::PasswordChanged(user) => wrong_password(Severity::Error, user)
            .detail("The password has been changed since it was last proved to Highwater.")
            .hint("Connect again."),
        Failure::NoPassword(user) => Told::new(
            Severity::Error,
            SqlState::INVALID_AUTHORIZATION,
            format!("the server wants a password, and none is known for user \"{user}\""),
        )
        .hint("Connect again if the password was changed. Logins by certificate or trust teach Highwater no password: put one into \
             [[user]] or password_file, or let the server trust Highwater."),
        Failure::NoPlace => Told::new(Severity::Error, SqlState::TOO_MANY_CONNECTIONS, failure.to_string())
            .hint("See server_connections_max."),
        Failure::Io(_)
        | Failure::Closed
        | Failure::Protocol(_)
        | Failure::Scram(_)
        | Failure::Tls(_)
        | Failure::Unbound
        | Failure::NotAllowed
        | Failure::Authentication
        | Failure::Unreadable(_)
        | Failure::Pooler
        | Failure::Changed
        | Failure::Refused(_) => {
            Told::new(Severity::Error, SqlState::CONNECTION_FAILURE, "the server cannot be reached")
                .detail(failure.to_string())
        }
    }
}

fn refused(refusal: &Refusal) -> Told {
    let error = |code, message: &str| Told::new(Severity::Error, code, message).detail(sentence(&refusal.to_string()));
    match refusal {
        Refusal::NoPrimary => error(SqlState::CANNOT_CONNECT_NOW, "no primary is known"),
        Refusal::NoStandby => error(SqlState::CANNOT_CONNECT_NOW, "no standby is available"),
        Refusal::PrimaryOutOfScope => error(SqlState::READ_ONLY_SQL_TRANSACTION, "cannot run this on a standby")
            .hint("The database name of this connection leaves out the primary."),
        Refusal::NotCaughtUp { .. } => {
            error(SqlState::CONFIGURATION_LIMIT_EXCEEDED, "no standby is fresh enough for this read")
                .hint("Try again, raise highwater.wait_budget, or ask for less with highwater.consistency.")
        }
        Refusal::FallbackSpent { .. } => error(SqlState::CONFIGURATION_LIMIT_EXCEEDED, "no server may take this read")
            .hint("Try again, raise highwater.wait_budget, or see primary_fallback_max."),
        Refusal::NotYetVisible { .. } => {
            error(SqlState::CONFIGURATION_LIMIT_EXCEEDED, "the primary does not show yet what this session has seen")
                .hint("A commit waits for a synchronous standby; see pg_stat_replication.")
        }
        Refusal::PositionUnknown => {
            error(SqlState::CONFIGURATION_LIMIT_EXCEEDED, "the position of a server is not known")
        }
    }
}

/// What a session is told first after a failover that it lost something by.
pub(crate) fn loss(loss: Loss, severity: Severity) -> Told {
    let code = if severity == Severity::Warning { SqlState::WARNING } else { SqlState::CONNECTION_FAILURE };
    let required = loss.required.map_or("and its position was not known yet".to_owned(), |lsn| format!("up to {lsn}"));
    Told::new(severity, code, "the cluster has failed over, and what this session wrote or saw may be lost")
        .detail(format!(
            "It was on timeline {}, {required}; the new primary has that timeline up to {}.",
            loss.branch, loss.kept
        ))
        .hint("Look before repeating it. The session goes on from what the new primary has.")
}

/// A core's reason as a sentence of DETAIL.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// What PostgreSQL says to COMMIT and ROLLBACK where nothing was begun.
pub(crate) fn no_transaction() -> Told {
    Told::new(Severity::Warning, SqlState::NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress")
}

/// A standby that does not show yet what it should.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) server: String,
    /// In bytes of log; `None` if nobody can say.
    pub(crate) missing_bytes: Option<u64>,
}

/// What a client is told that has waited in vain for standbys to show its commit.
pub(crate) fn standbys_late(shown: usize, wanted: usize, late: &[Late]) -> Told {
    let who = late.iter().map(|late| match late.missing_bytes {
        Some(bytes) => format!("{} ({bytes} bytes behind)", late.server),
        None => format!("{} (not known)", late.server),
    });
    Told::new(
        Severity::Warning,
        SqlState::WARNING,
        format!("the commit is shown by {shown} of {wanted} standbys so far"),
    )
    .detail(format!("Missing: {}.", who.collect::<Vec<_>>().join(", ")))
    .hint("Reads of this session see it nevertheless. See highwater.standbys_timeout, and SHOW SERVERS in the console.")
}

/// What a token's bearer is told.
pub(crate) fn token(refusal: TokenRefusal) -> Told {
    Told::new(Severity::Warning, SqlState::WARNING, format!("highwater.token ignored: {refusal}"))
        .detail("The session's guarantees continue from what it has seen on this connection.")
}

#[cfg(test)]
mod tests;
