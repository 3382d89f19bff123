//! SCRAM and MD5: verifiers come back as they were, honest sides agree, and whoever changes a byte of an exchange, or
//! makes one up, gets nowhere.

#![no_main]

use highwater_fuzz::{Input, bounded};
use highwater_wire::md5;
use highwater_wire::scram::{self, Binding, Client, Failure, Keys, Server, Verifier};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(64 * data.len() + 8192, || {
    let mut input = Input(data);
    match input.below(5) {
        0 => verifier(input.0),
        1 => exchange(&mut input),
        2 => made_up_by_a_client(&mut input),
        3 => made_up_by_a_server(&mut input),
        _ => hash(input.0),
    }
}));

/// The password of whoever is deceived here. No input is a proof of it, but by knowing it.
const PASSWORD: &[u8] = b"secret";

/// More rounds than this would only make the fuzzer slow.
const ROUNDS_MAX: u32 = 4;

fn verifier(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(verifier) = Verifier::parse(text) else { return };
    assert!((1..=scram::ITERATIONS_MAX).contains(&verifier.iterations()) && !verifier.salt().is_empty());
    assert_eq!(Verifier::parse(&verifier.to_string()).as_ref(), Ok(&verifier));
    if verifier.iterations() <= ROUNDS_MAX {
        assert!(!verifier.accepts(PASSWORD));
    }
}

/// An honest exchange of which at most one byte is changed on the way.
fn exchange(input: &mut Input<'_>) {
    let (password, salt) = (input.short(), input.short());
    let salt = if salt.is_empty() { b"salt" } else { salt };
    let verifier = Verifier::from_password(password, salt, 1 + input.below(ROUNDS_MAX as usize) as u32);
    let nonces = [0, 1].map(|_| scram::nonce(&std::array::from_fn(|_| input.byte())));
    let mut change = Change { at: input.below(5), place: input.byte(), byte: input.byte(), done: false };
    let done = run(password, verifier, &nonces, &mut change);
    assert_eq!(done.is_ok(), !change.done, "{done:?}");
}

fn run(password: &[u8], verifier: Verifier, nonces: &[String; 2], change: &mut Change) -> Result<(), Failure> {
    let (client, first) = Client::start(&nonces[0], Binding::Unsupported);
    let (server, challenge) = Server::start(verifier, Binding::Unsupported, &nonces[1], &change.message(0, first))?;
    let challenged = client.on_server_first(&change.message(1, challenge))?;
    let keys = Keys::from_password(password, challenged.salt(), challenged.iterations());
    let (client, proof) = challenged.prove(&keys)?;
    let login = server.on_client_final(&change.message(2, proof))?;
    assert!(change.done || keys == login.keys);
    client.on_server_final(&change.message(3, login.message))
}

/// One changed byte in the message with this number, if there is one.
struct Change {
    at: usize,
    place: u8,
    byte: u8,
    done: bool,
}

impl Change {
    fn message(&mut self, number: usize, mut message: Vec<u8>) -> Vec<u8> {
        if number == self.at {
            let place = usize::from(self.place) % message.len();
            self.done = message[place] != self.byte;
            message[place] = self.byte;
        }
        message
    }
}

/// Whatever a client says without knowing the password is refused.
fn made_up_by_a_client(input: &mut Input<'_>) {
    let verifier = Verifier::from_password(PASSWORD, b"salt", 1);
    let binding = [Binding::Unsupported, Binding::Unused, Binding::EndPoint(b"certificate")][input.below(3)];
    let first = input.short();
    if let Ok((server, challenge)) = Server::start(verifier.clone(), binding, "nonce", first) {
        assert!(challenge.starts_with(b"r="));
        assert!(server.on_client_final(input.0).is_err());
    }
    let (server, _) = Server::start(verifier, Binding::Unsupported, "nonce", b"n,,n=,r=c").expect("it is well formed");
    assert!(server.on_client_final(input.0).is_err());
}

/// Whatever a server says without knowing the password is found out, and costs no more than it may.
fn made_up_by_a_server(input: &mut Input<'_>) {
    let first = input.short();
    let (client, _) = Client::start("c", Binding::Unsupported);
    let Ok(challenged) = client.on_server_first(first) else { return };
    assert!((1..=scram::ITERATIONS_MAX).contains(&challenged.iterations()));
    if challenged.iterations() > ROUNDS_MAX {
        let others = Keys::from_password(PASSWORD, challenged.salt(), 1);
        return assert!(matches!(challenged.prove(&others), Err(Failure::OtherVerifier)));
    }
    let keys = Keys::from_password(PASSWORD, challenged.salt(), challenged.iterations());
    let (proved, proof) = challenged.prove(&keys).expect("the keys are made for it");
    assert!(proof.starts_with(b"c=biws,r=c"));
    assert!(proved.on_server_final(input.0).is_err());
}

fn hash(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Some(response) = md5::response_from_hash(text, [1, 2, 3, 4]) {
        assert_eq!((response.len(), text.len()), (35, 35));
        assert!(
            md5::accepts(text, [1, 2, 3, 4], response.as_bytes()) && !md5::accepts(text, [0; 4], response.as_bytes())
        );
    }
    let response = md5::response(text, text.as_bytes(), [0; 4]);
    assert!(response.starts_with("md5") && response.len() == 35);
}
