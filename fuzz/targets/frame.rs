//! Framing: any chunking gives the same messages, the pieces are the whole, limits hold.

#![no_main]

use highwater_fuzz::{Input, bounded};
use highwater_wire::Offence;
use highwater_wire::frame::{self, MESSAGE_BYTES_MAX, Messages};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(64 * data.len() + 4096, || {
    let mut input = Input(data);
    let limit = [MESSAGE_BYTES_MAX, 10_000, 64, 4][input.below(4)];
    let sizes = input.short();
    for side in [Side::Client { limit }, Side::Server] {
        let whole = read(side, std::iter::once(input.0));
        assert_eq!(read(side, pieces(input.0, sizes)), whole);
        pieces_are_the_whole(side, input.0, limit);
    }
}));

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client { limit: u32 },
    Server,
}

impl Side {
    fn messages(self, bytes: &[u8]) -> Messages<'_> {
        match self {
            Self::Client { limit } => frame::frontend_messages(bytes, limit),
            Self::Server => frame::messages(bytes),
        }
    }
}

/// All messages (type and length) and how the reading ended, when the bytes arrive in these pieces.
fn read<'a>(side: Side, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(u8, usize)>, Option<Offence>) {
    let (mut buffer, mut start, mut seen) = (Vec::new(), 0, Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut messages = side.messages(&buffer[start..]);
        for message in messages.by_ref() {
            match message {
                Ok(message) => seen.push((message.tag, message.whole.len())),
                Err(offence) => return (seen, Some(offence)),
            }
        }
        start = buffer.len() - messages.rest().len();
    }
    (seen, None)
}

/// The bytes in pieces of the given sizes, over and over; at least one byte each.
fn pieces<'a>(mut bytes: &'a [u8], sizes: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().chain([&0]).cycle();
    std::iter::from_fn(move || {
        let size = sizes.next().map_or(1, |size| usize::from(*size) + 1);
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn pieces_are_the_whole(side: Side, bytes: &[u8], limit: u32) {
    let mut messages = side.messages(bytes);
    let mut joined = Vec::new();
    for message in messages.by_ref().map_while(Result::ok) {
        assert_eq!((message.whole[0], &message.whole[5..]), (message.tag, message.body));
        let header = frame::header(message.whole);
        assert_eq!(header.map(|header| header.map(|header| header.len)), Ok(Some(message.whole.len())));
        if side != Side::Server {
            assert!(message.whole.len() <= limit as usize + 1 && frame::frontend_limit(message.tag).is_some());
        }
        joined.extend_from_slice(message.whole);
    }
    joined.extend_from_slice(messages.rest());
    assert_eq!(joined, bytes);
    assert!(messages.next().is_none(), "the end is the end");
}
