//! The classifier: what the grammar refuses is Unknown, what was seen before never changes what is said now, literals
//! do not matter, and a second statement is never overlooked.
//!
//! An input is a byte that says what to check, six that say how another text is made of this one, and the text.

#![no_main]

#[path = "../../../crates/sql/tests/common/mod.rs"]
mod common;
mod texts;

use std::sync::{Arc, OnceLock};

use highwater_fuzz::{Input, bounded};
use highwater_sql::{Catalog, Class, Classifier, Facts, Scratch, Why, hints};
use libfuzzer_sys::fuzz_target;

static CATALOG: OnceLock<Catalog> = OnceLock::new();

// An operator of one byte is a node of the tree, with its operand some kilobytes while the tree is handed over.
fuzz_target!(init: CATALOG.get_or_init(common::catalog), |data: &[u8]| bounded(16_384 * data.len() + (1 << 20), || {
    let mut input = Input(data);
    let check = input.below(4);
    let mut edits = [0; 6].map(|_: u8| input.byte());
    // A text on the wire ends at its first zero.
    let text = input.0.split(|byte| *byte == 0).next().unwrap_or_default();
    let Ok(text) = std::str::from_utf8(text) else { return };
    match check {
        0 => alone(text),
        1 => drop(texts::with_other_literals(text, edits[0]).map(|other| literals(text, &other))),
        2 => pair(text, &texts::edited(text, &mut edits)),
        _ => followed(text),
    }
}));

fn catalog() -> &'static Catalog {
    CATALOG.get_or_init(common::catalog)
}

/// The facts of a text by a classifier that has seen `before`.
fn facts_after(before: Option<&str>, text: &str) -> Facts {
    let (classifier, mut scratch) = (Classifier::new(1), Scratch::default());
    let mut facts = |text| Arc::unwrap_or_clone(classifier.classify(text, catalog(), &mut scratch));
    before.map(&mut facts);
    let mut facts = facts(text);
    // A message of one statement is its own range, whatever stands here.
    if let [statement] = &mut *facts.statements {
        statement.range = 0..text.len();
    }
    facts
}

fn facts(text: &str) -> Facts {
    facts_after(None, text)
}

fn alone(text: &str) {
    let facts = facts(text);
    let parsed = pg_query::parse(text, 0);
    assert_eq!(facts.why == Why::Syntax, matches!(parsed, Err(pg_query::Error::Parse(_))), "{:?}", parsed.err());
    assert!(facts.why != Why::Syntax || facts.class == Class::Unknown);
    consistent(&facts, text);
    wishes(text);
    if text.len() < 4096 {
        refusal_is_learnt(text);
    }
}

/// Facts do not contradict each other.
fn consistent(facts: &Facts, text: &str) {
    let worst = facts.statements.iter().map(|statement| statement.class).max();
    assert!(worst.is_none_or(|worst| worst == facts.class));
    assert!(facts.class > Class::Primary || !facts.changes_catalog, "{:?}", facts.why);
    assert_eq!(facts.class == Class::Empty, facts.statements.is_empty() && facts.class < Class::Unknown);
    let mut end = 0;
    for (statement, part) in facts.parts(text) {
        if facts.statements.len() > 1 {
            assert!(statement.range.start >= end && text.get(statement.range.clone()) == Some(part));
            end = statement.range.end;
        } else {
            assert_eq!(part, text);
        }
    }
}

fn wishes(text: &str) {
    let Some(hints) = hints(text) else { return };
    for (name, value) in hints.iter() {
        assert!(name.starts_with("highwater.") && text.contains(name));
        assert!(value.len() <= text.len());
    }
}

fn refusal_is_learnt(text: &str) {
    let (classifier, mut scratch) = (Classifier::new(1), Scratch::default());
    classifier.learn_refusal(text, catalog(), &mut scratch);
    assert!(classifier.classify(text, catalog(), &mut scratch).class >= Class::Write);
}

/// Other literals, the same facts: at least as far as both are understood.
fn literals(text: &str, other: &str) {
    let [one, two] = [facts(text), facts(other)];
    // Of the proxy's own settings the values matter, of names with escapes, of whom to signal, of a file name whether it is
    // empty, and the code of a DO block.
    let matter = [
        "highwater",
        "set_config",
        "current_setting",
        "uescape",
        "u&",
        "copy",
        "pg_cancel_backend",
        "pg_terminate_backend",
    ];
    let lower = text.to_ascii_lowercase();
    let is_code = lower.split(|sign: char| !sign.is_alphanumeric()).any(|word| word == "do");
    let understood = one.why != Why::Syntax && two.why != Why::Syntax;
    if understood && !is_code && !matter.iter().any(|word| lower.contains(word)) && one.statements.len() < 2 {
        assert_eq!(without_ranges(one), without_ranges(two), "{other:?}");
    }
    assert_eq!(hints(text), hints(other), "{other:?}");
    pair(text, other);
}

fn without_ranges(mut facts: Facts) -> Facts {
    facts.statements.iter_mut().for_each(|statement| statement.range = 0..0);
    facts
}

/// What is said of a text does not hang on what was classified before it, unless the server will refuse it anyway.
fn pair(one: &str, two: &str) {
    for (before, text) in [(one, two), (two, one)] {
        let alone = facts(text);
        if alone.why != Why::Syntax {
            assert_eq!(facts_after(Some(before), text), alone, "{text:?} after {before:?}");
        }
    }
}

/// A statement behind another one counts.
fn followed(text: &str) {
    let first = facts(text);
    if first.why == Why::Syntax {
        return;
    }
    // A line break, since the text may end in a comment.
    let with = |second: &str| facts(&format!("{text}\n;{second}")).class;
    assert!(with("DELETE FROM t2") >= Class::Write);
    assert_eq!(with("SELECT 1"), first.class.max(Class::Read));
    assert_eq!(with("SELEC 1"), Class::Unknown);
    assert_eq!(with(""), first.class);
}
