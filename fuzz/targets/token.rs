//! Tokens: one text for each token, and a text that was changed is none.

#![no_main]

use highwater_core::{Branch, Lsn, Timeline, Token};
use highwater_fuzz::{Input, bounded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(4096 + 4 * data.len(), || {
    let mut input = Input(data);
    if input.below(2) == 0 {
        let Ok(text) = std::str::from_utf8(input.0) else { return };
        if let Ok(token) = Token::decode(text) {
            assert_eq!(token.encode(), text, "two texts for one token");
        }
        return;
    }
    let token = token(&mut input);
    let text = token.encode();
    assert_eq!(Token::decode(&text), Ok(token));
    damaged(&text, &mut input);
}));

fn token(input: &mut Input<'_>) -> Token {
    let (system_id, lsn, part, issued) = (input.number(), input.number(), input.number(), input.number());
    let branch = Branch { timeline: Timeline(input.number() as u32), origin: input.number() as u32 };
    // A position of 0 is none, and no part lies beyond the whole.
    let replica_lsn = (lsn > 0 && part > 0).then(|| Lsn((part % lsn).max(1)));
    Token { system_id, branch, lsn: Lsn(lsn), replica_lsn, issued }
}

/// One character changed, two neighbours swapped, or one lost.
fn damaged(text: &str, input: &mut Input<'_>) {
    let mut bytes = text.as_bytes().to_vec();
    let place = input.below(bytes.len() - 1);
    match input.below(3) {
        0 => bytes[place] = 33 + input.byte() % 94,
        1 => bytes.swap(place, place + 1),
        _ => drop(bytes.remove(place)),
    }
    if bytes != text.as_bytes() {
        let damaged = String::from_utf8(bytes).expect("all of it is ASCII");
        assert!(Token::decode(&damaged).is_err(), "{damaged} for {text}");
    }
}
