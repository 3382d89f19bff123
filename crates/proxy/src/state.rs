//! The settings that a connection has beyond what the server gives a new one of its role and database. Those of a client
//! follow it to whichever server connection it uses next. Equal contents are one value, so that two connections are
//! mostly compared by their pointers.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

/// Settings by name in lower case, with their values as `SHOW` tells them.
pub(crate) type Values = BTreeMap<Box<str>, Box<str>>;

/// One state of a connection.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    values: Values,
    /// The part of it by which the server reads a statement's text and its literals.
    reading: Vec<u8>,
}

/// States are shared by all who have them.
pub(crate) type Shared = Arc<State>;

/// Set only while connecting (`pg_settings.context`); a pool of connections has them all alike.
pub(crate) const AT_START_ONLY: [&str; 8] = [
    "ignore_system_indexes",
    "jit_debugging_support",
    "jit_profiling_support",
    "local_preload_libraries",
    "log_connections",
    "log_disconnections",
    "post_auth_delay",
    "session_preload_libraries",
];

/// Who one is: to be given up before anything else is set, and taken on when all is set.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

/// What decides how the server reads names and literals when it parses a statement.
const READING: [&str; 12] = [
    "array_nulls",
    "backslash_quote",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "lc_monetary",
    "lc_numeric",
    "search_path",
    "standard_conforming_strings",
    "timezone",
    "transform_null_equals",
    "xmloption",
];

impl State {
    fn new(values: Values) -> Self {
        let mut reading = Vec::new();
        for (name, value) in values.iter().filter(|(name, _)| READING.contains(&&***name)) {
            for part in [name, value] {
                reading.extend_from_slice(part.as_bytes());
                reading.push(0);
            }
        }
        Self { values, reading }
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether nothing but the application's name, which decides nothing, distinguishes the two.
    pub(crate) fn differs_in_name_only(&self, other: &State) -> bool {
        self.rest().eq(other.rest())
    }

    /// All but the application's name.
    fn rest(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.values.iter().map(|(name, value)| (&**name, &**value));
        all.filter(|(name, _)| *name != "application_name")
    }

    /// Two connections with the same reading take the same text for the same statement.
    pub(crate) fn reading(&self) -> &[u8] {
        &self.reading
    }

    /// Whether transactions are READ COMMITTED if they do not say otherwise; `None` if the server decides.
    pub(crate) fn is_read_committed(&self) -> Option<bool> {
        let level = self.values.get("default_transaction_isolation")?;
        Some(["read committed", "read uncommitted"].contains(&&**level))
    }

    /// Whether transactions are read-only if they do not say otherwise.
    pub(crate) fn is_read_only(&self) -> bool {
        self.values.get("default_transaction_read_only").is_some_and(|value| &**value == "on")
    }

    /// Whether a standby would refuse every statement: it cannot be serializable.
    pub(crate) fn needs_primary(&self) -> bool {
        self.values.get("default_transaction_isolation").is_some_and(|level| &**level == "serializable")
    }

    /// The statement that brings a connection from `before` to this state.
    pub(crate) fn change_from(&self, before: &State) -> String {
        let own = |name: &str| IDENTITY.contains(&name);
        let mut calls: Vec<String> = Vec::new();
        let mut call = |name: &str, value: Option<&str>| {
            let value = value.map_or("NULL".to_owned(), literal);
            calls.push(format!("pg_catalog.set_config({}, {value}, false)", literal(name)));
        };
        IDENTITY.iter().filter(|name| before.values.contains_key(**name)).for_each(|name| call(name, None));
        let gone = before.values.keys().filter(|name| !own(name) && !self.values.contains_key(*name));
        gone.for_each(|name| call(name, None));
        let new = self.values.iter().filter(|(name, value)| !own(name) && before.values.get(*name) != Some(value));
        new.for_each(|(name, value)| call(name, Some(value)));
        for name in IDENTITY {
            self.values.get(name).into_iter().for_each(|value| call(name, Some(value)));
        }
        format!("SELECT {}", calls.join(", "))
    }
}

/// The statement that asks which of these settings a connection has as it began: their names in one array, as text.
pub(crate) fn question_of_defaults<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(literal).collect();
    format!(
        "SELECT pg_catalog.string_agg(pg_catalog.lower(name), ' ') FROM pg_catalog.pg_settings \
         WHERE source OPERATOR(pg_catalog.<>) 'session' \
         AND pg_catalog.lower(name) OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.text[])",
        names.join(", ")
    )
}

/// The statement that asks for the values of settings; NULL for one that does not exist.
pub(crate) fn question<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let asked: Vec<_> =
        names.into_iter().map(|name| format!("pg_catalog.current_setting({}, true)", literal(name))).collect();
    format!("SELECT {}", asked.join(", "))
}

/// A string constant, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// All states that somebody has.
#[derive(Debug, Default)]
pub(crate) struct States {
    known: Mutex<HashSet<Shared>>,
}

impl States {
    /// The state with these values.
    pub(crate) fn of(&self, values: Values) -> Shared {
        let state = State::new(values);
        let mut known = self.known.lock();
        if let Some(shared) = known.get(&state) {
            return Arc::clone(shared);
        }
        if known.len() == known.capacity() {
            known.retain(|shared| Arc::strong_count(shared) > 1);
        }
        let shared = Arc::new(state);
        known.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(values: &[(&str, &str)]) -> State {
        State::new(values.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn equal_states_are_one() {
        let states = States::default();
        let values = |zone: &str| Values::from([("timezone".into(), zone.into())]);
        assert!(Arc::ptr_eq(&states.of(values("UTC")), &states.of(values("UTC"))));
        assert!(!Arc::ptr_eq(&states.of(values("UTC")), &states.of(values("CET"))));
    }

    #[test]
    fn a_name_decides_nothing() {
        let one = state(&[("application_name", "a"), ("timezone", "UTC")]);
        assert!(one.differs_in_name_only(&state(&[("timezone", "UTC")])));
        assert!(!one.differs_in_name_only(&state(&[("application_name", "a")])));
    }

    #[test]
    fn a_change_names_what_differs_and_ends_as_the_new_role() {
        let before = state(&[("role", "ann"), ("timezone", "UTC"), ("work_mem", "1MB"), ("app.x", "1")]);
        let after = state(&[("role", "o'b\\ob"), ("timezone", "UTC"), ("work_mem", "2MB")]);
        let calls: Vec<String> =
            [("role", "NULL"), ("app.x", "NULL"), ("work_mem", "E'2MB'"), ("role", "E'o\\'b\\\\ob'")]
                .map(|(name, value)| format!("pg_catalog.set_config(E'{name}', {value}, false)"))
                .into();
        assert_eq!(after.change_from(&before), format!("SELECT {}", calls.join(", ")));
    }

    #[test]
    fn only_some_settings_change_how_a_text_is_read() {
        assert_eq!(state(&[("work_mem", "1MB")]).reading(), State::default().reading());
        assert_ne!(state(&[("search_path", "a")]).reading(), state(&[("search_path", "b")]).reading());
    }
}
