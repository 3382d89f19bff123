//! sqlx for the driver tests: it keeps the last hundred statements prepared, and closes older ones.
#![allow(clippy::unwrap_used, reason = "the tests see a driver that has ended")]

mod driver;

use serde_json::{Value, json};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgRow, PgSslMode};
use sqlx::{
    Arguments, AssertSqlSafe, Column, ConnectOptions, Connection, Error, Executor, PgConnection, Row, TypeInfo,
};

use driver::{Driver, Notices};

#[tokio::main]
async fn main() {
    driver::serve::<Sqlx>().await;
}

struct Sqlx(PgConnection);

impl Driver for Sqlx {
    async fn connect(target: &Value, _: &Notices) -> Result<Self, Value> {
        let text = |name: &str| target[name].as_str().unwrap();
        let settings = target["settings"].as_object().into_iter().flatten();
        let settings: Vec<_> = settings.map(|(name, value)| (name, value.as_str().unwrap())).collect();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(target["port"].as_u64().unwrap().try_into().unwrap())
            .username(text("user"))
            .password(text("password"))
            .database(text("database"))
            .ssl_mode(PgSslMode::Disable)
            .options(settings)
            .disable_statement_logging();
        PgConnection::connect_with(&options).await.map(Self).map_err(complaint)
    }

    async fn run(&mut self, sql: &str) -> Result<(), Value> {
        self.0.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.map(|_| ()).map_err(complaint)
    }

    async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Value>, Value> {
        let mut arguments = PgArguments::default();
        for param in params {
            match param {
                Value::Number(number) => arguments.add(i32::try_from(number.as_i64().unwrap()).unwrap()).unwrap(),
                other => arguments.add(other.as_str().map(str::to_owned)).unwrap(),
            }
        }
        let query = sqlx::query_with(AssertSqlSafe(sql.to_owned()), arguments);
        Ok(self.0.fetch_all(query).await.map_err(complaint)?.iter().map(values).collect())
    }
}

fn complaint(error: Error) -> Value {
    match error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
        Some(said) => json!({ "sqlstate": said.code(), "message": said.message(), "detail": said.detail() }),
        None => json!({ "sqlstate": "08006", "message": error.to_string(), "detail": null }),
    }
}

fn values(row: &PgRow) -> Value {
    let value = |(place, column): (usize, &sqlx::postgres::PgColumn)| match column.type_info().name() {
        "BOOL" => json!(row.get::<Option<bool>, _>(place)),
        "INT2" => json!(row.get::<Option<i16>, _>(place)),
        "INT4" => json!(row.get::<Option<i32>, _>(place)),
        "INT8" => json!(row.get::<Option<i64>, _>(place)),
        _ => json!(row.get::<Option<String>, _>(place)),
    };
    row.columns().iter().enumerate().map(value).collect()
}
