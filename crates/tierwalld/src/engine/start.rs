//! A start: from the files, or where they can't or mustn't be applied, from the last good policy.

use super::files::{lines, load};
use super::{Candidate, Engine, StepError};
use crate::host::Server;
use crate::kernel::Kernel;
use crate::last_good;
use crate::member_file;
use crate::memory::{Changed, Memory};
use crate::options::Options;
use crate::refusal::Refusal;
use crate::state::StateDirectory;
use crate::trouble::Trouble;
use control::{Enforcement, TableState};
use policy::{Host, ListCache, compile};

impl Engine {
    /// Reads the policy and brings the kernel there. Where the files are bad, the last good policy
    /// is enforced in their place.
    ///
    /// # Errors
    /// When the files are bad and there is no last good policy, or the kernel refuses. Nothing was
    /// changed then.
    pub(crate) fn start(options: Options, kernel: Kernel) -> Result<Self, StepError> {
        let state = StateDirectory::open(&options.state_directory)
            .inspect_err(|error| {
                let directory = options.state_directory.display();
                tracing::warn!(%directory, %error, "can't use the state directory; going on without");
            })
            .ok();
        let mut lists = ListCache::default();
        let (inputs, candidate) = load(&options, &mut lists, None, state.as_ref());
        let (candidate, problem) = match candidate {
            Ok(candidate) => (candidate, None),
            Err(problem) => match state.as_ref().and_then(last_good::load) {
                Some(last) => {
                    let since = last.time;
                    tracing::error!(
                        since,
                        "the policy has errors; the last good one is enforced\n{problem}"
                    );
                    let (server, found) = Server::resolve(&last.policy, None, state.as_ref());
                    let warnings = lines(&found);
                    (Candidate { policy: last.policy, server, warnings }, Some(problem))
                }
                None => return Err(StepError::BadPolicy(problem)),
            },
        };
        let Candidate { policy, server, warnings } = candidate;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let mut engine = Self {
            kernel,
            members: state.as_ref().map(member_file::load).unwrap_or_default(),
            enforced: policy.clone(),
            held: true,
            read: policy.clone(),
            refusal: state.as_ref().and_then(Refusal::load),
            refused: None,
            applied: policy,
            waiting: Vec::new(),
            enforcement: Enforcement::Committed,
            generation: 0,
            last_commit: None,
            drift: None,
            trouble: Trouble::default(),
            table: TableState::Ours,
            memory: Memory::of(state.clone()),
            lists,
            options,
            state,
            server,
            inputs,
            problem,
            warnings,
        };
        let policy = engine.members.added_to(&engine.applied);
        let (role, users) = (&engine.server.role, &engine.server.users);
        let compile =
            |previous: Option<&ruleset::Ruleset>| compile(&policy, Host { role, users, previous });
        engine.kernel.recognise(compile, engine.state.as_ref())?;
        let again = engine.refused_before();
        let first = match again {
            Some(why) => engine.hold("start", why),
            None => engine.settle("start", false),
        };
        match first {
            Err(StepError::Lockout(why)) => engine.start_with_the_last(why)?,
            step => drop(step?),
        }
        if !engine.held {
            engine.memory.policy_is_old(&engine.applied, Changed::Rules);
        }
        Ok(engine)
    }

    /// The kernel enforces an earlier policy, and that of the files would be a lockout.
    pub(super) fn start_with_the_last(&mut self, why: String) -> Result<(), StepError> {
        let refusal = self.refusal.take();
        let Some(last) = self.state.as_ref().and_then(last_good::load) else {
            return Err(StepError::Lockout(why));
        };
        let (server, found) = Server::resolve(&last.policy, None, self.state.as_ref());
        (self.applied, self.server, self.warnings) = (last.policy, server, lines(&found));
        self.settle("start", true)?;
        (self.refused, self.refusal) = (Some(why), refusal);
        Ok(())
    }
}
