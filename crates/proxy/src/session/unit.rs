//! Collecting units: what the client has sent, cut where an answer is due.

use std::time::Duration;

use highwater_wire::frame::{self, Header};
use tokio::time::{Instant, timeout};

use super::Client;
use crate::error::End;
use crate::signals::Call;

/// An extended unit longer than this without its Sync is sent on as it is: the client may be streaming a batch.
const OPEN_UNIT_BYTES: usize = 1024 * 1024;

/// So long the rest of an extended unit is waited for, which decides where it runs. A client that takes longer may be waiting
/// for an error: PostgreSQL tells those at once.
const OPEN_UNIT_PATIENCE: Duration = Duration::from_millis(20);

/// The bytes at the front of the client's input that belong together.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) length: usize,
    pub(super) kind: UnitKind,
}

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitKind {
    /// A simple Query.
    Query,
    /// Extended messages; `synced` when they end in Sync, else more will follow.
    Extended {
        synced: bool,
    },
    /// The function-call protocol.
    FunctionCall,
    Terminate,
    /// A COPY message outside COPY: ignored, as PostgreSQL does.
    Stray,
    /// A message skipped after an error; the flag says whether it was the Sync.
    Skipped {
        sync: bool,
    },
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Unit(Unit),
    /// Nothing for a while: the client may rest, until then if there is a limit.
    Rest(Option<Instant>),
}

/// What waiting for a client brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Something,
    /// It says nothing, and may rest.
    Nothing,
}

impl Client {
    /// The next unit, whole. Meanwhile what a held server connection says unasked is passed on.
    pub(super) async fn next_unit(&mut self) -> Result<Next, End> {
        let mut scanned = 0;
        let mut patience = None;
        loop {
            if let Some(unit) = self.collected(&mut scanned)? {
                return Ok(Next::Unit(unit));
            }
            if scanned == 0 {
                let patience = patience.get_or_insert_with(|| self.patience());
                if self.wait_in_time(patience).await? == Heard::Nothing {
                    return Ok(Next::Rest(patience.until()));
                }
                continue;
            }
            if let Ok(heard) = timeout(OPEN_UNIT_PATIENCE, self.wait_for_client()).await {
                heard?;
            } else {
                return Ok(Next::Unit(Unit { length: scanned, kind: UnitKind::Extended { synced: false } }));
            }
        }
    }

    /// A unit, if it is there; `scanned` is how far earlier calls have looked.
    fn collected(&self, scanned: &mut usize) -> Result<Option<Unit>, End> {
        let filled = self.input.filled();
        while let Some(Header { tag, len }) = self.header(&filled[*scanned..])? {
            if filled.len() < *scanned + len {
                break;
            }
            let length = *scanned + len;
            let kind = match tag {
                _ if self.skipping => UnitKind::Skipped { sync: tag == b'S' },
                b'X' => UnitKind::Terminate,
                b'Q' => UnitKind::Query,
                b'F' => UnitKind::FunctionCall,
                b'd' | b'c' | b'f' => UnitKind::Stray,
                b'S' => UnitKind::Extended { synced: true },
                b'H' => UnitKind::Extended { synced: false },
                _ => {
                    *scanned = length;
                    continue;
                }
            };
            // A simple message behind extended ones that were never synced starts a unit of its own.
            let own = matches!(tag, b'X' | b'Q' | b'F' | b'd' | b'c' | b'f') && *scanned > 0 && !self.skipping;
            return Ok(Some(if own {
                Unit { length: *scanned, kind: UnitKind::Extended { synced: false } }
            } else {
                Unit { length, kind }
            }));
        }
        let open = *scanned > OPEN_UNIT_BYTES;
        Ok(open.then_some(Unit { length: *scanned, kind: UnitKind::Extended { synced: false } }))
    }

    /// The next message's header; what no client may send, or is larger than configured, ends the connection.
    pub(super) fn header(&self, bytes: &[u8]) -> Result<Option<Header>, End> {
        let limit = u32::try_from(self.proxy.config.message_bytes_max).unwrap_or(u32::MAX);
        frame::frontend_header(bytes, limit).map_err(End::Offence)
    }

    /// Waits for the client to say something, or to have nothing to say.
    pub(super) async fn wait_for_client(&mut self) -> Result<Heard, End> {
        loop {
            let heard = match &mut self.held {
                None => tokio::select! {
                    biased;
                    read = self.input.read_from(&mut self.stream) => Ok(read),
                    call = self.info.signals.called() => Err(call),
                },
                Some(checkout) => {
                    let server = checkout.server();
                    tokio::select! {
                        read = self.input.read_from(&mut self.stream) => Ok(read),
                        call = self.info.signals.called() => Err(call),
                        said = server.connection.read() => {
                            if self.can_do_without(&said) {
                                return Ok(Heard::Something);
                            }
                            said.map_err(End::ServerLost)?;
                            return self.pass_on_unasked().await.map(|()| Heard::Something);
                        }
                    }
                }
            };
            match heard {
                Ok(Ok(0)) => return Err(End::Closed),
                Ok(Ok(_)) => return Ok(Heard::Something),
                Ok(Err(error)) => return Err(End::Broken(error)),
                Err(Call::End) => return Err(End::Terminated),
                Err(Call::Rest) if self.may_rest() => return Ok(Heard::Nothing),
                Err(Call::Rest) => self.info.signals.on_stay(),
            }
        }
    }
}
