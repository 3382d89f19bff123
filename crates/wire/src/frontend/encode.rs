//! Writing frontend messages. Each function appends one whole message.

use super::Kind;
use crate::write;

/// Appends a Query.
pub fn query(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    write::message(out, b'Q', |out| write::cstr(out, text));
}

/// Appends a Parse; `param_types` are type OIDs, 0 for unspecified.
pub fn parse(out: &mut Vec<u8>, name: impl AsRef<[u8]>, text: impl AsRef<[u8]>, param_types: &[u32]) {
    write::message(out, b'P', |out| {
        write::cstr(out, name);
        write::cstr(out, text);
        write::count(out, param_types.len());
        param_types.iter().for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
    });
}

/// Appends a Bind with parameters and results in text format; `None` is SQL's NULL.
pub fn bind<T: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    portal: impl AsRef<[u8]>,
    statement: impl AsRef<[u8]>,
    params: &[Option<T>],
) {
    write::message(out, b'B', |out| {
        write::cstr(out, portal);
        write::cstr(out, statement);
        write::count(out, 0);
        write::count(out, params.len());
        params.iter().for_each(|param| write::value(out, param.as_ref().map(AsRef::as_ref)));
        write::count(out, 0);
    });
}

/// Appends a Describe.
pub fn describe(out: &mut Vec<u8>, kind: Kind, name: impl AsRef<[u8]>) {
    kind_and_name(out, b'D', kind, name);
}

/// Appends a Close.
pub fn close(out: &mut Vec<u8>, kind: Kind, name: impl AsRef<[u8]>) {
    kind_and_name(out, b'C', kind, name);
}

fn kind_and_name(out: &mut Vec<u8>, tag: u8, kind: Kind, name: impl AsRef<[u8]>) {
    write::message(out, tag, |out| {
        out.push(kind.byte());
        write::cstr(out, name);
    });
}

/// Appends an Execute; `max_rows` of 0 means all.
pub fn execute(out: &mut Vec<u8>, portal: impl AsRef<[u8]>, max_rows: i32) {
    write::message(out, b'E', |out| {
        write::cstr(out, portal);
        out.extend_from_slice(&max_rows.to_be_bytes());
    });
}

/// Appends a Sync.
pub fn sync(out: &mut Vec<u8>) {
    write::message(out, b'S', |_| ());
}

/// Appends a Flush.
pub fn flush(out: &mut Vec<u8>) {
    write::message(out, b'H', |_| ());
}

/// Appends a Terminate.
pub fn terminate(out: &mut Vec<u8>) {
    write::message(out, b'X', |_| ());
}

/// Appends a PasswordMessage.
pub fn password(out: &mut Vec<u8>, password: impl AsRef<[u8]>) {
    write::message(out, b'p', |out| write::cstr(out, password));
}

/// Appends a SASLInitialResponse.
pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &str, response: &[u8]) {
    write::message(out, b'p', |out| {
        write::cstr(out, mechanism);
        write::value(out, Some(response));
    });
}

/// Appends a SASLResponse.
pub fn sasl_response(out: &mut Vec<u8>, response: &[u8]) {
    write::message(out, b'p', |out| out.extend_from_slice(response));
}

/// Appends a CopyData.
pub fn copy_data(out: &mut Vec<u8>, data: &[u8]) {
    write::message(out, b'd', |out| out.extend_from_slice(data));
}

/// Appends a CopyDone.
pub fn copy_done(out: &mut Vec<u8>) {
    write::message(out, b'c', |_| ());
}

/// Appends a CopyFail.
pub fn copy_fail(out: &mut Vec<u8>, reason: impl AsRef<[u8]>) {
    write::message(out, b'f', |out| write::cstr(out, reason));
}
