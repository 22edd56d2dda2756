//! The canonical text of a Dockerfile: one line an instruction, upper-case words, comments dropped.
//!
//! Reading it again gives the same instructions, apart from places and original lines.

use std::fmt::{Display, Formatter, Result, Write};
use std::time::Duration;

use super::ast::{
    Command, Copy, Dockerfile, Healthcheck, Heredoc, Instruction, KeyValue, Kind, Run,
};
use super::{Text, lexer};

impl Display for Dockerfile {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let escape = self.directives.escape;
        if let Some(syntax) = &self.directives.syntax {
            writeln!(f, "# syntax={}", syntax.raw)?;
        }
        if escape != '\\' {
            writeln!(f, "# escape={escape}")?;
        }
        if let Some(check) = &self.directives.check {
            writeln!(f, "# check={}", check.raw)?;
        }
        for instruction in &self.global_args {
            f.write_str(&Printed::of(instruction).finish(escape))?;
        }
        for stage in &self.stages {
            let mut from = Printed::new("FROM");
            from.option("platform", stage.from.platform.as_ref());
            stage
                .from
                .after
                .iter()
                .for_each(|after| from.flag("after", &after.raw));
            from.rest(&match &stage.from.alias {
                Some(alias) => format!("{} AS {}", stage.from.image.raw, alias.raw),
                None => stage.from.image.raw.clone(),
            });
            f.write_str(&from.finish(escape))?;
            for instruction in &stage.instructions {
                f.write_str(&Printed::of(instruction).finish(escape))?;
            }
        }
        Ok(())
    }
}

/// A line, and the bodies below it.
struct Printed {
    line: String,
    bodies: String,
}

impl Printed {
    fn new(keyword: &str) -> Self {
        Self {
            line: keyword.to_owned(),
            bodies: String::new(),
        }
    }

    fn of(instruction: &Instruction) -> Self {
        match &instruction.kind {
            Kind::Add(copy) => Self::copy("ADD", copy),
            Kind::Copy(copy) => Self::copy("COPY", copy),
            Kind::Arg(declarations) => Self::with(
                "ARG",
                &join(declarations.iter().map(|one| match &one.default {
                    Some(default) => format!("{}={}", one.name.raw, default.raw),
                    None => one.name.raw.clone(),
                })),
            ),
            Kind::Cmd(command) => Self::with("CMD", &command_text(command)),
            Kind::Entrypoint(command) => Self::with("ENTRYPOINT", &command_text(command)),
            Kind::Env(pairs) => Self::with("ENV", &pairs_text(pairs)),
            Kind::Label(pairs) => Self::with("LABEL", &pairs_text(pairs)),
            Kind::Expose(ports) => {
                Self::with("EXPOSE", &join(ports.iter().map(|port| port.raw.clone())))
            }
            Kind::Healthcheck(check) => Self::healthcheck(check),
            Kind::Maintainer(text) => Self::with("MAINTAINER", &text.raw),
            Kind::Onbuild(onbuild) => {
                let inner = Self::of(&onbuild.inner);
                Self {
                    line: format!("ONBUILD {}", inner.line),
                    bodies: inner.bodies,
                }
            }
            Kind::Run(run) => Self::run(run),
            Kind::Shell(words) => Self::with("SHELL", &json(words.iter().map(String::as_str))),
            Kind::Stopsignal(text) => Self::with("STOPSIGNAL", &text.raw),
            Kind::User(text) => Self::with("USER", &text.raw),
            Kind::Volume(paths) => {
                Self::with("VOLUME", &json(paths.iter().map(|path| path.raw.as_str())))
            }
            Kind::Workdir(text) => Self::with("WORKDIR", &text.raw),
        }
    }

    fn with(keyword: &str, rest: &str) -> Self {
        let mut printed = Self::new(keyword);
        printed.rest(rest);
        printed
    }

    fn copy(keyword: &str, copy: &Copy) -> Self {
        let mut printed = Self::new(keyword);
        printed.option("from", copy.from.as_ref());
        printed.option("chown", copy.chown.as_ref());
        printed.option("chmod", copy.chmod.as_ref());
        printed.option("checksum", copy.checksum.as_ref());
        for (name, set) in [("link", copy.link), ("parents", copy.parents)] {
            if set {
                printed.line.push_str(&format!(" --{name}"));
            }
        }
        for (name, set) in [("keep-git-dir", copy.keep_git_dir), ("unpack", copy.unpack)] {
            if let Some(set) = set {
                printed.flag(name, if set { "true" } else { "false" });
            }
        }
        copy.exclude
            .iter()
            .for_each(|exclude| printed.flag("exclude", &exclude.raw));
        let words = || {
            copy.sources
                .iter()
                .chain([&copy.dest])
                .map(|text| text.raw.as_str())
        };
        let plain = |word: &str| !word.is_empty() && !word.contains(char::is_whitespace);
        let bracket = copy
            .sources
            .first()
            .is_some_and(|first| first.raw.starts_with('['));
        if copy.heredocs.is_empty() && (bracket || !words().all(plain)) {
            printed.rest(&json(words()));
            return printed;
        }
        // The here-documents come first, where no open quote of a source hides them.
        let mut all = Vec::new();
        for heredoc in &copy.heredocs {
            all.push(mark(heredoc));
            printed.body(heredoc);
        }
        all.extend(copy.sources.iter().map(|text| text.raw.clone()));
        all.push(copy.dest.raw.clone());
        printed.rest(&join(all.into_iter()));
        printed
    }

    fn run(run: &Run) -> Self {
        let mut printed = Self::new("RUN");
        run.mounts
            .iter()
            .for_each(|mount| printed.flag("mount", &mount.raw));
        printed.option("network", run.network.as_ref());
        printed.option("security", run.security.as_ref());
        run.devices
            .iter()
            .for_each(|device| printed.flag("device", &device.raw));
        printed.rest(&command_text(&run.command));
        run.heredocs
            .iter()
            .for_each(|heredoc| printed.body(heredoc));
        printed
    }

    fn healthcheck(check: &Healthcheck) -> Self {
        let Healthcheck::Check {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } = check
        else {
            return Self::with("HEALTHCHECK", "NONE");
        };
        let mut printed = Self::new("HEALTHCHECK");
        for (name, time) in [
            ("interval", interval),
            ("timeout", timeout),
            ("start-period", start_period),
            ("start-interval", start_interval),
        ] {
            if let Some(time) = time {
                printed.flag(name, &duration_text(*time));
            }
        }
        if let Some(retries) = retries {
            printed.flag("retries", &retries.to_string());
        }
        printed.rest(&format!("CMD {}", command_text(command)));
        printed
    }

    fn option(&mut self, name: &str, value: Option<&Text>) {
        if let Some(value) = value {
            self.flag(name, &value.raw);
        }
    }

    fn flag(&mut self, name: &str, value: &str) {
        self.line.push_str(&format!(" --{name}="));
        for c in value.chars() {
            if matches!(c, '\\' | '"' | '\'') || c.is_whitespace() {
                self.line.push('\\');
            }
            self.line.push(c);
        }
    }

    fn rest(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.line
            .push_str(if text.starts_with("--") { " -- " } else { " " });
        self.line.push_str(text);
    }

    fn body(&mut self, heredoc: &Heredoc) {
        let _ = writeln!(self.bodies, "{}{}", heredoc.content, heredoc.name);
    }

    fn finish(mut self, escape: char) -> String {
        if lexer::continues(&self.line, escape) {
            // A blank that is no part of the mark, and of nothing else either.
            self.line.push('\u{b}');
        }
        self.line.push('\n');
        self.line + &self.bodies
    }
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn json<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words
        .map(|word| serde_json::Value::from(word).to_string())
        .collect();
    format!("[{}]", words.join(", "))
}

fn command_text(command: &Command) -> String {
    match command {
        Command::Exec(words) => json(words.iter().map(String::as_str)),
        Command::Shell { line, .. } => line.clone(),
    }
}

fn pairs_text(pairs: &[KeyValue]) -> String {
    join(pairs.iter().map(|pair| {
        let between = match pair.legacy {
            false => "=",
            // The second blank is the one that no escape character takes into the name.
            true if pair.key.raw.ends_with(['\\', '`']) => "  ",
            true => " ",
        };
        format!("{}{between}{}", pair.key.raw, pair.value.raw)
    }))
}

/// In the largest unit that needs no fraction.
fn duration_text(time: Duration) -> String {
    let nanos = time.as_nanos();
    let (scale, unit) = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
    ]
    .into_iter()
    .find(|(scale, _)| nanos > 0 && nanos.is_multiple_of(*scale))
    .unwrap_or((1, "ns"));
    format!("{}{unit}", nanos / scale)
}

/// `<<NAME`, quoted as it must be.
fn mark(heredoc: &Heredoc) -> String {
    let mut out = if heredoc.fd == 0 {
        String::new()
    } else {
        heredoc.fd.to_string()
    };
    out.push_str(if heredoc.chomp { "<<-" } else { "<<" });
    let quote = if heredoc.expand { "" } else { "\"" };
    out.push_str(quote);
    for c in heredoc.name.chars() {
        let special = match heredoc.expand {
            true => !c.is_alphanumeric() && !matches!(c, '.' | '_'),
            false => matches!(c, '"' | '$' | '\\'),
        };
        out.extend(special.then_some('\\'));
        out.push(c);
    }
    out + quote
}
