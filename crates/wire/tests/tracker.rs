//! The tracker as a table of conversations.
//!
//! A script is a list of steps: `>P` the client's Parse is sent, `x>P` one of the proxy's, `~1` the client's Parse is
//! answered by the proxy itself, `<1` the server says ParseComplete. `Z` is followed by its status (`I` unless said).
//! The outcome is what the client sees, the proxy's own replies with a `~`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use highwater_wire::{
    Offence, TransactionStatus,
    tracker::{Audience, CopyState, OUTSTANDING_LIMIT, OUTSTANDING_SOFT_LIMIT, Synthetic, Tracker, Verdict},
};

struct Run {
    tracker: Tracker,
    seen: Vec<String>,
}

impl Run {
    fn new(script: &str) -> Self {
        let mut run = Run { tracker: Tracker::new(), seen: Vec::new() };
        run.more(script).unwrap();
        run
    }

    fn more(&mut self, script: &str) -> Result<(), Offence> {
        for step in script.split_whitespace() {
            self.step(step)?;
            while let Some(reply) = self.tracker.take_due() {
                let mut out = Vec::new();
                reply.encode(&mut out, self.tracker.status());
                self.seen.push(format!("~{}", out[0] as char));
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &str) -> Result<(), Offence> {
        let last = step.as_bytes()[step.find(['>', '<', '~']).unwrap() + 1];
        match step.as_bytes()[0] {
            b'>' => self.tracker.on_frontend(last, Audience::Client),
            b'x' => self.tracker.on_frontend(last, Audience::Proxy),
            b'~' => self.tracker.on_skipped(match last {
                b'1' => Synthetic::ParseComplete,
                b'2' => Synthetic::BindComplete,
                b'3' => Synthetic::CloseComplete,
                b'n' => Synthetic::NoData,
                b'C' => Synthetic::CommandComplete("SET"),
                b'I' => Synthetic::EmptyQueryResponse,
                _ => Synthetic::ReadyForQuery,
            }),
            _ => {
                let status = step.as_bytes().get(2).copied().unwrap_or(b'I');
                if self.tracker.on_backend(last, &[status])? == Verdict::Forward {
                    self.seen.push((last as char).to_string());
                }
                Ok(())
            }
        }
    }

    fn seen(&self) -> String {
        self.seen.join(" ")
    }
}

/// The client sees `seen`, and the connection is idle then.
#[track_caller]
fn check(script: &str, seen: &str) {
    let run = Run::new(script);
    assert_eq!(run.seen(), seen, "{script}");
    assert!(run.tracker.is_idle(), "{script}: {:?}", run.tracker);
    assert!(run.tracker.only_client());
}

/// The client sees `seen`, and the connection is not idle.
#[track_caller]
fn check_busy(script: &str, seen: &str) -> Run {
    let run = Run::new(script);
    assert_eq!(run.seen(), seen, "{script}");
    assert!(!run.tracker.is_idle(), "{script}: {:?}", run.tracker);
    run
}

#[track_caller]
fn check_offence(script: &str, last_step: &str, offence: Offence) {
    assert_eq!(Run::new(script).more(last_step), Err(offence), "{script} {last_step}");
}

#[test]
fn simple_queries() {
    check(">Q <T <D <D <C <Z", "T D D C Z");
    check(">Q <I <Z", "I Z");
    check(">Q <C <T <D <C <C <Z", "C T D C C Z");
    check(">Q <C <E <Z", "C E Z");
    check(">Q >Q <C <Z <T <C <Z", "C Z T C Z");
    check(">F <V <Z >F <E <Z", "V Z E Z");
    check_busy(">Q <C", "C");
}

#[test]
fn extended_queries() {
    check(">P >B >D >E >S <1 <2 <T <D <C <Z", "1 2 T D C Z");
    check(">P >D >H <1 <t <n >B >E >S <2 <I <Z", "1 t n 2 I Z");
    check(">B >E >S <2 <D <s <Z >E >S <D <C <Z >C >S <3 <Z", "2 D s Z D C Z 3 Z");
    check(">S <Z", "Z");
    check(">P >B >Q <1 <2 <C <Z", "1 2 C Z");
}

#[test]
fn a_unit_without_sync_is_not_idle() {
    // All is answered, but the server is inside an implicit transaction.
    let mut run = check_busy(">P >H <1", "1");
    run.more(">S <Z").unwrap();
    assert!(run.tracker.is_idle());
}

#[test]
fn the_status_is_that_of_the_last_ready() {
    let mut run = Run::new(">Q <C <ZT");
    assert_eq!(run.tracker.status(), TransactionStatus::InTransaction);
    assert!(run.tracker.is_idle(), "idle speaks of replies, not of transactions");
    run.more(">Q <E <ZE").unwrap();
    assert_eq!(run.tracker.status(), TransactionStatus::Failed);
    assert_eq!(run.more(">Q <C <Zx"), Err(Offence::Malformed { tag: b'Z' }));
}

#[test]
fn asynchronous_messages_are_always_forwarded() {
    check("<N <S <A", "N S A");
    check("x>Q <S <N <C <A <Z", "S N A");
    // The last word of a server that shuts down.
    check("<E", "E");
}

#[test]
fn an_error_discards_up_to_the_next_sync() {
    check(">P >B >E >P >B >E >S >P >S <1 <2 <E <Z <1 <Z", "1 2 E Z 1 Z");
    // Sent after the error, before its Sync: never answered, a simple query included.
    check(">P >B <E >E >Q >F >S <Z", "E Z");
    check(">P <E >P >S >P >S <Z <1 <Z", "E Z 1 Z");
    // A commit that fails at Sync.
    check(">B >E >S <2 <C <E <Z", "2 C E Z");
    check_busy(">P >B <E >E", "E");
}

#[test]
fn requests_of_the_proxy_are_swallowed() {
    check("x>P >B >E >S <1 <2 <C <Z", "2 C Z");
    check(">P x>C >B >E >S <1 <3 <2 <C <Z", "1 2 C Z");
    check("x>Q >Q <T <D <C <Z <C <Z", "C Z");
    check(">B >E >S x>Q <2 <C <Z <D <C <Z".replace("<D", "<T <D").as_str(), "2 C Z");
    check("x>B x>E x>S >Q <2 <D <C <Z <T <C <Z", "T C Z");
    let run = check_busy("x>P", "");
    assert!(!run.tracker.only_client());
}

#[test]
fn an_error_of_the_proxy_belongs_to_whoever_waits_for_the_sync() {
    check("x>P x>B x>E x>S >Q <E <Z <C <Z", "C Z");
    check("x>P >B >E >S <E <Z", "E Z");
    check("x>P >B <E >E >S <Z", "E Z");
    check("x>Q <E <Z", "");
}

#[test]
fn skipped_requests_are_answered_in_their_turn() {
    check("~1 >B >E >S <2 <C <Z", "~1 2 C Z");
    check(">B >E ~1 >B >E >S <2 <C <2 <C <Z", "2 C ~1 2 C Z");
    check(">P ~1 ~3 >S <1 <Z", "1 ~1 ~3 Z");
    check(">Q ~C ~Z >Q <C <Z <C <Z", "C Z ~C ~Z C Z");
    check("~1 ~2 ~n ~C >S <Z", "~1 ~2 ~n ~C Z");
    check("~I ~Z", "~I ~Z");
    let run = check_busy(">P ~1", "");
    assert!(!run.tracker.only_client());
}

#[test]
fn skipped_requests_are_discarded_with_the_rest_of_their_unit() {
    check("~1 >B ~1 ~3 >S ~1 >S <E <Z <Z", "~1 E Z ~1 Z");
    check(">P <E ~1 ~2 >S <Z", "E Z");
}

#[test]
fn a_reply_that_was_due_is_given_before_the_error() {
    let mut tracker = Tracker::new();
    tracker.on_skipped(Synthetic::ParseComplete).unwrap();
    tracker.on_frontend(b'B', Audience::Client).unwrap();
    assert_eq!(tracker.on_backend(b'E', &[]), Ok(Verdict::Forward));
    assert_eq!(tracker.take_due(), Some(Synthetic::ParseComplete), "due before the error came, taken late");
}

#[test]
fn copy_out() {
    check(">Q <H <d <d <c <C <Z", "H d d c C Z");
    check(">B >E >S <2 <H <d <c <C <Z", "2 H d c C Z");
    check(">Q <H <d <E <Z", "H d E Z");
    check(">B >E >P >S <2 <H <d <E <Z", "2 H d E Z");
    check(">Q <H <c <C <T <D <C <Z", "H c C T D C Z");
    assert_eq!(Run::new(">Q <H").tracker.copy(), CopyState::Out);
    check_offence(">Q", "<d", Offence::Unexpected { tag: b'd' });
}

#[test]
fn simple_copy_in() {
    check(">Q <G >d >d >c <C <Z", "G C Z");
    check(">Q <G >d >f <E <Z", "G E Z");
    check(">Q <G >d <E >d >c <Z >Q <C <Z", "G E Z C Z");
    check(">Q <G >d <E <Z >d >c >Q <C <Z", "G E Z C Z");
    // Data and end sent before the server asked, for one COPY and for two in one Query.
    check(">Q >d >c <G <C <Z", "G C Z");
    check(">Q >d >c >d >c <G <C <G <C <Z", "G C G C Z");
    check(">Q <G >c <C <G >c <C <Z", "G C G C Z");
    // The same for a COPY that fails at once.
    check(">Q >d >c >Q <E <Z <C <Z", "E Z C Z");
    assert_eq!(Run::new(">Q <G >d").tracker.copy(), CopyState::In);
    assert_eq!(Run::new(">Q <G >d >c").tracker.copy(), CopyState::InEnded);
    check_offence(">Q <G", ">Q", Offence::RequestDuringCopy { tag: b'Q' });
    check_offence(">Q >P", "<G", Offence::RequestDuringCopy { tag: b'P' });
}

#[test]
fn extended_copy_in() {
    // As libpq does it: the first Sync falls into the data and is ignored, the second one counts.
    check(">P >B >D >E >S <1 <2 <n <G >d >c >S <C <Z", "1 2 n G C Z");
    check(">B >E >H <2 <G >d >H >S >d >c >S <C <Z", "2 G C Z");
    check(">B >E >S >d >c >S <2 <G <C <Z", "2 G C Z");
    check(">B >E >H <2 <G >f >S <E <Z", "2 G E Z");
    check(">B >E >H <2 <G >d <E >d >c >S <Z", "2 G E Z");
    check(">B >E >S <2 <E >d >c <Z", "2 E Z");
    // The data never ends before the next request: the server refuses that and discards.
    check(">B >E >P >B >E >S <2 <G <E <Z", "2 G E Z");
    check(">B >E >H <2 <G >d >P >S <E <Z", "2 G E Z");
}

#[test]
fn syncs_that_crossed_a_failing_copy_are_in_doubt_until_a_later_reply() {
    // Ignored by the server, as is likely: the next reply shows it.
    let mut run = check_busy(">B >E >S <2 <G >d >c >S <E <Z", "2 G E Z");
    assert_eq!(run.tracker.doubtful_syncs(), 1);
    run.more(">Q <T <C <Z").unwrap();
    assert_eq!((run.seen().as_str(), run.tracker.is_idle()), ("2 G E Z T C Z", true));

    // Answered after all, before the client sent another one: the client's only ReadyForQuery.
    check(">B >E >S <2 <G <E <Z", "2 G E Z");

    // Answered after all, late: nobody waits for it any more.
    check(">B >E >S <2 <G >c >S <E <Z <Z", "2 G E Z");
    check(">B >E >S <2 <G >c >S <E <Z >Q <Z <C <Z", "2 G E Z C Z");
    check(">B >E >S <2 <G >c >S <E <Z >P >S <Z <1 <Z", "2 G E Z 1 Z");

    // The proxy's own empty query settles it either way.
    check(">B >E >S <2 <G >c >S <E <Z x>Q <I <Z", "2 G E Z");
    check(">B >E >S <2 <G >c >S <E <Z x>Q <Z <I <Z", "2 G E Z");
}

#[test]
fn a_copy_that_took_its_sync_for_data_awaits_another_one() {
    // As libpq and tokio-postgres do it: Sync behind Execute, and again behind the data.
    for (script, awaits) in [
        (">B >E >S <2", false),
        (">B >E >S <2 <G", false),
        (">B >E >S <2 <G >d >c", true),
        (">B >E >S <2 <G >d >c <C", true),
        (">B >E >S <2 <G >d >c >S <C", false),
        (">B >E >S <2 <G >d >c >S <C <Z", false),
        (">B >E >S <2 <G <E", true),
        (">Q <G >d >c", false),
        ("", false),
    ] {
        assert_eq!(Run::new(script).tracker.awaits_sync(), awaits, "{script}");
    }
    let mut run = Run::new(">B >E >S <2 <G >d >c >S <E");
    assert!(!run.tracker.awaits_settling());
    run.more("<Z").unwrap();
    assert!(run.tracker.awaits_settling());
    run.more("x>Q <I <Z").unwrap();
    assert!(!run.tracker.awaits_settling() && run.tracker.is_idle());
}

/// Else the connection would count as idle and go to the next client, who would get the replies.
#[test]
fn a_request_that_a_doubtful_sync_may_have_saved_is_never_forgotten() {
    let offence = Offence::RequestDuringCopy { tag: b'Q' };
    // The data failed before the server came to the Sync: it answers that and runs the query.
    check_offence(">B >E >d >S >Q <2 <G", "<E", offence);
    check_offence(">B >E >d >S >c >Q <2 <G", "<E", offence);
    check_offence(">B >E >H <2 <G >d >S >Q", "<E", offence);
    check_offence(">B >E >d >S <2 <G <E", ">Q", offence);
    // With a Sync of its own in between it is certain to run, without a doubtful one it is certain not to.
    check(">B >E >d >S >c >S >Q <2 <G <E <Z <Z <T <C <Z", "2 G E Z T C Z");
    check(">B >E >d >Q >S <2 <G <E <Z", "2 G E Z");
}

#[test]
fn copy_both() {
    check(">Q <W >d <d >d <d >c <d <c <C <Z", "W d d d c C Z");
    check(">Q <W <d <c >c <T <D <C <C <Z", "W d c T D C C Z");
    check(">Q <W <d <E <Z", "W d E Z");
}

#[test]
fn replies_that_nothing_calls_for_are_offences() {
    for (script, step, tag) in [
        ("", "<Z", b'Z'),
        ("", "<1", b'1'),
        ("", "<R", b'R'),
        (">P", "<2", b'2'),
        (">P", "<Z", b'Z'),
        (">S", "<C", b'C'),
        (">Q", "<Z", b'Z'),
        (">Q", "<1", b'1'),
        (">P >S <E <Z", "<Z", b'Z'),
        ("~1", "<1", b'1'),
    ] {
        check_offence(script, step, Offence::Unexpected { tag });
    }
    check_offence("", ">p", Offence::Unexpected { tag: b'p' });
}

#[test]
fn readies_to_come_are_counted() {
    let run = Run::new(">P >S >Q >F x>S ~1 >B");
    assert_eq!(run.tracker.outstanding_syncs(), 4);
}

#[test]
fn memory_is_bounded() {
    let mut tracker = Tracker::new();
    for sent in 0..OUTSTANDING_SOFT_LIMIT {
        assert_eq!(tracker.room(), (OUTSTANDING_SOFT_LIMIT - sent) / 2);
        tracker.on_frontend(b'P', Audience::Client).unwrap();
    }
    assert_eq!(tracker.room(), 0);
    for _ in OUTSTANDING_SOFT_LIMIT..OUTSTANDING_LIMIT {
        tracker.on_frontend(b'P', Audience::Client).unwrap();
    }
    assert_eq!(tracker.on_frontend(b'P', Audience::Client), Err(Offence::TooManyOutstanding));
    assert_eq!(tracker.on_skipped(Synthetic::NoData), Err(Offence::TooManyOutstanding));
    assert_eq!(tracker.on_backend(b'E', &[]), Ok(Verdict::Forward));
    for _ in 0..OUTSTANDING_LIMIT {
        tracker.on_frontend(b'P', Audience::Client).unwrap();
    }
    tracker.on_frontend(b'S', Audience::Client).unwrap();
    assert_eq!(tracker.on_backend(b'Z', b"I"), Ok(Verdict::Forward));
    assert!(tracker.is_idle());
}
