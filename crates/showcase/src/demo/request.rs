//! A request of a web application to its database: a new connection, one statement, the end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use anyhow::{Context, Result};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Config, Connection, Error, NoTls, SimpleQueryMessage, Socket};

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The first row; NULL is `None`.
    pub(crate) row: Vec<Option<i64>>,
    /// The position that the proxy reported, where it was asked to.
    pub(crate) token: Option<String>,
}

/// Connects, runs `sql` as Django's driver does (one message, values inlined), reads the answer and leaves.
pub(crate) async fn request(config: &Config, sql: &str) -> Result<Answer> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let answer = drive(&mut connection, client.simple_query(sql)).await?;
    let token = connection.parameter("highwater.token").map(str::to_owned);
    drop(client);
    connection.await?;
    Ok(Answer { row: first_row(&answer)?, token })
}

/// Moves the connection's bytes while `work` waits for them. No task of its own: afterwards we want to ask the
/// connection for what the server reported, which only its owner can.
async fn drive<T>(
    connection: &mut Connection<Socket, NoTlsStream>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut work = pin!(work);
    poll_fn(|context| {
        loop {
            match connection.poll_message(context) {
                Poll::Ready(Some(Ok(_notice))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) | Poll::Pending => return work.as_mut().poll(context),
            }
        }
    })
    .await
}

fn first_row(answer: &[SimpleQueryMessage]) -> Result<Vec<Option<i64>>> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let Some(row) = row else { return Ok(Vec::new()) };
    let value = |index| row.get(index).map(str::parse).transpose().context("not a number");
    (0..row.len()).map(value).collect()
}
