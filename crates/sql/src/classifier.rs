//! The classifier: one pass over the bytes, a lookup, and the grammar only for what was never seen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::effort;
use crate::facts::{Class, Facts};
use crate::fold::Scratch;
use crate::statement;
use crate::why::Why;

/// Longer keys are not kept: with the capacity, this bounds the memory, and such texts hardly come twice.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// Says of a message's text what it may do. Shared by all threads.
///
/// ```
/// use highwater_sql::{Catalog, Class, Classifier, Scratch};
///
/// let (classifier, catalog, mut scratch) = (Classifier::new(1000), Catalog::empty(), Scratch::default());
/// let mut class = |text| classifier.classify(text, &catalog, &mut scratch).class;
/// assert_eq!(class("SELECT 1"), Class::Read);
/// assert_eq!(class("SELECT 2; DELETE FROM t"), Class::Write);
/// assert_eq!(class("SELEC 1"), Class::Unknown);
/// ```
pub struct Classifier {
    cache: Cache,
}

impl Classifier {
    /// A classifier that remembers about `capacity` texts, literals folded.
    pub fn new(capacity: usize) -> Self {
        Self { cache: Cache::new(capacity) }
    }

    /// The facts of `text`, by the objects of `catalog`. `scratch` is working memory of the caller's, for reuse. A text
    /// that was seen before, with other literals perhaps, costs one pass over its bytes and a lookup.
    ///
    /// Whatever depends on a literal is left out of the facts or makes the text its own key: they hold for every text
    /// with the same key. But for one thing: a literal may be such that the grammar refuses it (`E'\uD800'`, a number too
    /// large for its place), or a comment such that nothing looks further. Such a text is not remembered, or a good one
    /// would be misjudged after it.
    pub fn classify(&self, text: &str, catalog: &Catalog, scratch: &mut Scratch) -> Arc<Facts> {
        let key = scratch.fold(text, catalog.generation());
        if let Some(facts) = self.cache.find(key) {
            return facts;
        }
        if effort::is_excessive(text) {
            return Arc::new(Facts { why: Why::NotUnderstood, ..Facts::unknown() });
        }
        // The C library and its wrapper see what any client sends: a panic there costs this statement its class only.
        let analysis = catch_unwind(AssertUnwindSafe(|| statement::analyse(text, catalog)));
        let facts = Arc::new(analysis.unwrap_or_else(|_| Facts::unknown()));
        if key.len() <= KEY_BYTES_MAX && facts.why != Why::Syntax {
            self.cache.insert(key, Arc::clone(&facts));
        }
        facts
    }

    /// A standby refused `text` though it was taken for a read: from now on it, and every text with the same key, is a
    /// write. Forgotten when the catalogue changes.
    pub fn learn_refusal(&self, text: &str, catalog: &Catalog, scratch: &mut Scratch) {
        let facts = (*self.classify(text, catalog, scratch)).clone();
        let refused = Facts { class: facts.class.max(Class::Write), why: Why::RefusedByStandby, ..facts };
        self.cache.replace(scratch.fold(text, catalog.generation()), Arc::new(refused));
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").finish_non_exhaustive()
    }
}
