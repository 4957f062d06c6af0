//! A policy as a server sees it: loaded, its role found, its users looked up, compiled.

use crate::error::Error;
use crate::options::{Common, Judgement};
use crate::output::{print_json, tell};
use crate::own_addresses::own_addresses;
use crate::sshd;
use policy::model::{Service, User};
use policy::{
    Again, Diagnostic, Diagnostics, Entered, Host, ListCache, Loaded, Policy, Role, Style, Taking,
    check_role, check_size, check_sshd, check_way_in, compile, resolve_users, role_of,
};
use ruleset::Ruleset;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::{Duration, Instant, SystemTime};

/// A policy without errors, and the server it is judged for.
pub(crate) struct Judged {
    pub(crate) policy: Policy,
    pub(crate) role: Role,
    pub(crate) users: BTreeMap<String, u32>,
    pub(crate) warnings: Diagnostics,
}

impl Judged {
    /// The table that this server would get.
    pub(crate) fn compile(&self, previous: Option<&Ruleset>) -> Ruleset {
        compile(&self.policy, Host { role: &self.role, users: &self.users, previous })
    }
}

/// Loads the policy and judges it. Errors are told: with `--json` on standard output, as the
/// answer. Warnings are left to the caller.
pub(crate) fn judge(common: &Common, judgement: &Judgement) -> Result<Judged, Error> {
    judge_loaded(common, judgement, load(common, &options(common, judgement)))
}

/// The same for this server, of a text that is to be the policy file.
pub(crate) fn judge_text(common: &Common, text: Vec<u8>) -> Result<Judged, Error> {
    let judgement = Judgement { as_: None, strict: false };
    let options = options(common, &judgement);
    let loaded = wait_for_writers(|again| {
        policy::load_text_again(&common.config, text.clone(), &options, again)
    });
    judge_loaded(common, &judgement, loaded)
}

/// Loads the policy as `reload` would, to show what would come of it: not while somebody writes the
/// policy file. A list that somebody goes on writing is taken as it is now, with a warning, since what
/// it held before only the daemon knows.
pub(crate) fn load(common: &Common, options: &policy::Options) -> Loaded {
    wait_for_writers(|again| policy::load_again(&common.config, options, again))
}

/// As long as a start of the daemon waits for those who are writing a file, and as often as it looks.
const WRITERS: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(200);

fn wait_for_writers(mut load: impl FnMut(Again<'_>) -> Loaded) -> Loaded {
    let (mut lists, start) = (ListCache::default(), Instant::now());
    loop {
        let loaded = load(Again {
            lists: &mut lists,
            now: SystemTime::now(),
            taking: Taking::Shown,
            // If it can't be told, on some file systems and of others' files, nobody is writing.
            is_open_for_writing: |file| Ok(netlink::is_open_for_writing(file).unwrap_or(false)),
        });
        let is_being_written = loaded.diagnostics.iter().any(Diagnostic::is_of_a_writer);
        if !is_being_written || start.elapsed() >= WRITERS {
            return loaded;
        }
        std::thread::sleep(LOOK);
    }
}

fn options(common: &Common, judgement: &Judgement) -> policy::Options {
    policy::Options {
        check_permissions: !common.insecure_permissions,
        strict: judgement.strict,
        ..policy::Options::default()
    }
}

fn judge_loaded(common: &Common, judgement: &Judgement, loaded: Loaded) -> Result<Judged, Error> {
    let Loaded { policy, mut diagnostics, sources, .. } = loaded;
    let Some(policy) = policy else {
        return Err(bad_policy(common, diagnostics));
    };
    let (role, users, own) = match &judgement.as_ {
        Some(who) => {
            let role = Role::parse_as(&policy, who, resolve).map_err(Error::As)?;
            let own = match who.parse() {
                Ok(address) => vec![address],
                // Of a tier it may be any server.
                Err(_) if !role.auto => Vec::new(),
                Err(_) => resolve(who),
            };
            (role, stand_in_users(&policy), own)
        }
        None => {
            let addresses = own_addresses()?;
            let role = role_of(&policy, &addresses);
            let (users, unknown) = resolve_users(&policy, &role, lookup_user);
            let mut found = check_role(&policy, &role, &addresses);
            found.extend(unknown);
            found.extend(check_sshd(&policy, &sshd::listening()));
            sources.illustrate(&mut found);
            diagnostics.extend(found);
            (role, users, addresses.iter().map(|own| own.address).collect())
        }
    };
    let mut size = check_size(&policy, &role);
    sources.illustrate(&mut size);
    diagnostics.extend(size);
    if !diagnostics.has_errors() {
        diagnostics.extend(check_way_in(&policy, Entered { role: &role, own: &own }));
    }
    if judgement.strict {
        diagnostics.deny_warnings();
    }
    if diagnostics.has_errors() {
        return Err(bad_policy(common, diagnostics));
    }
    Ok(Judged { policy, role, users, warnings: diagnostics })
}

/// A policy as it is for every server, and the services that it names.
pub(crate) struct Whole {
    pub(crate) policy: Policy,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) warnings: Diagnostics,
}

/// Loads the policy for a question about all servers. Errors are told as [`judge`] does.
pub(crate) fn whole(common: &Common) -> Result<Whole, Error> {
    let options = policy::Options {
        check_permissions: !common.insecure_permissions,
        ..policy::Options::default()
    };
    let Loaded { policy, diagnostics, services, .. } = load(common, &options);
    match policy {
        Some(policy) => Ok(Whole { policy, services, warnings: diagnostics }),
        None => Err(bad_policy(common, diagnostics)),
    }
}

/// A policy with errors, told: on standard error, or as the JSON that was asked for.
pub(crate) fn bad_policy(common: &Common, diagnostics: Diagnostics) -> Error {
    if !common.json {
        tell_diagnostics(&diagnostics);
        return Error::BadPolicy;
    }
    let answer = json!({ "good": false, "diagnostics": diagnostics });
    print_json(&answer).map_or_else(Error::Output, |()| Error::BadPolicy)
}

/// Tells diagnostics on standard error.
pub(crate) fn tell_diagnostics(diagnostics: &Diagnostics) {
    if !diagnostics.is_empty() {
        // The stream takes the colours out where they aren't wanted.
        tell(&format!("{}\n\n", diagnostics.render(Style::Colored)));
    }
}

pub(crate) fn lookup_user(name: &str) -> Option<u32> {
    nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

pub(crate) fn resolve(host: &str) -> Vec<IpAddr> {
    let found = (host, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()));
    found.map(Iterator::collect).unwrap_or_default()
}

/// For another server no user can be looked up: each gets a number that no account has, so that
/// its rules are there to be seen.
pub(crate) fn stand_in_users(policy: &Policy) -> BTreeMap<String, u32> {
    let names = policy.allows.iter().flat_map(|allow| &allow.users).filter_map(|user| match user {
        User::Name { name, .. } => Some(name.clone()),
        User::Uid(_) => None,
    });
    let names: std::collections::BTreeSet<String> = names.collect();
    names.into_iter().zip((0..u32::MAX - 1).rev()).collect()
}
