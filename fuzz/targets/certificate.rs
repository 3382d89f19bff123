//! Certificates: nothing behind the end counts, a part of one is none, and what is said of one has the form it must have.

#![no_main]

use highwater_fuzz::{bounded, cuts};
use highwater_wire::certificate::Certificate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(64 * data.len() + 4096, || {
    let Some(certificate) = Certificate::read(data) else { return };
    assert!(certificate.common_name().is_none_or(|name| !name.contains('\0')));
    certificate.has_alternative_names();
    holds_without_a_gap(&certificate);
    if let Some(hash) = certificate.end_point() {
        // SHA-2 in its four sizes; the binding covers every byte.
        assert!([28, 32, 48, 64].contains(&hash.len()));
        let longer = [data, &[0]].concat();
        assert!(Certificate::read(&longer).is_none_or(|longer| longer.end_point() != Some(hash)));
    }
    parts(data, &certificate);
}));

/// Between two times at which it holds, it holds.
fn holds_without_a_gap(certificate: &Certificate<'_>) {
    let times = (0..40).map(|bits| (1_u64 << bits) - 1);
    let holds: Vec<bool> = times.map(|time| certificate.holds_at(time)).collect();
    let turns = holds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(turns <= if holds[0] { 1 } else { 2 }, "{holds:?}");
}

/// A part from the front is none, or all that is looked at was in it.
fn parts(data: &[u8], whole: &Certificate<'_>) {
    for cut in cuts(data.len()) {
        if let Some(part) = Certificate::read(&data[..cut]) {
            assert_eq!(part.common_name(), whole.common_name());
            assert_eq!(part.has_alternative_names(), whole.has_alternative_names());
        }
    }
}
