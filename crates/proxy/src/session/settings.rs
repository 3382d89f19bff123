//! The `highwater.*` settings of one client, with PostgreSQL's transaction rules: SET is undone by ROLLBACK, SET LOCAL
//! ends with the transaction. A raise by token is an event and not a setting: nothing undoes it.

use std::fmt;
use std::time::Duration;

use highwater_core::{Level, Micros};
use highwater_sql::TransactionControl;

use crate::clock::micros;
use crate::config::TransactionReads;
use crate::text;

/// What a client has asked for; `None` is "not said".
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) level: Option<Level>,
    pub(crate) max_lag: Option<Micros>,
    pub(crate) wait_budget: Option<Micros>,
    pub(crate) report: Option<Report>,
    pub(crate) transaction_reads: Option<TransactionReads>,
    pub(crate) standbys: Option<Standbys>,
    pub(crate) standbys_timeout: Option<Micros>,
    /// The session key; `Some("")` is a fresh anonymous session.
    pub(crate) session: Option<String>,
}

/// What is pushed behind each answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Report {
    #[default]
    Off,
    /// The route, and the token if it is known without waiting for a probe; else an empty text. SHOW waits.
    Known,
    /// The same, with what the server had to show, what it showed, and how often the statement has run again.
    Detailed,
    /// The route and the token.
    On,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Known => "known",
            Self::Detailed => "detailed",
            Self::On => "on",
        })
    }
}

/// How many standbys are to show a commit before the client goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standbys {
    Count(u8),
    All,
}

impl Default for Standbys {
    fn default() -> Self {
        Self::Count(0)
    }
}

impl fmt::Display for Standbys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

/// The names behind `highwater.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Session,
    Token,
    Consistency,
    MaxLag,
    WaitBudget,
    Report,
    TransactionReads,
    WaitForStandbys,
    StandbysTimeout,
    /// Where the last statement ran and why; can only be read.
    LastRoute,
    /// Highwater's own; can only be read.
    Version,
}

impl Name {
    /// Whether a setting of this name, with its prefix, is the proxy's.
    pub(crate) fn is_own(name: &str) -> bool {
        name.get(..10).is_some_and(|prefix| prefix.eq_ignore_ascii_case("highwater."))
    }

    /// Whether it may be said in a comment, for one statement.
    pub(crate) fn is_for_statements(self) -> bool {
        use Name::{Consistency, MaxLag, StandbysTimeout, WaitBudget, WaitForStandbys};
        matches!(self, Consistency | MaxLag | WaitBudget | WaitForStandbys | StandbysTimeout)
    }

    /// Takes the name with or without its prefix.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Some(match name.strip_prefix("highwater.").unwrap_or(&name) {
            "session" => Self::Session,
            "token" => Self::Token,
            "consistency" => Self::Consistency,
            "max_lag" => Self::MaxLag,
            "wait_budget" => Self::WaitBudget,
            "report" => Self::Report,
            "transaction_reads" => Self::TransactionReads,
            "wait_for_standbys" => Self::WaitForStandbys,
            "standbys_timeout" => Self::StandbysTimeout,
            "last_route" => Self::LastRoute,
            "version" => Self::Version,
            _ => return None,
        })
    }
}

/// A value that its setting cannot take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) wanted: &'static str,
}

impl Wishes {
    /// Sets `name` to `value`, or back to "not said". Tokens and read-only names are not settings.
    pub(crate) fn set(&mut self, name: Name, value: Option<&str>) -> Result<(), Invalid> {
        match name {
            Name::Session => self.session = value.map(str::to_owned),
            Name::Consistency => {
                self.level = wanted(value, text::level, "strong, session, bounded, eventual or primary")?
            }
            Name::MaxLag => self.max_lag = wanted(value, span, "a duration such as 2s")?,
            Name::WaitBudget => self.wait_budget = wanted(value, span, "a duration such as 10ms")?,
            Name::Report => self.report = wanted(value, report, "on, known, detailed or off")?,
            Name::TransactionReads => self.transaction_reads = wanted(value, place_of_reads, "primary or standby")?,
            Name::WaitForStandbys => self.standbys = wanted(value, standbys, "a number of standbys, or all")?,
            Name::StandbysTimeout => self.standbys_timeout = wanted(value, span, "a duration such as 1s")?,
            Name::Token | Name::LastRoute | Name::Version => {}
        }
        Ok(())
    }

    /// Sets `name` back to what it was.
    fn reset(&mut self, name: Name, initial: &Self) {
        match name {
            Name::Session => self.session.clone_from(&initial.session),
            Name::Consistency => self.level = initial.level,
            Name::MaxLag => self.max_lag = initial.max_lag,
            Name::WaitBudget => self.wait_budget = initial.wait_budget,
            Name::Report => self.report = initial.report,
            Name::TransactionReads => self.transaction_reads = initial.transaction_reads,
            Name::WaitForStandbys => self.standbys = initial.standbys,
            Name::StandbysTimeout => self.standbys_timeout = initial.standbys_timeout,
            Name::Token | Name::LastRoute | Name::Version => {}
        }
    }
}

fn wanted<T>(
    value: Option<&str>,
    read: impl Fn(&str) -> Option<T>,
    wanted: &'static str,
) -> Result<Option<T>, Invalid> {
    value.map(|text| read(text).ok_or(Invalid { wanted })).transpose()
}

fn span(text: &str) -> Option<Micros> {
    text::duration(text).map(micros)
}

fn place_of_reads(text: &str) -> Option<TransactionReads> {
    match text.to_ascii_lowercase().as_str() {
        "primary" => Some(TransactionReads::Primary),
        "standby" => Some(TransactionReads::Standby),
        _ => None,
    }
}

fn standbys(text: &str) -> Option<Standbys> {
    match text.to_ascii_lowercase().as_str() {
        "all" => Some(Standbys::All),
        "off" => Some(Standbys::default()),
        count => count.parse().ok().map(Standbys::Count),
    }
}

fn report(text: &str) -> Option<Report> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(Report::On),
        "known" => Some(Report::Known),
        "detailed" => Some(Report::Detailed),
        "off" | "false" | "no" | "0" => Some(Report::Off),
        _ => None,
    }
}

/// The settings of a client over its transactions.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// What the start-up packet said, to which RESET goes back.
    initial: Wishes,
    base: Wishes,
    /// What holds in this transaction, if SET LOCAL has made it differ.
    local: Option<Wishes>,
    /// The base when the transaction began.
    before: Option<Wishes>,
    /// What both were when a savepoint was set, oldest first.
    savepoints: Vec<(Box<str>, Wishes, Option<Wishes>)>,
}

impl Settings {
    /// Whether the client has asked for nothing.
    pub(crate) fn is_default(&self) -> bool {
        let nothing = Wishes::default();
        self.base == nothing && self.initial == nothing && self.local.is_none() && self.before.is_none()
    }

    /// What holds now.
    pub(crate) fn now(&self) -> &Wishes {
        self.local.as_ref().unwrap_or(&self.base)
    }

    /// SET, SET LOCAL or RESET. Outside a transaction SET LOCAL has no effect, as in PostgreSQL.
    pub(crate) fn set(&mut self, name: Name, value: Option<&str>, local: bool) -> Result<(), Invalid> {
        let mut wishes = if local { self.now().clone() } else { self.base.clone() };
        let set = |wishes: &mut Wishes| match value {
            Some(_) => wishes.set(name, value),
            None => {
                wishes.reset(name, &self.initial);
                Ok(())
            }
        };
        set(&mut wishes)?;
        if local {
            self.local = self.before.is_some().then_some(wishes);
        } else {
            self.base = wishes;
            if let Some(local) = &mut self.local {
                set(local)?;
            }
        }
        Ok(())
    }

    /// RESET ALL, or what includes it.
    pub(crate) fn reset_all(&mut self) {
        (self.base, self.local) = (self.initial.clone(), None);
    }

    /// The start-up packet has been carried out.
    pub(crate) fn on_login(&mut self) {
        self.initial = self.base.clone();
    }

    /// A transaction began.
    pub(crate) fn on_begin(&mut self) {
        if self.before.is_none() {
            self.before = Some(self.base.clone());
        }
    }

    /// The transaction ended.
    pub(crate) fn on_end(&mut self, committed: bool) {
        let Some(before) = self.before.take() else { return };
        if !committed {
            self.base = before;
        }
        self.local = None;
        self.savepoints.clear();
    }

    /// A savepoint was set, released or gone back to.
    pub(crate) fn on_savepoint(&mut self, control: &TransactionControl) {
        let place = |name: &str| self.savepoints.iter().rposition(|(own, ..)| **own == *name);
        match control {
            TransactionControl::Savepoint(name) => {
                self.savepoints.push((name.clone(), self.base.clone(), self.local.clone()));
            }
            TransactionControl::Release(name) => {
                let place = place(name).unwrap_or(self.savepoints.len());
                self.savepoints.truncate(place);
            }
            TransactionControl::RollbackTo(name) => {
                let Some(place) = place(name) else { return };
                self.savepoints.truncate(place + 1);
                let (_, base, local) = &self.savepoints[place];
                (self.base, self.local) = (base.clone(), local.clone());
            }
            _ => {}
        }
    }
}

/// How long a duration is for a person.
pub(crate) fn show_span(span: Micros) -> String {
    text::show_duration(Duration::from_micros(span.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(settings: &Settings) -> Option<Level> {
        settings.now().level
    }

    #[test]
    fn transaction_rules_are_those_of_postgresql() {
        let mut settings = Settings::default();
        settings.set(Name::Consistency, Some("eventual"), true).expect("valid");
        assert_eq!(level(&settings), None, "SET LOCAL outside a transaction has no effect");
        settings.set(Name::Consistency, Some("session"), false).expect("valid");
        settings.on_begin();
        settings.set(Name::Consistency, Some("eventual"), true).expect("valid");
        assert_eq!(level(&settings), Some(Level::Eventual));
        settings.on_end(true);
        assert_eq!(level(&settings), Some(Level::Session), "SET LOCAL ends with the transaction");
        settings.on_begin();
        settings.set(Name::Consistency, None, true).expect("valid");
        assert_eq!(level(&settings), None, "SET LOCAL TO DEFAULT does not go back to what SET has said");
        settings.set(Name::Consistency, Some("primary"), false).expect("valid");
        settings.on_end(false);
        assert_eq!(level(&settings), Some(Level::Session), "ROLLBACK undoes SET");
    }

    #[test]
    fn savepoints_are_gone_back_to() {
        let mut settings = Settings::default();
        let set = |settings: &mut Settings, level, local| settings.set(Name::Consistency, Some(level), local);
        let savepoint = |name: &str| TransactionControl::Savepoint(name.into());
        let back = |name: &str| TransactionControl::RollbackTo(name.into());
        settings.on_begin();
        set(&mut settings, "session", false).expect("valid");
        settings.on_savepoint(&savepoint("a"));
        set(&mut settings, "eventual", true).expect("valid");
        settings.on_savepoint(&savepoint("b"));
        set(&mut settings, "primary", false).expect("valid");
        settings.on_savepoint(&back("b"));
        assert_eq!(level(&settings), Some(Level::Eventual));
        settings.on_savepoint(&back("a"));
        assert_eq!(level(&settings), Some(Level::Session));
        settings.on_savepoint(&back("b"));
        assert_eq!(level(&settings), Some(Level::Session), "b is gone with what came after a");
        settings.on_savepoint(&TransactionControl::Release("a".into()));
        settings.on_end(true);
        assert_eq!(level(&settings), Some(Level::Session));
    }

    #[test]
    fn reset_goes_back_to_the_start_up_packet() {
        let mut settings = Settings::default();
        settings.set(Name::Consistency, Some("session"), false).expect("valid");
        settings.on_login();
        for value in [Some("eventual"), None] {
            settings.set(Name::Consistency, value, false).expect("valid");
        }
        assert_eq!(level(&settings), Some(Level::Session));
        assert!(!settings.is_default());
        settings.on_begin();
        for local in [false, true] {
            settings.set(Name::Consistency, Some("eventual"), local).expect("valid");
        }
        settings.reset_all();
        assert_eq!(level(&settings), Some(Level::Session), "RESET ALL knows no difference");
        settings.on_end(true);
        settings.set(Name::Consistency, Some("primary"), false).expect("valid");
        settings.on_begin();
        settings.reset_all();
        settings.on_end(false);
        assert_eq!(level(&settings), Some(Level::Primary), "ROLLBACK undoes it");
    }

    #[test]
    fn a_bad_value_changes_nothing() {
        let mut settings = Settings::default();
        assert!(settings.set(Name::MaxLag, Some("soon"), false).is_err());
        assert_eq!(settings.now(), &Wishes::default());
    }
}
