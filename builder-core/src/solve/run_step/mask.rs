//! Secrets' values in a step's output, replaced before anybody sees them.
//!
//! What is masked: each value as it is and without the line end that files have, and each line of a longer one (a key
//! in PEM form is mostly printed so). Not masked: values of fewer than [`SHORTEST`] bytes, which would make any
//! output unreadable, and values that the step has changed, by an encoding for one.

/// What stands in for a value.
const STARS: &[u8] = b"***";
const SHORTEST: usize = 3;
/// Of a line of a longer value: `-----` or `}` are in every output.
const SHORTEST_LINE: usize = 8;

/// The values, longest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Mask {
    values: Vec<Vec<u8>>,
}

impl Mask {
    pub(super) fn of<'a>(secrets: impl IntoIterator<Item = &'a Vec<u8>>) -> Mask {
        let mut values: Vec<Vec<u8>> = Vec::new();
        let mut add = |value: &[u8], shortest: usize| {
            if value.len() >= shortest {
                values.push(value.to_vec());
            }
        };
        for secret in secrets {
            let bare = secret.trim_ascii();
            add(bare, SHORTEST);
            let lines: Vec<&[u8]> = bare.split(|byte| *byte == b'\n').collect();
            if lines.len() > 1 {
                for line in lines {
                    add(line.trim_ascii(), SHORTEST_LINE);
                }
            }
        }
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Mask { values }
    }
}

/// One stream: a value is found although it comes in pieces.
#[derive(Debug)]
pub(super) struct Masked {
    mask: Mask,
    starts: [bool; 256],
    /// The beginning of what may become a value.
    held: Vec<u8>,
}

impl Masked {
    pub(super) fn new(mask: Mask) -> Masked {
        let mut starts = [false; 256];
        for value in &mask.values {
            starts[usize::from(value[0])] = true;
        }
        Masked {
            mask,
            starts,
            held: Vec::new(),
        }
    }

    /// Takes bytes, and returns those that can be shown by now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.mask.values.is_empty() {
            return bytes.to_vec();
        }
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(bytes);
        let (out, rest) = self.replace(&text, true);
        self.held = text.split_off(rest);
        out
    }

    /// Returns what was held back: nothing more comes.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let text = std::mem::take(&mut self.held);
        self.replace(&text, false).0
    }

    /// Replaces from left to right, the longest value first; returns where it had to stop, if more may come.
    fn replace(&self, text: &[u8], more: bool) -> (Vec<u8>, usize) {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            if self.starts[usize::from(rest[0])] {
                let begun = |value: &&Vec<u8>| value.len() > rest.len() && value.starts_with(rest);
                if more && self.mask.values.iter().any(|value| begun(&value)) {
                    break;
                }
                let whole = self.mask.values.iter().find(|it| rest.starts_with(it));
                if let Some(value) = whole {
                    out.extend_from_slice(STARS);
                    at += value.len();
                    continue;
                }
            }
            out.push(rest[0]);
            at += 1;
        }
        (out, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_in_whatever_pieces_they_come() {
        for (secrets, text, expected) in [
            (&["hunter2\n"][..], "a hunter2 b hunter2", "a *** b ***"),
            (&["aab"], "aaab aaaaab", "a*** aaa***"),
            (&["abc", "abcdef"], "abcdef abcde abc", "*** ***de ***"),
            (&["ab"], "ab", "ab"),
            (&[""], "x", "x"),
            (
                &["-----BEGIN-----\nbGluZQ==one\nbGluZTI=two\n-----END-----\n"],
                "> bGluZTI=two <",
                "> *** <",
            ),
            (&["secret"], "secre", "secre"),
            (&["läng"], "in läng", "in ***"),
        ] {
            let secrets: Vec<Vec<u8>> = secrets.iter().map(|it| it.as_bytes().to_vec()).collect();
            for size in [1, 2, 3, 5, 100] {
                let mut masked = Masked::new(Mask::of(&secrets));
                let mut out = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    out.extend(masked.push(piece));
                }
                out.extend(masked.finish());
                assert_eq!(
                    String::from_utf8_lossy(&out),
                    expected,
                    "{text} in pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn only_what_may_become_a_value_is_held_back() {
        let mut masked = Masked::new(Mask::of(&[b"token".to_vec()]));
        assert_eq!(masked.push(b"password? "), b"password? ");
        assert_eq!(masked.push(b"at"), b"a");
        assert_eq!(masked.push(b"e\n"), b"te\n");
    }
}
