//! Steps put together to packets.
//!
//! The kernel tells no packet's end. It is known where the packet is dropped, delivered or sent; a
//! packet of which nothing more is heard for a while went where the kernel tells nothing.
//! Numbers of packets come again: a first step with headers in our own table begins another one.
//! Of packets that another table marks all steps come too; those that ours doesn't are left out.

use netlink::Headers;
use netlink::survey::Family;
use netlink::trace::{Event, Stage, Step, Verdict};
use ruleset::States;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

/// After how long without a step nothing more comes: the kernel takes microseconds.
const SILENCE: Duration = Duration::from_millis(200);
/// The same where a program was asked.
const QUEUED: Duration = Duration::from_secs(2);

/// How many packets may be under way; the oldest goes first.
const UNDER_WAY: usize = 4096;

/// Steps of one packet that are kept: no ruleset that anybody wrote has as many.
const STEPS: usize = 1024;

/// A packet, as far as the kernel told.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    /// When its first step came.
    pub(super) at: SystemTime,
    /// The same since the trace began.
    pub(super) after: Duration,
    pub(super) headers: Headers,
    /// The indexes of the interfaces; 0 for none.
    pub(super) input: u32,
    pub(super) output: u32,
    pub(super) mark: Option<u32>,
    /// Of its connection, where the kernel tells it.
    pub(super) state: Option<States>,
    /// The base chains that it went through, in order.
    pub(super) visits: Vec<Visit>,
    pub(super) end: End,
    /// Whether steps are missing.
    pub(super) partial: bool,
    /// Whether it is one that was asked for.
    marked: bool,
    last: Instant,
    steps: usize,
}

/// A packet's way through a base chain and those it leads to.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) family: Family,
    pub(super) table: String,
    /// The base chain.
    pub(super) chain: String,
    pub(super) steps: Vec<Step>,
}

/// Where a packet was heard of last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing dropped it, and it wasn't heard of again.
    Unheard,
    /// The last chain of its last visit dropped it.
    Dropped,
    /// It was given to a program or another part of the kernel.
    Taken,
    Delivered,
    Sent,
}

impl Visit {
    /// What ended it.
    pub(super) fn last(&self) -> Option<&Event> {
        self.steps.last().map(|step| &step.event).filter(|event| is_last(event))
    }
}

/// Whether a base chain is left by it.
fn is_last(event: &Event) -> bool {
    use Verdict::{Accept, Drop, Queue, Stolen};
    match event {
        Event::Policy { .. } => true,
        Event::Rule { verdict, .. } => matches!(verdict, Accept | Drop | Queue | Stolen),
        Event::Return { .. } => false,
    }
}

/// Packets under way.
#[derive(Debug, Default)]
pub(super) struct Packets {
    under_way: HashMap<u32, Packet>,
    complete: Vec<Packet>,
}

impl Packets {
    /// Takes a step, which is at this stage of our own table, if it is of that.
    pub(super) fn take(&mut self, step: Step, stage: Option<Stage>, begun: Instant) {
        let (id, now) = (step.packet, Instant::now());
        match stage {
            Some(stage @ (Stage::Begin | Stage::Marked | Stage::Unmarked)) => {
                // The first step of a chain is the one with headers.
                if let Some(headers) = step.headers {
                    self.begin(&step, headers, now, begun);
                }
                match (stage, self.under_way.get_mut(&id)) {
                    (Stage::Marked, Some(packet)) => packet.marked = true,
                    (Stage::Unmarked, Some(packet)) if !packet.marked => self.finish(id),
                    _ => {}
                }
            }
            Some(stage @ (Stage::Delivered | Stage::Sent)) => {
                if let Some(packet) = self.under_way.get_mut(&id) {
                    packet.note_interfaces(&step);
                    let delivered = stage == Stage::Delivered;
                    packet.end = if delivered { End::Delivered } else { End::Sent };
                    self.finish(id);
                }
            }
            None => {
                let Some(packet) = self.under_way.get_mut(&id) else { return };
                packet.last = now;
                packet.add(step);
                if packet.end == End::Dropped {
                    self.finish(id);
                }
            }
        }
    }

    fn begin(&mut self, step: &Step, headers: Headers, now: Instant, begun: Instant) {
        self.finish(step.packet);
        if self.under_way.len() >= UNDER_WAY {
            self.finish_oldest();
        }
        let packet = Packet {
            at: SystemTime::now(),
            after: now - begun,
            headers,
            input: step.input,
            output: step.output,
            mark: step.mark,
            state: step.state,
            visits: Vec::new(),
            end: End::Unheard,
            partial: false,
            marked: false,
            last: now,
            steps: 0,
        };
        self.under_way.insert(step.packet, packet);
    }

    /// Steps were lost: whatever is under way may lack some.
    pub(super) fn note_loss(&mut self) {
        self.under_way.values_mut().for_each(|packet| packet.partial = true);
    }

    /// The packets that are complete by now, or all, in the order in which they began.
    pub(super) fn complete(&mut self, all: bool) -> Vec<Packet> {
        let is_over = |packet: &Packet| {
            let patience = if packet.end == End::Taken { QUEUED } else { SILENCE };
            all || packet.last.elapsed() > patience
        };
        let over: Vec<u32> = self
            .under_way
            .iter()
            .filter(|(_, packet)| is_over(packet))
            .map(|(id, _)| *id)
            .collect();
        over.into_iter().for_each(|id| self.finish(id));
        let mut complete = std::mem::take(&mut self.complete);
        complete.sort_by_key(|packet| packet.after);
        complete
    }

    fn finish(&mut self, id: u32) {
        self.complete.extend(self.under_way.remove(&id).filter(|packet| packet.marked));
    }

    fn finish_oldest(&mut self) {
        let oldest = self.under_way.iter().min_by_key(|(_, packet)| packet.after);
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.finish(id);
        }
    }
}

impl Packet {
    fn add(&mut self, step: Step) {
        self.note_interfaces(&step);
        // The first table looks before connection tracking does.
        self.state = step.state.or(self.state);
        if self.steps >= STEPS {
            self.partial = true;
            return;
        }
        self.steps += 1;
        self.end = match &step.event {
            Event::Policy { accepts: false } => End::Dropped,
            Event::Rule { verdict: Verdict::Drop, .. } => End::Dropped,
            Event::Rule { verdict: Verdict::Queue | Verdict::Stolen, .. } => End::Taken,
            _ => End::Unheard,
        };
        let is_same = |visit: &Visit| {
            (visit.family, &visit.table) == (step.family, &step.table) && visit.last().is_none()
        };
        match self.visits.last_mut().filter(|visit| step.headers.is_none() && is_same(visit)) {
            Some(visit) => visit.steps.push(step),
            None => {
                // What came before it was lost.
                self.partial |= step.headers.is_none();
                let (table, chain) = (step.table.clone(), step.chain.clone());
                self.visits.push(Visit { family: step.family, table, chain, steps: vec![step] });
            }
        }
    }

    /// Each is known where it is: the one it goes out by not before routing.
    fn note_interfaces(&mut self, step: &Step) {
        for (own, told) in [(&mut self.input, step.input), (&mut self.output, step.output)] {
            if *own == 0 {
                *own = told;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: [u8; 40] = {
        let mut bytes = [0; 40];
        (bytes[0], bytes[9], bytes[33]) = (0x45, 6, 2);
        bytes
    };

    fn step(packet: u32, table: &str, event: Event, first: bool) -> Step {
        Step {
            packet,
            family: Family::Inet,
            table: table.into(),
            chain: "input".into(),
            event,
            headers: Headers::read(&SYN).filter(|_| first),
            input: 2,
            output: 0,
            mark: None,
            state: None,
        }
    }

    fn rule(verdict: Verdict) -> Event {
        Event::Rule { handle: 1, verdict }
    }

    /// Feeds the stage and the step of each.
    fn packets(steps: Vec<(Option<Stage>, Step)>) -> Packets {
        let mut packets = Packets::default();
        let begun = Instant::now();
        steps.into_iter().for_each(|(stage, step)| packets.take(step, stage, begun));
        packets
    }

    #[test]
    fn steps_are_cut_into_visits_and_packets() {
        let begin = |id| (Some(Stage::Marked), step(id, "own", rule(Verdict::Accept), true));
        let drop = Event::Policy { accepts: false };
        let mut packets = packets(vec![
            begin(1),
            begin(2),
            (None, step(1, "a", rule(Verdict::Accept), true)),
            (None, step(2, "a", rule(Verdict::Continue), true)),
            (None, step(1, "b", rule(Verdict::Jump("x".into())), true)),
            (None, step(1, "b", rule(Verdict::Accept), false)),
            (None, step(2, "a", drop, false)),
            (Some(Stage::Delivered), step(1, "own", Event::Policy { accepts: true }, true)),
            // The number comes again.
            begin(2),
        ]);
        let complete = packets.complete(false);
        let ends: Vec<End> = complete.iter().map(|packet| packet.end).collect();
        assert_eq!(ends, [End::Delivered, End::Dropped]);
        let visits: Vec<usize> = complete[0].visits.iter().map(|visit| visit.steps.len()).collect();
        assert_eq!(visits, [1, 2]);
        assert!(complete.iter().all(|packet| !packet.partial && packet.input == 2));
        let rest = packets.complete(true);
        assert_eq!((rest.len(), rest[0].end), (1, End::Unheard));
    }

    #[test]
    fn what_began_elsewhere_or_was_lost_is_no_packet() {
        let mut packets = packets(vec![
            (None, step(1, "a", rule(Verdict::Accept), true)),
            (Some(Stage::Marked), step(1, "own", rule(Verdict::Accept), false)),
            (Some(Stage::Sent), step(1, "own", rule(Verdict::Accept), true)),
        ]);
        assert!(packets.complete(true).is_empty());
    }

    #[test]
    fn what_another_table_marks_counts_only_where_ours_does_too() {
        let goto = |id| step(id, "own", rule(Verdict::Goto("mark".into())), true);
        let passes = Event::Policy { accepts: true };
        let mut packets = packets(vec![
            (Some(Stage::Begin), goto(1)),
            (Some(Stage::Begin), goto(2)),
            (Some(Stage::Marked), step(1, "own", rule(Verdict::Accept), false)),
            (Some(Stage::Unmarked), step(2, "own", passes.clone(), false)),
            (Some(Stage::Unmarked), step(3, "own", passes, true)),
            (None, step(1, "a", rule(Verdict::Accept), true)),
            (None, step(2, "a", rule(Verdict::Drop), true)),
            (None, step(3, "a", rule(Verdict::Drop), true)),
        ]);
        let complete = packets.complete(true);
        assert_eq!((complete.len(), complete[0].visits.len()), (1, 1));
    }

    #[test]
    fn a_step_without_its_beginning_is_marked() {
        let mut packets = packets(vec![
            (Some(Stage::Marked), step(1, "own", rule(Verdict::Accept), true)),
            (None, step(1, "a", rule(Verdict::Accept), false)),
        ]);
        assert!(packets.complete(true)[0].partial);
    }

    #[test]
    fn no_more_are_under_way_than_there_is_room_for() {
        let begin = |id| (Some(Stage::Marked), step(id, "own", rule(Verdict::Accept), true));
        let packets = packets((0..2 * UNDER_WAY as u32).map(begin).collect());
        assert_eq!((packets.under_way.len(), packets.complete.len()), (UNDER_WAY, UNDER_WAY));
    }
}
