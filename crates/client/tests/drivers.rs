//! What the crate asks of drivers, on a real server: how they carry out an errand, and whether they know of a transaction.

use std::error::Error;

use diesel::{Connection as _, PgConnection, QueryResult};
use highwater_client::any::{Blocking, Driver, Errand};
use highwater_lab::{Cluster, ClusterOptions};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection as SqlxConnection;

const ALL: Errand<'_> = Errand {
    first: Some("SET my.word = 'x'; SET my.other = 'y'"),
    question: Some("SHOW my.word"),
    last: Some("SET my.word = 'z'"),
};
const REST: Errand<'_> = Errand { first: None, question: Some("SHOW my.word"), last: None };
const SILENT: Errand<'_> = Errand { first: None, question: None, last: Some("SET my.word = 'w'") };
const UNKNOWN: Errand<'_> = Errand { first: None, question: Some("SELECT NULL::text"), last: None };
const WRONG: Errand<'_> = Errand { first: Some("SET work_mem = 'much'"), question: Some("SHOW my.word"), last: None };

fn cluster() -> Result<Cluster, Box<dyn Error>> {
    Ok(Cluster::start(ClusterOptions { durable: false, ..ClusterOptions::default() })?)
}

#[test]
fn diesel_carries_out_errands_and_knows_of_its_transactions() -> Result<(), Box<dyn Error>> {
    let cluster = cluster()?;
    let mut connection = PgConnection::establish(&cluster.primary().url("postgres", "postgres"))?;
    let answers: QueryResult<Vec<String>> =
        [ALL, REST, SILENT, REST, UNKNOWN].into_iter().map(|errand| connection.carry_out(errand)).collect();
    assert_eq!(answers?, ["x", "z", "", "w", ""]);
    assert!(connection.carry_out(WRONG).is_err());
    assert!(!connection.is_in_transaction());
    connection.transaction(|connection| {
        assert!(connection.is_in_transaction());
        QueryResult::Ok(())
    })?;
    assert!(!connection.is_in_transaction());
    Ok(())
}

#[tokio::test]
async fn sqlx_carries_out_errands_and_knows_of_its_transactions() -> Result<(), Box<dyn Error>> {
    let cluster = cluster()?;
    let mut connection = SqlxConnection::connect(&cluster.primary().url("postgres", "postgres")).await?;
    let mut answers = Vec::new();
    for errand in [ALL, REST, SILENT, REST, UNKNOWN] {
        answers.push((&mut connection).carry_out(errand).await?);
    }
    assert_eq!(answers, ["x", "z", "", "w", ""]);
    assert!((&mut connection).carry_out(WRONG).await.is_err());
    assert!(!Driver::is_in_transaction(&mut &mut connection));
    let mut transaction = connection.begin().await?;
    assert!(Driver::is_in_transaction(&mut &mut *transaction));
    transaction.commit().await?;
    assert!(!Driver::is_in_transaction(&mut &mut connection));
    Ok(())
}
