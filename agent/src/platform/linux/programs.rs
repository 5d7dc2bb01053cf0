//! Being told of programs that begin, by the kernel's process events (`CONFIG_PROC_EVENTS`; the messages are those of
//! include/uapi/linux/cn_proc.h and connector.h), so that a program of an old release is looked at when it begins and not
//! in the next round. It takes root in the first network namespace; where it is refused, the rounds find everything, later.
//! Which program began is not told from here: the next look sees it, and everybody else who is new.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use rustix::io::Errno;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use super::watch::Told;

/// `CN_IDX_PROC`, as index and as group, and `CN_VAL_PROC`.
const PROCESS_EVENTS: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_EVENT_EXEC`.
const EXEC: u32 = 2;
/// `nlmsghdr` and `cn_msg`, before the event, whose first word is its kind.
const HEADERS: usize = 16 + 20;
/// Larger than any event. Nothing but its arrival is read.
const LARGEST: usize = 128;

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
    pub(super) fn listen(&self) -> Told {
        let mut told = Told::Nothing;
        let mut event = [0; LARGEST];
        loop {
            match recv(&self.socket, &mut event[..], RecvFlags::empty()) {
                // More than the kernel keeps: that something began is all that matters.
                Ok(_) | Err(Errno::NOBUFS) => told = Told::Something,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return told,
                Err(refused) => {
                    tracing::debug!("programs that begin are not told any more: {refused}");
                    return told;
                }
            }
        }
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

    fn is_told(programs: &Programs, within_ms: u16) -> bool {
        let mut ready = [PollFd::new(programs.descriptor(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(within_ms)).unwrap() > 0
    }

    /// In a container, and where the kernel has none, there is nothing to be told.
    #[test]
    fn a_program_that_begins_is_told_and_what_only_forks_or_ends_is_not() {
        let Ok(programs) = Programs::open() else { return };
        // Threads of this very test fork and end all the time; other tests start programs too.
        Command::new("/bin/true").status().unwrap();
        assert!(is_told(&programs, 10_000));
        assert_eq!(programs.listen(), Told::Something);
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
