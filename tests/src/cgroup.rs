//! A control group for a machine of its own. Without it all machines that run at a time would share
//! one tree, and what the systemd of one does to its services would befall those of the others.
//!
//! ```text
//! machine on cgroup v2 alone    /sys/fs/cgroup/…/tierwall-machine-x
//! or beside v1                  /sys/fs/cgroup/unified/…/tierwall-machine-x
//!                               /sys/fs/cgroup/systemd/…/tierwall-machine-x
//! ```

use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long its processes may take to be gone after they were killed.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The hierarchies in which systemd keeps its tree. It goes when it is dropped, with all groups
/// that were made in it.
#[derive(Debug)]
pub struct Cgroup {
    directories: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes it below the one of this process.
    ///
    /// # Errors
    /// Without a hierarchy that can be written.
    pub fn new(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mut made = Self { directories: Vec::new() };
        for path in places(&mounts, &own) {
            let directory = path.join(name);
            fs::create_dir(&directory)
                .with_context(|| format!("can't make the control group {}", directory.display()))?;
            made.directories.push(directory);
        }
        ensure!(!made.directories.is_empty(), "no control groups of systemd are mounted here");
        Ok(made)
    }

    /// A command line of `program` that runs in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let enter = "while [ \"$1\" != -- ]; do echo $$ > \"$1/cgroup.procs\" || exit; shift; done\n\
                     shift; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", enter, "sh"]).args(&self.directories).arg("--").arg(program);
        command
    }
}

/// The groups of this process in the hierarchies that systemd uses: version 2, and version 1's
/// `name=systemd` where that is mounted (proc_pid_mountinfo(5), cgroups(7)).
fn places(mounts: &str, own: &str) -> Vec<PathBuf> {
    let group = |hierarchy: &str| own.lines().find_map(|line| line.split_once(hierarchy));
    let place = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let mut source = source.split(' ');
        let hierarchy = match source.next()? {
            "cgroup2" => "0::",
            "cgroup" if source.nth(1)?.split(',').any(|option| option == "name=systemd") => {
                ":name=systemd:"
            }
            _ => return None,
        };
        let point = Path::new(mount.split(' ').nth(4)?);
        Some(point.join(group(hierarchy)?.1.trim_start_matches('/')))
    };
    mounts.lines().filter_map(place).collect()
}

/// Removes a group with those in it, which are all that it holds that can be removed.
fn remove(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let begun = Instant::now();
        for directory in &self.directories {
            while remove(directory).is_err() && begun.elapsed() < PATIENCE {
                thread::sleep(POLL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_place_is_below_the_group_of_this_process() {
        let v1 = "26 24 0:22 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                  27 24 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                  28 24 0:24 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n";
        let own = "9:name=systemd:/user/1\n2:cpu:/other\n0::/\n";
        let expected = ["/sys/fs/cgroup/systemd/user/1", "/sys/fs/cgroup/unified"];
        assert_eq!(places(v1, own), expected.map(PathBuf::from));
        let v2 = "28 24 0:24 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/user.slice/session-1.scope\n";
        let expected = PathBuf::from("/sys/fs/cgroup/user.slice/session-1.scope");
        assert_eq!(places(v2, own), [expected]);
        assert!(places("22 1 0:1 / / rw - ext4 /dev/vda rw\n", own).is_empty());
    }
}
