//! Being told of programs that begin, by the kernel's process events (`CONFIG_PROC_EVENTS`; the messages are those of
//! include/uapi/linux/cn_proc.h and connector.h), so that a program of an old release is looked at when it begins and not
//! in the next round. It takes root in the first network namespace; where it is refused, the rounds find everything, later.
//! Most programs that begin on a machine are the distribution's, and a node that looked at its processes for each of them
//! would never be idle: they are left to the rounds. What a program is, is not decided here: the next look sees it, and
//! everybody else who is new.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use fleet::evidence::lies_with_packages;
use nix::libc;
use rustix::io::Errno;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use super::interpreter;

/// `CN_IDX_PROC`, as index and as group, and `CN_VAL_PROC`.
const PROCESS_EVENTS: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_EVENT_EXEC`.
const EXEC: u32 = 2;
/// `nlmsghdr` and `cn_msg`, before the event, whose first word is its kind.
const HEADERS: usize = 16 + 20;
/// Behind them: kind, processor, time (64 bits), thread, process.
const PROCESS: usize = HEADERS + 20;
/// Larger than any event.
const LARGEST: usize = 128;

/// What began, by the least harmless of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Began {
    /// Nothing but programs of the distribution.
    Nothing,
    /// An interpreter, which may run anything.
    Interpreter,
    /// A program that no package brought; or nobody knows what, as the kernel has dropped events.
    Program,
}

/// The kernel's word that some process executes another program.
#[derive(Debug)]
pub(super) struct Programs {
    socket: OwnedFd,
}

impl Programs {
    /// # Errors
    /// The kernel has no such events, or does not tell this agent.
    pub(super) fn open() -> io::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            // Newer kernels let everyone listen and then tell next to nothing.
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(CONNECTOR))?;
        only_programs(&socket)?;
        bind(&socket, &SocketAddrNetlink::new(0, PROCESS_EVENTS))?;
        send(&socket, &subscription(), SendFlags::empty())?;
        Ok(Self { socket })
    }

    /// Readable when a program began.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes in everything that was told so far.
    pub(super) fn listen(&self) -> Began {
        let mut began = Began::Nothing;
        let mut event = [0; LARGEST];
        loop {
            match recv(&self.socket, &mut event[..], RecvFlags::empty()) {
                Ok((_, length)) => began = began.max(process_of(&event[..length]).map_or(Began::Nothing, what_began)),
                Err(Errno::NOBUFS) => began = Began::Program,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return began,
                Err(refused) => {
                    tracing::debug!("programs that begin are not told any more: {refused}");
                    return began;
                }
            }
        }
    }
}

fn process_of(event: &[u8]) -> Option<u32> {
    event.get(PROCESS..)?.first_chunk().map(|pid| u32::from_ne_bytes(*pid))
}

/// What a process that has just begun a program executes; one that has ended again is nothing any more.
fn what_began(pid: u32) -> Began {
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(path) if interpreter::is_interpreter(&path) => Began::Interpreter,
        Ok(path) if lies_with_packages(&path.to_string_lossy()) => Began::Nothing,
        Ok(_) => Began::Program,
        Err(_) => Began::Nothing,
    }
}

/// Has the kernel drop what is no beginning of a program before it wakes anybody: forks and ends are many more.
fn only_programs(socket: &OwnedFd) -> io::Result<()> {
    let step = |code: u32, if_so: u8, if_not: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: if_so,
        jf: if_not,
        k,
    };
    // A filter loads words as if they came from a network; the kernel writes events as the machine does.
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, HEADERS as u32),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, EXEC.to_be()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, and the filter it points to, before it returns; both live until then.
    #[allow(unsafe_code)]
    let refused = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    } != 0;
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `nlmsghdr`, `cn_msg` and the wish to be told.
fn subscription() -> Vec<u8> {
    const WISH: usize = size_of::<u32>();
    let mut message = Vec::with_capacity(HEADERS + WISH);
    let mut word = |value: u32| message.extend_from_slice(&value.to_ne_bytes());
    let halves = |first: u16, second: u16| {
        let (first, second) = (first.to_ne_bytes(), second.to_ne_bytes());
        u32::from_ne_bytes([first[0], first[1], second[0], second[1]])
    };
    word((HEADERS + WISH) as u32);
    word(halves(libc::NLMSG_DONE as u16, 0));
    // Sequence and sender, which the kernel fills in; index, value, sequence and acknowledgement of the connector.
    for value in [0, 0, PROCESS_EVENTS, PROCESS_EVENTS, 0, 0] {
        word(value);
    }
    word(halves(WISH as u16, 0));
    word(LISTEN);
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::process::Command;

    /// Waits until so much has begun; whatever else begins on this machine meanwhile is told too.
    fn until(programs: &Programs, wanted: Began) {
        while programs.listen() < wanted {
            let mut ready = [PollFd::new(programs.descriptor(), PollFlags::POLLIN)];
            assert!(poll(&mut ready, PollTimeout::from(60_000_u16)).unwrap() > 0, "{wanted:?} is never told");
        }
    }

    /// In a container, and where the kernel has none, there is nothing to be told.
    #[test]
    fn a_program_that_begins_is_told() {
        let first = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let Ok(programs) = Programs::open() else { return };
        if first.as_os_str() != "pid:[4026531836]" {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        // Written by another process: one that this one forks meanwhile must not hold it open for writing.
        assert!(Command::new("cp").arg("/bin/sleep").arg(&copy).status().unwrap().success());
        for (program, argument, wanted) in
            [("/bin/sh".as_ref(), "-s", Began::Interpreter), (copy.as_path(), "600", Began::Program)]
        {
            let mut child = Command::new(program).arg(argument).stdin(std::process::Stdio::piped()).spawn().unwrap();
            until(&programs, wanted);
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn only_what_lives_and_is_of_no_package_is_worth_a_look() {
        let own = std::env::current_exe().unwrap();
        let packaged = lies_with_packages(&own.to_string_lossy());
        assert_eq!(what_began(std::process::id()), if packaged { Began::Nothing } else { Began::Program });
        assert_eq!(what_began(u32::MAX), Began::Nothing);
        let mut event = [0; PROCESS + 4];
        event[PROCESS..].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!((process_of(&event), process_of(&event[..PROCESS + 3])), (Some(7), None));
    }

    #[test]
    fn the_wish_is_what_the_kernel_reads() {
        let wish = subscription();
        let word = |at: usize| u32::from_ne_bytes(wish[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_ne_bytes(wish[at..at + 2].try_into().unwrap());
        assert_eq!((wish.len(), word(0), half(4)), (40, 40, 3));
        assert_eq!((word(16), word(20), half(32), word(36)), (1, 1, 4, 1));
    }
}
