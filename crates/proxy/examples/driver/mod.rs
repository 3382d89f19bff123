//! A driver for the tests as a program: one connection, statements as lines of JSON in, answers as lines of JSON out.
//!
//! ```text
//! in   {"sql": "SELECT $1::int", "params": [7]}     without "params": the simple protocol
//! out  {"rows": [[7]], "notices": []}               or {"error": {"sqlstate", "message", "detail"}, "notices": []}
//! ```

use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the server has told aside, as `SQLSTATE message`.
pub(crate) type Notices = Arc<Mutex<Vec<String>>>;

/// One driver.
pub(crate) trait Driver: Sized {
    /// Connects; an error is `{"sqlstate", "message", "detail"}`.
    async fn connect(target: &Value, notices: &Notices) -> Result<Self, Value>;

    /// Runs statements by the simple protocol.
    async fn run(&mut self, sql: &str) -> Result<(), Value>;

    /// Runs one statement as the driver prepares it.
    async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Value>, Value>;
}

/// Serves one connection until the input ends.
pub(crate) async fn serve<D: Driver>() {
    let mut lines = std::io::stdin().lock().lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let notices = Notices::default();
    let mut driver = match D::connect(&lines.next().unwrap(), &notices).await {
        Ok(driver) => driver,
        Err(error) => return answer(Err(error), &notices),
    };
    answer(Ok(vec![]), &notices);
    for asked in lines {
        let sql = asked["sql"].as_str().unwrap();
        let done = match asked["params"].as_array() {
            Some(params) => driver.query(sql, params).await,
            None => driver.run(sql).await.map(|()| vec![]),
        };
        answer(done, &notices);
    }
}

fn answer(done: Result<Vec<Value>, Value>, notices: &Notices) {
    let notices = std::mem::take(&mut *notices.lock().unwrap());
    let told = match done {
        Ok(rows) => json!({ "rows": rows, "notices": notices }),
        Err(error) => json!({ "error": error, "notices": notices }),
    };
    println!("{told}");
    std::io::stdout().flush().unwrap();
}
