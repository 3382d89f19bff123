//! `highwater.wait_for_standbys`: a client goes on when standbys show what it has committed, or is told which do not.
//! Unlike `synchronous_commit = remote_apply` it holds up nobody else, and a standby that is away holds up nobody for ever.

use std::sync::Arc;
use std::time::Duration;

use highwater_core::{Identity, Micros, Role, ServerId, Watermark};
use highwater_sql::Class;
use highwater_wire::TransactionStatus;
use highwater_wire::backend;
use tokio::time::{Instant, timeout_at};

use super::Client;
use super::exchange::Answer;
use super::plan::Plan;
use super::settings::Standbys;
use crate::clock::{micros, now};
use crate::error::{self, Late};
use crate::gate::Traffic;
use crate::limits::Waits;
use crate::shared::Proxy;

/// How many standbys are to show a commit, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Showing {
    standbys: Standbys,
    limit: Micros,
}

impl Client {
    /// How many standbys are to show what the unit commits. Asked before it runs: a commit ends what SET LOCAL has said.
    pub(super) fn standbys_wanted(&self, plan: &Plan) -> Option<Showing> {
        let (hints, now) = (plan.hints.as_ref(), self.settings.now());
        let standbys = hints.and_then(|hints| hints.standbys).or(now.standbys).unwrap_or_default();
        let limit = hints.and_then(|hints| hints.standbys_timeout).or(now.standbys_timeout);
        let limit = limit.unwrap_or(micros(self.proxy.config.standbys_timeout.0));
        (standbys != Standbys::default()).then_some(Showing { standbys, limit })
    }

    /// Waits, behind a unit that may have committed something on the primary, until as many standbys show it as were wanted;
    /// a warning says which do not. The unit has succeeded in any case.
    pub(super) async fn wait_for_standbys(&mut self, Showing { standbys, limit }: Showing) {
        let proxy = Arc::clone(&self.proxy);
        let (committed, branch) = {
            let mut cluster = proxy.cluster.lock();
            (cluster.next_seq(), cluster.branch())
        };
        let deadline = Instant::now() + Duration::from_micros(limit.0);
        let _waits = Waits::new(&proxy.waiting);
        loop {
            let facts = proxy.facts.notified();
            tokio::pin!(facts);
            facts.as_mut().enable();
            // After a failover nobody can say whether the new primary has it: the session is told when it goes on.
            let bound = proxy.cluster.lock().bound_after(committed).filter(|bound| Some(bound.branch) == branch);
            let (asked, late) = late(&proxy, bound);
            let shown = asked - late.len();
            let wanted = match standbys {
                Standbys::All => asked,
                Standbys::Count(count) => usize::from(count),
            };
            if bound.is_some() && shown >= wanted {
                return;
            }
            proxy.kick_all();
            if timeout_at(deadline, facts).await.is_err() {
                proxy.stats.standbys_late.add(1);
                return backend::notice_response(&mut self.out, &error::standbys_late(shown, wanted, &late).report());
            }
        }
    }
}

/// Whether the unit may have committed something that standbys are to show.
pub(super) fn may_have_committed(
    plan: &Plan,
    role: Role,
    status: TransactionStatus,
    answer: &Answer,
    in_transaction: bool,
) -> bool {
    role == Role::Primary
        && status == TransactionStatus::Idle
        && !answer.failed
        && answer.committed != Some(false)
        && (in_transaction || plan.class != Class::Read)
}

/// How many standbys there are to show something, without those that the operator has taken out, and which do not show all
/// up to `bound`. One with several names is one.
fn late(proxy: &Proxy, bound: Option<Watermark>) -> (usize, Vec<Late>) {
    let cluster = proxy.cluster.lock();
    let identity = |id: ServerId| cluster.server_view(id, now()).and_then(|view| view.identity);
    let primary = cluster.primary();
    let mut met: Vec<Identity> = primary.and_then(identity).into_iter().collect();
    let (mut asked, mut late) = (0, Vec::new());
    for server in proxy.servers.iter().filter(|server| Some(server.id) != primary) {
        let found = identity(server.id);
        if server.gate.traffic() != Traffic::Open || found.is_some_and(|found| met.contains(&found)) {
            continue;
        }
        met.extend(found);
        asked += 1;
        let missing_bytes = bound.and_then(|bound| cluster.missing_bytes(server.id, bound));
        if missing_bytes != Some(0) {
            late.push(Late { server: server.config.name.clone(), missing_bytes });
        }
    }
    (asked, late)
}
