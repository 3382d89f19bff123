//! Other texts made of a text.

use pg_query::protobuf::Token;

/// The text with other values in its strings and numbers; `None` if it cannot be read.
pub(crate) fn with_other_literals(text: &str, choice: u8) -> Option<String> {
    let choice = usize::from(choice % 4);
    let (mut other, mut end) = (String::new(), 0);
    for token in pg_query::scan(text).ok()?.tokens {
        let range = usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?;
        let value = match Token::try_from(token.token).ok()? {
            Token::Sconst => ["'o''ther'", "''", "E'\\n'", "$q$'; DELETE FROM t2; --$q$"][choice],
            Token::Iconst => ["7", "0", "2147483647", "0x1F"][choice],
            Token::Fconst => ["0.25", "1e5", ".5", "99999999999"][choice],
            _ => text.get(range.clone())?,
        };
        other += text.get(end..range.start)?;
        // A word and a literal without a space between them may join into another word.
        if range.start == end && value.starts_with(is_of_word) && other.ends_with(is_of_word) {
            other.push(' ');
        }
        other += value;
        end = range.end;
    }
    Some(other + text.get(end..)?)
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || "_$.".contains(character)
}

/// Literals, and what begins, ends or looks like one.
const PIECES: &[&str] = &[
    "'", "''", "E'", "e'\\'", "\\", "\\'", "B'01'", "X'1f'", "N'n'", "U&'", "U&\"", "&", "\"", "\"\"", "$$", "$a$",
    "$A$", "$", "$1", "$22", "1", "0", ".", "..", ".5", "1e5", "e", "E+", "0x1F", "0b", "1_0", "_", "--", "-", "/",
    "*", "/*", "*/", "\n", " ", "\t", "\r", "a", "A", "in", " IN (", "(", ")", ",", "(1,2)", "('x')", ",(1,2)", ";",
    "::", "?", "@", "[", "]", "=", "é", "values", "/* ; */", "\u{b}", "\u{c}", "\u{a0}", "not ",
];

/// The text with two small changes, each at a place, of some characters into a piece.
pub(crate) fn edited(text: &str, edits: &mut [u8; 6]) -> String {
    let mut other = text.to_owned();
    for edit in edits.chunks(3) {
        let places: Vec<usize> = other.char_indices().map(|(place, _)| place).chain([other.len()]).collect();
        let from = usize::from(edit[0]) % places.len();
        let to = (from + usize::from(edit[2] % 3)).min(places.len() - 1);
        other.replace_range(places[from]..places[to], PIECES[usize::from(edit[1]) % PIECES.len()]);
    }
    other
}
