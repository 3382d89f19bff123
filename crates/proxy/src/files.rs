//! Files that may change while the process runs: what was read last, and reading it again. Knows nothing of contents.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};

/// What some files say. A bad change is logged and the last good content stays.
pub(crate) struct Watched<T> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> anyhow::Result<T> + Send + Sync>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Vec<Stamp>>,
}

/// Tells one content of a file from the next without reading it: time, length and inode of what its links lead to, so
/// that a changed link counts too.
type Stamp = Option<(SystemTime, u64, u64)>;

impl<T> Watched<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let seen = Mutex::new(stamps(&files));
        let current = RwLock::new(Arc::new(load()?));
        Ok(Self { files, load: Box::new(load), current, seen })
    }

    /// The last good content.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    /// Reads the files again if they have changed, or in any case.
    pub(crate) fn refresh(&self, in_any_case: bool) {
        let mut seen = self.seen.lock();
        let now = stamps(&self.files);
        if *seen == now && !in_any_case {
            return;
        }
        // Taken before reading: a change in the middle of it is seen next time.
        *seen = now;
        let files = || self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        match (self.load)() {
            Ok(content) => {
                *self.current.write() = Arc::new(content);
                tracing::info!("read again: {}", files());
            }
            Err(error) => {
                tracing::error!("{} changed and cannot be used, so the old content stays: {error:#}", files())
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let about = std::fs::metadata(file).ok()?;
        Some((about.modified().ok()?, about.len(), about.ino()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_change_keeps_the_old_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("number");
        std::fs::write(&file, "1").expect("written");
        let path = file.clone();
        let load = move || Ok(std::fs::read_to_string(&path)?.parse::<u32>()?);
        let watched = Watched::new(vec![file.clone()], load).expect("a number");
        for (text, expected) in [("22", 22), ("three", 22), ("4444", 4444)] {
            std::fs::write(&file, text).expect("written");
            watched.refresh(false);
            assert_eq!(*watched.current(), expected);
        }
        std::fs::remove_file(&file).expect("removed");
        watched.refresh(false);
        assert_eq!(*watched.current(), 4444);
    }
}
