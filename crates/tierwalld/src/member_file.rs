//! The record of members by command in the state directory, and its copy.
//!
//! The record is written before anybody is told that a member holds, but not waited for: a crash
//! of the machine can leave it empty. So a copy follows when the disk has it, and a start that
//! can't read the record takes the copy: members were let in by people, and none of them may be
//! shut out by a disk. What can't be read is set aside and not written over. A record that is
//! missing is none.

use crate::journal::kind;
use crate::members::CommandMembers;
use crate::state::StateDirectory;
use std::io;

const FILE: &str = "members.json";

/// The last record that is known to be on the disk.
const COPY: &str = "members.synced.json";

/// Those that the state directory remembers.
pub(crate) fn load(state: &StateDirectory) -> CommandMembers {
    let problem = match read(state, FILE) {
        Ok(Some(members)) => return members,
        Ok(None) => {
            if let Ok(Some(copy)) = read(state, COPY)
                && !copy.members.is_empty()
            {
                tracing::warn!(target: kind::STATE_DAMAGED,
                    "the record of members by command, {FILE}, is missing, so there are none; \
                     {COPY} knows of {}",
                    copy.members.len()
                );
            }
            return CommandMembers::default();
        }
        Err(problem) => problem,
    };
    let aside = match state.set_aside(FILE) {
        Ok(aside) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it can't be set aside either: {error}"),
    };
    let members = match read(state, COPY) {
        Ok(Some(members)) => {
            tracing::error!(target: kind::STATE_DAMAGED,
                error = %problem,
                "the record of members by command can't be read, and {aside}; {} members of its \
                 last copy hold",
                members.members.len()
            );
            members
        }
        copy => {
            let why = copy.err().map_or("missing".to_owned(), |error| error.to_string());
            tracing::error!(target: kind::STATE_DAMAGED,
                error = %problem,
                copy_error = why,
                "the record of members by command and its copy can't be read, and {aside}; going \
                 on without"
            );
            CommandMembers::default()
        }
    };
    if let Err(error) = save(&members, state) {
        tracing::error!(target: kind::NOT_RECORDED, %error, "the members by command can't be recorded");
    }
    members
}

/// Records them. On return a crash of the daemon can't lose them.
pub(crate) fn save(members: &CommandMembers, state: &StateDirectory) -> io::Result<()> {
    state.write(FILE, &serde_json::to_vec_pretty(members)?)
}

/// Waits until the record is on the disk, and keeps its copy there.
pub(crate) fn sync(members: &CommandMembers, state: &StateDirectory) -> io::Result<()> {
    state.sync(FILE)?;
    let json = serde_json::to_vec_pretty(members)?;
    match state.try_read(COPY)? {
        Some(copy) if copy == json => Ok(()),
        None if members.members.is_empty() => Ok(()),
        _ => state.write_synced(COPY, &json),
    }
}

fn read(state: &StateDirectory, name: &str) -> io::Result<Option<CommandMembers>> {
    let Some(bytes) = state.try_read(name)? else { return Ok(None) };
    let members: CommandMembers = serde_json::from_slice(&bytes)?;
    Ok(Some(members.bounded()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::CommandMember;
    use std::fs;

    fn members() -> CommandMembers {
        let (tier, member) = ("web".to_owned(), "10.0.0.7".to_owned());
        let member = CommandMember { tier, member, added: 1, until: None, by: 0, reason: None };
        CommandMembers { members: vec![member] }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_set_aside_and_its_copy_holds() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let path = directory.path().join(FILE);
        assert_eq!(load(&state), CommandMembers::default());
        save(&members(), &state).expect("written");
        sync(&members(), &state).expect("synced");
        assert_eq!(load(&state), members());

        let damages: [&dyn Fn(); 3] = [
            &|| fs::write(&path, "").expect("written"),
            &|| fs::write(&path, "{\"members\":[{").expect("written"),
            // As an I/O error: there is something, and it can't be read.
            &|| {
                fs::remove_file(&path).expect("removed");
                fs::create_dir(&path).expect("made");
            },
        ];
        for (number, damage) in damages.iter().enumerate() {
            damage();
            assert_eq!(load(&state), members(), "damage {number}");
            assert!(path.is_file(), "recorded again");
            let files = fs::read_dir(directory.path()).expect("readable");
            let names = files.map(|file| file.expect("readable").file_name());
            let aside = names.filter(|name| name.to_string_lossy().contains(".damaged"));
            assert_eq!(aside.count(), number + 1);
        }
        fs::remove_file(&path).expect("removed");
        assert_eq!(load(&state), CommandMembers::default(), "missing is none");
    }

    #[test]
    fn a_forged_time_ends() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let text = |added: u64| {
            format!(
                "{{\"members\":[{{\"tier\":\"web\",\"member\":\"10.0.0.7\",\"added\":{added},\
                 \"until\":{},\"by\":0,\"reason\":null}}]}}",
                u64::MAX
            )
        };
        for (added, until) in [(7, 7 + 10 * 365 * 86_400), (u64::MAX, u64::MAX)] {
            fs::write(directory.path().join(FILE), text(added)).expect("written");
            assert_eq!(load(&state).members[0].until, Some(until));
        }
    }

    #[test]
    fn the_copy_follows_the_record() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        sync(&CommandMembers::default(), &state).expect("nothing to do");
        assert_eq!(read(&state, COPY).expect("readable"), None);
        sync(&members(), &state).expect("synced");
        assert_eq!(read(&state, COPY).expect("readable"), Some(members()));
        sync(&CommandMembers::default(), &state).expect("synced");
        assert_eq!(read(&state, COPY).expect("readable"), Some(CommandMembers::default()));
    }
}
