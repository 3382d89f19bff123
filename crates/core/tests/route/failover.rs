//! A standby is promoted: what that means for sessions, tokens and the old primary.

use super::*;
use highwater_core::Watermark;

#[test]
fn a_promotion_that_kept_everything_is_not_noticed() {
    let mut scene = Scene::new();
    scene.write();
    scene.probe(PRIMARY, 200);
    scene.cluster.on_probe_lost(PRIMARY);
    scene.promote(ONE, 200);
    assert_eq!(scene.cluster.primary(), Some(ONE));
    scene.answer_as_primary(ONE, 210);
    let ask = scene.ask();
    scene.check(&ask, "run on 1: no_healthy_standby");
    let kept = Watermark { branch: second(200).branch(), lsn: Lsn(200) };
    assert_eq!(scene.session.watermark(), Some(kept), "measured by what the old primary had answered");
}

#[test]
fn what_a_promotion_lost_is_told_before_anything_runs() {
    let mut scene = Scene::new();
    scene.write();
    scene.probe(PRIMARY, 200);
    scene.cluster.on_probe_lost(PRIMARY);
    scene.promote(ONE, 150);
    scene.answer_as_primary(ONE, 170);
    let write = Ask { unit: Unit::Write, ..scene.ask() };
    scene.check(&write, "tell: beyond 150 of timeline 1, required 200");
    assert_eq!(scene.session.token(&scene.cluster, 0), None, "a token would forget to tell");
    scene.session.on_told();
    scene.check(&write, "run on 1: write");
    let kept = Watermark { branch: second(150).branch(), lsn: Lsn(150) };
    assert_eq!(scene.session.watermark(), Some(kept));
}

#[test]
fn what_was_never_measured_may_be_lost() {
    let mut scene = Scene::new();
    scene.probe(PRIMARY, 200);
    scene.write();
    scene.promote(ONE, 200);
    let ask = scene.ask();
    scene.check(&ask, "tell: beyond 200 of timeline 1, never measured");
}

#[test]
fn a_read_on_a_lost_standby_may_have_shown_the_new_timeline() {
    let mut scene = Scene::new();
    scene.read_on(TWO);
    scene.cluster.on_probe_lost(TWO);
    scene.probe(PRIMARY, 100);
    scene.promote(ONE, 100);
    scene.answer_as_primary(ONE, 150);
    let read = scene.ask();
    scene.check(&read, "wait for primary: await_primary_position");
    scene.answer_as_primary(ONE, 180);
    scene.check(&read, "wait for primary witness: await_visibility");
    let now = Watermark { branch: second(100).branch(), lsn: Lsn(180) };
    assert_eq!(scene.session.watermark(), Some(now));
}

#[test]
fn a_deposed_primary_gets_nothing() {
    let mut scene = Scene::new();
    scene.promote(ONE, 100);
    scene.answer_as_primary(ONE, 100);
    scene.probe(PRIMARY, 500);
    assert_eq!(scene.cluster.primary(), Some(ONE));
    assert_eq!(scene.cluster.pretenders().iter().collect::<Vec<_>>(), [PRIMARY]);
    let ask = Ask { unit: Unit::Write, scope: Scope::Only(PRIMARY), ..scene.ask() };
    scene.check(&ask, "refuse: primary_out_of_scope (this must run on the primary, which the connection leaves out)");
}

#[test]
fn two_timelines_of_one_number_are_told_apart() {
    let mut scene = Scene::new();
    scene.cluster.on_probe_lost(PRIMARY);
    scene.promote(ONE, 100);
    scene.promote(TWO, 90);
    assert_eq!(scene.cluster.primary(), None, "two claimants");
    scene.cluster.on_probe_lost(ONE);
    assert_eq!(scene.cluster.primary(), Some(TWO), "the other one is gone");
    assert_eq!(scene.cluster.branch(), Some(second(90).branch()));
    scene.answer_as_primary(TWO, 100);
    scene.session.absorb(&scene.cluster, at(&second(100), 95));
    let ask = scene.ask();
    scene.check(&ask, "tell: beyond 90 of timeline 2, required 95");
}

#[test]
fn a_standby_that_follows_a_promotion_begins_anew() {
    let mut scene = Scene::new();
    let connection = scene.read_on(TWO);
    scene.probe(TWO, 100);
    let (epoch, sent) = (scene.epochs[2], scene.cluster.on_probe_sent(TWO, scene.now));
    let answer = StandbyAnswer { replay: Lsn(300), timeline: Timeline(2), snapshot_xmax: 301 };
    scene.cluster.on_standby_answer(TWO, epoch, sent, answer, scene.now);
    assert!(!scene.cluster.is_current(&connection), "300 is no position of timeline 1");
}

#[test]
fn a_write_waits_for_a_new_primary() {
    let mut scene = Scene::new();
    scene.cluster.on_probe_lost(PRIMARY);
    let ask = Ask { unit: Unit::Write, failover_wait: Micros(5_000_000), ..scene.ask() };
    scene.pass(1_000_000);
    scene.check(&ask, "wait for primary: await_primary");
    scene.promote(ONE, 100);
    scene.answer_as_primary(ONE, 100);
    scene.check(&ask, "run on 1: write");
    scene.cluster.on_probe_lost(ONE);
    scene.pass(4_000_000);
    scene.check(&ask, "refuse: no_primary (no primary is known)");
}

/// What a token of that branch carries.
fn at(history: &History, lsn: u64) -> Session {
    let (branch, lsn) = (history.branch(), Lsn(lsn));
    highwater_core::Token { system_id: 1, branch, lsn, replica_lsn: None, issued: 0 }.session()
}

#[test]
fn what_a_promoted_standby_showed_is_not_lost() {
    let mut scene = Scene::new();
    scene.cluster.on_probe_lost(PRIMARY);
    scene.read_on(ONE);
    let epoch = scene.epochs[1];
    scene.cluster.on_promoted(ONE, epoch);
    let read = scene.ask();
    scene.check(&read, "wait for 1: await_standby_position");
    scene.promote(ONE, 100);
    scene.answer_as_primary(ONE, 100);
    scene.check(&read, "wait for primary: await_primary_position");
}

#[test]
fn what_a_standby_showed_that_went_its_own_way_may_be_lost() {
    let mut scene = Scene::new();
    scene.probe(PRIMARY, 90);
    scene.read_on(ONE);
    scene.probe(PRIMARY, 100);
    let epoch = scene.epochs[1];
    scene.cluster.on_promoted(ONE, epoch);
    scene.cluster.on_probe_lost(ONE);
    let read = scene.ask();
    scene.check(&read, "wait for 1: await_standby_position");
    // Another standby has been promoted, too, and the first one comes back as its standby.
    scene.cluster.on_probe_lost(PRIMARY);
    scene.promote(TWO, 100);
    scene.answer_as_primary(TWO, 100);
    let started_anew = Identity { postmaster_start: 2, branch: second(100).branch(), ..identity(ONE) };
    scene.connect_as(ONE, started_anew, second(100));
    scene.check(&read, "tell: beyond 100 of timeline 1, never measured");
}

#[test]
fn what_a_standby_showed_that_crashed_and_followed_from_behind_may_be_lost() {
    let mut scene = Scene::new();
    scene.read_on(ONE);
    // Its connections end and its start time stays: it may have come back anywhere.
    scene.cluster.on_probe_lost(ONE);
    scene.cluster.on_probe_lost(PRIMARY);
    scene.promote(TWO, 150);
    scene.connect_as(ONE, identity(ONE), second(150));
    scene.answer_as_primary(TWO, 170);
    let read = scene.ask();
    scene.check(&read, "tell: beyond 150 of timeline 1, never measured");
}

#[test]
fn what_a_standby_shows_of_a_branch_that_was_left_may_be_lost_however_late_it_ends() {
    let mut scene = Scene::new();
    let connection = scene.connection(TWO);
    // The read runs while the proxy hears of the promotion, and the standby still follows the old primary.
    scene.cluster.on_probe_lost(PRIMARY);
    scene.promote(ONE, 100);
    scene.session.on_standby_finished(&mut scene.cluster, &connection);
    scene.cluster.on_probe_lost(TWO);
    scene.answer_as_primary(ONE, 150);
    let read = scene.ask();
    scene.check(&read, "tell: beyond 100 of timeline 1, never measured");
}

#[test]
fn what_a_lost_standby_showed_is_asked_of_the_next_primary_whoever_answered_for_it_before() {
    let mut scene = Scene::new();
    // The standby follows the new primary already, and its place leads elsewhere before it can say so.
    scene.read_on(TWO);
    scene.cluster.on_probe_lost(TWO);
    scene.probe(PRIMARY, 100);
    scene.session.resolve(&scene.cluster);
    assert!(scene.session.is_resolved(), "for all that is known");
    scene.promote(ONE, 100);
    scene.answer_as_primary(ONE, 150);
    let read = scene.ask();
    scene.check(&read, "wait for primary: await_primary_position");
    scene.answer_as_primary(ONE, 180);
    scene.check(&read, "wait for primary witness: await_visibility");
}

#[test]
fn a_token_is_believed_while_the_primary_is_gone_as_far_as_it_had_come() {
    let mut scene = Scene::new();
    scene.probe(PRIMARY, 200);
    let arrived = scene.cluster.next_seq();
    let token = |lsn| highwater_core::Token {
        system_id: 1,
        branch: History::first().branch(),
        lsn: Lsn(lsn),
        replica_lsn: None,
        issued: 0,
    };
    scene.cluster.on_probe_lost(PRIMARY);
    assert_eq!(scene.cluster.on_token(&token(200), arrived), TokenVerdict::Accept);
    assert_eq!(scene.cluster.on_token(&token(201), arrived), TokenVerdict::NeedsPrimaryProbe);
}

#[test]
fn a_primary_is_superseded_when_another_one_is_known_and_not_when_it_is_silent() {
    let mut scene = Scene::new();
    scene.probe(PRIMARY, 200);
    let old = scene.cluster.admit(PRIMARY, &identity(PRIMARY)).unwrap();
    assert!(!scene.cluster.is_superseded(&old));
    scene.cluster.on_probe_lost(PRIMARY);
    assert!(!scene.cluster.is_superseded(&old), "nobody else is the primary");
    scene.connect(PRIMARY);
    assert!(!scene.cluster.is_superseded(&old), "it is the same instance");
    scene.promote(ONE, 200);
    assert!(scene.cluster.is_superseded(&old));
    let promoted = Identity { role: Role::Primary, branch: second(200).branch(), ..identity(ONE) };
    let new = scene.cluster.admit(ONE, &promoted).unwrap();
    assert!(!scene.cluster.is_superseded(&new));
}

#[test]
fn a_connection_to_an_old_primary_is_not_the_new_ones_though_their_place_is() {
    let mut scene = Scene::new();
    scene.probe(PRIMARY, 200);
    let old = scene.cluster.admit(PRIMARY, &identity(PRIMARY)).unwrap();
    // The name of the primary leads to the promoted standby, and the probe has gone along.
    scene.cluster.on_probe_lost(ONE);
    let promoted = Identity { role: Role::Primary, ..identity(ONE) };
    scene.connect_as(PRIMARY, promoted, second(200));
    assert_eq!(scene.cluster.primary(), Some(PRIMARY));
    assert!(scene.cluster.is_superseded(&old));
}

#[test]
fn a_primary_is_superseded_as_soon_as_a_newer_timeline_has_been_met() {
    let mut scene = Scene::new();
    scene.probe(PRIMARY, 200);
    let old = scene.cluster.admit(PRIMARY, &identity(PRIMARY)).unwrap();
    scene.cluster.on_probe_lost(PRIMARY);
    scene.connect_as(TWO, identity(TWO), second(200));
    assert_eq!(scene.cluster.primary(), None, "only a standby of the new one has been seen");
    assert!(scene.cluster.is_superseded(&old));
}
