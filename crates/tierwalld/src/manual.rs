//! The manual page tierwalld(8): what the command line says of itself, and what the journal gets.

use crate::journal::{PREFIX, field};
use crate::options::Options;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io::{self, Write};

const JOURNAL: &str = "Under systemd every event is an entry of the journal with fields of its own. \
    Each kind of event has a MESSAGE_ID, which the journal's catalog explains (journalctl -x). The \
    fields, whatever the kind:";

/// What people ask of the journal, and how.
const EXAMPLES: [(&str, &str); 4] = [
    ("journalctl -x -u tierwalld -p warning", "what went wrong, and what to do about it"),
    ("journalctl TIERWALL_GENERATION=12", "all that belongs to one policy generation"),
    ("journalctl TIERWALL_SET=web_v4", "each batch that changed a set"),
    ("journalctl TIERWALL_EVENT=member-added", "each member that was added by command"),
];

/// Writes the page.
pub(crate) fn write(out: &mut dyn Write) -> io::Result<()> {
    Man::new(Options::command()).section("8").render(out)?;
    let mut page = Roff::new();
    page.control("SH", ["JOURNAL"]).text([roman(JOURNAL)]);
    for (name, meaning) in field::ALL {
        let name = format!("{PREFIX}{}", name.to_ascii_uppercase());
        page.control("TP", []).text([bold(name)]).text([roman(meaning.replace('`', "\""))]);
    }
    page.control("SH", ["EXAMPLES"]);
    for (command, what) in EXAMPLES {
        page.control("TP", []).text([bold(command)]).text([roman(what)]);
    }
    page.control("SH", ["FILES"]);
    for (file, what) in [
        (control::POLICY_FILE, "the policy"),
        (control::STATE_DIRECTORY, "what outlives the daemon"),
        (control::RUNTIME_DIRECTORY, "the control socket"),
    ] {
        page.control("TP", []).text([bold(file)]).text([roman(what)]);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("tierwall(1), tierwall.toml(5), journalctl(1), nft(8)")]);
    page.to_writer(out)
}
