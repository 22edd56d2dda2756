//! The JSON form of an instruction's arguments.
//!
//! BuildKit's rule: text that is not a well-formed JSON array is shell text; a well-formed array of anything but
//! strings is a mistake. So the whole text is checked, and where each string stands is kept.

use std::ops::Range;

/// What the text is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The strings, unescaped, and where each stands (with its quotes).
    Strings(Vec<(String, Range<usize>)>),
    /// Well-formed; the first element that is no string.
    NotStrings(Range<usize>),
    NotJson,
}

/// Reads `text`, which may have blanks around the array.
pub(super) fn read(text: &str) -> Form {
    let start = text.len() - text.trim_start().len();
    let mut cursor = Cursor { text, at: start };
    let mut strings = Vec::new();
    let mut wrong = None;
    match cursor.array(&mut strings, &mut wrong) {
        Some(()) => wrong.map_or(Form::Strings(strings), Form::NotStrings),
        None => Form::NotJson,
    }
}

/// How deep arrays and objects may nest (as in Go's decoder).
const MAX_DEPTH: usize = 10_000;

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The whole text: one array and nothing after it.
    fn array(
        &mut self,
        strings: &mut Vec<(String, Range<usize>)>,
        wrong: &mut Option<Range<usize>>,
    ) -> Option<()> {
        self.eat(b'[')?;
        self.blanks();
        if self.eat(b']').is_none() {
            loop {
                self.blanks();
                let start = self.at;
                if self.peek()? == b'"' {
                    let string = self.string()?;
                    strings.push((string, start..self.at));
                } else {
                    self.value()?;
                    wrong.get_or_insert(start..self.at);
                }
                self.blanks();
                if self.eat(b',').is_none() {
                    self.eat(b']')?;
                    break;
                }
            }
        }
        self.blanks();
        (self.at == self.text.len()).then_some(())
    }

    /// Any value, only checked; a stack of open brackets instead of recursion.
    fn value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.blanks();
            match self.peek()? {
                bracket @ (b'[' | b'{') => {
                    self.at += 1;
                    self.blanks();
                    let close = if bracket == b'[' { b']' } else { b'}' };
                    if self.eat(close).is_none() {
                        if open.len() == MAX_DEPTH {
                            return None;
                        }
                        open.push(close);
                        self.key(close)?;
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                b'-' | b'0'..=b'9' => self.number()?,
                _ => self.word()?,
            }
            loop {
                let Some(&close) = open.last() else {
                    return Some(());
                };
                self.blanks();
                if self.eat(b',').is_some() {
                    self.blanks();
                    self.key(close)?;
                    break;
                }
                self.eat(close)?;
                open.pop();
            }
        }
    }

    /// `"name":` inside an object, nothing inside an array.
    fn key(&mut self, close: u8) -> Option<()> {
        if close == b'}' {
            self.string()?;
            self.blanks();
            self.eat(b':')?;
        }
        Some(())
    }

    fn word(&mut self) -> Option<()> {
        let word = ["true", "false", "null"]
            .into_iter()
            .find(|word| self.text[self.at..].starts_with(word))?;
        self.at += word.len();
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.eat(b'-');
        if self.eat(b'0').is_none() {
            self.digits()?;
        }
        if self.eat(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let _ = self.eat(b'+').or_else(|| self.eat(b'-'));
            self.digits()?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.eat(b'"')?;
        let mut out = String::new();
        loop {
            let next = self.text[self.at..].chars().next()?;
            self.at += next.len_utf8();
            match next {
                '"' => return Some(out),
                '\\' => out.push(self.escape()?),
                '\0'..='\x1f' => return None,
                _ => out.push(next),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(match next {
            b'"' | b'\\' | b'/' => char::from(next),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
                    let back = self.at;
                    self.at += 2;
                    let second = self.hex()?;
                    if (0xdc00..0xe000).contains(&second) {
                        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        return char::from_u32(code);
                    }
                    self.at = back;
                }
                // A lone half of a pair stands for no character: Go reads it as the replacement character.
                char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_strings_are_read() {
        for (text, strings) in [
            ("[]", &[][..]),
            (" [ \"a\" , \"b c\" ] ", &["a", "b c"]),
            (r#"["\u00e9\ud83d\ude00\ud800x"]"#, &["é😀\u{fffd}x"]),
            (r#"["\n\t\/"]"#, &["\n\t/"]),
        ] {
            let Form::Strings(found) = read(text) else {
                panic!("{text}")
            };
            assert_eq!(
                found
                    .iter()
                    .map(|(string, _)| string.as_str())
                    .collect::<Vec<_>>(),
                strings,
                "{text}"
            );
        }
    }

    #[test]
    fn well_formed_arrays_of_other_things_are_told_apart_from_no_json() {
        for text in [
            "[1]",
            "[\"a\", {\"b\": [1e5, -0.1, null]}, \"c\"]",
            "[[]]",
            "[true]",
            "[{}]",
        ] {
            assert!(matches!(read(text), Form::NotStrings(_)), "{text}");
        }
        for text in [
            "",
            "x",
            "[",
            "[\"a\"",
            "['a']",
            "[\"a\",]",
            "[01]",
            "[\"a\"] x",
            "[\"\\x\"]",
            "[{1:2}]",
            "[\"\u{1}\"]",
        ] {
            assert_eq!(read(text), Form::NotJson, "{text}");
        }
        assert_eq!(read(&"[".repeat(100_000)), Form::NotJson);
    }
}
