//! Which level holds for a unit, who the session is, and its token: in, out and pushed.

use std::sync::Arc;
use std::time::Duration;

use highwater_core::{Level, Loss, Lsn, Micros, Role, Seq, Session, Token, TokenVerdict};
use highwater_sql::Facts;
use highwater_wire::TransactionStatus;
use highwater_wire::backend::{self, Severity};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::Client;
use super::checkout::Checkout;
use super::encode::{PRIMARY_POSITION, takes_query};
use super::exchange::Answer;
use super::plan::Plan;
use super::settings::{Name, Report, Wishes};
use super::statements::Hinted;
use crate::clock::{micros, unix_seconds};
use crate::config::{Consistency, LostWrites};
use crate::error::{self, Complaint, TokenRefusal};
use crate::text;

/// How long verifying a token, or measuring a session for one, may take: a probe's round trip on a busy server.
const POSITION_LIMIT: Duration = Duration::from_secs(1);

impl Client {
    /// The level that holds for this unit.
    pub(super) fn level(&self, plan: &Plan) -> Level {
        if self.primary_only {
            return Level::Primary;
        }
        let asked = plan.hints.as_ref().and_then(|hints| hints.level).or(self.settings.now().level);
        let names_session = self.session_key.is_some() || self.token_given;
        let default = match self.default_level {
            Level::Primary => Level::Primary,
            _ if names_session => Level::Session,
            other => other,
        };
        let own = asked.unwrap_or(default);
        let level = match plan.tables {
            // Its tables alone decide where the client has not asked; else they only ever make it stricter.
            Some(table) if plan.tables_decide && asked.is_none() => table,
            Some(table) if text::strictness(&table) > text::strictness(&own) => table,
            _ => own,
        };
        self.with_lag(level, plan)
    }

    fn with_lag(&self, level: Level, plan: &Plan) -> Level {
        let Level::Bounded { .. } = level else { return level };
        Level::Bounded { max_lag: self.max_lag(&plan.hints) }
    }

    fn max_lag(&self, hints: &Hinted) -> Micros {
        let hint = hints.as_ref().and_then(|hints| hints.max_lag);
        hint.or(self.settings.now().max_lag).unwrap_or(micros(self.proxy.config.max_lag.0))
    }

    /// What two statements of one pipeline ask for, which run together: what promises more. One without a wish of its own
    /// asks for what holds for the client.
    pub(super) fn hints_of_both(&self, one: Hinted, other: Hinted) -> Hinted {
        if one == other {
            return one;
        }
        let level = |hints: &Hinted| self.level(&Plan { hints: hints.clone(), ..Plan::default() });
        let (of_one, of_other) = (level(&one), level(&other));
        let stricter = if text::strictness(&of_one) >= text::strictness(&of_other) { of_one } else { of_other };
        let max_lag = self.max_lag(&one).min(self.max_lag(&other));
        let [one, other] = [one, other].map(|hints| hints.map_or_else(Wishes::default, |hints| Wishes::clone(&hints)));
        Some(Arc::new(Wishes {
            level: Some(stricter),
            max_lag: Some(max_lag),
            wait_budget: one.wait_budget.or(other.wait_budget),
            standbys: one.standbys.or(other.standbys),
            standbys_timeout: one.standbys_timeout.or(other.standbys_timeout),
            ..Wishes::default()
        }))
    }

    pub(super) fn wait_budget(&self, plan: &Plan) -> Micros {
        let hint = plan.hints.as_ref().and_then(|hints| hints.wait_budget);
        hint.or(self.settings.now().wait_budget).unwrap_or(micros(self.proxy.config.wait_budget.0))
    }

    /// Whether tokens and routes are pushed.
    pub(super) fn reports(&self) -> bool {
        self.settings.now().report.unwrap_or_default() != Report::Off
    }

    /// Makes the session the one that `highwater.session` names now. A switch never carries the old session's past over;
    /// `undone` says that it was a rollback that brought the key back.
    pub(super) fn follow_session_key(&mut self, undone: bool) {
        let wanted = self.settings.now().session.as_deref().filter(|key| !key.is_empty());
        if wanted == self.session_key.as_deref() && (undone || wanted.is_some()) {
            return;
        }
        self.session = match wanted {
            Some(key) => self.proxy.sessions.of(key, &self.proxy.cluster),
            // What the anonymous session before the transaction had seen is not known any more: at most up to now.
            None if undone => Arc::new(Mutex::new(Session::unknown_origin(&mut self.proxy.cluster.lock()))),
            None => Arc::default(),
        };
        self.token_given &= wanted.is_some();
        self.session_key = wanted.map(str::to_owned);
        self.info.view.lock().session = self.session_key.clone().unwrap_or_default();
        if self.reports() {
            // Whoever reads the last token that was pushed must not take another session's for this one's.
            backend::parameter_status(&mut self.out, "highwater.token", "");
        }
    }

    /// Takes a token in. One that cannot be trusted changes nothing and is told as a warning. One of which nobody can say
    /// now whether it is good is an error: without it the session would be shown the past.
    pub(super) async fn take_token(&mut self, text: &str) -> Result<(), Complaint> {
        match self.verified(text).await {
            Ok(token) => {
                let mut session = self.session.lock();
                session.absorb(&self.proxy.cluster.lock(), token.session());
                self.token_given = true;
            }
            Err(TokenRefusal::Unverified) => return Err(Complaint::NoToken(TokenRefusal::Unverified)),
            Err(refusal) => {
                self.proxy.stats.tokens_refused.add(1);
                tracing::warn!(client = self.info.pid, user = self.info.user, "token refused: {refusal}");
                backend::notice_response(&mut self.out, &error::token(refusal).report());
            }
        }
        Ok(())
    }

    /// Waits for a primary as long as a statement would, and then for its answer. A timeline that is not known yet may be
    /// that of a promotion that another process has seen first.
    async fn verified(&self, text: &str) -> Result<Token, TokenRefusal> {
        let token = Token::decode(text.trim()).map_err(|_| TokenRefusal::Unreadable)?;
        let arrived = self.proxy.cluster.lock().next_seq();
        let begun = Instant::now();
        let mut has_primary_since = None;
        loop {
            let facts = self.proxy.facts.notified();
            tokio::pin!(facts);
            facts.as_mut().enable();
            let (verdict, has_primary) = {
                let cluster = self.proxy.cluster.lock();
                (cluster.on_token(&token, arrived), cluster.primary().is_some())
            };
            let refusal = match verdict {
                TokenVerdict::Accept => return Ok(token),
                TokenVerdict::Foreign => return Err(TokenRefusal::Foreign),
                TokenVerdict::AheadOfPrimary => return Err(TokenRefusal::AheadOfPrimary),
                TokenVerdict::UnknownTimeline => TokenRefusal::UnknownTimeline,
                TokenVerdict::NeedsPrimaryProbe => TokenRefusal::Unverified,
            };
            has_primary_since = has_primary.then(|| has_primary_since.unwrap_or_else(Instant::now));
            let end = match has_primary_since {
                Some(since) => since + POSITION_LIMIT,
                None => begun + self.proxy.config.failover_wait.0,
            };
            self.proxy.kick_all();
            timeout_at(end, facts).await.map_err(|_| refusal)?;
        }
    }

    /// Tells the client that something its session wrote or saw is lost, by a warning or an error.
    pub(super) fn tell_loss(&mut self, loss: Loss) -> Result<(), Complaint> {
        match self.proxy.config.lost_writes {
            LostWrites::Warning => {
                self.warn_of_loss(loss);
                Ok(())
            }
            LostWrites::Error => {
                self.on_loss_told(loss);
                Err(Complaint::Lost(loss))
            }
        }
    }

    fn warn_of_loss(&mut self, loss: Loss) {
        self.on_loss_told(loss);
        backend::notice_response(&mut self.out, &error::loss(loss, Severity::Warning).report());
    }

    fn on_loss_told(&self, loss: Loss) {
        self.session.lock().on_told();
        self.proxy.stats.losses.add(1);
        tracing::warn!(
            client = self.info.pid,
            user = self.info.user,
            timeline = loss.branch.timeline.0,
            kept = %loss.kept,
            "what a session wrote or saw may be lost"
        );
    }

    /// The session's token; waits until everything it saw is measured. `None` when that takes too long.
    pub(super) async fn token(&mut self) -> Option<String> {
        let deadline = Instant::now() + POSITION_LIMIT;
        loop {
            let proxy = Arc::clone(&self.proxy);
            let facts = proxy.facts.notified();
            tokio::pin!(facts);
            facts.as_mut().enable();
            if let Some(text) = self.token_now() {
                return Some(text);
            }
            proxy.kick_all();
            timeout_at(deadline, facts).await.ok()?;
        }
    }

    /// The token if nothing is left to be measured; empty for a session that has neither written nor seen anything.
    fn token_now(&mut self) -> Option<String> {
        let loss = {
            let mut session = self.session.lock();
            session.resolve(&self.proxy.cluster.lock());
            session.loss()
        };
        // Behind a statement that has run there is nothing left to fail.
        if let Some(loss) = loss {
            self.warn_of_loss(loss);
        }
        let session = self.session.lock();
        let cluster = self.proxy.cluster.lock();
        if !session.is_resolved() {
            return None;
        }
        Some(session.token(&cluster, unix_seconds()).map_or_else(String::new, |token| token.encode()))
    }

    /// Applies what the operator says of the tables that a message names.
    pub(super) fn apply_table_rules(&self, plan: &mut Plan, facts: &Facts) {
        for table in &facts.tables {
            let rule = self.proxy.config.tables.iter().find(|rule| table.matches(&rule.name));
            match rule.map(|rule| rule.consistency) {
                Some(Consistency(level)) => {
                    let stricter = plan.tables.is_none_or(|now| text::strictness(&level) > text::strictness(&now));
                    plan.tables = if stricter { Some(level) } else { plan.tables };
                }
                None => plan.tables_decide = false,
            }
        }
        plan.tables_decide &= !facts.tables.is_empty();
    }

    /// Where the last statement ran and why, and how long it waited for that.
    pub(super) fn last_route_text(&self) -> String {
        let Some(route) = self.last_route else { return String::new() };
        let detail = self.last_detail.map_or_else(String::new, |detail| detail.to_string());
        route.text(&self.proxy) + &detail
    }

    /// Gives the client its ReadyForQuery, which was kept back; where tokens are pushed, they and the route come before.
    pub(super) async fn report(&mut self, status: TransactionStatus) {
        if self.reports() {
            self.tell_position(status).await;
        }
        backend::ready_for_query(&mut self.out, status);
    }

    async fn tell_position(&mut self, status: TransactionStatus) {
        if takes_query(status) {
            let token = match self.token_now() {
                None if self.settings.now().report == Some(Report::On) => self.token().await,
                known => known,
            };
            backend::parameter_status(&mut self.out, "highwater.token", token.unwrap_or_default());
        }
        let route = self.last_route_text();
        backend::parameter_status(&mut self.out, "highwater.last_route", route);
        // The next statement of a transaction has not waited for it again.
        if let Some(told) = &mut self.last_route {
            told.waited = Micros(0);
        }
    }

    /// Takes the position that was read right behind the unit, or reads it now; whether there was one.
    pub(super) async fn measure(
        &mut self,
        checkout: &mut Checkout,
        status: TransactionStatus,
        answer: &Answer,
    ) -> bool {
        // No client's role may ask a standby of which timeline its position is: the next probe says that.
        if !takes_query(status) || checkout.role() == Role::Standby {
            return false;
        }
        if !answer.position.is_empty() {
            return self.note_position(checkout, answer.asked, &answer.position);
        }
        let asked = self.proxy.cluster.lock().next_seq();
        let position = self.position_apart(checkout).await;
        self.note_position(checkout, asked, &position)
    }

    /// Asks the position in a round trip of its own, for units behind which it could not be asked.
    async fn position_apart(&self, checkout: &mut Checkout) -> Vec<String> {
        let rows = checkout.server().connection.query(PRIMARY_POSITION).await;
        checkout.server().statements.unnamed = 0;
        rows.ok().and_then(|rows| rows.into_inner().pop()).unwrap_or_default().into_iter().flatten().collect()
    }

    fn note_position(&self, checkout: &mut Checkout, asked: Seq, position: &[String]) -> bool {
        let mut lsns = position.iter().map_while(|text| text.parse::<Lsn>().ok());
        let Some(first) = lsns.next() else { return false };
        let Some(flush) = lsns.next() else { return false };
        let facts = checkout.server().facts;
        let mut session = self.session.lock();
        let cluster = self.proxy.cluster.lock();
        if cluster.is_superseded(&facts) {
            return false;
        }
        let Some(at) = cluster.exact_position(&facts, first, flush) else { return false };
        session.on_exact_position(&cluster, at, asked);
        true
    }
}

/// Wishes in the statement's comments.
pub(super) fn hints(text: &str) -> Result<Hinted, Complaint> {
    let Some(hints) = highwater_sql::hints(text) else { return Ok(None) };
    let mut wishes = Wishes::default();
    for (name, value) in hints.iter() {
        let known = Name::parse(name).ok_or_else(|| Complaint::UnknownSetting(name.to_owned()))?;
        if !known.is_for_statements() {
            return Err(Complaint::NotInComments(name.to_owned()));
        }
        wishes.set(known, Some(value)).map_err(|invalid| Complaint::InvalidSetting {
            name: name.to_owned(),
            value: value.to_owned(),
            wanted: invalid.wanted,
        })?;
    }
    Ok(Some(Arc::new(wishes)))
}
