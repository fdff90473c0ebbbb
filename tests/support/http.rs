//! Just enough of HTTP to ask the scheduler how it is.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A response: its status code and its body as text.
pub struct Response {
    pub status: u16,
    pub body: String,
}

/// `GET path` of the server at `address`; errors are those of the connection, or a response that is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    request(address, "GET", path, &[], "")
}

/// Any request with extra headers and a body.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0 keeps the answer from being chunked and ends it with the connection.
    let mut head =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    parse(&String::from_utf8_lossy(&raw))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not HTTP"))
}

fn parse(raw: &str) -> Option<Response> {
    let (head, body) = raw.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn a_request_is_understood_and_its_answer_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let n = stream.read(&mut asked).unwrap();
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nnot yet\r\n\r\n").unwrap();
            String::from_utf8_lossy(&asked[..n]).into_owned()
        });
        let response = request(address, "PUT", "/x", &[("Content-Type", "text/plain")], "body").unwrap();
        assert_eq!((response.status, response.body.as_str()), (503, "not yet\r\n\r\n"));
        let asked = server.join().unwrap();
        assert!(asked.starts_with("PUT /x HTTP/1.0\r\n"), "{asked}");
        assert!(asked.ends_with("Content-Length: 4\r\nContent-Type: text/plain\r\n\r\nbody"), "{asked}");
        assert!(get(address, "/").is_err(), "nobody listens any more");
    }
}
