//! `tierwall import`: a policy to start from, out of tables that people wrote.
//!
//! The policy goes to standard output or into a new file, what became of the rules to standard
//! error. Nothing is enforced and no file is replaced.

use crate::error::{Error, in_full};
use crate::options::{Common, Import};
use crate::output::{GOOD, WARNING, counted, print, print_json, styled, tell};
use import::{Draft, DraftError, Options, Summary, TableName, choose, merge};
use ruleset::TABLE;
use ruleset::listing::{ListedTable, Listing, TableFamily};
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

pub(crate) fn run(common: &Common, import: &Import) -> Result<u8, Error> {
    let sources = match import.files.as_slice() {
        [] => vec![import.from.clone()],
        files => files.to_vec(),
    };
    if sources.len() > 1 && import.role.is_some() {
        let hint = "each server's role follows from its addresses".to_owned();
        return Err(Error::Question("--role is for one host".into(), Some(hint)));
    }
    let mut hosts: Vec<(Vec<ListedTable>, Options)> = Vec::new();
    for source in &sources {
        let (listing, mut options) = read(common, import, source)?;
        let others = listing
            .tables
            .iter()
            .map(|table| TableName { family: table.family.clone(), name: table.name.clone() });
        options.unread = others.filter(|table| !import.tables.contains(table)).collect();
        let tables = choose(listing, &import.tables).map_err(|error| no_draft(&error, source))?;
        hosts.push((tables, options));
    }
    let all: Vec<(&[ListedTable], &Options)> =
        hosts.iter().map(|(tables, options)| (tables.as_slice(), options)).collect();
    let draft = merge(&all).map_err(|error| no_draft(&error, &sources.join(", ")))?;
    if let Some(path) = &import.output {
        write_new(path, &draft.text)
            .map_err(|error| Error::Import(format!("can't write {}: {error}", path.display())))?;
    }
    match (common.json, &import.output) {
        (true, output) => print_json(&as_json(&draft, output.is_none()))?,
        (false, None) => print(&draft.text)?,
        (false, Some(_)) => {}
    }
    if !common.json {
        tell(&as_text(&draft.summary, import.output.as_deref()));
    }
    Ok(if draft.summary.is_whole() { control::exit::OK } else { control::exit::INCOMPLETE })
}

/// The tables, and whose they are. Of another host's nothing but the listing is known.
fn read(common: &Common, import: &Import, from: &str) -> Result<(Listing, Options), Error> {
    let role = import.role.clone();
    if from == "kernel" && import.files.is_empty() {
        let is_wanted = |family: &TableFamily, name: &str| {
            import.tables.iter().any(|table| table.family == *family && table.name == name)
        };
        let mut connection = netlink::Connection::open().map_err(Error::Kernel)?;
        // Whose it is is enough.
        let found = connection.dump_up_to(0).map_err(Error::Kernel)?;
        let is_ours = found.ruleset.table.is_some_and(|table| table.is_ours());
        if is_ours && is_wanted(&TableFamily::Inet, TABLE) {
            return Err(Error::Import(format!(
                "the table inet {TABLE} was made by tierwall\n  hint: its policy is {}; another \
                 table is imported with --table",
                common.config.display()
            )));
        }
        let mut listing = connection.listing(is_wanted).map_err(Error::Kernel)?;
        let is_own = |table: &ListedTable| table.family == TableFamily::Inet && table.name == TABLE;
        listing.tables.retain(|table| !(is_ours && is_own(table)));
        let addresses = netlink::addresses().map_err(Error::Addresses)?;
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        // Without its domain.
        let host = host.map(|name| name.split('.').next().unwrap_or_default().to_owned());
        let host = host.filter(|name| !name.is_empty());
        let source = host.clone().unwrap_or_else(|| "the kernel".into());
        return Ok((listing, Options { role, host, addresses, source, unread: vec![] }));
    }
    let mut text = String::new();
    let source = match from {
        "-" => io::stdin().read_to_string(&mut text).map(|_| "standard input".to_owned()),
        path => File::open(path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map(|_| path.to_owned()),
    };
    let source = source.map_err(|error| Error::Import(format!("can't read {from}: {error}")))?;
    let (listing, addresses) = import::parse_host(&text).map_err(|error| {
        let hint = "write it with `nft -j list ruleset > FILE`, as root, on the other host";
        Error::Import(format!("{from}: {}\n  hint: {hint}", in_full(&error)))
    })?;
    // Of several files each is named after its host; the name of one may be anything.
    let name = Path::new(from).file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let host = name.filter(|_| import.files.len() > 1);
    Ok((listing, Options { role, host, addresses, source, unread: vec![] }))
}

fn no_draft(error: &DraftError, from: &str) -> Error {
    let hint = match error {
        DraftError::NoTable { found, .. } if found.is_empty() => {
            Some(format!("{from} holds no table at all"))
        }
        DraftError::NoTable { found, .. } => {
            let options: Vec<String> = found.iter().map(|t| format!("--table {t}")).collect();
            Some(format!("there are others: {}", options.join(", ")))
        }
        DraftError::NothingFiltered => Some("name the table that filters with --table".into()),
        DraftError::BadRole(_) => Some(
            "a name starts with a letter (a-z, A-Z); letters, digits, `_` and `-` follow".into(),
        ),
        DraftError::TooLong(_) => None,
    };
    match hint {
        Some(hint) => Error::Import(format!("{error}\n  hint: {hint}")),
        None => Error::Import(error.to_string()),
    }
}

/// Never over a file that is there: it may be the policy that is enforced.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn as_text(summary: &Summary, output: Option<&Path>) -> String {
    let mut text = format!(
        "{}; {} built in",
        counted(summary.allows, "allow"),
        counted(summary.built_in, "rule")
    );
    let lost = summary.not_imported.len();
    if lost > 0 {
        text += &format!("; {}", styled(WARNING, &format!("{lost} not imported")));
    }
    if summary.wider > 0 {
        let wider = counted(summary.wider, "allow");
        let verb = if summary.wider == 1 { "is" } else { "are" };
        text += &format!("; {}", styled(WARNING, &format!("{wider} {verb} WIDER than the table")));
    }
    if summary.is_whole() {
        text += &format!("; {}", styled(GOOD, "the policy says all that the table did"));
    }
    text.push('\n');
    for (rule, why) in &summary.not_imported {
        text += &format!("  {rule}\n    {why}\n");
    }
    if let Some(path) = output {
        let path = path.display();
        text += &format!("written to {path}; next: tierwall --config {path} check\n");
    }
    text
}

fn as_json(draft: &Draft, with_text: bool) -> serde_json::Value {
    let Summary { allows, built_in, not_imported, wider } = &draft.summary;
    let not_imported: Vec<_> =
        not_imported.iter().map(|(rule, why)| json!({ "rule": rule, "why": why })).collect();
    let mut answer = json!({
        "whole": draft.summary.is_whole(),
        "allows": allows,
        "built_in": built_in,
        "not_imported": not_imported,
        "wider": wider,
    });
    if with_text {
        answer["policy"] = json!(draft.text);
    }
    answer
}
