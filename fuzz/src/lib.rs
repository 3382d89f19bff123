//! What the targets share: a bound on memory, ways to cut input, and the input taken apart.
//!
//! A target asserts what must hold of any input. The fuzzer adds that nothing panics, hangs or grows.

mod memory;

pub use memory::bounded;

/// Some places at which `length` bytes may be cut: all of a short input, the edges and the middle of a long one.
pub fn cuts(length: usize) -> impl Iterator<Item = usize> {
    /// Long enough for every fixed part and some names behind it.
    const EDGE: usize = 24;
    let middle = length / 2;
    (0..length.min(EDGE)).chain(middle..(middle + 4).min(length)).chain(length.saturating_sub(EDGE)..=length)
}

/// An input from whose front decisions are taken. When nothing is left, everything is zero.
#[derive(Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `bound`, which is at most 256; a digit stands for itself, so that seeds can be read.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte().wrapping_sub(b'0')) % bound
    }

    /// The next eight bytes as a number.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// As many bytes as the next one says, if there are so many.
    pub fn short(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
