//! The listening TCP sockets of this network namespace that a connection to an address may arrive at, and whose they are.
//! Asked of the kernel by sock_diag(7), which looks at one port's listeners only; where it has none, read from the tables
//! of /proc/net, for which the kernel goes through its table of connections, milliseconds each time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::libc;
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// The inode of a socket, and the user it belongs to.
pub(super) type Sockets = BTreeMap<u64, u32>;

/// TCP_LISTEN of include/net/tcp_states.h; the tables print it in two digits.
const LISTENING: u8 = 10;

/// The listening sockets that a connection to `address` may arrive at: those bound to it or to every address.
///
/// # Errors
/// The kernel tells in neither way.
pub(super) fn listening(address: &SocketAddr) -> io::Result<Sockets> {
    asked(address).or_else(|refused| {
        tracing::debug!("the kernel is not asked who listens, its tables are read: {refused}");
        tabled(address)
    })
}

/// A listening socket.
struct Socket {
    local: SocketAddr,
    user: u32,
    inode: u64,
}

fn asked(address: &SocketAddr) -> io::Result<Sockets> {
    let mut sockets = Sockets::new();
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        send(&socket, &question(family, address.port()), SendFlags::empty())?;
        let mut answer = vec![0; 16 << 10];
        let mut more = true;
        while more {
            let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
            more = false;
            for message in messages(&answer[..length]) {
                match message? {
                    Message::Socket(socket) if takes(&socket.local, address) => {
                        sockets.insert(socket.inode, socket.user);
                        more = true;
                    }
                    Message::Socket(_) => more = true,
                    Message::Done => more = false,
                }
            }
        }
    }
    Ok(sockets)
}

/// `nlmsghdr` and `inet_diag_req_v2` of include/uapi/linux/inet_diag.h: all listening sockets of one port.
fn question(family: i32, port: u16) -> Vec<u8> {
    const LENGTH: u32 = 16 + 56;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    message.extend((1_u32 << LISTENING).to_ne_bytes());
    message.extend(port.to_be_bytes());
    message.resize(LENGTH as usize, 0);
    message
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// What the kernel answers with.
enum Message {
    Socket(Socket),
    Done,
}

/// The messages in one answer; one that says no, or that is not understood, is the last.
fn messages(mut answer: &[u8]) -> impl Iterator<Item = io::Result<Message>> {
    std::iter::from_fn(move || {
        if answer.is_empty() {
            return None;
        }
        let message = message(answer).unwrap_or_else(|| Err(io::Error::other("an answer of an unknown form")));
        let length = answer.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length) as usize);
        // Messages begin at multiples of four.
        let next = if message.is_ok() { length.next_multiple_of(4).min(answer.len()) } else { answer.len() };
        answer = &answer[next..];
        Some(message)
    })
}

/// The message that an answer begins with; None if it has another form.
fn message(answer: &[u8]) -> Option<io::Result<Message>> {
    let at = |at: usize| answer.get(at..).and_then(|rest| rest.first_chunk()).copied();
    let word = |place| Some(u32::from_ne_bytes(at(place)?));
    let length = usize::try_from(word(0)?).ok().filter(|length| *length >= 16 && *length <= answer.len())?;
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    if i32::from(kind) == libc::NLMSG_DONE {
        return Some(Ok(Message::Done));
    }
    if i32::from(kind) == libc::NLMSG_ERROR {
        return Some(Err(io::Error::from_raw_os_error(i32::from_ne_bytes(at(16)?).wrapping_neg())));
    }
    // `inet_diag_msg`: family, state, timer, retransmissions; ports and addresses; four counts; user and inode.
    const SOCKET: usize = 16 + 72;
    if kind != SOCK_DIAG_BY_FAMILY || length < SOCKET {
        return None;
    }
    let port = u16::from_be_bytes(*answer.get(20..)?.first_chunk()?);
    let ip: IpAddr = match i32::from(answer[16]) {
        libc::AF_INET => Ipv4Addr::from(*answer.get(24..)?.first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*answer.get(24..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    let (user, inode) = (word(16 + 64)?, word(16 + 68)?);
    Some(Ok(Message::Socket(Socket { local: SocketAddr::new(ip, port), user, inode: inode.into() })))
}

fn tabled(address: &SocketAddr) -> io::Result<Sockets> {
    let mut sockets = Sockets::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let file = match File::open(table) {
            Ok(file) => file,
            // A kernel without IPv6 has no such table.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && table.ends_with('6') => continue,
            Err(cause) => return Err(cause),
        };
        for line in BufReader::new(file).lines().skip(1) {
            let line = line?;
            let Some((state, socket)) = parse(&line) else { continue };
            if state != LISTENING {
                // Listening sockets come first, before what may be very many connections
                // (Documentation/networking/proc_net_tcp.rst).
                break;
            }
            if takes(&socket.local, address) {
                sockets.insert(socket.inode, socket.user);
            }
        }
    }
    Ok(sockets)
}

/// A line of the tables: state and socket.
fn parse(line: &str) -> Option<(u8, Socket)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    let local = SocketAddr::new(parse_address(address)?, u16::from_str_radix(port, 16).ok()?);
    Some((state, Socket { local, user: fields.get(7)?.parse().ok()?, inode: fields.get(9)?.parse().ok()? }))
}

/// Groups of four bytes as they lie in memory, each printed as one number of this machine.
fn parse_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..text.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

/// Whether a socket bound to `local` may take a connection to `address`. A socket on `::` that declines IPv4 is not
/// told apart: it counts, and a stranger's one beside the service is worth a look anyway.
fn takes(local: &SocketAddr, address: &SocketAddr) -> bool {
    let (bound, asked) = (local.ip().to_canonical(), address.ip().to_canonical());
    let every = match local.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && asked.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified() || (bound.is_unspecified() && asked.is_ipv4()),
    };
    local.port() == address.port() && (every || bound == asked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn asking_and_reading_the_tables_tell_the_same() {
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            // A machine without IPv6 has no such address.
            let Ok(socket) = TcpListener::bind(bound) else { continue };
            let port = socket.local_addr().unwrap().port();
            for ip in ["127.0.0.1", "::1"] {
                let address = SocketAddr::new(ip.parse().unwrap(), port);
                let tabled = tabled(&address).unwrap();
                // A kernel without sock_diag says so, and the tables serve.
                if let Ok(asked) = asked(&address) {
                    assert_eq!(asked, tabled, "{bound} {ip}");
                }
                let here = bound.contains("::") == ip.contains("::") || bound == "[::]:0";
                assert_eq!(tabled.len(), usize::from(here), "{bound} {ip}");
            }
        }
    }

    #[test]
    fn an_answer_that_is_cut_short_or_says_no_is_an_error() {
        let refused = [20_u32.to_ne_bytes(), 2_u32.to_ne_bytes(), [0; 4], [0; 4], (-2_i32).to_ne_bytes()].concat();
        let told: Vec<_> = messages(&refused).collect();
        assert!(matches!(told.as_slice(), [Err(cause)] if cause.kind() == io::ErrorKind::NotFound));
        for length in 1..refused.len() {
            assert!(messages(&refused[..length]).any(|message| message.is_err()), "{length}");
        }
        let endless = [[0; 4], [20, 0, 0, 0]].concat();
        assert_eq!(messages(&endless).count(), 1, "a length of nothing ends the answer");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_tables_are_read() {
        let line = "   0: 0100007F:46A1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0";
        let (state, socket) = parse(line).unwrap();
        assert_eq!(socket.local, "127.0.0.1:18081".parse().unwrap());
        assert_eq!((state, socket.user, socket.inode), (LISTENING, 1000, 4711));
        assert_eq!(parse_address("00000000000000000000000001000000").unwrap(), Ipv6Addr::LOCALHOST);
        assert_eq!(parse_address("0000000000000000FFFF00000100007F").unwrap().to_canonical(), Ipv4Addr::LOCALHOST);
        for broken in ["", "sl local_address", "0: 0100007F:46A1", "0: é00007F:46A1 0 0A 0 0 0 0 0 1"] {
            assert!(parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_socket_takes_what_is_meant_for_it_or_for_every_address() {
        for (local, asked, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.2:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:0.0.0.0]:80", "127.0.0.1:80", true),
            ("[::ffff:0.0.0.0]:80", "[::1]:80", false),
        ] {
            assert_eq!(takes(&local.parse().unwrap(), &asked.parse().unwrap()), expected, "{local} {asked}");
        }
    }
}
