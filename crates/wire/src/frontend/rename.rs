//! Copying a message under another statement name: what pooled mode needs when two clients use one name, and
//! touches nothing else of the message.

use super::{Bind, Close, Describe, close, describe};
use crate::{Offence, read::Reader, write};

/// Appends the Parse whose body is `body`, under another statement name.
///
/// # Errors
/// A body whose name does not end; nothing is appended then.
pub fn parse_with_name(out: &mut Vec<u8>, body: &[u8], name: impl AsRef<[u8]>) -> Result<(), Offence> {
    let mut reader = Reader(body);
    reader.cstr().ok_or(Offence::Malformed { tag: b'P' })?;
    write::message(out, b'P', |out| {
        write::cstr(out, name);
        out.extend_from_slice(reader.0);
    });
    Ok(())
}

/// Appends the Bind whose body is `body`, of another statement.
///
/// # Errors
/// A body whose names do not end; nothing is appended then.
pub fn bind_with_statement(out: &mut Vec<u8>, body: &[u8], statement: impl AsRef<[u8]>) -> Result<(), Offence> {
    let bind = Bind::read(body)?;
    write::message(out, b'B', |out| {
        write::cstr(out, bind.portal);
        write::cstr(out, statement);
        out.extend_from_slice(bind.tail);
    });
    Ok(())
}

/// Appends the Describe whose body is `body`, of another name but the same kind.
///
/// # Errors
/// A body that is no Describe; nothing is appended then.
pub fn describe_with_name(out: &mut Vec<u8>, body: &[u8], name: impl AsRef<[u8]>) -> Result<(), Offence> {
    Describe::read(body).map(|view| describe(out, view.kind, name))
}

/// Appends the Close whose body is `body`, of another name but the same kind.
///
/// # Errors
/// A body that is no Close; nothing is appended then.
pub fn close_with_name(out: &mut Vec<u8>, body: &[u8], name: impl AsRef<[u8]>) -> Result<(), Offence> {
    Close::read(body).map(|view| close(out, view.kind, name))
}
