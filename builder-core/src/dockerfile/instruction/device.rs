//! The value of `RUN --device=`: `name=…`, `required[=bool]`, or a name alone, as BuildKit reads them.

use super::super::error::nearest;
use super::super::{ParseError, ParseErrorKind, Text};
use super::mount::fields;

/// One device of a RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `vendor.com/class=name`, `vendor.com/class`, or a class of its own; empty where none is given.
    pub name: String,
    /// The step fails without it.
    pub required: bool,
}

const KEYS: &[&str] = &["name", "required"];

/// # Errors
/// The first mistake, at the flag's value.
pub fn parse_device(word: &Text) -> Result<Device, ParseError> {
    device(&word.raw).map_err(|kind| ParseError::new(kind, word.span))
}

fn device(text: &str) -> Result<Device, ParseErrorKind> {
    let wrong = |reason: String| ParseErrorKind::Device {
        text: text.to_owned(),
        reason,
    };
    let fields = fields(text).ok_or_else(|| wrong("it cannot be split into fields".to_owned()))?;
    let mut out = Device {
        name: String::new(),
        required: false,
    };
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => out.required = true,
            ("required", Some(value)) => {
                out.required = match value {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                    _ => {
                        return Err(wrong(format!(
                            "required takes true or false, not `{value}`"
                        )));
                    }
                };
            }
            ("name", Some(_)) if !out.name.is_empty() => {
                return Err(wrong(format!("its name is already `{}`", out.name)));
            }
            ("name", Some(value)) => value.clone_into(&mut out.name),
            // A name may hold `=` itself.
            _ if out.name.is_empty() => field.clone_into(&mut out.name),
            (_, None) => return Err(wrong(format!("field `{field}` needs a value"))),
            (key, Some(_)) => {
                let near = nearest(key, KEYS);
                let near = near.map_or_else(String::new, |it| format!(", did you mean `{it}`?"));
                return Err(wrong(format!("unknown field `{key}`{near}")));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        for (text, expected) in [
            ("vendor.com/gpu=all", Some(("vendor.com/gpu=all", false))),
            ("vendor.com/gpu", Some(("vendor.com/gpu", false))),
            (
                "name=vendor.com/gpu=0,required",
                Some(("vendor.com/gpu=0", true)),
            ),
            (
                "required,vendor.com/gpu=0",
                Some(("vendor.com/gpu=0", true)),
            ),
            ("NAME=a,Required=false", Some(("a", false))),
            ("a,required=yes", None),
            ("a,b", None),
            ("a,name=b", None),
            ("a,nam=b", None),
            ("\"a", None),
            ("required", Some(("", true))),
        ] {
            let device = device(text).ok();
            let found = device.as_ref().map(|it| (it.name.as_str(), it.required));
            assert_eq!(found, expected, "{text}");
        }
    }
}
