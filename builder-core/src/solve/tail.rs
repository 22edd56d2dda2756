//! The last lines that a step wrote.

use std::collections::VecDeque;

const LINES: usize = 20;
const LINE_BYTES: usize = 4096;

/// Keeps the end of a stream of bytes, by lines.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Vec<u8>>,
    open: bool,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            if !self.open {
                self.lines.push_back(Vec::new());
                if self.lines.len() > LINES {
                    self.lines.pop_front();
                }
            }
            if let Some(line) = self.lines.back_mut() {
                let room = LINE_BYTES.saturating_sub(line.len());
                line.extend_from_slice(&text[..text.len().min(room)]);
            }
            self.open = !piece.ends_with(b"\n");
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.lines.iter();
        lines
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_end() {
        let mut tail = Tail::default();
        tail.push(b"a");
        tail.push(b"b\nc\n");
        assert_eq!(tail.lines(), ["ab", "c"]);
        for n in 0..100 {
            tail.push(format!("{n}\n").as_bytes());
        }
        assert_eq!(tail.lines().len(), LINES);
        assert_eq!(tail.lines().last().map(String::as_str), Some("99"));
    }
}
