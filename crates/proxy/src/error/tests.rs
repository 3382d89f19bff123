use super::*;
use highwater_core::{Branch, Lsn, Micros};

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
        ("53400 ERROR the position of a server is not known", complaint(&Complaint::Refused(Refusal::PositionUnknown))),
        ("57P03 ERROR no primary is known", complaint(&Complaint::Refused(Refusal::NoPrimary))),
        ("57P03 ERROR no standby is available", complaint(&Complaint::Refused(Refusal::NoStandby))),
        ("25006 ERROR cannot run this on a standby", complaint(&Complaint::Refused(Refusal::PrimaryOutOfScope))),
        (
            "08006 ERROR the cluster has failed over, and what this session wrote or saw may be lost",
            complaint(&Complaint::Lost(Loss { branch: Branch::FIRST, required: None, kept: Lsn(7) })),
        ),
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
        ("42501 ERROR permission denied to signal the connection of another user", complaint(&Complaint::NotYours)),
        ("57014 ERROR canceling statement due to user request", complaint(&Complaint::Cancelled)),
        ("57P01 FATAL terminating connection due to administrator command", end(&End::Terminated).expect("told")),
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
fn every_limit_in_time_has_its_sqlstate() {
    let table = [
        (
            "53300 ERROR no server connection became free in time",
            complaint(&Complaint::CheckoutTimeout(Box::default())),
        ),
        (
            "53400 ERROR no server connection could be used in time",
            complaint(&Complaint::NotUsable(Duration::from_secs(15))),
        ),
        ("57014 ERROR canceling statement due to query timeout", complaint(&Complaint::QueryTimeout)),
        ("57014 FATAL terminating connection due to query timeout", end(&End::Unstoppable).expect("told")),
        (
            "25P03 FATAL terminating connection due to idle-in-transaction timeout",
            end(&End::IdleInTransaction).expect("told"),
        ),
        ("57P05 FATAL terminating connection due to idle-session timeout", end(&End::Idle).expect("told")),
    ];
    for (expected, told) in table {
        assert_eq!(format!("{} {} {}", told.code, told.severity, told.message), expected);
    }
}

#[test]
fn every_refused_login_has_its_sqlstate() {
    let login = |why| end(&End::Login { user: "ann".into(), why }).expect("told");
    let server = |failure| complaint(&Complaint::Server(failure));
    let table = [
        ("57P03 FATAL no server can be asked for passwords now", login(LoginFailure::NoLookup)),
        (
            "28000 FATAL no allow entry for host \"10.0.0.1\", user \"ann\", database \"d\", no encryption",
            login(LoginFailure::NotListed {
                database: "d".into(),
                address: Some([10, 0, 0, 1].into()),
                encrypted: false,
            }),
        ),
        (
            "28000 FATAL allow entry rejects connection for host \"[local]\", user \"ann\"",
            login(LoginFailure::Rejected(None, false)),
        ),
        ("28000 FATAL connection requires TLS", login(LoginFailure::TlsRequired)),
        ("28000 FATAL connection requires a valid client certificate", login(LoginFailure::NoCertificate)),
        ("28000 FATAL certificate authentication failed for user \"ann\"", login(LoginFailure::WrongCertificate(None))),
        ("53300 FATAL too many connections for role \"ann\"", login(LoginFailure::Full(Full::User, "d".into()))),
        ("53300 FATAL too many connections for database \"d\"", login(LoginFailure::Full(Full::Database, "d".into()))),
        ("08P01 FATAL malformed SCRAM message", login(LoginFailure::Scram(scram::Failure::Malformed))),
        ("28000 FATAL SCRAM channel binding check failed", login(LoginFailure::Scram(scram::Failure::ChannelBinding))),
        ("28P01 ERROR password authentication failed for user \"ann\"", server(Failure::PasswordChanged("ann".into()))),
        (
            "28000 ERROR the server wants a password, and none is known for user \"ann\"",
            server(Failure::NoPassword("ann".into())),
        ),
        (
            "53300 ERROR all server connections that the user or the database may have are in use",
            server(Failure::NoPlace),
        ),
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
