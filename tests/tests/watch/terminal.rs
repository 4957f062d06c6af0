//! A terminal of its own for a program: what it shows is read as a person would see it.

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tierwall_tests::server::Server;

/// How long it may take until something is shown, or the program has ended.
const SHOWN: Duration = Duration::from_secs(20);

/// How often the reader looks whether the line is cut, in milliseconds.
const LOOK: u16 = 50;

/// What came from the program: as a screen, and as it is.
struct Output {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

/// A program in a terminal.
pub(crate) struct Terminal {
    child: Running,
    /// The terminal's end of it; none once it hung up.
    line: Option<File>,
    /// The program's end, which keeps its settings.
    settings: File,
    /// Whether the reader ends when there is no more.
    over: Arc<AtomicBool>,
    output: Arc<Mutex<Output>>,
    /// None once all was read.
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs `tierwall watch` on the server, in so many columns and rows.
    pub(crate) fn watch(server: &Server, size: [u16; 2], arguments: &[&str]) -> Self {
        Self::watch_with(server, size, arguments, &[])
    }

    /// The same with variables of the environment.
    pub(crate) fn watch_with(
        server: &Server,
        [columns, rows]: [u16; 2],
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (line, settings) = open(size);
        let tierwall = server.tierwall_command().unwrap();
        // A session of its own, whose terminal sends it signals.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(tierwall.get_program()).args(tierwall.get_args());
        command.arg("watch").args(arguments).env("TERM", "xterm-256color");
        command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command.envs(environment.iter().copied());
        let end = || Stdio::from(settings.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        let child = Running(server.spawn(&mut command).unwrap());
        let parser = vt100::Parser::new(some(rows), some(columns), 0);
        let output = Arc::new(Mutex::new(Output { parser, bytes: Vec::new() }));
        let over = Arc::new(AtomicBool::new(false));
        let (mut from, to, is_over) = (line.try_clone().unwrap(), output.clone(), over.clone());
        let reader = Some(thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                if poll(&mut ready, LOOK).unwrap() == 0 {
                    match is_over.load(Ordering::Relaxed) {
                        true => return,
                        false => continue,
                    }
                }
                let Ok(length @ 1..) = from.read(&mut bytes) else { return };
                let mut output = to.lock().unwrap();
                output.parser.process(&bytes[..length]);
                output.bytes.extend_from_slice(&bytes[..length]);
            }
        }));
        Self { child, line: Some(line), settings, over, output, reader }
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.output.lock().unwrap().parser.screen().contents()
    }

    /// Waits until the screen is as wanted.
    pub(crate) fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(start.elapsed() < SHOWN, "it doesn't show {what}:\n{screen}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until this is on the screen.
    pub(crate) fn says(&self, text: &str) -> String {
        self.shows(text, |screen| screen.contains(text))
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.line.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the terminal another size; the kernel tells the program.
    pub(crate) fn resize(&mut self, [columns, rows]: [u16; 2]) {
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        self.output.lock().unwrap().parser.screen_mut().set_size(some(rows), some(columns));
        tcsetwinsize(self.line.as_ref().unwrap(), size).unwrap();
    }

    /// Everything that was written so far.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.output.lock().unwrap().bytes.clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.0.id()).unwrap()), signal).unwrap();
    }

    /// Whether a line is handed over as a whole and shown as it is typed, as a shell has it.
    pub(crate) fn is_cooked(&self) -> bool {
        let flags = tcgetattr(&self.settings).unwrap().local_flags;
        flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// Waits for its end: its exit code, and whether the terminal was given back as it was.
    pub(crate) fn ends(mut self) -> (Option<i32>, bool) {
        let code = self.wait();
        self.read_out();
        let is_cooked = self.is_cooked();
        let output = self.output.lock().unwrap();
        let screen = output.parser.screen();
        (code, is_cooked && !screen.alternate_screen() && !screen.hide_cursor())
    }

    /// Everything that it wrote until its end.
    pub(crate) fn written_until_end(mut self) -> Vec<u8> {
        self.wait();
        self.read_out();
        std::mem::take(&mut self.output.lock().unwrap().bytes)
    }

    /// Cuts the line and waits for the end of the program, which reads and writes errors from then
    /// on.
    pub(crate) fn hang_up(mut self) {
        self.line = None;
        // The reader has the other copy of this end, and lets go of it.
        self.read_out();
        self.wait();
    }

    /// Waits until all was read that was written.
    fn read_out(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// Waits for the end of the program: its exit code.
    fn wait(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < SHOWN, "it doesn't end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A program that doesn't outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both ends of a terminal. No program that another test starts gets them: they would keep the line
/// open.
fn open(size: Winsize) -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let line = openpt(flags).unwrap();
    grantpt(&line).unwrap();
    unlockpt(&line).unwrap();
    let settings = ioctl_tiocgptpeer(&line, flags).unwrap();
    tcsetwinsize(&line, size).unwrap();
    (File::from(line), File::from(settings))
}

/// Of a terminal without rows nothing could be read.
fn some(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap()
}
