//! What a finished unit means: for the transaction, for prepared statements, and for the server connection it ran on.

use highwater_core::{Level, Role};
use highwater_wire::TransactionStatus;

use super::checkout::Checkout;
use super::exchange::Answer;
use super::plan::Plan;
use super::standbys::may_have_committed;
use super::{Client, Transaction, Trouble};
use crate::error::End;
use crate::pool::Statements;

impl Client {
    /// The unit is done: what it changed here, what it means for the session, and whether the connection stays.
    pub(super) async fn finish(&mut self, mut checkout: Checkout, plan: &Plan, answer: &Answer) -> Result<(), Trouble> {
        let status = checkout.status();
        let measured = self.reports() && self.measure(&mut checkout, status, answer).await;
        if !measured {
            self.saw(checkout.server(), answer.mark).map_err(End::OutcomeUnknown)?;
            // Measured soon, so that it normally is before the next read arrives.
            if checkout.role() == Role::Primary && self.level(plan) == Level::Session {
                self.proxy.kick(checkout.id());
            }
        }
        if plan.names_statements {
            let mut messages = Vec::new();
            self.statements.out_of_own_names(&mut messages);
            checkout.server().connection.answer(&messages).await.map_err(End::ServerLost)?;
        }
        let was_open = self.transaction != Transaction::Idle;
        let showing = self.standbys_wanted(plan);
        let showing = showing.filter(|_| may_have_committed(plan, checkout.role(), status, answer, was_open));
        self.follow_transaction(plan, checkout.role(), status, answer);
        self.follow_statements(&mut checkout, answer);
        self.follow_state(&mut checkout, plan, answer, was_open).await?;
        // The client thinks that the pipeline goes on: after an error it must be skipped up to the client's own Sync.
        self.skipping |= plan.ends_flushed && answer.failed;
        if answer.asker.is_gone() && !self.has_sent_more() {
            // Whoever asked is gone; an open transaction goes with him, as it does in PostgreSQL.
            self.held = Some(checkout);
            return Err(End::Closed.into());
        }
        self.keep_or_release(checkout);
        if answer.hold_ready {
            if let Some(showing) = showing {
                self.wait_for_standbys(showing).await;
            }
            self.report(status).await;
        }
        Ok(())
    }

    /// The server connection stays with the client in a transaction, or as long as it is pinned.
    pub(super) fn keep_or_release(&mut self, checkout: Checkout) {
        if checkout.status() != TransactionStatus::Idle || self.is_pinned() {
            self.held = Some(checkout);
        } else {
            checkout.release(false);
        }
    }

    fn follow_transaction(&mut self, plan: &Plan, role: Role, status: TransactionStatus, answer: &Answer) {
        let was_open = !matches!(self.transaction, Transaction::Idle);
        if status == TransactionStatus::Idle {
            self.transaction = Transaction::Idle;
            if was_open {
                self.on_transaction_end(answer.committed == Some(true));
            }
        } else if !matches!(self.transaction, Transaction::Open | Transaction::Leading { .. }) {
            self.settings.on_begin();
            let before = std::mem::replace(&mut self.transaction, Transaction::Open);
            if let (Transaction::Lazy { begin, leads: true, .. }, Role::Standby) = (before, role) {
                self.transaction = Transaction::Leading { begin };
            }
        }
        let ended = answer.committed.filter(|_| status != TransactionStatus::Idle && was_open && plan.ends);
        if let Some(committed) = ended.filter(|_| !answer.failed) {
            // By COMMIT AND CHAIN, say: another transaction has begun behind it.
            self.on_transaction_end(committed);
            self.settings.on_begin();
        }
        self.led(plan, answer.failed);
        if !answer.failed {
            for control in &plan.savepoints {
                self.settings.on_savepoint(control);
                self.follow_session_key(true);
            }
        }
        if plan.alters_defaults {
            self.proxy.pools.all().iter().for_each(|pool| pool.retire());
        }
        self.catalog_changed |= plan.changes_catalog;
        if status == TransactionStatus::Idle && self.catalog_changed {
            self.catalog_changed = false;
            self.database.forget_catalog();
        }
    }

    /// The server has dropped its prepared statements, and so the client's.
    fn follow_statements(&mut self, checkout: &mut Checkout, answer: &Answer) {
        if answer.statements_dropped {
            checkout.server().statements = Statements::default();
            self.statements.close_all();
            self.statements.unnamed.facts = None;
        }
    }
}
