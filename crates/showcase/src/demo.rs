//! The demo: three stories of stale reads, played four ways by many users at once on a real cluster whose standbys are
//! late, and judged by what is in the rows.
//!
//! The stories. *Wishlist*: I save an item, am redirected, and my list lacks it. *Badge*: a message arrives, one page
//! counts it, the next does not. *Login*: the session row is written, the next request does not find it, and the user
//! is logged out. Every request is a new connection, as with Django's `CONN_MAX_AGE = 0`.

mod judge;
mod report;
mod request;
mod shop;
mod stage;
mod visitor;

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use self::shop::Way;
use self::stage::Stage;

/// How the demo is played.
#[derive(Args)]
pub(crate) struct DemoOptions {
    /// Leave the cluster and the proxy running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// How long the shop is open in all four ways together, in seconds; the whole takes about 40 more
    #[arg(long, default_value_t = 46, value_parser = clap::value_parser!(u64).range(20..=3600))]
    seconds: u64,
    /// The same as --seconds 300
    #[arg(long, conflicts_with = "seconds")]
    long: bool,
    /// A setting of Highwater, key=value; `consistency=eventual` makes it break its promise, and the demo fail
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// Plays the demo, prints what was found, and tells whether Highwater kept its promise and the counts suffice.
///
/// # Errors
///
/// When something could not be played at all.
pub(crate) fn run(options: &DemoOptions) -> Result<bool> {
    let time = Duration::from_secs(if options.long { 300 } else { options.seconds });
    let stage = Stage::set(&options.settings)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut played = Vec::new();
    for way in Way::ALL {
        let outcome = runtime.block_on(stage.play(way, time.mul_f64(way.share_of_time())))?;
        println!("  {}: {}", way.letter(), report::line(&outcome));
        played.push((way, outcome));
    }
    println!("\n{}\n{}", report::table(&played), report::CAPTION);
    let complaints = report::complaints(&played);
    complaints.iter().for_each(|complaint| println!("FAILED: {complaint}"));
    if complaints.is_empty() {
        println!("PASSED: nobody was shown the past through Highwater.");
    }
    println!("\n{}", stage.how_to_look_around(options.keep));
    if options.keep {
        runtime.block_on(tokio::signal::ctrl_c())?;
    }
    Ok(complaints.is_empty())
}
