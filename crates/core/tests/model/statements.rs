//! Statements, on the connection that they were given: it leads where it did, wherever its place leads meanwhile.

use crate::world::{Commits, NOW, Pooled, Proxy, World};
use crate::{Mistake, Rules};
use highwater_core::{Branch, Role, Seq, Unit, Watermark};

/// A statement that a connection has been taken for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UnderWay {
    pub(crate) pooled: Pooled,
    pub(crate) unit: Unit,
    must_show: Commits,
}

impl World {
    /// The statement is sent, on the connection that the pool has to this place.
    pub(crate) fn begin(&mut self, unit: Unit, place: usize, must_show: Commits) {
        let pooled = self.proxies[self.home].pool[place].clone();
        self.under_way = Some(UnderWay { pooled, unit, must_show });
    }

    /// A statement that nothing comes between.
    pub(crate) fn run(&mut self, rules: Rules, unit: Unit, place: usize, must_show: Commits) {
        self.begin(unit, place, must_show);
        self.finish(rules);
    }

    /// The statement runs, and its answer arrives; or its connection is dead, and nobody knows what became of it.
    pub(crate) fn finish(&mut self, rules: Rules) {
        let Some(UnderWay { pooled, unit, must_show }) = self.under_way.take() else { return };
        self.left.statements -= 1;
        if !self.is_alive(&pooled) {
            return;
        }
        match unit {
            Unit::Write => self.finish_write(rules, &pooled),
            _ => self.finish_read(rules, &pooled, must_show),
        }
    }

    pub(crate) fn is_alive(&self, pooled: &Pooled) -> bool {
        let real = &self.servers[pooled.server];
        real.is_up && real.run == pooled.run
    }

    fn finish_read(&mut self, rules: Rules, pooled: &Pooled, must_show: Commits) {
        let visible = self.visible(pooled.server);
        if self.is_kept_back(rules, pooled) {
            return;
        }
        let excused = if rules.budget.moves > 0 { self.unheard_of(rules) } else { 0 };
        self.violated |= must_show & !visible & !excused != 0;
        self.seen |= visible;
        let cluster = &mut self.proxies[self.home].cluster;
        // By what the proxy knows: a standby may have been promoted since.
        if pooled.connection.identity.role == Role::Primary {
            self.session.on_primary_finished(cluster);
        } else if rules.made(Mistake::CachedPositionAsWatermark) {
            let cached = cluster.applied(&pooled.connection).unwrap_or_default();
            self.session.on_exact_position(cluster, Watermark { branch: Branch::FIRST, lsn: cached }, Seq(0));
        } else if !rules.made(Mistake::StandbyReadNotReported) {
            self.session.on_standby_finished(cluster, &pooled.connection);
        }
    }

    /// What a promotion has brought of which the proxy has not heard: its probe connections may have been moved away before
    /// they could tell. Then the old primary is all that it knows, and nobody could tell better.
    fn unheard_of(&self, rules: Rules) -> Commits {
        let follows = self.proxies[self.home].cluster.branch();
        let leads = self.history(rules, self.leader).branch();
        if follows == Some(leads) { 0 } else { self.of_branch(self.servers[self.leader].branch) }
    }

    fn finish_write(&mut self, rules: Rules, pooled: &Pooled) {
        let written = self.next_commit(pooled.server);
        self.commit(pooled.server);
        self.flush(pooled.server);
        if self.is_kept_back(rules, pooled) {
            return;
        }
        self.seen |= written;
        if !rules.made(Mistake::WriteNotReported) {
            self.session.on_primary_finished(&mut self.proxies[self.home].cluster);
        }
    }

    /// What a primary says that has been replaced is not passed on: the client learns that nobody knows what became of it.
    fn is_kept_back(&mut self, rules: Rules, pooled: &Pooled) -> bool {
        let Proxy { cluster, probes, .. } = &self.proxies[self.home];
        let mut connection = pooled.connection;
        if connection.identity.role == Role::Standby {
            return false;
        }
        if rules.made(Mistake::PlaceTakenForInstance) {
            let told = cluster.server_view(connection.server, NOW).and_then(|view| view.identity);
            connection.identity = told.unwrap_or(connection.identity);
        }
        let is_superseded = cluster.is_superseded(&connection) && !rules.made(Mistake::DeposedPassedOn);
        let leads = cluster.primary().map(|place| probes[usize::from(place.0)].server);
        self.usurped |= !is_superseded && leads.is_some_and(|leads| leads != pooled.server);
        is_superseded
    }

    /// A place leads to another server from now on. Connections stay where they are.
    pub(crate) fn move_place(&mut self, place: usize, server: usize) {
        self.leads[place] = server;
        self.left.moves -= 1;
    }

    /// Whether a monitor has to look where its place leads.
    pub(crate) fn has_moved(&self, proxy: usize, place: usize) -> bool {
        self.proxies[proxy].probes[place].server != self.leads[place]
    }
}
