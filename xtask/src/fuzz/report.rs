//! What a run of a target says at its end, and the table of all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

/// One target's run.
pub(super) struct Row {
    target: String,
    inputs: u64,
    elapsed: Duration,
    /// Edges of the code that were reached, as the fuzzer counts them.
    coverage: u64,
    memory_mb: u64,
    /// Inputs to replay.
    pub(super) findings: Vec<PathBuf>,
}

/// Reads the log of a run. Fails if the fuzzer ended badly and left nothing to replay.
pub(super) fn read(target: &str, succeeded: bool, elapsed: Duration, log: &Path, findings: &Path) -> Result<Row> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let findings: Vec<PathBuf> = fs::read_dir(findings)?.flatten().map(|entry| entry.path()).collect();
    if !succeeded && findings.is_empty() {
        bail!("{target} ended badly; see {}", log.display());
    }
    let stat = |name: &str| last_number(&text, &format!("stat::{name}:"));
    Ok(Row {
        target: target.to_owned(),
        inputs: stat("number_of_executed_units"),
        elapsed,
        coverage: last_number(&text, "cov:"),
        memory_mb: stat("peak_rss_mb"),
        findings,
    })
}

/// The number behind the last `name` of a text; 0 if there is none.
fn last_number(text: &str, name: &str) -> u64 {
    let behind = text.rfind(name).map_or("", |at| &text[at + name.len()..]);
    behind.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

pub(super) const HEAD: &str = "target        inputs  seconds  inputs/s  coverage  peak MB  findings";

pub(super) fn line(row: &Row) -> String {
    let seconds = row.elapsed.as_secs_f64();
    let rate = row.inputs as f64 / seconds.max(0.001);
    let Row { target, inputs, coverage, memory_mb, findings, .. } = row;
    format!(
        "{target:<10}  {inputs:>8}  {seconds:>7.0}  {rate:>8.0}  {coverage:>8}  {memory_mb:>7}  {:>8}",
        findings.len()
    )
}

/// The command that runs a finding again.
pub(super) fn replay(target: &str, finding: &Path) -> String {
    format!("cargo xtask fuzz {target} --replay {}", finding.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts() {
        let text = "#1 cov: 5 ft: 6\n#9 cov: 12 ft: 13\nstat::peak_rss_mb:              27\n";
        assert_eq!((last_number(text, "cov:"), last_number(text, "stat::peak_rss_mb:")), (12, 27));
        assert_eq!(last_number(text, "stat::other:"), 0);
    }

    #[test]
    fn columns_stand_below_their_names() {
        let row = Row {
            target: "frame".to_owned(),
            inputs: 10_000_000,
            elapsed: Duration::from_secs(100),
            coverage: 7,
            memory_mb: 30,
            findings: vec![],
        };
        assert_eq!(line(&row), "frame       10000000      100    100000         7       30         0");
        assert_eq!(line(&row).len(), HEAD.len());
    }
}
