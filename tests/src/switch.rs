//! A dead man's switch as its service keeps it: hears what it is told over HTTP, and remembers it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One thing that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `GET`, `POST`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// What came along.
    pub body: String,
}

/// A switch on a port of this machine.
#[derive(Debug)]
pub struct Switch {
    /// What to give `--ping`.
    pub url: String,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Switch {
    /// A switch that answers everything with this status, `200 OK` say. It listens as long as the process lives.
    pub fn answering(status: &'static str) -> Switch {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/ping/1234", listener.local_addr().unwrap());
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let heard = told.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = hear(stream, status) {
                    heard.lock().unwrap().push(request);
                }
            }
        });
        Switch { url, told }
    }

    /// What was told since the last call.
    pub fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

fn hear(mut stream: TcpStream, status: &str) -> Option<Told> {
    let (mut bytes, mut piece) = (Vec::new(), [0u8; 4096]);
    let request = loop {
        let read = stream.read(&mut piece).ok()?;
        bytes.extend_from_slice(&piece[..read]);
        if let Some(request) = whole(&String::from_utf8_lossy(&bytes)) {
            break request;
        }
        if read == 0 {
            return None;
        }
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    Some(request)
}

/// The request, once all of it is there.
fn whole(text: &str) -> Option<Told> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    if body.len() < lines.find_map(length).unwrap_or(0) {
        return None;
    }
    Some(Told { method: first.next()?.to_owned(), path: first.next()?.to_owned(), body: body.to_owned() })
}
