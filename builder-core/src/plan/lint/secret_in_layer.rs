//! SecretInLayer: what is copied in stays in a layer, even where a later step removes it.
//!
//! Bad: `COPY id_rsa /root/.ssh/`. Good: `RUN --mount=type=secret,id=ssh …`, or `--mount=type=ssh`.

use crate::dockerfile::ast::Kind;
use crate::dockerfile::lint::{Finding, Rule, When};

use super::facts::Facts;

pub(super) static RULE: Rule = Rule {
    name: "SecretInLayer",
    summary: "Keys and secrets should not be copied into an image",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    for step in facts.stages.iter().flat_map(|stage| &stage.steps) {
        let (Kind::Copy(_) | Kind::Add(_)) = &step.instruction.kind else {
            continue;
        };
        for (source, span) in &step.words {
            if !source.contains("://") && is_secret(source) {
                let message = format!("{source:?} looks like a secret, and stays in the image");
                let hint = "mount it where it is needed: `RUN --mount=type=secret,id=NAME …`, and build with \
                            `--secret id=NAME,src=FILE`";
                out.push(RULE.at(message, *span).hint(hint));
            }
        }
    }
}

/// Files that are secret by their very name.
const NAMES: [&str; 12] = [
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    ".env",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".git-credentials",
    ".htpasswd",
    ".dockercfg",
];
const PATHS: [&str; 4] = [
    ".aws/credentials",
    ".docker/config.json",
    ".kube/config",
    ".ssh",
];
/// What makes a `.pem` or `.env.…` harmless.
const HARMLESS: [&str; 10] = [
    "public", "cert", "ca.", "ca-", "chain", "bundle", "example", "sample", "template", "dist",
];

fn is_secret(path: &str) -> bool {
    let path = path.trim_end_matches('/').to_ascii_lowercase();
    let name = path.rsplit('/').next().unwrap_or(&path);
    let ends = |end: &str| path == end || path.ends_with(&format!("/{end}"));
    if NAMES.contains(&name) || PATHS.iter().any(|it| ends(it)) {
        return true;
    }
    let suspect = name.starts_with(".env.")
        || [".pem", ".key", ".p12", ".pfx"]
            .iter()
            .any(|end| name.ends_with(end));
    suspect && !HARMLESS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_of_secrets() {
        for (path, expected) in [
            ("id_rsa", true),
            ("keys/id_ed25519", true),
            ("id_rsa.pub", false),
            (".env", true),
            (".env.production", true),
            (".env.example", false),
            ("tls/server.key", true),
            ("ca.pem", false),
            ("cert.pem", false),
            ("privkey.pem", true),
            ("home/.aws/credentials", true),
            ("src/env.rs", false),
            ("keyboard.json", false),
        ] {
            assert_eq!(is_secret(path), expected, "{path}");
        }
    }
}
