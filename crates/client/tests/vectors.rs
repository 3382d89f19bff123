//! docs/carrying-vectors.json, which the Django package runs as well: both mean the same by each text.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_client::{Position, Signer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    texts: Vec<Text>,
    joins: Vec<Join>,
    advances: Vec<Advance>,
    signatures: Vec<Signature>,
    verdicts: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Text {
    why: String,
    text: String,
    tokens: BTreeMap<String, BTreeSet<String>>,
    lost: Vec<String>,
    again: String,
}

#[derive(Deserialize)]
struct Join {
    why: String,
    texts: Vec<String>,
    text: String,
}

#[derive(Deserialize)]
struct Advance {
    why: String,
    text: String,
    place: String,
    token: String,
    included: BTreeSet<String>,
    after: String,
}

#[derive(Deserialize)]
struct Signature {
    secret: String,
    text: String,
    at: u64,
    signed: String,
}

#[derive(Deserialize)]
struct Verdict {
    why: String,
    secret: String,
    fallbacks: Vec<String>,
    signed: String,
    now: f64,
    max_age: u64,
    text: Option<String>,
    at: Option<u64>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../docs/carrying-vectors.json")).unwrap()
}

#[test]
fn texts_mean_what_they_say() {
    for case in vectors().texts {
        let position = Position::read(&case.text);
        for (place, tokens) in &case.tokens {
            assert_eq!(position.tokens(place), *tokens, "{}", case.why);
        }
        assert!(case.lost.iter().all(|place| position.is_lost(place)), "{}", case.why);
        // All its places are in there: nothing else is known.
        assert_eq!(position.to_string(), case.again, "{}", case.why);
        assert_eq!(position.is_empty(), case.again.is_empty(), "{}", case.why);
    }
}

#[test]
fn joins_lose_nothing() {
    for case in vectors().joins {
        let mut position = Position::default();
        case.texts.iter().for_each(|text| position.join(&Position::read(text)));
        assert_eq!(position.to_string(), case.text, "{}", case.why);
    }
}

#[test]
fn connections_advance_what_they_were_told() {
    for case in vectors().advances {
        let mut position = Position::read(&case.text);
        position.advance(&case.place, &case.token, case.included);
        assert_eq!(position.to_string(), case.after, "{}", case.why);
    }
}

#[test]
fn signatures_are_djangos() {
    for case in vectors().signatures {
        let signer = Signer::new(&case.secret, [""; 0]).unwrap();
        assert_eq!(signer.sign(&case.text, case.at), case.signed);
    }
}

#[test]
fn verdicts_are_djangos() {
    for case in vectors().verdicts {
        let signer = Signer::new(&case.secret, &case.fallbacks).unwrap();
        let (now, max_age) = (Duration::from_secs_f64(case.now), Duration::from_secs(case.max_age));
        let verified = signer.verify(&case.signed, now, max_age);
        let (text, at) = verified.map(|verified| (verified.text, verified.at)).unzip();
        assert_eq!((text, at), (case.text, case.at), "{}", case.why);
    }
}
