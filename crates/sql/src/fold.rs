//! One pass over a statement's bytes: the key of the cache, with literals folded.
//!
//! It follows the lexical rules of PostgreSQL (manual, "Lexical Structure"; `scan.l`) with
//! `standard_conforming_strings = on`. Comments and white space collapse, unquoted words fold to lower case, strings,
//! numbers and parameters become one marker each, `IN` lists of them and like rows of `VALUES` collapse to one. Every other byte
//! stays, so two texts with one key have the same tokens in the same order, up to the values of literals.
//!
//! Whatever cannot be folded without loss is its own key, byte for byte: several statements (their ranges matter), the
//! proxy's own settings (their values matter), `UESCAPE` (it changes names), `DO` (its code matters), `COPY` (the parse tree
//! does not tell an empty file name from none, and so from the client), text that ends inside a literal.

use std::ops::Range;

use memchr::{memchr, memchr2, memmem};

/// Markers that no token of PostgreSQL contains.
const STRING: u8 = 0;
const NUMBER: u8 = 1;
const PARAMETER: u8 = 2;
const LIST: u8 = 3;
/// Bytes below this one outside literals make a text its own key.
const FIRST_HARMLESS: u8 = 9;

/// Words whose literals matter.
const EXACT_WORDS: [&[u8]; 7] = [
    b"set_config",
    b"current_setting",
    b"uescape",
    b"highwater",
    b"copy",
    b"pg_terminate_backend",
    b"pg_cancel_backend",
];

const FOLDED_KEY: u8 = b'f';
const EXACT_KEY: u8 = b'e';
/// Where the text begins in a key: behind the catalogue's generation and the sort of the key.
const HEAD: usize = 9;

/// Working memory of [`crate::Classifier::classify`], to be kept and reused.
#[derive(Debug, Default)]
pub struct Scratch {
    key: Vec<u8>,
}

impl Scratch {
    /// The key of `text` under one generation of the catalogue.
    pub(crate) fn fold(&mut self, text: &str, generation: u64) -> &[u8] {
        self.key.clear();
        self.key.extend_from_slice(&generation.to_le_bytes());
        self.key.push(FOLDED_KEY);
        if Folder::new(text.as_bytes(), &mut self.key).run().is_none() {
            self.key[HEAD - 1] = EXACT_KEY;
            self.key.truncate(HEAD);
            self.key.extend_from_slice(text.as_bytes());
        }
        &self.key
    }
}

/// The comments of a text, with their delimiters, as far as it can be read.
pub(crate) fn comments(text: &str) -> Vec<Range<usize>> {
    let (mut key, mut comments) = (vec![0; HEAD], Vec::new());
    let mut folder = Folder::new(text.as_bytes(), &mut key);
    folder.comments = Some(&mut comments);
    folder.run();
    comments
}

#[derive(Clone, Copy, PartialEq)]
enum Quoting {
    /// `''` is a quote.
    Plain,
    /// `E''`: so is `\'`.
    Escape,
    /// `B''` and `X''`: nothing is.
    Bits,
}

struct Folder<'a> {
    text: &'a [u8],
    at: usize,
    key: &'a mut Vec<u8>,
    /// White space was skipped and is not in the key yet.
    space: bool,
    /// Where the innermost open parenthesis stands in the key, while there are only literals behind it.
    group: Option<usize>,
    /// That parenthesis follows `IN`.
    in_list: bool,
    /// The last token was `IN`.
    after_in: bool,
    /// Where the first row behind the last `VALUES` stands in the key.
    rows: usize,
    /// Set when comments are wanted: then nothing ends the pass before the text does.
    comments: Option<&'a mut Vec<Range<usize>>>,
}

impl<'a> Folder<'a> {
    fn new(text: &'a [u8], key: &'a mut Vec<u8>) -> Self {
        Self { text, at: 0, key, space: false, group: None, in_list: false, after_in: false, rows: 0, comments: None }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// `None`: the text is its own key.
    fn run(&mut self) -> Option<()> {
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                    self.space = true;
                    self.at += 1;
                }
                b'-' if self.peek(1) == b'-' => self.line_comment(),
                b'/' if self.peek(1) == b'*' => self.block_comment()?,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => self.word()?,
                b'\'' => self.string(Quoting::Plain)?,
                b'"' => self.quoted_name()?,
                b'$' => self.dollar()?,
                b'0'..=b'9' => self.number(),
                b'.' if self.peek(1).is_ascii_digit() => self.number(),
                b'-' if self.negative() => {
                    self.at += 1;
                    self.number();
                }
                b'(' => self.open(),
                b')' => self.close(),
                b',' => self.token(b','),
                b';' => self.semicolon()?,
                ..FIRST_HARMLESS => self.exact()?,
                _ => {
                    self.token(byte);
                    self.group = None;
                }
            }
        }
        Some(())
    }

    /// The text cannot be folded. Whoever wants the comments reads on.
    fn exact(&mut self) -> Option<()> {
        self.comments.as_ref()?;
        self.at += 1;
        Some(())
    }

    /// White space matters between tokens, but not beside those that can be part of no other.
    fn flush(&mut self, next: u8) {
        let alone = |byte: u8| matches!(byte, b'(' | b')' | b',' | b';');
        let last = if self.key.len() > HEAD { self.key.last().copied() } else { None };
        if std::mem::take(&mut self.space) && !alone(next) && last.is_some_and(|last| !alone(last)) {
            self.key.push(b' ');
            self.group = None;
        }
    }

    /// Takes one byte over as it is.
    fn token(&mut self, byte: u8) {
        self.flush(byte);
        self.key.push(byte);
        self.after_in = false;
        self.at += 1;
    }

    /// Puts the marker of a literal that was read.
    fn marker(&mut self, marker: u8) {
        self.flush(marker);
        self.key.push(marker);
        self.after_in = false;
    }

    fn line_comment(&mut self) {
        let start = self.at;
        self.at = memchr2(b'\n', b'\r', &self.text[start..]).map_or(self.text.len(), |length| start + length);
        self.comment(start);
    }

    /// Block comments nest.
    fn block_comment(&mut self) -> Option<()> {
        let (start, mut depth) = (self.at, 0_usize);
        loop {
            let skip = memchr2(b'*', b'/', self.text.get(self.at..)?)?;
            self.at += skip;
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => depth += 1,
                (b'*', b'/') => depth -= 1,
                _ => {
                    self.at += 1;
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                self.comment(start);
                return Some(());
            }
        }
    }

    fn comment(&mut self, start: usize) {
        self.space = true;
        if let Some(comments) = &mut self.comments {
            comments.push(start..self.at);
        }
    }

    /// A word without quotes: folded to lower case as the server does, in ASCII.
    fn word(&mut self) -> Option<()> {
        self.flush(b'a');
        let start = self.key.len();
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|&byte| !is_word(byte)).unwrap_or(rest.len());
        self.key.extend(rest[..length].iter().map(u8::to_ascii_lowercase));
        self.at += length;
        self.group = None;
        self.after_in = false;
        match &self.key[start..] {
            b"in" => self.after_in = true,
            b"values" => self.rows = self.key.len(),
            b"e" if self.peek(0) == b'\'' => return self.string(Quoting::Escape),
            b"n" if self.peek(0) == b'\'' => return self.string(Quoting::Plain),
            b"b" | b"x" if self.peek(0) == b'\'' => return self.string(Quoting::Bits),
            // Escapes in a name: which name it is, only the grammar knows.
            b"u" if self.peek(0) == b'&' && self.peek(1) == b'"' => {
                self.exact()?;
                return self.quoted_name();
            }
            word if EXACT_WORDS.contains(&word) && self.comments.is_none() => return None,
            // The code of a DO block is a literal.
            b"do" if start == HEAD && self.comments.is_none() => return None,
            _ => {}
        }
        Some(())
    }

    /// A name in quotes: as it is, its quotes too.
    fn quoted_name(&mut self) -> Option<()> {
        self.flush(b'"');
        let start = self.at;
        loop {
            self.at += 1;
            self.at += memchr(b'"', self.text.get(self.at..)?)? + 1;
            if self.peek(0) != b'"' {
                break;
            }
        }
        let name = &self.text[start + 1..self.at - 1];
        let ours = name.len() > 9 && name[..10].eq_ignore_ascii_case(b"highwater.");
        if self.comments.is_none() && (ours || EXACT_WORDS.iter().any(|word| name.eq_ignore_ascii_case(word))) {
            return None;
        }
        self.key.extend_from_slice(&self.text[start..self.at]);
        self.group = None;
        self.after_in = false;
        Some(())
    }

    /// A string constant from its quote on, with its continuations.
    fn string(&mut self, quoting: Quoting) -> Option<()> {
        loop {
            self.at += 1;
            self.string_body(quoting)?;
            match self.continuation() {
                Some(quote) => self.at = quote,
                None => break,
            }
        }
        self.marker(STRING);
        Some(())
    }

    /// Ends behind the closing quote.
    fn string_body(&mut self, quoting: Quoting) -> Option<()> {
        loop {
            let rest = self.text.get(self.at..)?;
            let skip = if quoting == Quoting::Escape { memchr2(b'\'', b'\\', rest)? } else { memchr(b'\'', rest)? };
            self.at += skip + 1;
            if rest[skip] == b'\\' || (quoting != Quoting::Bits && self.peek(0) == b'\'') {
                self.at += 1;
            } else {
                return Some(());
            }
        }
    }

    /// Strings with only white space and a line break between them are one string, in the first one's quoting. Block
    /// comments may not stand there (`scan.l`: `quotecontinue`).
    fn continuation(&self) -> Option<usize> {
        let (mut at, mut broken) = (self.at, false);
        loop {
            match self.text.get(at)? {
                b'\n' | b'\r' => broken = true,
                b' ' | b'\t' | 0x0b | 0x0c => {}
                b'-' if self.text.get(at + 1) == Some(&b'-') => {
                    at += memchr2(b'\n', b'\r', &self.text[at..])?;
                    continue;
                }
                b'\'' if broken => return Some(at),
                _ => return None,
            }
            at += 1;
        }
    }

    /// A parameter, a dollar-quoted string, or a byte that no grammar accepts.
    fn dollar(&mut self) -> Option<()> {
        let rest = &self.text[self.at + 1..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            self.at += 1 + digits;
            self.marker(PARAMETER);
            return Some(());
        }
        let tag = rest.iter().take_while(|&&byte| is_word(byte) && byte != b'$').count();
        if rest.get(tag) != Some(&b'$') {
            return self.exact();
        }
        let delimiter = &self.text[self.at..self.at + tag + 2];
        let body = self.at + delimiter.len();
        self.at = body + memmem::find(&self.text[body..], delimiter)? + delimiter.len();
        self.marker(STRING);
        Some(())
    }

    fn digits(&mut self) {
        while self.peek(0).is_ascii_digit() || (self.peek(0) == b'_' && self.peek(1).is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// A number; what follows it without a break is the next token, as it is for the server.
    fn number(&mut self) {
        let radix = matches!(self.peek(1), b'x' | b'X' | b'o' | b'O' | b'b' | b'B');
        if self.peek(0) == b'0' && radix && self.peek(2).is_ascii_hexdigit() {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() || self.peek(0) == b'_' {
                self.at += 1;
            }
        } else {
            self.digits();
            if self.peek(0) == b'.' && self.peek(1) != b'.' {
                self.at += 1;
                self.digits();
            }
            let signed = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + signed).is_ascii_digit() {
                self.at += 1 + signed;
                self.digits();
            }
        }
        self.marker(NUMBER);
    }

    /// A minus that can only be the sign of a number: first in its place of a list of literals.
    fn negative(&self) -> bool {
        self.group.is_some() && matches!(self.key.last(), Some(b'(' | b',')) && self.peek(1).is_ascii_digit()
    }

    fn open(&mut self) {
        let in_list = self.after_in;
        self.token(b'(');
        self.in_list = in_list;
        self.group = Some(self.key.len() - 1);
    }

    /// Collapses a list of literals behind `IN` to one, and the rows behind `VALUES` that are like the first to that one.
    fn close(&mut self) {
        self.token(b')');
        let Some(start) = self.group.take() else { return };
        let (before, row) = self.key.split_at(start);
        if row.len() == 2 {
            return;
        }
        if self.in_list {
            self.key.truncate(start + 1);
            self.key.extend_from_slice(&[LIST, b')']);
        } else if before.get(self.rows..).and_then(|first| first.strip_suffix(b",")) == Some(row) {
            self.key.truncate(start - 1);
        }
    }

    /// The last semicolon changes nothing; one with more behind it means several statements.
    fn semicolon(&mut self) -> Option<()> {
        self.at += 1;
        self.group = None;
        if self.comments.is_some() {
            return Some(());
        }
        loop {
            match self.text.get(self.at) {
                None => return Some(()),
                Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) => self.at += 1,
                Some(b'-') if self.peek(1) == b'-' => self.line_comment(),
                Some(b'/') if self.peek(1) == b'*' => self.block_comment()?,
                Some(_) => return None,
            }
        }
    }
}

/// Bytes of a word after its first.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests;
