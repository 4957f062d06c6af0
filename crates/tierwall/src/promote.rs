//! Writing a member into the policy file that defines its tier, or into the tier's list file.
//!
//! The file is edited as text: comments, order and layout stay. It is replaced as a whole, and only
//! as long as it is the one that was read. Two promotions take turns.

use crate::error::Error;
use crate::judge::{bad_policy, load};
use crate::options::Common;
use crate::policy_text::{Original, Turn, read, replace};
use crate::runtime_members::by_command;
use policy::{Loaded, Member, Options, Policy};
use std::path::{Path, PathBuf};
use toml_edit::{Array, DocumentMut, InlineTable, Item, RawString, Value};

/// How often a file is read anew that somebody else writes at the same time.
const ATTEMPTS: usize = 5;

/// Writes `member`, which was added to `tier` by command. Where the files name it already, they
/// stay as they are. The file that names it.
pub(crate) fn write(common: &Common, _: &Turn, tier: &str, member: &str) -> Result<PathBuf, Error> {
    for _ in 0..ATTEMPTS {
        if let Some(file) = write_once(common, tier, member)? {
            return Ok(file);
        }
    }
    Err(Error::Edit("the policy file is being changed all the time; nothing was written".into()))
}

/// None where somebody else wrote the file meanwhile.
fn write_once(common: &Common, tier: &str, member: &str) -> Result<Option<PathBuf>, Error> {
    let options = Options { check_permissions: !common.insecure_permissions, ..Options::default() };
    let Loaded { policy, diagnostics, .. } = load(common, &options);
    let Some(policy) = policy else { return Err(bad_policy(common, diagnostics)) };
    let member: Member = member.parse().map_err(|error| Error::Edit(format!("{error}")))?;
    let file = defining_file(&policy, tier)?;
    check_added(common, tier, &member.to_string())?;
    if policy.tiers.get(tier).is_some_and(|tier| tier.covers(member)) {
        return Ok(Some(file));
    }
    let (original, text) = edited(&file, tier, &member.to_string())?;
    let path = &original.path;
    let is_written = replace(&original, &text)
        .map_err(|error| Error::Edit(format!("can't write {}: {error}", path.display())))?;
    Ok(is_written.then_some(original.path))
}

/// Before anything is written: the file would open what nobody ever added.
fn check_added(common: &Common, tier: &str, member: &str) -> Result<(), Error> {
    let members = by_command(common, Some(tier))?;
    if members.iter().any(|added| added.member == member) {
        return Ok(());
    }
    Err(Error::Edit(format!(
        "{member} is not a member of {tier} that was added by command\n  hint: `tierwall member \
         list` shows those that were"
    )))
}

fn defining_file(policy: &Policy, tier: &str) -> Result<PathBuf, Error> {
    let definition = policy.tiers.get(tier);
    let definition = definition.ok_or_else(|| Error::Edit(format!("no tier is named `{tier}`")))?;
    Ok(definition.location.file.as_path().to_owned())
}

/// The file to replace and its new text.
fn edited(file: &Path, tier: &str, member: &str) -> Result<(Original, String), Error> {
    let policy = read(file)?;
    let cannot = || {
        let file = file.display();
        Error::Edit(format!(
            "can't find where {file} defines the tier {tier}: add {member} by hand"
        ))
    };
    let mut document: DocumentMut = policy.text.parse().map_err(|_| cannot())?;
    let item =
        document.get_mut("tiers").and_then(|tiers| tiers.get_mut(tier)).ok_or_else(cannot)?;
    if let Some(list) = list_file(item) {
        let list = read(&file.parent().unwrap_or(Path::new("")).join(list))?;
        let mut text = list.text.clone();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        return Ok((list, text + member + "\n"));
    }
    match item {
        Item::Value(Value::Array(members)) => push(members, member),
        Item::Value(value @ Value::String(_)) => {
            let mut members = Array::new();
            members.push(value.clone().decorated("", ""));
            members.push(member);
            *value = Value::Array(members).decorated(" ", "");
        }
        _ => return Err(cannot()),
    }
    Ok((policy, document.to_string()))
}

/// The list file of `tier = { file = "…" }`.
fn list_file(item: &Item) -> Option<String> {
    let table: &InlineTable = item.as_inline_table()?;
    table.get("file")?.as_str().map(str::to_owned)
}

/// Adds a member, on a line of its own where the others are. A comment stays on the line of the
/// member it stands behind.
fn push(members: &mut Array, member: &str) {
    let text = |raw: Option<&RawString>| raw.and_then(RawString::as_str).unwrap_or("").to_owned();
    let Some(last) = members.iter().last() else { return members.push(member) };
    let before = text(last.decor().prefix());
    let own_line = before.rsplit_once('\n').map(|(_, indent)| format!("\n{indent}"));
    let behind = match members.trailing_comma() {
        true => text(Some(members.trailing())),
        false => text(last.decor().suffix()) + &text(Some(members.trailing())),
    };
    let Some((comment, closing)) = behind.rsplit_once('\n') else {
        members.push(member);
        if let (Some(own_line), Some(last)) = (own_line, members.iter_mut().last()) {
            last.decor_mut().set_prefix(own_line);
        }
        return;
    };
    let prefix = comment.to_owned() + own_line.as_deref().unwrap_or("\n  ");
    if let Some(last) = members.iter_mut().last() {
        last.decor_mut().set_suffix("");
    }
    members.push(member);
    if let Some(new) = members.iter_mut().last() {
        new.decor_mut().set_prefix(prefix);
    }
    members.set_trailing(format!("\n{closing}"));
}

#[cfg(test)]
mod tests {
    use super::edited;
    use std::fs;

    fn promote(text: &str) -> String {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("tierwall.toml");
        fs::write(&file, text).expect("written");
        fs::write(directory.path().join("web.list"), "10.0.0.1 # one").expect("written");
        edited(&file, "web", "10.0.0.9").expect("edited").1
    }

    #[test]
    fn a_member_is_added_and_everything_else_stays() {
        assert_eq!(
            promote("# top\n[tiers]\nweb = [\"10.0.0.1\"] # servers\napp = []\n"),
            "# top\n[tiers]\nweb = [\"10.0.0.1\", \"10.0.0.9\"] # servers\napp = []\n"
        );
        assert_eq!(
            promote("[tiers]\nweb = [\n  # first\n  \"10.0.0.1\",\n]\n"),
            "[tiers]\nweb = [\n  # first\n  \"10.0.0.1\",\n  \"10.0.0.9\",\n]\n"
        );
        assert_eq!(promote("tiers.web = []\n"), "tiers.web = [\"10.0.0.9\"]\n");
        assert_eq!(
            promote("[tiers]\nweb = \"10.0.0.1\"\n"),
            "[tiers]\nweb = [\"10.0.0.1\", \"10.0.0.9\"]\n"
        );
    }

    #[test]
    fn a_comment_stays_with_its_member() {
        assert_eq!(
            promote("[tiers]\nweb = [\n  \"10.0.0.1\",  # one\n  # more to come\n]\n"),
            "[tiers]\nweb = [\n  \"10.0.0.1\",  # one\n  # more to come\n  \"10.0.0.9\",\n]\n"
        );
        assert_eq!(
            promote("[tiers]\nweb = [\n  \"10.0.0.1\"  # one\n]\n"),
            "[tiers]\nweb = [\n  \"10.0.0.1\",  # one\n  \"10.0.0.9\"\n]\n"
        );
        assert_eq!(
            promote("[tiers]\nweb = [ \"10.0.0.1\", # one\n]\n"),
            "[tiers]\nweb = [ \"10.0.0.1\", # one\n  \"10.0.0.9\",\n]\n"
        );
        assert_eq!(
            promote("[tiers]\nweb = [\n  \"10.0.0.1\"]\n"),
            "[tiers]\nweb = [\n  \"10.0.0.1\",\n  \"10.0.0.9\"]\n"
        );
    }

    #[test]
    fn a_list_file_gets_a_line() {
        let text = "[tiers]\nweb = { file = \"web.list\" }\n";
        assert_eq!(promote(text), "10.0.0.1 # one\n10.0.0.9\n");
    }
}
