//! A line between an agent and its controller that can be closed for whoever comes anew, while those who are connected
//! stay: what a release that breaks a node's way out looks like.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A proxy on a port of this machine, for as long as this process lives.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    closed: Arc<AtomicBool>,
    turned_away: Arc<AtomicUsize>,
}

impl Proxy {
    /// Passes everything on to `127.0.0.1:to`.
    pub fn to(to: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (closed, turned_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_closed, count) = (closed.clone(), turned_away.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::SeqCst) {
                    count.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                // A controller that is away refuses: so does its line.
                let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, to))) else { continue };
                let (Ok(up), Ok(down)) = (client.try_clone(), server.try_clone()) else { continue };
                std::thread::spawn(move || pass(client, server));
                std::thread::spawn(move || pass(down, up));
            }
        });
        Proxy { port, closed, turned_away }
    }

    /// Nobody new is let through.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Everybody is let through again.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// How many were turned away.
    pub fn turned_away(&self) -> usize {
        self.turned_away.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    /// A story that fails must not leave its node cut off.
    fn drop(&mut self) {
        self.open();
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _cut = io::copy(&mut from, &mut to);
    let _gone = to.shutdown(Shutdown::Both);
    let _gone = from.shutdown(Shutdown::Both);
}
