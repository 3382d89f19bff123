//! The end of all trouble: what a session must be able to do then, wherever it stands.

use crate::Rules;
use crate::world::{Proxy, World, id, lsn};
use highwater_core::{Level, Role};

impl World {
    /// What becomes of it all when nothing goes wrong any more: everything is shown, flushed, shipped, replayed and probed,
    /// and whoever is owed news has had it.
    pub(crate) fn come_to_rest(&mut self, rules: Rules) {
        self.hidden = 0;
        self.leads = (0..rules.servers).collect();
        self.finish(rules);
        let leader = self.leader;
        self.servers[leader].flushed = self.servers[leader].position;
        for server in 0..rules.servers {
            if self.servers[server].role == Role::Standby {
                if self.is_left_behind(server) {
                    self.follow(server);
                }
                while self.servers[server].position < self.servers[leader].position {
                    self.apply(server);
                }
            }
        }
        // Once for the roles, once for what depends on them, and once for sessions that read meanwhile.
        for _ in 0..3 {
            self.session.resolve(&self.proxies[self.home].cluster);
            (0..rules.servers).rev().for_each(|server| self.probe_at_rest(rules, server));
            if self.is_owed() {
                self.tell(rules);
            }
        }
    }

    fn probe_at_rest(&mut self, rules: Rules, place: usize) {
        let home = self.home;
        self.deliver(rules, home, place);
        let server = self.leads[place];
        if !self.servers[server].is_up {
            self.lose_probe(home, place);
            return;
        }
        if !self.probe_lives(home, place) || self.has_moved(home, place) {
            self.reconnect_probe(rules, home, place);
        }
        self.send(rules, home, place);
        self.deliver(rules, home, place);
        let Proxy { cluster, pool, .. } = &self.proxies[home];
        if pool[place].run != self.servers[pool[place].server].run || !cluster.is_current(&pool[place].connection) {
            self.replace_connection(rules, home, place);
        }
        self.witness(place);
        if self.servers[server].role == Role::Primary {
            // All transactions before a marked one have ended: without a standby to witness it, that shows it.
            let Proxy { cluster, probes, .. } = &mut self.proxies[home];
            cluster.on_settled(id(place), probes[place].epoch, lsn(self.servers[server].position));
        }
    }

    /// Whether the session may read on the primary and on every standby.
    pub(crate) fn reads_everywhere(&self, rules: Rules) -> bool {
        let is_there = |server: &usize| self.servers[*server].is_up && !self.is_left_behind(*server);
        (0..rules.servers).filter(is_there).all(|server| {
            let fresh = self.proxies[self.home].cluster.clone().next_seq();
            let (level, arrived) = self.strong.map_or((Level::Session, fresh), |(arrived, _)| (Level::Strong, arrived));
            self.may_read(rules, server, level, arrived)
        })
    }
}
