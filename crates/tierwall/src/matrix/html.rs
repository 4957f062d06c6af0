//! The page for a review: one file, which loads nothing and needs no network.
//!
//! What comes from the policy goes through [`escaped`], without an exception. The script only hides
//! what a search doesn't find; the page says everything without it.

use super::graph::Graph;
use super::svg::{self, escaped};
use super::{View, summary};
use crate::output::counted;
use crate::who_can::{access, services, size, unopened, whom};
use policy::model::{Allow, Endpoint};
use policy::relation::{Party, PartyKind, Passage, Relation};
use policy::{Addresses, Label};
use std::fmt::Write;

const CSS: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/search.js");

/// Nothing may be loaded from anywhere, whatever a policy smuggles in; the script and the style
/// are the page's own.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

pub(super) fn render(view: &View<'_>) -> String {
    let file = escaped(&view.file);
    let (tiers, allows) = (view.policy.tiers.len(), view.policy.allows.len());
    let mut notices = String::new();
    for note in view.mode_notes() {
        let _ = writeln!(notices, "<p class=\"notice\">{note}</p>");
    }
    for note in &view.notes {
        let _ = writeln!(notices, "<p class=\"notice\">{}</p>", escaped(note));
    }
    let style = format!("{CSS}{}", svg::STYLE);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{CONTENT_POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Who reaches whom: {file}</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
         <header>\n<h1>Who reaches whom</h1>\n\
         <p class=\"faint\"><code>{file}</code>: {}, {}, {}</p>\n{notices}\
         <nav><a href=\"#matrix\">Matrix</a><a href=\"#graph\">Graph</a><a href=\"#who\">Who can reach what</a>\
         <a href=\"#lints\">Warnings</a><a href=\"#allows\">Allows</a></nav>\n</header>\n<main>\n{}{}{}{}{}</main>\n\
         <footer>Made by tierwall {}.</footer>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        counted(tiers, "tier"),
        counted(allows, "allow"),
        counted(view.warnings.len(), "warning"),
        matrix(view),
        graph(view),
        who(view),
        lints(view),
        all_allows(view),
        env!("CARGO_PKG_VERSION"),
    )
}

fn matrix(view: &View<'_>) -> String {
    let (senders, receivers) = view.shown();
    let relation = &view.relation;
    let mut html = String::from(
        "<section id=\"matrix\">\n<h2>Matrix</h2>\n\
         <p>Rows open connections, columns accept them. Between two tiers it is what the sender's \
         servers open and the receiver's accept. <em>any</em> is every address that is in no tier. \
         What is marked * holds for some members or users only. ICMP echo requests and errors, \
         neighbour discovery and DHCP are built in and not shown.</p>\n\
         <div class=\"scroll matrix-frame\" tabindex=\"0\"><table class=\"matrix\">\n<thead><tr><th scope=\"col\">from \\ to</th>",
    );
    for to in &receivers {
        let _ = write!(html, "<th scope=\"col\">{}</th>", heading(&relation.receivers[*to]));
    }
    html += "</tr></thead>\n<tbody>\n";
    for from in &senders {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", heading(&relation.senders[*from]));
        for to in &receivers {
            html += &cell(relation.passages(*from, *to));
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table></div>\n</section>\n"
}

fn heading(party: &Party) -> String {
    let note = match (party.kind, party.addresses.as_ref()) {
        (PartyKind::Tier, Some(addresses)) => size(addresses),
        (PartyKind::Any, _) => "in no tier".into(),
        _ => String::new(),
    };
    format!("{}<small>{}</small>", escaped(&party.name), escaped(&note))
}

fn cell(passages: &[Passage<'_>]) -> String {
    let parts = summary(passages, None);
    if parts.is_empty() {
        return "<td class=\"none\">·</td>".into();
    }
    let mut behind: Vec<String> = Vec::new();
    for passage in passages {
        for gate in [passage.opened_by, passage.accepted_by] {
            if let policy::relation::Gate::Allow(allow) = gate {
                let line = format!("{} ({})", allow.key, allow.location);
                if !behind.contains(&line) {
                    behind.push(line);
                }
            }
        }
    }
    let mut html = format!("<td class=\"open code\" title=\"{}\">", escaped(&behind.join("\n")));
    for (name, in_part) in parts {
        let _ = match in_part {
            true => write!(html, "<span class=\"part\">{}*</span>", escaped(&name)),
            false => write!(html, "<span>{}</span>", escaped(&name)),
        };
    }
    html + "</td>"
}

fn graph(view: &View<'_>) -> String {
    format!(
        "<section id=\"graph\">\n<h2>Graph</h2>\n\
         <p>The allows as they are written: an allow of every server is one line here, and a row or a \
         column of the matrix.</p>\n\
         <div class=\"scroll drawing\" tabindex=\"0\">{}</div>\n</section>\n",
        svg::inline(&Graph::of(view.policy))
    )
}

fn who(view: &View<'_>) -> String {
    let mut html = String::from(
        "<section id=\"who\">\n<h2>Who can reach what</h2>\n\
         <p>Everybody can reach every server on ICMP echo requests, ICMP errors and neighbour discovery, \
         which are built in.</p>\n<p class=\"search\"><label class=\"faint\" for=\"search\">Search here and in the allows</label><br>\
         <input type=\"search\" id=\"search\" placeholder=\"tier, service, file …\" autocomplete=\"off\"> \
         <span id=\"found\" class=\"faint\" aria-live=\"polite\"></span></p>\n",
    );
    let (_, receivers) = view.shown();
    let parties = Party::all(view.policy);
    let accepted = Relation::accepted(view.policy, parties.clone(), parties);
    for to in receivers {
        html += &who_can_reach(&view.relation, &accepted, to);
    }
    html + "</section>\n"
}

fn who_can_reach(relation: &Relation<'_>, accepted: &Relation<'_>, to: usize) -> String {
    let target = &relation.receivers[to];
    let name = whom(target);
    let access = access(relation, to, None);
    let mut html = format!(
        "<div class=\"whom\" data-name=\"{}\">\n<h3>{}</h3>\n<ul>\n",
        escaped(&name),
        escaped(&name)
    );
    for access in &access {
        let by: Vec<String> = access
            .allows()
            .into_iter()
            .map(|(key, place)| format!("{} <code>{}</code>", escaped(&key), escaped(&place)))
            .collect();
        let _ = writeln!(
            html,
            "<li>{}<span class=\"by\">{}</span></li>",
            escaped(&access.sentence(target)),
            by.join("; ")
        );
    }
    for sentence in unopened(relation, accepted, to, None) {
        let _ = writeln!(html, "<li class=\"faint\">{}</li>", escaped(&sentence));
    }
    if access.is_empty() {
        html += "<li class=\"faint\">nobody, but on what is built in</li>\n";
    }
    html + "</ul>\n</div>\n"
}

fn lints(view: &View<'_>) -> String {
    let mut html = String::from("<section id=\"lints\">\n<h2>Warnings</h2>\n");
    if view.warnings.is_empty() {
        return html
            + "<p>None: no allow without effect, no empty or unused tier.</p>\n</section>\n";
    }
    html += "<ul class=\"lints\">\n";
    let place = |label: &Label| label.location().map(|location| location.to_string());
    for warning in view.warnings.iter() {
        let at = warning.place.as_ref().and_then(place).unwrap_or_default();
        let related: Vec<String> = warning
            .related
            .iter()
            .filter_map(|label| Some(format!("; {}: {}", label.text, place(label)?)))
            .collect();
        let hint = warning.hint.as_ref().map(|hint| format!(" Hint: {hint}.")).unwrap_or_default();
        let _ = writeln!(
            html,
            "<li>{} <code>{}{}</code><span class=\"faint\">{}</span></li>",
            escaped(&warning.message),
            escaped(&at),
            escaped(&related.concat()),
            escaped(&hint)
        );
    }
    html + "</ul>\n</section>\n"
}

fn all_allows(view: &View<'_>) -> String {
    let mut html = String::from(
        "<section id=\"allows\">\n<h2>Allows</h2>\n\
         <p>Everything that isn't allowed here is denied.</p>\n\
         <div class=\"scroll\"><table class=\"allows\">\n<thead><tr><th scope=\"col\">From</th><th scope=\"col\">To</th>\
         <th scope=\"col\">Service</th><th scope=\"col\">User</th><th scope=\"col\">Name</th><th scope=\"col\">Place</th></tr></thead>\n<tbody>\n",
    );
    for allow in &view.policy.allows {
        html += &of_allow(allow);
    }
    html + "</tbody>\n</table></div>\n</section>\n"
}

fn of_allow(allow: &Allow) -> String {
    let name = match &allow.key {
        policy::model::AllowKey::Named(name) => name.as_str(),
        policy::model::AllowKey::Content(_) => "",
    };
    let users: Vec<String> = allow.users.iter().map(ToString::to_string).collect();
    let users = if users.is_empty() { "everybody".into() } else { users.join(", ") };
    let cells = [
        ("From", named(&allow.from)),
        ("To", named(&allow.to)),
        ("Service", services(&allow.service)),
        ("User", users),
        ("Name", name.to_owned()),
        ("Place", allow.location.to_string()),
    ];
    let mut html = String::from("<tr>");
    for (label, text) in &cells {
        let _ = match *label {
            "Service" | "Place" => {
                write!(html, "<td data-label=\"{label}\"><code>{}</code></td>", escaped(text))
            }
            _ => write!(html, "<td data-label=\"{label}\">{}</td>", escaped(text)),
        };
    }
    html + "</tr>\n"
}

/// A side of an allow as the file names it.
fn named(side: &Endpoint) -> String {
    let mut names: Vec<String> = Vec::new();
    names.extend(side.any.then(|| "any".to_owned()));
    names.extend(side.every_server.then(|| "every server (*)".to_owned()));
    names.extend(side.tiers.iter().cloned());
    let literals = Addresses::of_literals(side);
    names.extend(literals.ranges());
    names.join(", ")
}
