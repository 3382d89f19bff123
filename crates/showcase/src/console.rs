//! The admin console of a running `highwater`, read as an operator reads it: by SQL.

use std::collections::HashMap;

use anyhow::{Context, Result};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// A row of the console, by the columns' names.
pub(crate) type Row = HashMap<String, String>;

/// The console of one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Console(Config);

impl Console {
    /// The console of the proxy on this port of the loopback address, as the user of its server URLs.
    pub(crate) fn at(port: u16) -> Self {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user("highwater").dbname("highwater");
        Self(config)
    }

    /// `SHOW what`.
    pub(crate) async fn show(&self, what: &str) -> Result<Vec<Row>> {
        self.ask(&format!("SHOW {what}")).await.with_context(|| format!("the console does not show {what}"))
    }

    /// One figure of `SHOW STATS`.
    pub(crate) async fn figure(&self, name: &str) -> Result<u64> {
        let rows = self.show("STATS").await?;
        let row = rows.iter().find(|row| row.get("name").is_some_and(|found| found == name));
        let value = row.and_then(|row| row.get("value")).with_context(|| format!("SHOW STATS has no {name}"))?;
        Ok(value.parse()?)
    }

    async fn ask(&self, command: &str) -> Result<Vec<Row>> {
        let (client, connection) = self.0.connect(NoTls).await?;
        // It ends with the client.
        let connection = tokio::spawn(connection);
        let answer = client.simple_query(command).await?;
        drop(client);
        connection.await??;
        Ok(answer.iter().filter_map(as_row).collect())
    }
}

fn as_row(message: &SimpleQueryMessage) -> Option<Row> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let value = |index| row.get(index).unwrap_or_default().to_owned();
    Some(row.columns().iter().enumerate().map(|(index, column)| (column.name().to_owned(), value(index))).collect())
}
