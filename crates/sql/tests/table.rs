//! The table of statements against a catalogue that is written out.

mod common;

use std::sync::Arc;

use common::{Row, catalog, rows::ROWS};
use highwater_sql::{
    Catalog, Class, Classifier, Facts, Flag, Isolation, Kind, Pin, Scratch, Setting, Touch, TransactionControl, Value,
};
use pg_query::protobuf::Token;

fn facts(text: &str) -> Arc<Facts> {
    Classifier::new(1).classify(text, &catalog(), &mut Scratch::default())
}

fn kinds(text: &str) -> Vec<Kind> {
    facts(text).statements.iter().map(|statement| statement.kind.clone()).collect()
}

#[test]
fn every_statement_of_the_table_is_what_it_is() {
    let (catalog, classifier, mut scratch) = (catalog(), Classifier::new(1000), Scratch::default());
    let mut wrong = Vec::new();
    for Row { class, why, pin, sql } in ROWS {
        let facts = classifier.classify(sql, &catalog, &mut scratch);
        let found = (facts.class, facts.why.name(), facts.pin);
        if found != (*class, *why, *pin) {
            wrong.push(format!("{sql}\n   wanted {:?}\n   found  {found:?} ({})", (class, why, pin), facts.why));
        }
        assert!(facts.class != Class::Read || facts.rerun_safe, "{sql}");
        let worst = facts.statements.iter().map(|statement| statement.class).max();
        assert!(worst.is_none_or(|worst| worst == facts.class), "{sql}");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
}

/// The text with other values in its strings and numbers.
fn with_other_literals(text: &str) -> Option<String> {
    let (mut other, mut end) = (String::new(), 0);
    for token in pg_query::scan(text).ok()?.tokens {
        let range = token.start as usize..token.end as usize;
        let value = match Token::try_from(token.token).ok()? {
            Token::Sconst => "'o''ther'",
            Token::Iconst => "7",
            Token::Fconst => "0.25",
            _ => &text[range.clone()],
        };
        other += &text[end..range.start];
        other += value;
        end = range.end;
    }
    Some(other + &text[end..])
}

#[test]
fn facts_do_not_hang_on_literals_that_are_folded() {
    let (catalog, mut scratch) = (catalog(), Scratch::default());
    let mut changed = 0;
    for Row { sql, .. } in ROWS {
        // Their literals matter, and they are their own keys.
        if sql.contains("_backend(") {
            continue;
        }
        let Some(other) = with_other_literals(sql) else { continue };
        changed += usize::from(other != *sql);
        let [one, two] = [*sql, &other].map(|text| Classifier::new(1).classify(text, &catalog, &mut scratch));
        let kinds = |facts: &Facts| facts.statements.iter().map(|s| (s.kind.clone(), s.class)).collect::<Vec<_>>();
        assert_eq!((one.class, &one.why, one.pin, &one.tables), (two.class, &two.why, two.pin, &two.tables), "{other}");
        assert_eq!(kinds(&one), kinds(&two), "{other}");
        assert_eq!((one.rerun_safe, one.changes_catalog), (two.rerun_safe, two.changes_catalog), "{other}");
    }
    assert!(changed > 100, "only {changed} have literals");
}

#[test]
fn without_a_catalogue_nothing_that_names_anything_is_a_read() {
    let (catalog, classifier, mut scratch) = (Catalog::empty(), Classifier::new(10), Scratch::default());
    for text in ["SELECT * FROM t2", "SELECT lower('x')", "SELECT 1 = 1", "SELECT * FROM pg_class"] {
        let facts = classifier.classify(text, &catalog, &mut scratch);
        assert!(facts.class >= Class::Write && facts.unknown_names, "{text}: {:?}", facts.class);
    }
    assert_eq!(classifier.classify("SELECT 1", &catalog, &mut scratch).class, Class::Read);
}

#[test]
fn a_new_catalogue_counts_at_once() {
    let (classifier, mut scratch) = (Classifier::new(10), Scratch::default());
    let mut class = |catalog: &Catalog| classifier.classify("SELECT rdf(), twice(1)", catalog, &mut scratch).class;
    assert_eq!(class(&catalog()), Class::Write);
    assert_eq!(class(&catalog().with_functions(["rdf"], [])), Class::Read);
    assert_eq!(class(&catalog().with_functions(["public.rdf"], ["twice"])), Class::Write);
    assert_eq!(class(&catalog()), Class::Write);
    assert_eq!(catalog().generation(), catalog().generation());
    assert_ne!(catalog().generation(), Catalog::empty().generation());
}

#[test]
fn a_bad_literal_says_nothing_about_good_ones() {
    let (classifier, catalog, mut scratch) = (Classifier::new(100), catalog(), Scratch::default());
    let mut class = |text| classifier.classify(text, &catalog, &mut scratch).class;
    for (bad, good) in [
        (r"SELECT E'\uD800'", "SELECT E'a'"),
        (r"SELECT U&'\1'", r"SELECT U&'\0061'"),
        ("SELECT $99999999999", "SELECT $1"),
        ("FETCH 99999999999 FROM c", "FETCH 5 FROM c"),
    ] {
        assert_eq!((class(bad), class(good)), (Class::Unknown, Class::Read), "{bad}");
    }
}

/// One text must not keep a thread, on which others wait, for long. Time that grows with the square of the length would
/// be minutes here.
#[test]
fn long_texts_take_time_in_proportion_to_their_length() {
    const LONG: usize = 100_000;
    let names = |name: &str| (0..LONG).map(|number| format!(", {name}{number}")).collect::<String>();
    let ctes = (0..LONG / 2).map(|number| format!(", c{number} AS (SELECT * FROM c)")).collect::<String>();
    for text in [
        format!("SELECT 1 {}{}", "/*".repeat(LONG), "*/".repeat(LONG)),
        format!("SELECT 1 {}", "/*".repeat(LONG)),
        format!("SELECT 1 {}1", "+".repeat(LONG)),
        format!("SELECT 1 {}1", "+-".repeat(LONG)),
        format!("SELECT {}1{}", "(".repeat(LONG), ")".repeat(LONG)),
        format!("SELECT 1{}", " + 1".repeat(LONG)),
        format!("SELECT 1{}", " AND true".repeat(LONG)),
        format!("SELECT 1 FROM t{}", names("t")),
        format!("SELECT 1{}", names("c")),
        format!("WITH c AS (SELECT 1){ctes} SELECT 1"),
        "SELECT 1;".repeat(LONG),
        (0..LONG).map(|number| format!("SET a.x{number} = 1;")).collect::<String>(),
        "$a$ $b$ ".repeat(LONG),
    ] {
        let start = std::time::Instant::now();
        facts(&text);
        highwater_sql::hints(&text);
        assert!(start.elapsed().as_secs() < 20, "{:?} for {} ...", start.elapsed(), &text[..20]);
    }
}

#[test]
fn an_excessive_comment_says_nothing_about_others() {
    let (classifier, catalog, mut scratch) = (Classifier::new(100), catalog(), Scratch::default());
    let mut class = |text: &str| classifier.classify(text, &catalog, &mut scratch).class;
    let excessive = format!("SELECT 1 {}{}", "/*".repeat(10_000), "*/".repeat(10_000));
    assert_eq!((class(&excessive), class("SELECT 1"), class(&excessive)), (Class::Unknown, Class::Read, Class::Read));
}

#[test]
fn an_empty_file_name_says_nothing_about_others() {
    let (classifier, catalog, mut scratch) = (Classifier::new(100), catalog(), Scratch::default());
    let mut kind = |text| classifier.classify(text, &catalog, &mut scratch).statements[0].kind.clone();
    kind("COPY t2 FROM ''");
    assert_eq!(kind("COPY t2 FROM '/some/file'"), Kind::Plain);
    kind("COPY t2 TO PROGRAM ''");
    assert_eq!(kind("COPY t2 TO STDOUT"), Kind::Copy { from_client: false });
}

#[test]
fn what_the_operator_lets_pass_is_not_run_twice() {
    let catalog = catalog().with_functions(["rdf"], []);
    let facts = Classifier::new(1).classify("SELECT rdf()", &catalog, &mut Scratch::default());
    assert_eq!((facts.class, facts.rerun_safe), (Class::Read, false));
}

#[test]
fn views_in_a_circle_end() {
    let row = |name: &str, query: &str| ["view", "public", name, query].map(|cell| Some(cell.to_owned()));
    let rows = [row("a", "SELECT * FROM b, b AS c"), row("b", "SELECT * FROM a, a AS c")];
    let catalog = Catalog::from_rows(rows).expect("rows of the right shape");
    let facts = Classifier::new(1).classify("SELECT * FROM a", &catalog, &mut Scratch::default());
    assert_eq!(facts.class, Class::Unknown);
}

#[test]
fn rows_that_are_none_are_refused() {
    let row = |kind: &str| vec![Some(kind.to_owned()), Some(String::new()), Some("x".to_owned()), Some(String::new())];
    assert_eq!(Catalog::from_rows([row("table"), row("chair")]).map(|_| ()).map_err(|bad| bad.row), Err(1));
    assert_eq!(Catalog::from_rows([row("function")]).map(|_| ()).map_err(|bad| bad.row), Err(0));
    assert_eq!(Catalog::from_rows([vec![Some("table".to_owned()), None]]).map(|_| ()).map_err(|bad| bad.row), Err(0));
}

#[test]
fn ranges_split_a_message() {
    let text = "SET highwater.report = on; /* é */ SELECT 'a;b' ;DELETE FROM t2;";
    let facts = facts(text);
    let parts: Vec<_> = facts.parts(text).map(|(statement, text)| (statement.class, text.trim())).collect();
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[0], (Class::Read, "SET highwater.report = on"));
    assert_eq!(parts[1], (Class::Read, "SELECT 'a;b'"));
    assert_eq!(parts[2], (Class::Write, "DELETE FROM t2"));
    let other = "SELECT 'longer than the text that was classified first'";
    let classifier = Classifier::new(10);
    classifier.classify("SELECT 'x'", &Catalog::empty(), &mut Scratch::default());
    let facts = classifier.classify(other, &Catalog::empty(), &mut Scratch::default());
    assert_eq!(facts.parts(other).map(|(_, text)| text).collect::<Vec<_>>(), [other]);
}

#[test]
fn tables_are_those_of_the_text() {
    let facts = facts("WITH x AS (SELECT 1) SELECT * FROM x, calm JOIN other.t3 ON true JOIN calm c ON true");
    let names: Vec<String> = facts.tables.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["calm", "other.t3"]);
    assert!(
        facts.tables[1].matches("t3") && facts.tables[1].matches("other.t3") && !facts.tables[1].matches("public.t3")
    );
    assert!(facts.tables[0].matches("public.calm"));
}

#[test]
fn settings_of_ours_keep_their_values() {
    let set = |name: &str, value: Value, local| {
        vec![Kind::Setting(Setting::Set { name: format!("highwater.{name}"), value, local })]
    };
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(kinds("SET highwater.session = 'o''b'"), set("session", text("o'b"), false));
    assert_eq!(kinds("set Highwater.Session TO \"X\""), set("session", text("X"), false));
    assert_eq!(kinds("SET SESSION highwater.max_lag = 2.5"), set("max_lag", text("2.5"), false));
    assert_eq!(kinds("SET LOCAL highwater.report TO on"), set("report", text("on"), true));
    assert_eq!(kinds("SET \"highwater.report\" TO DEFAULT"), set("report", Value::Default, false));
    assert_eq!(kinds("RESET highwater.token"), [Kind::Setting(Setting::Reset { name: "highwater.token".into() })]);
    assert_eq!(kinds("SHOW highwater.token"), [Kind::Setting(Setting::Show { name: "highwater.token".into() })]);
    let facts = facts("SET highwater.session = 'x'");
    assert_eq!((facts.class, facts.pin), (Class::Read, None));
}

#[test]
fn settings_of_ours_are_never_mistaken_for_each_other() {
    let (classifier, catalog, mut scratch) = (Classifier::new(100), catalog(), Scratch::default());
    let mut kind = |text: &str| classifier.classify(text, &catalog, &mut scratch).statements[0].kind.clone();
    for (a, b) in [
        ("SET highwater.session = 'a'", "SET highwater.session = 'b'"),
        ("SELECT set_config('highwater.session', 'a', false)", "SELECT set_config('highwater.session', 'b', false)"),
        ("SELECT set_config('highwater.session', 'a', false)", "SELECT set_config('work_mem', 'a', false)"),
        (
            "SELECT \"set_config\"('highwater.session', 'a', 'on')",
            "SELECT \"set_config\"('highwater.session', 'a', 'off')",
        ),
        ("SELECT current_setting('highwater.token')", "SELECT current_setting('work_mem')"),
        ("SELECT set_config($1, $2, false)", "SELECT set_config($2, $1, false)"),
    ] {
        assert_ne!(kind(a), kind(b), "{a}");
    }
}

#[test]
fn set_config_may_bring_its_name_later() {
    let config = |name, value, local, column: &str| {
        vec![Kind::Setting(Setting::SetConfig { name, value, local, column: column.to_owned() })]
    };
    let ours = || Value::Text("highwater.token".to_owned());
    assert_eq!(
        kinds("SELECT set_config('highwater.token', $1, true)"),
        config(ours(), Value::Param(1), Flag::Known(true), "set_config")
    );
    assert_eq!(
        kinds("SELECT pg_catalog.set_config('highwater.token', $1::text, $2) AS said"),
        config(ours(), Value::Param(1), Flag::Param(2), "said")
    );
    assert_eq!(
        kinds("SELECT set_config('highwater.token', NULL, 'f')"),
        config(ours(), Value::Null, Flag::Known(false), "set_config")
    );
    assert_eq!(
        kinds("SELECT set_config($1, $2, $3)"),
        config(Value::Param(1), Value::Param(2), Flag::Param(3), "set_config")
    );
    let facts = facts("SELECT set_config($1, $2, $3)");
    assert_eq!((facts.class, facts.pin), (Class::Primary, None));
    assert_eq!(*facts.touches, [Touch::Set(Value::Param(1))]);
    for text in [
        "SELECT set_config('highwater.token', 'x', false) FROM t2",
        "SELECT set_config('highwater.token', 'x', false), 1",
        "SELECT set_config('highwater.token', 'x', false) WHERE false",
        "SELECT other.set_config('highwater.token', 'x', false)",
        "SELECT DISTINCT set_config('highwater.token', 'x', false)",
        "SELECT upper('highwater.token')",
    ] {
        assert_eq!(kinds(text), [Kind::Plain], "{text}");
    }
    assert_eq!(
        kinds("SELECT current_setting('highwater.token', true)"),
        [Kind::Setting(Setting::CurrentSetting { name: "highwater.token".into(), column: "current_setting".into() })]
    );
}

#[test]
fn transaction_control_says_its_modes() {
    let begin = |read_only, isolation, deferrable| {
        vec![Kind::Transaction(TransactionControl::Begin { starts: false, read_only, isolation, deferrable })]
    };
    assert_eq!(kinds("BEGIN"), begin(None, None, None));
    let starts = TransactionControl::Begin { starts: true, read_only: Some(true), isolation: None, deferrable: None };
    assert_eq!(kinds("START TRANSACTION READ ONLY"), [Kind::Transaction(starts)]);
    assert_eq!(kinds("BEGIN READ WRITE"), begin(Some(false), None, None));
    assert_eq!(
        kinds("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"),
        begin(Some(true), Some(Isolation::Serializable), Some(true))
    );
    assert_eq!(
        kinds("BEGIN; COMMIT AND CHAIN; ROLLBACK; SAVEPOINT a; ROLLBACK TO a; RELEASE a; PREPARE TRANSACTION 'x'"),
        [
            TransactionControl::Begin { starts: false, read_only: None, isolation: None, deferrable: None },
            TransactionControl::Commit { chain: true },
            TransactionControl::Rollback { chain: false },
            TransactionControl::Savepoint("a".into()),
            TransactionControl::RollbackTo("a".into()),
            TransactionControl::Release("a".into()),
            TransactionControl::TwoPhase,
        ]
        .map(Kind::Transaction)
    );
    let isolation = Some(Isolation::ReadCommitted);
    assert_eq!(
        kinds("SET TRANSACTION ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE"),
        [Kind::Transaction(TransactionControl::SetTransaction { read_only: None, isolation, deferrable: Some(false) })]
    );
}

#[test]
fn other_kinds_are_told_apart() {
    assert_eq!(kinds("COPY t2 FROM STDIN"), [Kind::Copy { from_client: true }]);
    assert_eq!(kinds("COPY t2 TO STDOUT"), [Kind::Copy { from_client: false }]);
    assert_eq!(kinds("COPY t2 FROM '/some/file'"), [Kind::Plain]);
    assert_eq!(kinds("DECLARE c CURSOR WITH HOLD FOR SELECT 1"), [Kind::Declare { held: true }]);
    assert_eq!(kinds("DECLARE c NO SCROLL CURSOR FOR SELECT 1"), [Kind::Declare { held: false }]);
    assert_eq!(
        kinds("FETCH c; CLOSE c; CLOSE ALL"),
        [Kind::Fetch, Kind::CloseCursor { all: false }, Kind::CloseCursor { all: true }]
    );
    assert_eq!(
        kinds("UNLISTEN a; UNLISTEN *; SELECT pg_advisory_unlock_all(); SELECT pg_advisory_unlock_all() FROM t2"),
        [Kind::Unlisten { all: false }, Kind::Unlisten { all: true }, Kind::UnlockAll, Kind::Plain]
    );
    let signal = |terminate, pid, column: &str| vec![Kind::Signal { terminate, pid, column: column.into() }];
    assert_eq!(kinds("SELECT pg_backend_pid() AS me"), [Kind::BackendPid { column: "me".into() }]);
    assert_eq!(
        kinds("SELECT pg_terminate_backend(9000001)"),
        signal(true, Value::Text("9000001".into()), "pg_terminate_backend")
    );
    assert_eq!(kinds("SELECT pg_cancel_backend($1::int)"), signal(false, Value::Param(1), "pg_cancel_backend"));
    for text in
        ["SELECT pg_backend_pid() + 1", "SELECT pg_cancel_backend(id) FROM t2", "SELECT pg_backend_pid() FROM t2"]
    {
        assert_eq!(kinds(text), [Kind::Plain], "{text}");
    }
    assert_eq!(
        kinds("DROP DATABASE x; CREATE DATABASE y; CREATE DATABASE y TEMPLATE \"X\"; ALTER DATABASE z RENAME TO w"),
        ["x", "template1", "X", "z"].map(|name| Kind::EmptiesDatabase(name.into()))
    );
    assert_eq!(
        kinds("ALTER ROLE r SET work_mem = 1; ALTER DATABASE d RESET ALL"),
        [Kind::AltersDefaults, Kind::AltersDefaults]
    );
    assert_eq!(
        kinds("DISCARD ALL; DISCARD PLANS; DEALLOCATE x; DEALLOCATE ALL"),
        [
            Kind::Discard { all: true },
            Kind::Discard { all: false },
            Kind::Deallocate { all: false },
            Kind::Deallocate { all: true }
        ]
    );
}

#[test]
fn settings_that_outlast_the_transaction_are_named() {
    let set = |name: &str| Touch::Set(Value::Text(name.into()));
    for (text, touches) in [
        ("SET work_mem = '1MB'", vec![set("work_mem")]),
        ("SET SESSION Search_Path TO a, \"B\"", vec![set("search_path")]),
        ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", vec![set("timezone")]),
        (
            "SET NAMES 'LATIN1'; SET SCHEMA 'x'; SET app.\"User\" = 1",
            vec![set("client_encoding"), set("search_path"), set("app.user")],
        ),
        ("SET ROLE x", vec![set("role")]),
        ("SET SESSION AUTHORIZATION x", vec![set("session_authorization"), set("role")]),
        ("RESET SESSION AUTHORIZATION", vec![set("session_authorization"), set("role")]),
        ("RESET work_mem", vec![Touch::Reset("work_mem".into())]),
        ("SET work_mem TO DEFAULT", vec![Touch::Reset("work_mem".into())]),
        ("RESET ALL", vec![Touch::ResetAll]),
        ("DISCARD ALL", vec![Touch::ResetAll]),
        ("DISCARD PLANS", vec![]),
        ("SELECT set_config('Work_Mem', '1MB', false), set_config('a.b', $1, $2)", vec![set("work_mem"), set("a.b")]),
        ("SELECT set_config('work_mem', NULL, false)", vec![Touch::Reset("work_mem".into())]),
        ("SELECT set_config($2, '1MB', false)", vec![Touch::Set(Value::Param(2))]),
        ("SELECT v FROM t2 WHERE set_config('a.b', v, false) = 'x'", vec![set("a.b")]),
        ("SET LOCAL work_mem = '1MB'", vec![]),
        ("SELECT set_config('work_mem', '1MB', true)", vec![]),
        ("SET transaction_read_only = on; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", vec![]),
        ("EXPLAIN SELECT set_config('work_mem', '1MB', false)", vec![]),
        ("SELECT set_tenant(1)", vec![set("app.tenant"), set("search_path")]),
        ("INSERT INTO audited VALUES (1)", vec![set("app.actor")]),
    ] {
        assert_eq!(*facts(text).touches, *touches, "{text}");
    }
    assert_eq!(
        facts("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").touches.len(),
        3,
        "isolation, read only, deferrable"
    );
}

#[test]
fn what_hangs_on_its_transaction_is_told() {
    for text in [
        "SELECT now()",
        "SELECT id FROM t2 WHERE CURRENT_DATE > '2020-01-01'",
        "SELECT LOCALTIMESTAMP(3)",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH c",
        "CLOSE ALL",
        "SELECT steady()",
        "SELEC 1",
        "SELECT id FROM aged",
    ] {
        assert!(facts(text).hangs_on_transaction, "{text}");
    }
    for text in
        ["SELECT id FROM t2", "SELECT lower(v), CURRENT_USER FROM calmer", "SAVEPOINT a", "SET LOCAL work_mem = 1"]
    {
        assert!(!facts(text).hangs_on_transaction, "{text}");
    }
}

#[test]
fn what_only_changes_settings_is_told_apart() {
    for text in [
        "SET work_mem = '1MB'",
        "SET LOCAL work_mem = '1MB'",
        "RESET work_mem",
        "SELECT set_config('work_mem', '1MB', false)",
        "SELECT set_config('a.b', $1, true), set_config('c.d', 'x', false) AS two",
    ] {
        assert_eq!(kinds(text), [Kind::ServerSetting], "{text}");
    }
    assert_eq!(kinds("RESET ALL"), [Kind::ResetAll]);
    for text in [
        "SELECT set_config('a.b', 'x', false) FROM t2",
        "SELECT set_config('a.b', v, false)",
        "SELECT set_config('a.b', 'x', false), 1",
        "SELECT set_config('a.b', (SELECT v FROM t2), false)",
    ] {
        assert_eq!(kinds(text), [Kind::Plain], "{text}");
    }
}

#[test]
fn blocks_leave_what_the_server_is_asked_for_unless_they_set_something() {
    let pin = |text| facts(text).pin;
    assert_eq!(pin("DO $$ BEGIN CREATE TEMP TABLE x (i int); END $$"), Some(Pin::TemporaryTable));
    assert_eq!(pin("DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$"), Some(Pin::Function));
    assert_eq!(pin("SELECT locking()"), Some(Pin::TemporaryTable));
    assert_eq!(pin("SELECT dark()"), Some(Pin::Function));
    let (classifier, catalog, mut scratch) = (Classifier::new(10), catalog(), Scratch::default());
    let mut of = |text| classifier.classify(text, &catalog, &mut scratch).pin;
    assert_eq!(of("DO 'BEGIN NULL; END'"), Some(Pin::TemporaryTable));
    assert_eq!(of("DO 'BEGIN RESET ALL; END'"), Some(Pin::Function), "the code is no literal that can be folded");
}

#[test]
fn depth_ends_in_not_understood_and_not_in_a_crash() {
    let nested =
        |open: &str, core: &str, close: &str| format!("SELECT {}{core}{}", open.repeat(20_000), close.repeat(20_000));
    let (classifier, catalog, mut scratch) = (Classifier::new(10), catalog(), Scratch::default());
    for text in [
        nested("(", "1", ")"),
        nested("1 + (", "1", ")"),
        nested("ARRAY[", "1", "]"),
        nested("NOT ", "true", ""),
        nested("(SELECT ", "1", ")"),
        format!("SELECT 1{}", " + 1".repeat(100_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(20_000)),
        nested("/*", "1", "*/"),
    ] {
        let facts = classifier.classify(&text, &catalog, &mut scratch);
        assert!(facts.class == Class::Unknown || facts.why.name() == "plain_read", "{}: {:?}", &text[..40], facts.why);
    }
    assert_eq!(facts("SELECT 1\0; DELETE FROM t2").class, Class::Unknown);
}
