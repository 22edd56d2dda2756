//! RUN.

use std::collections::BTreeSet;

use crate::dockerfile::Span;
use crate::dockerfile::ast::{Command, Heredoc, Run};
use crate::dockerfile::instruction::device::parse_device;
use crate::dockerfile::instruction::mount::{MountKind, parse_mount};
use crate::dockerfile::{ParseError, Text};

use super::super::error::{PlanError, PlanErrorKind};
use super::super::scope::{self, CACHE_NS_ARG};
use super::super::vertex::{MountOp, MountSource, NetworkMode, Op, RunOp, SecurityMode};
use super::{Lowering, Site, State, clean, join};

impl Lowering<'_, '_> {
    pub(super) fn run(
        &mut self,
        state: &mut State,
        site: &mut Site<'_>,
        run: &Run,
    ) -> Result<(), PlanError> {
        let script = Script::of(run);
        let args = match &script.command {
            Command::Exec(args) => args.clone(),
            Command::Shell { line, .. } => state.in_shell(line),
        };
        let mut mounts = Vec::new();
        for mount in &run.mounts {
            let agents = mounts
                .iter()
                .filter(|it: &&MountOp| matches!(it.source, MountSource::Ssh { .. }))
                .count();
            mounts.extend(self.mount(state, site, mount, agents)?);
        }
        let mut devices = Vec::new();
        for word in &run.devices {
            devices.push(parse_device(word).map_err(|error| instruction(error, word.span))?);
        }
        let network = match &run.network {
            None => self.frame.options.network,
            Some(word) => {
                let text = scope::expand(&self.frame.lexer, word, &state.env)?;
                match text.as_str() {
                    "default" => self.frame.options.network,
                    "none" => NetworkMode::None,
                    "host" => NetworkMode::Host,
                    _ => return Err(PlanError::new(PlanErrorKind::Network { text }, word.span)),
                }
            }
        };
        let security = match &run.security {
            None => SecurityMode::Sandbox,
            Some(word) => {
                let text = scope::expand(&self.frame.lexer, word, &state.env)?;
                match text.as_str() {
                    "sandbox" => SecurityMode::Sandbox,
                    "insecure" => SecurityMode::Insecure,
                    _ => return Err(PlanError::new(PlanErrorKind::Security { text }, word.span)),
                }
            }
        };
        let created_by = format!("RUN {} # buildkit", history(state, &args));
        let op = Op::Run(RunOp {
            parent: state.rootfs,
            args,
            env: state.env.list().to_vec(),
            arg_names: arg_names(state),
            proxy_env: scope::proxy_env(self.frame.options),
            cwd: clean(&state.config.config.working_dir),
            user: state.config.config.user.clone(),
            mounts,
            devices,
            scripts: script.files,
            network,
            extra_hosts: self.frame.options.extra_hosts.clone(),
            security,
        });
        let vertex = self.push(state, site, op, &script.summary);
        state.layer(created_by, vertex);
        Ok(())
    }

    fn mount(
        &mut self,
        state: &State,
        site: &Site<'_>,
        word: &Text,
        agents_before: usize,
    ) -> Result<Option<MountOp>, PlanError> {
        // Quotes are the flag's own (it is read as CSV): only variables are replaced here.
        let lexer = crate::dockerfile::word::Lexer {
            raw_quotes: true,
            ..self.frame.lexer
        };
        let text = scope::expand(&lexer, word, &state.env)?;
        let mount = parse_mount(&text, word.span).map_err(|error| instruction(error, word.span))?;
        let cwd = &state.config.config.working_dir;
        let target = mount.target.as_deref().map(|target| join(cwd, target));
        let tree = |this: &mut Self, from: &Option<String>| match from {
            None => Ok(None),
            Some(from) => {
                let raw = from.clone();
                let span = word.span;
                this.source_tree(site, &Text { raw, span })
            }
        };
        let missing = |option: &'static str| {
            let text = text.clone();
            let error = PlanError::new(PlanErrorKind::MountWithout { option, text }, word.span);
            error.hint(format!("add `{option}=/path`"))
        };
        if target.as_deref() == Some("/") {
            let error = PlanError::new(PlanErrorKind::MountOverRoot, word.span);
            return Err(error.hint("mount it on a directory below `/`"));
        }
        let (target, source) = match mount.kind {
            MountKind::Bind { from, source, rw } => {
                let from = match &from {
                    None => Some(super::SourceTree {
                        vertex: self.context(None),
                    }),
                    Some(_) => tree(self, &from)?,
                };
                let source = MountSource::Bind {
                    from,
                    path: clean(source.as_deref().unwrap_or("/")),
                    read_write: rw,
                };
                (target.ok_or_else(|| missing("target"))?, source)
            }
            MountKind::Cache {
                id,
                from,
                source,
                sharing,
                mode,
                uid,
                gid,
                ro,
            } => {
                let target = target.ok_or_else(|| missing("target"))?;
                let source = MountSource::Cache {
                    id: clean(&match self.frame.options.build_args.get(CACHE_NS_ARG) {
                        Some(space) => format!("{space}/{id}"),
                        None => id,
                    }),
                    sharing,
                    from: tree(self, &from)?,
                    path: clean(source.as_deref().unwrap_or("/")),
                    mode: mode.unwrap_or(0o755),
                    uid: uid.unwrap_or(0),
                    gid: gid.unwrap_or(0),
                    read_only: ro,
                };
                (target, source)
            }
            MountKind::Tmpfs { size } => (
                target.ok_or_else(|| missing("target"))?,
                MountSource::Tmpfs { size_bytes: size },
            ),
            MountKind::Secret {
                id,
                required,
                env,
                mode,
                uid,
                gid,
            } => {
                let target = match (target, &env) {
                    (Some(target), _) => target,
                    (None, Some(_)) => String::new(),
                    (None, None) => format!("/run/secrets/{id}"),
                };
                let source = MountSource::Secret {
                    id,
                    required,
                    env,
                    mode,
                    uid,
                    gid,
                };
                (target, source)
            }
            MountKind::Ssh {
                id,
                required,
                mode,
                uid,
                gid,
            } => {
                let source = MountSource::Ssh {
                    id: id.unwrap_or_else(|| "default".to_owned()),
                    required,
                    mode,
                    uid,
                    gid,
                };
                (
                    target.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{agents_before}")),
                    source,
                )
            }
        };
        let span = word.span;
        Ok(Some(MountOp {
            target,
            source,
            span,
        }))
    }
}

fn instruction(error: ParseError, span: Span) -> PlanError {
    let hint = error.hint();
    let error = PlanError::new(PlanErrorKind::Instruction { error }, span);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// A RUN's heredocs, put where the reference puts them.
struct Script {
    command: Command,
    files: Vec<(String, String)>,
    summary: String,
}

impl Script {
    fn of(run: &Run) -> Script {
        let plain = Script {
            command: run.command.clone(),
            files: Vec::new(),
            summary: String::new(),
        };
        let (Command::Shell { line, .. }, Some(first)) = (&run.command, run.heredocs.first())
        else {
            return plain;
        };
        let shell = |line: String| Command::Shell {
            line,
            malformed_json: false,
        };
        if !is_heredoc_alone(line) {
            // The shell reads the heredocs itself.
            let mut whole = line.clone();
            for Heredoc { name, content, .. } in &run.heredocs {
                whole.push('\n');
                whole.push_str(content);
                whole.push_str(name);
            }
            return Script {
                command: shell(whole),
                ..plain
            };
        }
        let content = if first.chomp {
            chomp(&first.content)
        } else {
            first.content.clone()
        };
        let summary = format!(" ({})", summarize(&first.content));
        if content.starts_with("#!") {
            let path = format!("/dev/pipes/{}", first.name);
            return Script {
                command: shell(path),
                files: vec![(first.name.clone(), content)],
                summary,
            };
        }
        Script {
            command: shell(content),
            files: Vec::new(),
            summary,
        }
    }
}

/// Whether a line is nothing but `<<NAME`: then the body is the script.
fn is_heredoc_alone(line: &str) -> bool {
    let line = line.trim();
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = digits.strip_prefix("<<") else {
        return false;
    };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    !rest.is_empty()
        && !rest.starts_with('<')
        && !rest.contains(|c: char| c.is_whitespace() || "<>|&;".contains(c))
}

/// Removes the tabs that `<<-` removes.
pub(super) fn chomp(content: &str) -> String {
    content
        .split_inclusive('\n')
        .map(|line| line.trim_start_matches('\t'))
        .collect()
}

fn summarize(content: &str) -> String {
    let mut lines = content.trim().lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { "..." } else { "" };
    format!("{first}{more}")
}

/// Returns the variables that are what an ARG says: an ENV of the same name would have won.
fn arg_names(state: &State) -> BTreeSet<String> {
    let names = state.build_args.iter().map(|(name, _)| name);
    names
        .filter(|name| !state.env_places.contains_key(*name))
        .cloned()
        .collect()
}

/// Returns the command for the history: the build args that it sees come first, counted.
fn history(state: &State, args: &[String]) -> String {
    let args_seen = state.build_args.iter().map(|(name, value)| {
        let value = state.env.value(name).or(value.as_deref());
        format!("{name}={}", value.unwrap_or_default())
    });
    let mut words: Vec<String> = args_seen.collect();
    if !words.is_empty() {
        words.insert(0, format!("|{}", words.len()));
    }
    words.extend(args.iter().cloned());
    words.join(" ")
}
