//! SQL through `psql` over the Unix socket: slow (about 10 ms), and nothing to link.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow};

use crate::installation::successful;

/// Separates fields. ASCII's own unit separator; nobody has it in a value.
const FIELD: char = '\x1f';

/// Runs `text` with a prepared `psql` command and returns the rows of all its statements.
///
/// # Errors
///
/// What `psql` says about the first statement that failed, with SQLSTATE and location.
pub(crate) fn rows(psql: &mut Command, text: &str) -> Result<Vec<Vec<String>>> {
    // No start-up file, unaligned, rows only, quiet, rows ended by a zero byte, statements from standard input: each
    // is then a transaction of its own, as CREATE DATABASE demands.
    psql.args(["-XAtq0", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", "-", "-F", &FIELD.to_string()]);
    let mut child =
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run psql")?;
    let mut stdin = child.stdin.take().context("psql has no standard input")?;
    // Written aside, so that long texts and long answers cannot wait for each other. A psql that stopped reading says
    // why itself.
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(text.as_bytes()));
        child.wait_with_output()
    })?;
    let written = successful("psql", output).map_err(|error| anyhow!("{error}\nin: {text}"))?;
    Ok(parse(&String::from_utf8_lossy(&written)))
}

fn parse(written: &str) -> Vec<Vec<String>> {
    let row = |line: &str| line.split(FIELD).map(str::to_owned).collect();
    written.split_terminator('\0').map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_fields_are_told_apart_even_with_line_ends_and_bars_inside() {
        assert_eq!(parse(""), Vec::<Vec<String>>::new());
        assert_eq!(parse("\0"), [[""]]);
        assert_eq!(parse("a|b\x1f1\0c\nd\x1f\0"), [["a|b", "1"], ["c\nd", ""]]);
    }
}
