//! Messages of servers that go on to the client in other words: names, numbers and positions as the client knows them.

use highwater_wire::backend::{self, ErrorResponse};
use memchr::memmem;

use super::Client;
use super::exchange::{Answer, Passes};
use crate::error::{self, Complaint};
use crate::server::Failure;

impl Client {
    /// What the client is told when a statement has been cancelled because it took too long.
    pub(super) fn overdue() -> Passes {
        let mut message = Vec::new();
        backend::error_response(&mut message, &error::complaint(&Complaint::QueryTimeout).report());
        Passes::As(message)
    }

    /// An error that goes on to the client.
    pub(super) fn reworded(&self, body: &[u8], error: &ErrorResponse<'_>, answer: &Answer) -> Passes {
        if answer.kept_back > 0
            && let Some(position) =
                error.field(b'P').and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok())
        {
            return with_position(error, position + answer.kept_back);
        }
        self.with_own_names(body)
    }

    /// An error that names a prepared statement as servers know it: the client knows it by another name.
    fn with_own_names(&self, body: &[u8]) -> Passes {
        let Some(start) = memmem::find(body, b"\"hw_") else { return Passes::AsItIs };
        let Some(length) = memchr::memchr(b'"', &body[start + 1..]) else { return Passes::AsItIs };
        let (known, end) = (&body[start + 1..start + 1 + length], start + 1 + length);
        let mut own = self.statements.iter().filter(|(_, named)| named.shared.name.as_bytes() == known);
        let Some((name, _)) = own.next() else { return Passes::AsItIs };
        let mut message = Vec::with_capacity(body.len() + name.len());
        backend::message(&mut message, b'E', &[&body[..=start], name, &body[end..]]);
        Passes::As(message)
    }

    /// A notification tells the sender's process: for senders that are clients of this proxy, the number that they know.
    pub(super) fn notification(&self, body: &[u8]) -> Result<Passes, Failure> {
        let notification = backend::NotificationResponse::read(body)?;
        let Some(pid) = self.proxy.owners.of(notification.pid) else { return Ok(Passes::AsItIs) };
        let mut message = Vec::with_capacity(body.len() + 5);
        backend::message(&mut message, b'A', &[&pid.to_be_bytes(), &body[4..]]);
        Ok(Passes::As(message))
    }
}

/// The same error at another place of the text, in characters from 1.
fn with_position(error: &ErrorResponse<'_>, position: usize) -> Passes {
    let position = position.to_string();
    let mut fields = Vec::new();
    for (kind, text) in error.iter() {
        let text = if kind == b'P' { position.as_bytes() } else { text };
        fields.push(kind);
        fields.extend_from_slice(text);
        fields.push(0);
    }
    let mut message = Vec::new();
    backend::message(&mut message, b'E', &[&fields, &[0]]);
    Passes::As(message)
}
