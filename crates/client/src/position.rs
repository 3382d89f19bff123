//! How far somebody has seen and written, as text that travels. It must not know where the text travels, nor what a token
//! means.
//!
//! Tokens are opaque: two of them cannot be compared. So a position holds every token that no other one is known to
//! include; that is one, unless several connections were used at once. docs/carrying.md is the specification.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// More connections at once than a request has; a bound for what strangers send.
const TOKENS_MAX: usize = 16;
/// In bytes; Highwater's own are shorter.
const TOKEN_LENGTH_MAX: usize = 256;
/// In the place of a token: something was seen or written, and nobody knows how far that was.
const LOST: &str = ".";
/// RFC 3986's unreserved characters stay as they are, so that `:` and `+` stand between places and tokens alone.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~');

/// How far somebody has seen and written at each place, a place being one log: a Highwater and the cluster behind it.
///
/// ```
/// use highwater_client::Position;
///
/// let mut position = Position::read("default:AbsD5u");
/// position.advance("default", "AbsD7x", position.tokens("default"));
/// assert_eq!(position.to_string(), "default:AbsD7x");
/// position.lose("default");
/// assert_eq!(position.to_string(), "default:.");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    places: BTreeMap<String, Reach>,
}

/// How far that is at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    Tokens(BTreeSet<String>),
    Lost,
}

impl Position {
    /// Reads the text that `to_string` makes. What cannot be read says nothing, as the empty text does.
    pub fn read(text: &str) -> Self {
        let mut position = Self::default();
        let pieces: Vec<&str> = text.split('+').collect();
        if text.is_empty() || pieces.len() > TOKENS_MAX {
            return position;
        }
        for piece in pieces {
            let Some((place, token)) = piece.rsplit_once(':').filter(|(place, _)| !place.is_empty()) else {
                return Self::default();
            };
            let place = percent_decode_str(place).decode_utf8_lossy();
            match token {
                LOST => position.lose(&place),
                token if is_token(token) => position.add(&place, [token.to_owned()].into()),
                _ => return Self::default(),
            }
        }
        position
    }

    /// Whether nothing is known to have been seen or written, at any place.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether it says something of this place.
    pub fn knows(&self, place: &str) -> bool {
        self.places.contains_key(place)
    }

    /// Whether something was seen or written at this place, and nobody knows how far that was.
    pub fn is_lost(&self, place: &str) -> bool {
        self.places.get(place) == Some(&Reach::Lost)
    }

    /// How far reads at this place must see: as far as each of these says.
    pub fn tokens(&self, place: &str) -> BTreeSet<String> {
        match self.places.get(place) {
            Some(Reach::Tokens(tokens)) => tokens.clone(),
            Some(Reach::Lost) | None => BTreeSet::new(),
        }
    }

    /// A connection that had been told `included` has come to `token`. What Highwater would not write as a token tells
    /// nobody how far that is: the place is lost.
    pub fn advance(&mut self, place: &str, token: &str, included: BTreeSet<String>) {
        if !is_token(token) {
            return self.lose(place);
        }
        if let Some(Reach::Tokens(tokens)) = self.places.get_mut(place) {
            tokens.retain(|old| !included.contains(old));
        }
        self.add(place, [token.to_owned()].into());
    }

    /// Nobody knows any more how far this place has been seen. Nothing makes up for that.
    pub fn lose(&mut self, place: &str) {
        self.places.insert(place.to_owned(), Reach::Lost);
    }

    /// Takes in what another one has seen.
    pub fn join(&mut self, other: &Self) {
        for (place, reach) in &other.places {
            match reach {
                Reach::Lost => self.lose(place),
                Reach::Tokens(tokens) => self.add(place, tokens.clone()),
            }
        }
    }

    fn add(&mut self, place: &str, new: BTreeSet<String>) {
        match self.places.entry(place.to_owned()).or_insert_with(|| Reach::Tokens(BTreeSet::new())) {
            Reach::Tokens(tokens) => tokens.extend(new),
            Reach::Lost => {}
        }
    }

    /// How many pieces its text has.
    fn size(&self) -> usize {
        let size = |reach: &Reach| match reach {
            Reach::Tokens(tokens) => tokens.len(),
            Reach::Lost => 1,
        };
        self.places.values().map(size).sum()
    }
}

/// The text that [`Position::read`] takes. Where there are more tokens than a text may hold, it says that all is lost: a part of a
/// position would show its bearer the past.
impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_too_long = self.size() > TOKENS_MAX;
        let mut between = "";
        for (place, reach) in &self.places {
            let tokens: Vec<&str> = match reach {
                Reach::Tokens(tokens) if !is_too_long => tokens.iter().map(String::as_str).collect(),
                _ => vec![LOST],
            };
            for token in tokens {
                write!(out, "{between}{}:{token}", utf8_percent_encode(place, QUOTED))?;
                between = "+";
            }
        }
        Ok(())
    }
}

/// As Highwater writes them (base64url), so that one can be quoted in SQL and lies in no cookie's way.
fn is_token(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=TOKEN_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_includes_what_it_was_told_and_nothing_else() {
        let mut position = Position::read("default:a+default:b+other:c");
        position.advance("default", "d", ["a".to_owned()].into());
        assert_eq!(position.to_string(), "default:b+default:d+other:c");
    }

    #[test]
    fn what_is_lost_stays_lost() {
        let mut position = Position::read("default:a");
        position.advance("default", "it's", BTreeSet::new());
        position.advance("default", "b", BTreeSet::new());
        position.join(&Position::read("default:c"));
        assert!(position.is_lost("default"));
        assert!(position.tokens("default").is_empty());
    }

    #[test]
    fn more_than_a_text_may_hold_is_lost_and_not_left_out() {
        let many = |name: &str| (0..9).map(|n| format!("default:{name}{n}")).collect::<Vec<_>>().join("+");
        let mut joined = Position::read(&many("a"));
        joined.join(&Position::read(&many("b")));
        assert_eq!(joined.to_string(), "default:.");
        let mut advanced = Position::default();
        (0..=TOKENS_MAX).for_each(|n| advanced.advance("default", &n.to_string(), BTreeSet::new()));
        assert_eq!(advanced.to_string(), "default:.");
    }
}
