//! Messages of clients: what was read and can be written comes out as it went in; a new name changes the name only.
//!
//! An input is a type byte, a counted name, and a body.

#![no_main]

use highwater_fuzz::{Input, bounded};
use highwater_wire::Offence;
use highwater_wire::frontend::{
    self, Bind, BindParams, Close, CopyFail, Describe, Execute, FunctionCall, Kind, Parse, Password, Query,
    SaslInitialResponse,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(64 * data.len() + 4096, || {
    let mut input = Input(data);
    let (tag, name) = (input.byte(), input.short());
    // A name on the wire ends at its first zero.
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let body = input.0;
    written_again(tag, body);
    renamed(b'P', body, name, |out, body, name| frontend::parse_with_name(out, body, name), first_string);
    renamed(
        b'B',
        body,
        name,
        |out, body, name| frontend::bind_with_statement(out, body, name),
        |body| Some(Bind::read(body).ok()?.statement),
    );
    renamed(
        b'D',
        body,
        name,
        |out, body, name| frontend::describe_with_name(out, body, name),
        |body| Some(Describe::read(body).ok()?.name),
    );
    renamed(
        b'C',
        body,
        name,
        |out, body, name| frontend::close_with_name(out, body, name),
        |body| Some(Close::read(body).ok()?.name),
    );
    the_rest_stays(body, name);
}));

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("inputs are short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn written_again(tag: u8, body: &[u8]) {
    let mut out = Vec::new();
    match tag {
        b'Q' => Query::read(body).map(|view| frontend::query(&mut out, view.text)),
        b'P' => Parse::read(body).map(|view| {
            let types: Vec<u32> = view.param_types.iter().collect();
            assert_eq!((types.len(), types.is_empty()), (view.param_types.len(), view.param_types.is_empty()));
            frontend::parse(&mut out, view.name, view.text, &types);
        }),
        b'B' => Bind::read(body).and_then(|view| {
            let params = view.params()?;
            formats(&params);
            // The writer knows text only.
            if body.len() == plain_bind_length(&view, &params) {
                let values: Vec<Option<&[u8]>> = params.values.iter().collect();
                frontend::bind(&mut out, view.portal, view.statement, &values);
            }
            Ok(())
        }),
        b'D' => Describe::read(body).map(|view| frontend::describe(&mut out, view.kind, view.name)),
        b'C' => Close::read(body).map(|view| frontend::close(&mut out, view.kind, view.name)),
        b'E' => Execute::read(body).map(|view| frontend::execute(&mut out, view.portal, view.max_rows)),
        b'f' => CopyFail::read(body).map(|view| frontend::copy_fail(&mut out, view.reason)),
        b'F' => FunctionCall::read(body).map(|view| assert_eq!(view.function.to_be_bytes(), body[..4])),
        b'p' => return login(body),
        _ => return,
    }
    .unwrap_or_default();
    assert!(out.is_empty() || out == message(tag, body));
}

/// The length of a Bind without formats.
fn plain_bind_length(view: &Bind<'_>, params: &BindParams<'_>) -> usize {
    let values: usize = params.values.iter().map(|value| 4 + value.map_or(0, <[u8]>::len)).sum();
    view.portal.len() + view.statement.len() + 2 + 6 + values
}

fn formats(params: &BindParams<'_>) {
    assert_eq!(params.values.iter().count(), params.values.len());
    let known = (0..params.values.len()).filter(|index| params.formats.of(*index).is_some()).count();
    assert_eq!(known < params.values.len(), params.formats.of(params.values.len().saturating_sub(1)).is_none());
}

fn login(body: &[u8]) {
    let mut out = Vec::new();
    if let Ok(view) = Password::read(body) {
        frontend::password(&mut out, view.password);
        assert_eq!(out, message(b'p', body));
    }
    if let Ok(view) = SaslInitialResponse::read(body)
        && let (Ok(mechanism), Some(response)) = (std::str::from_utf8(view.mechanism), view.response)
    {
        out.clear();
        frontend::sasl_initial_response(&mut out, mechanism, response);
        assert_eq!(out, message(b'p', body));
    }
}

type Rename = fn(&mut Vec<u8>, &[u8], &[u8]) -> Result<(), Offence>;

/// The new name is in its place; the old one put back gives the old message; what is refused leaves nothing.
fn renamed(tag: u8, body: &[u8], name: &[u8], rename: Rename, name_of: fn(&[u8]) -> Option<&[u8]>) {
    let mut out = Vec::new();
    let done = rename(&mut out, body, name);
    let Some(old) = name_of(body) else {
        return assert!(done.is_err() && out.is_empty());
    };
    assert_eq!(done, Ok(()));
    let mut again = Vec::new();
    assert_eq!(name_of(&out[5..]), Some(name));
    assert_eq!(out, message(tag, &out[5..]));
    rename(&mut again, &out[5..], old).expect("a renamed message is a message");
    assert_eq!(again, message(tag, body));
}

fn first_string(body: &[u8]) -> Option<&[u8]> {
    body.iter().position(|byte| *byte == 0).map(|end| &body[..end])
}

/// Everything but the name is the same for whoever reads the renamed message.
fn the_rest_stays(body: &[u8], name: &[u8]) {
    let mut out = Vec::new();
    if let Ok(old) = Parse::read(body) {
        frontend::parse_with_name(&mut out, body, name).expect("it is a Parse");
        assert_eq!(Parse::read(&out[5..]), Ok(Parse { name, ..old }));
    }
    out.clear();
    if let Ok(old) = Bind::read(body) {
        frontend::bind_with_statement(&mut out, body, name).expect("it is a Bind");
        let new = Bind::read(&out[5..]).expect("still a Bind");
        assert_eq!((new.portal, new.statement), (old.portal, name));
        assert_eq!(new.params(), old.params());
    }
    out.clear();
    if let Ok(old) = Describe::read(body) {
        frontend::describe_with_name(&mut out, body, name).expect("it is a Describe");
        assert_eq!(
            Describe::read(&out[5..]).map(|new| (new.kind == Kind::Portal, new.name)),
            Ok((old.kind == Kind::Portal, name))
        );
    }
}
