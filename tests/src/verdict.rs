//! What a probe met.

use anyhow::{Context, Error, Result, bail};
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

/// What became of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was made, and a request was answered.
    Open,
    /// It was not made.
    Denied(Denial),
    /// The first packet arrived (the handshake was completed, or the listener saw the request), but
    /// the answer didn't come back: neither open nor denied, whatever was expected.
    Stalled,
}

/// How the network said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// A TCP reset or an ICMP port unreachable.
    Refused,
    /// An ICMP error: host or network unreachable, administratively prohibited.
    Unreachable,
    /// The sending system call failed with EPERM: this host's own output chain dropped the packet.
    NotPermitted,
    /// Nothing came back before the limit.
    Silence,
}

/// A verdict and the time it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What the probe met.
    pub verdict: Verdict,
    /// From before the first packet until it was known.
    pub duration: Duration,
}

impl Denial {
    const ALL: [Self; 4] = [Self::Refused, Self::Unreachable, Self::NotPermitted, Self::Silence];

    /// What a socket error says about the network; none for errors of the probe itself.
    pub fn of(error: &io::Error) -> Option<Self> {
        use nix::errno::Errno;
        match Errno::from_raw(error.raw_os_error()?) {
            Errno::ECONNREFUSED | Errno::ECONNRESET => Some(Self::Refused),
            // A protocol without a listener: ICMP protocol unreachable, ICMPv6 unknown next header.
            Errno::ENOPROTOOPT | Errno::EPROTO => Some(Self::Refused),
            // ICMPv6 administratively prohibited and policy failures arrive as EACCES.
            Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EACCES => Some(Self::Unreachable),
            Errno::EPERM => Some(Self::NotPermitted),
            Errno::ETIMEDOUT | Errno::EAGAIN => Some(Self::Silence),
            _ => None,
        }
    }

    /// Whether somebody said no, so that the program knew at once.
    pub fn is_prompt(self) -> bool {
        matches!(self, Self::Refused | Self::Unreachable)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::NotPermitted => "not-permitted",
            Self::Silence => "silence",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Denied(how) => write!(f, "denied:{}", how.name()),
            Self::Stalled => f.write_str("stalled"),
        }
    }
}

impl FromStr for Verdict {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "open" => Ok(Self::Open),
            None if text == "stalled" => Ok(Self::Stalled),
            Some(("denied", how)) => Denial::ALL
                .into_iter()
                .find(|denial| denial.name() == how)
                .map(Self::Denied)
                .with_context(|| format!("`{how}` is no kind of denial")),
            _ => bail!("`{text}` is no verdict"),
        }
    }
}

/// `open 1234`: the duration in microseconds. What `tierwall-probe` prints.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verdict, self.duration.as_micros())
    }
}

impl FromStr for Outcome {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (verdict, micros) = text.split_once(' ').context("no duration")?;
        Ok(Self { verdict: verdict.parse()?, duration: Duration::from_micros(micros.parse()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_back_as_it_was_printed() {
        let denied = Denial::ALL.map(Verdict::Denied);
        for verdict in [Verdict::Open, Verdict::Stalled].into_iter().chain(denied) {
            let outcome = Outcome { verdict, duration: Duration::from_micros(1234) };
            assert_eq!(outcome.to_string().parse::<Outcome>().expect("an outcome"), outcome);
        }
    }
}
