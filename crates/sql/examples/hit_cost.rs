//! What a classification costs: `cargo run --release -p highwater-sql --example hit_cost`.

use std::hint::black_box;
use std::time::Instant;

use highwater_sql::{Catalog, Classifier, Scratch, hints};

const ROUNDS: u32 = 2_000_000;

const TEXTS: &[(&str, &str)] = &[
    ("pgbench", "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;"),
    ("prepared", "SELECT abalance FROM pgbench_accounts WHERE aid = $1"),
    (
        "orm",
        "SELECT \"shop_wish\".\"id\", \"shop_wish\".\"owner_id\", \"shop_wish\".\"name\", \"shop_wish\".\"created\" FROM \
         \"shop_wish\" INNER JOIN \"shop_owner\" ON (\"shop_wish\".\"owner_id\" = \"shop_owner\".\"id\") WHERE \
         (\"shop_owner\".\"email\" = 'someone@example.org' AND \"shop_wish\".\"id\" IN (1, 2, 3, 4, 5)) ORDER BY \
         \"shop_wish\".\"created\" DESC LIMIT 21",
    ),
];

fn main() {
    let (classifier, catalog, mut scratch) = (Classifier::new(10_000), Catalog::empty(), Scratch::default());
    for (name, text) in TEXTS {
        let miss = Instant::now();
        black_box(classifier.classify(text, &catalog, &mut scratch));
        let miss = miss.elapsed();
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(classifier.classify(black_box(text), &catalog, &mut scratch));
        }
        let hit = start.elapsed() / ROUNDS;
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(hints(black_box(text)));
        }
        let no_hint = start.elapsed() / ROUNDS;
        println!("{name:10} {:4} bytes: hit {hit:?}, no hint {no_hint:?}, first time {miss:?}", text.len());
    }
}
