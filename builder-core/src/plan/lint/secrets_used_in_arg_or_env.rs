//! SecretsUsedInArgOrEnv: what ARG and ENV hold stays in the image and its history.
//!
//! Bad: `ARG AWS_SECRET_ACCESS_KEY`. Good: `RUN --mount=type=secret,id=aws …`.

use crate::dockerfile::Span;
use crate::dockerfile::ast::Kind;
use crate::dockerfile::lint::{Finding, Rule, When};

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "SecretsUsedInArgOrEnv",
    summary: "Sensitive data should not be used in the ARG or ENV commands",
    when: When::Always,
};

const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const PUBLIC: &str = "public";

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    let steps = facts.stages.iter().flat_map(|stage| &stage.steps);
    for step in steps {
        let mut one = |instruction: &str, name: &str, span: Span| {
            if is_secret(name) {
                let message = format!(
                    "Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})"
                );
                let hint = "give it to the step that needs it: `RUN --mount=type=secret,id=NAME …`";
                out.push(RULE.at(message, span).hint(hint));
            }
        };
        match &step.instruction.kind {
            Kind::Arg(declarations) => {
                for arg in declarations {
                    one("ARG", &arg.name.raw, arg.name.span);
                }
            }
            Kind::Env(pairs) => {
                for pair in pairs {
                    one("ENV", &pair.key.raw, pair.key.span);
                }
            }
            _ => {}
        }
    }
}

/// Whether a part of the name, between `_`, says secret and none says public.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.split('_').any(|part| SECRET.contains(&part)) && !name.split('_').any(|it| it == PUBLIC)
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_of_secrets() {
        for (name, expected) in [
            ("API_KEY", true),
            ("GITHUB_TOKEN", true),
            ("secret_MESSAGE", true),
            ("AUTH", true),
            ("MONKEY", false),
            ("PUBLIC_KEY", false),
            ("KEY_PUBLIC_PATH", false),
            ("PASSWORDS", false),
        ] {
            assert_eq!(is_secret(name), expected, "{name}");
        }
    }
}
