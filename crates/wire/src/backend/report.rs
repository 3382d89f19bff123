//! ErrorResponse and NoticeResponse: one layout, a list of fields, each a type byte and a terminated string.

use crate::{Offence, SqlState, read::Reader, write};
use std::fmt;

/// How bad it is: field `V`, which PostgreSQL 9.6 and later send untranslated beside the translated `S`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The server connection ends.
    Fatal,
    /// All server connections end.
    Panic,
    /// A notice that something is probably wrong.
    Warning,
    /// A notice.
    Notice,
    /// What the client asked to be told.
    Info,
    /// What normally goes to the server's log only.
    Log,
    /// The same, for developers.
    Debug,
}

impl Severity {
    const ALL: [Self; 8] =
        [Self::Error, Self::Fatal, Self::Panic, Self::Warning, Self::Notice, Self::Info, Self::Log, Self::Debug];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Panic => "PANIC",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
            Severity::Info => "INFO",
            Severity::Log => "LOG",
            Severity::Debug => "DEBUG",
        }
    }

    fn from_bytes(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str().as_bytes() == word)
    }

    /// Whether the server connection ends with it.
    pub const fn is_last_word(self) -> bool {
        matches!(self, Severity::Fatal | Severity::Panic)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The fields of an ErrorResponse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorResponse<'a>(&'a [u8]);

/// The fields of a NoticeResponse: the same.
pub type NoticeResponse<'a> = ErrorResponse<'a>;

impl<'a> ErrorResponse<'a> {
    /// Reads the body of an `E` or `N`.
    ///
    /// # Errors
    /// A body that is not a list of fields.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        let fields = Self(body);
        let mut r = Reader(body);
        loop {
            match r.u8() {
                Some(0) if r.is_empty() => return Ok(fields),
                None | Some(0) => return Err(Offence::Malformed { tag: b'E' }),
                Some(_) => r.cstr().ok_or(Offence::Malformed { tag: b'E' })?,
            };
        }
    }

    /// All fields: type byte and text, in the client's encoding.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut r = Reader(self.0);
        std::iter::from_fn(move || Some((r.u8().filter(|kind| *kind != 0)?, r.cstr()?)))
    }

    /// The text of the field `kind`.
    pub fn field(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find(|(k, _)| *k == kind).map(|(_, text)| text)
    }

    /// The severity; `None` if the server does not say it untranslated or says a new word.
    pub fn severity(&self) -> Option<Severity> {
        self.field(b'V').and_then(Severity::from_bytes)
    }

    /// The SQLSTATE; `None` if there is none or it is no code.
    pub fn sqlstate(&self) -> Option<SqlState> {
        self.field(b'C').and_then(SqlState::parse)
    }

    /// The message; empty if there is none.
    pub fn message(&self) -> &'a [u8] {
        self.field(b'M').unwrap_or_default()
    }

    /// The second sentence, if any.
    pub fn detail(&self) -> Option<&'a [u8]> {
        self.field(b'D')
    }

    /// The advice, if any.
    pub fn hint(&self) -> Option<&'a [u8]> {
        self.field(b'H')
    }
}

/// An error or notice to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is, for programs.
    pub code: SqlState,
    /// What happened, in PostgreSQL's message style: no capital, no full stop.
    pub message: &'a str,
    /// More of it, in sentences.
    pub detail: Option<&'a str>,
    /// What to do about it, in sentences.
    pub hint: Option<&'a str>,
}

/// Appends an ErrorResponse.
pub fn error_response(out: &mut Vec<u8>, report: &Report<'_>) {
    fields(out, b'E', report);
}

/// Appends an error as protocols before 3.0 have it: without a length, and without fields.
pub fn old_error_response(out: &mut Vec<u8>, report: &Report<'_>) {
    out.extend_from_slice(b"E");
    write::cstr(out, format!("{}:  {}\n", report.severity.as_str(), report.message));
}

/// Appends a NoticeResponse.
pub fn notice_response(out: &mut Vec<u8>, report: &Report<'_>) {
    fields(out, b'N', report);
}

fn fields(out: &mut Vec<u8>, tag: u8, report: &Report<'_>) {
    let severity = report.severity.as_str();
    let all = [
        (b'S', Some(severity)),
        (b'V', Some(severity)),
        (b'C', Some(report.code.as_str())),
        (b'M', Some(report.message)),
        (b'D', report.detail),
        (b'H', report.hint),
    ];
    write::message(out, tag, |out| {
        for (kind, text) in all {
            if let Some(text) = text {
                out.push(kind);
                write::cstr(out, text);
            }
        }
        out.push(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_back() {
        let mut out = Vec::new();
        let report = Report {
            severity: Severity::Fatal,
            code: SqlState::ADMIN_SHUTDOWN,
            message: "terminating connection",
            detail: None,
            hint: Some("Try again."),
        };
        error_response(&mut out, &report);
        let view = ErrorResponse::read(&out[5..]).unwrap();
        assert_eq!(view.severity(), Some(Severity::Fatal));
        assert_eq!(view.sqlstate(), Some(SqlState::ADMIN_SHUTDOWN));
        assert_eq!(view.message(), b"terminating connection");
        assert_eq!((view.detail(), view.hint()), (None, Some(&b"Try again."[..])));
        assert_eq!(view.iter().count(), 5);
    }

    #[test]
    fn fields_must_end() {
        for bad in [&b""[..], b"M", b"Mx", b"Mx\0", b"\0\0", b"Mx\0\0y"] {
            assert!(ErrorResponse::read(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ErrorResponse::read(b"\0").map(|e| e.message()), Ok(&b""[..]));
    }
}
