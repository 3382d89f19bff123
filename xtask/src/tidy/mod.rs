//! What no compiler checks: who may import whom, sizes, words, links.
//!
//! Each check looks at the project's files and returns its complaints, a line each; none changes anything.

mod arrows;
mod links;
mod words;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs::output;

/// A file of the project that is text.
struct File {
    /// From the project's folder.
    path: String,
    text: String,
}

/// Runs all checks and fails if any complains.
pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let mut complaints = arrows::between_crates()?;
    complaints.extend(arrows::below_runtime()?);
    complaints.extend(arrows::between_modules(&files));
    complaints.extend(words::check(&files));
    complaints.extend(links::check(&files));
    for complaint in &complaints {
        println!("{complaint}");
    }
    match complaints.len() {
        0 => println!("tidy: {} files, nothing to complain about", files.len()),
        count => bail!("tidy: {count} complaints"),
    }
    Ok(())
}

/// All files that are, or could be, in the repository, except for those that are not text.
fn files() -> Result<Vec<File>> {
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let paths = output(Command::new("git").args(listing))?;
    // A file that was removed may still be in git's index.
    let paths = paths.split_terminator('\0').filter(|path| PathBuf::from(path).is_file());
    let read = |path: &str| {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {path}"))?;
        Ok(String::from_utf8(bytes).ok().map(|text| File { path: path.to_owned(), text }))
    };
    paths.filter_map(|path| read(path).transpose()).collect()
}
