//! What comes before the first framed message: the start-up packet and its three namesakes.
//!
//! Bounded by 10,000 bytes, whatever the length word says. Must not know which parameters mean what to the proxy.

use crate::{Offence, read::Reader, write};

/// The longest first packet, in bytes without its length word (`MAX_STARTUP_PACKET_LENGTH`).
pub const FIRST_PACKET_BYTES_MAX: u32 = 10_000;

/// The longest cancel key, in bytes (protocol 3.2; before that it was always 4).
pub const CANCEL_KEY_BYTES_MAX: usize = 256;

/// Names of start-up parameters with this prefix are protocol options, not settings.
pub const PROTOCOL_OPTION_PREFIX: &str = "_pq_.";

/// The answer to SSLRequest or GSSENCRequest that declines, without ending the connection.
pub const ENCRYPTION_DECLINED: u8 = b'N';

/// The answer to SSLRequest that accepts; the TLS handshake follows.
pub const TLS_ACCEPTED: u8 = b'S';

const CANCEL_CODE: u32 = 80_877_102;
const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;

/// A protocol version: the major is always 3 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Incompatible generations of the protocol.
    pub major: u16,
    /// Negotiable: the server may answer a higher one with NegotiateProtocolVersion.
    pub minor: u16,
}

impl Version {
    /// 3.0, PostgreSQL 7.4 and later.
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// 3.2, PostgreSQL 18 and later: cancel keys of up to 256 bytes.
    pub const V3_2: Self = Self { major: 3, minor: 2 };
    /// The newest that is known here.
    pub const NEWEST: Self = Self::V3_2;

    pub(crate) const fn from_code(code: u32) -> Self {
        Self { major: (code >> 16) as u16, minor: code as u16 }
    }

    /// How long a cancel key is that PostgreSQL makes for it, in bytes.
    pub const fn cancel_key_bytes(self) -> usize {
        if self.minor < 2 { 4 } else { 32 }
    }

    pub(crate) const fn code(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }
}

/// The first packet of a connection, or the next one after a declined encryption request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPacket<'a> {
    /// A client wants to log in.
    Startup {
        /// The version it would like; the minor may be one that nobody knows yet.
        version: Version,
        /// Its parameters, `user` among them if it is polite.
        params: Params<'a>,
    },
    /// SSLRequest.
    Ssl,
    /// GSSENCRequest.
    Gss,
    /// CancelRequest: the only packet of its connection.
    Cancel {
        /// The process id of the BackendKeyData.
        pid: u32,
        /// Its key, 4 to 256 bytes.
        key: &'a [u8],
    },
}

/// Reads the first packet at the start of `buf`, and how many bytes it takes; `None` if it is not complete.
///
/// # Errors
/// HTTP, a TLS handshake, a length out of bounds (all told from the first four bytes), a protocol other than
/// 3.x, a broken parameter list, or bytes behind an encryption request: those came in the clear and a man in
/// the middle may have put them there (CVE-2021-23214).
pub fn first_packet(buf: &[u8]) -> Result<Option<(FirstPacket<'_>, usize)>, Offence> {
    let Some(word) = buf.first_chunk::<4>() else { return Ok(None) };
    let len = first_packet_len(*word)?;
    let Some((packet, rest)) = buf.split_at_checked(len) else { return Ok(None) };
    let packet = interpret(&packet[4..])?;
    if matches!(packet, FirstPacket::Ssl | FirstPacket::Gss) && !rest.is_empty() {
        return Err(Offence::PlaintextAfterEncryptionRequest);
    }
    Ok(Some((packet, len)))
}

fn first_packet_len(word: [u8; 4]) -> Result<usize, Offence> {
    // A handshake record of TLS 1.x starts 16 03 0x; as a length it would be 369 MB.
    if word.starts_with(&[0x16, 0x03]) {
        return Err(Offence::TlsHello);
    }
    if [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI "].contains(&&word) {
        return Err(Offence::Http);
    }
    let length = u32::from_be_bytes(word);
    if !(8..=FIRST_PACKET_BYTES_MAX + 4).contains(&length) {
        return Err(Offence::StartupLength { length });
    }
    Ok(length as usize)
}

fn interpret(packet: &[u8]) -> Result<FirstPacket<'_>, Offence> {
    let mut reader = Reader(packet);
    let code = reader.u32().ok_or(Offence::StartupLayout)?;
    match code {
        SSL_CODE if reader.is_empty() => Ok(FirstPacket::Ssl),
        GSS_CODE if reader.is_empty() => Ok(FirstPacket::Gss),
        SSL_CODE | GSS_CODE => Err(Offence::StartupLayout),
        CANCEL_CODE => {
            let pid = reader.u32().ok_or(Offence::CancelKey)?;
            let key = reader.0;
            if (4..=CANCEL_KEY_BYTES_MAX).contains(&key.len()) {
                Ok(FirstPacket::Cancel { pid, key })
            } else {
                Err(Offence::CancelKey)
            }
        }
        _ => {
            let version = Version::from_code(code);
            if version.major != 3 {
                return Err(Offence::ProtocolVersion { major: version.major, minor: version.minor });
            }
            Ok(FirstPacket::Startup { version, params: Params::parse(reader.0)? })
        }
    }
}

/// The parameters of a start-up packet, in the order of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<'a>(&'a [u8]);

impl<'a> Params<'a> {
    /// Checks the whole list once, so that reading it cannot fail.
    fn parse(list: &'a [u8]) -> Result<Self, Offence> {
        let mut reader = Reader(list);
        loop {
            let name = reader.cstr().ok_or(Offence::StartupLayout)?;
            if name.is_empty() {
                return if reader.is_empty() { Ok(Params(list)) } else { Err(Offence::StartupLayout) };
            }
            let value = reader.cstr().ok_or(Offence::StartupLayout)?;
            if std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err() {
                return Err(Offence::StartupText);
            }
        }
    }

    /// All pairs of name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut reader = Reader(self.0);
        std::iter::from_fn(move || {
            let name = reader.cstr().filter(|name| !name.is_empty())?;
            Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(reader.cstr()?).ok()?))
        })
    }

    /// The value of `name`; of several the last, as in PostgreSQL.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().filter(|(n, _)| *n == name).last().map(|(_, value)| value)
    }

    /// Names that start with [`PROTOCOL_OPTION_PREFIX`]: those not understood go into NegotiateProtocolVersion.
    pub fn protocol_options(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.iter().map(|(name, _)| name).filter(|name| name.starts_with(PROTOCOL_OPTION_PREFIX))
    }
}

/// The settings in the start-up parameter `options`: `-c name=value`, `-cname=value` and `--name=value`, separated
/// by white space; a backslash takes the next character literally. Dashes in names become underscores, as in
/// PostgreSQL (`pg_split_opts`, `ParseLongOption`).
///
/// ```
/// let settings = highwater_wire::startup::parse_options(r"-c search_path=a,\ b --work-mem=4MB").unwrap();
/// assert_eq!(settings[0], ("search_path".into(), "a, b".into()));
/// assert_eq!(settings[1], ("work_mem".into(), "4MB".into()));
/// ```
///
/// # Errors
/// [`Offence::StartupOption`] for any other switch, and for a setting without a value.
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>, Offence> {
    let mut settings = Vec::new();
    let mut words = split_options(options).into_iter();
    while let Some(word) = words.next() {
        let setting = if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else {
            match word.strip_prefix("-c") {
                Some("") => words.next().ok_or(Offence::StartupOption)?,
                Some(attached) => attached.to_owned(),
                None => return Err(Offence::StartupOption),
            }
        };
        let (name, value) = setting.split_once('=').ok_or(Offence::StartupOption)?;
        if name.is_empty() {
            return Err(Offence::StartupOption);
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// Splits at white space; a backslash protects the next character, also a blank.
fn split_options(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = options.chars().peekable();
    while let Some(first) = chars.peek() {
        if is_space(*first) {
            chars.next();
            continue;
        }
        let mut word = String::new();
        while let Some(c) = chars.next_if(|c| !is_space(*c)) {
            // A lone backslash at the end is dropped, as PostgreSQL does.
            word.extend(if c == '\\' { chars.next() } else { Some(c) });
        }
        words.push(word);
    }
    words
}

/// C's `isspace` in the C locale.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// Appends a start-up packet.
pub fn startup<'a>(out: &mut Vec<u8>, version: Version, params: impl IntoIterator<Item = (&'a str, &'a str)>) {
    write::counted(out, |out| {
        out.extend_from_slice(&version.code().to_be_bytes());
        for (name, value) in params {
            write::cstr(out, name);
            write::cstr(out, value);
        }
        out.push(0);
    });
}

/// Appends an SSLRequest.
pub fn ssl_request(out: &mut Vec<u8>) {
    write::counted(out, |out| out.extend_from_slice(&SSL_CODE.to_be_bytes()));
}

/// Appends a CancelRequest with the process id and key of a BackendKeyData.
pub fn cancel_request(out: &mut Vec<u8>, pid: u32, key: &[u8]) {
    write::counted(out, |out| {
        out.extend_from_slice(&CANCEL_CODE.to_be_bytes());
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buf: &[u8]) -> Result<Option<(FirstPacket<'_>, usize)>, Offence> {
        first_packet(buf)
    }

    #[test]
    fn a_startup_packet_comes_back() {
        let mut out = Vec::new();
        startup(&mut out, Version::V3_2, [("user", "ann"), ("_pq_.x", "1"), ("user", "bob")]);
        for len in 0..out.len() {
            assert_eq!(read(&out[..len]), Ok(None));
        }
        let Ok(Some((FirstPacket::Startup { version, params }, len))) = read(&out) else { panic!() };
        assert_eq!((version, len), (Version::V3_2, out.len()));
        assert_eq!(params.get("user"), Some("bob"));
        assert_eq!(params.get("database"), None);
        assert_eq!(params.protocol_options().collect::<Vec<_>>(), ["_pq_.x"]);
        assert_eq!(params.iter().count(), 3);
    }

    #[test]
    fn encryption_and_cancel_requests_come_back() {
        let mut out = Vec::new();
        ssl_request(&mut out);
        assert_eq!(read(&out), Ok(Some((FirstPacket::Ssl, 8))));
        assert_eq!(read(&[0, 0, 0, 8, 4, 210, 22, 48]), Ok(Some((FirstPacket::Gss, 8))));
        out.push(1);
        assert_eq!(read(&out), Err(Offence::PlaintextAfterEncryptionRequest));
        let mut out = Vec::new();
        cancel_request(&mut out, 77, &[9; 32]);
        assert_eq!(read(&out), Ok(Some((FirstPacket::Cancel { pid: 77, key: &[9; 32] }, 44))));
    }

    #[test]
    fn strangers_are_told_by_their_first_bytes() {
        assert_eq!(read(b"GET / HTTP/1.1"), Err(Offence::Http));
        assert_eq!(read(b"\x16\x03\x01\x02"), Err(Offence::TlsHello));
        assert_eq!(read(b"\0\0\0\x07"), Err(Offence::StartupLength { length: 7 }));
        assert_eq!(read(b"\0\0\x27\x15"), Err(Offence::StartupLength { length: 10_005 }));
        assert_eq!(read(b"\0\0\0\x08\0\x02\0\0"), Err(Offence::ProtocolVersion { major: 2, minor: 0 }));
    }

    #[test]
    fn broken_parameter_lists_are_offences() {
        let packet = |list: &[u8]| {
            let mut out = Vec::new();
            write::counted(&mut out, |out| out.extend([&[0, 3, 0, 0], list].concat()));
            read(&out).map(|_| ())
        };
        assert_eq!(packet(b"\0"), Ok(()));
        assert_eq!(packet(b""), Err(Offence::StartupLayout));
        assert_eq!(packet(b"user\0\0"), Err(Offence::StartupLayout));
        assert_eq!(packet(b"user\0ann"), Err(Offence::StartupLayout));
        assert_eq!(packet(b"user\0ann\0\0x"), Err(Offence::StartupLayout));
        assert_eq!(packet(b"user\0\xff\0\0"), Err(Offence::StartupText));
    }

    #[test]
    fn options_follow_postgresql() {
        let one = |text| parse_options(text).map(|mut s| s.remove(0));
        assert_eq!(one("  -c a=b"), Ok(("a".into(), "b".into())));
        assert_eq!(one("-ca=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(one(r"--x.y-z=\\\ \-"), Ok(("x.y_z".into(), r"\ -".into())));
        assert_eq!(one("-c a="), Ok(("a".into(), String::new())));
        assert_eq!(parse_options(""), Ok(vec![]));
        for bad in ["-c", "-c a", "--a", "-e", "x", "-c =1", "--=1"] {
            assert_eq!(parse_options(bad), Err(Offence::StartupOption), "{bad}");
        }
    }
}
