//! CopyBeforeInstall: a COPY of everything makes the slow steps below it run again at each change.
//!
//! Bad: `COPY . .`, then `RUN npm ci`. Good: `COPY package.json package-lock.json ./`, then `RUN npm ci`, then `COPY . .`.

use crate::dockerfile::ast::Kind;
use crate::dockerfile::lint::{Finding, Rule, When};
use crate::dockerfile::without_userinfo;

use super::commands::{of, program, subcommand};
use super::facts::{Facts, StepFacts};

pub(super) static RULE: Rule = Rule {
    name: "CopyBeforeInstall",
    summary: "Dependencies should be installed before all of the context is copied",
    when: When::Always,
};

pub(super) fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    for stage in &facts.stages {
        let Some(at) = stage.steps.iter().position(copies_all) else {
            continue;
        };
        let slow: Vec<(&StepFacts<'_>, Install)> = stage.steps[at + 1..]
            .iter()
            .filter_map(|step| Some((step, install(step)?)))
            .collect();
        if slow.is_empty() {
            continue;
        }
        let copy = &stage.steps[at].instruction.head;
        let steps = match slow.len() {
            1 => "a slow step below runs".to_owned(),
            n => format!("{n} slow steps below run"),
        };
        let mut order = Vec::new();
        // What reads nothing of the context goes first.
        for reads in [false, true] {
            for (step, install) in slow.iter().filter(|(_, it)| it.files.is_some() == reads) {
                if let Some(files) = &install.files {
                    // A file from below a directory goes where the step looks for it.
                    let dir = files.rsplit_once('/').map_or(".", |(dir, _)| dir);
                    order.push(format!("`COPY {files} {dir}/`"));
                }
                order.push(format!("`{}`", short(&step.instruction.head.original)));
            }
        }
        order.push(format!("`{}`", short(&copy.original)));
        let message = format!("Everything is copied here, so {steps} again at each change");
        let hint = format!("better: {}", order.join(", then "));
        out.push(RULE.at(message, copy.span).hint(hint));
    }
}

/// The whole context, from outside.
fn copies_all(step: &StepFacts<'_>) -> bool {
    let (Kind::Copy(copy) | Kind::Add(copy)) = &step.instruction.kind else {
        return false;
    };
    let all = |path: &str| matches!(path, "." | "./" | "/" | "*" | "./*");
    copy.from.is_none() && step.words.iter().any(|(path, _)| all(path))
}

/// A step that fetches what does not change with the sources.
struct Install {
    /// The files that it reads, as COPY would name them; none for packages of the system.
    files: Option<String>,
}

/// Package managers of systems: program and subcommand.
const SYSTEM: [(&str, &str); 11] = [
    ("apt-get", "install"),
    ("apt", "install"),
    ("apk", "add"),
    ("dnf", "install"),
    ("microdnf", "install"),
    ("yum", "install"),
    ("zypper", "install"),
    ("pacman", "-S"),
    ("rustup", "install"),
    ("gem", "install"),
    ("cargo", "install"),
];
/// Package managers of languages: program, subcommand, files.
const LANGUAGE: [(&str, &str, &str); 12] = [
    ("npm", "ci", "package.json package-lock.json"),
    ("npm", "install", "package.json package-lock.json"),
    ("npm", "i", "package.json package-lock.json"),
    ("yarn", "install", "package.json yarn.lock"),
    ("pnpm", "install", "package.json pnpm-lock.yaml"),
    ("bundle", "install", "Gemfile Gemfile.lock"),
    ("composer", "install", "composer.json composer.lock"),
    ("poetry", "install", "pyproject.toml poetry.lock"),
    ("uv", "sync", "pyproject.toml uv.lock"),
    ("cargo", "fetch", "Cargo.toml Cargo.lock"),
    ("go", "mod", "go.mod go.sum"),
    ("dotnet", "restore", "*.csproj"),
];

fn install(step: &StepFacts<'_>) -> Option<Install> {
    let Kind::Run(run) = &step.instruction.kind else {
        return None;
    };
    of(run).iter().find_map(|words| command(words))
}

fn command(words: &[String]) -> Option<Install> {
    // `python3 -m pip` is pip.
    if let [python, flag, module, ..] = words
        && python.rsplit('/').next()?.starts_with("python")
        && flag == "-m"
        && module == "pip"
    {
        return command(&words[2..]);
    }
    let (program, (sub, rest)) = (program(words), subcommand(words)?);
    if matches!(program, "pip" | "pip3") && sub == "install" {
        let at = rest
            .iter()
            .position(|word| word == "-r" || word == "--requirement")?;
        let files = Some(rest.get(at + 1)?.clone());
        return Some(Install { files });
    }
    // Packages by path come from the context.
    let local = rest
        .iter()
        .any(|it| it.starts_with('.') || it.starts_with('/'));
    let pacman = program == "pacman" && words.iter().any(|it| it.starts_with("-S"));
    if (pacman || SYSTEM.contains(&(program, sub))) && !local {
        return Some(Install { files: None });
    }
    if program == "go" && rest.first().is_none_or(|it| it != "download") {
        return None;
    }
    let (_, _, files) = LANGUAGE.iter().find(|it| (it.0, it.1) == (program, sub))?;
    let files = Some((*files).to_owned());
    Some(Install { files })
}

fn short(line: &str) -> String {
    const MAX: usize = 100;
    let line = without_userinfo(line);
    let words: Vec<&str> = line.split_whitespace().collect();
    let line = words.join(" ");
    match line.chars().count() > MAX {
        true => line.chars().take(MAX - 1).chain(['…']).collect(),
        false => line,
    }
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn slow_commands() {
        for (line, expected) in [
            ("npm ci", Some(Some("package.json package-lock.json"))),
            ("npm run build", None),
            ("pip install -r req.txt", Some(Some("req.txt"))),
            ("python3 -m pip install -r req.txt", Some(Some("req.txt"))),
            ("pip install .", None),
            ("apt-get -y install curl", Some(None)),
            ("apt-get install ./a.deb", None),
            ("go mod download", Some(Some("go.mod go.sum"))),
            ("go mod tidy", None),
            ("make", None),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found = command(&words).map(|it| it.files);
            let expected = expected.map(|it| it.map(str::to_owned));
            assert_eq!(found, expected, "{line}");
        }
    }
}
