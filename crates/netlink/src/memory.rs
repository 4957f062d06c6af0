//! Memory that goes back to the system.
//!
//! Reading a list of a million members, or committing it, takes tens of megabytes for a moment; the
//! daemon that did it then waits for days. glibc keeps what was freed, more of it the larger it
//! was, unless it is told otherwise. This is here because this is the crate that may call C.

/// A buffer of this size and more goes back to the system as soon as it is freed, in bytes. That
/// costs page faults when the next one is used, so small buffers stay.
#[cfg(target_env = "gnu")]
const LARGE: nix::libc::c_int = 1 << 20;

/// Has large buffers given back as soon as they are freed. To be called once, at the start.
pub fn give_back_large_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number, under malloc's own lock.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Gives back what was freed in small pieces. Takes a few milliseconds where there is much.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes away free pages only, under malloc's own lock.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
