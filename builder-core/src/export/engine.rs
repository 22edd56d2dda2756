//! Into an engine: `POST /images/load`, which Docker and Podman both take.
//!
//! Spoken by hand over a socket: one request, one answer, the connection closed.

use std::io::{BufRead, BufReader, Read, Write};

use super::{Destination, ExportError, Finished, docker_archive};
use crate::store::Blobs;

/// Far more than an engine says.
const MAX_ANSWER: u64 = 4 << 20;

/// Loads `image` into the engine that `stream` leads to and returns what it says.
///
/// # Errors
/// As [`docker_archive`]; what the engine refuses.
pub fn load_into<S: Read + Write>(
    image: &Finished,
    blobs: &Blobs,
    stream: &mut S,
) -> Result<String, ExportError> {
    let head = "POST /images/load?quiet=1 HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\
                Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream
        .write_all(head.as_bytes())
        .map_err(ExportError::Stream)?;
    let mut body = Chunked {
        out: &mut *stream,
        failed: false,
    };
    let sent = docker_archive(image, blobs, Destination::Writer(&mut body));
    let cut = body.failed;
    match sent {
        Ok(()) => {
            stream
                .write_all(b"0\r\n\r\n")
                .map_err(ExportError::Stream)?;
            stream.flush().map_err(ExportError::Stream)?;
        }
        // An engine that has said no may have stopped listening: its answer says why.
        Err(_) if cut => {}
        Err(error) => return Err(error),
    }
    let said = answer(BufReader::new(stream));
    match (sent, said) {
        (_, Err(error @ ExportError::Engine { .. })) => Err(error),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(said)) => Ok(said),
    }
}

fn answer(mut reader: impl BufRead) -> Result<String, ExportError> {
    let mut line = String::new();
    let read = (&mut reader).take(MAX_ANSWER).read_line(&mut line);
    read.map_err(ExportError::Stream)?;
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut chunked = false;
    loop {
        let mut header = String::new();
        let read = (&mut reader).take(MAX_ANSWER).read_line(&mut header);
        if read.map_err(ExportError::Stream)? == 0 || header.trim().is_empty() {
            break;
        }
        let header = header.to_ascii_lowercase();
        chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
    }
    let mut body = Vec::new();
    (&mut reader)
        .take(MAX_ANSWER)
        .read_to_end(&mut body)
        .map_err(ExportError::Stream)?;
    let body = if chunked { unchunked(&body) } else { body };
    let text = String::from_utf8_lossy(&body).into_owned();
    let (said, wrong) = messages(&text);
    match wrong {
        None if status == "200" => Ok(said),
        wrong => Err(ExportError::Engine {
            status,
            message: wrong.unwrap_or(said),
        }),
    }
}

/// Returns what the lines of an answer say, and the error among them.
fn messages(text: &str) -> (String, Option<String>) {
    let mut said = Vec::new();
    let mut wrong = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let word = |key: &str| value[key].as_str().map(|it| it.trim().to_owned());
        if let Some(error) = word("error").or_else(|| word("message")) {
            wrong = Some(error);
        }
        said.push(word("stream").unwrap_or_else(|| line.trim().to_owned()));
    }
    (said.join("; "), wrong)
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..at]).unwrap_or_default();
        let size = size.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            break;
        };
        let rest = &bytes[at + 2..];
        if size == 0 || rest.len() < size {
            out.extend_from_slice(&rest[..size.min(rest.len())]);
            break;
        }
        out.extend_from_slice(&rest[..size]);
        bytes = rest.get(size + 2..).unwrap_or_default();
    }
    out
}

struct Chunked<'a, W> {
    out: &'a mut W,
    failed: bool,
}

impl<W: Write> Write for Chunked<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let head = format!("{:x}\r\n", bytes.len());
        let written = self
            .out
            .write_all(head.as_bytes())
            .and_then(|()| self.out.write_all(bytes))
            .and_then(|()| self.out.write_all(b"\r\n"));
        self.failed |= written.is_err();
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             1a\r\n{\"stream\":\"Loaded: a:1\\n\"}\r\n0\r\n\r\n";
        for (text, expected) in [
            (chunked, Ok("Loaded: a:1")),
            (
                "HTTP/1.1 500 x\r\n\r\n{\"message\":\"no space\"}\n",
                Err("no space"),
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n{\"errorDetail\":{},\"error\":\"bad layer\"}\n",
                Err("bad layer"),
            ),
            ("", Err("")),
        ] {
            match (answer(text.as_bytes()), expected) {
                (Ok(said), Ok(expected)) => assert_eq!(said, expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected)),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }
}
