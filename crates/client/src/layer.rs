//! One session for each request: a layer for axum and whatever else is built on tower and http. It must not know of
//! databases.
//!
//! It is the outermost one that reads or writes anything. What is read while a body is sent comes too late for it: the
//! response's headers are gone by then.

mod carrying;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue, Request, Response};
use thiserror::Error;
use tower_layer::Layer;
use tower_service::Service;

use crate::level::Level;
use crate::signed::Signer;
use carrying::Carried;

/// How sessions travel. A Django site that shares them has the same secret, cookie, header and `max_age`.
#[derive(Clone)]
pub struct Carrying {
    /// What signs positions.
    pub signer: Signer,
    /// The cookies that carry a browser's position; `None`: no cookies.
    pub cookie: Option<Cookie>,
    /// The header, of requests and responses, that carries an API client's; `None`: no header.
    pub header: Option<HeaderName>,
    /// How long a position is remembered after the last write, in whole seconds. Longer than standbys ever lag.
    pub max_age: Duration,
    /// Level of requests that bring no position; `None`: as Highwater is configured, which is `strong` by default.
    pub otherwise: Option<Level>,
}

impl Carrying {
    /// As the Django package carries them when nobody says otherwise: cookies `highwater` and `highwater_seen`, header
    /// `Highwater-Token`, 300 seconds.
    pub fn new(signer: Signer) -> Self {
        Self {
            signer,
            cookie: Some(Cookie::default()),
            header: Some(HeaderName::from_static("highwater-token")),
            max_age: Duration::from_secs(300),
            otherwise: None,
        }
    }
}

/// The two cookies of a browser: of who wrote, and of who only read since. No script can read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Of who wrote; with `_seen` behind it the other one's.
    pub name: String,
    /// Where they are sent to.
    pub path: String,
    /// The hosts that they are sent to; `None`: this one alone.
    pub domain: Option<String>,
    /// Only over TLS.
    pub is_secure: bool,
    /// `Strict`, `Lax` or `None`, in a browser's words.
    pub same_site: String,
}

impl Default for Cookie {
    /// With the flags of Django's session cookie when nobody says otherwise.
    fn default() -> Self {
        let [name, path, same_site] = ["highwater", "/", "Lax"].map(str::to_owned);
        Self { name, path, domain: None, is_secure: false, same_site }
    }
}

impl Cookie {
    /// Whether a header can hold it. Names of cookies are tokens, as those of headers are (RFC 6265, 4.1.1).
    fn is_sound(&self) -> bool {
        let attributes = [&self.path, &self.same_site].into_iter().chain(&self.domain);
        let line = carrying::set_cookie(self, &self.name, "", Duration::ZERO);
        HeaderName::from_bytes(self.name.as_bytes()).is_ok()
            && attributes.into_iter().all(|text| !text.contains(';'))
            && HeaderValue::from_str(&line).is_ok()
    }

    fn names(&self) -> [String; 2] {
        [self.name.clone(), format!("{}_seen", self.name)]
    }
}

/// Puts a [`Session`](crate::Session) into each request's extensions, and gives the client the position that it must bring
/// along next time.
///
/// ```
/// use axum::{Extension, Router, routing::get};
/// use highwater_client::layer::{Carrying, HighwaterLayer};
/// use highwater_client::{Session, Signer};
///
/// async fn list(Extension(session): Extension<Session>) -> String {
///     format!("reads see {:?}", session.level("default"))
/// }
///
/// let carrying = Carrying::new(Signer::new("the SECRET_KEY of the site", [""; 0])?);
/// let service: Router = Router::new().route("/", get(list)).layer(HighwaterLayer::new(carrying)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HighwaterLayer(Arc<Carrying>);

impl HighwaterLayer {
    /// A layer that carries sessions in this way.
    ///
    /// # Errors
    /// Where nothing would be carried: a cookie that no header can hold, a `max_age` below a second.
    pub fn new(carrying: Carrying) -> Result<Self, SetUpError> {
        if carrying.max_age < Duration::from_secs(1) {
            return Err(SetUpError::MaxAge);
        }
        match &carrying.cookie {
            Some(cookie) if !cookie.is_sound() => Err(SetUpError::Cookie(cookie.name.clone())),
            _ => Ok(Self(Arc::new(carrying))),
        }
    }
}

/// What nothing can be carried with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetUpError {
    /// Its name, path, domain or flag.
    #[error("no header can hold the cookie \"{0}\"")]
    Cookie(String),
    /// It is counted in whole seconds.
    #[error("max_age is at least a second")]
    MaxAge,
}

impl<S> Layer<S> for HighwaterLayer {
    type Service = HighwaterService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HighwaterService { inner, carrying: Arc::clone(&self.0) }
    }
}

/// What [`HighwaterLayer`] makes of a service.
#[derive(Clone)]
pub struct HighwaterService<S> {
    inner: S,
    carrying: Arc<Carrying>,
}

impl<S, B, R> Service<Request<B>> for HighwaterService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let carrying = Arc::clone(&self.carrying);
        let carried = Carried::by(&carrying, request.headers(), now());
        request.extensions_mut().insert(carried.session.clone());
        let answered = self.inner.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            carried.hand_out(&carrying, response.headers_mut(), now());
            Ok(response)
        })
    }
}

/// Since the Unix epoch. A clock before it makes every signature one of the future, which does no harm.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
