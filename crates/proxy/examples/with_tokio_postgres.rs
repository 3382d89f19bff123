//! tokio-postgres for the driver tests.
#![allow(clippy::unwrap_used, reason = "the tests see a driver that has ended")]

mod driver;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, Row};

use driver::{Driver, Notices};

#[tokio::main]
async fn main() {
    driver::serve::<TokioPostgres>().await;
}

struct TokioPostgres(Client);

impl Driver for TokioPostgres {
    async fn connect(target: &Value, notices: &Notices) -> Result<Self, Value> {
        let text = |name: &str| target[name].as_str().unwrap();
        let mut config = Config::new();
        config.host("127.0.0.1").port(target["port"].as_u64().unwrap().try_into().unwrap());
        config.user(text("user")).password(text("password")).dbname(text("database")).options(text("options"));
        let (client, mut connection) = config.connect(NoTls).await.map_err(complaint)?;
        let notices = Arc::clone(notices);
        tokio::spawn(std::future::poll_fn(move |context| {
            loop {
                match std::task::ready!(connection.poll_message(context)) {
                    Some(Ok(AsyncMessage::Notice(notice))) => {
                        notices.lock().unwrap().push(format!("{} {}", notice.code().code(), notice.message()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return std::task::Poll::Ready(()),
                }
            }
        }));
        Ok(Self(client))
    }

    async fn run(&mut self, sql: &str) -> Result<(), Value> {
        self.0.batch_execute(sql).await.map_err(complaint)
    }

    async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Value>, Value> {
        let params: Vec<Param> = params.iter().map(Param).collect();
        let params: Vec<_> = params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        Ok(self.0.query(sql, &params).await.map_err(complaint)?.iter().map(values).collect())
    }
}

fn complaint(error: Error) -> Value {
    match error.as_db_error() {
        Some(said) => json!({ "sqlstate": said.code().code(), "message": said.message(), "detail": said.detail() }),
        None => json!({ "sqlstate": "08006", "message": error.to_string(), "detail": null }),
    }
}

fn values(row: &Row) -> Value {
    let value = |(place, column): (usize, &tokio_postgres::Column)| match *column.type_() {
        Type::BOOL => json!(row.get::<_, Option<bool>>(place)),
        Type::INT2 => json!(row.get::<_, Option<i16>>(place)),
        Type::INT4 => json!(row.get::<_, Option<i32>>(place)),
        Type::INT8 => json!(row.get::<_, Option<i64>>(place)),
        _ => json!(row.get::<_, Option<String>>(place)),
    };
    row.columns().iter().enumerate().map(value).collect()
}

/// A JSON value as whatever type the server wants.
#[derive(Debug)]
struct Param<'a>(&'a Value);

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self.0, ty) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Number(number), &Type::INT8) => number.as_i64().unwrap().to_sql(ty, out),
            (Value::Number(number), &Type::INT4) => i32::try_from(number.as_i64().unwrap())?.to_sql(ty, out),
            (Value::Number(number), _) => number.to_string().to_sql(ty, out),
            (Value::String(text), _) => text.to_sql(ty, out),
            (other, _) => other.to_string().to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
