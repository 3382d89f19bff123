//! Reads at the head of a transaction, on a standby (`transaction_reads = standby`): a READ COMMITTED transaction begins
//! where its first plain read may run, and moves to the primary at the first statement that is no plain read.
//!
//! ```text
//!           plain read              anything else, or the standby cannot go on
//!   Lazy -----------------> Leading -------------------------------------------> Open
//!     |                     |  ^  | COMMIT, ROLLBACK                      (on the primary, begun anew)
//!     | anything else       +--+  v
//!     v                savepoints, Idle
//!    Open              settings
//! ```
//!
//! A READ COMMITTED transaction sees a new MVCC snapshot in every statement anyway, so that where its reads run is not to be
//! seen in what they show, as long as none shows less than one before it: that the level of its reads sees to. What hangs on
//! the transaction itself (its time, its id, cursors, locks, temporary objects, functions of users, which may do all of that)
//! is no plain read. Savepoints and settings are carried: done again on the primary, in their order, before the statement.

use highwater_sql::{Class, Facts, Isolation, Kind, TransactionControl};
use highwater_wire::{TransactionStatus, frontend};

use super::plan::Plan;
use super::{Client, Transaction};
use crate::config::TransactionReads;
use crate::server::Failure;

/// What a unit is for a transaction that reads on a standby.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Lead {
    /// It only reads, and what it shows hangs on nothing but the data.
    #[default]
    Plain,
    /// A savepoint or a setting: to be done again on the primary, by this Query.
    Carried(Vec<u8>),
    /// COMMIT or ROLLBACK.
    End,
    /// Only for the primary.
    Other,
}

impl Lead {
    /// Of one message's facts; `query` is the message if it is a simple Query.
    pub(super) fn of(facts: &Facts, query: Option<&[u8]>) -> Self {
        use TransactionControl::{Commit, Release, Rollback, RollbackTo, Savepoint};
        let only = if let [only] = &*facts.statements { Some(&only.kind) } else { None };
        match (only, query) {
            (Some(Kind::Transaction(control)), _) => match control {
                Savepoint(name) => Self::control("SAVEPOINT", name),
                RollbackTo(name) => Self::control("ROLLBACK TO SAVEPOINT", name),
                Release(name) => Self::control("RELEASE SAVEPOINT", name),
                Commit { chain: false } | Rollback { chain: false } => Self::End,
                _ => Self::Other,
            },
            (Some(Kind::ServerSetting | Kind::ResetAll), Some(query)) => Self::Carried(query.to_vec()),
            _ if facts.class > Class::Read || facts.hangs_on_transaction => Self::Other,
            _ if facts.statements.iter().any(|statement| matches!(statement.kind, Kind::Transaction(_))) => Self::Other,
            _ => Self::Plain,
        }
    }

    fn control(command: &str, name: &str) -> Self {
        let mut query = Vec::new();
        frontend::query(&mut query, format!("{command} \"{}\"", name.replace('"', "\"\"")));
        Self::Carried(query)
    }
}

impl Client {
    /// Whether a transaction that begins like this may read on a standby before it writes.
    pub(super) fn may_lead(&self, isolation: Option<Isolation>) -> bool {
        let wish = self.settings.now().transaction_reads.unwrap_or(self.proxy.config.transaction_reads);
        let read_committed = match isolation {
            Some(isolation) => matches!(isolation, Isolation::ReadCommitted | Isolation::ReadUncommitted),
            None => self.state.is_read_committed().unwrap_or_else(|| self.pool.is_read_committed()),
        };
        wish == TransactionReads::Standby && read_committed && !self.primary_only
    }

    /// Before a unit of a transaction that reads on a standby: moves the transaction to the primary if it must go there.
    pub(super) async fn lead_on(&mut self, plan: &Plan) {
        if !matches!(self.transaction, Transaction::Leading { .. }) || self.status() == TransactionStatus::Failed {
            return;
        }
        let stays = match plan.lead {
            // Another connection of the same session may have seen more meanwhile.
            Lead::Plain => self.confirm_held(self.wanted(plan)).await.is_ok(),
            Lead::Carried(_) | Lead::End => true,
            Lead::Other => false,
        };
        if !stays {
            self.leave_standby();
        }
    }

    /// Whether the transaction may still read on a standby and then begin anew.
    pub(super) fn is_leading(&self) -> bool {
        matches!(self.transaction, Transaction::Leading { .. } | Transaction::Lazy { leads: true, .. })
    }

    /// What the proxy itself has done in the transaction is done again on the primary, too.
    pub(super) fn carry(&mut self, sql: &str) {
        if let Transaction::Leading { begin } = &mut self.transaction {
            frontend::query(begin, sql);
        }
    }

    /// What the held server connection says, or its end, if it is one that the transaction can do without: then it does.
    /// Whether that was so.
    pub(super) fn can_do_without(&mut self, said: &Result<(), Failure>) -> bool {
        let Some(checkout) = self.held.as_mut().filter(|_| matches!(self.transaction, Transaction::Leading { .. }))
        else {
            return false;
        };
        let ends = said.is_err() || checkout.server().connection.input.filled().first() == Some(&b'E');
        if ends {
            self.leave_standby();
        }
        ends
    }

    /// The transaction begins anew, where its next statement runs. One that has failed stays so.
    pub(super) fn leave_standby(&mut self) {
        let failed = self.held.as_ref().is_some_and(|checkout| checkout.status() == TransactionStatus::Failed);
        let Transaction::Leading { begin } = &mut self.transaction else { return };
        let begin = std::mem::take(begin);
        self.transaction = match failed {
            true => Transaction::Aborted,
            false => Transaction::Lazy { begin, read_only: false, leads: false },
        };
        self.proxy.stats.transactions_moved.add(1);
        if let Some(checkout) = self.held.take() {
            checkout.release(false);
        }
    }

    /// A unit of a transaction that reads on a standby is done there.
    pub(super) fn led(&mut self, plan: &Plan, failed: bool) {
        if let (Transaction::Leading { begin }, Lead::Carried(query), false) =
            (&mut self.transaction, &plan.lead, failed)
        {
            begin.extend_from_slice(query);
        }
    }
}
