//! `builder build --call=METHOD[,format=text|json]`: a question about the Dockerfile in place of a build.

use builder_core::Build;

use super::check;
use crate::args::Format;
use crate::exit::Failure;
use crate::render::{self, call};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Check,
    Outline,
    Targets,
}

/// A method, and how the answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) format: Format,
}

impl Call {
    /// Reads the value of `--call`; `None` for a build.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Failure> {
        let wrong = |why: String| Failure::usage(format!("--call {text}: {why}"));
        let mut fields = text.split(',').map(str::trim);
        let method = match fields.next().unwrap_or_default() {
            "" | "build" => None,
            "check" | "lint" => Some(Method::Check),
            "outline" => Some(Method::Outline),
            "targets" => Some(Method::Targets),
            other => {
                return Err(wrong(format!(
                    "there is no method `{other}`: build, check, outline and targets are"
                )));
            }
        };
        let mut format = Format::Text;
        for field in fields {
            format = match field.split_once('=') {
                Some(("format", "text")) => Format::Text,
                Some(("format", "json")) => Format::Json,
                Some(("format", other)) => {
                    return Err(wrong(format!("format=`{other}`: text or json is expected")));
                }
                _ => return Err(wrong(format!("`{field}`: format=text|json is expected"))),
            };
        }
        Ok(method.map(|method| Call { method, format }))
    }
}

pub(super) fn run(call: Call, build: &Build) -> Result<(), Failure> {
    let text = match (call.method, call.format) {
        (Method::Check, format) => return check::with_bases(build, format),
        (Method::Targets, Format::Text) => call::targets_text(&build.targets()?),
        (Method::Targets, Format::Json) => call::targets_json(&build.targets()?),
        (Method::Outline, format) => {
            let outline = super::runtime()?.block_on(build.outline())?;
            match format {
                Format::Text => call::outline_text(&outline),
                Format::Json => call::outline_json(&outline),
            }
        }
    };
    render::result(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read() {
        let call = |method, format| Some(Call { method, format });
        for (text, expected) in [
            ("build", None),
            ("", None),
            ("check", call(Method::Check, Format::Text)),
            ("outline,format=json", call(Method::Outline, Format::Json)),
            ("targets, format=text", call(Method::Targets, Format::Text)),
        ] {
            assert_eq!(Call::parse(text).ok(), Some(expected), "{text}");
        }
        for (text, why) in [
            ("outlin", "there is no method `outlin`"),
            ("outline,format=xml", "format=`xml`"),
            ("outline,json", "`json`"),
        ] {
            match Call::parse(text) {
                Err(Failure::Usage(message)) => assert!(message.contains(why), "{message}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
