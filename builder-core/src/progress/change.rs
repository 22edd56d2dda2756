//! One difference between a step and what it was when it last ran.

use std::fmt;

/// A longer value is shown around the place where it differs.
const SHOWN_CHARS: usize = 60;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// `file`, `argument`, `variable`, `build arg`, `mount`, `limit`, `base` or `parent`.
    pub kind: String,
    /// The file's path, the variable, the argument.
    pub name: String,
    /// `new`, `gone` or `changed`.
    pub what: String,
    /// Which attributes of a file, with their values where people can read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.what.as_str() {
            "changed" => {}
            other => return write!(f, "{name} is {other}"),
        }
        write!(f, "{name} changed")?;
        if !self.attributes.is_empty() {
            return write!(f, " ({})", self.attributes.join(", "));
        }
        match (&self.old, &self.new) {
            // Only a digest is known of what a step before made: that it differs is all there is to say.
            _ if self.kind == "parent" => Ok(()),
            (Some(old), Some(new)) => {
                let (old, new) = excerpts(old, new);
                write!(f, " from `{old}` to `{new}`")
            }
            _ => Ok(()),
        }
    }
}

/// Cuts two values down to where they differ.
fn excerpts(old: &str, new: &str) -> (String, String) {
    let chars = |text: &str| text.chars().map(plain).collect::<Vec<char>>();
    let (old, new) = (chars(old), chars(new));
    if old.len().max(new.len()) <= SHOWN_CHARS {
        return (old.iter().collect(), new.iter().collect());
    }
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let start = head.saturating_sub(SHOWN_CHARS / 4);
    let cut = |text: &[char]| {
        let mut out = String::new();
        if start > 0 {
            out.push('…');
        }
        out.extend(text[start..].iter().take(SHOWN_CHARS));
        if text.len() > start + SHOWN_CHARS {
            out.push('…');
        }
        out
    };
    (cut(&old), cut(&new))
}

/// One line stays one line.
fn plain(c: char) -> char {
    match c {
        '\n' => '\u{23ce}',
        c if c.is_control() => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_one_line_where_they_differ() {
        let long = "x".repeat(100);
        for (old, new, expected) in [
            (
                "1".to_owned(),
                "2".to_owned(),
                ("1".to_owned(), "2".to_owned()),
            ),
            (
                "a\nb".to_owned(),
                "c".to_owned(),
                ("a\u{23ce}b".to_owned(), "c".to_owned()),
            ),
            (
                format!("{long} one {long}"),
                format!("{long} two"),
                (
                    format!("…{} one {}…", "x".repeat(14), "x".repeat(41)),
                    format!("…{} two", "x".repeat(14)),
                ),
            ),
        ] {
            assert_eq!(excerpts(&old, &new), expected);
        }
    }
}
