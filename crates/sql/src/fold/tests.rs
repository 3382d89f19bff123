//! The laws of the key, held against the grammar's own scanner.

use std::collections::HashMap;

use pg_query::protobuf::Token;

use super::{EXACT_KEY, HEAD, Scratch};

/// The key of `text`, and whether literals were folded in it.
fn key(text: &str) -> (Vec<u8>, bool) {
    let key = Scratch::default().fold(text, 7).to_vec();
    let folded = key[HEAD - 1] != EXACT_KEY;
    (key, folded)
}

#[track_caller]
fn same(texts: &[&str]) {
    for text in texts {
        assert!(key(text).1, "its own key: {text}");
        assert_eq!(key(text), key(texts[0]), "{text}");
    }
}

#[track_caller]
fn different(texts: &[&str]) {
    for (at, text) in texts.iter().enumerate() {
        texts[..at].iter().for_each(|other| assert_ne!(key(text), key(other), "{text} / {other}"));
    }
}

#[test]
fn literals_comments_and_blanks_fold() {
    same(&[
        "SELECT 1 FROM t WHERE a = 'x'",
        "select 22\n from T where A = 'it''s'  ",
        "SELECT 1.5e-3 FROM t -- ' comment\n WHERE a = E'it\\'s'".replace("E'", "'").replace("\\'", "''").as_str(),
        "SELECT 0x1F /* nested /* ; */ ' */ FROM t WHERE a = $q$it's; $$ -- $q$",
        "SELECT .5 FROM t WHERE a = 'one'\n  -- still one\n 'string';",
        "SELECT 1_000 FROM t WHERE a = $$$$ ; -- end",
    ]);
    same(&["SELECT E'a\\'b'", "SELECT e'\\\\'", "SELECT E'a'\n'\\'; DELETE FROM t --'"]);
    same(&[
        "SELECT a FROM t WHERE b IN (1)",
        "SELECT a FROM t WHERE b IN (1, -2,\n3)",
        "SELECT a FROM t WHERE b in ($1, $22)",
    ]);
    same(&["INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (1,'a'), (2, 'b'),( -3, 'c' )"]);
    same(&["INSERT INTO t VALUES ($1, $2)", "INSERT INTO t VALUES ($1,$2),($3,$4)"]);
}

#[test]
fn what_means_something_else_stays_different() {
    different(&[
        "SELECT 'a' 'b'",
        "SELECT 'a'\n'b'",
        "SELECT 'a''b', 1",
        "SELECT 'a', 'b'",
        "SELECT 'a' /* x */ \n 'b', 1",
    ]);
    different(&["SELECT a.b", "SELECT a .b", "SELECT \"A\"", "SELECT A", "SELECT \"a\"\"b\"", "SELECT \"a\" \"b\""]);
    different(&["SELECT 1 - -1", "SELECT 1 --1", "SELECT 1 + 1", "SELECT 1 -1 +1"]);
    different(&["SELECT $1", "SELECT 1", "SELECT '1'", "SELECT $1a", "SELECT 1a", "SELECT a1"]);
    different(&[
        "SELECT a FROM t WHERE b IN (1, c)",
        "SELECT a FROM t WHERE b IN (1)",
        "SELECT a FROM t WHERE b IN (1, c, 2)",
    ]);
    different(&["SELECT f(1)", "SELECT f(1, 2)", "SELECT f(1), (1)", "SELECT f((1))", "SELECT f((1), (1))"]);
    different(&["SELECT ?1", "SELECT ?", "SELECT 1"]);
    different(&["SELECT x FROM t LIMIT 1", "SELECT x FROM t LIMIT 1 OFFSET 1", "SELECT x FROM t LIMIT ALL"]);
}

#[test]
fn what_cannot_be_folded_is_its_own_key() {
    for text in [
        "SELECT 1; SELECT 2",
        "SET highwater.session = 'a'",
        "SELECT SET_CONFIG('a', 'b', false)",
        "SELECT \"Set_Config\"('a', 'b', false)",
        "SHOW \"highwater.token\"",
        "COPY t FROM ''",
        "SELECT * FROM U&\"d!0061t\" UESCAPE '!'",
        "SELECT * FROM U&\"d\\0061t\"",
        "SELECT 'open",
        "SELECT $x$open$$",
        "SELECT \"open",
        "SELECT 1 /* open /* */",
        "SELECT \u{1}",
        "SELECT $",
    ] {
        assert!(!key(text).1, "{text}");
    }
    assert!(key("SELECT 1 ;\n-- the end").1);
    assert!(key("SELECT /* highwater.session='a' */ 'highwater.token'").1);
    assert_ne!(Scratch::default().fold("SELECT 1", 1), Scratch::default().fold("SELECT 1", 2));
}

/// Marsaglia's xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Pieces that are literals, or begin, end or look like one.
const PIECES: &[&str] = &[
    "'", "'", "''", "E'", "e'\\'", "\\", "\\'", "B'01'", "X'1f'", "N'n'", "U&'", "U&\"", "u", "&", "\"", "\"\"", "$$",
    "$a$", "$A$", "$", "$1", "$22", "1", "0", ".", "..", ".5", "1e5", "e", "E+", "0x1F", "0b", "1_0", "_", "--", "-",
    "/", "*", "/*", "*/", "\n", " ", "\t", "\r", "a", "A", "b", "in", "IN", " IN (", "(", ")", ",", "(1,2)", "('x')",
    ",(1,2)", ";", "::", "?", "@", "[", "]", "=", "é", "values",
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    String,
    Number,
    Parameter,
    Other(String),
}

/// The tokens of PostgreSQL's own scanner, literals without their values.
fn tokens(text: &str) -> Option<Vec<Piece>> {
    let scanned = pg_query::scan(text).ok()?;
    let mut tokens = Vec::new();
    for token in scanned.tokens {
        let source = &text[token.start as usize..token.end as usize];
        tokens.push(match Token::try_from(token.token).ok()? {
            Token::SqlComment | Token::CComment => continue,
            Token::Iconst | Token::Fconst => Piece::Number,
            Token::Param => Piece::Parameter,
            // The scanner takes a prefix for part of the string; it says what kind of string.
            Token::Sconst | Token::Bconst | Token::Xconst | Token::Usconst => Piece::String,
            _ if source.starts_with('"') => Piece::Other(source.to_owned()),
            _ => Piece::Other(source.to_ascii_lowercase()),
        });
    }
    while tokens.last() == Some(&Piece::Other(";".into())) {
        tokens.pop();
    }
    Some(collapse(tokens))
}

/// Collapses lists and rows of literals in a list of tokens, as the key does in bytes.
fn collapse(tokens: Vec<Piece>) -> Vec<Piece> {
    let is = |piece: &Piece, text: &str| *piece == Piece::Other(text.into());
    let mut out: Vec<Piece> = Vec::new();
    for piece in tokens {
        let first = matches!(out.last(), Some(last) if is(last, "-"))
            && out.len() > 1
            && (is(&out[out.len() - 2], "(") || is(&out[out.len() - 2], ","));
        if first && piece == Piece::Number && plain_since(&out[..out.len() - 1]).is_some() {
            out.pop();
        }
        let closes = is(&piece, ")");
        let start = plain_since(&out);
        out.push(piece);
        if let (true, Some(start)) = (closes, start) {
            let row = out[start..].to_vec();
            if row.len() > 2 && start > 0 && is(&out[start - 1], "in") {
                out.truncate(start + 1);
                out.extend([Piece::Other("list".into()), Piece::Other(")".into())]);
            } else if row.len() > 2 && start > row.len() + 1 && is(&out[start - 1], ",") {
                let first = start - 1 - row.len();
                if out[first..start - 1] == row && is(&out[first - 1], "values") {
                    out.truncate(start - 1);
                }
            }
        }
    }
    out
}

/// Where the open parenthesis stands that has only literals and commas behind it.
fn plain_since(tokens: &[Piece]) -> Option<usize> {
    let start = tokens.iter().rposition(|piece| matches!(piece, Piece::Other(text) if text != ","))?;
    (tokens[start] == Piece::Other("(".into())).then_some(start)
}

#[test]
fn one_key_means_one_row_of_tokens() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut seen: HashMap<Vec<u8>, (String, Vec<Piece>)> = HashMap::new();
    let (mut shared, mut folded_texts) = (0, 0);
    for _ in 0..300_000 {
        let length = 1 + dice.below(9);
        let text: String = (0..length).map(|_| dice.one(PIECES)).collect();
        let (key, folded) = key(&text);
        let Some(tokens) = tokens(&text).filter(|_| folded) else { continue };
        folded_texts += 1;
        match seen.get(&key) {
            Some((other, known)) => {
                shared += usize::from(*other != text);
                assert_eq!(*known, tokens, "{text:?} and {other:?} share a key");
            }
            None => {
                seen.insert(key, (text, tokens));
            }
        }
    }
    assert!(shared > 10_000 && folded_texts > 50_000, "the generator is too tame: {shared} of {folded_texts}");
}

#[test]
fn dressing_a_statement_differently_keeps_its_key() {
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let blank = |dice: &mut Dice| dice.one(&[" ", "\n", "\t ", " /* a ' ; -- */ ", "/* /* */ */ ", " -- it's\n", "  "]);
    for _ in 0..20_000 {
        let words: Vec<usize> = (0..3 + dice.below(12)).map(|_| dice.below(9)).collect();
        let dress = |dice: &mut Dice| {
            let mut text = String::from("x");
            for word in &words {
                text += blank(dice);
                // What would continue a string must not follow it.
                text += if matches!(word, 0 | 6) { "= " } else { "" };
                text += match word {
                    0 => dice.one(&["'a'", "''", "'''; DELETE FROM t; --'", "$$'$$", "$x$ $$ $x$", "'a'\n'b'", "'\\'"]),
                    1 => dice.one(&["1", "12.5", "1e9", ".5", "0xff", "7.", "1_000"]),
                    2 => dice.one(&["$1", "$23"]),
                    3 => dice.one(&["SELECT", "select", "Select"]),
                    4 => dice.one(&["IN (1)", "in ('a', 'b')", "In( $1 ,-3 )"]),
                    5 => "\"Quoted \"\"Name\"\"\"",
                    6 => dice.one(&["E'a'", "e'\\''", "E'\\\\'"]),
                    7 => dice.one(&["||", "||"]),
                    _ => dice.one(&["VALUES (1, 'a')", "values (2,'b'),( 3 , 'c')"]),
                };
            }
            text
        };
        let (one, other) = (dress(&mut dice), dress(&mut dice));
        assert!(key(&one).1, "its own key: {one}");
        assert_eq!(key(&one), key(&other), "{one}\n/\n{other}");
    }
}
