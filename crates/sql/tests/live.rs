//! The table of statements against a real primary and a real standby.
//!
//! What is called a read must run on the standby and answer there what the primary answers. The catalogue is the
//! primary's own.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::{Row, SETUP, rows::ROWS};
use highwater_lab::{Cluster, ClusterOptions, Server};
use highwater_sql::{Catalog, Class, Classifier, Scratch};

const PATIENCE: Duration = Duration::from_secs(60);
const DATABASE: &str = "postgres";

fn catalog(primary: &Server) -> Result<Catalog> {
    let rows = primary.sql(DATABASE, Catalog::QUERY)?;
    let rows = rows.into_iter().map(|row| row.into_iter().map(Some).collect::<Vec<_>>());
    Ok(Catalog::from_rows(rows)?)
}

/// Code that changes settings of its connection, and their names; without a name it is a pin.
const STATEFUL: [(&str, &[&str]); 5] = [
    ("SELECT set_tenant(1)", &["app.tenant", "search_path"]),
    ("INSERT INTO audited VALUES (1)", &["app.actor"]),
    ("SELECT calls_set_tenant()", &["app.tenant", "search_path"]),
    ("SELECT locking()", &[]),
    ("SELECT dark()", &[]),
];

#[test]
fn what_is_called_a_read_is_one() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { durable: false, ..ClusterOptions::with_standbys(1) })?;
    let (primary, standby) = (cluster.primary(), &cluster.standbys()[0]);
    primary.sql(DATABASE, SETUP)?;
    cluster.settle(PATIENCE)?;
    let (catalog, classifier, mut scratch) = (catalog(primary)?, Classifier::new(1000), Scratch::default());
    let mut wrong = Vec::new();
    let (mut reads, mut refused, mut cautious) = (0, 0, 0);
    for Row { class, why, pin, sql } in ROWS {
        let facts = classifier.classify(sql, &catalog, &mut scratch);
        if (facts.class, facts.why.name(), facts.pin) != (*class, *why, *pin) {
            wrong.push(format!("{sql}\n   by the live catalogue {:?}: {}", facts.class, facts.why));
        }
        let there = standby.sql(DATABASE, sql);
        if facts.class > Class::Read {
            refused += usize::from(there.is_err());
            cautious += usize::from(there.is_ok());
            continue;
        }
        reads += 1;
        let here = primary.sql(DATABASE, sql);
        match (here, there) {
            (Ok(here), Ok(there)) if here == there => {}
            (here, there) => wrong.push(format!("{sql}\n   primary {here:?}\n   standby {there:?}")),
        }
    }
    for (text, touches) in STATEFUL {
        let facts = classifier.classify(text, &catalog, &mut scratch);
        let names = facts.touches.iter().map(|touch| format!("{touch:?}")).collect::<Vec<_>>().join(" ");
        let named = touches.iter().all(|name| names.contains(name)) && facts.touches.len() == touches.len();
        if !named || facts.pin.is_some() != touches.is_empty() {
            wrong.push(format!("{text}\n   touches {names}, pin {:?}", facts.pin));
        }
    }
    println!("{reads} reads; of the others the standby refused {refused} and ran {cautious}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn the_catalogue_of_any_state_can_be_read() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { durable: false, ..ClusterOptions::default() })?;
    let primary = cluster.primary();
    let fresh = catalog(primary)?;
    assert_eq!(fresh.generation(), catalog(primary)?.generation());
    primary.sql(DATABASE, "CREATE FUNCTION f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'")?;
    let stable = catalog(primary)?;
    primary.sql(DATABASE, "ALTER FUNCTION f() VOLATILE")?;
    let volatile = catalog(primary)?;
    assert!(fresh.generation() != stable.generation() && stable.generation() != volatile.generation());
    let (classifier, mut scratch) = (Classifier::new(10), Scratch::default());
    let class =
        [&fresh, &stable, &volatile].map(|catalog| classifier.classify("SELECT f()", catalog, &mut scratch).class);
    assert_eq!(class, [Class::Write, Class::Read, Class::Write]);
    // A user without rights reads it just as well.
    primary.sql(DATABASE, "SET ROLE app; SELECT count(*) FROM pg_class")?;
    let rows = primary.sql(DATABASE, &format!("SET ROLE app; {}", Catalog::QUERY))?;
    let rows = rows.into_iter().map(|row| row.into_iter().map(Some).collect::<Vec<_>>());
    assert_eq!(Catalog::from_rows(rows)?.generation(), volatile.generation());
    Ok(())
}
