//! Messages of servers: what was read and can be written comes out as it went in; counts, fields and lists agree.
//!
//! An input is a type byte and a body.

#![no_main]

use highwater_fuzz::bounded;
use highwater_wire::backend::{
    self, Authentication, BackendKeyData, CommandComplete, CopyResponse, DataRow, ErrorResponse,
    NegotiateProtocolVersion, NotificationResponse, ParameterDescription, ParameterStatus, ReadyForQuery, Report,
    RowDescription, error_response,
};
use highwater_wire::{Format, Formats};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(64 * data.len() + 4096, || {
    let Some((tag, body)) = data.split_first() else { return };
    match tag {
        b'T' => columns(body),
        b'D' => row(body),
        b'E' | b'N' => report(body),
        b'R' => authentication(body),
        b'G' | b'H' | b'W' => copy(*tag, body),
        _ => small(*tag, body),
    }
}));

/// What `write` appends is the message.
fn same(tag: u8, body: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!((out[0], &out[5..]), (tag, body));
    assert_eq!(out[1..5], u32::try_from(out.len() - 1).expect("inputs are short").to_be_bytes());
}

fn small(tag: u8, body: &[u8]) {
    match tag {
        b'Z' => drop(ReadyForQuery::read(body).map(|view| {
            same(tag, body, |out| backend::ready_for_query(out, view.status));
        })),
        b'S' => drop(ParameterStatus::read(body).map(|view| {
            same(tag, body, |out| backend::parameter_status(out, view.name, view.value));
        })),
        b'K' => drop(BackendKeyData::read(body).map(|view| {
            same(tag, body, |out| backend::backend_key_data(out, view.pid, view.key));
        })),
        b't' => drop(ParameterDescription::read(body).map(|view| {
            let types: Vec<u32> = view.types.iter().collect();
            assert_eq!(types.len(), view.types.len());
            same(tag, body, |out| backend::parameter_description(out, &types));
        })),
        b'C' => drop(CommandComplete::read(body).map(|view| {
            same(tag, body, |out| backend::command_complete(out, view.tag));
            let count = view.rows().map(|rows| rows.to_string().into_bytes());
            let digits = view.tag.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let last = &view.tag[view.tag.len() - digits..];
            let significant = last.iter().position(|byte| *byte != b'0').map_or(&b"0"[..], |first| &last[first..]);
            assert!(count.is_none_or(|count| count == significant));
        })),
        b'v' => drop(NegotiateProtocolVersion::read(body).map(|view| {
            let unknown: Vec<&[u8]> = view.unknown_options().collect();
            let Ok(names) = unknown.iter().map(|name| std::str::from_utf8(name)).collect::<Result<Vec<_>, _>>() else {
                return;
            };
            same(tag, body, |out| backend::negotiate_protocol_version(out, view.newest, &names));
        })),
        b'A' => drop(NotificationResponse::read(body).map(|view| {
            assert_eq!(body.len(), 4 + view.channel.len() + 1 + view.payload.len() + 1);
        })),
        _ => {}
    }
}

fn authentication(body: &[u8]) {
    match Authentication::read(body) {
        Ok(Authentication::Ok) => same(b'R', body, backend::authentication_ok),
        Ok(Authentication::CleartextPassword) => same(b'R', body, backend::authentication_cleartext_password),
        Ok(Authentication::Md5Password { salt }) => {
            same(b'R', body, |out| backend::authentication_md5_password(out, salt));
        }
        Ok(Authentication::SaslContinue(data)) => {
            same(b'R', body, |out| backend::authentication_sasl_continue(out, data));
        }
        Ok(Authentication::SaslFinal(data)) => same(b'R', body, |out| backend::authentication_sasl_final(out, data)),
        Ok(Authentication::Sasl(list)) => {
            let names: Option<Vec<&str>> = list.iter().map(|name| std::str::from_utf8(name).ok()).collect();
            let Some(names) = names else { return };
            assert!(names.iter().all(|name| list.contains(name)));
            same(b'R', body, |out| backend::authentication_sasl(out, &names));
        }
        Ok(Authentication::Other(code)) => assert_eq!(code.to_be_bytes(), body[..4]),
        Err(_) => {}
    }
}

fn columns(body: &[u8]) {
    let Ok(view) = RowDescription::read(body) else { return };
    let fields: Vec<_> = view.iter().collect();
    assert_eq!((fields.len(), fields.is_empty()), (view.len(), view.is_empty()));
    let names: Vec<&[u8]> = fields.iter().map(|field| field.name).collect();
    assert_eq!(body.len(), 2 + names.iter().map(|name| name.len() + 19).sum::<usize>());
    // The writer knows columns of type text only; what it writes is read as it was meant.
    let mut out = Vec::new();
    backend::row_description(&mut out, &names);
    let again = RowDescription::read(&out[5..]).expect("what was written is read");
    assert!(again.iter().map(|field| field.name).eq(names));
    assert!(again.iter().all(|field| field.type_oid == 25 && field.format == Format::Text));
}

fn row(body: &[u8]) {
    let Ok(view) = DataRow::read(body) else { return };
    let values: Vec<_> = view.values.iter().collect();
    assert_eq!((values.len(), values.is_empty()), (view.values.len(), view.values.is_empty()));
    same(b'D', body, |out| backend::data_row(out, &values));
}

fn copy(tag: u8, body: &[u8]) {
    let Ok(CopyResponse { format, columns }) = CopyResponse::read(tag, body) else { return };
    assert_eq!(i16::from(body[0]), format.code());
    each_has_its_own(columns, &body[3..]);
}

/// None means text for all, one is for all, more are one each.
fn each_has_its_own(formats: Formats<'_>, codes: &[u8]) {
    let count = codes.len() / 2;
    for index in 0..=count {
        let expected = match count {
            0 => Some(Format::Text),
            1 => Format::from_code(i16::from(codes[1])),
            _ if index == count => None,
            _ => Format::from_code(i16::from(codes[2 * index + 1])),
        };
        assert_eq!(formats.of(index), expected);
    }
}

/// Fields come in order and none is lost; what a report says is said again.
fn report(body: &[u8]) {
    let Ok(view) = ErrorResponse::read(body) else { return };
    let fields: Vec<_> = view.iter().collect();
    let joined: Vec<u8> = fields.iter().flat_map(|(kind, text)| [&[*kind], *text, &[0]].concat()).chain([0]).collect();
    assert_eq!(joined, body);
    for (kind, _) in &fields {
        assert_eq!(view.field(*kind), fields.iter().find(|(other, _)| other == kind).map(|(_, text)| *text));
    }
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let (Some(severity), Some(code), Some(message)) = (view.severity(), view.sqlstate(), text(view.message())) else {
        return;
    };
    let (detail, hint) = (view.detail().and_then(text), view.hint().and_then(text));
    let mut out = Vec::new();
    error_response(&mut out, &Report { severity, code, message, detail, hint });
    let again = ErrorResponse::read(&out[5..]).expect("what was written is read");
    assert_eq!((again.severity(), again.sqlstate()), (Some(severity), Some(code)));
    assert_eq!(again.message(), message.as_bytes());
    assert_eq!((again.detail(), again.hint()), (detail.map(str::as_bytes), hint.map(str::as_bytes)));
}
