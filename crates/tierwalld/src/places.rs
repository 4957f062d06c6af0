//! Who is served at once: root has places of its own, every other user a few.
//!
//! Nobody but root can keep root waiting. Who finds no place of theirs is told at once, so that
//! the listen queue, which all have in common, moves on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Root's clients served at once; more wait in the listen queue.
const ROOT: usize = 64;

/// Clients of all other users together, and of each.
const OTHERS: usize = 48;
const USER: usize = 8;

/// All places.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    root: Arc<Semaphore>,
    /// How many each user has.
    others: Arc<Mutex<HashMap<u32, usize>>>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) enum Place {
    /// One of root's.
    Root(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit),
    /// One of another user's.
    Other {
        /// Of all.
        places: Places,
        /// Whose.
        uid: u32,
    },
}

impl Places {
    pub(crate) fn new() -> Self {
        Self { root: Arc::new(Semaphore::new(ROOT)), others: Arc::default() }
    }

    /// A place for root, as soon as there is one.
    pub(crate) async fn of_root(&self) -> Option<Place> {
        // It is never closed.
        Arc::clone(&self.root).acquire_owned().await.ok().map(Place::Root)
    }

    /// A place for another user, if there is one.
    pub(crate) fn of_user(&self, uid: u32) -> Option<Place> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = others.values().sum();
        let own = others.get(&uid).copied().unwrap_or(0);
        if all >= OTHERS || own >= USER {
            return None;
        }
        others.insert(uid, own + 1);
        Some(Place::Other { places: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Other { places, uid } = self {
            let mut others = places.others.lock().unwrap_or_else(PoisonError::into_inner);
            match others.get_mut(uid) {
                Some(own) if *own > 1 => *own -= 1,
                _ => {
                    others.remove(uid);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_few_places_and_gets_them_back() {
        let places = Places::new();
        let mut taken: Vec<Place> = (0..USER).filter_map(|_| places.of_user(7)).collect();
        assert_eq!(taken.len(), USER);
        assert!(places.of_user(7).is_none());
        let crowd: Vec<Place> = (100..200).filter_map(|uid| places.of_user(uid)).collect();
        assert_eq!(crowd.len(), OTHERS - USER, "no crowd of users takes more");
        taken.pop();
        assert!(places.of_user(7).is_some());
        drop((taken, crowd));
        assert!(places.others.lock().expect("nobody panicked").is_empty());
    }
}
