//! Both sides of SCRAM against each other.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use highwater_wire::scram::{Binding, Challenged, Client, ClientProved, Failure, Keys, Server, Verifier};

const SALT: &[u8] = &[42; 16];

fn verifier(password: &[u8]) -> Verifier {
    Verifier::from_password(password, SALT, 100)
}

/// What a client proves itself with.
enum Secret<'a> {
    Password(&'a [u8]),
    Keys(Keys),
}

fn prove(challenged: Challenged, secret: Secret<'_>) -> Result<(ClientProved, Vec<u8>), Failure> {
    let keys = match secret {
        Secret::Password(password) => Keys::from_password(password, challenged.salt(), challenged.iterations()),
        Secret::Keys(keys) => keys,
    };
    challenged.prove(&keys)
}

/// A whole exchange; both sides must agree at its end. Gives the keys that the server learned.
fn login(secret: Secret<'_>, verifier: Verifier, client: Binding<'_>, server: Binding<'_>) -> Result<Keys, Failure> {
    let (client, first) = Client::start("client", client);
    let (server, challenge) = Server::start(verifier, server, "server", &first)?;
    let (client, proof) = prove(client.on_server_first(&challenge)?, secret)?;
    let login = server.on_client_final(&proof)?;
    client.on_server_final(&login.message)?;
    Ok(login.keys)
}

fn plain(secret: Secret<'_>, verifier: Verifier) -> Result<Keys, Failure> {
    login(secret, verifier, Binding::Unsupported, Binding::Unsupported)
}

#[test]
fn a_password_logs_in_whatever_the_salt_length() {
    for len in [1, 12, 16, 32, 200] {
        let verifier = Verifier::from_password(b"secret", &vec![3; len], 100);
        let stored = Verifier::parse(&verifier.to_string()).unwrap();
        assert!(plain(Secret::Password(b"secret"), stored).is_ok(), "{len}");
    }
}

#[test]
fn recovered_keys_log_in_elsewhere() {
    let keys = plain(Secret::Password(b"secret"), verifier(b"secret")).unwrap();
    assert!(plain(Secret::Keys(keys.clone()), verifier(b"secret")).is_ok());
    assert!(verifier(b"secret").accepts_keys(&keys));
    let other_salt = Verifier::from_password(b"secret", &[7; 16], 100);
    assert_eq!(plain(Secret::Keys(keys.clone()), other_salt), Err(Failure::OtherVerifier));
    let other_count = Verifier::from_password(b"secret", SALT, 101);
    assert_eq!(plain(Secret::Keys(keys.clone()), other_count), Err(Failure::OtherVerifier));
    assert_eq!(plain(Secret::Keys(keys), verifier(b"changed")), Err(Failure::WrongPassword));
}

#[test]
fn a_wrong_password_is_refused() {
    assert_eq!(plain(Secret::Password(b"Secret"), verifier(b"secret")), Err(Failure::WrongPassword));
    assert_eq!(plain(Secret::Password(b""), verifier(b"secret")), Err(Failure::WrongPassword));
}

#[test]
fn passwords_are_equal_if_they_are_after_saslprep() {
    assert!(plain(Secret::Password("\u{2168}".as_bytes()), verifier(b"IX")).is_ok());
}

#[test]
fn an_unknown_user_looks_like_a_wrong_password() {
    let real = Verifier::from_password(b"secret", SALT, 4096);
    let mock = Verifier::mock(&[1; 32], "nobody", 4096, SALT.len());
    let outcome = |verifier: Verifier| {
        let (client, first) = Client::start("client", Binding::Unsupported);
        let (server, challenge) = Server::start(verifier, Binding::Unsupported, "server", &first).unwrap();
        let (_, proof) = prove(client.on_server_first(&challenge).unwrap(), Secret::Password(b"guess")).unwrap();
        (challenge.len(), server.on_client_final(&proof).map(|_| ()).unwrap_err())
    };
    assert_eq!(outcome(real), outcome(mock.clone()));
    let challenge = |verifier| Server::start(verifier, Binding::Unsupported, "n", b"n,,n=,r=c").unwrap().1;
    assert_eq!(challenge(mock), challenge(Verifier::mock(&[1; 32], "nobody", 4096, 16)), "asking twice tells nothing");
}

#[test]
fn a_server_without_the_verifier_is_found_out() {
    let (client, first) = Client::start("client", Binding::Unsupported);
    let (_, challenge) = Server::start(verifier(b"secret"), Binding::Unsupported, "server", &first).unwrap();
    let (client, _) = prove(client.on_server_first(&challenge).unwrap(), Secret::Password(b"secret")).unwrap();
    let forged = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(client.on_server_final(forged), Err(Failure::WrongServer));
    let (client, _) = Client::start("client", Binding::Unsupported);
    let (client, _) = prove(client.on_server_first(&challenge).unwrap(), Secret::Password(b"secret")).unwrap();
    assert_eq!(client.on_server_final(b"e=other-error"), Err(Failure::Refused));
}

#[test]
fn both_sides_must_see_the_same_channel() {
    use Binding::*;
    let outcome = |client, server| login(Secret::Password(b"secret"), verifier(b"secret"), client, server).map(|_| ());
    assert_eq!(outcome(EndPoint(b"cert"), EndPoint(b"cert")), Ok(()));
    assert_eq!(outcome(EndPoint(b"cert"), EndPoint(b"mine")), Err(Failure::ChannelBinding));
    assert_eq!(outcome(Unsupported, Unused), Ok(()), "-PLUS offered, client cannot");
    assert_eq!(outcome(Unused, Unsupported), Ok(()), "client could, none offered");
    assert_eq!(outcome(Unused, Unused), Err(Failure::ChannelBinding), "somebody removed the offer");
    assert_eq!(outcome(Unsupported, EndPoint(b"cert")), Err(Failure::ChannelBinding), "-PLUS without binding");
    assert_eq!(outcome(EndPoint(b"cert"), Unsupported), Err(Failure::ChannelBinding), "binding without -PLUS");
}

#[test]
fn a_client_that_breaks_the_rules_is_refused() {
    let start = |message: &[u8]| {
        Server::start(verifier(b"x"), Binding::Unsupported, "server", message).map(|_| ()).unwrap_err()
    };
    for bad in
        [&b""[..], b"n", b"n,", b"n,,", b"n,,n=u", b"n,,r=c,n=u", b"n,,n=,r=", b"n,,n=,r=\x01", b"x,,n=,r=c", b"\xff"]
    {
        assert_eq!(start(bad), Failure::Malformed, "{bad:?}");
    }
    assert_eq!(start(b"n,a=root,n=,r=c"), Failure::Unsupported);
    assert_eq!(start(b"n,,m=x,n=,r=c"), Failure::Unsupported);

    let finish = |message: &[u8]| {
        let (server, _) = Server::start(verifier(b"x"), Binding::Unsupported, "server", b"n,,n=,r=c").unwrap();
        server.on_client_final(message).map(|_| ()).unwrap_err()
    };
    let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(finish(format!("c=biws,r=cserver,{proof}").as_bytes()), Failure::WrongPassword);
    assert_eq!(finish(format!("c=biws,r=cother,{proof}").as_bytes()), Failure::Nonce);
    assert_eq!(finish(format!("c=eSws,r=cserver,{proof}").as_bytes()), Failure::ChannelBinding);
    for bad in ["", "c=biws,r=cserver", "c=biws,r=cserver,p=", "c=biws,r=cserver,p=AAAA", "r=cserver,p=!"] {
        assert_eq!(finish(bad.as_bytes()), Failure::Malformed, "{bad}");
    }
}
