//! What goes wrong, and the one place that says it in PostgreSQL's words: SQLSTATE, message, detail, hint.

use highwater_core::Refusal;
use highwater_wire::backend::{Report, Severity};
use highwater_wire::{Offence, SqlState, scram};

use crate::server::{Failure, Said};

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
    #[error("the login took too long")]
    LoginTimeout,
    #[error("the login failed for user \"{user}\": {why}")]
    Login { user: String, why: LoginFailure },
    #[error("too many clients")]
    TooManyClients,
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
    #[error("no server connection became free in time")]
    CheckoutTimeout,
    #[error("{0}")]
    Server(Failure),
    #[error("unrecognized configuration parameter \"highwater.{0}\"")]
    UnknownSetting(String),
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
        End::Closed | End::Broken(_) | End::Stalled => None,
        End::Offence(offence) => fatal(SqlState::PROTOCOL_VIOLATION, &offence.to_string()),
        End::LoginTimeout => fatal(SqlState::INVALID_AUTHORIZATION, "canceling authentication due to timeout"),
        End::Login { user, why } => Some(login(user, why)),
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
        LoginFailure::NoPassword | LoginFailure::WrongPassword | LoginFailure::Scram(_) => {
            fatal(SqlState::INVALID_PASSWORD, format!("password authentication failed for user \"{user}\""))
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

/// What the client is told of one statement.
pub(crate) fn complaint(complaint: &Complaint) -> Told {
    let error = |code| Told::new(Severity::Error, code, complaint.to_string());
    match complaint {
        Complaint::Refused(refusal) => refused(refusal),
        Complaint::CheckoutTimeout => error(SqlState::TOO_MANY_CONNECTIONS)
            .hint("All server connections of this user and database are busy; see pool_size and checkout_timeout."),
        Complaint::Server(failure) => server(failure),
        Complaint::UnknownSetting(_) => error(SqlState::UNDEFINED_OBJECT)
            .hint("There are session, token, consistency, max_lag, wait_budget, report and last_route."),
        Complaint::ReadOnlySetting(_) => error(SqlState(*b"55P02")),
        Complaint::InvalidSetting { wanted, .. } => {
            error(SqlState::INVALID_PARAMETER_VALUE).hint(format!("It takes {wanted}."))
        }
        Complaint::MixedSettings => error(SqlState::FEATURE_NOT_SUPPORTED).hint("Send it as a message of its own."),
        Complaint::AbortedTransaction => error(SqlState::IN_FAILED_SQL_TRANSACTION),
        Complaint::DiffersOnStandby => error(SqlState::FEATURE_NOT_SUPPORTED)
            .detail("Advisory locks taken on a standby exclude nobody, and sequences stand ahead there.")
            .hint("SET highwater.consistency = 'primary' before the transaction, or begin it without READ ONLY."),
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
        other => Told::new(Severity::Error, SqlState::CONNECTION_FAILURE, "the server cannot be reached")
            .detail(other.to_string()),
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
        Refusal::TimelineChanged => {
            error(SqlState::CONNECTION_FAILURE, "the cluster has failed over, and what this session wrote may be lost")
                .hint("SET highwater.session = '' begins anew.")
        }
    }
}

/// A core's reason as a sentence of DETAIL.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// What a token's bearer is told.
pub(crate) fn token(refusal: TokenRefusal) -> Told {
    Told::new(Severity::Warning, SqlState::WARNING, format!("highwater.token ignored: {refusal}"))
        .detail("The session's guarantees continue from what it has seen on this connection.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::Micros;

    /// The public contract: what each failure is to a program. A change here is a change for users.
    #[test]
    fn every_failure_has_its_sqlstate() {
        let behind = Refusal::NotCaughtUp { missing_bytes: 8, catch_up: Some(Micros(2_000_000)) };
        let spent = Refusal::FallbackSpent { missing_bytes: 8, catch_up: None };
        let lost = || Failure::Closed;
        let login = |why| End::Login { user: "ann".into(), why };
        let table = [
            ("53400 ERROR no standby is fresh enough for this read", complaint(&Complaint::Refused(behind))),
            ("53400 ERROR no server may take this read", complaint(&Complaint::Refused(spent))),
            (
                "53400 ERROR the primary does not show yet what this session has seen",
                complaint(&Complaint::Refused(Refusal::NotYetVisible { missing_bytes: None })),
            ),
            (
                "53400 ERROR the position of a server is not known",
                complaint(&Complaint::Refused(Refusal::PositionUnknown)),
            ),
            ("57P03 ERROR no primary is known", complaint(&Complaint::Refused(Refusal::NoPrimary))),
            ("57P03 ERROR no standby is available", complaint(&Complaint::Refused(Refusal::NoStandby))),
            ("25006 ERROR cannot run this on a standby", complaint(&Complaint::Refused(Refusal::PrimaryOutOfScope))),
            (
                "08006 ERROR the cluster has failed over, and what this session wrote may be lost",
                complaint(&Complaint::Refused(Refusal::TimelineChanged)),
            ),
            ("53300 ERROR no server connection became free in time", complaint(&Complaint::CheckoutTimeout)),
            ("08006 ERROR the server cannot be reached", complaint(&Complaint::Server(lost()))),
            (
                "42704 ERROR unrecognized configuration parameter \"highwater.x\"",
                complaint(&Complaint::UnknownSetting("x".into())),
            ),
            (
                "25P02 ERROR current transaction is aborted, commands ignored until end of transaction block",
                complaint(&Complaint::AbortedTransaction),
            ),
            ("08006 FATAL the server connection was lost", end(&End::ServerLost(lost())).expect("told")),
            (
                "08007 FATAL the server connection was lost while a statement ran on the primary",
                end(&End::OutcomeUnknown(lost())).expect("told"),
            ),
            ("53300 FATAL sorry, too many clients already", end(&End::TooManyClients).expect("told")),
            (
                "28P01 FATAL password authentication failed for user \"ann\"",
                end(&login(LoginFailure::NoPassword)).expect("told"),
            ),
            (
                "28P01 FATAL password authentication failed for user \"ann\"",
                end(&login(LoginFailure::WrongPassword)).expect("told"),
            ),
            (
                "3D000 FATAL there is no server \"moon\"",
                end(&login(LoginFailure::UnknownServer("moon".into()))).expect("told"),
            ),
            ("01000 WARNING highwater.token ignored: it comes from another cluster", token(TokenRefusal::Foreign)),
        ];
        for (expected, told) in table {
            assert_eq!(format!("{} {} {}", told.code, told.severity, told.message), expected);
        }
    }

    #[test]
    fn a_refused_read_says_how_far_and_how_long() {
        let refusal = Refusal::NotCaughtUp { missing_bytes: 640, catch_up: Some(Micros(2_000_000)) };
        let detail = refused(&refusal).detail.expect("there is a detail");
        assert!(detail.contains("640 bytes") && detail.contains("2000 ms"), "{detail}");
    }
}
