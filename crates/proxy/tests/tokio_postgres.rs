//! What only tokio-postgres' own interface can do, on a real cluster: prepared statements, statements sent at once,
//! transactions, cancelling. The scenarios that every driver plays stand in `e2e`. Replay is paused where a blind proxy
//! would show the past, so that it would do so on every run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use highwater_lab::{Cluster, ClusterOptions, Server};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

const PATIENCE: Duration = Duration::from_secs(20);
const READ: &str = "SELECT v FROM counter WHERE id = $1";
const WRITE: &str = "UPDATE counter SET v = $2 WHERE id = $1";

/// One cluster for all scenarios: to make it takes longer than they do. Each uses a row of its own.
#[tokio::test(flavor = "multi_thread")]
async fn its_own_interface_works() {
    let cluster = Cluster::start(ClusterOptions::with_standbys(2)).unwrap();
    let schema = "CREATE TABLE counter (id int PRIMARY KEY, v int NOT NULL); GRANT ALL ON counter TO app;
                  INSERT INTO counter SELECT id, 0 FROM generate_series(1, 9) id;";
    cluster.primary().sql("shop", schema).unwrap();
    cluster.settle(PATIENCE).unwrap();
    let proxy = Proxy::start(&cluster);

    a_prepared_statement_follows_its_client(&cluster, &proxy).await;
    statements_sent_at_once_keep_their_order(&cluster, &proxy).await;
    transactions_commit_and_roll_back(&proxy).await;
    cancelling_stops_one_statement_and_not_the_session(&proxy).await;
}

async fn a_prepared_statement_follows_its_client(cluster: &Cluster, proxy: &Proxy) {
    let client = proxy.connect("-c highwater.consistency=session").await;
    let read = client.prepare(READ).await.unwrap();
    let write = client.prepare(WRITE).await.unwrap();
    for value in 1..=3 {
        assert_eq!(client.query_one(&read, &[&4]).await.unwrap().get::<_, i32>(0), 2 * (value - 1));
        let _paused = Paused::these(cluster.standbys());
        client.execute(&write, &[&4, &(2 * value)]).await.unwrap();
        assert_eq!(client.query_one(&read, &[&4]).await.unwrap().get::<_, i32>(0), 2 * value);
        assert_eq!(server(&client).await, "primary");
    }
}

async fn statements_sent_at_once_keep_their_order(cluster: &Cluster, proxy: &Proxy) {
    let client = proxy.connect("-c highwater.consistency=session").await;
    let read = client.prepare(READ).await.unwrap();
    let write = client.prepare(WRITE).await.unwrap();
    let _paused = Paused::these(&cluster.standbys()[1..]);
    for value in 1..=20 {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&5, &value];
        let (written, row) = tokio::join!(client.execute(&write, &values), client.query_one(&read, &[&5]));
        assert_eq!((written.unwrap(), row.unwrap().get::<_, i32>(0)), (1, value));
    }
}

async fn transactions_commit_and_roll_back(proxy: &Proxy) {
    let mut client = proxy.connect("").await;
    let transaction = client.transaction().await.unwrap();
    transaction.execute(WRITE, &[&6, &1]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(read(&client, 6).await, 0);
    let transaction = client.transaction().await.unwrap();
    transaction.execute(WRITE, &[&6, &2]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(read(&client, 6).await, 2);
    let transaction = client.build_transaction().read_only(true).start().await.unwrap();
    let refused = transaction.execute(WRITE, &[&6, &3]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
}

async fn cancelling_stops_one_statement_and_not_the_session(proxy: &Proxy) {
    let client = proxy.connect("").await;
    let token = client.cancel_token();
    let slow = client.query_one("SELECT pg_sleep(60)", &[]);
    tokio::pin!(slow);
    // A request that comes before its statement hits nothing, so it is repeated until the statement ends.
    let cancelled = loop {
        tokio::select! {
            ended = &mut slow => break ended.unwrap_err(),
            () = tokio::time::sleep(Duration::from_millis(50)) => token.cancel_query(NoTls).await.unwrap(),
        }
    };
    assert_eq!(cancelled.code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(read(&client, 7).await, 0);
}

async fn read(client: &Client, id: i32) -> i32 {
    client.query_one(READ, &[&id]).await.unwrap().get(0)
}

async fn show(client: &Client, setting: &str) -> String {
    client.query_one(&format!("SHOW highwater.{setting}"), &[]).await.unwrap().get(0)
}

/// Where the last statement ran.
async fn server(client: &Client) -> String {
    show(client, "last_route").await.split(' ').next().unwrap().to_owned()
}

/// Standbys that show nothing new as long as this lives.
struct Paused<'a>(&'a [Server]);

impl<'a> Paused<'a> {
    fn these(standbys: &'a [Server]) -> Self {
        standbys.iter().for_each(|standby| standby.pause_replay().unwrap());
        Self(standbys)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|standby| standby.resume_replay().unwrap());
    }
}

/// The built program before a cluster, on a port of its own choice.
struct Proxy {
    process: Child,
    port: u16,
}

impl Proxy {
    fn start(cluster: &Cluster) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.args(["run", "--listen", "127.0.0.1:0", "--auth", "trust", "--log-format", "json"]);
        for server in cluster.servers() {
            command.arg("--server").arg(format!("{}={}", server.name(), server.url("highwater", "shop")));
        }
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let port = log.by_ref().find_map(|line| port_in(&line)).expect("the log tells the address");
        log.find(|line| line.contains("\"ready\"")).expect("the log tells when the primary is known");
        // Somebody must read on, or the program would stop at its next words.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, port }
    }

    async fn connect(&self, options: &str) -> Client {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("trusted").dbname("shop").options(options);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The port in a line such as `{... "address":"127.0.0.1:6432" ...}`.
fn port_in(line: &str) -> Option<u16> {
    let (_, address) = line.split_once("\"address\":\"127.0.0.1:")?;
    address.split('"').next()?.parse().ok()
}
