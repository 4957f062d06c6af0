//! A flood of one-way UDP packets: without an answer each of them is a new connection to
//! connection tracking, so each walks the whole ruleset.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use nix::unistd::Pid;
use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Packets handed to the kernel in one call.
const BURST: usize = 64;

/// Sends `packets` to `target` from the calling thread's namespace and returns nanoseconds a
/// packet. Receiving happens in the same call, on this CPU: that is what veth does.
pub(crate) fn nanoseconds_a_packet(target: SocketAddrV4, packets: usize) -> Result<f64> {
    stay_on_one_cpu()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let payload = [0u8; 18];
    let messages = vec![[IoSlice::new(&payload)]; BURST];
    let addresses = vec![Some(SockaddrIn::from(target)); BURST];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BURST, None);
    let begun = Instant::now();
    let mut sent = 0;
    while sent < packets {
        let flags = MsgFlags::empty();
        let burst = sendmmsg(socket.as_raw_fd(), &mut headers, &messages, &addresses, [], flags)?;
        sent += burst.count();
    }
    Ok(begun.elapsed().as_nanos() as f64 / sent as f64)
}

/// Keeps the calling thread where it is measured.
pub(crate) fn stay_on_one_cpu() -> Result<()> {
    let mut cpu = CpuSet::new();
    cpu.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &cpu).context("can't stay on one CPU")
}
