//! `highwater run` and `highwater check`: configuration from file and flags, logs, the runtime, signals.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{Auth, Config, ServerConfig};

/// What `run` and `check` take.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// A TOML file with settings; flags come on top.
    #[arg(long)]
    config: Option<PathBuf>,
    /// A server, `[NAME=]postgres://user:password@host:port/database`; once for each. Roles are discovered.
    #[arg(long = "server", value_name = "URL")]
    servers: Vec<String>,
    /// Where clients connect: `address:port` or `unix:/directory`; may be given several times.
    #[arg(long)]
    listen: Vec<String>,
    /// How clients prove who they are.
    #[arg(long, value_enum)]
    auth: Option<AuthArgument>,
    /// Any other setting, `key=value`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// How logs look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AuthArgument {
    Scram,
    Cert,
    Trust,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Runs the proxy until SIGINT or SIGTERM.
pub(super) fn run(arguments: RunArguments) -> anyhow::Result<()> {
    let format = arguments.log_format;
    let config = arguments.into_config()?;
    start_logging(format);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(config.workers).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut running = crate::start(config).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            () = running.wait() => anyhow::bail!("a task of the proxy ended: this is a bug"),
        }
        tracing::info!("stopping");
        Ok(())
    })
}

/// Reads the configuration and says that it is good.
pub(super) fn check(arguments: RunArguments) -> anyhow::Result<()> {
    let config = arguments.into_config()?;
    crate::start::check_files(&config)?;
    println!("the configuration is good: {} servers", config.servers.len());
    Ok(())
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_env("HIGHWATER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let logs = logs.with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}

impl RunArguments {
    pub(super) fn into_config(self) -> anyhow::Result<Config> {
        let mut table = match &self.config {
            Some(path) => {
                // Read once as it is, so that complaints carry its lines.
                Config::from_file(path)?;
                std::fs::read_to_string(path)?.parse::<toml::Table>()?
            }
            None => toml::Table::new(),
        };
        for setting in &self.settings {
            let (key, value) = setting.split_once('=').with_context(|| format!("--set {setting}: not key=value"))?;
            table.insert(key.trim().to_owned(), value_of(value));
            check_table(&table).with_context(|| format!("--set {setting}"))?;
        }
        if !self.listen.is_empty() {
            table.insert("listen".into(), toml::Value::Array(self.listen.iter().cloned().map(Into::into).collect()));
            check_table(&table).context("--listen")?;
        }
        let mut config = check_table(&table)?;
        if let Some(auth) = self.auth {
            config.auth = match auth {
                AuthArgument::Scram => Auth::Scram,
                AuthArgument::Cert => Auth::Cert,
                AuthArgument::Trust => Auth::Trust,
                AuthArgument::Reject => Auth::Reject,
            };
        }
        for server in &self.servers {
            config.servers.push(server_of(server).with_context(|| format!("--server {}", without_password(server)))?);
        }
        let file = self.config.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
        config.complete().context(file)
    }
}

fn check_table(table: &toml::Table) -> anyhow::Result<Config> {
    table.clone().try_into::<Config>().map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))
}

/// A flag's value as TOML would have it: a number, a boolean, or else text.
fn value_of(text: &str) -> toml::Value {
    let number = text.parse::<i64>().map(toml::Value::Integer);
    number.or_else(|_| text.parse::<bool>().map(toml::Value::Boolean)).unwrap_or_else(|_| text.into())
}

fn server_of(text: &str) -> anyhow::Result<ServerConfig> {
    let (name, url) = match text.split_once('=') {
        Some((name, url)) if url.starts_with("postgres") && !name.contains(':') => (name, url),
        _ => ("", text),
    };
    Ok(ServerConfig { name: name.to_owned(), url: url.parse()? })
}

fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 < at => format!("{}...{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}
