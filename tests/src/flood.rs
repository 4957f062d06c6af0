//! A flood: UDP packets from as many addresses as it likes to claim, as fast as one processor sends
//! them. Nobody answers, so each is a new connection to whoever filters it.

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Packets handed to the kernel in one call.
const BURST: usize = 64;

/// An IPv4 and a UDP header.
const LENGTH: usize = 28;

/// The first address that is claimed, of a network that nobody here has.
const FIRST: u32 = 0x0b00_0000;

/// Who floods whom.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// Where it goes.
    pub to: SocketAddrV4,
    /// From how many addresses, one after the other; at least one.
    pub sources: u32,
    /// From how many ports of each; at least one.
    pub ports: u16,
    /// How many a second; none for as many as the sender can.
    pub per_second: Option<u32>,
}

impl Flood {
    /// Sends so many packets from the calling thread's namespace. How long that took; where the two
    /// are joined by veth, with all that the receiver's kernel did to them.
    ///
    /// # Errors
    /// Without the right to claim addresses, and when the kernel takes no packet.
    pub fn send(&self, packets: usize) -> Result<Duration> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))
            .context("can't claim addresses")?;
        socket.set_header_included_v4(true)?;
        let addresses = vec![Some(SockaddrIn::from(self.to)); BURST];
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BURST, None);
        let mut burst = vec![[0; LENGTH]; BURST];
        let (start, mut sent) = (Instant::now(), 0);
        while sent < packets {
            let size = BURST.min(packets - sent);
            for (packet, number) in burst[..size].iter_mut().zip(sent..) {
                *packet = self.packet(number);
            }
            let messages: Vec<[IoSlice<'_>; 1]> =
                burst[..size].iter().map(|packet| [IoSlice::new(packet)]).collect();
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
            let taken = sendmmsg(fd, &mut headers, &messages, &addresses[..size], [], flags)?;
            sent += taken.count();
            if let Some(per_second) = self.per_second {
                // A sleep lasts longer than a burst takes.
                let due = Duration::from_secs_f64(sent as f64 / f64::from(per_second));
                while start.elapsed() < due {
                    std::hint::spin_loop();
                }
            }
        }
        Ok(start.elapsed())
    }

    /// The packet of that number.
    fn packet(&self, number: usize) -> [u8; LENGTH] {
        let (turn, source) = (number / self.sources as usize, number % self.sources as usize);
        let source = Ipv4Addr::from_bits(FIRST + source as u32).octets();
        let from = 20_000 + (turn % usize::from(self.ports)) as u16;
        let mut packet = [0; LENGTH];
        // Version, length of the header; TTL, UDP. The kernel fills in the length of the packet and
        // the checksum of the header; of UDP 0 is none.
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&source);
        packet[16..20].copy_from_slice(&self.to.ip().octets());
        packet[20..22].copy_from_slice(&from.to_be_bytes());
        packet[22..24].copy_from_slice(&self.to.port().to_be_bytes());
        packet[25] = 8;
        packet
    }
}
