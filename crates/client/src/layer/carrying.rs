//! What a request brings, and what its response gives: the rules of docs/carrying.md.

use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Carrying, Cookie};
use crate::position::Position;
use crate::session::Session;

/// A request's session, and how it came.
pub(super) struct Carried {
    pub(super) session: Session,
    came_by_header: bool,
    came_by_cookie: bool,
    /// When the client wrote last before this request, in seconds since the Unix epoch. `None`: never, or nobody knows.
    wrote_at: Option<u64>,
}

impl Carried {
    /// What was not signed with one of the secrets, or too long ago, says nothing. A page's script may send all that there
    /// is, and none of it knows all.
    pub(super) fn by(carrying: &Carrying, headers: &HeaderMap, now: Duration) -> Self {
        let in_header = carrying.header.as_ref().and_then(|name| headers.get(name));
        let names = carrying.cookie.as_ref().map(Cookie::names);
        let in_cookies: Vec<&str> = names.iter().flatten().filter_map(|name| cookie(headers, name)).collect();
        let in_header_text = in_header.and_then(|value| value.to_str().ok());
        let brought = in_header_text.into_iter().chain(in_cookies.iter().copied());
        let (mut position, mut wrote_at) = (Position::default(), None);
        for verified in brought.filter_map(|signed| carrying.signer.verify(signed, now, carrying.max_age)) {
            position.join(&Position::read(&verified.text));
            wrote_at = wrote_at.max(Some(verified.at));
        }
        Self {
            session: Session::new(position, carrying.otherwise),
            came_by_header: in_header.is_some(),
            came_by_cookie: !in_cookies.is_empty(),
            wrote_at,
        }
    }

    /// Gives the client what it must bring along next time, if anything.
    pub(super) fn hand_out(&self, carrying: &Carrying, headers: &mut HeaderMap, now: Duration) {
        let header = carrying.header.as_ref();
        if let Some(name) = header.filter(|name| self.came_by_header && !varies_on(headers, name.as_str())) {
            headers.append(VARY, HeaderValue::from_name(name.clone()));
        }
        let text = self.session.position().to_string();
        if text.is_empty() || !self.is_wanted(headers) {
            return;
        }
        let has_written = self.session.has_written();
        // What only came to be read later does not make it last longer: behind its end reads are as for everybody.
        let at = self.wrote_at.filter(|_| !has_written).unwrap_or(now.as_secs());
        let signed = carrying.signer.sign(&text, at);
        let by_cookie = self.came_by_cookie || (has_written && !self.came_by_header);
        if let Some(cookie) = carrying.cookie.as_ref().filter(|_| by_cookie) {
            // The answer to a slow reader may arrive behind that to a writer in another tab: it takes nothing from that one.
            let [written, seen] = cookie.names();
            let name = if has_written { written } else { seen };
            let ends = Duration::from_secs(at).saturating_add(carrying.max_age);
            let lasts = ends.saturating_sub(Duration::from_secs(now.as_secs()));
            append(headers, SET_COOKIE, &set_cookie(cookie, &name, &signed, lasts));
        }
        if let Some(name) = header.filter(|_| has_written || self.came_by_header) {
            headers.remove(name);
            append(headers, name.clone(), &signed);
        }
    }

    /// Only who wrote gets a position, so that pages stay cacheable. Who brought one gets a newer one where the response is
    /// for him alone anyway: it varies on the cookie, or on the header that was sent.
    fn is_wanted(&self, headers: &HeaderMap) -> bool {
        let is_private = self.came_by_header || varies_on(headers, "cookie");
        self.session.has_written() || (self.session.has_begun() && is_private)
    }
}

/// A cookie's value. Of several with the same name the last counts, as for Django.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // By bytes: in the value of some other cookie there may be anything.
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let pairs = pairs.filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    pairs.filter(|(found, _)| found.trim() == name).map(|(_, value)| value.trim()).next_back()
}

/// The line that a browser is given.
pub(super) fn set_cookie(cookie: &Cookie, name: &str, value: &str, lasts: Duration) -> String {
    let domain = cookie.domain.as_ref().map(|domain| format!("; Domain={domain}")).unwrap_or_default();
    let secure = if cookie.is_secure { "; Secure" } else { "" };
    let (path, same_site, seconds) = (&cookie.path, &cookie.same_site, lasts.as_secs());
    format!("{name}={value}{domain}; HttpOnly; Max-Age={seconds}; Path={path}; SameSite={same_site}{secure}")
}

/// Whether a response says that it differs by this header of requests.
fn varies_on(headers: &HeaderMap, name: &str) -> bool {
    let lines = headers.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|found| found.trim().eq_ignore_ascii_case(name))
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Positions and signatures are ASCII, and what is said of cookies has been looked at when the layer was made.
    headers.append(name, HeaderValue::from_str(value).expect("a header can hold it"));
}
