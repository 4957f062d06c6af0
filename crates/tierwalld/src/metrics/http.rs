//! `/metrics` over HTTP/1.1 (RFC 9112), one request a connection, and nothing else.
//!
//! Who asks may be anybody who reaches the port. So everything has a limit: how many are served at
//! once, how much they may send, how long they may take for it and for the answer. Nobody waits for
//! a place: see [`readers`](super::readers) for who loses one.

use super::readers::{Place, Readers, Stage};
use super::{Message, Reader, scrape, text};
use crate::journal::kind;
use httparse::{EMPTY_HEADER, Request, Status};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The longest head of a request, in bytes, and the most fields in it.
const MAX_HEAD: usize = 8 * 1024;
const MAX_FIELDS: usize = 64;

/// How long a client may take to send its request, and to take its answer.
const ASKING: Duration = Duration::from_secs(5);
const TAKING: Duration = Duration::from_secs(10);

/// What is read of what a client sends behind its request, so that closing doesn't throw away the
/// answer on the way to it.
const MAX_REST: usize = 64 * 1024;

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, readers: Readers, events: mpsc::Sender<Message>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match readers.admit(Instant::now()) {
                Some((place, gone)) => {
                    let events = events.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = converse(stream, &place, events) => {}
                            // Somebody else has the place now.
                            _ = gone => {}
                        }
                    });
                }
                None => refuse(&stream),
            },
            Err(error) => {
                // Out of descriptors, most likely: others will end.
                tracing::debug!(target: kind::METRICS_NOT_SERVED, %error, "can't accept a reader of metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Says no without waiting for anything.
fn refuse(stream: &TcpStream) {
    let answer = Answer::text(503, "too many readers at once; try again\n");
    // What doesn't fit at once isn't worth more.
    let _ = stream.try_write(&answer.bytes(true));
}

async fn converse(mut stream: TcpStream, place: &Place, events: mpsc::Sender<Message>) {
    let mut head = Vec::new();
    let asked = timeout(ASKING, read(&mut stream, &mut head)).await;
    place.reaches(Stage::Answering, Instant::now());
    let (answer, has_body) = match asked {
        // Who says nothing, or went away, hears nothing.
        Ok(Ok(Asked::Nothing) | Err(_)) => return,
        Ok(Ok(Asked::Metrics { has_body })) => {
            let answer = match scrape(&events, Reader::Scrape).await {
                Some(body) => Answer { code: 200, kind: text::CONTENT_TYPE, allow: false, body },
                None => Answer::text(503, "tierwalld is ending\n"),
            };
            (answer, has_body)
        }
        Ok(Ok(Asked::Wrong { answer, has_body })) => (answer, has_body),
        Err(_) => (Answer::text(408, "no request came in time\n"), true),
    };
    let _ = timeout(TAKING, answered(&mut stream, place, &answer.bytes(has_body))).await;
}

async fn answered(stream: &mut TcpStream, place: &Place, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    place.reaches(Stage::Answered, Instant::now());
    // Until it closes too, or sends too much.
    let mut rest = [0; 1024];
    let mut read = 0;
    while read < MAX_REST {
        match stream.read(&mut rest).await? {
            0 => break,
            more => read += more,
        }
    }
    Ok(())
}

/// What somebody wants.
#[derive(Debug)]
enum Asked {
    /// The connection was closed before it said.
    Nothing,
    Metrics {
        /// A HEAD has none.
        has_body: bool,
    },
    Wrong {
        answer: Answer,
        has_body: bool,
    },
}

/// Reads the head of a request.
async fn read(stream: &mut TcpStream, head: &mut Vec<u8>) -> std::io::Result<Asked> {
    let mut more = [0; 1024];
    loop {
        match stream.read(&mut more).await? {
            0 => return Ok(Asked::Nothing),
            read => head.extend_from_slice(&more[..read]),
        }
        if let Some(asked) = parse(head) {
            return Ok(asked);
        }
    }
}

/// What a request asks for; none while more of it has to come.
fn parse(head: &[u8]) -> Option<Asked> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    let wrong = |answer, has_body| Some(Asked::Wrong { answer, has_body });
    match request.parse(head) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if head.len() < MAX_HEAD => return None,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return wrong(Answer::text(431, "the request is too long\n"), true);
        }
        Err(_) => return wrong(Answer::text(400, "not a request of HTTP/1.1\n"), true),
    }
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let has_body = method != "HEAD";
    match (method, path) {
        ("GET" | "HEAD", "/metrics") => Some(Asked::Metrics { has_body }),
        (_, "/metrics") => {
            let answer = Answer::text(405, "only GET and HEAD\n");
            wrong(Answer { allow: true, ..answer }, has_body)
        }
        _ => wrong(Answer::text(404, "the metrics are at /metrics\n"), has_body),
    }
}

/// What is answered.
#[derive(Debug)]
struct Answer {
    code: u16,
    kind: &'static str,
    /// Whether it says which methods there are.
    allow: bool,
    body: String,
}

impl Answer {
    fn text(code: u16, body: &str) -> Self {
        Self { code, kind: "text/plain; charset=utf-8", allow: false, body: body.into() }
    }

    fn bytes(&self, has_body: bool) -> Vec<u8> {
        let reason = match self.code {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        let Self { code, kind, body, .. } = self;
        let allow = if self.allow { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let mut bytes = format!(
            "HTTP/1.1 {code} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             {allow}Connection: close\r\n\r\n"
        )
        .into_bytes();
        if has_body {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(head: &[u8]) -> Option<u16> {
        parse(head).map(|asked| match asked {
            Asked::Nothing => 0,
            Asked::Metrics { .. } => 200,
            Asked::Wrong { answer, .. } => answer.code,
        })
    }

    #[test]
    fn only_metrics_are_there() {
        let asked = |line: &str| code(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        for (line, expected) in [
            ("GET /metrics", 200),
            ("HEAD /metrics", 200),
            ("GET /metrics?name[]=x", 200),
            ("POST /metrics", 405),
            ("GET /", 404),
            ("GET /metrics/", 404),
            ("GET /../metrics", 404),
            ("GET http://x/metrics", 404),
            ("OPTIONS *", 404),
        ] {
            assert_eq!(asked(line), Some(expected), "{line}");
        }
        assert_eq!(code(b"GET /metrics HTTP/1.0\r\n\r\n"), Some(200));
        assert_eq!(code(b"GET /metrics HTTP/1.1\r\nHost: x\r\n"), None, "more has to come");
        assert_eq!(code(b"\x16\x03\x01\x02\x00"), Some(400), "TLS");
    }

    #[test]
    fn a_long_head_is_refused_and_never_more_than_it_read() {
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD));
        assert_eq!(code(long.as_bytes()), Some(431));
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(code(many.as_bytes()), Some(431));
    }

    #[test]
    fn a_head_request_hears_the_length_and_no_body() {
        let answer = Answer::text(404, "four");
        let told = String::from_utf8(answer.bytes(false)).expect("text");
        assert!(told.contains("Content-Length: 4\r\n") && told.ends_with("\r\n\r\n"), "{told}");
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_fault(head in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&head);
        }
    }
}
