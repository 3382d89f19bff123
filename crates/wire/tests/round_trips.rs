//! What the encoders write, the views read back; what is renamed changes in its name only.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::Noise;
use highwater_wire::{Format, TransactionStatus, backend, frame, frontend, startup};

/// The body of the one message that `write` appends, after checking tag and length.
fn body(tag: u8, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(&mut out);
    let mut messages = frame::messages(&out[6..]);
    let message = messages.next().unwrap().unwrap();
    assert_eq!((message.tag, messages.rest()), (tag, &b""[..]));
    message.body.to_vec()
}

#[test]
fn frontend_messages() {
    use frontend::*;
    let b = body(b'Q', |out| query(out, "select 1"));
    assert_eq!(Query::read(&b), Ok(Query { text: b"select 1" }));
    let b = body(b'P', |out| parse(out, "s", "select $1", &[23, 0]));
    let view = Parse::read(&b).unwrap();
    assert_eq!((view.name, view.text), (&b"s"[..], &b"select $1"[..]));
    assert_eq!(view.param_types.iter().collect::<Vec<_>>(), [23, 0]);
    let b = body(b'E', |out| execute(out, "p", 7));
    assert_eq!(Execute::read(&b), Ok(Execute { portal: b"p", max_rows: 7 }));
    let b = body(b'D', |out| describe(out, Kind::Portal, "p"));
    assert_eq!(Describe::read(&b), Ok(Describe { kind: Kind::Portal, name: b"p" }));
    let b = body(b'C', |out| close(out, Kind::Statement, "s"));
    assert_eq!(Close::read(&b), Ok(Close { kind: Kind::Statement, name: b"s" }));
    let b = body(b'f', |out| copy_fail(out, "no"));
    assert_eq!(CopyFail::read(&b), Ok(CopyFail { reason: b"no" }));
    let b = body(b'p', |out| password(out, "x"));
    assert_eq!(Password::read(&b).unwrap().password, b"x");
    let b = body(b'p', |out| sasl_initial_response(out, "SCRAM-SHA-256", b"n,,"));
    assert_eq!(SaslInitialResponse::read(&b).unwrap().response, Some(&b"n,,"[..]));
    assert_eq!(body(b'p', |out| sasl_response(out, b"c=")), b"c=");
    assert_eq!(body(b'd', |out| copy_data(out, b"1\n")), b"1\n");
    for (tag, write) in [(b'S', sync as fn(&mut Vec<u8>)), (b'H', flush), (b'X', terminate), (b'c', copy_done)] {
        assert!(body(tag, write).is_empty());
    }
}

#[test]
fn bind_parameters() {
    let b = body(b'B', |out| frontend::bind(out, "p", "s", &[Some("1"), None, Some("")]));
    let params = frontend::Bind::read(&b).unwrap().params().unwrap();
    assert_eq!(params.values.iter().collect::<Vec<_>>(), [Some(&b"1"[..]), None, Some(&b""[..])]);
    assert_eq!((params.values.len(), params.formats.of(2)), (3, Some(Format::Text)));

    // One binary format for both values, then two formats of which only two columns know theirs.
    let tail = b"\0\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x02\0\x01\0\0";
    let params = frontend::Bind::read(tail).unwrap().params().unwrap();
    assert_eq!((params.formats.of(0), params.formats.of(9)), (Some(Format::Binary), Some(Format::Binary)));
    let results = [0, 1, 2].map(|column| params.result_formats.of(column));
    assert_eq!(results, [Some(Format::Binary), Some(Format::Text), None]);
    assert!(frontend::Bind::read(b"\0\0\0\x01\0\x02\0\0\0\0").unwrap().params().is_err(), "format 2");
    assert!(frontend::Bind::read(b"\0\0\0\0\0\x01\0\0\0\x05x\0\0").unwrap().params().is_err(), "length 5 of 1");
}

#[test]
fn backend_messages() {
    use backend::*;
    let b = body(b'Z', |out| ready_for_query(out, TransactionStatus::Failed));
    assert_eq!(ReadyForQuery::read(&b), Ok(ReadyForQuery { status: TransactionStatus::Failed }));
    let b = body(b'S', |out| parameter_status(out, "TimeZone", "UTC"));
    assert_eq!(ParameterStatus::read(&b), Ok(ParameterStatus { name: b"TimeZone", value: b"UTC" }));
    let b = body(b'K', |out| backend_key_data(out, 9, &[1; 32]));
    assert_eq!(BackendKeyData::read(&b).map(|k| (k.pid, k.key.len())), Ok((9, 32)));
    let b = body(b'C', |out| command_complete(out, "INSERT 0 5"));
    assert_eq!(CommandComplete::read(&b).map(|c| c.rows()), Ok(Some(5)));
    let b = body(b'C', |out| command_complete(out, "BEGIN"));
    assert_eq!(CommandComplete::read(&b).map(|c| c.rows()), Ok(None));
    let b = body(b't', |out| parameter_description(out, &[25, 23]));
    assert_eq!(ParameterDescription::read(&b).unwrap().types.iter().collect::<Vec<_>>(), [25, 23]);
    let b = body(b'v', |out| negotiate_protocol_version(out, startup::Version::V3_0, &["_pq_.a"]));
    let view = NegotiateProtocolVersion::read(&b).unwrap();
    assert_eq!((view.newest, view.unknown_options().next()), (startup::Version::V3_0, Some(&b"_pq_.a"[..])));
    // A name may be empty; it is one of those that were counted.
    let b = body(b'v', |out| negotiate_protocol_version(out, startup::Version::V3_2, &["", "_pq_.b"]));
    let view = NegotiateProtocolVersion::read(&b).unwrap();
    assert_eq!(view.unknown_options().collect::<Vec<_>>(), [&b""[..], b"_pq_.b"]);
    let empty = [parse_complete as fn(&mut Vec<u8>), bind_complete, close_complete, no_data, empty_query_response];
    for (tag, write) in b"123nI".iter().zip(empty) {
        assert!(body(*tag, write).is_empty());
    }
}

#[test]
fn rows() {
    let b = body(b'T', |out| backend::row_description(out, &["a", "b"]));
    let view = backend::RowDescription::read(&b).unwrap();
    let fields = view.iter().map(|f| (f.name, f.type_oid, f.type_size, f.type_modifier)).collect::<Vec<_>>();
    assert_eq!(fields, [(&b"a"[..], 25, -1, -1), (&b"b"[..], 25, -1, -1)]);
    let b = body(b'D', |out| backend::data_row(out, &[Some("x"), None]));
    assert_eq!(backend::DataRow::read(&b).unwrap().values.iter().collect::<Vec<_>>(), [Some(&b"x"[..]), None]);
}

#[test]
fn authentication_requests() {
    use backend::*;
    let read = |write: &dyn Fn(&mut Vec<u8>), check: &dyn Fn(Authentication<'_>)| {
        check(Authentication::read(&body(b'R', write)).unwrap());
    };
    read(&authentication_ok, &|a| assert_eq!(a, Authentication::Ok));
    read(&authentication_cleartext_password, &|a| assert_eq!(a, Authentication::CleartextPassword));
    read(&|out| authentication_md5_password(out, [1, 2, 3, 4]), &|a| {
        assert_eq!(a, Authentication::Md5Password { salt: [1, 2, 3, 4] });
    });
    read(&|out| authentication_sasl(out, &["A", "B"]), &|a| {
        let Authentication::Sasl(list) = a else { panic!("{a:?}") };
        assert!(list.contains("B") && !list.contains("C") && list.iter().count() == 2);
    });
    read(&|out| authentication_sasl_continue(out, b"r="), &|a| assert_eq!(a, Authentication::SaslContinue(b"r=")));
    read(&|out| authentication_sasl_final(out, b"v="), &|a| assert_eq!(a, Authentication::SaslFinal(b"v=")));
}

#[test]
fn renaming_touches_nothing_but_the_name() {
    use frontend::*;
    let mut noise = Noise::new(5);
    for _ in 0..200 {
        let len = noise.below(30);
        let rest = noise.bytes(len);
        let b = [b"old\0", &rest[..]].concat();
        assert_eq!(
            body(b'P', |out| parse_with_name(out, &b, "new name").unwrap()),
            [b"new name\0", &rest[..]].concat()
        );
        let b = [b"portal\0old\0", &rest[..]].concat();
        assert_eq!(body(b'B', |out| bind_with_statement(out, &b, "n").unwrap()), [b"portal\0n\0", &rest[..]].concat());
    }
    assert_eq!(body(b'D', |out| describe_with_name(out, b"Sold\0", "n").unwrap()), b"Sn\0");
    assert_eq!(body(b'C', |out| close_with_name(out, b"Pold\0", "n").unwrap()), b"Pn\0");

    let mut out = Vec::new();
    assert!(parse_with_name(&mut out, b"endless", "n").is_err());
    assert!(bind_with_statement(&mut out, b"portal\0endless", "n").is_err());
    assert!(describe_with_name(&mut out, b"Xold\0", "n").is_err());
    assert!(close_with_name(&mut out, b"Sold\0more", "n").is_err());
    assert!(out.is_empty(), "nothing of a message that cannot be renamed is written");
}
