//! Where clients rest that have said nothing for a while, and who attends to them when they speak.
//!
//! ```text
//!                says nothing for a while
//!   attended to -------------------------> resting
//!        ^                                    |
//!        +------------------------------------+
//!          speaks, is ended, or rests too long
//! ```
//!
//! Most clients of a pooled database say nothing most of the time. One that rests has no task and is not watched by the
//! runtime: one thread watches all of them, so that ten thousand of them cost a few MB.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Context};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, interval};

use crate::error::End;
use crate::session::dormant::Dormant;
use crate::session::{Client, Occasion, Parting};
use crate::shared::Proxy;

/// A client that has said nothing between two looks is asked to rest. To attend to it again costs about as much as a
/// statement, so it must not happen with every one.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// They are looked at in so many groups, one after the other: many thousands that go to rest at once would keep others
/// waiting.
const GROUPS: u32 = 20;
/// So many clients that speak are taken at once; the others a moment later.
const EVENTS_MAX: usize = 256;
/// No client has this number.
const WAKER: Token = Token(usize::MAX);

/// The clients at rest, by their numbers.
pub(crate) struct Lobby {
    resting: Mutex<HashMap<u32, Box<Dormant>>>,
    registry: Registry,
}

/// Keeps watch over a lobby as long as it lives.
pub(crate) struct Watch {
    is_over: Arc<AtomicBool>,
    waker: Waker,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

impl Lobby {
    /// An empty lobby, and who watches it: a thread, because waiting for all of them at once is nothing that the runtime
    /// offers.
    ///
    /// # Errors
    /// No descriptor or no thread is to be had.
    pub(crate) fn open(proxy: &Arc<Proxy>) -> io::Result<(Arc<Self>, Watch)> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let watch = Watch { is_over: Arc::default(), waker: Waker::new(&registry, WAKER)? };
        let lobby = Arc::new(Self { resting: Mutex::default(), registry });
        let (is_over, proxy, runtime) = (Arc::clone(&watch.is_over), Arc::clone(proxy), Handle::current());
        let watched = Arc::clone(&lobby);
        let watcher = move || {
            let _inside = runtime.enter();
            watched.watch(&proxy, poll, &is_over);
        };
        std::thread::Builder::new().name("lobby".to_owned()).spawn(watcher)?;
        Ok((lobby, watch))
    }

    fn watch(self: &Arc<Self>, proxy: &Arc<Proxy>, mut poll: Poll, is_over: &AtomicBool) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !is_over.load(Ordering::Acquire) {
            // Interrupted by a signal it reports nothing.
            let _ = poll.poll(&mut events, None);
            for token in events.iter().map(|event| event.token()).filter(|token| *token != WAKER) {
                let pid = u32::try_from(token.0).expect("tokens are made of numbers of clients");
                self.call(proxy, pid, Occasion::Word);
            }
        }
    }

    /// Lets a client rest.
    fn admit(self: &Arc<Self>, proxy: &Arc<Proxy>, client: Box<Dormant>) {
        let info = Arc::clone(client.info());
        info.signals.on_rest();
        let watched = {
            // Nobody may find it who could take it out before it is watched.
            let mut resting = self.resting.lock();
            let descriptor = client.as_raw_fd();
            resting.insert(info.pid, client);
            // What has been said meanwhile is told as soon as it is watched for.
            self.registry.register(&mut SourceFd(&descriptor), Token(info.pid as usize), Interest::READABLE)
        };
        if let Err(error) = watched {
            tracing::warn!("cannot watch a client that rests: {error}");
            return self.call(proxy, info.pid, Occasion::Word);
        }
        tracing::debug!(client = info.pid, "client rests");
        if info.signals.is_ended() {
            // Whoever ended it may have looked for it here before it came.
            proxy.ended.notify_one();
        }
    }

    /// Takes a client out.
    fn take(&self, pid: u32) -> Option<Box<Dormant>> {
        let mut resting = self.resting.lock();
        let client = resting.remove(&pid)?;
        let _ = self.registry.deregister(&mut SourceFd(&client.as_raw_fd()));
        Some(client)
    }

    /// Attends to a client that rests.
    fn call(self: &Arc<Self>, proxy: &Arc<Proxy>, pid: u32, occasion: Occasion) {
        let Some(dormant) = self.take(pid) else { return };
        dormant.info().signals.on_stay();
        match dormant.wake(Arc::clone(proxy)) {
            Ok(client) => spawn(attend(Arc::clone(self), Arc::clone(proxy), client, occasion)),
            Err(error) => tracing::warn!("cannot attend to a client that speaks: {error}"),
        }
    }

    /// Those that have rested too long, if there are any such `limits`.
    fn overdue(&self, at: Instant, limits: bool) -> Vec<u32> {
        if limits { self.find(|client| client.rests_until().is_some_and(|end| end <= at)) } else { Vec::new() }
    }

    /// Those of whom `condition` holds.
    fn find(&self, condition: impl Fn(&Dormant) -> bool) -> Vec<u32> {
        self.resting.lock().iter().filter(|(_, client)| condition(client)).map(|(pid, _)| *pid).collect()
    }
}

/// Attends to one client until it leaves or rests.
pub(crate) async fn attend(lobby: Arc<Lobby>, proxy: Arc<Proxy>, client: Box<Client>, occasion: Occasion) {
    let peer = client.peer();
    match client.run(occasion).await {
        Parting::Rest(dormant) => lobby.admit(&proxy, dormant),
        Parting::End(end) => log(peer, &end),
    }
}

/// Says how a connection ended.
pub(crate) fn log(peer: Option<std::net::SocketAddr>, end: &End) {
    match end {
        End::Closed => tracing::debug!(?peer, "client gone"),
        End::Login { .. }
        | End::Offence(_)
        | End::Handshake(_)
        | End::OutcomeUnknown(_)
        | End::ServerLost(_)
        | End::Stalled
        | End::Unstoppable => {
            tracing::warn!(?peer, "{end}");
        }
        _ => tracing::info!(?peer, "{end}"),
    }
}

/// Sees to it that clients rest that say nothing, and that those are called whose connections end.
pub(crate) async fn tend(lobby: Arc<Lobby>, proxy: Arc<Proxy>) {
    let (mut looks, mut group) = (interval(LOOK_INTERVAL / GROUPS), 0);
    let limits_rest = !proxy.config.client_idle_timeout.0.is_zero();
    loop {
        tokio::select! {
            () = proxy.ended.notified() => {
                for pid in lobby.find(|client| client.info().signals.is_ended()) {
                    lobby.call(&proxy, pid, Occasion::Over(End::Terminated));
                }
            }
            _ = looks.tick() => {
                group = (group + 1) % GROUPS;
                let clients = proxy.clients.lock();
                clients.iter().filter(|(pid, _)| *pid % GROUPS == group).for_each(|(_, client)| client.signals.on_look());
                drop(clients);
                let at = Instant::now();
                for pid in lobby.overdue(at, limits_rest) {
                    lobby.call(&proxy, pid, Occasion::Over(End::Idle));
                }
            }
        }
    }
}

/// Runs one client's task; a panic is logged as our bug and goes no further.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(Contained(Box::pin(task)));
}

struct Contained(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> task::Poll<()> {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)));
        polled.unwrap_or_else(|panic: Box<dyn Any + Send>| {
            drop(panic);
            tracing::error!("a client's task panicked: this is a bug in Highwater");
            task::Poll::Ready(())
        })
    }
}
