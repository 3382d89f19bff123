//! Whether a server takes traffic, as the operator says. It must not know what runs there, nor why it was closed.

use std::sync::atomic::{AtomicU8, Ordering};

/// What a server is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Whatever is routed to it.
    Open,
    /// Nothing that another server can do.
    Draining,
    /// Nothing: whatever must run there waits.
    Paused,
}

/// The operator's word on one server.
#[derive(Debug)]
pub(crate) struct Gate(AtomicU8);

impl Default for Gate {
    fn default() -> Self {
        Self(AtomicU8::new(Traffic::Open as u8))
    }
}

impl Gate {
    /// Changes it. Whoever takes a place in a pool first and asks [`Gate::traffic`] then is either turned away or seen by
    /// whoever closes first and counts the places then.
    pub(crate) fn set(&self, traffic: Traffic) {
        self.0.store(traffic as u8, Ordering::SeqCst);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        match self.0.load(Ordering::SeqCst) {
            0 => Traffic::Open,
            1 => Traffic::Draining,
            _ => Traffic::Paused,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.traffic() == Traffic::Paused
    }
}

impl Traffic {
    /// The word in the console.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Traffic::Open => "open",
            Traffic::Draining => "draining",
            Traffic::Paused => "paused",
        }
    }
}
