//! Instructions that change the image's config only.

use crate::dockerfile::Text;
use crate::dockerfile::ast::{ArgDecl, Command, Healthcheck, KeyValue, Kind};
use crate::image::{self, Empty};

use super::super::error::{PlanError, PlanErrorKind};
use super::super::ports;
use super::super::scope::{expand, expand_words};
use super::super::vertex::PlanWarning;
use super::{Lowering, Site, State};

/// Names that STOPSIGNAL knows, without `SIG`.
const SIGNALS: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV \
    STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ";

impl Lowering<'_, '_> {
    /// ARG of a stage.
    pub(super) fn arg(
        &mut self,
        state: &mut State,
        site: &Site<'_>,
        declarations: &[ArgDecl],
    ) -> Result<(), PlanError> {
        let mut words = Vec::new();
        for arg in declarations {
            let name = &arg.name.raw;
            let value = if let Some(given) = self.frame.options.build_args.get(name) {
                self.used_args.insert(name.clone());
                Some(given.clone())
            } else if let Some(default) = &arg.default {
                Some(expand(&self.frame.lexer, default, &state.env)?)
            } else {
                self.frame.global.value(name).map(str::to_owned)
            };
            let given = self.frame.options.build_args.contains_key(name);
            let inherits = !given && arg.default.is_none() && value.is_some();
            self.args
                .declared(site.instruction, arg, value.as_ref(), inherits);
            if let Some(value) = &value
                && !name.starts_with("BUILDKIT_SBOM_SCAN_")
            {
                state.env.set(name, value.clone());
                if state.env_places.contains_key(name) {
                    state.hidden.push(name.clone());
                }
            }
            words.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            match state.arg_places.get(name) {
                Some(&place) => state.build_args[place].1 = value,
                None => {
                    let place = state.build_args.len();
                    state.arg_places.insert(name.clone(), place);
                    state.build_args.push((name.clone(), value));
                }
            }
        }
        state.note(format!("ARG {}", words.join(" ")));
        Ok(())
    }

    pub(super) fn metadata(&mut self, state: &mut State, site: &Site<'_>) -> Result<(), PlanError> {
        let lexer = &self.frame.lexer;
        match &site.instruction.kind {
            Kind::Env(pairs) => {
                let mut line = "ENV".to_owned();
                for (name, value) in self.pairs(state, pairs)? {
                    line.push_str(&format!(" {name}={value}"));
                    let pair = format!("{name}={value}");
                    let env = &mut state.config.config.env;
                    match state.env_places.get(&name) {
                        Some(&place) => env[place] = pair,
                        None => {
                            state.env_places.insert(name.clone(), env.len());
                            env.push(pair);
                        }
                    }
                    state.env.set(&name, value);
                }
                state.note(line);
            }
            Kind::Label(pairs) => {
                let mut line = "LABEL".to_owned();
                for (name, value) in self.pairs(state, pairs)? {
                    line.push_str(&format!(" {name}={value}"));
                    state.config.config.labels.insert(name, value);
                }
                state.note(line);
            }
            Kind::Maintainer(name) => {
                state.config.author.clone_from(&name.raw);
                state.note(format!("MAINTAINER {}", name.raw));
            }
            Kind::User(word) => {
                let user = expand(lexer, word, &state.env)?;
                state.config.config.user.clone_from(&user);
                state.note(format!("USER {user}"));
            }
            Kind::Expose(words) => {
                let mut exposed = Vec::new();
                // The history has them sorted by how they are written.
                let mut words: Vec<&Text> = words.iter().collect();
                words.sort_by(|a, b| a.raw.cmp(&b.raw));
                for word in words {
                    for port in expand_words(lexer, word, &state.env)? {
                        let ports = ports::parse(&port).map_err(|reason| {
                            PlanError::new(PlanErrorKind::Port { port, reason }, word.span)
                                .hint("EXPOSE takes 80, 80/udp or 8000-8010/tcp")
                        })?;
                        exposed.extend(ports);
                    }
                }
                state.note(format!("EXPOSE [{}]", exposed.join(" ")));
                let ports = &mut state.config.config.exposed_ports;
                ports.extend(exposed.into_iter().map(|port| (port, Empty {})));
            }
            Kind::Volume(words) => {
                let mut paths = Vec::new();
                for word in words {
                    let path = expand(lexer, word, &state.env)?;
                    if path.is_empty() {
                        return Err(PlanError::new(PlanErrorKind::EmptyVolume, word.span));
                    }
                    paths.push(path);
                }
                state.note(format!("VOLUME [{}]", paths.join(" ")));
                let volumes = &mut state.config.config.volumes;
                volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
            }
            Kind::Stopsignal(word) => {
                let text = expand(lexer, word, &state.env)?;
                if !is_signal(&text) {
                    return Err(PlanError::new(PlanErrorKind::Signal { text }, word.span)
                        .hint("give a name such as SIGTERM or a number from 1 to 64"));
                }
                state.config.config.stop_signal = Some(text.clone());
                state.note(format!("STOPSIGNAL {text}"));
            }
            Kind::Shell(words) => {
                state.config.config.shell.clone_from(words);
                state.note(format!("SHELL [{}]", words.join(" ")));
            }
            Kind::Cmd(command) => {
                let args = self.command(state, site, command);
                state.note(format!("CMD {}", quoted(&args)));
                state.config.config.cmd = Some(args);
                state.config.config.args_escaped = true;
                state.cmd_set = true;
            }
            Kind::Entrypoint(command) => {
                let args = self.command(state, site, command);
                state.note(format!("ENTRYPOINT {}", quoted(&args)));
                state.config.config.entrypoint = Some(args);
                if !state.cmd_set {
                    state.config.config.cmd = None;
                }
            }
            Kind::Healthcheck(check) => healthcheck(state, check),
            Kind::Onbuild(onbuild) => {
                state.config.config.on_build.push(onbuild.text.clone());
            }
            Kind::Add(_) | Kind::Arg(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_) => {}
        }
        Ok(())
    }

    /// Expands all pairs with the scope before the instruction: a pair does not see its neighbours.
    fn pairs(&self, state: &State, pairs: &[KeyValue]) -> Result<Vec<(String, String)>, PlanError> {
        let word = |text: &Text| expand(&self.frame.lexer, text, &state.env);
        pairs
            .iter()
            .map(|pair| Ok((word(&pair.key)?, word(&pair.value)?)))
            .collect()
    }

    fn command(&mut self, state: &State, site: &Site<'_>, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(args) => args.clone(),
            Command::Shell {
                line,
                malformed_json,
            } => {
                if *malformed_json {
                    let head = &site.instruction.head;
                    self.warnings.push(PlanWarning {
                        message: format!(
                            "`{line}` looks like a JSON array but is not one, so it is run by a shell; \
                             use double quotes for the exec form"
                        ),
                        span: Some(head.span),
                        line: Some(head.lines.0),
                    });
                }
                state.in_shell(line)
            }
        }
    }
}

fn healthcheck(state: &mut State, check: &Healthcheck) {
    let check = match check {
        Healthcheck::None => image::Healthcheck {
            test: vec!["NONE".to_owned()],
            ..image::Healthcheck::default()
        },
        Healthcheck::Check {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => {
            let nanos = |time: &Option<std::time::Duration>| {
                time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
            };
            image::Healthcheck {
                test: match command {
                    Command::Exec(args) => [vec!["CMD".to_owned()], args.clone()].concat(),
                    Command::Shell { line, .. } => vec!["CMD-SHELL".to_owned(), line.clone()],
                },
                interval: nanos(interval),
                timeout: nanos(timeout),
                start_period: nanos(start_period),
                start_interval: nanos(start_interval),
                retries: retries.map_or(0, i64::from),
                ..image::Healthcheck::default()
            }
        }
    };
    state.note(format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        go_duration(check.interval),
        go_duration(check.timeout),
        go_duration(check.start_period),
        go_duration(check.start_interval),
        check.retries,
    ));
    state.config.config.healthcheck = Some(check);
}

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name
        .strip_prefix("RTMIN")
        .or_else(|| name.strip_prefix("RTMAX"))
    {
        let number = offset.trim_start_matches(['+', '-']);
        return offset.is_empty() || number.parse::<u8>().is_ok_and(|number| number <= 15);
    }
    SIGNALS.split_whitespace().any(|known| known == name)
}

/// Writes a list as Go's `%q` does.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| go_quote(word)).collect();
    format!("[{}]", words.join(" "))
}

fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Writes nanoseconds as Go's `Duration` prints itself: `1m30s`, `500ms`.
fn go_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let unit = |value: i64, per: i64, name: &str| {
        let (whole, rest) = (value / per, value % per);
        if rest == 0 {
            return format!("{whole}{name}");
        }
        let width = per.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        format!("{whole}.{}{name}", digits.trim_end_matches('0'))
    };
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return unit(nanos, 1_000, "µs");
    }
    if nanos < 1_000_000_000 {
        return unit(nanos, 1_000_000, "ms");
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = unit(nanos % 60_000_000_000, 1_000_000_000, "s");
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (nanos, expected) in [
            (0, "0s"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500, "1.5µs"),
            (7, "7ns"),
        ] {
            assert_eq!(go_duration(nanos), expected, "{nanos}");
        }
    }

    #[test]
    fn signals() {
        for (text, ok) in [
            ("SIGTERM", true),
            ("term", true),
            ("9", true),
            ("SIGRTMIN+3", true),
            ("SIGRTMAX-1", true),
            ("0", false),
            ("SIGFOO", false),
            ("", false),
        ] {
            assert_eq!(is_signal(text), ok, "{text}");
        }
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(
            quoted(&["a\"b\n".to_owned(), "é".to_owned()]),
            r#"["a\"b\n" "é"]"#
        );
    }
}
