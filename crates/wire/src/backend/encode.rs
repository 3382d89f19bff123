//! Writing backend messages. Each function appends one whole message.

use crate::{Format, TransactionStatus, startup::Version, write};

/// The OID of type `text`.
const TEXT_OID: u32 = 25;
/// The OID of type `void`, `VOIDOID` of `pg_type_d.h`.
const VOID_OID: u32 = 2278;

/// Appends AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    authentication(out, 0, &[]);
}

/// Appends AuthenticationCleartextPassword.
pub fn authentication_cleartext_password(out: &mut Vec<u8>) {
    authentication(out, 3, &[]);
}

/// Appends AuthenticationMD5Password.
pub fn authentication_md5_password(out: &mut Vec<u8>, salt: [u8; 4]) {
    authentication(out, 5, &salt);
}

/// Appends AuthenticationSASL with the mechanisms on offer, the preferred one first.
pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    let mut list = Vec::new();
    mechanisms.iter().for_each(|mechanism| write::cstr(&mut list, mechanism));
    list.push(0);
    authentication(out, 10, &list);
}

/// Appends AuthenticationSASLContinue.
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 11, data);
}

/// Appends AuthenticationSASLFinal.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) {
    authentication(out, 12, data);
}

fn authentication(out: &mut Vec<u8>, code: u32, data: &[u8]) {
    write::message(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// Appends NegotiateProtocolVersion: the newest version that the sender speaks, and the protocol options that it
/// does not understand.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, newest: Version, unknown_options: &[&str]) {
    write::message(out, b'v', |out| {
        out.extend_from_slice(&newest.code().to_be_bytes());
        let count = u32::try_from(unknown_options.len()).expect("a start-up packet of 10,000 bytes bounds its options");
        out.extend_from_slice(&count.to_be_bytes());
        unknown_options.iter().for_each(|name| write::cstr(out, name));
    });
}

/// Appends ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    write::message(out, b'S', |out| {
        write::cstr(out, name);
        write::cstr(out, value);
    });
}

/// Appends BackendKeyData; a key of other than 4 bytes is for protocol 3.2 only.
pub fn backend_key_data(out: &mut Vec<u8>, pid: u32, key: &[u8]) {
    write::message(out, b'K', |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
}

/// Appends ReadyForQuery.
pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    write::message(out, b'Z', |out| out.push(status.byte()));
}

/// Appends a RowDescription of columns of type `text`, belonging to no table.
pub fn row_description(out: &mut Vec<u8>, columns: &[impl AsRef<[u8]>]) {
    write::message(out, b'T', |out| {
        write::count(out, columns.len());
        columns.iter().for_each(|name| column(out, name.as_ref(), TEXT_OID, -1));
    });
}

/// Appends a RowDescription of one column of type `void`: what a function gives back that returns nothing.
pub fn void_description(out: &mut Vec<u8>, name: impl AsRef<[u8]>) {
    write::message(out, b'T', |out| {
        write::count(out, 1);
        column(out, name.as_ref(), VOID_OID, 4);
    });
}

/// One column; `length` as `pg_type.typlen`.
fn column(out: &mut Vec<u8>, name: &[u8], type_oid: u32, length: i16) {
    write::cstr(out, name);
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&type_oid.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.extend_from_slice(&Format::Text.code().to_be_bytes());
}

/// Appends a DataRow; `None` is SQL's NULL.
pub fn data_row<T: AsRef<[u8]>>(out: &mut Vec<u8>, values: &[Option<T>]) {
    write::message(out, b'D', |out| {
        write::count(out, values.len());
        values.iter().for_each(|value| write::value(out, value.as_ref().map(AsRef::as_ref)));
    });
}

/// Appends CommandComplete with a tag such as `SELECT 3`.
pub fn command_complete(out: &mut Vec<u8>, tag: impl AsRef<[u8]>) {
    write::message(out, b'C', |out| write::cstr(out, tag));
}

/// Appends ParameterDescription.
pub fn parameter_description(out: &mut Vec<u8>, types: &[u32]) {
    write::message(out, b't', |out| {
        write::count(out, types.len());
        types.iter().for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
    });
}

/// Appends ParseComplete.
pub fn parse_complete(out: &mut Vec<u8>) {
    write::message(out, b'1', |_| ());
}

/// Appends BindComplete.
pub fn bind_complete(out: &mut Vec<u8>) {
    write::message(out, b'2', |_| ());
}

/// Appends CloseComplete.
pub fn close_complete(out: &mut Vec<u8>) {
    write::message(out, b'3', |_| ());
}

/// Appends NoData.
pub fn no_data(out: &mut Vec<u8>) {
    write::message(out, b'n', |_| ());
}

/// Appends EmptyQueryResponse.
pub fn empty_query_response(out: &mut Vec<u8>) {
    write::message(out, b'I', |_| ());
}
