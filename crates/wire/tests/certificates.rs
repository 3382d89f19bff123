//! Certificates made by OpenSSL, and what OpenSSL says of them (`openssl x509 -outform DER | openssl dgst`).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use base64::{Engine, engine::general_purpose::STANDARD};
use highwater_wire::certificate::Certificate;

fn der(pem: &str) -> Vec<u8> {
    STANDARD.decode(pem.lines().filter(|line| !line.starts_with("--")).collect::<String>()).unwrap()
}

const SHA384: &str = include_str!("certificates/sha384.pem");
const PSS: &str = include_str!("certificates/pss.pem");
const SHA1: &str = include_str!("certificates/sha1.pem");
const EC: &str = include_str!("certificates/ec.pem");
const ED25519: &str = include_str!("certificates/ed.pem");

#[test]
fn the_end_point_is_hashed_as_the_signature_was() {
    let end_point = |pem| {
        let hash = Certificate::read(&der(pem)).unwrap().end_point()?;
        Some(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let expected = [
        (SHA384, "2dba645c118f558b75f6ab972613331dec0a2e26134e59d523e46fda008116906e2d465f0b09cba0c2ecd80cb97a2a5f"),
        (
            PSS,
            "0ef0d05674a534c827fccc55111827bbe2e6d5bc0cf4a2e5d296b130bfded92857ca1c91d8d7a84d08464ff59520556e46e0e70d69b2cc9d0eea21243308dc1c",
        ),
        (SHA1, "f826648bea9e561c4cc509f0f15b00eef201dbc31b2006cf7de5d776fd63cbb7"),
        (
            EC,
            "8fef9e371e82404089345705b8417fb57b51f4aa1b472bc4a9e927222697ec71126f55378ee68098831e5a7d9aaa39451fb5fa1870f124da74f81c7b667aa92a",
        ),
    ];
    for (pem, hash) in expected {
        assert_eq!(end_point(pem).as_deref(), Some(hash));
    }
    assert_eq!(end_point(ED25519), None);
}

#[test]
fn the_subject_is_read_as_postgresql_does() {
    let name = |pem| Certificate::read(&der(pem)).unwrap().common_name().map(str::to_owned);
    assert_eq!(name(SHA384).as_deref(), Some("db sha384"));
    assert_eq!(name(EC).as_deref(), Some("ann"), "of several the first");
    assert_eq!(name(ED25519).as_deref(), Some("Zo\u{eb}"));
    // A zero in a name would end it early for a C program.
    let mut cut = der(SHA384);
    let at = cut.windows(9).rposition(|bytes| bytes == b"db sha384").unwrap();
    cut[at + 2] = 0;
    assert_eq!(Certificate::read(&cut).unwrap().common_name(), None);
    let has = |pem| Certificate::read(&der(pem)).unwrap().has_alternative_names();
    assert!(has(EC) && !has(SHA384));
}

#[test]
fn the_time_of_validity_is_read() {
    let ec = der(EC);
    let ec = Certificate::read(&ec).unwrap();
    let (begin, end) = (1795573887, 1798165887);
    for (at, holds) in [(begin - 1, false), (begin, true), (end, true), (end + 1, false), (0, false), (u64::MAX, false)]
    {
        assert_eq!(ec.holds_at(at), holds, "{at}");
    }
}

#[test]
fn damaged_certificates_are_read_without_panic() {
    for pem in [SHA384, PSS, EC, ED25519] {
        let whole = der(pem);
        for length in 0..whole.len() {
            assert!(Certificate::read(&whole[..length]).is_none());
        }
        for at in 0..whole.len() {
            for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Some(read) = Certificate::read(&bytes) {
                    let _ = (read.common_name(), read.has_alternative_names(), read.end_point(), read.holds_at(0));
                }
            }
        }
    }
}
