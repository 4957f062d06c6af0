//! A policy as a file in the state directory: the last good one, those of earlier generations, the
//! one to go back to.
//!
//! It is stored as the value it was parsed to: what is read back is exactly what was enforced,
//! whatever became of the files, their includes and lists. It is written as it is walked through, so
//! that a million members need no second place in memory.
//!
//! ```text
//! "tierwall"  version  time     the policy in postcard's format      length   checksum
//! 8 bytes     u32      u64      a few bytes a member                 u64      u64, little endian
//! ```
//!
//! The length is that of the policy; the checksum, SipHash-1-3 with the key 0, is of all before the
//! length.

use crate::state::StateDirectory;
use policy::Policy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};

/// How it begins.
const MAGIC: [u8; 8] = *b"tierwall";

/// Grows when an older daemon's file can't be understood.
const VERSION: u32 = 6;

/// A policy that was kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// When, in seconds since the epoch.
    pub(crate) time: u64,
    pub(crate) policy: Policy,
}

/// Why what is kept can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it can't be read")]
    Unreadable(#[source] io::Error),
    #[error("it is no such file")]
    Foreign,
    #[error("it is of version {0}, not {VERSION}")]
    OtherVersion(u32),
    #[error("its end is missing")]
    Truncated,
    #[error("its checksum is wrong")]
    Damaged,
    #[error("it holds no policy")]
    NotAPolicy(#[source] postcard::Error),
    #[error("it holds no policy that any files could have made")]
    Unsound,
}

/// Keeps `policy` as the file `name`.
pub(crate) fn save(
    state: &StateDirectory,
    name: &str,
    policy: &Policy,
    time: u64,
) -> io::Result<()> {
    save_value(state, name, policy, time)
}

/// The same of any value.
pub(crate) fn save_value(
    state: &StateDirectory,
    name: &str,
    value: &impl Serialize,
    time: u64,
) -> io::Result<()> {
    state.write_synced_by(name, |file| {
        let mut out = BufWriter::with_capacity(1 << 16, Summed::new(file));
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&time.to_le_bytes())?;
        let written = postcard::to_io(value, &mut out).map(|_| ());
        // Of an error of the disk postcard keeps nothing; writing the rest meets it again.
        let inner = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let Summed { to, length, checksum } = inner;
        written.map_err(io::Error::other)?;
        to.write_all(&(length - HEADER as u64).to_le_bytes())?;
        to.write_all(&checksum.finish().to_le_bytes())
    })
}

/// The policy kept as the file `name`; none where there is no such file.
pub(crate) fn load(state: &StateDirectory, name: &str) -> Result<Option<Kept>, Unusable> {
    match load_value::<Policy>(state, name)? {
        Some((time, policy)) if policy.is_sound() => Ok(Some(Kept { time, policy })),
        Some(_) => Err(Unusable::Unsound),
        None => Ok(None),
    }
}

/// The same of any value, and when it was kept, in seconds since the epoch.
pub(crate) fn load_value<T: DeserializeOwned>(
    state: &StateDirectory,
    name: &str,
) -> Result<Option<(u64, T)>, Unusable> {
    let bytes = state.try_read(name).map_err(Unusable::Unreadable)?;
    bytes.map(|bytes| parse(&bytes)).transpose()
}

/// Bytes before the policy, and behind it.
const HEADER: usize = 20;
const TRAILER: usize = 16;

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<(u64, T), Unusable> {
    let (magic, rest) = bytes.split_first_chunk().ok_or(Unusable::Foreign)?;
    if *magic != MAGIC {
        return Err(Unusable::Foreign);
    }
    let (version, rest) = rest.split_first_chunk().ok_or(Unusable::Truncated)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(Unusable::OtherVersion(version));
    }
    let (time, rest) = rest.split_first_chunk().ok_or(Unusable::Truncated)?;
    let (rest, checksum) = rest.split_last_chunk().ok_or(Unusable::Truncated)?;
    let (body, length) = rest.split_last_chunk().ok_or(Unusable::Truncated)?;
    if u64::from_le_bytes(*length) != body.len() as u64 {
        return Err(Unusable::Truncated);
    }
    let mut sum = SipHasher13::new();
    sum.write(&bytes[..bytes.len() - TRAILER]);
    if u64::from_le_bytes(*checksum) != sum.finish() {
        return Err(Unusable::Damaged);
    }
    match postcard::take_from_bytes(body).map_err(Unusable::NotAPolicy)? {
        (value, []) => Ok((u64::from_le_bytes(*time), value)),
        _ => Err(Unusable::Unsound),
    }
}

/// Sums up what is written on the way.
struct Summed<W> {
    to: W,
    length: u64,
    checksum: SipHasher13,
}

impl<W> Summed<W> {
    fn new(to: W) -> Self {
        Self { to, length: 0, checksum: SipHasher13::new() }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.checksum.write(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<(u64, Policy), Unusable> {
        super::parse(bytes)
    }

    const FILE: &str = "policy";
    use policy::{Options, load_text};
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    const POLICY: &str = "role = \"web\"\n[tiers]\nweb = [\"10.0.0.1-10.0.0.9\", \"2001:db8::/32\"]\n\
        [[allow]]\nfrom = \"*\"\nto = \"web\"\nservice = [\"tcp/80\", \"gre\"]\nuser = [\"root\", 7]\n\
        [[allow]]\nname = \"out\"\nfrom = \"web\"\nto = [\"10.9.0.0/16\", \"any\"]\nservice = \"udp/53-99\"\n";

    fn policy(text: &str) -> Policy {
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    fn saved(policy: &Policy) -> Vec<u8> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        save(&state, FILE, policy, 7).expect("written");
        state.read(FILE).expect("there")
    }

    #[test]
    fn comes_back_as_it_was() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        assert!(load(&state, FILE).expect("missing").is_none());
        let policy = policy(POLICY);
        save(&state, FILE, &policy, 7).expect("written");
        let back = load(&state, FILE).expect("readable").expect("there");
        assert_eq!((back.time, &back.policy), (7, &policy));
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let good = saved(&policy(POLICY));
        assert!(parse(&good).is_ok());
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "cut off at {length}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(parse(&bad).is_err(), "byte {at}");
        }
        assert!(parse(&[&good[..], b"\0"].concat()).is_err());
        assert!(parse(b"{\"version\":1}\n").is_err());
    }

    #[test]
    fn says_what_is_wrong() {
        let good = saved(&policy(POLICY));
        let mut older = good.clone();
        older[8] = 1;
        assert!(matches!(parse(&older), Err(Unusable::OtherVersion(1))));
        assert!(matches!(parse(&good[1..]), Err(Unusable::Foreign)));
        assert!(matches!(parse(&good[..good.len() - 1]), Err(Unusable::Truncated)));
        let mut other = good.clone();
        other[HEADER + 3] ^= 0x40;
        assert!(matches!(parse(&other), Err(Unusable::Damaged)));

        let mut unsound = policy(POLICY);
        unsound.tiers.clear();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        save(&state, FILE, &unsound, 7).expect("written");
        assert!(matches!(load(&state, FILE), Err(Unusable::Unsound)));
    }

    #[test]
    fn takes_few_bytes_a_member() {
        let mut text = POLICY.replace("[tiers]", "[tiers]\nbig = [") + "";
        let (head, tail) = text.split_at(text.find("big = [").expect("there") + 7);
        let mut members = String::new();
        for index in 0..10_000u32 {
            let address = std::net::Ipv4Addr::from_bits(index.wrapping_mul(2_654_435_761) | 1);
            write!(members, "\"{address}\",").expect("a string takes all");
        }
        text = format!("{head}{members}]{tail}");
        let (policy, bytes) = (policy(&text), saved(&policy(&text)));
        let members = policy.tiers["big"].v4.len();
        assert!(bytes.len() < 5 * members, "{} bytes for {members} members", bytes.len());
        assert_eq!(parse(&bytes).expect("readable"), (7, policy));
    }

    #[test]
    fn a_full_disk_is_told() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let beside = directory.path().join(format!(".{FILE}.new"));
        std::os::unix::fs::symlink("/dev/full", beside).expect("a link");
        let error = save(&state, FILE, &policy(POLICY), 7).expect_err("a full disk");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(fs::symlink_metadata(directory.path().join(FILE)).is_err());
    }
}
