//! A session's watermarks as text that can travel in a cookie or a URL. Knows nothing of sessions beyond their two
//! positions. The text is untrusted: the check digits find damage, not malice, and [`Cluster::on_token`] bounds what a
//! forged one can ask for.
//!
//! ```text
//! byte  0       version, 2
//!       1..9    system identifier
//!       9..13   timeline
//!      13..17   which timeline of that number: digits of its origin
//!      17..25   watermark
//!      25..33   part of it seen on standbys, 0 for none
//!      33..41   time of issue, seconds since the Unix epoch
//!      41..45   check digits: FNV-1a, 32 bits, over what stands before
//! ```
//!
//! All big-endian, then base64url without padding: 60 characters.

use crate::history::fnv_1a;
use crate::{Branch, Cluster, Lsn, Seq, Session, Timeline, Watermark};
use std::fmt;

const VERSION: u8 = 2;
const BODY: usize = 41;
const LENGTH: usize = BODY + 4;
/// 45 bytes are 360 bits: characters of six bits.
const TEXT_LENGTH: usize = 60;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How far a session must see, for another process or another connection.
///
/// ```
/// use highwater_core::{Branch, Lsn, Token};
/// let token = Token { system_id: 7, branch: Branch::FIRST, lsn: Lsn(900), replica_lsn: None, issued: 1_700_000_000 };
/// assert_eq!(Token::decode(&token.encode()), Ok(token));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The cluster's system identifier.
    pub system_id: u64,
    /// The branch of both positions.
    pub branch: Branch,
    /// Covers everything the session wrote and saw.
    pub lsn: Lsn,
    /// The part seen on standbys and not known to be visible on the primary; never beyond `lsn`.
    pub replica_lsn: Option<Lsn>,
    /// When it was issued, seconds since the Unix epoch.
    pub issued: u64,
}

/// What is wrong with a token's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOffence {
    /// Not as long as a token.
    Length,
    /// A character outside the alphabet.
    Alphabet,
    /// The check digits do not fit.
    CheckDigits,
    /// A version this process does not know.
    Version(u8),
    /// The replica part lies beyond the whole.
    Order,
}

/// What to do with a token that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// Take it over: [`Token::session`], absorbed into the session it came for.
    Accept,
    /// Beyond what is known: ask again once the primary has answered a probe sent after the token arrived.
    NeedsPrimaryProbe,
    /// Of another cluster; changes nothing.
    Foreign,
    /// Of a newer timeline than any server of this cluster is on; changes nothing.
    UnknownTimeline,
    /// Beyond what the primary has written: forged, or of a restored copy; changes nothing.
    AheadOfPrimary,
}

impl Token {
    /// The token as text: letters, digits, `-` and `_`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.system_id.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.branch.timeline.0.to_be_bytes());
        bytes[13..17].copy_from_slice(&self.branch.origin.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.lsn.0.to_be_bytes());
        bytes[25..33].copy_from_slice(&self.replica_lsn.unwrap_or_default().0.to_be_bytes());
        bytes[33..41].copy_from_slice(&self.issued.to_be_bytes());
        let check = check_digits(&bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&check.to_be_bytes());
        to_text(&bytes)
    }

    /// Reads a token back.
    ///
    /// # Errors
    /// A [`TokenOffence`] for every text that [`Token::encode`] does not make.
    pub fn decode(text: &str) -> Result<Token, TokenOffence> {
        let bytes = from_text(text)?;
        if u32::from_be_bytes(part(&bytes, BODY)) != check_digits(&bytes[..BODY]) {
            return Err(TokenOffence::CheckDigits);
        }
        if bytes[0] != VERSION {
            return Err(TokenOffence::Version(bytes[0]));
        }
        let lsn = Lsn(u64::from_be_bytes(part(&bytes, 17)));
        let replica = Lsn(u64::from_be_bytes(part(&bytes, 25)));
        if replica > lsn {
            return Err(TokenOffence::Order);
        }
        Ok(Token {
            system_id: u64::from_be_bytes(part(&bytes, 1)),
            branch: Branch {
                timeline: Timeline(u32::from_be_bytes(part(&bytes, 9))),
                origin: u32::from_be_bytes(part(&bytes, 13)),
            },
            lsn,
            replica_lsn: Some(replica).filter(|replica| *replica != Lsn(0)),
            issued: u64::from_be_bytes(part(&bytes, 33)),
        })
    }

    /// A session that knows what the token carries, to be absorbed by the one it came for.
    #[must_use]
    pub fn session(&self) -> Session {
        let at = |lsn| Watermark { branch: self.branch, lsn };
        Session::from_watermarks(at(self.lsn), self.replica_lsn.map(at))
    }
}

impl Session {
    /// The session's position for another process; `issued` in seconds since the Unix epoch. `None` while something is
    /// still to be measured or a loss to be told, because a token without it would forget it, and for a session that asks
    /// for nothing.
    #[must_use]
    pub fn token(&self, cluster: &Cluster, issued: u64) -> Option<Token> {
        let watermark = self.watermark().filter(|_| self.is_resolved())?;
        Some(Token {
            system_id: cluster.system_id()?,
            branch: watermark.branch,
            lsn: watermark.lsn,
            replica_lsn: self.replica_watermark().map(|replica| replica.lsn.min(watermark.lsn)),
            issued,
        })
    }
}

impl Cluster {
    /// Whether to believe a token that arrived at `arrived`. Only an answer of the primary to a later probe shows that a
    /// position beyond the known ones does not exist; nobody ever waits for such a position.
    #[must_use]
    pub fn on_token(&self, token: &Token, arrived: Seq) -> TokenVerdict {
        let (Some(system_id), Some(branch)) = (self.system_id(), self.branch()) else {
            return TokenVerdict::NeedsPrimaryProbe;
        };
        if token.system_id != system_id {
            return TokenVerdict::Foreign;
        }
        // What lies beyond the point where its branch was left is told as lost, and asks for no more than a probe.
        if token.branch != branch && (self.knows(token.branch) || token.branch.timeline <= branch.timeline) {
            return TokenVerdict::Accept;
        }
        if token.branch == branch && self.known_head().is_some_and(|head| token.lsn <= head) {
            return TokenVerdict::Accept;
        }
        match self.bound_after(arrived) {
            Some(_) if token.branch == branch => TokenVerdict::AheadOfPrimary,
            Some(_) => TokenVerdict::UnknownTimeline,
            None => TokenVerdict::NeedsPrimaryProbe,
        }
    }
}

impl fmt::Display for TokenOffence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenOffence::Length => write!(f, "token is not {TEXT_LENGTH} characters long"),
            TokenOffence::Alphabet => f.write_str("token contains a character that no token contains"),
            TokenOffence::CheckDigits => f.write_str("token is damaged"),
            TokenOffence::Version(version) => write!(f, "token has unknown version {version}"),
            TokenOffence::Order => f.write_str("token contradicts itself"),
        }
    }
}

impl std::error::Error for TokenOffence {}

fn part<const N: usize>(bytes: &[u8; LENGTH], start: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[start + i])
}

fn check_digits(bytes: &[u8]) -> u32 {
    fnv_1a(bytes.iter().copied())
}

fn to_text(bytes: &[u8; LENGTH]) -> String {
    let mut text = String::with_capacity(TEXT_LENGTH);
    for three in bytes.chunks_exact(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

fn from_text(text: &str) -> Result<[u8; LENGTH], TokenOffence> {
    if text.len() != TEXT_LENGTH {
        return Err(TokenOffence::Length);
    }
    let mut bytes = [0; LENGTH];
    let (mut bits, mut held, mut filled) = (0u32, 0, 0);
    for character in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == character).ok_or(TokenOffence::Alphabet)?;
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes[filled] = (bits >> held) as u8;
            filled += 1;
            bits &= (1 << held) - 1;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            system_id: 7_300_000_000_000_000_001,
            branch: Branch { timeline: Timeline(3), origin: 77 },
            lsn: Lsn(0x16_B374_D848),
            replica_lsn: Some(Lsn(0x16_B374_0000)),
            issued: 1_795_000_000,
        }
    }

    #[test]
    fn text_round_trips() {
        let extreme = Token {
            system_id: u64::MAX,
            branch: Branch { timeline: Timeline(u32::MAX), origin: u32::MAX },
            lsn: Lsn(u64::MAX),
            replica_lsn: Some(Lsn(u64::MAX)),
            issued: u64::MAX,
        };
        for token in [token(), Token { replica_lsn: None, ..token() }, extreme] {
            let text = token.encode();
            assert_eq!(text.len(), TEXT_LENGTH);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            assert_eq!(Token::decode(&text), Ok(token));
        }
    }

    #[test]
    fn every_single_changed_character_is_found() {
        let text = token().encode();
        for place in 0..text.len() {
            for other in b"AZaz09-_ \x00" {
                let mut bytes = text.clone().into_bytes();
                if bytes[place] != *other {
                    bytes[place] = *other;
                    assert!(Token::decode(&String::from_utf8(bytes).unwrap()).is_err(), "{place} {other}");
                }
            }
        }
    }

    #[test]
    fn other_text_is_refused_without_a_panic() {
        for text in ["", "hw", &"A".repeat(59), &"A".repeat(61), &"é".repeat(29), &"€".repeat(19)] {
            assert_eq!(Token::decode(text), Err(TokenOffence::Length), "{text}");
        }
        assert_eq!(Token::decode(&format!("{}=", "A".repeat(59))), Err(TokenOffence::Alphabet));
        assert_eq!(Token::decode(&"A".repeat(60)), Err(TokenOffence::CheckDigits));
    }

    #[test]
    fn version_and_order_are_checked_behind_the_digits() {
        let altered = |change: fn(&mut [u8; LENGTH])| {
            let mut bytes = from_text(&token().encode()).unwrap();
            change(&mut bytes);
            let check = check_digits(&bytes[..BODY]);
            bytes[BODY..].copy_from_slice(&check.to_be_bytes());
            Token::decode(&to_text(&bytes))
        };
        assert_eq!(altered(|bytes| bytes[0] = 9), Err(TokenOffence::Version(9)));
        assert_eq!(altered(|bytes| bytes[25] = 0xFF), Err(TokenOffence::Order));
    }
}
