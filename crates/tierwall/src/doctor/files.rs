//! Who may write what decides who gets in, beside the files themselves, which every load checks.

use super::facts::{Owned, Role};
use super::finding::{Finding, Id};

/// Others can't rename or remove in such a directory what isn't theirs.
const STICKY: u32 = 0o1000;

pub(super) fn check(paths: &[Owned]) -> Vec<Finding> {
    paths.iter().filter_map(one).collect()
}

fn one(owned: &Owned) -> Option<Finding> {
    let Owned { path, role, uid, gid, mode } = owned;
    let path = path.display();
    let is_kept = *role == Role::Way && mode & STICKY != 0;
    let is_roots_group = *role == Role::Way && *gid == 0;
    let (who, mend) = match mode {
        _ if *uid != 0 => (format!("user {uid}, who owns it,"), format!("chown root {path}")),
        mode if mode & 0o002 != 0 && !is_kept => ("everybody".into(), format!("chmod o-w {path}")),
        mode if mode & 0o020 != 0 && !is_kept && !is_roots_group => {
            ("its group".into(), format!("chmod g-w {path}"))
        }
        _ => return None,
    };
    let finding = match role {
        Role::Way => Finding::error(Id::UnsafePath, format!("{who} may write {path}"))
            .detail("the policy, or a file that it names, is below it: who can rename there decides who gets in"),
        Role::State => Finding::error(Id::UnsafeState, format!("{who} may write {path}"))
            .detail("tierwalld takes members and the last good policy from there"),
    };
    Some(finding.advice(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::testing::told;

    fn owned(role: Role, uid: u32, mode: u32) -> Owned {
        Owned { path: "/p".into(), role, uid, gid: 7, mode }
    }

    #[test]
    fn what_only_root_may_write_is_fine() {
        for (role, mode) in
            [(Role::Way, 0o755), (Role::Way, 0o1777), (Role::State, 0o700), (Role::State, 0o644)]
        {
            assert_eq!(told(&check(&[owned(role, 0, mode)])), "", "{role:?} {mode:o}");
        }
        let of_roots_group = Owned { gid: 0, ..owned(Role::Way, 0, 0o775) };
        assert_eq!(told(&check(&[of_roots_group])), "");
    }

    #[test]
    fn what_others_may_write_is_an_error() {
        for (owned, text) in [
            (owned(Role::Way, 0, 0o777), "error unsafe-path: everybody may write /p\n"),
            (owned(Role::Way, 0, 0o775), "error unsafe-path: its group may write /p\n"),
            (owned(Role::Way, 7, 0o755), "error unsafe-path: user 7, who owns it, may write /p\n"),
            (owned(Role::State, 0, 0o1777), "error unsafe-state: everybody may write /p\n"),
        ] {
            assert_eq!(told(&check(&[owned])), text);
        }
    }
}
