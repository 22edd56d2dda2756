//! Stands in front of a registry: notes what it is asked, and answers in its place where a test wants trouble.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Pass,
    /// This status, and nothing else.
    Answer(u16),
    /// No answer at all.
    Silence,
    /// The answer ends after so many bytes of its body.
    Cut(usize),
}

type Decide = Box<dyn Fn(&str, &str) -> Act + Send>;

/// Ends with the test process.
pub(crate) struct Front {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    decide: Arc<Mutex<Decide>>,
}

impl Front {
    /// Starts one in front of the registry at `behind`, that passes everything on.
    pub(crate) fn start(behind: u16) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("address").port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let decide: Arc<Mutex<Decide>> = Arc::new(Mutex::new(Box::new(|_, _| Act::Pass)));
        let (list, rule) = (asked.clone(), decide.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (list, rule) = (list.clone(), rule.clone());
                // Whoever goes away ends the exchange; that is all there is to it.
                std::thread::spawn(move || {
                    let _ = serve(stream, behind, &list, &rule);
                });
            }
        });
        Front {
            port,
            asked,
            decide,
        }
    }

    pub(crate) fn name(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }

    /// Decides by method and path from now on.
    pub(crate) fn act(&self, decide: impl Fn(&str, &str) -> Act + Send + 'static) {
        *self.decide.lock().expect("rule") = Box::new(decide);
    }

    /// `GET /v2/…` and the like, since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("list"))
    }

    /// The digests of the blobs that were fetched since the last look, in order.
    pub(crate) fn fetched(&self) -> Vec<String> {
        let asked = self.asked();
        let blobs = asked.iter().filter_map(|line| {
            let path = line.strip_prefix("GET ")?;
            Some(path.split_once("/blobs/")?.1.to_owned())
        });
        let mut blobs: Vec<String> = blobs.collect();
        blobs.sort();
        blobs
    }
}

fn serve(
    client: TcpStream,
    behind: u16,
    list: &Mutex<Vec<String>>,
    rule: &Mutex<Decide>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if !lower.starts_with("connection:") {
            head.push(line);
        }
    }
    let mut words = head.first().map_or("", String::as_str).split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    list.lock().expect("list").push(format!("{method} {path}"));
    let act = (rule.lock().expect("rule"))(method, path);
    let mut client = client;
    match act {
        Act::Answer(status) => {
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
            return write!(
                client,
                "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Act::Silence => {
            std::thread::sleep(Duration::from_secs(600));
            return Ok(());
        }
        Act::Pass | Act::Cut(_) => {}
    }
    let mut registry = TcpStream::connect(("127.0.0.1", behind))?;
    let text = format!("{}Connection: close\r\n\r\n", head.concat());
    registry.write_all(text.as_bytes())?;
    std::io::copy(&mut reader.take(length), &mut registry)?;
    let mut answer = BufReader::new(registry);
    loop {
        let mut line = String::new();
        if answer.read_line(&mut line)? == 0 {
            return Ok(());
        }
        client.write_all(line.as_bytes())?;
        if line == "\r\n" {
            break;
        }
    }
    let most = match act {
        Act::Cut(bytes) => bytes as u64,
        _ => u64::MAX,
    };
    std::io::copy(&mut answer.take(most), &mut client)?;
    Ok(())
}
