//! Members by command: what people add with `tierwall member add`, beside what the files say.
//!
//! They are in the state directory, written before anybody is told that they hold, and survive a
//! restart. The files are never written but by `member promote`.

use control::MemberSummary;
use policy::{AddedMember, Member, MemberError, Policy};
use ruleset::AddressSet;
use serde::{Deserialize, Serialize};
use std::io;

/// For how long a member can be added, in seconds: ten years.
const TIME_MAX: u64 = 10 * 365 * 86_400;

/// One member added by command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommandMember {
    /// The tier, which may be gone from the policy since.
    pub(crate) tier: String,
    /// An address, prefix or range, as its normal form.
    pub(crate) member: String,
    /// When it was added, in seconds since the epoch.
    pub(crate) added: u64,
    /// When it ends by itself, in seconds since the epoch.
    #[serde(default)]
    pub(crate) until: Option<u64>,
    /// Who added it.
    pub(crate) by: u32,
    /// Why, in the words of who added it.
    pub(crate) reason: Option<String>,
}

/// All of them, in the order they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommandMembers {
    pub(crate) members: Vec<CommandMember>,
}

/// Why a member can't be added or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemberFailure {
    /// The policy has no such tier.
    #[error("no tier is named `{tier}`; there are: {tiers}")]
    NoTier {
        /// The name.
        tier: String,
        /// Those that exist.
        tiers: String,
    },
    /// Not an address.
    #[error("{0}{hint}", hint = .0.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default())]
    NotAMember(#[from] MemberError),
    /// It is there already.
    #[error("{member} is in {tier} already{source_}", source_ = if *.by_file { ", by the policy files" } else { "" })]
    Present {
        /// The tier.
        tier: String,
        /// The member.
        member: String,
        /// Whether the files name all of it.
        by_file: bool,
    },
    /// The files name it.
    #[error(
        "{member} is in {tier} by the policy files, at {place}\n  hint: remove it there; what \
         `member add` added is all that `member remove` takes away"
    )]
    OfFile {
        /// The tier.
        tier: String,
        /// The member.
        member: String,
        /// Where the tier is defined.
        place: String,
    },
    /// Nobody added it.
    #[error("{member} is not a member of {tier} that was added by command")]
    Absent {
        /// The tier.
        tier: String,
        /// The member.
        member: String,
    },
    /// The files don't name it.
    #[error("the policy files don't name {member} in {tier}, so it stays a member by command")]
    NotInFiles {
        /// The tier.
        tier: String,
        /// The member.
        member: String,
    },
    /// It would end before it begins, or never.
    #[error(
        "a member can't end after {0} s\n  hint: from one second to ten years; without --for it \
         stays until it is removed"
    )]
    Time(u64),
    /// Nothing is enforced that it could be in.
    #[error(
        "the table was taken away, so nothing was changed\n  hint: `tierwall reload` enforces the \
         policy again"
    )]
    TornDown,
    /// It couldn't be recorded, so it doesn't hold.
    #[error("can't record the member in the state directory, so nothing was changed: {0}")]
    NotRecorded(#[source] io::Error),
    /// It is out, but that it was added by command is still recorded.
    #[error(
        "the member is out of its tier, but the state directory can't be written, so a restart \
         would bring it back: {0}\n  hint: make room there; tierwalld retries at least every minute, \
         and when it ends"
    )]
    RemovalNotRecorded(#[source] io::Error),
    /// The files name it and it holds by them, but that it was added by command is still recorded.
    #[error(
        "the policy files name the member and it holds by them, but the state directory can't be \
         written, so it stays a member by command, too: {0}\n  hint: `tierwall member promote` or \
         `remove` once more, when that works again"
    )]
    StillRecorded(#[source] io::Error),
}

impl From<&CommandMember> for MemberSummary {
    fn from(member: &CommandMember) -> Self {
        let CommandMember { tier, member, added, until, by, reason } = member.clone();
        Self { tier, member, added, until, by, reason }
    }
}

impl CommandMembers {
    /// None of which lasts longer than any can be added for: a forged or damaged record may say
    /// otherwise, and the kernel counts in milliseconds.
    pub(crate) fn bounded(mut self) -> Self {
        for CommandMember { added, until, .. } in &mut self.members {
            *until = until.map(|until| until.min(added.saturating_add(TIME_MAX)));
        }
        self
    }

    /// The policy with these members in its tiers.
    pub(crate) fn added_to(&self, policy: &Policy) -> Policy {
        policy.with_added(self.members.iter().map(|own| AddedMember {
            tier: &own.tier,
            member: &own.member,
            added: own.added,
            until: own.until,
        }))
    }

    /// Whether the tier of the files, with the members here that stay, holds every address of
    /// `member`. What it costs doesn't depend on the members of the files.
    fn hold(&self, policy: &Policy, tier: &str, member: Member) -> bool {
        let own = self.members.iter().filter(|own| own.tier == tier && own.until.is_none());
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for own in own.filter_map(|own| own.member.parse().ok()) {
            match own {
                Member::V4(range) => v4.push(range),
                Member::V6(range) => v6.push(range),
            }
        }
        // What is left of it is in the files wholly or it isn't.
        policy.tiers.get(tier).is_some_and(|tier| match member {
            Member::V4(range) => {
                tier.v4.covers(&AddressSet::new(vec![range]).minus(&AddressSet::new(v4)))
            }
            Member::V6(range) => {
                tier.v6.covers(&AddressSet::new(vec![range]).minus(&AddressSet::new(v6)))
            }
        })
    }

    /// These with one more. `policy` is that of the files.
    pub(crate) fn with(&self, policy: &Policy, new: CommandMember) -> Result<Self, MemberFailure> {
        let time = new.until.map(|until| until.saturating_sub(new.added));
        if let Some(time) = time.filter(|time| !(1..=TIME_MAX).contains(time)) {
            return Err(MemberFailure::Time(time));
        }
        let (tier, member) = (new.tier.clone(), parse(policy, &new.tier, &new.member)?);
        let of_files = covers(policy, &tier, member);
        if of_files || self.hold(policy, &tier, member) {
            let member = member.to_string();
            return Err(MemberFailure::Present { tier, member, by_file: of_files });
        }
        let mut more = self.clone();
        let member = member.to_string();
        // Once more with a time is a longer or shorter time; without one, it stays for good.
        more.members.retain(|old| (&old.tier, &old.member) != (&new.tier, &member));
        more.members.push(CommandMember { member, ..new });
        Ok(more)
    }

    /// Forgets one. Returns whether it was there.
    pub(crate) fn forget(&mut self, gone: &CommandMember) -> bool {
        let before = self.members.len();
        self.members.retain(|member| member != gone);
        self.members.len() < before
    }

    /// Forgets those that ended by `now`, and says which.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<CommandMember> {
        let holds = |member: &CommandMember| member.until.is_none_or(|until| until > now);
        let (hold, ended) = std::mem::take(&mut self.members).into_iter().partition(holds);
        self.members = hold;
        ended
    }

    /// When the next one ends, in seconds since the epoch.
    pub(crate) fn next_end(&self) -> Option<u64> {
        self.members.iter().filter_map(|member| member.until).min()
    }

    /// That the files name a member by now.
    pub(crate) fn check_promoted(
        &self,
        files: &Policy,
        tier: &str,
        member: &str,
    ) -> Result<(), MemberFailure> {
        let member = parse(files, tier, member)?;
        match covers(files, tier, member) {
            true => Ok(()),
            false => {
                Err(MemberFailure::NotInFiles { tier: tier.into(), member: member.to_string() })
            }
        }
    }

    /// These less one.
    pub(crate) fn without(
        &self,
        policy: &Policy,
        tier: &str,
        member: &str,
    ) -> Result<Self, MemberFailure> {
        // The tier of one that is here may be gone from the policy.
        if let Ok(member) = member.parse::<Member>() {
            let member = member.to_string();
            let mut fewer = self.clone();
            fewer.members.retain(|own| (own.tier.as_str(), &own.member) != (tier, &member));
            if fewer.members.len() < self.members.len() {
                return Ok(fewer);
            }
        }
        let member = parse(policy, tier, member)?;
        let (tier, text) = (tier.to_owned(), member.to_string());
        match policy.tiers.get(&tier) {
            Some(definition) if covers(policy, &tier, member) => {
                let place = definition.location.to_string();
                Err(MemberFailure::OfFile { tier, member: text, place })
            }
            _ => Err(MemberFailure::Absent { tier, member: text }),
        }
    }
}

fn parse(policy: &Policy, tier: &str, member: &str) -> Result<Member, MemberFailure> {
    if !policy.tiers.contains_key(tier) {
        let tiers = policy.tiers.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(MemberFailure::NoTier { tier: tier.to_owned(), tiers });
    }
    Ok(member.parse::<Member>()?)
}

/// Whether `policy`, that of the files, names all of a member.
pub(crate) fn is_of_files(policy: &Policy, tier: &str, member: &str) -> bool {
    member.parse().is_ok_and(|member| covers(policy, tier, member))
}

fn covers(policy: &Policy, tier: &str, member: Member) -> bool {
    policy.tiers.get(tier).is_some_and(|tier| tier.covers(member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};
    use std::net::Ipv4Addr;
    use std::path::Path;

    fn policy() -> Policy {
        let text = "[tiers]\nweb = [\"10.0.0.0/24\"]\n[[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \"tcp/80\"\n";
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    fn member(text: &str) -> CommandMember {
        let (tier, member) = ("web".to_owned(), text.to_owned());
        CommandMember { tier, member, added: 1, until: None, by: 0, reason: None }
    }

    #[test]
    fn adds_what_the_files_do_not_name() {
        let none = CommandMembers::default();
        let one = none.with(&policy(), member("10.0.1.7")).expect("new");
        let whole = one.added_to(&policy());
        assert!(whole.tiers["web"].v4.contains(Ipv4Addr::new(10, 0, 1, 7)));
        assert!(matches!(
            one.with(&policy(), member("10.0.1.7")),
            Err(MemberFailure::Present { by_file: false, .. })
        ));
        assert!(matches!(
            one.with(&policy(), member("10.0.0.7")),
            Err(MemberFailure::Present { by_file: true, .. })
        ));
        assert_eq!(one.without(&policy(), "web", "10.0.1.7/32").expect("there"), none);
    }

    #[test]
    fn one_of_which_files_and_commands_hold_a_part_each_is_there_already() {
        let none = CommandMembers::default();
        let next = none.with(&policy(), member("10.0.1.0/24")).expect("new");
        assert!(matches!(
            next.with(&policy(), member("10.0.0.7-10.0.1.9")),
            Err(MemberFailure::Present { by_file: false, .. })
        ));
        let more = next.with(&policy(), member("10.0.0.7-10.0.2.0")).expect("beyond both");
        let v4 = more.added_to(&policy()).tiers["web"].v4.to_string();
        assert_eq!(v4, "{ 10.0.0.0-10.0.2.0 }");
        // One that ends by itself holds nothing for good.
        let timed = CommandMember { until: Some(9), ..member("10.0.3.0") };
        let timed = none.with(&policy(), timed).expect("new");
        assert!(timed.with(&policy(), member("10.0.3.0")).is_ok());
    }

    #[test]
    fn a_member_goes_also_where_its_tier_is_gone() {
        let one = CommandMembers { members: vec![member("10.0.1.7")] };
        let text = "[tiers]\napp = [\"10.0.0.1\"]\n";
        let without_web = load_text(Path::new("t.toml"), text, &Options::default());
        let without_web = without_web.policy.expect("a good policy");
        let none = one.without(&without_web, "web", "10.0.1.7/32").expect("there");
        assert_eq!(none, CommandMembers::default());
        assert!(matches!(
            none.without(&without_web, "web", "10.0.1.7"),
            Err(MemberFailure::NoTier { .. })
        ));
    }

    #[test]
    fn refuses_to_remove_what_the_files_name() {
        let none = CommandMembers::default();
        let error = none.without(&policy(), "web", "10.0.0.7").expect_err("of the file");
        assert!(error.to_string().contains("t.toml:2"), "{error}");
        assert!(matches!(
            none.without(&policy(), "web", "10.9.0.7"),
            Err(MemberFailure::Absent { .. })
        ));
        assert!(matches!(
            none.without(&policy(), "wep", "10.9.0.7"),
            Err(MemberFailure::NoTier { .. })
        ));
    }
}
