//! Wishes in comments, in the manner of sqlcommenter: `/* highwater.consistency='eventual',highwater.max_lag='2s' */`.
//!
//! Values are percent-encoded, quotes in them may be escaped with a backslash. Other keys in the same comment are left
//! alone. What a name means, this room does not know.

use memchr::memmem;

use crate::fold::comments;

const PREFIX: &str = "highwater.";

/// The wishes of a text, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints(Vec<(String, String)>);

impl Hints {
    /// Complete names (`highwater.consistency`) and values, decoded.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The wishes in the comments of `text`; one quick search when there are none. What looks like a wish inside a string
/// or a quoted name is none.
///
/// ```
/// let hints = highwater_sql::hints("SELECT 1 /* highwater.max_lag='2s' */").expect("one wish");
/// assert_eq!(hints.iter().collect::<Vec<_>>(), [("highwater.max_lag", "2s")]);
/// assert_eq!(highwater_sql::hints("SELECT '/* highwater.max_lag=''2s'' */'"), None);
/// ```
pub fn hints(text: &str) -> Option<Hints> {
    memmem::find(text.as_bytes(), PREFIX.as_bytes())?;
    let mut found = Vec::new();
    for comment in comments(text) {
        // Comments begin and end at ASCII bytes.
        let mut rest = text.get(comment)?;
        while let Some(start) = rest.find(PREFIX) {
            let (pair, after) = pair(&rest[start..]);
            found.extend(pair);
            rest = after;
        }
    }
    (!found.is_empty()).then_some(Hints(found))
}

/// The pair at the start of `text`, if it is one, and what follows.
fn pair(text: &str) -> (Option<(String, String)>, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(value) = rest.trim_start().strip_prefix('=') else { return (None, rest) };
    let value = value.trim_start();
    let (value, rest) = match value.strip_prefix('\'') {
        Some(quoted) => {
            let Some(end) = closing_quote(quoted) else { return (None, "") };
            (&quoted[..end], &quoted[end + 1..])
        }
        None => value.split_at(value.find([',', ' ', '\n', '\t', '*']).unwrap_or(value.len())),
    };
    (Some((name.to_owned(), decode(value))), rest)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'\'' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Percent-decoding; what is not an escape, or no UTF-8, stays as it is.
fn decode(value: &str) -> String {
    let bytes = value.replace("\\'", "'").into_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        if let (b'%', Some(high), Some(low)) = (bytes[at], hex(at + 1), hex(at + 2)) {
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: &[(&str, &str)]) {
        let found = hints(text).unwrap_or_default();
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{text}");
    }

    #[test]
    fn wishes_stand_in_comments_only() {
        check("SELECT 1", &[]);
        check("SELECT 'highwater.session=x' FROM \"/*highwater.report='on'*/\"", &[]);
        check("SELECT $$ -- highwater.report='on' $$", &[]);
        check("-- highwater.report=on\nSELECT 1", &[("highwater.report", "on")]);
        check(
            "/*a='b',highwater.consistency='event%75al', highwater.max_lag = '2s'*/ SELECT 1",
            &[("highwater.consistency", "eventual"), ("highwater.max_lag", "2s")],
        );
        check(
            "DECLARE c CURSOR FOR /*highwater.session='o\\'b%27c'*/ SELECT 1; /* highwater.token='x' */ SELECT 2",
            &[("highwater.session", "o'b'c"), ("highwater.token", "x")],
        );
    }

    #[test]
    fn broken_wishes_are_none() {
        check("/* highwater.session='x */ SELECT 1", &[]);
        check("/* highwater.session */ SELECT 1", &[]);
        check("SELECT 1 /* highwater.session='x'", &[]);
        check("/* highwater.session='%ff%zz' */ SELECT 1", &[("highwater.session", "%ff%zz")]);
    }
}
