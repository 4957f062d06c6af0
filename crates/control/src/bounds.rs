//! What keeps an answer shorter than [`MAX_RESPONSE`]: long lists end in how many more there are.
//!
//! A policy can have a warning for each line of its lists. Who asked has to hear in any case whether
//! the change was made.

use crate::generation::ChangeLine;
use crate::generation::Difference;
use crate::message::{Done, Failure, FailureKind, MAX_RESPONSE, Response, encode};
use crate::status::Status;

/// Lines that are left of a list or a text.
const LINES: usize = 1000;

/// Their bytes; JSON may take six times as many.
const BYTES: usize = 256 * 1024;

/// An answer as a line, `\n` included, that is no longer than a client reads: [`MAX_RESPONSE`] bytes.
pub fn encode_response(response: Response) -> Vec<u8> {
    let line = encode(&shortened(response));
    if line.len() <= MAX_RESPONSE {
        return line;
    }
    let megabytes = line.len() / (1024 * 1024);
    encode(&Response::Failed(Failure {
        kind: FailureKind::Failed,
        message: format!(
            "the answer has {megabytes} MiB, more than the {} MiB that fit; nothing was changed for \
             it\n  hint: ask for less",
            MAX_RESPONSE / (1024 * 1024)
        ),
    }))
}

/// The same with the first lines of what is long. What tells of a change is short after that.
fn shortened(mut response: Response) -> Response {
    match &mut response {
        Response::Status(status) => {
            let Status {
                version: _,
                pid: _,
                since: _,
                policy_file: _,
                enforcement: _,
                generation: _,
                kernel_generation: _,
                role: _,
                role_auto: _,
                input: _,
                output: _,
                first_refused: _,
                // As many as a policy has, a line each.
                tiers: _,
                allows: _,
                last_commit: _,
                warnings,
                waiting,
                held_lists,
                problem,
                refused,
                cannot_reconnect,
                pending: _,
                differs: _,
                drift: _,
                kernel_problem,
                table: _,
                ending: _,
                unwatched,
                observing: _,
                denials: _,
                after_change: _,
                unrecorded: _,
            } = &mut **status;
            for lines in [warnings, waiting, held_lists, unwatched, cannot_reconnect] {
                shorten(lines);
            }
            for text in [problem, refused, kernel_problem].into_iter().flatten() {
                shorten_text(text);
            }
        }
        Response::Done(done) => {
            let Done { commit: _, pending: _, saved: _, changes, warnings, cannot_reconnect } =
                &mut **done;
            shorten_changes(changes);
            shorten(warnings);
            shorten(cannot_reconnect);
        }
        Response::Difference(difference) => {
            let Difference { from: _, to: _, changes, edits, members: _ } = &mut **difference;
            shorten_changes(changes);
            shorten(edits);
        }
        Response::Failed(Failure { kind: _, message }) => shorten_text(message),
        Response::Guard(guarded) => {
            shorten(&mut guarded.shut_out);
            if let Some(refused) = &mut guarded.refused {
                shorten_text(refused);
            }
        }
        Response::TornDown(_)
        | Response::Members(_)
        | Response::Confirmed(_)
        | Response::History(_)
        | Response::Denied(_)
        | Response::Metrics(_) => {}
    }
    response
}

/// How many of these lengths are left.
fn left(lengths: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fits = |length: &usize| {
        sum += length;
        sum <= BYTES
    };
    lengths.take(LINES).take_while(fits).count()
}

fn shorten(lines: &mut Vec<String>) {
    let count = left(lines.iter().map(String::len));
    let more = lines.len() - count;
    if more > 0 {
        lines.truncate(count);
        lines.push(format!("and {more} more"));
    }
}

fn shorten_text(text: &mut String) {
    let count = left(text.split('\n').map(|line| line.len() + 1));
    let mut rest = text.split('\n').skip(count).filter(|line| !line.is_empty()).peekable();
    if rest.peek().is_none() {
        return;
    }
    let more = rest.count();
    let lines: Vec<&str> = text.split('\n').take(count).collect();
    *text = match lines.join("\n") {
        // A line that is too long by itself.
        first if first.is_empty() => {
            let starts = text.char_indices().map(|(start, _)| start);
            let end = starts.take_while(|start| *start <= BYTES).last().unwrap_or_default();
            format!("{}…", &text[..end])
        }
        lines => format!("{lines}\nand {more} more lines"),
    };
}

fn shorten_changes(changes: &mut Vec<ChangeLine>) {
    let count = left(changes.iter().map(|line| line.text.len()));
    let rest = changes.split_off(count);
    for more in [true, false] {
        let count = rest.iter().filter(|line| line.more == more).count();
        if count > 0 {
            changes.push(ChangeLine { more, text: format!("and {count} more") });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::decode;

    fn sent(response: Response) -> Response {
        let line = encode_response(response);
        assert!(line.len() <= MAX_RESPONSE);
        decode(&line).expect("a message")
    }

    #[test]
    fn a_change_is_told_however_many_warnings_there_are() {
        let warnings = vec!["\u{1}".repeat(400); 80_000];
        let line = |more| ChangeLine { more, text: "x".repeat(100) };
        let changes = (0..70_000).map(|number| line(number % 3 == 0)).collect();
        let cannot_reconnect = Vec::new();
        let (commit, pending, saved) = (None, None, None);
        let done = Done { commit, pending, changes, warnings, saved, cannot_reconnect };
        let Response::Done(done) = sent(Response::Done(Box::new(done))) else { panic!("another") };
        let kept = done.warnings.len() - 1;
        assert_eq!(done.warnings[kept], format!("and {} more", 80_000 - kept));
        let [.., more, less] = &done.changes[..] else { panic!("few") };
        let rest = 70_000 - (done.changes.len() - 2);
        assert!(more.more && !less.more);
        let count = |line: &ChangeLine| line.text.split(' ').nth(1)?.parse::<usize>().ok();
        assert_eq!(count(more).zip(count(less)).map(|(a, b)| a + b), Some(rest));
    }

    #[test]
    fn a_status_is_told_however_much_there_is_to_say() {
        let mut status = crate::standing::tests::status();
        let lines = vec!["\u{1}".repeat(400); 80_000];
        let text = "\u{1}\n".repeat(8_000_000);
        status.warnings.clone_from(&lines);
        status.waiting.clone_from(&lines);
        status.held_lists.clone_from(&lines);
        status.unwatched.clone_from(&lines);
        status.cannot_reconnect = lines;
        status.problem = Some(text.clone());
        status.refused = Some(text.clone());
        status.kernel_problem = Some(text);
        let Response::Status(told) = sent(Response::Status(Box::new(status))) else {
            panic!("another")
        };
        let ends = [told.warnings, told.waiting, told.held_lists, told.unwatched];
        for lines in ends.iter().chain([&told.cannot_reconnect]) {
            let kept = lines.len() - 1;
            assert_eq!(lines[kept], format!("and {} more", 80_000 - kept));
        }
        for text in [told.problem, told.refused, told.kernel_problem] {
            assert!(text.is_some_and(|text| text.ends_with("more lines")));
        }
    }

    #[test]
    fn a_long_text_ends_in_how_much_more_there_is() {
        let failed = |message: String| {
            let failure = Failure { kind: FailureKind::BadPolicy, message };
            let Response::Failed(failure) = sent(Response::Failed(failure)) else { panic!() };
            failure.message
        };
        let few = "error: one\n\n  hint: two\n".to_owned();
        assert_eq!(failed(few.clone()), few);
        let many = "an error\n\n".repeat(80_000);
        assert!(failed(many).ends_with("\nand 79500 more lines"));
        assert!(failed("ä".repeat(40_000_000)).ends_with("ä…"));
    }

    #[test]
    fn what_fits_stays_and_what_cannot_fit_says_so() {
        let difference = Difference {
            from: 1,
            to: 2,
            changes: Vec::new(),
            edits: vec!["an edit".into(); LINES],
            members: Vec::new(),
        };
        let response = Response::Difference(Box::new(difference));
        assert_eq!(sent(response.clone()), response);
        let Response::Failed(failure) = sent(Response::Metrics("x".repeat(17 << 20))) else {
            panic!("too long")
        };
        assert!(failure.message.contains("17 MiB"), "{}", failure.message);
    }
}
