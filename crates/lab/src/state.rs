//! What a cluster's folder says about itself, for those who come later: the file `lab.json`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

const FILE: &str = "lab.json";

/// The content of the file. Everything else is in PostgreSQL's own files.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct State {
    /// The folder with PostgreSQL's programs.
    pub(crate) bin: PathBuf,
    /// All servers, the one that began as primary first.
    pub(crate) servers: Vec<ServerState>,
}

/// One server's name, and where it is reached: at 127.0.0.1 unless somebody has moved it into a network of its own and
/// says so here.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ServerState {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl State {
    /// Reads the state of the cluster in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(folder.join(FILE))
            .with_context(|| format!("there is no lab in {}", folder.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {FILE} in {}", folder.display()))
    }

    /// Writes the state into `folder`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(folder.join(FILE), text + "\n").with_context(|| format!("cannot write {FILE}"))
    }
}
