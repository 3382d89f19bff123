//! What may happen next in a world: to the session, to servers, and at the places where proxies look for them.

use crate::world::{NOW, Proxy, World, id};
use crate::{Action, Mistake, Rules};
use highwater_core::{Level, Role};

impl Rules {
    /// All that may happen next.
    pub(crate) fn possible(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend((0..16).filter(|bit| world.hidden >> bit & 1 == 1).map(Action::Show));
        match world.under_way {
            Some(_) => actions.push(Action::Finish),
            None => self.session_actions(world, actions),
        }
        for number in 0..self.servers {
            self.server_actions(world, number, actions);
            self.place_actions(world, number, actions);
        }
    }

    fn session_actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.is_owed() {
            actions.push(Action::Tell);
        }
        if self.strong_reads && world.strong.is_none() {
            actions.push(Action::StrongArrives);
        }
        if let Some(other) = &world.other {
            actions.push(Action::SwitchSession);
            if world.left.hand_overs > 0 && other.arriving.is_none() {
                actions.push(Action::Share);
            }
        } else if world.left.hand_overs > 0 {
            actions.push(Action::HandOver);
        }
        for place in 0..self.servers {
            self.statements(world, place, actions);
        }
    }

    fn statements(&self, world: &World, place: usize, actions: &mut Vec<Action>) {
        let either = |at_once, begun| if self.takes_time { begun } else { at_once };
        let Proxy { cluster, pool, .. } = &world.proxies[world.home];
        let real = &world.servers[pool[place].server];
        if !self.narrow && real.position < self.head_max && world.may_write(*self, place) {
            actions.push(either(Action::Write(place), Action::BeginWrite(place)));
        }
        let fresh = cluster.clone().next_seq();
        if let Some((arrived, _)) = world.strong {
            if world.may_read(*self, place, Level::Strong, arrived) {
                actions.push(Action::StrongRead(place));
            }
        } else if world.may_read(*self, place, Level::Session, fresh) {
            actions.push(either(Action::Read(place), Action::BeginRead(place)));
        } else if self.eventual_reads
            && real.role == Role::Standby
            && world.may_read(*self, place, Level::Eventual, fresh)
        {
            actions.push(Action::EventualRead(place));
        }
    }

    fn server_actions(&self, world: &World, server: usize, actions: &mut Vec<Action>) {
        let real = &world.servers[server];
        if real.flushed < real.position && real.role == Role::Primary && real.is_up {
            actions.push(Action::Flush(server));
        }
        if real.role == Role::Primary && real.is_up && real.position < self.head_max && world.left.commits > 0 {
            actions.push(Action::Commit(server));
        }
        if real.role == Role::Primary {
            return;
        }
        if world.upstream(server).is_some_and(|upstream| real.position < upstream.flushed) {
            actions.push(Action::Apply(server));
        }
        // Standbys are alike: the first is promoted first.
        if world.left.promotions > 0 && (server == 1 || world.leader == 1) && world.is_told_apart(server) {
            actions.push(Action::Promote(server));
        }
        if world.is_left_behind(server) {
            actions.push(Action::Follow(server));
        }
        // Standbys are alike: it is enough that one of them crashes.
        if world.left.crashes > 0 && server == 1 {
            actions.extend((0..real.position.max(1)).map(|position| Action::Crash(server, position)));
        }
    }

    fn place_actions(&self, world: &World, place: usize, actions: &mut Vec<Action>) {
        if world.left.moves > 0 && (!self.narrow || place + 1 == self.servers) {
            let others = (0..self.servers).filter(|server| *server != world.leads[place]);
            actions.extend(others.map(|server| Action::MovePlace(place, server)));
        }
        let Proxy { cluster, probes, .. } = &world.proxies[world.home];
        let is_standby = world.servers[probes[place].server].role == Role::Standby;
        let witnessed = world.probe_lives(world.home, place) || self.made(Mistake::WitnessAskedAfterCrash);
        if is_standby && witnessed && cluster.clone().witness_question(id(place)).is_some() {
            actions.push(Action::Witness(place));
        }
        // A session that has moved asks its old proxy nothing more.
        for proxy in if self.shared { 0 } else { world.home }..self.proxies {
            self.proxy_actions(world, proxy, place, actions);
        }
    }

    fn proxy_actions(&self, world: &World, number: usize, place: usize, actions: &mut Vec<Action>) {
        let proxy = &world.proxies[number];
        let probed = &world.servers[proxy.probes[place].server];
        let target = &world.servers[world.leads[place]];
        let lives = world.probe_lives(number, place);
        if proxy.probes[place].flight.is_some() {
            actions.push(Action::Deliver(number, place));
        } else if lives && probed.is_up && world.is_worth_probing(*self, number, place) {
            actions.push(Action::Send(number, place));
        }
        if (!lives || world.has_moved(number, place)) && target.is_up {
            actions.push(Action::ReconnectProbe(number, place));
        }
        let is_known = proxy.cluster.server_view(id(place), NOW).unwrap().epoch.is_some();
        if !probed.is_up && is_known {
            actions.push(Action::LoseProbe(number, place));
        }
        let pooled = &proxy.pool[place];
        let is_dead = pooled.run != world.servers[pooled.server].run;
        if target.is_up && is_known && (is_dead || !proxy.cluster.is_current(&pooled.connection)) {
            actions.push(Action::ReplaceConnection(number, place));
        }
    }
}
