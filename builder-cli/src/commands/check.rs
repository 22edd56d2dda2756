//! `builder check`: what is questionable in a Dockerfile, without a look at anything else.

use builder_core::dockerfile::diagnostic::{self, Diagnostic, line_column};
use builder_core::dockerfile::{self, lint};
use builder_core::{Build, Context};

use super::inputs::{STDIN, standard_input};
use crate::args::{CheckArgs, Format};
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: CheckArgs) -> Result<(), Failure> {
    let build = Build::new(Context::dir(args.context));
    let build = match args.file {
        Some(file) if file.as_os_str() == "-" => build.dockerfile_text(STDIN, standard_input()?),
        Some(file) => build.dockerfile(file),
        None => build,
    };
    let (name, text) = build.read_dockerfile()?;
    let (remarks, unreadable) = match dockerfile::parse(&text) {
        Ok(file) => {
            let wish = Wish::read(file.directives.check.as_ref().map_or("", |it| &it.raw));
            let mut remarks = lint::check(&file, &text);
            remarks.retain(|remark| remark.code.is_none_or(|rule| wish.asks_for(rule)));
            (remarks, false)
        }
        Err(error) => (vec![Diagnostic::from(&error)], true),
    };
    let out: String = match args.format {
        Format::Text => remarks
            .iter()
            .map(|it| diagnostic::render(it, &name, &text))
            .collect(),
        Format::Json => remarks.iter().map(|it| json(it, &name, &text)).collect(),
    };
    render::result(&out)?;
    match (unreadable, remarks.is_empty()) {
        (true, _) => Err(Failure::Unreadable),
        (false, false) => Err(Failure::Remarks),
        (false, true) => Ok(()),
    }
}

/// What the author says of the rules: `# check=skip=A,B;experimental=all`.
///
/// Rules have names in any case; `all` is every rule. `error=true` changes nothing here: remarks have a code of their own.
#[derive(Debug, Default)]
struct Wish {
    skip: Vec<String>,
    experimental: Vec<String>,
}

impl Wish {
    fn read(directive: &str) -> Self {
        let mut wish = Wish::default();
        for part in directive.split(';') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let rules = value.split(',').map(|rule| rule.trim().to_lowercase());
            match key.trim() {
                "skip" => wish.skip.extend(rules),
                "experimental" => wish.experimental.extend(rules),
                _ => {}
            }
        }
        wish
    }

    fn asks_for(&self, rule: &str) -> bool {
        let named = |list: &[String]| {
            list.iter()
                .any(|it| it == "all" || it.eq_ignore_ascii_case(rule))
        };
        !named(&self.skip) && (!lint::EXPERIMENTAL.contains(&rule) || named(&self.experimental))
    }
}

/// One line a remark.
fn json(remark: &Diagnostic, name: &str, text: &str) -> String {
    let (line, column) = line_column(text, remark.span.start);
    let value = serde_json::json!({
        "severity": format!("{:?}", remark.severity).to_lowercase(),
        "code": remark.code,
        "message": remark.message,
        "file": name,
        "line": line,
        "column": column,
        "hint": remark.hint,
    });
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::Wish;

    #[test]
    fn authors_skip_rules_and_ask_for_experimental_ones() {
        const EXPERIMENTAL: &str = "InvalidDefinitionDescription";
        for (directive, rule, expected) in [
            ("", "StageNameCasing", true),
            ("", EXPERIMENTAL, false),
            ("skip=all", "StageNameCasing", false),
            (
                "skip=FromAsCasing, stagenamecasing",
                "StageNameCasing",
                false,
            ),
            ("skip=FromAsCasing;error=true", "StageNameCasing", true),
            ("experimental=all", EXPERIMENTAL, true),
            (
                "error=true;experimental=InvalidDefinitionDescription",
                EXPERIMENTAL,
                true,
            ),
        ] {
            assert_eq!(
                Wish::read(directive).asks_for(rule),
                expected,
                "{directive} {rule}"
            );
        }
    }
}
