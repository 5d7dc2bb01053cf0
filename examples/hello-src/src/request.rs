//! Reads one HTTP/1 request head from bytes. Pure: the bytes come from `connection`, the answer is made in `response`.

/// Longest request line plus headers that is read: twice what browsers send with large cookies. More is answered 431.
pub(crate) const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The parts of a request that this service looks at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: Method,
    /// The path without the query.
    pub(crate) path: String,
    /// The query after `?`, empty if there is none.
    pub(crate) query: String,
    /// Whether the client wants to use the connection again.
    pub(crate) reuse: Reuse,
    /// Whether a body follows the head.
    pub(crate) body: Body,
}

/// The methods that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET.
    Get,
    /// HEAD: as GET without the body.
    Head,
    /// Anything else: 405.
    Other,
}

/// Whether a connection is used again after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// The next request may follow.
    Keep,
    /// The connection is closed.
    Close,
}

/// Whether a request has a body. Bodies are never read: the response says so by closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// The next byte belongs to the next request.
    None,
    /// The next bytes are a body.
    Present,
}

/// Why a head cannot be answered normally.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Longer than [`MAX_HEAD_BYTES`].
    TooLarge,
    /// Not HTTP/1.x.
    Malformed(&'static str),
}

/// Reads the head at the start of `bytes`. `Ok(None)` means that more bytes are needed; otherwise the request and how
/// many bytes its head takes.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() >= MAX_HEAD_BYTES { Err(Refusal::TooLarge) } else { Ok(None) };
    };
    if end + 4 > MAX_HEAD_BYTES {
        return Err(Refusal::TooLarge);
    }
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| Refusal::Malformed("the head is not text"))?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(protocol), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed("the request line is not 'METHOD TARGET HTTP/1.1'"));
    };
    let (mut reuse, host_needed) = match protocol {
        "HTTP/1.1" => (Reuse::Keep, true),
        "HTTP/1.0" => (Reuse::Close, false),
        _ => return Err(Refusal::Malformed("only HTTP/1.0 and HTTP/1.1 are spoken")),
    };
    if !target.starts_with('/') {
        return Err(Refusal::Malformed("the target does not start with '/'"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut body = Body::None;
    let mut hosts = 0;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refusal::Malformed("a header has no ':'"))?;
        // A space before the colon is how requests are smuggled past proxies (RFC 9112, 5.1).
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(Refusal::Malformed("a header's name is empty or has a space in it"));
        }
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "transfer-encoding" => body = Body::Present,
            "content-length" => match value.parse::<u64>() {
                Ok(0) => {}
                Ok(_) => body = Body::Present,
                Err(_) => return Err(Refusal::Malformed("Content-Length is not a number")),
            },
            "connection" => {
                for option in value.split(',').map(str::trim) {
                    if option.eq_ignore_ascii_case("close") {
                        reuse = Reuse::Close;
                    } else if option.eq_ignore_ascii_case("keep-alive") && !host_needed {
                        reuse = Reuse::Keep;
                    }
                }
            }
            _ => {}
        }
    }
    if hosts > 1 || (host_needed && hosts == 0) {
        return Err(Refusal::Malformed("HTTP/1.1 needs exactly one Host header"));
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => Method::Other,
    };
    let request = Request { method, path: path.to_owned(), query: query.to_owned(), reuse, body };
    Ok(Some((request, end + 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_in_pieces_is_waited_for() {
        let whole = b"GET /slow?ms=5 HTTP/1.1\r\nHost: x\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Ok(None), "at {length}");
        }
        let expected = Request {
            method: Method::Get,
            path: "/slow".to_owned(),
            query: "ms=5".to_owned(),
            reuse: Reuse::Keep,
            body: Body::None,
        };
        assert_eq!(read(whole), Ok(Some((expected, whole.len()))));
    }

    #[test]
    fn the_connection_header_decides_about_reuse() {
        let reuse = |head: &str| read(head.as_bytes()).map(|read| read.map(|(request, _)| request.reuse));
        assert_eq!(reuse("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"), Ok(Some(Reuse::Close)));
        assert_eq!(reuse("GET / HTTP/1.0\r\n\r\n"), Ok(Some(Reuse::Close)));
        assert_eq!(reuse("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), Ok(Some(Reuse::Keep)));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for head in [
            "GET /\r\n\r\n",
            "GET / HTTP/2\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            assert!(matches!(read(head.as_bytes()), Err(Refusal::Malformed(_))), "{head:?}");
        }
        assert_eq!(read(&[b'a'; MAX_HEAD_BYTES]), Err(Refusal::TooLarge));
    }
}
