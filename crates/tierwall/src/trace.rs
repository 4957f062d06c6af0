//! `tierwall trace`: live packets through the kernel's rules, each step by the line of the policy
//! behind it.
//!
//! ```text
//! Tracer (netlink) ─ steps ─► packet ─ visits ─► decode ─► text, json
//! ```
//!
//! The kernel is asked, not the daemon; the files say which line a rule is of.

mod decode;
mod json;
mod packet;
mod selection;
mod text;
mod words;

use crate::error::Error;
use crate::explain::daemon;
use crate::options::{Common, Trace};
use crate::output::{WARNING, print, print_on, styled, tell};
use decode::Rules;
use netlink::trace::{Counts, Tracer};
use packet::{Packet, Packets};
use policy::Policy;
use policy::model::Service;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use words::{Context, Interfaces};

/// How often it is looked whether a signal came, and which packets are complete.
const LOOK: Duration = Duration::from_millis(100);

/// How often the steps that wait are read in the end, some thousands each time: packets don't end.
const LAST_TURNS: usize = 8;

/// What a trace came to.
#[derive(Debug, Default)]
struct Summary {
    packets: u64,
    /// By what became of them, in the words of `--json`.
    verdicts: BTreeMap<&'static str, u64>,
    counts: Counts,
    losses: u64,
    duration: Duration,
}

pub(crate) fn run(common: &Common, options: &Trace) -> Result<u8, Error> {
    let (policy, services, mut notes) = load(common);
    let selector = selection::of(options, policy.as_ref(), &services)?;
    notes.extend(selection::note(&selector)?);
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Error::Question(format!("can't take signals: {error}"), None))?;

    let mut tracer = Tracer::start(&selector).map_err(Error::Trace)?;
    let rules = Rules::read().map_err(Error::Kernel)?;
    match common.json {
        true => print(&format!("{}\n", json::start(tracer.table(), &notes)))?,
        false => {
            for note in &notes {
                tell(&format!("{} {note}\n", styled(WARNING, "note:")));
            }
            let time = humantime::format_duration(options.for_);
            tell(&format!("tracing for {time}; ctrl-c ends it\n"));
        }
    }
    let (interfaces, summary) = (Interfaces::default(), Summary::default());
    let mut session = Session { common, options, policy, interfaces, rules, summary };
    session.follow(&mut tracer, &interrupted)?;
    let mut summary = session.summary;
    summary.counts = tracer.counts().map_err(Error::Kernel)?;
    summary.losses = tracer.losses();
    // The table is gone before the last word is said.
    drop(tracer);
    match common.json {
        true => print(&format!("{}\n", json::summary(&summary)))?,
        false => tell(&text::summary(&summary)),
    }
    Ok(control::exit::OK)
}

/// The policy of the files if they are good, the services that it names, and what is to be said
/// where its lines may be of something else than what is enforced.
fn load(common: &Common) -> (Option<Policy>, BTreeMap<String, Service>, Vec<String>) {
    let options = policy::Options {
        check_permissions: !common.insecure_permissions,
        ..policy::Options::default()
    };
    let policy::Loaded { mut policy, services, .. } = crate::judge::load(common, &options);
    let notes = match &mut policy {
        Some(policy) => daemon::compare(common, policy),
        None => vec![format!(
            "{} can't be read as a policy: rules go by the names that the kernel has of them; \
             `tierwall check` says what is wrong",
            common.config.display()
        )],
    };
    (policy, services, notes)
}

struct Session<'a> {
    common: &'a Common,
    options: &'a Trace,
    policy: Option<Policy>,
    interfaces: Interfaces,
    rules: Rules,
    summary: Summary,
}

impl Session<'_> {
    /// Tells packets until it is to end.
    fn follow(&mut self, tracer: &mut Tracer, interrupted: &AtomicBool) -> Result<(), Error> {
        let begun = Instant::now();
        let mut packets = Packets::default();
        loop {
            let left = self.options.for_.saturating_sub(begun.elapsed());
            let is_over = left.is_zero() || interrupted.load(Ordering::Relaxed);
            if !is_over {
                tracer.wait(left.min(LOOK)).map_err(Error::Trace)?;
            }
            let losses = tracer.losses();
            let mut steps = Vec::new();
            // In the end, what came while the last packets were told.
            for _ in 0..if is_over { LAST_TURNS } else { 1 } {
                tracer.read(|step| steps.push(step)).map_err(Error::Trace)?;
            }
            for step in steps {
                let stage = tracer.stage(&step);
                packets.take(step, stage, begun);
            }
            if tracer.losses() > losses {
                packets.note_loss();
            }
            let complete = packets.complete(is_over);
            let goes_on = self.tell(&complete)?;
            self.summary.duration = begun.elapsed();
            if is_over || !goes_on {
                return Ok(());
            }
        }
    }

    /// Whether more are wanted.
    fn tell(&mut self, complete: &[Packet]) -> Result<bool, Error> {
        if complete.is_empty() {
            return Ok(true);
        }
        if self.rules.refresh().map_err(Error::Kernel)? {
            // Other rules come from other files.
            self.policy = load(self.common).0;
        }
        let context = Context { policy: self.policy.as_ref(), interfaces: &self.interfaces };
        let decoder = self.rules.decoder(context.policy);
        for packet in complete {
            let visits: Vec<_> = packet.visits.iter().map(|visit| decoder.decode(visit)).collect();
            let verdict = words::verdict(packet, &visits);
            let told = match self.common.json {
                true => format!("{}\n", json::packet(context, packet, &visits)),
                false => text::packet(context, packet, &visits),
            };
            self.summary.packets += 1;
            *self.summary.verdicts.entry(verdict).or_default() += 1;
            let is_enough = self.options.count.is_some_and(|count| self.summary.packets >= count);
            if !print_on(&told)? || is_enough {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
