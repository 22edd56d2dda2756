//! A web server of files: ETags or times alone, 304, and a list of what it was asked and what it answered.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::fixture;

/// Time of all files, as servers write it, and in seconds.
pub(crate) const LAST_MODIFIED: (&str, u64) = ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777);

/// Ends with the test process.
pub(crate) struct Web {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Serves the files below `root`.
    pub(crate) fn start(root: &Path) -> Web {
        Web::start_with(root, true)
    }

    /// Has no ETags: it says 304 to whoever asks by a time (of no file is there a newer one).
    pub(crate) fn without_etags(root: &Path) -> Web {
        Web::start_with(root, false)
    }

    fn start_with(root: &Path, etags: bool) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (root, list) = (root.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, list) = (root.clone(), list.clone());
                std::thread::spawn(move || serve(stream, &root, &list, etags));
            }
        });
        Web { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// `200 /path` and the like, since the last look.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("list"))
    }
}

fn serve(stream: TcpStream, root: &Path, list: &Mutex<Vec<String>>, etags: bool) {
    let mut reader = BufReader::new(stream.try_clone().expect("socket"));
    let mut out = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let (mut tag, mut since) = (None, false);
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 || header == "\r\n" {
                break;
            }
            since |= header
                .to_ascii_lowercase()
                .starts_with("if-modified-since:");
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("if-none-match")
            {
                tag = Some(value.trim().to_owned());
            }
        }
        let file = path
            .split('?')
            .next()
            .unwrap_or(&path)
            .trim_start_matches('/');
        let file = file
            .replace("%5B", "[")
            .replace("%5D", "]")
            .replace("%20", " ");
        let bytes = fs::read(root.join(file));
        let (status, body) = match &bytes {
            Ok(_) if !etags && since => (304, Vec::new()),
            Ok(bytes) if tag == Some(etag(bytes)) => (304, Vec::new()),
            Ok(bytes) => (200, bytes.clone()),
            Err(_) => (404, b"no such file".to_vec()),
        };
        list.lock().expect("list").push(format!("{status} {path}"));
        let tag = match bytes {
            Ok(bytes) if etags => format!("ETag: {}\r\n", etag(&bytes)),
            _ => String::new(),
        };
        let length = if status == 304 {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\n{tag}Last-Modified: {}\r\n{length}\r\n",
            LAST_MODIFIED.0
        );
        if out.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &fixture::sha256(bytes)[..16])
}
