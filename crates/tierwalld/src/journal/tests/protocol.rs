//! Entries as the journal reads them.

use crate::journal::*;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::thread;
use tracing_subscriber::prelude::*;

/// The fields of an entry, as the journal reads them.
fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("a name");
        let name = String::from_utf8(bytes[..end].to_vec()).expect("a name is ASCII");
        let (length, rest) = bytes[end + 1..].split_first_chunk().expect("a length");
        let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let value = String::from_utf8(value.to_vec()).expect("text");
        assert!(fields.insert(name, value).is_none(), "twice");
        bytes = rest.strip_prefix(b"\n").expect("an end");
    }
    fields
}

fn logged(log: impl FnOnce()) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).expect("bound");
    let journal = Journal::open_at(&path).expect("there");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), log);
    let mut buffer = vec![0; 1 << 16];
    assert_eq!(socket.recv(&mut buffer).expect("the first datagram"), 0);
    let length = socket.recv(&mut buffer).expect("an entry");
    fields(&buffer[..length])
}

#[test]
fn an_event_is_an_entry_with_its_fields() {
    let entry = logged(|| tracing::warn!(generation = 12, reason = "reload", "committed"));
    assert_eq!(entry["MESSAGE"], "committed generation=12 reason=\"reload\"");
    assert_eq!(entry["TIERWALL_GENERATION"], "12");
    assert_eq!(entry["TIERWALL_REASON"], "reload");
    assert_eq!(
        (entry["PRIORITY"].as_str(), entry["SYSLOG_IDENTIFIER"].as_str()),
        ("4", "tierwalld")
    );
}

#[test]
fn no_value_makes_a_field_of_its_own() {
    let forged = "x\nPRIORITY=0\nMESSAGE=all is well\n";
    let entry = logged(|| tracing::info!(process = forged, "changed\nby somebody"));
    assert_eq!(entry["TIERWALL_PROCESS"], forged);
    assert_eq!(entry["PRIORITY"], "6");
    let (first, rest) = entry["MESSAGE"].split_once('\n').expect("two lines");
    assert_eq!(first, "changed process=\"x\\nPRIORITY=0\\nMESSAGE=all is well\\n\"");
    assert_eq!(rest, "by somebody");
}

#[test]
fn nobody_listens() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert!(Journal::open_at(&directory.path().join("none")).is_err());
}

#[test]
fn a_journal_that_hangs_holds_nobody_up_and_hears_how_much_it_missed() {
    const ENTRIES: usize = 5000;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("socket");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_nonblocking(true).expect("possible");
    let read = || {
        let mut buffer = vec![0; 1 << 16];
        let mut entries = Vec::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            entries.extend((length > 0).then(|| fields(&buffer[..length])));
        }
        entries
    };
    let journal = Journal::open_at(&path).expect("there");
    let log = tracing::Dispatch::new(tracing_subscriber::registry().with(journal));
    let (logged, is_logged) = mpsc::channel();
    let flood = log.clone();
    thread::spawn(move || {
        tracing::dispatcher::with_default(&flood, || {
            (0..ENTRIES).for_each(|number| tracing::info!(number, "too much"));
        });
        let _ = logged.send(());
    });
    // Waiting for each of them would take more than an hour.
    is_logged.recv_timeout(Duration::from_secs(60)).expect("nobody is held up");
    let lost = ENTRIES - read().len();
    assert!(lost > 0, "the queue takes all of them");
    tracing::dispatcher::with_default(&log, || tracing::info!("it reads again"));
    let messages: Vec<_> = read().into_iter().map(|entry| entry["MESSAGE"].clone()).collect();
    let told = format!("the journal was behind: {lost} entries before this are lost");
    assert_eq!(messages, ["it reads again".to_owned(), told]);
}

#[test]
fn the_kind_and_its_id_are_fields() {
    let entry = logged(|| tracing::info!(target: kind::COMMITTED, "committed"));
    let (_, id) = kind::ALL.iter().find(|(word, _)| *word == "committed").expect("a kind");
    assert_eq!(
        (entry["TIERWALL_EVENT"].as_str(), entry["MESSAGE_ID"].as_str()),
        ("committed", *id)
    );
    let entry = logged(|| tracing::info!("of no kind"));
    assert!(!entry.contains_key("MESSAGE_ID"));
}

#[test]
fn each_set_is_a_field() {
    let mut entry = Entry::default();
    entry.each_set("web_v4 +1 -0, tierwall_state +1 -1");
    let text = String::from_utf8_lossy(&entry.bytes).replace('\0', "");
    assert_eq!(text.matches("TIERWALL_SET\n").count(), 2, "{text}");
    assert!(text.contains("web_v4\n") && text.contains("tierwall_state\n"), "{text}");
    let mut none = Entry::default();
    none.each_set("");
    assert!(none.bytes.is_empty());
}
