//! An instruction's flags, checked: known, not given twice, with or without a value as they must be.

use super::super::error::nearest;
use super::super::{ParseError, ParseErrorKind, Span, Text};
use super::INSTRUCTIONS;

/// Flags that may be given more than once.
const LISTS: [&str; 4] = ["mount", "device", "exclude", "after"];
/// Flags that are true, false or bare.
const BOOLS: [&str; 4] = ["link", "parents", "keep-git-dir", "unpack"];

/// Checked flags in order: name, value, place of the value (of the whole flag for a bare one).
#[derive(Debug)]
pub(super) struct Flags(Vec<(&'static str, Text)>);

impl Flags {
    pub(super) fn read(
        instruction: &'static str,
        known: &'static [&'static str],
        flags: &[Text],
    ) -> Result<Self, ParseError> {
        let mut out: Vec<(&'static str, Text)> = Vec::new();
        for flag in flags {
            let bare = flag.raw.strip_prefix("--").unwrap_or(&flag.raw);
            let (name, value) = match bare.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (bare, None),
            };
            let error = |kind| Err(ParseError::new(kind, flag.span));
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                return error(ParseErrorKind::UnknownFlag {
                    instruction,
                    flag: name.to_owned(),
                    did_you_mean: nearest(name, known),
                    belongs_to: owners(name),
                    known,
                });
            };
            if !LISTS.contains(&name) && out.iter().any(|(seen, _)| *seen == name) {
                return error(ParseErrorKind::DuplicateFlag {
                    flag: name.to_owned(),
                });
            }
            let raw = match value {
                None if BOOLS.contains(&name) => "true".to_owned(),
                None => {
                    return error(ParseErrorKind::MissingFlagValue {
                        flag: name.to_owned(),
                    });
                }
                Some(value) if BOOLS.contains(&name) => match value.to_ascii_lowercase().as_str() {
                    "" => {
                        return error(ParseErrorKind::MissingFlagValue {
                            flag: name.to_owned(),
                        });
                    }
                    lower @ ("true" | "false") => lower.to_owned(),
                    _ => {
                        let (flag, value) = (name.to_owned(), value.to_owned());
                        return error(ParseErrorKind::NotBool { flag, value });
                    }
                },
                Some(value) => value.to_owned(),
            };
            out.push((
                name,
                Text {
                    raw,
                    span: value_span(flag, name, value),
                },
            ));
        }
        Ok(Self(out))
    }

    /// The value of a flag; none where it is absent or empty, as BuildKit takes an empty value.
    pub(super) fn text(&self, name: &str) -> Option<Text> {
        self.given(name)
            .filter(|text| !text.raw.is_empty())
            .cloned()
    }

    pub(super) fn list(&self, name: &str) -> Vec<Text> {
        self.0
            .iter()
            .filter(|(own, _)| *own == name)
            .map(|(_, text)| text.clone())
            .collect()
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.given(name).map(|text| text.raw == "true")
    }

    pub(super) fn given(&self, name: &str) -> Option<&Text> {
        self.0
            .iter()
            .find(|(own, _)| *own == name)
            .map(|(_, text)| text)
    }
}

/// Where the value stands: exact while no quote or escape was taken away, else the whole flag.
fn value_span(flag: &Text, name: &str, value: Option<&str>) -> Span {
    let Span { start, end } = flag.span;
    match value {
        Some(value)
            if end - start == flag.raw.len() && end - start == name.len() + 3 + value.len() =>
        {
            Span {
                start: start + name.len() + 3,
                end,
            }
        }
        _ => flag.span,
    }
}

fn owners(flag: &str) -> Vec<&'static str> {
    INSTRUCTIONS
        .iter()
        .filter(|(_, flags)| flags.contains(&flag))
        .map(|(name, _)| *name)
        .collect()
}
