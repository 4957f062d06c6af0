//! What metrics tell beside the state that `status` has, as the last step left it: while the engine
//! is at work, that is all there is to tell.

use super::{Counters, Snapshot};
use crate::denials;
use control::Status;
use policy::{Labels, Policy};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of the engine.
#[derive(Debug, Default)]
pub(crate) struct Known {
    counters: Counters,
    generation_since: Option<u64>,
    allows: Arc<BTreeMap<String, String>>,
    /// The generation that the allows are of: they change with it only.
    generation: Option<u64>,
}

impl Known {
    /// Takes note of what a step came to: the generation of the policy that is enforced, and since
    /// when.
    pub(crate) fn note(
        &mut self,
        policy: &Policy,
        (generation, since): (u64, Option<u64>),
        counters: &Counters,
    ) {
        self.counters.clone_from(counters);
        self.generation_since = since;
        if self.generation.replace(generation) != Some(generation) {
            let labels = Labels::of(&policy.allows);
            let keys = policy.allows.iter().map(|allow| allow.key.to_string());
            let counters = keys.enumerate().map(|(index, key)| (labels.counter(index), key));
            self.allows = Arc::new(counters.collect());
        }
    }

    /// All that metrics are made of.
    pub(crate) fn snapshot(&self, status: &Status, denials: &denials::Shared) -> Snapshot {
        Snapshot {
            status: status.clone(),
            counters: self.counters.clone(),
            generation_since: self.generation_since,
            allows: Arc::clone(&self.allows),
            denials: denials.clone(),
        }
    }
}
