//! A scripted HTTP/1.1 server on the loopback, for tests: one connection, one request, one answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Ends the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Says nothing for so long.
    pub delay: Duration,
    /// Does not say how long it is, as what does not end.
    pub endless: bool,
    /// Sends a byte at a time, and waits.
    pub drops: bool,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            delay: Duration::ZERO,
            endless: false,
            drops: false,
        }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn endless(mut self) -> Self {
        self.endless = true;
        self
    }

    pub(super) fn drops(mut self) -> Self {
        self.drops = true;
        self
    }

    pub(super) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

/// A running server; it ends with the runtime of the test.
#[derive(Debug)]
pub(super) struct Server {
    pub address: SocketAddr,
    pub log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts a server that answers with `script`, which also gets the number of earlier requests.
    pub(super) async fn start<F>(script: F) -> Server
    where
        F: Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (script, seen) = (Arc::new(script), log.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (script.clone(), seen.clone());
                tokio::spawn(async move {
                    // A client that goes away is no matter.
                    let _ = serve(stream, script.as_ref(), &seen).await;
                });
            }
        });
        Server { address, log }
    }

    /// Lists what was asked: `GET /v2/`.
    pub(super) fn asked(&self) -> Vec<String> {
        let log = self.log.lock().expect("log");
        log.iter()
            .map(|it| format!("{} {}", it.method, it.path))
            .collect()
    }
}

async fn serve<F>(mut stream: TcpStream, script: &F, log: &Mutex<Vec<Asked>>) -> std::io::Result<()>
where
    F: Fn(&Asked, usize) -> Answer,
{
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        // A handshake of TLS: answered as web servers do that speak none.
        if bytes.first() == Some(&0x16) {
            let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nTLS to an HTTP server";
            return stream.write_all(answer).await;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or("").split(' ');
    let mut asked = Asked {
        method: first.next().unwrap_or("").to_owned(),
        path: first.next().unwrap_or("").to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: String::new(),
    };
    let length = asked
        .header("content-length")
        .and_then(|it| it.parse().ok());
    let end = head + 4 + length.unwrap_or(0);
    while bytes.len() < end {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    asked.body = String::from_utf8_lossy(&bytes[head + 4..end]).into_owned();
    let answer = {
        let mut log = log.lock().expect("log");
        let answer = script(&asked, log.len());
        log.push(asked);
        answer
    };
    tokio::time::sleep(answer.delay).await;
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    if !answer.endless {
        head += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    let body = &answer.body[..answer.cut.unwrap_or(answer.body.len())];
    if answer.drops {
        for byte in body {
            stream.write_all(&[*byte]).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    stream.write_all(body).await?;
    stream.shutdown().await
}
