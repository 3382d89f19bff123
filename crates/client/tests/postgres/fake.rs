//! A server that speaks just enough of PostgreSQL's protocol to be Highwater for tokio-postgres, and does what a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use highwater_client::postgres::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::{Config, NoTls};

/// How a statement that is not a setting ends.
#[derive(Clone)]
pub(crate) enum End {
    /// The connection has come to this position, which is empty where it has to be asked for, by this route.
    At(&'static str, &'static str),
    /// An error, and nothing else.
    Fatal,
    /// No answer.
    Silence,
}

/// What all connections of a server share.
#[derive(Default)]
pub(crate) struct Script {
    /// The ends of the next statements.
    pub(crate) ends: VecDeque<End>,
    /// What `SHOW highwater.token` says.
    pub(crate) shown: &'static str,
    /// Whether the next settings are refused.
    pub(crate) refuses: bool,
    /// All settings and questions, a message each.
    heard: Vec<String>,
}

/// A server, on a port of its own choice.
pub(crate) struct Server {
    pub(crate) script: Arc<Mutex<Script>>,
    port: u16,
}

impl Server {
    pub(crate) async fn start(reports: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, script) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Script>>::default());
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // It writes in pieces, none of which is to wait for an acknowledgement.
                stream.set_nodelay(true).unwrap();
                tokio::spawn(Talk { stream, script: Arc::clone(&shared), reports, token: "", route: "" }.serve());
            }
        });
        Self { script, port }
    }

    pub(crate) async fn connect(&self) -> Connection {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("app");
        Connection::connect(&config, NoTls, "default").await.unwrap()
    }

    /// The ends of the next statements.
    pub(crate) fn plan(&self, ends: &[End]) {
        self.script.lock().unwrap().ends.extend(ends.iter().cloned());
    }

    /// What has been said since this was asked last.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.script.lock().unwrap().heard)
    }
}

struct Talk {
    stream: TcpStream,
    script: Arc<Mutex<Script>>,
    reports: bool,
    token: &'static str,
    route: &'static str,
}

impl Talk {
    async fn serve(mut self) -> Option<()> {
        let length = self.stream.read_u32().await.ok()?;
        self.body(length).await?;
        self.send(&[message(b'R', &[0; 4]), message(b'Z', b"I")]).await?;
        loop {
            let kind = self.stream.read_u8().await.ok()?;
            let length = self.stream.read_u32().await.ok()?;
            let body = self.body(length).await?;
            match kind {
                b'Q' => self.on_query(text(&body)).await?,
                b'P' => self.send(&[message(b'1', b"")]).await?,
                b'D' => self.send(&[message(b't', &[0; 2]), message(b'n', b"")]).await?,
                b'B' => self.send(&[message(b'2', b"")]).await?,
                b'C' => self.send(&[message(b'3', b"")]).await?,
                b'E' => self.on_statement().await?,
                b'S' => self.on_end().await?,
                _ => return None,
            }
        }
    }

    async fn body(&mut self, length: u32) -> Option<Vec<u8>> {
        let mut body = vec![0; length as usize - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    async fn on_query(&mut self, text: String) -> Option<()> {
        let is_setting = ["SET highwater.", "SHOW highwater.", "ROLLBACK"].iter().any(|start| text.starts_with(start));
        if !is_setting {
            self.on_statement().await?;
            return self.on_end().await;
        }
        let (shown, refuses) = {
            let mut script = self.script.lock().unwrap();
            script.heard.push(text.clone());
            (script.shown, std::mem::take(&mut script.refuses))
        };
        if text.contains("highwater.session") {
            self.token = "";
        }
        if refuses {
            self.send(&[error("ERROR")]).await?;
        } else if text.starts_with("SHOW") {
            let row = [&[0, 1, 0, 0, 0, shown.len() as u8], shown.as_bytes()].concat();
            let column = [b"\0\x01token\0".as_slice(), &[0; 18]].concat();
            self.send(&[message(b'T', &column), message(b'D', &row), message(b'C', b"SHOW\0")]).await?;
        } else {
            self.send(&vec![message(b'C', b"SET\0"); text.split(';').count()]).await?;
        }
        self.on_end().await
    }

    /// `None` ends the connection.
    async fn on_statement(&mut self) -> Option<()> {
        let end = self.script.lock().unwrap().ends.pop_front().expect("the test says how it ends");
        match end {
            End::At(token, route) => (self.token, self.route) = (token, route),
            End::Fatal => {
                self.send(&[error("FATAL")]).await?;
                return None;
            }
            End::Silence => std::future::pending().await,
        }
        self.send(&[message(b'C', b"INSERT 0 1\0")]).await
    }

    async fn on_end(&mut self) -> Option<()> {
        if self.reports {
            let pairs = [("highwater.token", self.token), ("highwater.last_route", self.route)];
            let reports = pairs.map(|(name, value)| message(b'S', format!("{name}\0{value}\0").as_bytes()));
            self.send(&reports).await?;
        }
        self.send(&[message(b'Z', b"I")]).await
    }

    async fn send(&mut self, messages: &[Vec<u8>]) -> Option<()> {
        self.stream.write_all(&messages.concat()).await.ok()
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], length.to_be_bytes().as_slice(), body].concat()
}

fn error(severity: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C08007\0Mas the test says\0\0").as_bytes())
}

fn text(body: &[u8]) -> String {
    String::from_utf8(body.strip_suffix(b"\0").unwrap().to_vec()).unwrap()
}
