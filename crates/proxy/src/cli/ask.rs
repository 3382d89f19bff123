//! Commands that ask a running proxy through its console.

use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::config::ServerUrl;
use crate::net::KeepAlive;
use crate::server::{Connection, Endpoint, Login, Rows, Secret};

const LIMIT: Duration = Duration::from_secs(5);

/// Where the console is.
#[derive(Debug, Args)]
struct Console {
    /// The running proxy's console, as an administrator.
    #[arg(long, env = "HIGHWATER_CONSOLE", default_value = "postgres://postgres@127.0.0.1:6432/highwater")]
    console: String,
}

/// `highwater explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    console: Console,
    /// The database whose catalogue counts.
    #[arg(long)]
    database: Option<String>,
    /// The statement, or several.
    sql: String,
}

/// `highwater status`.
#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    console: Console,
}

pub(super) fn explain(arguments: ExplainArguments) -> anyhow::Result<()> {
    let database = arguments.database.map_or_else(String::new, |name| format!("{name} "));
    arguments.console.show(&[format!("EXPLAIN {database}{}", arguments.sql)])
}

pub(super) fn status(arguments: &StatusArguments) -> anyhow::Result<()> {
    arguments.console.show(&["SHOW VERSION", "SHOW SERVERS", "SHOW ROUTES", "SHOW STATS"].map(str::to_owned))
}

impl Console {
    /// Prints the answers to the console's commands.
    fn show(&self, commands: &[String]) -> anyhow::Result<()> {
        let url: ServerUrl = self.console.parse().context("--console")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let login = Login::new(&url.user, Secret::of(url.password.as_ref()), "highwater", &[]);
            let endpoint = Endpoint::new(&url, KeepAlive::default()).context("--console")?;
            let mut connection =
                Connection::open(&endpoint, &login, LIMIT).await.with_context(|| format!("{}", url.address))?;
            for command in commands {
                print(connection.query(command).await?);
            }
            Ok(())
        })
    }
}

fn print(rows: Rows) {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(rows.columns());
    for row in rows.into_inner() {
        table.add_row(row.into_iter().map(Option::unwrap_or_default));
    }
    println!("{table}");
}
