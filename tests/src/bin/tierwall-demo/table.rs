//! The table that a person reads: who reaches whom on what.

use crate::Contact;
use crate::cast::{MACHINES, SERVICES};
use anstyle::{AnsiColor, Style};
use std::fmt::Write;
use tierwall_tests::service::Service;
use tierwall_tests::verdict::Verdict;

pub(crate) const OPEN: Style = AnsiColor::Green.on_default().bold();
pub(crate) const DENIED: Style = Style::new().dimmed();
pub(crate) const WRONG: Style = AnsiColor::Red.on_default().bold();
pub(crate) const HEADING: Style = Style::new().bold();

/// The width of the columns `from` and `to`; with the others they make 80.
const NAMES: (usize, usize) = (9, 20);

/// One line for each sender and each group of receivers that it meets the same way.
pub(crate) fn render(contacts: &[Contact]) -> String {
    let mut text = String::new();
    let (from, to) = NAMES;
    let _ = write!(text, "  {HEADING}{:from$}{:to$}", "from", "to");
    for (name, service) in SERVICES {
        let _ = write!(text, "{name:>0$}", width(name, *service));
    }
    let _ = write!(text, "{HEADING:#}\n  {DENIED}{:1$}", "", from + to);
    for (name, service) in SERVICES {
        let _ = write!(text, "{:>1$}", port(*service), width(name, *service));
    }
    let _ = writeln!(text, "{DENIED:#}");
    for sender in MACHINES {
        for (index, (receivers, row)) in groups(sender.name, contacts).iter().enumerate() {
            let sender = if index == 0 { sender.name } else { "" };
            let _ = write!(text, "  {sender:from$}{:to$}", receivers.join(" "));
            for (contact, (name, service)) in row.iter().zip(SERVICES) {
                let (word, style) = word(contact);
                let _ = write!(text, "{style}{word:>0$}{style:#}", width(name, *service));
            }
            text.push('\n');
        }
    }
    text
}

/// The port as a heading: TCP goes without saying.
fn port(service: Service) -> String {
    service.to_string().trim_start_matches("tcp/").into()
}

fn width(name: &str, service: Service) -> usize {
    name.len().max(port(service).len()).max("OPEN!".len()) + 1
}

/// The receivers of a sender, those together on which each service fares the same.
fn groups<'a>(sender: &str, contacts: &'a [Contact]) -> Vec<(Vec<&'a str>, Vec<&'a Contact>)> {
    let mut groups: Vec<(Vec<&str>, Vec<&Contact>)> = Vec::new();
    for receiver in MACHINES {
        let row: Vec<&Contact> = contacts
            .iter()
            .filter(|contact| contact.from == sender && contact.to == receiver.name)
            .collect();
        if row.is_empty() {
            continue;
        }
        let words =
            |row: &[&Contact]| row.iter().map(|contact| word(contact).0).collect::<Vec<_>>();
        match groups.iter_mut().find(|(_, other)| words(other) == words(&row)) {
            Some((receivers, _)) => receivers.push(receiver.name),
            None => groups.push((vec![receiver.name], row)),
        }
    }
    groups
}

fn word(contact: &Contact) -> (&'static str, Style) {
    match (contact.verdict, contact.as_expected()) {
        (Verdict::Open, true) => ("open", OPEN),
        (Verdict::Open, false) => ("OPEN!", WRONG),
        (Verdict::Denied(_), true) => ("·", DENIED),
        (Verdict::Denied(_), false) => ("SHUT!", WRONG),
        (Verdict::Stalled, _) => ("STUCK", WRONG),
    }
}
