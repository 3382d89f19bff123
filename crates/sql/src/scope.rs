//! The names of WITH that are in sight. There may be very many, and each relation asks for its own.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub(crate) struct Scope {
    in_order: Vec<String>,
    /// How often each name is in sight: an inner WITH may hide an outer one's.
    counts: HashMap<String, usize>,
}

impl Scope {
    /// Where to go [`back_to`](Self::back_to).
    pub(crate) fn here(&self) -> usize {
        self.in_order.len()
    }

    pub(crate) fn add(&mut self, name: &str) {
        self.in_order.push(name.to_owned());
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.counts.contains_key(name)
    }

    /// Forgets the names that came into sight since.
    pub(crate) fn back_to(&mut self, here: usize) {
        for name in self.in_order.drain(here..) {
            match self.counts.get_mut(&name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.counts.remove(&name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_name_does_not_take_the_outer_one_along() {
        let mut scope = Scope::default();
        scope.add("x");
        let here = scope.here();
        scope.add("x");
        scope.add("y");
        scope.back_to(here);
        assert!(scope.has("x") && !scope.has("y"));
        scope.back_to(0);
        assert!(!scope.has("x"));
    }
}
