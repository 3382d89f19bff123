//! Settings of ours that a driver sends along in front of a statement: `SET highwater.session = 'ann'; SELECT 1`.
//!
//! Their values are new with every request, so that the whole text would be parsed each time. Those that are written
//! plainly are taken off here, and the statement behind them is known; all others are left to the grammar.

/// The settings that a text begins with, as names (`highwater.session`) and values; no value is `TO DEFAULT`.
///
/// Only what PostgreSQL reads in no other way, whatever its settings, is taken: lower-case names, single spaces, a
/// string of printable ASCII without quotes and backslashes, and a semicolon behind it.
///
/// ```
/// let mut settings = highwater_sql::leading_settings("SET highwater.session = 'ann'; SELECT 1");
/// assert_eq!(settings.next(), Some(("highwater.session", Some("ann"))));
/// assert_eq!(settings.next(), None);
/// assert_eq!(settings.rest(), 31);
/// ```
pub fn leading_settings(text: &str) -> LeadingSettings<'_> {
    LeadingSettings { text, rest: 0 }
}

/// What [`leading_settings`] returns.
#[derive(Clone, Debug)]
pub struct LeadingSettings<'a> {
    text: &'a str,
    rest: usize,
}

impl LeadingSettings<'_> {
    /// Where in the text begins what has not been taken.
    pub fn rest(&self) -> usize {
        self.rest
    }
}

impl<'a> Iterator for LeadingSettings<'a> {
    type Item = (&'a str, Option<&'a str>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value, rest) = setting(&self.text[self.rest..])?;
        self.rest = self.text.len() - rest.len();
        Some((name, value))
    }
}

/// The setting at the start of `text`, and what is behind it.
fn setting(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let named = text.strip_prefix("SET ")?;
    let word = named.strip_prefix("highwater.")?;
    let rest = word.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '_');
    let name = &named[..named.len() - rest.len()];
    let (value, rest) = match rest.strip_prefix(" = '") {
        Some(quoted) => {
            let end = quoted.find(|c| matches!(c, '\'' | '\\') || !matches!(c, ' '..='~'))?;
            (Some(&quoted[..end]), quoted[end..].strip_prefix("';")?)
        }
        None => (None, rest.strip_prefix(" TO DEFAULT;")?),
    };
    Some((name, value, rest.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: &[(&str, Option<&str>)], rest: &str) {
        let mut settings = leading_settings(text);
        assert_eq!(settings.by_ref().collect::<Vec<_>>(), wanted, "{text}");
        assert_eq!(&text[settings.rest()..], rest);
    }

    #[test]
    fn plain_ones_are_taken() {
        let wanted =
            [("highwater.session", Some("")), ("highwater.max_lag", None), ("highwater.token", Some("a b-_="))];
        let text = "SET highwater.session = ''; SET highwater.max_lag TO DEFAULT;SET highwater.token = 'a b-_=';  ";
        check(&format!("{text}SELECT 'ü'"), &wanted, "SELECT 'ü'");
    }

    #[test]
    fn others_are_left_to_the_grammar() {
        for text in [
            "SELECT 1",
            "set highwater.session = 'x'; SELECT 1",
            "SET LOCAL highwater.session = 'x'; SELECT 1",
            "SET highwater.session = 'x'",
            "SET highwater.session = 'x' ; SELECT 1",
            "SET highwater.session = 'x'\n'y'; SELECT 1",
            "SET highwater.session = 'it''s'; SELECT 1",
            "SET highwater.session = 'a\\'; SELECT 1 --';",
            "SET highwater.session = 'ü'; SELECT 1",
            "SET highwater.session = E'x'; SELECT 1",
            "SET highwater.session = x; SELECT 1",
            "SET highwater.Session = 'x'; SELECT 1",
            "SET highwater.session = 'x",
        ] {
            check(text, &[], text);
        }
        check(
            "SET highwater.session = 'x'; SET work_mem = '1MB';",
            &[("highwater.session", Some("x"))],
            "SET work_mem = '1MB';",
        );
    }
}
