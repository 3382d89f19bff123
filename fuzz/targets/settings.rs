//! The configuration: files, addresses, URLs, durations and levels from whoever writes them. What was read and is shown
//! can be read again, and a password is never shown.
//!
//! An input is a byte that says what the rest is, and text.

#![no_main]

use std::str::FromStr;

use highwater::config::{Config, Consistency, Listen, ServerUrl, SocketMode, Span};
use highwater_fuzz::{Input, bounded};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use toml::Value;

fuzz_target!(|data: &[u8]| bounded(4096 * data.len() + (1 << 20), || {
    let mut input = Input(data);
    let kind = input.below(6);
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    match kind {
        0 => file(text),
        1 => url(text),
        2 => shown_again::<Span>(text),
        3 => shown_again::<Listen>(text),
        4 => shown_again::<Consistency>(text),
        _ => shown_again::<SocketMode>(text),
    }
}));

fn file(text: &str) {
    match Config::from_toml(text) {
        Err(complaint) => assert!(!complaint.to_string().is_empty()),
        Ok(config) => {
            flat_settings_come_back(&config);
            passwords_stay_hidden(&config);
            if let Ok(complete) = config.complete() {
                assert!(complete.servers.iter().all(|server| !server.name.is_empty()));
            }
        }
    }
}

/// What the console shows of a setting sets it to just that.
fn flat_settings_come_back(config: &Config) {
    for (name, value, meaning) in config.rows() {
        assert!(!meaning.is_empty());
        let quoted = Value::String(value.clone());
        let again = [format!("{name} = {quoted}"), format!("{name} = {value}")];
        let Some(again) = again.iter().find_map(|line| Config::from_toml(line).ok()) else {
            panic!("{name} is shown as {value}, which it cannot be set to")
        };
        assert_eq!(again.rows().into_iter().find(|row| row.0 == name).map(|row| row.1), Some(value));
    }
}

/// Nothing that goes to a console or a log holds a server's password, unless it stands in the open elsewhere.
fn passwords_stay_hidden(config: &Config) {
    for ServerUrl { address, user, password, database, tls } in config.servers.iter().map(|server| &server.url) {
        let Some(password) = password.as_deref().filter(|password| password.len() > 8) else { continue };
        let url = ServerUrl {
            address: address.clone(),
            user: user.clone(),
            password: None,
            database: database.clone(),
            tls: tls.clone(),
        };
        let open = format!("{url:?}");
        let debug = format!("{:?}", config.servers);
        assert!(open.contains(password) || !debug.contains(password), "{debug} holds {password}");
    }
}

fn url(text: &str) {
    let Ok(url) = text.parse::<ServerUrl>() else { return };
    assert!(!url.user.is_empty() && !url.database.is_empty());
    assert!(!url.address.to_string().is_empty());
}

/// A value as the console shows it.
fn shown<T: Serialize>(value: T) -> String {
    match Value::try_from(value) {
        Ok(Value::String(text)) => text,
        other => panic!("{other:?} is no text"),
    }
}

/// What is shown of a value is read again as the same.
fn shown_again<T: FromStr + Serialize>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let once = shown(value);
        let again = once.parse::<T>().ok().map(shown);
        assert_eq!(again.as_ref(), Some(&once), "{text:?}");
    }
}
