//! `highwater doctor`: what the servers' real settings mean for what Highwater promises. `facts` asks them, `findings`
//! judges without asking anybody.

mod facts;
mod findings;

use crate::config::Config;

pub(crate) use self::findings::{Finding, Severity};

/// Asks every server, all at once, and judges; the worst comes first.
pub(crate) async fn examine(config: &Config) -> Vec<Finding> {
    let servers = facts::gather(config).await;
    findings::examine(&servers, &facts::Terms::of(config))
}
