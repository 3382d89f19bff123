//! The configuration: files, addresses, URLs, durations and levels from whoever writes them. What was read and is shown
//! can be read again, and a password is never shown.
//!
//! An input is a byte that says what the rest is, and text.

#![no_main]

use highwater::config::{Config, Consistency, Listen, ServerUrl, Span};
use highwater_fuzz::{Input, bounded};
use libfuzzer_sys::fuzz_target;
use toml::Value;

fuzz_target!(|data: &[u8]| bounded(4096 * data.len() + (1 << 20), || {
    let mut input = Input(data);
    let kind = input.below(5);
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    match kind {
        0 => file(text),
        1 => url(text),
        2 => shown_again(text.parse::<Span>().ok().map(shown), |text| text.parse::<Span>().ok().map(shown)),
        3 => shown_again(text.parse::<Listen>().ok().map(shown), |text| text.parse::<Listen>().ok().map(shown)),
        _ => {
            shown_again(text.parse::<Consistency>().ok().map(shown), |text| text.parse::<Consistency>().ok().map(shown))
        }
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

/// Nothing that goes to a console or a log holds a server's password.
fn passwords_stay_hidden(config: &Config) {
    for server in &config.servers {
        let text = shown(server.url.clone());
        let open = format!("{}{}{}", server.url.user, server.url.address, server.url.database);
        let Some(password) = server.url.password.as_deref().filter(|password| password.len() > 4) else { continue };
        assert!(open.contains(password) || !text.contains(password), "{text} holds {password}");
    }
}

fn url(text: &str) {
    let Ok(url) = text.parse::<ServerUrl>() else { return };
    assert!(!url.user.is_empty() && !url.database.is_empty());
    assert!(!url.address.to_string().is_empty());
}

/// A value as the console shows it.
fn shown<T: serde::Serialize>(value: T) -> String {
    match Value::try_from(value) {
        Ok(Value::String(text)) => text,
        other => panic!("{other:?} is no text"),
    }
}

fn shown_again(shown: Option<String>, read: impl Fn(&str) -> Option<String>) {
    if let Some(shown) = shown {
        assert_eq!(read(&shown).as_ref(), Some(&shown));
    }
}
