//! One minimal scenario for every reason and every refusal, in the words of somebody who runs PostgreSQL.

#![allow(clippy::unwrap_used, reason = "test code throughout")]

mod failover;

use highwater_core::{
    Ask, Branch, Cluster, ClusterSettings, Epoch, History, Identity, Level, Loss, Lsn, Micros, MvccSnapshot,
    PrimaryAnswer, Role, Route, Scope, Seq, ServerConnection, ServerId, ServerSet, Session, StandbyAnswer, Timeline,
    TokenVerdict, Unit, may_use, route,
};

const PRIMARY: ServerId = ServerId(0);
const ONE: ServerId = ServerId(1);
const TWO: ServerId = ServerId(2);
const BUDGET: Micros = Micros(10_000);

/// A primary and two standbys, all at 100, and a clock.
struct Scene {
    cluster: Cluster,
    epochs: [Epoch; 3],
    now: Micros,
    session: Session,
}

fn identity(server: ServerId) -> Identity {
    let role = if server == PRIMARY { Role::Primary } else { Role::Standby };
    Identity {
        system_id: 1,
        branch: Branch::FIRST,
        role,
        postmaster_start: i64::from(server.0),
        block_size: 8192,
        segment_size: 16 << 20,
    }
}

impl Scene {
    fn new() -> Scene {
        let mut scene = Scene {
            cluster: Cluster::new(ClusterSettings::default(), 3),
            epochs: [Epoch(0); 3],
            now: Micros(1_000_000),
            session: Session::default(),
        };
        [PRIMARY, ONE, TWO].into_iter().for_each(|server| scene.connect(server));
        [ONE, TWO, PRIMARY].into_iter().for_each(|server| scene.probe(server, 100));
        scene
    }

    fn connect(&mut self, server: ServerId) {
        self.connect_as(server, identity(server), History::first());
    }

    fn connect_as(&mut self, server: ServerId, identity: Identity, history: History) {
        let identity = Identity { branch: history.branch(), ..identity };
        let epoch = self.cluster.on_probe_connected(server, identity, history, self.now).unwrap();
        self.epochs[usize::from(server.0)] = epoch;
    }

    /// One of the standbys becomes the primary of timeline 2, which leaves timeline 1 at `at`.
    fn promote(&mut self, server: ServerId, at: u64) {
        self.connect_as(server, Identity { role: Role::Primary, ..identity(server) }, second(at));
    }

    fn answer_as_primary(&mut self, server: ServerId, position: u64) {
        let sent = self.cluster.on_probe_sent(server, self.now);
        let snapshot = MvccSnapshot { xmin: position + 1, xmax: position + 1, xip: vec![] };
        let answer = PrimaryAnswer { insert: Lsn(position), flush: Lsn(position), snapshot };
        self.cluster.on_primary_answer(server, self.epochs[usize::from(server.0)], sent, &answer, self.now);
    }

    /// Sends a probe and answers it; transactions are numbered like positions.
    fn probe(&mut self, server: ServerId, position: u64) {
        self.probe_with_running(server, position, &[]);
    }

    fn probe_with_running(&mut self, server: ServerId, position: u64, running: &[u64]) {
        let epoch = self.epochs[usize::from(server.0)];
        let sent = self.cluster.on_probe_sent(server, self.now);
        if server == PRIMARY {
            let xmin = running.first().copied().unwrap_or(position + 1);
            let snapshot = MvccSnapshot { xmin, xmax: position + 1, xip: running.to_vec() };
            let answer = PrimaryAnswer { insert: Lsn(position), flush: Lsn(position), snapshot };
            self.cluster.on_primary_answer(server, epoch, sent, &answer, self.now);
        } else {
            let answer = StandbyAnswer { replay: Lsn(position), timeline: Timeline(1), snapshot_xmax: position + 1 };
            self.cluster.on_standby_answer(server, epoch, sent, answer, self.now);
        }
    }

    fn pass(&mut self, micros: u64) {
        self.now = self.now.plus(Micros(micros));
    }

    fn connection(&mut self, server: ServerId) -> ServerConnection {
        self.cluster.admit(server, &identity(server)).unwrap()
    }

    fn write(&mut self) -> Seq {
        self.session.on_primary_finished(&mut self.cluster)
    }

    fn read_on(&mut self, server: ServerId) -> ServerConnection {
        let connection = self.connection(server);
        self.session.on_standby_finished(&mut self.cluster, &connection);
        connection
    }

    fn ask(&mut self) -> Ask {
        Ask { wait_budget: BUDGET, ..Ask::read(self.cluster.next_seq(), self.now) }
    }

    fn route(&mut self, ask: &Ask) -> Route {
        route(&self.cluster, &mut self.session, ask, &[], self.now)
    }

    #[track_caller]
    fn check(&mut self, ask: &Ask, expected: &str) {
        assert_eq!(tell(&self.route(ask)), expected);
    }
}

/// Timeline 2, which left timeline 1 at that position.
fn second(at: u64) -> History {
    History::new(Timeline(2), vec![(Timeline(1), Lsn(at))])
}

fn tell(route: &Route) -> String {
    match route {
        Route::Run { server, reason, floor, prevented } => {
            let floor = floor.floor.map_or(String::new(), |floor| format!(" at {}", floor.lsn.0));
            format!("run on {server}{floor}: {}{}", reason.name(), if *prevented { ", prevented" } else { "" })
        }
        Route::Wait { need, reason, .. } => {
            let mut needs: Vec<String> = need.standbys.iter().map(|server| server.to_string()).collect();
            needs.extend(need.primary_probe.then(|| "primary".into()));
            needs.extend(need.witness.then(|| "witness".into()));
            format!("wait for {}: {}", needs.join(" "), reason.name())
        }
        Route::Tell(Loss { branch, required, kept }) => {
            let required = required.map_or("never measured".to_owned(), |lsn| format!("required {}", lsn.0));
            format!("tell: beyond {} of timeline {branch}, {required}", kept.0)
        }
        Route::Refuse(refusal) => format!("refuse: {} ({refusal})", refusal.name()),
    }
}

#[test]
fn a_new_session_reads_anywhere() {
    let mut scene = Scene::new();
    let ask = scene.ask();
    scene.check(&ask, "run on 1: nothing_required");
    scene.check(&Ask { dice: 1 << 8, ..ask }, "run on 2: nothing_required");
}

#[test]
fn a_writer_reads_where_its_write_has_arrived() {
    let mut scene = Scene::new();
    scene.write();
    let ask = scene.ask();
    scene.check(&ask, "wait for primary: await_primary_position");
    scene.probe(PRIMARY, 200);
    scene.check(&ask, "wait for 1 2: await_replay");
    scene.probe(TWO, 200);
    scene.check(&ask, "run on 2 at 200: caught_up, prevented");
    scene.check(&Ask { dice: 1, ..ask }, "run on 2 at 200: caught_up");
}

#[test]
fn a_probe_sent_before_the_write_proves_nothing() {
    let mut scene = Scene::new();
    let sent = scene.cluster.on_probe_sent(PRIMARY, scene.now);
    scene.write();
    let snapshot = MvccSnapshot { xmin: 101, xmax: 101, xip: vec![] };
    let answer = PrimaryAnswer { insert: Lsn(100), flush: Lsn(100), snapshot };
    scene.cluster.on_primary_answer(PRIMARY, scene.epochs[0], sent, &answer, scene.now);
    let ask = scene.ask();
    scene.check(&ask, "wait for primary: await_primary_position");
}

#[test]
fn an_unmeasured_read_binds_to_the_same_run_of_the_same_standby() {
    let mut scene = Scene::new();
    let used = scene.read_on(TWO);
    let ask = scene.ask();
    scene.check(&ask, "run on 2: same_standby");
    let Route::Run { floor, .. } = scene.route(&ask) else { panic!("not run") };
    let newer = scene.connection(TWO);
    assert!(may_use(&scene.cluster, &floor, &used));
    assert!(!may_use(&scene.cluster, &floor, &newer), "the standby may have restarted in between");
    scene.check(&Ask { scope: Scope::Only(ONE), ..ask }, "wait for 2: await_standby_position");
    scene.probe(TWO, 150);
    assert!(may_use(&scene.cluster, &floor, &newer), "the probe connection has outlived both");
    scene.check(&ask, "run on 2 at 150: caught_up, prevented");
}

#[test]
fn a_lost_standby_leaves_its_reads_to_the_primary() {
    let mut scene = Scene::new();
    scene.read_on(TWO);
    scene.cluster.on_probe_lost(TWO);
    let ask = scene.ask();
    scene.check(&ask, "wait for primary: await_primary_position");
    scene.probe(PRIMARY, 180);
    assert_eq!(scene.session.replica_watermark(), None);
    scene.check(
        &Ask { wait_budget: Micros(0), ..ask },
        "refuse: not_yet_visible (the primary does not yet show what a standby showed: it is 80 bytes behind)",
    );
    assert_eq!(scene.session.replica_watermark().map(|seen| seen.lsn), Some(Lsn(180)));
}

#[test]
fn a_connection_shows_only_what_probes_sent_after_it_have_found() {
    let mut scene = Scene::new();
    scene.write();
    scene.probe(PRIMARY, 200);
    scene.probe(ONE, 200);
    let connection = scene.connection(ONE);
    let ask = scene.ask();
    let Route::Run { floor, .. } = scene.route(&ask) else { panic!("not run") };
    assert_eq!(scene.cluster.applied(&connection), None);
    assert!(!may_use(&scene.cluster, &floor, &connection));
    scene.probe(ONE, 200);
    assert!(may_use(&scene.cluster, &floor, &connection));
    scene.connect(ONE);
    assert!(!may_use(&scene.cluster, &floor, &connection), "a new probe connection does not vouch for it");
}

#[test]
fn strong_reads_follow_the_primary_after_arrival() {
    let mut scene = Scene::new();
    let ask = Ask { level: Level::Strong, ..scene.ask() };
    scene.check(&ask, "wait for 1 2 primary witness: await_primary_position");
    scene.probe(PRIMARY, 200);
    scene.probe(ONE, 200);
    scene.check(&ask, "run on 1 at 200: as_fresh_as_primary");
}

#[test]
fn strong_reads_on_the_primary_wait_for_what_standbys_show() {
    let mut scene = Scene::new();
    let ask = Ask { level: Level::Strong, unit: Unit::PrimaryRead, ..scene.ask() };
    scene.check(&ask, "wait for 1 2 primary witness: await_visibility");
    scene.probe(ONE, 150);
    scene.probe(TWO, 120);
    scene.check(&ask, "wait for 1 2 primary witness: await_visibility");
    scene.probe(PRIMARY, 200);
    scene.check(&ask, "run on 0: must_run_on_primary");
    let idle = Ask { arrived: scene.cluster.next_seq(), ..ask };
    scene.probe(ONE, 200);
    scene.probe(PRIMARY, 200);
    scene.check(&idle, "run on 0: must_run_on_primary");
}

#[test]
fn bounded_reads_need_a_standby_within_the_lag() {
    let mut scene = Scene::new();
    scene.pass(500_000);
    scene.probe(PRIMARY, 200);
    let ask = Ask { level: Level::Bounded { max_lag: Micros(600_000) }, ..scene.ask() };
    scene.check(&ask, "run on 1 at 100: within_max_lag");
    let narrow = Ask { level: Level::Bounded { max_lag: Micros(400_000) }, ..ask };
    scene.check(&narrow, "wait for 1 2: await_replay");
    let none = Ask { level: Level::Bounded { max_lag: Micros(0) }, ..ask };
    scene.pass(1);
    scene.check(&none, "wait for primary: await_primary_position");
}

#[test]
fn eventual_reads_take_any_healthy_standby() {
    let mut scene = Scene::new();
    scene.write();
    let ask = Ask { level: Level::Eventual, ..scene.ask() };
    scene.check(&ask, "run on 1: any_standby");
    scene.check(&Ask { excluded: ServerSet::EMPTY.with(ONE), ..ask }, "run on 2: any_standby");
    scene.cluster.on_server_draining(ONE, true);
    scene.check(&ask, "run on 2: any_standby");
}

#[test]
fn the_preferred_standby_is_left_only_when_much_busier() {
    let mut scene = Scene::new();
    let ask = Ask { preferred: Some(TWO), ..scene.ask() };
    let mut chosen = |load: &[u32]| tell(&route(&scene.cluster, &mut scene.session, &ask, load, scene.now));
    assert_eq!(chosen(&[0, 0, 4]), "run on 2: nothing_required");
    assert_eq!(chosen(&[0, 0, 5]), "run on 1: nothing_required");
    assert_eq!(chosen(&[0, 10, 24]), "run on 2: nothing_required");
    scene.cluster.on_server_weight(TWO, 10);
    let ask = Ask { preferred: None, ..ask };
    assert_eq!(
        tell(&route(&scene.cluster, &mut scene.session, &ask, &[0, 2, 10], scene.now)),
        "run on 2: nothing_required"
    );
}

#[test]
fn writes_and_transactions_run_on_the_primary() {
    let mut scene = Scene::new();
    let ask = scene.ask();
    scene.check(&Ask { unit: Unit::Write, ..ask }, "run on 0: write");
    scene.check(&Ask { unit: Unit::PrimaryRead, ..ask }, "run on 0: must_run_on_primary");
    scene.check(&Ask { level: Level::Primary, ..ask }, "run on 0: primary_asked");
    scene.check(&Ask { scope: Scope::Only(PRIMARY), ..ask }, "run on 0: primary_asked");
    let standbys = Ask { unit: Unit::Write, scope: Scope::StandbysOnly, ..ask };
    scene.check(
        &standbys,
        "refuse: primary_out_of_scope (this must run on the primary, which the connection leaves out)",
    );
}

#[test]
fn without_standbys_the_primary_reads_at_once() {
    let mut scene = Scene::new();
    [ONE, TWO].into_iter().for_each(|server| scene.cluster.on_probe_lost(server));
    let ask = scene.ask();
    scene.check(&ask, "run on 0: no_healthy_standby");
    let standbys = Ask { scope: Scope::StandbysOnly, ..ask };
    scene.check(&standbys, "wait for : await_standby");
    scene.check(&Ask { wait_budget: Micros(0), ..standbys }, "refuse: no_standby (no healthy standby is available)");
}

#[test]
fn old_evidence_is_no_evidence() {
    let mut scene = Scene::new();
    scene.pass(3_000_001);
    let ask = scene.ask();
    scene.check(&ask, "wait for primary: await_primary");
    scene.check(&Ask { wait_budget: Micros(0), ..ask }, "refuse: no_primary (no primary is known)");
    scene.probe(TWO, 100);
    scene.check(&ask, "run on 2: nothing_required");
}

#[test]
fn two_primaries_are_none() {
    let mut scene = Scene::new();
    scene.connect_as(ONE, Identity { role: Role::Primary, ..identity(ONE) }, History::first());
    assert_eq!(scene.cluster.primary(), None);
    assert_eq!(scene.cluster.pretenders().iter().collect::<Vec<_>>(), [PRIMARY, ONE]);
    let ask = Ask { unit: Unit::Write, wait_budget: Micros(0), ..scene.ask() };
    scene.check(&ask, "refuse: no_primary (no primary is known)");
}

#[test]
fn one_primary_of_two_names_is_one() {
    let mut scene = Scene::new();
    scene.pass(1);
    scene.connect_as(ONE, identity(PRIMARY), History::first());
    let [by_one, by_other] = [PRIMARY, ONE].map(|name| scene.cluster.admit(name, &identity(PRIMARY)).unwrap());
    assert_eq!(scene.cluster.primary(), Some(PRIMARY), "the one known longest, with all that is known of it");
    assert!(scene.cluster.pretenders().is_empty());
    assert!(!scene.cluster.is_superseded(&by_other), "what is under way there is good");
    scene.cluster.on_probe_lost(PRIMARY);
    assert_eq!(scene.cluster.primary(), Some(ONE));
    assert!(!scene.cluster.is_superseded(&by_one), "whatever becomes of the name");
    // Somebody else bears its name.
    scene.connect_as(PRIMARY, Identity { role: Role::Primary, ..identity(TWO) }, History::first());
    assert_eq!(scene.cluster.primary(), None);
    assert_eq!(scene.cluster.pretenders().iter().collect::<Vec<_>>(), [PRIMARY, ONE]);
}

#[test]
fn a_budget_that_is_spent_ends_at_the_primary() {
    let mut scene = Scene::new();
    scene.write();
    scene.probe(PRIMARY, 200);
    let ask = scene.ask();
    scene.check(&ask, "wait for 1 2: await_replay");
    scene.pass(BUDGET.0);
    scene.check(&ask, "run on 0: budget_spent, prevented");
    let capped = Ask { fallback_allowed: false, ..ask };
    scene.check(&capped, "refuse: fallback_spent (no standby has caught up (100 bytes are missing) and the primary is taking as many such reads as it may)");
    let standbys = Ask { scope: Scope::StandbysOnly, ..ask };
    scene.check(&standbys, "refuse: not_caught_up (no standby has caught up: 100 bytes are missing)");
}

#[test]
fn a_paused_standby_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.probe(PRIMARY, 150);
    scene.pass(60_000);
    scene.write();
    scene.probe(PRIMARY, 200);
    let ask = scene.ask();
    scene.check(&ask, "run on 0: standbys_too_far_behind, prevented");
    scene.check(&Ask { fallback_allowed: false, ..ask }, "wait for 1 2: await_replay");
    scene.check(&Ask { wait_budget: Micros(60_000), ..ask }, "wait for 1 2: await_replay");
}

#[test]
fn the_primary_waits_until_it_shows_what_a_standby_showed() {
    let mut scene = Scene::new();
    scene.read_on(ONE);
    scene.probe(ONE, 150);
    scene.probe_with_running(PRIMARY, 150, &[150]);
    let ask = Ask { unit: Unit::PrimaryRead, ..scene.ask() };
    scene.check(&ask, "wait for 1 2 primary witness: await_visibility");
    let late = Ask { wait_budget: Micros(0), ..ask };
    scene.check(
        &late,
        "refuse: not_yet_visible (the primary does not yet show what a standby showed: it is 50 bytes behind)",
    );
    let question = scene.cluster.witness_question(ONE).unwrap();
    assert_eq!(question.xids, [150]);
    let (name, epoch) = (question.id, question.epoch);
    scene.cluster.on_witness_answer(ONE, epoch, name, &[150]);
    scene.check(&ask, "wait for 1 2 primary witness: await_visibility");
    assert_eq!(scene.cluster.witness_question(ONE), None, "the standby has said what it knows");
    scene.probe(PRIMARY, 150);
    scene.check(&ask, "run on 0: must_run_on_primary");
}

#[test]
fn a_transaction_that_is_open_on_the_standby_too_blocks_nobody() {
    let mut scene = Scene::new();
    scene.read_on(ONE);
    scene.probe(ONE, 150);
    scene.probe_with_running(PRIMARY, 150, &[120]);
    let ask = Ask { unit: Unit::PrimaryRead, ..scene.ask() };
    let question = scene.cluster.witness_question(ONE).unwrap();
    let (name, epoch) = (question.id, question.epoch);
    scene.cluster.on_witness_answer(ONE, epoch, Seq(name.0 - 1), &[]);
    scene.check(&ask, "wait for 1 2 primary witness: await_visibility");
    scene.cluster.on_witness_answer(ONE, epoch, name, &[]);
    scene.check(&ask, "run on 0: must_run_on_primary");
}

#[test]
fn an_unanswered_probe_ends_in_a_refusal() {
    let mut scene = Scene::new();
    scene.write();
    let ask = Ask { scope: Scope::StandbysOnly, wait_budget: Micros(0), ..scene.ask() };
    scene.check(&ask, "refuse: position_unknown (the position of a server did not arrive in time)");
}

#[test]
fn a_token_is_believed_as_far_as_the_primary_has_come() {
    let mut scene = Scene::new();
    scene.write();
    assert_eq!(scene.session.token(&scene.cluster, 5), None, "not measured yet");
    scene.probe(PRIMARY, 200);
    let ask = scene.ask();
    scene.route(&ask);
    let token = scene.session.token(&scene.cluster, 5).unwrap();
    let arrived = scene.cluster.next_seq();
    assert_eq!(scene.cluster.on_token(&token, arrived), TokenVerdict::Accept);
    let beyond = highwater_core::Token { lsn: Lsn(300), ..token };
    assert_eq!(scene.cluster.on_token(&beyond, arrived), TokenVerdict::NeedsPrimaryProbe);
    scene.probe(PRIMARY, 200);
    assert_eq!(scene.cluster.on_token(&beyond, arrived), TokenVerdict::AheadOfPrimary);
    scene.probe(PRIMARY, 300);
    assert_eq!(scene.cluster.on_token(&beyond, arrived), TokenVerdict::Accept);
    let foreign = highwater_core::Token { system_id: 2, ..token };
    assert_eq!(scene.cluster.on_token(&foreign, arrived), TokenVerdict::Foreign);
    let elsewhere = highwater_core::Token { branch: Branch { timeline: Timeline(9), ..token.branch }, ..token };
    assert_eq!(scene.cluster.on_token(&elsewhere, arrived), TokenVerdict::UnknownTimeline);
}

#[test]
fn an_exact_position_covers_only_what_had_finished_before() {
    let mut scene = Scene::new();
    let connection = scene.connection(PRIMARY);
    let finished = scene.write();
    let exact = scene.cluster.exact_position(&connection, Lsn(8192 + 24), Lsn(0)).unwrap();
    assert_eq!(exact.lsn, Lsn(8192), "stepped back over the page header");
    let other = scene.write();
    scene.session.on_exact_position(&scene.cluster, exact, finished);
    assert!(!scene.session.is_resolved(), "the second write came later");
    scene.session.on_exact_position(&scene.cluster, exact, other);
    assert!(scene.session.is_resolved());
}

#[test]
fn merged_sessions_forget_nothing() {
    let mut scene = Scene::new();
    scene.read_on(ONE);
    let mut floor = Session::default();
    floor.absorb(&scene.cluster, std::mem::take(&mut scene.session));
    scene.read_on(TWO);
    floor.absorb(&scene.cluster, std::mem::take(&mut scene.session));
    scene.write();
    floor.absorb(&scene.cluster, std::mem::take(&mut scene.session));
    scene.session = floor;
    let ask = scene.ask();
    scene.check(&ask, "wait for 1 primary: await_primary_position");
    scene.probe(PRIMARY, 200);
    scene.probe(ONE, 150);
    scene.route(&ask);
    assert!(scene.session.is_resolved());
    assert_eq!(scene.session.watermark().map(|seen| seen.lsn), Some(Lsn(200)));
    assert_eq!(scene.session.replica_watermark().map(|seen| seen.lsn), Some(Lsn(200)));
}

#[test]
fn foreign_servers_and_instances_are_not_admitted() {
    let mut scene = Scene::new();
    let foreign = Identity { system_id: 2, ..identity(TWO) };
    assert!(scene.cluster.on_probe_connected(TWO, foreign, History::first(), scene.now).is_err());
    assert_eq!(scene.cluster.admit(TWO, &identity(TWO)), None);
    let restarted = Identity { postmaster_start: 9, ..identity(ONE) };
    assert_eq!(scene.cluster.admit(ONE, &restarted), None);
}

#[test]
fn the_console_shows_distance_and_age() {
    let mut scene = Scene::new();
    scene.pass(2000);
    scene.probe(PRIMARY, 400);
    scene.pass(1000);
    let view = scene.cluster.server_view(ONE, scene.now).unwrap();
    assert_eq!((view.replay, view.lag_bytes), (Some(Lsn(100)), Some(300)));
    assert_eq!((view.lag_time, view.evidence_age), (Some(Micros(3000)), Some(Micros(3000))));
    scene.probe(ONE, 400);
    let view = scene.cluster.server_view(ONE, scene.now).unwrap();
    assert_eq!((view.lag_bytes, view.lag_time), (Some(0), Some(Micros(0))));
    assert_eq!(scene.cluster.server_view(PRIMARY, scene.now).unwrap().head, Some(Lsn(400)));
    assert_eq!(scene.cluster.server_view(ServerId(9), scene.now), None);
}
