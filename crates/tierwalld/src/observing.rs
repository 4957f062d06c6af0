//! Since when a side only observes: so that one knows whether a week is over. It outlives the
//! daemon, as far as the state directory can be written.

use crate::state::StateDirectory;
use control::Observing;
use policy::model::{Mode, Modes};
use std::io;

/// The file in the state directory.
const FILE: &str = "observing.json";

/// The one recorded; nothing where there is none or it can't be read.
pub(crate) fn load(state: &StateDirectory) -> Observing {
    state.read(FILE).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Records it.
pub(crate) fn save(observing: Observing, state: &StateDirectory) -> io::Result<()> {
    state.write(FILE, &serde_json::to_vec_pretty(&observing)?)
}

/// What holds from now on, at this time, with these modes.
pub(crate) fn from_now(before: Observing, modes: Modes, now: u64) -> Observing {
    let side = |mode: Mode, since: Option<u64>| match mode {
        Mode::Observe => Some(since.unwrap_or(now)),
        Mode::Enforce | Mode::Off => None,
    };
    Observing { input: side(modes.input, before.input), output: side(modes.output, before.output) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_when_a_side_began_to_observe() {
        let modes = |input, output| Modes { input, output };
        let first = from_now(Observing::default(), modes(Mode::Observe, Mode::Enforce), 100);
        assert_eq!(first, Observing { input: Some(100), output: None });
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        save(first, &state).expect("written");
        let later = from_now(load(&state), modes(Mode::Observe, Mode::Observe), 200);
        assert_eq!(later, Observing { input: Some(100), output: Some(200) });
        assert_eq!(from_now(later, modes(Mode::Enforce, Mode::Off), 300), Observing::default());
    }
}
