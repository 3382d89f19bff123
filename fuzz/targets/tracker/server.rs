//! A server as the tracker sees it: requests in, replies out, by the rules of `PostgresMain` and `CopyGetData`.

use std::collections::VecDeque;

use highwater_fuzz::Input;
use highwater_wire::tracker::Audience;

/// A request on its way to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) tag: u8,
    pub(crate) audience: Audience,
    /// Its place among all requests, skipped ones included.
    pub(crate) number: usize,
}

/// A reply on its way back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    pub(crate) tag: u8,
    /// What it answers; `None` for what answers nothing.
    pub(crate) to: Option<Request>,
}

#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) inbox: VecDeque<Request>,
    pub(crate) outbox: VecDeque<Reply>,
    /// The request whose COPY reads data.
    pub(crate) copy: Option<Request>,
    /// An extended message failed: everything up to Sync is ignored.
    pub(crate) ignoring: bool,
    /// Something of the extended protocol has succeeded since the last Sync.
    has_work: bool,
    /// Numbers of extended requests that failed outside of COPY.
    pub(crate) failed: Vec<usize>,
}

impl Server {
    /// Whether no reply is on its way, nor will be to what was sent.
    pub(crate) fn owes_nothing(&self) -> bool {
        let is_silent = |request: &Request| b"Hdcf".contains(&request.tag);
        self.outbox.iter().all(|reply| reply.to.is_none())
            && self.inbox.iter().all(is_silent)
            && self.copy.is_none()
            && !self.ignoring
    }

    fn say(&mut self, tag: u8, to: Request) {
        // Committed or rolled back.
        self.has_work &= tag != b'Z' && tag != b'E';
        self.outbox.push_back(Reply { tag, to: Some(to) });
    }

    fn say_all(&mut self, tags: &[u8], to: Request) {
        tags.iter().for_each(|tag| self.say(*tag, to));
    }

    /// Says something that nobody asked for.
    pub(crate) fn remark(&mut self, choice: usize) {
        self.outbox.push_back(Reply { tag: b"NSA"[choice % 3], to: None });
    }

    /// Reads one message and acts on it; `choices` says how it fares.
    pub(crate) fn step(&mut self, choices: &mut Input<'_>) {
        let Some(request) = self.inbox.pop_front() else { return };
        if let Some(copy) = self.copy {
            return self.copy_in(copy, request, choices);
        }
        if self.ignoring && request.tag != b'S' {
            return;
        }
        match request.tag {
            b'Q' => self.query(request, choices),
            b'F' => self.say_all([b"VZ", b"EZ"][choices.below(2)], request),
            b'S' => {
                self.ignoring = false;
                // A deferred constraint may fail at the commit.
                let fails = self.has_work && choices.below(4) == 1;
                self.say_all(if fails { b"EZ" } else { b"Z" }, request);
            }
            b'P' | b'B' | b'D' | b'E' | b'C' => self.extended(request, choices),
            // Flush says nothing of its own, and the rest of a failed COPY is ignored.
            _ => {}
        }
    }

    fn fail(&mut self, request: Request) {
        self.say(b'E', request);
        self.ignoring = true;
        self.failed.push(request.number);
    }

    fn extended(&mut self, request: Request, choices: &mut Input<'_>) {
        let replies: &[u8] = match (request.tag, choices.below(8)) {
            (_, 0) => return self.fail(request),
            (b'P', _) => b"1",
            (b'B', _) => b"2",
            (b'C', _) => b"3",
            (b'D', choice) => [&b"T"[..], b"n", b"tT", b"tn"][choice % 4],
            (_, 1) => {
                self.copy = Some(request);
                b"G"
            }
            (_, choice) => [&b"C"[..], b"DDC", b"I", b"Ds", b"HddcC", b"DC"][choice - 2],
        };
        self.has_work = true;
        self.say_all(replies, request);
    }

    /// Some statements of a simple Query: the rest of them once a COPY among them has ended.
    fn query(&mut self, request: Request, choices: &mut Input<'_>) {
        for _ in 0..=choices.below(3) {
            match choices.below(7) {
                0 => {
                    self.say(b'E', request);
                    break;
                }
                1 => {
                    self.copy = Some(request);
                    return self.say(b'G', request);
                }
                choice => self.say_all([&b"C"[..], b"TDDC", b"I", b"HddcC", b"TC"][choice - 2], request),
            }
        }
        self.say(b'Z', request);
    }

    fn copy_in(&mut self, copy: Request, request: Request, choices: &mut Input<'_>) {
        match request.tag {
            b'c' => {
                self.copy = None;
                match (copy.tag, choices.below(4)) {
                    (_, 0) => self.copy_fails(copy),
                    (b'Q', _) => {
                        self.say(b'C', copy);
                        self.query(copy, choices);
                    }
                    _ => self.say(b'C', copy),
                }
            }
            b'd' if choices.below(4) > 0 => {}
            b'H' | b'S' => {}
            _ => self.copy_fails(copy),
        }
    }

    fn copy_fails(&mut self, copy: Request) {
        self.copy = None;
        if copy.tag == b'Q' {
            self.say_all(b"EZ", copy);
        } else {
            self.fail(copy);
        }
    }
}
