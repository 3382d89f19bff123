//! SQLSTATE codes: five characters, the first two of which are the class.

use std::fmt;

/// A SQLSTATE as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlState(pub [u8; 5]);

/// The codes that a proxy says or reacts to (PostgreSQL manual, appendix A).
impl SqlState {
    /// 00000 successful_completion
    pub const SUCCESSFUL_COMPLETION: Self = Self(*b"00000");
    /// 01000 warning
    pub const WARNING: Self = Self(*b"01000");
    /// 08000 connection_exception
    pub const CONNECTION_EXCEPTION: Self = Self(*b"08000");
    /// 08003 connection_does_not_exist
    pub const CONNECTION_DOES_NOT_EXIST: Self = Self(*b"08003");
    /// 08004 sqlserver_rejected_establishment_of_sqlconnection
    pub const CONNECTION_REJECTED: Self = Self(*b"08004");
    /// 08006 connection_failure
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// 08007 transaction_resolution_unknown
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self(*b"08007");
    /// 08P01 protocol_violation
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// 0A000 feature_not_supported
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    /// 22023 invalid_parameter_value
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// 25001 active_sql_transaction
    pub const ACTIVE_SQL_TRANSACTION: Self = Self(*b"25001");
    /// 25006 read_only_sql_transaction
    pub const READ_ONLY_SQL_TRANSACTION: Self = Self(*b"25006");
    /// 25P01 no_active_sql_transaction
    pub const NO_ACTIVE_SQL_TRANSACTION: Self = Self(*b"25P01");
    /// 25P02 in_failed_sql_transaction
    pub const IN_FAILED_SQL_TRANSACTION: Self = Self(*b"25P02");
    /// 25P03 idle_in_transaction_session_timeout
    pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: Self = Self(*b"25P03");
    /// 26000 invalid_sql_statement_name
    pub const INVALID_SQL_STATEMENT_NAME: Self = Self(*b"26000");
    /// 28000 invalid_authorization_specification
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// 28P01 invalid_password
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    /// 34000 invalid_cursor_name
    pub const INVALID_CURSOR_NAME: Self = Self(*b"34000");
    /// 3D000 invalid_catalog_name
    pub const INVALID_CATALOG_NAME: Self = Self(*b"3D000");
    /// 40001 serialization_failure; also a recovery conflict on a standby
    pub const SERIALIZATION_FAILURE: Self = Self(*b"40001");
    /// 40P01 deadlock_detected
    pub const DEADLOCK_DETECTED: Self = Self(*b"40P01");
    /// 42501 insufficient_privilege
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    /// 42601 syntax_error
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    /// 42704 undefined_object
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    /// 42P05 duplicate_prepared_statement
    pub const DUPLICATE_PREPARED_STATEMENT: Self = Self(*b"42P05");
    /// 53000 insufficient_resources
    pub const INSUFFICIENT_RESOURCES: Self = Self(*b"53000");
    /// 53300 too_many_connections
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// 53400 configuration_limit_exceeded
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self(*b"53400");
    /// 55000 object_not_in_prerequisite_state
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self(*b"55000");
    /// 57014 query_canceled
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// 57P01 admin_shutdown
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// 57P02 crash_shutdown
    pub const CRASH_SHUTDOWN: Self = Self(*b"57P02");
    /// 57P03 cannot_connect_now
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// 57P04 database_dropped
    pub const DATABASE_DROPPED: Self = Self(*b"57P04");
    /// 57P05 idle_session_timeout
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    /// 58000 system_error
    pub const SYSTEM_ERROR: Self = Self(*b"58000");
    /// 58P01 undefined_file
    pub const UNDEFINED_FILE: Self = Self(*b"58P01");
    /// XX000 internal_error
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");

    /// The code in `bytes`; `None` unless it is five digits or capital letters.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let code: [u8; 5] = bytes.try_into().ok()?;
        code.iter().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()).then_some(Self(code))
    }

    /// The class: the first two characters.
    pub const fn class(self) -> [u8; 2] {
        [self.0[0], self.0[1]]
    }

    /// The code as text; `?????` if it was built from bytes that are no text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?????")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::SqlState;

    #[test]
    fn only_five_digits_or_capitals_are_a_code() {
        assert_eq!(SqlState::parse(b"25006"), Some(SqlState::READ_ONLY_SQL_TRANSACTION));
        assert_eq!(SqlState::parse(b"57p01"), None);
        assert_eq!(SqlState::parse(b"5700"), None);
        assert_eq!(SqlState::ADMIN_SHUTDOWN.class(), *b"57");
        assert_eq!(SqlState::ADMIN_SHUTDOWN.to_string(), "57P01");
    }
}
