//! One request and one answer over a socket to an engine; the connection is closed after it.

use std::io::{self, BufRead, BufReader, Read, Write};

use crate::export::ExportError;

/// Far more than an engine says.
const MAX_ANSWER: u64 = 16 << 20;

/// A connection to an engine.
pub trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// What an engine answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn is_good(&self) -> bool {
        self.status.starts_with('2')
    }
}

/// Asks; what comes is read to its end.
pub(super) fn ask(stream: &mut dyn Wire, method: &str, path: &str) -> Result<Answer, ExportError> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let sent = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.flush());
    sent.map_err(broken)?;
    answer(BufReader::new(stream))
}

/// Sends what `write` writes, in chunks.
///
/// An engine that has said no may have stopped listening: its answer says why, and comes before the error of writing.
pub(super) fn send(
    stream: &mut dyn Wire,
    path: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
) -> Result<Answer, ExportError> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\
         Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).map_err(broken)?;
    let mut body = Chunked {
        out: &mut *stream,
        failed: false,
    };
    let sent = write(&mut body);
    let cut = body.failed;
    match sent {
        Ok(()) => {
            let ended = stream.write_all(b"0\r\n\r\n").and_then(|()| stream.flush());
            ended.map_err(broken)?;
            answer(BufReader::new(stream))
        }
        Err(error) if cut => match answer(BufReader::new(stream)) {
            Ok(answer) if !answer.status.is_empty() => Ok(answer),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn answer(mut reader: impl BufRead) -> Result<Answer, ExportError> {
    let mut line = String::new();
    let read = (&mut reader).take(MAX_ANSWER).read_line(&mut line);
    read.map_err(broken)?;
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut chunked = false;
    loop {
        let mut header = String::new();
        let read = (&mut reader).take(MAX_ANSWER).read_line(&mut header);
        if read.map_err(broken)? == 0 || header.trim().is_empty() {
            break;
        }
        let header = header.to_ascii_lowercase();
        chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
    }
    let mut body = Vec::new();
    (&mut reader)
        .take(MAX_ANSWER)
        .read_to_end(&mut body)
        .map_err(broken)?;
    let body = if chunked { unchunked(&body) } else { body };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status, body })
}

/// A connection that has ended, or on which nothing came for as long as one waits.
fn broken(error: io::Error) -> ExportError {
    let error = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "it is silent")
        }
        _ => error,
    };
    ExportError::Connect(error)
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

struct Chunked<'a> {
    out: &'a mut dyn Wire,
    failed: bool,
}

impl Write for Chunked<'_> {
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
             5\r\nhello\r\n3;x=y\r\n, a\r\n0\r\n\r\n";
        for (text, status, body) in [
            (chunked, "200", "hello, a"),
            ("HTTP/1.1 204 No Content\r\n\r\n", "204", ""),
            ("HTTP/1.1 500 x\r\nA: b\r\n\r\n{}\n", "500", "{}\n"),
            ("", "", ""),
        ] {
            let answer = answer(text.as_bytes()).expect(text);
            assert_eq!(
                (answer.status.as_str(), answer.body.as_str()),
                (status, body),
                "{text}"
            );
        }
    }

    /// Takes what it is told, and answers as its wait ends.
    struct Silent;

    impl Read for Silent {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    impl Write for Silent {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn silence_is_told_as_such() {
        let asked = ask(&mut Silent, "GET", "/info").expect_err("silence");
        let sent = send(&mut Silent, "/images/load", |_| Ok(())).expect_err("silence");
        for error in [asked, sent] {
            assert_eq!(error.to_string(), "cannot use the engine: it is silent");
        }
    }
}
