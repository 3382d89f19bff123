//! X.509 certificates as far as PostgreSQL itself looks into them: who the subject is, until when it holds, and what
//! binds a login to its channel. Whether a certificate is to be trusted is the TLS library's question, not this file's.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;

/// id-at-commonName, 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// id-ce-subjectAltName, 2.5.29.17
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// pkcs-1, 1.2.840.113549.1.1: the signature algorithms of RSA.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// ecdsa-with-SHA1, 1.2.840.10045.4.1
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
/// ecdsa-with-SHA2, 1.2.840.10045.4.3
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// The hash algorithms of NIST, 2.16.840.1.101.3.4.2
const HASHES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// The fields of a certificate that are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    der: &'a [u8],
    /// The relative names of the subject.
    subject: &'a [u8],
    /// Two times.
    validity: &'a [u8],
    /// What follows the subject: its key, and extensions.
    rest: &'a [u8],
    signature_algorithm: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Takes a certificate in DER apart; `None` if it is none.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Der(Der(der).expect(SEQUENCE)?);
        let mut body = Der(outer.expect(SEQUENCE)?);
        let signature_algorithm = outer.expect(SEQUENCE)?;
        // The version is left out by version 1.
        if body.tag() == Some(0xa0) {
            body.next()?;
        }
        body.expect(0x02)?;
        body.expect(SEQUENCE)?;
        body.expect(SEQUENCE)?;
        let validity = body.expect(SEQUENCE)?;
        let subject = body.expect(SEQUENCE)?;
        Some(Self { der, subject, validity, rest: body.0, signature_algorithm })
    }

    /// The subject's common name, of several the first, as PostgreSQL takes it; `None` if there is none, or if it is not
    /// plain text without zeros (CVE-2009-4034).
    pub fn common_name(&self) -> Option<&'a str> {
        let mut names = Der(self.subject);
        while let Some(set) = names.expect(SET) {
            let mut set = Der(set);
            while let Some(pair) = set.expect(SEQUENCE) {
                let mut pair = Der(pair);
                if pair.expect(OID)? == COMMON_NAME {
                    let (tag, value) = pair.next()?;
                    // UTF8String, PrintableString, TeletexString, IA5String; of the older ones the ASCII part.
                    let is_text = tag == 0x0c || ([0x13, 0x14, 0x16].contains(&tag) && value.is_ascii());
                    return std::str::from_utf8(value).ok().filter(|name| is_text && !name.contains('\0'));
                }
            }
        }
        None
    }

    /// Whether it says by subjectAltName whose it is: the common name is not asked then (RFC 6125, libpq).
    pub fn has_alternative_names(&self) -> bool {
        let mut rest = Der(self.rest);
        let extensions = std::iter::from_fn(|| rest.next()).find(|(tag, _)| *tag == 0xa3);
        let list = extensions.and_then(|(_, content)| Der(content).expect(SEQUENCE));
        let mut list = Der(list.unwrap_or_default());
        std::iter::from_fn(|| list.expect(SEQUENCE)).any(|one| Der(one).expect(OID) == Some(ALTERNATIVE_NAMES))
    }

    /// Whether it holds at this time, in seconds since 1970.
    pub fn holds_at(&self, unix_seconds: u64) -> bool {
        let mut times = Der(self.validity);
        let mut time = || times.next().and_then(|(tag, digits)| seconds(tag, digits));
        let (begin, end) = (time(), time());
        let now = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
        begin.is_some_and(|begin| begin <= now) && end.is_some_and(|end| now <= end)
    }

    /// The data of the channel binding `tls-server-end-point` (RFC 5929, section 4.1): the certificate's hash by the
    /// algorithm of its signature, or SHA-256 where that is MD5 or SHA-1. `None` where the algorithm names no hash
    /// (Ed25519), as in PostgreSQL.
    pub fn end_point(&self) -> Option<Vec<u8>> {
        let mut algorithm = Der(self.signature_algorithm);
        let id = algorithm.expect(OID)?;
        let hash = match (id.strip_prefix(RSA), id.strip_prefix(ECDSA)) {
            (Some([4 | 5 | 11]), _) | (_, Some([2])) => Hash::Sha256,
            (Some([10]), _) => pss_hash(&mut algorithm)?,
            (Some([12]), _) | (_, Some([3])) => Hash::Sha384,
            (Some([13]), _) | (_, Some([4])) => Hash::Sha512,
            (Some([14]), _) | (_, Some([1])) => Hash::Sha224,
            _ if id == ECDSA_SHA1 => Hash::Sha256,
            _ => return None,
        };
        Some(hash.of(self.der))
    }
}

/// The hash of RSASSA-PSS stands in its parameters (RFC 4055); none there means SHA-1.
fn pss_hash(algorithm: &mut Der<'_>) -> Option<Hash> {
    let mut parameters = Der(algorithm.expect(SEQUENCE)?);
    if parameters.tag() != Some(0xa0) {
        return Some(Hash::Sha256);
    }
    let (_, explicit) = parameters.next()?;
    let id = Der(Der(explicit).expect(SEQUENCE)?).expect(OID)?;
    Some(match id.strip_prefix(HASHES)? {
        [1] => Hash::Sha256,
        [2] => Hash::Sha384,
        [3] => Hash::Sha512,
        [4] => Hash::Sha224,
        _ => return None,
    })
}

#[derive(Clone, Copy)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha224 => Sha224::digest(data).to_vec(),
            Hash::Sha256 => Sha256::digest(data).to_vec(),
            Hash::Sha384 => Sha384::digest(data).to_vec(),
            Hash::Sha512 => Sha512::digest(data).to_vec(),
        }
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` in seconds since 1970; RFC 5280 allows no other forms.
fn seconds(tag: u8, digits: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(digits).ok()?.strip_suffix('Z')?;
    let (year_digits, rest) = text.split_at_checked(if tag == 0x17 { 2 } else { 4 })?;
    if rest.len() != 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    let year: i64 = year_digits.parse().ok()?;
    let year = match tag {
        0x17 if year < 50 => year + 2000,
        0x17 => year + 1900,
        0x18 => year,
        _ => return None,
    };
    let days = days_since_1970(year, number(0)?, number(2)?);
    Some(((days * 24 + number(4)?) * 60 + number(6)?) * 60 + number(8)?)
}

/// Days of the Gregorian calendar; years begin in March, so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day
        - 719_469
}

/// A sequence of tagged values.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], mut rest) = self.0.split_first_chunk()?;
        let mut count = usize::from(length);
        if length >= 0x80 {
            let (bytes, behind) =
                rest.split_at_checked(usize::from(length & 0x7f)).filter(|(bytes, _)| bytes.len() <= 4)?;
            count = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            rest = behind;
        }
        let (content, behind) = rest.split_at_checked(count)?;
        self.0 = behind;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}
