//! The tracker between a proxy that sends what it likes and a server that answers by the rules: every reply is attributed
//! to who asked, replies given by the proxy come at their turn, and in the end nothing is outstanding. And, with a server
//! that keeps no rule: nothing breaks, and the tracker does not contradict itself.

#![no_main]

mod server;

use highwater_fuzz::{Input, bounded};
use highwater_wire::tracker::{Audience, CopyState, OUTSTANDING_LIMIT, Synthetic, Tracker, Verdict};
use highwater_wire::{Offence, TransactionStatus};
use libfuzzer_sys::fuzz_target;
use server::{Reply, Request, Server};

fuzz_target!(|data: &[u8]| bounded(256 * data.len() + 64 * 1024, || {
    let mut input = Input(data);
    if input.below(2) == 0 {
        without_rules(&mut input);
    } else {
        let mut talk = Talk { is_told: std::env::var_os("FUZZ_STORY").is_some(), ..Talk::default() };
        if talk.play(&mut input).is_ok() {
            talk.end();
        }
    }
}));

/// What clients and the proxy send; the frequent ones more often.
const REQUESTS: &[u8] = b"QPBDESPBESCHFdcf";

/// Replies that the proxy gives itself have texts of different lengths: the request's number, modulo all there are.
const NUMBERS: &str = match std::str::from_utf8(&[b'x'; 1024]) {
    Ok(text) => text,
    Err(_) => "",
};

fn without_rules(input: &mut Input<'_>) {
    let mut tracker = Tracker::new();
    let (mut skipped, mut due) = (0, 0);
    while !input.is_empty() {
        let audience = [Audience::Client, Audience::Client, Audience::Client, Audience::Proxy][input.below(4)];
        match input.below(5) {
            0 | 1 => drop(tracker.on_frontend(REQUESTS[input.below(REQUESTS.len())], audience)),
            2 => skipped += usize::from(tracker.on_skipped(Synthetic::BindComplete).is_ok()),
            _ => {
                let (only_client, status) = (tracker.only_client(), tracker.status());
                let tag = b"123TtnDCIsGHWdcVEZZZNSAR"[input.below(24)];
                let body = [b"I", b"T", b"E", b"x"][input.below(4)];
                let verdict = tracker.on_backend(tag, body);
                assert!(!only_client || verdict != Ok(Verdict::Swallow));
                let said = TransactionStatus::from_byte(body[0]).filter(|_| tag == b'Z' && verdict.is_ok());
                assert_eq!(tracker.status(), said.unwrap_or(status));
            }
        }
        due += input.below(2) * usize::from(tracker.take_due().is_some());
        sound(&tracker);
    }
    assert!(due <= skipped);
}

fn sound(tracker: &Tracker) {
    assert!(!tracker.is_idle() || (tracker.outstanding_syncs(), tracker.doubtful_syncs()) == (0, 0));
    assert!(!tracker.is_idle() || (tracker.only_client() && tracker.copy() == CopyState::None));
    assert!(tracker.outstanding_syncs() <= OUTSTANDING_LIMIT && tracker.room() > 0);
}

/// A proxy, its tracker, and a server.
#[derive(Default)]
struct Talk {
    tracker: Tracker,
    server: Server,
    sent: usize,
    /// The numbers of requests that were not sent, and not answered yet.
    skipped: Vec<usize>,
    syncs: Vec<usize>,
    /// The number of the last request that an answer was seen to.
    seen: usize,
    /// Whether everything that happens is printed.
    is_told: bool,
    /// It was not always certain which Syncs the server answers, or what it discards.
    in_doubt: bool,
}

impl Talk {
    /// Plays the input. An offence ends it: the connection would be closed.
    fn play(&mut self, input: &mut Input<'_>) -> Result<(), Offence> {
        while !input.is_empty() {
            match input.below(8) {
                0..3 => {
                    let audience = if input.below(4) == 0 { Audience::Proxy } else { Audience::Client };
                    self.send(REQUESTS[input.below(REQUESTS.len())], audience)?;
                }
                3 => self.skip()?,
                4 => self.server.remark(input.below(3)),
                5 => self.server.step(input),
                _ => self.deliver()?,
            }
            sound(&self.tracker);
            // Else the connection would go to another client, who would get these replies.
            assert!(!self.tracker.is_idle() || self.server.owes_nothing(), "{:?}", self.server);
        }
        Ok(())
    }

    fn send(&mut self, tag: u8, audience: Audience) -> Result<(), Offence> {
        self.sent += 1;
        self.tracker.on_frontend(tag, audience)?;
        self.note_doubt();
        if tag == b'S' {
            self.syncs.push(self.sent);
        }
        let request = Request { tag, audience, number: self.sent };
        self.tell(|| format!("to the server {request:?}"));
        self.server.inbox.push_back(request);
        self.take_due();
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Offence> {
        self.sent += 1;
        self.skipped.push(self.sent);
        self.tell(|| format!("skipped {}", self.sent));
        self.tracker.on_skipped(Synthetic::CommandComplete(&NUMBERS[self.sent % NUMBERS.len()..]))?;
        self.take_due();
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), Offence> {
        let Some(Reply { tag, to }) = self.server.outbox.pop_front() else { return Ok(()) };
        self.note_doubt();
        self.tell(|| format!("{} to {to:?}; {:?}", tag as char, self.tracker));
        let verdict = match self.tracker.on_backend(tag, b"I") {
            Ok(verdict) => verdict,
            // Which of pipelined simple requests a COPY swallows is not knowable, and said so.
            Err(offence @ Offence::RequestDuringCopy { .. }) => return Err(offence),
            Err(offence) => panic!("{offence} at {} to {to:?}", tag as char),
        };
        self.note_doubt();
        match to {
            None => assert_eq!(verdict, Verdict::Forward),
            Some(request) => self.attributed(tag, request, verdict),
        }
        self.take_due();
        Ok(())
    }

    fn attributed(&mut self, tag: u8, request: Request, verdict: Verdict) {
        if self.in_doubt {
            return;
        }
        // An error in the proxy's own request ends the client's unit, which must be told.
        let may_differ = tag == b'E' && request.audience == Audience::Proxy;
        assert!(may_differ || verdict == request.audience.into(), "{} to {request:?}: {verdict:?}", tag as char);
        assert!(request.number >= self.seen, "{} to {request:?} after {}", tag as char, self.seen);
        self.seen = request.number;
    }

    fn tell(&self, event: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{}", event());
        }
    }

    fn note_doubt(&mut self) {
        self.in_doubt |= self.tracker.doubtful_syncs() > 0 || self.tracker.copy() == CopyState::InEnded;
    }

    /// Replies of the proxy's own come in order, and each at its turn.
    fn take_due(&mut self) {
        while let Some(due) = self.tracker.take_due() {
            let Synthetic::CommandComplete(text) = due else { panic!("nobody asked for {due:?}") };
            let is_it = |number: &usize| number % NUMBERS.len() == NUMBERS.len() - text.len();
            let place = self.skipped.iter().position(is_it).expect("it was skipped");
            // Those before it fell to an error.
            let number = self.skipped.drain(..=place).next_back().expect("it is among them");
            if !self.in_doubt {
                assert!(number >= self.seen, "{number} after {}", self.seen);
                self.seen = number;
            }
        }
    }

    /// Lets everybody finish; then nothing may be outstanding.
    fn end(&mut self) {
        if self.finish().is_err() {
            return;
        }
        assert!(self.tracker.is_idle(), "{:?} {:?}", self.tracker, self.server);
        assert!(self.in_doubt || self.skipped.iter().all(|number| self.fell(*number)), "{:?}", self.skipped);
    }

    fn finish(&mut self) -> Result<(), Offence> {
        // A client whose COPY was not ended gives it up; an empty query of the proxy's settles every doubt.
        for (tag, audience) in
            [(b'f', Audience::Client), (b'S', Audience::Client), (b'S', Audience::Client), (b'Q', Audience::Proxy)]
        {
            self.send(tag, audience)?;
            while !(self.server.inbox.is_empty() && self.server.outbox.is_empty()) {
                // Choice 4 everywhere: all goes well.
                self.server.step(&mut Input(b"44444444"));
                while !self.server.outbox.is_empty() {
                    self.deliver()?;
                }
            }
        }
        Ok(())
    }

    /// Whether the request with this number lies between one that failed and the next Sync.
    fn fell(&self, number: usize) -> bool {
        let next_sync = |failed: usize| self.syncs.iter().copied().find(|sync| *sync > failed).unwrap_or(usize::MAX);
        self.server.failed.iter().any(|failed| (*failed..next_sync(*failed)).contains(&number))
    }
}
