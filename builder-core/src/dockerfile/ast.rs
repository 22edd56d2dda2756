//! The instructions of a Dockerfile, as written: nothing expanded, nothing looked up.
//!
//! [`Text`] fields may hold `$variables`; `plan` expands them with the scope they stand in.

use std::time::Duration;

use super::{Span, Text};

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Dockerfile {
    pub directives: Directives,
    /// ARGs before the first FROM, in order.
    pub global_args: Vec<Instruction>,
    pub stages: Vec<Stage>,
}

/// The parser directives at the top of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    pub syntax: Option<Text>,
    /// `\` or `` ` ``.
    pub escape: char,
    pub check: Option<Text>,
}

/// A FROM and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    pub from: From,
    /// The FROM's own facts (span, lines, original text, comment above it).
    pub head: Head,
    pub instructions: Vec<Instruction>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct From {
    /// An image, an earlier stage or `scratch`; may hold global ARGs.
    pub image: Text,
    /// As written; compare lower-cased.
    pub alias: Option<Text>,
    pub platform: Option<Text>,
    /// Buildah's `--after=<stage>`.
    pub after: Vec<Text>,
}

/// What every instruction has.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The whole instruction, heredocs included.
    pub span: Span,
    /// The instruction's word alone (`RUN`), for casing checks and carets.
    pub keyword: Text,
    /// 1-based, inclusive, heredocs included.
    pub lines: (u32, u32),
    /// The instruction in one line, continuations joined and comments dropped, as BuildKit's `Original`:
    /// `RUN make && make install`. Heredoc bodies are not in it.
    pub original: String,
    /// Comment lines directly above, `#` and one blank removed.
    pub comment: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    pub head: Head,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    Add(Copy),
    Arg(Vec<ArgDecl>),
    Cmd(Command),
    Copy(Copy),
    Entrypoint(Command),
    Env(Vec<KeyValue>),
    Expose(Vec<Text>),
    Healthcheck(Healthcheck),
    Label(Vec<KeyValue>),
    Maintainer(Text),
    Onbuild(Box<Onbuild>),
    Run(Run),
    /// Always the exec form.
    Shell(Vec<String>),
    Stopsignal(Text),
    User(Text),
    Volume(Vec<Text>),
    Workdir(Text),
}

/// The inner instruction, parsed and as text (the text is what an image's config keeps).
#[derive(Debug, Clone, PartialEq)]
pub struct Onbuild {
    pub inner: Instruction,
    /// What stands after `ONBUILD`, heredoc bodies included.
    pub text: String,
}

/// `K=V`, or the old `K V`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Text,
    pub value: Text,
    /// The old form, `ENV K V`.
    pub legacy: bool,
}

/// One `NAME` or `NAME=default` of an ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDecl {
    pub name: Text,
    pub default: Option<Text>,
}

/// CMD, ENTRYPOINT, RUN and HEALTHCHECK's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `["a", "b"]`, also the empty `[]`.
    Exec(Vec<String>),
    /// One line for the shell, continuations joined. Never expanded by us.
    Shell {
        line: String,
        /// The text looks like a JSON array but is not one (`['npm','start']`): worth a warning.
        malformed_json: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    /// The body as found, tabs included, with its final newline.
    pub content: String,
    /// The delimiter was not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are removed.
    pub chomp: bool,
    pub fd: u32,
    /// Where the body stands.
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub command: Command,
    pub heredocs: Vec<Heredoc>,
    /// Each `--mount=` value as written; `instruction::mount::parse` reads it after expansion.
    pub mounts: Vec<Text>,
    pub network: Option<Text>,
    pub security: Option<Text>,
    pub devices: Vec<Text>,
}

/// COPY and ADD: the flags that only one of them has are `None`/empty on the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// Paths, URLs or git references, in order; heredocs excluded.
    pub sources: Vec<Text>,
    /// `<<EOF` sources: each is a file of that name.
    pub heredocs: Vec<Heredoc>,
    pub dest: Text,
    pub from: Option<Text>,
    pub chown: Option<Text>,
    pub chmod: Option<Text>,
    pub link: bool,
    pub parents: bool,
    pub exclude: Vec<Text>,
    pub checksum: Option<Text>,
    pub keep_git_dir: Option<bool>,
    pub unpack: Option<bool>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Healthcheck {
    None,
    Check {
        command: Command,
        /// Each is `None` where the flag is absent.
        interval: Option<Duration>,
        timeout: Option<Duration>,
        start_period: Option<Duration>,
        start_interval: Option<Duration>,
        retries: Option<u32>,
    },
}
