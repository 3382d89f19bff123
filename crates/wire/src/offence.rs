//! What a peer did that the protocol does not allow. Facts only: no strings, nothing about who is told.

use std::fmt;

/// Bytes that no correct peer sends. The connection they came on cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A length word smaller than itself (4).
    LengthTooSmall {
        /// The message's type byte.
        tag: u8,
        /// The length it claimed, in bytes.
        length: u32,
    },
    /// A length word above what a message of this type may have.
    LengthTooLarge {
        /// The message's type byte.
        tag: u8,
        /// The length it claimed, in bytes.
        length: u32,
        /// The limit it broke, in bytes.
        limit: u32,
    },
    /// A frontend message type that does not exist.
    UnknownTag {
        /// The type byte.
        tag: u8,
    },
    /// A body that does not have the layout of its message type.
    Malformed {
        /// The message's type byte.
        tag: u8,
    },
    /// A message, or a reply, that nothing outstanding calls for.
    Unexpected {
        /// The message's type byte.
        tag: u8,
    },
    /// A request sent while the server reads COPY data: which of the two the server answers cannot be known.
    RequestDuringCopy {
        /// The request's type byte.
        tag: u8,
    },
    /// More requests in flight than [`OUTSTANDING_LIMIT`](crate::tracker::OUTSTANDING_LIMIT).
    TooManyOutstanding,
    /// A first packet that is shorter than its fixed part or longer than 10,000 bytes.
    StartupLength {
        /// The length it claimed, in bytes.
        length: u32,
    },
    /// A start-up packet of a protocol other than 3.x.
    ProtocolVersion {
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// A start-up packet whose parameter list is not a list of terminated pairs.
    StartupLayout,
    /// A start-up parameter that is not UTF-8.
    StartupText,
    /// A switch in the `options` parameter that is no setting.
    StartupOption,
    /// A cancel request whose key is not 4 to 256 bytes long.
    CancelKey,
    /// Bytes behind an encryption request, sent before the handshake: perhaps injected.
    PlaintextAfterEncryptionRequest,
    /// A TLS handshake instead of a first packet.
    TlsHello,
    /// TLS from the first byte by a client that does not say (by ALPN) that it means to speak this protocol.
    TlsWithoutProtocol,
    /// HTTP instead of a first packet.
    Http,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Offence::*;
        match *self {
            LengthTooSmall { tag, length } => write!(f, "message {} has an impossible length of {length}", Tag(tag)),
            LengthTooLarge { tag, length, limit } => {
                write!(f, "message {} of {length} bytes is above the limit of {limit}", Tag(tag))
            }
            UnknownTag { tag } => write!(f, "unknown message type {}", Tag(tag)),
            Malformed { tag } => write!(f, "message {} has an invalid layout", Tag(tag)),
            Unexpected { tag } => write!(f, "message {} is out of place", Tag(tag)),
            RequestDuringCopy { tag } => write!(f, "message {} was sent while COPY reads data", Tag(tag)),
            TooManyOutstanding => f.write_str("too many requests without a reply"),
            StartupLength { length } => write!(f, "invalid length of startup packet: {length}"),
            ProtocolVersion { major, minor } => {
                write!(f, "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")
            }
            StartupLayout => f.write_str("invalid startup packet layout: expected terminator as last byte"),
            StartupText => f.write_str("startup parameter is not valid UTF-8"),
            StartupOption => f.write_str("unsupported switch in startup parameter \"options\""),
            CancelKey => f.write_str("invalid length of cancel key"),
            PlaintextAfterEncryptionRequest => f.write_str("received unencrypted data after an encryption request"),
            TlsHello => f.write_str("TLS handshake without a preceding SSLRequest"),
            TlsWithoutProtocol => f.write_str("direct TLS connection without ALPN protocol negotiation"),
            Http => f.write_str("HTTP request on a PostgreSQL port"),
        }
    }
}

impl std::error::Error for Offence {}

/// Shows a type byte as PostgreSQL's documentation names it, or in hex where it is no letter or digit.
struct Tag(u8);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_alphanumeric() { write!(f, "'{}'", self.0 as char) } else { write!(f, "0x{:02x}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::Offence;

    #[test]
    fn tags_are_shown_as_letters_or_hex() {
        assert_eq!(Offence::Malformed { tag: b'Q' }.to_string(), "message 'Q' has an invalid layout");
        assert_eq!(Offence::UnknownTag { tag: 0x16 }.to_string(), "unknown message type 0x16");
    }
}
