//! The tables that all readers are shown: of every example and every scenario as every server
//! would compile it, and of policies made to be difficult.

use crate::nasty;
use policy::model::User;
use policy::{Host, Options, Policy, Role, compile};
use ruleset::Ruleset;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The account names in the policies, and their ids.
const USERS: [(&str, u32); 4] =
    [("root", 0), ("daemon", 1), ("nobody", 65534), ("last", 4294967294)];

/// A table and where it comes from.
#[derive(Debug)]
pub(crate) struct Case {
    /// The policy, and the role for which it was compiled; the first of several.
    pub(crate) name: String,
    /// All of them.
    names: Vec<String>,
    pub(crate) ruleset: Ruleset,
}

/// Every table once: many roles come to the same one.
pub(crate) fn all() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(compile_all);
    &CASES
}

/// The case of a policy and role; `name` is the end of its name.
pub(crate) fn find(name: &str) -> &'static Case {
    let found = all().iter().find(|case| case.names.iter().any(|own| own.ends_with(name)));
    found.unwrap_or_else(|| panic!("no case is named {name}"))
}

fn compile_all() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (name, policy) in shipped().into_iter().chain(nasty::policies()) {
        for role in roles(&policy) {
            let ruleset = compiled(&policy, &role);
            let index = *seen.entry(ruleset.to_string()).or_insert(cases.len());
            let kind = if role.auto { "auto" } else { "explicit" };
            let name = format!("{name} as {role} ({kind})");
            match cases.get_mut(index) {
                Some(case) => {
                    // Equal texts are one case only if they are equal values.
                    assert_eq!(case.ruleset, ruleset, "{} and {name}", case.name);
                    case.names.push(name);
                }
                None => cases.push(Case { name: name.clone(), names: vec![name], ruleset }),
            }
        }
    }
    cases
}

/// The table of one tier's servers.
fn compiled(policy: &Policy, role: &Role) -> Ruleset {
    let names = policy.allows.iter().flat_map(|allow| &allow.users).filter_map(|user| match user {
        User::Name { name, .. } => Some(name),
        User::Uid(_) => None,
    });
    for name in names {
        assert!(USERS.iter().any(|(known, _)| known == name), "add {name} to the users");
    }
    let users = USERS.into_iter().map(|(name, uid)| (name.to_owned(), uid)).collect();
    compile(policy, Host { role, users: &users, previous: None })
}

/// Each tier alone and all at once, by name and by address; and a server in no tier.
fn roles(policy: &Policy) -> Vec<Role> {
    let each = policy.tiers.keys().map(|tier| [tier.clone()].into());
    let all = policy.tiers.keys().cloned().collect();
    let sets = each.chain([all, Default::default()]);
    sets.flat_map(|tiers| [false, true].map(|auto| Role { tiers: Clone::clone(&tiers), auto }))
        .collect()
}

/// The policies of `config/examples` and of the scenarios.
fn shipped() -> Vec<(String, Policy)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = listed(&root.join("../config/examples"));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 3, "there are examples");
    let scenarios = listed(&root.join("scenarios"));
    files.extend(
        scenarios.into_iter().map(|folder| folder.join("policy.toml")).filter(|p| p.is_file()),
    );
    assert!(files.len() >= 14, "there are scenarios");
    files
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            (name, load(&file))
        })
        .collect()
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

/// The policy of a file.
pub(crate) fn load(file: &Path) -> Policy {
    let options = Options { check_permissions: false, ..Options::default() };
    let loaded = policy::load(file, &options);
    loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}
