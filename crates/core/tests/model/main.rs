//! Every order of events, over the real code: two proxies, a primary, two standbys, one session.
//!
//! The world is small (positions 0 to 2, transaction id = position) and exact: commits that standbys show before the
//! primary does, probes evaluated when they are sent and delivered any time later, a standby that crashes and comes back
//! behind what it showed, a session that moves to another proxy with a token, or shares one with another session, commits
//! that are shown before they are on disk, promotions, places that lead to another server than before while statements are
//! under way. Three properties: no read ever shows less than what the session wrote or saw; nothing is acknowledged by a
//! server that is known not to be the primary; and from wherever it stands, once nothing goes wrong any more, the session
//! can read everywhere. A checker that finds nothing proves nothing by itself, so every rule the shell has to keep is broken
//! once (`Mistake`), and each breach must be found.

#![allow(clippy::unwrap_used, reason = "test code throughout")]

mod actions;
mod numbering;
mod rest;
mod statements;
mod tokens;
mod world;

use highwater_core::Unit;
use stateright::{Checker, Model, Property};
use world::{FIRST, SERVERS, World};

const HOLDS: &str = "no read shows less than the session saw";
const GOES_ON: &str = "no read waits for ever";
const LEADS: &str = "nothing is acknowledged by a server that is known not to be the primary";

/// How much of each kind may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Budget {
    statements: u8,
    commits: u8,
    crashes: u8,
    hand_overs: u8,
    promotions: u8,
    moves: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Commit(usize),
    Flush(usize),
    Show(u8),
    Apply(usize),
    Write(usize),
    Tell,
    Read(usize),
    BeginWrite(usize),
    BeginRead(usize),
    Finish,
    EventualRead(usize),
    StrongArrives,
    StrongRead(usize),
    Send(usize, usize),
    Deliver(usize, usize),
    Witness(usize),
    Crash(usize, u8),
    ReconnectProbe(usize, usize),
    ReplaceConnection(usize, usize),
    LoseProbe(usize, usize),
    HandOver,
    Share,
    SwitchSession,
    Promote(usize),
    Follow(usize),
    MovePlace(usize, usize),
}

/// One rule the shell breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    ProbeDatedAtItsAnswer,
    WriteNotReported,
    StandbyReadNotReported,
    CachedPositionAsWatermark,
    PrimaryReadAsBlindWrite,
    ConnectionKeptOverCrash,
    ConnectionBackdated,
    AnswerOfOldProbeConnection,
    ProbeConnectionReplacedUnnoticed,
    ConnectionNotChecked,
    WitnessAskedAfterCrash,
    XmaxReadBeforeReplay,
    TokenWithoutPending,
    TokenWithoutReplicaPart,
    TimelineBlind,
    PositionWithoutTimeline,
    SwitchPointTooFar,
    LossKeptBack,
    FlushedPositionAsWatermark,
    PositionBehindTheHeader,
    TokenReplacesWatermark,
    NumbersAsNames,
    DeposedPassedOn,
    PlaceTakenForInstance,
    PlaceTakenOnTrust,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    budget: Budget,
    servers: usize,
    head_max: u8,
    proxies: usize,
    probes_kept: usize,
    eventual_reads: bool,
    strong_reads: bool,
    /// The old primary survives a promotion, and takes writes.
    zombie: bool,
    /// Commits of others are shown before they are on disk.
    asynchronous: bool,
    /// The primary's position stands behind the header of a page.
    headers: bool,
    /// Two sessions, one at each proxy, that exchange tokens.
    shared: bool,
    /// Only the last place moves, and nothing but reads is asked for.
    narrow: bool,
    /// Much may happen between a statement and its answer.
    takes_time: bool,
    /// Whether reads go on is checked, too.
    goes_on: bool,
    mistake: Option<Mistake>,
}

impl Rules {
    fn new(statements: u8, commits: u8) -> Rules {
        let budget = Budget { statements, commits, ..Budget::default() };
        Rules {
            budget,
            servers: SERVERS,
            head_max: 2,
            proxies: 1,
            probes_kept: 1,
            eventual_reads: false,
            strong_reads: false,
            zombie: false,
            asynchronous: false,
            headers: false,
            shared: false,
            narrow: false,
            takes_time: false,
            goes_on: false,
            mistake: None,
        }
    }

    fn crash(mut self) -> Rules {
        self.budget.crashes = 1;
        self
    }

    fn one_standby(self) -> Rules {
        Rules { servers: 2, ..self }
    }

    fn hand_over(mut self) -> Rules {
        (self.budget.hand_overs, self.proxies) = (1, 2);
        self
    }

    fn promotion(mut self) -> Rules {
        self.budget.promotions = 1;
        self
    }

    fn promotions(mut self, promotions: u8) -> Rules {
        self.budget.promotions = promotions;
        self
    }

    fn shared(mut self, tokens: u8) -> Rules {
        self.budget.hand_overs = tokens;
        Rules { shared: true, proxies: 2, ..self }
    }

    fn asynchronous(self) -> Rules {
        Rules { asynchronous: true, ..self }
    }

    fn going_on(self) -> Rules {
        Rules { headers: true, goes_on: true, ..self }
    }

    fn zombie(self) -> Rules {
        Rules { zombie: true, ..self.promotion() }
    }

    fn taking_time(self) -> Rules {
        Rules { takes_time: true, ..self }
    }

    /// Places come to lead to other servers, while statements are under way.
    fn moves(mut self, moves: u8) -> Rules {
        self.budget.moves = moves;
        self.taking_time()
    }

    /// As much of it as fits with two standbys: the second one's place leads to the old primary when it has read there.
    fn standby_place_moves(self) -> Rules {
        Rules { head_max: 1, narrow: true, takes_time: false, ..self.zombie().moves(1) }
    }

    fn made(self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

impl Model for Rules {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World::new(*self);
        world.renumber();
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if !world.violated && world.left.statements > 0 {
            self.possible(world, actions);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Commit(server) => {
                world.hidden |= world.next_commit(server);
                world.commit(server);
                if !self.asynchronous {
                    world.flush(server);
                }
                world.left.commits -= 1;
            }
            Action::Flush(server) => world.flush(server),
            Action::Show(bit) => world.hidden &= !(1 << bit),
            Action::Apply(server) => world.apply(server),
            Action::BeginWrite(place) => world.begin(Unit::Write, place, 0),
            Action::BeginRead(place) => world.begin(Unit::Read, place, last.seen),
            Action::Finish => world.finish(*self),
            Action::Write(place) => world.run(*self, Unit::Write, place, 0),
            Action::Tell => world.tell(*self),
            Action::Read(place) => world.run(*self, Unit::Read, place, last.seen),
            Action::EventualRead(place) => world.run(*self, Unit::Read, place, 0),
            Action::StrongArrives => {
                let arrived = world.proxies[world.home].cluster.next_seq();
                // The promise is about what the primary shows. While all are reachable, what any standby shows is covered too.
                let shown =
                    if self.budget.crashes + self.budget.moves == 0 { 0..self.servers } else { FIRST..FIRST + 1 };
                world.strong = Some((arrived, shown.fold(last.seen, |all, server| all | last.visible(server))));
            }
            Action::StrongRead(place) => {
                let (_, must_show) = world.strong.take()?;
                world.run(*self, Unit::Read, place, must_show);
            }
            Action::Send(proxy, place) => world.send(*self, proxy, place),
            Action::Deliver(proxy, place) => world.deliver(*self, proxy, place),
            Action::Witness(place) => world.witness(place),
            Action::Crash(server, position) => {
                world.servers[server].position = position;
                world.servers[server].run += 1;
                world.left.crashes -= 1;
            }
            Action::ReconnectProbe(proxy, place) => world.reconnect_probe(*self, proxy, place),
            Action::ReplaceConnection(proxy, place) => world.replace_connection(*self, proxy, place),
            Action::LoseProbe(proxy, place) => world.lose_probe(proxy, place),
            Action::HandOver => world.hand_over(*self)?,
            Action::Share => world.share()?,
            Action::SwitchSession => world.switch_session(*self),
            Action::Promote(server) => {
                world.promote(*self, server);
                world.left.promotions -= 1;
            }
            Action::Follow(server) => world.follow(server),
            Action::MovePlace(place, server) => world.move_place(place, server),
        }
        world.renumber();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let goes_on = |rules: &Rules, world: &World| {
            let mut world = world.clone();
            world.come_to_rest(*rules);
            world.reads_everywhere(*rules)
        };
        let mut properties = vec![Property::always(HOLDS, |_, world: &World| !world.violated)];
        if self.goes_on {
            properties.push(Property::always(GOES_ON, goes_on));
        }
        if self.takes_time {
            properties.push(Property::always(LEADS, |_, world: &World| !world.usurped));
        }
        properties
    }
}

fn explore(name: &str, rules: Rules) -> Option<Vec<Action>> {
    let checker = rules.checker().threads(2).spawn_bfs().join();
    let found = [HOLDS, GOES_ON, LEADS].into_iter().find_map(|property| checker.discovery(property));
    let found = found.map(stateright::Path::into_actions);
    println!("{name}: {} states, depth {}, {found:?}", checker.unique_state_count(), checker.max_depth());
    found
}

#[track_caller]
fn holds(name: &str, rules: Rules) {
    assert_eq!(explore(name, rules), None, "{name}");
}

#[track_caller]
fn is_found(mistake: Mistake, rules: Rules) {
    let rules = Rules { mistake: Some(mistake), ..rules };
    assert!(explore(&format!("{mistake:?}"), rules).is_some(), "{mistake:?} is not found");
}

#[test]
fn holds_without_faults() {
    holds("no fault", Rules::new(2, 1));
}

#[test]
fn holds_when_a_standby_crashes() {
    holds("crash, one standby", Rules::new(2, 1).crash().one_standby());
}

#[test]
fn holds_when_a_token_is_handed_over() {
    holds("hand-over, one standby", Rules::new(2, 1).hand_over().one_standby());
}

#[test]
fn holds_with_eventual_reads_between() {
    holds("eventual reads", Rules { eventual_reads: true, ..Rules::new(2, 1) });
}

#[test]
fn holds_for_strong_reads() {
    holds("strong reads, one standby", Rules { strong_reads: true, ..Rules::new(2, 1).one_standby() });
}

#[test]
fn holds_when_a_standby_is_promoted() {
    holds("promotion", Rules::new(2, 1).promotion());
}

#[test]
fn holds_when_the_old_primary_goes_on() {
    holds("promotion, two primaries, one standby", Rules::new(2, 1).zombie().one_standby());
}

#[test]
fn holds_when_commits_are_shown_before_they_are_on_disk() {
    holds("asynchronous commits", Rules::new(2, 1).asynchronous());
}

#[test]
fn holds_when_two_sessions_share_a_token() {
    holds("shared token, one standby", Rules::new(2, 1).shared(1).one_standby());
}

#[test]
fn holds_when_timelines_have_equal_numbers() {
    holds("two promotions", Rules::new(2, 0).promotions(2));
}

#[test]
fn reads_go_on_wherever_positions_stand() {
    holds("page headers", Rules::new(2, 1).going_on());
    holds("page headers, asynchronous commits, one standby", Rules::new(2, 1).asynchronous().going_on().one_standby());
    holds("page headers, crash, one standby", Rules::new(2, 1).crash().going_on().one_standby());
    holds("page headers, promotion, one standby", Rules::new(2, 1).promotion().going_on().one_standby());
}

#[test]
fn holds_while_statements_are_under_way() {
    holds("statements take time, two primaries", Rules::new(2, 0).zombie().taking_time());
}

#[test]
fn holds_when_places_lead_elsewhere() {
    holds("a place moves, two primaries, one standby", Rules::new(2, 0).zombie().one_standby().moves(1));
    holds("a place moves, page headers, one standby", Rules::new(2, 1).going_on().one_standby().moves(1));
}

/// Minutes in a release build: `cargo xtask model`.
#[test]
#[ignore = "millions of states"]
fn holds_in_larger_worlds() {
    holds("strong reads, crash, one standby", Rules { strong_reads: true, ..Rules::new(2, 1).crash().one_standby() });
    holds("no fault, three statements", Rules::new(3, 1));
    holds("two answers kept", Rules { probes_kept: 2, ..Rules::new(2, 1) });
    holds("crash, one standby, three statements", Rules::new(3, 1).crash().one_standby());
    holds("crash", Rules::new(2, 1).crash());
    holds("eventual reads, crash", Rules { eventual_reads: true, ..Rules::new(2, 1).crash() });
    holds("strong reads", Rules { strong_reads: true, ..Rules::new(2, 1) });
    holds("promotion, two primaries", Rules::new(2, 1).zombie());
    holds("promotion, two primaries, two foreign commits, one standby", Rules::new(2, 2).zombie().one_standby());
    holds("promotion and crash, one standby", Rules::new(2, 1).promotion().crash().one_standby());
    holds("promotion and hand-over, one standby", Rules::new(2, 1).promotion().hand_over().one_standby());
    holds("two promotions, a foreign commit", Rules::new(2, 1).promotions(2));
    holds("asynchronous commits, promotion", Rules::new(2, 1).asynchronous().promotion());
    holds("asynchronous commits, crash, one standby", Rules::new(2, 1).asynchronous().crash().one_standby());
    holds("shared token, three statements, one standby", Rules::new(3, 0).shared(1).one_standby());
    holds("tokens exchanged, own writes only, one standby", Rules::new(2, 0).shared(2).one_standby());
    holds("page headers, promotion", Rules::new(2, 1).promotion().going_on());
    holds("hand-over, own writes only", Rules::new(2, 0).hand_over());
    holds("hand-over and crash, own writes only, one standby", Rules::new(2, 0).hand_over().crash().one_standby());
    holds(
        "statements take time, two primaries, one commit",
        Rules { head_max: 1, ..Rules::new(2, 1).zombie().taking_time() },
    );
    holds(
        "two places move, two primaries, own writes only, one standby",
        Rules::new(2, 0).zombie().one_standby().moves(2),
    );
    holds(
        "a place moves, two primaries, a foreign commit, one standby",
        Rules::new(2, 1).zombie().one_standby().moves(1),
    );
    holds(
        "a place moves, strong reads, one standby",
        Rules { strong_reads: true, ..Rules::new(2, 1).one_standby().moves(1) },
    );
    holds(
        "only a standby's place moves, two primaries, reads only, one commit",
        Rules::new(2, 1).standby_place_moves(),
    );
}

#[test]
fn mistakes_without_faults_are_found() {
    let rules = Rules::new(2, 1);
    is_found(Mistake::ProbeDatedAtItsAnswer, rules);
    is_found(Mistake::WriteNotReported, rules);
    is_found(Mistake::StandbyReadNotReported, rules);
    is_found(Mistake::CachedPositionAsWatermark, rules);
    is_found(Mistake::PrimaryReadAsBlindWrite, rules);
    is_found(Mistake::XmaxReadBeforeReplay, rules);
}

#[test]
fn mistakes_around_a_crash_are_found() {
    let rules = Rules::new(2, 1).crash().one_standby();
    is_found(Mistake::ConnectionKeptOverCrash, rules);
    is_found(Mistake::ConnectionBackdated, rules);
    is_found(Mistake::AnswerOfOldProbeConnection, rules);
    is_found(Mistake::ProbeConnectionReplacedUnnoticed, rules);
    is_found(Mistake::ConnectionNotChecked, rules);
    is_found(Mistake::WitnessAskedAfterCrash, rules);
}

#[test]
fn mistakes_around_a_promotion_are_found() {
    let rules = Rules::new(2, 1).promotion();
    is_found(Mistake::TimelineBlind, rules);
    is_found(Mistake::SwitchPointTooFar, rules);
    is_found(Mistake::LossKeptBack, rules);
    is_found(Mistake::PositionWithoutTimeline, Rules::new(2, 1).zombie());
    is_found(Mistake::NumbersAsNames, Rules::new(2, 0).promotions(2));
}

#[test]
fn mistakes_about_positions_are_found() {
    is_found(Mistake::FlushedPositionAsWatermark, Rules::new(2, 1).asynchronous());
    is_found(Mistake::PositionBehindTheHeader, Rules::new(2, 1).going_on());
}

#[test]
fn mistakes_with_tokens_are_found() {
    let rules = Rules::new(2, 1).hand_over().one_standby();
    is_found(Mistake::TokenWithoutPending, rules);
    is_found(Mistake::TokenWithoutReplicaPart, rules);
    is_found(Mistake::TokenReplacesWatermark, Rules::new(3, 0).shared(1).one_standby());
}

#[test]
fn mistakes_about_places_are_found() {
    let rules = Rules::new(2, 0).zombie().one_standby().moves(1);
    is_found(Mistake::DeposedPassedOn, rules);
    is_found(Mistake::PlaceTakenForInstance, rules);
    is_found(Mistake::PlaceTakenOnTrust, rules);
}
