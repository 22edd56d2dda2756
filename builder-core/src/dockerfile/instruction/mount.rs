//! The value of `RUN --mount=`, read after expansion.
//!
//! | type   | fields beside `target` (`dst`, `destination`)                       | written to         |
//! |--------|----------------------------------------------------------------------|--------------------|
//! | bind   | from, source (`src`), readonly (`ro`), readwrite (`rw`)              | dropped after RUN  |
//! | cache  | id, from, source, sharing, mode, uid, gid, readonly, readwrite       | kept               |
//! | tmpfs  | size                                                                 | dropped            |
//! | secret | id, source, required, env, mode, uid, gid                            | never              |
//! | ssh    | id, source, required, mode, uid, gid                                 | never              |
//!
//! Fields are judged in the order in which they stand, as in BuildKit: `size=1m,type=tmpfs` is a mistake.

use super::super::error::nearest;
use super::super::{ParseError, ParseErrorKind, Span};

/// One mount of a RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// As written, possibly relative to the working directory. None where BuildKit has a default of its own: a
    /// secret that is only an environment variable, an agent's socket, a mount on the working directory.
    pub target: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    Bind {
        from: Option<String>,
        source: Option<String>,
        rw: bool,
    },
    /// `id` is the target where none is given. Where no mode, uid or gid is given, the directory keeps its own.
    Cache {
        id: String,
        from: Option<String>,
        source: Option<String>,
        sharing: Sharing,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        ro: bool,
    },
    /// `size` in bytes.
    Tmpfs { size: Option<u64> },
    Secret {
        id: String,
        required: bool,
        env: Option<String>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Ssh {
        id: Option<String>,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    #[default]
    Shared,
    /// Each concurrent step has a copy of its own.
    Private,
    /// One step after the other.
    Locked,
}

const TYPES: &[&str] = &["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: &[&str] = &["shared", "private", "locked"];
const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

/// Reads the value of a `--mount=` flag, variables already expanded.
///
/// # Errors
/// The first mistake, at `span`.
pub fn parse_mount(text: &str, span: Span) -> Result<Mount, ParseError> {
    mount(text).map_err(|kind| ParseError::new(kind, span))
}

/// What can be said before expansion: everything where there is no variable, else only that `from` has none.
pub(super) fn check_unexpanded(text: &str, span: Span) -> Result<(), ParseError> {
    if !text.contains('$') {
        return parse_mount(text, span).map(drop);
    }
    let Some(fields) = fields(text) else {
        return Ok(());
    };
    let variable = fields
        .iter()
        .filter_map(|field| field.split_once('='))
        .any(|(key, value)| {
            key.eq_ignore_ascii_case("from")
                && value.find('$').is_some_and(|at| at + 1 < value.len())
        });
    match variable {
        true => Err(ParseError::new(ParseErrorKind::MountFromVariable, span)),
        false => Ok(()),
    }
}

/// The fields as they are read.
#[derive(Debug, Default)]
struct Fields {
    kind: usize,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    read_only: Option<bool>,
    required: bool,
    size: Option<u64>,
    sharing: Option<Sharing>,
    env: Option<String>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

fn mount(text: &str) -> Result<Mount, ParseErrorKind> {
    let Some(fields) = fields(text) else {
        return Err(ParseErrorKind::MountSyntax {
            text: text.to_owned(),
        });
    };
    let mut read = Fields::default();
    for field in &fields {
        read.take(field)?;
    }
    read.finish()
}

impl Fields {
    fn kind(&self) -> &'static str {
        TYPES[self.kind]
    }

    fn only_for(&self, key: &str, needs: &'static [&'static str]) -> Result<(), ParseErrorKind> {
        match needs.contains(&self.kind()) {
            true => Ok(()),
            false => Err(ParseErrorKind::MountKeyNotAllowed {
                key: key.to_owned(),
                mount: self.kind(),
                needs,
            }),
        }
    }

    fn take(&mut self, field: &str) -> Result<(), ParseErrorKind> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let key = key.as_str();
        let Some(value) = value else {
            match key {
                "readonly" | "ro" => self.read_only = Some(true),
                "readwrite" | "rw" => self.read_only = Some(false),
                "required" => {
                    self.only_for(key, &["secret", "ssh"])?;
                    self.required = true;
                }
                _ => {
                    return Err(ParseErrorKind::MountField {
                        field: field.to_owned(),
                    });
                }
            }
            return Ok(());
        };
        let bad = || ParseErrorKind::MountValue {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "type" => self.kind = one_of("mount type", value, TYPES)?,
            "from" => self.from = text(),
            "source" | "src" => self.source = text(),
            "target" | "dst" | "destination" => self.target = text(),
            "readonly" | "ro" => self.read_only = Some(boolean(value).ok_or_else(bad)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(value).ok_or_else(bad)?),
            "required" => {
                self.only_for(key, &["secret", "ssh"])?;
                self.required = boolean(value).ok_or_else(bad)?;
            }
            "size" => {
                self.only_for(key, &["tmpfs"])?;
                self.size = Some(bytes(value).ok_or_else(bad)?).filter(|size| *size > 0);
            }
            "id" => self.id = text(),
            "sharing" => {
                self.sharing = Some(match one_of("sharing mode", value, SHARING)? {
                    0 => Sharing::Shared,
                    1 => Sharing::Private,
                    _ => Sharing::Locked,
                });
            }
            "env" => {
                self.only_for(key, &["secret"])?;
                self.env = text();
            }
            "mode" => self.mode = Some(number(value, 8).ok_or_else(bad)?),
            "uid" => self.uid = Some(number(value, 10).ok_or_else(bad)?),
            "gid" => self.gid = Some(number(value, 10).ok_or_else(bad)?),
            _ => {
                let did_you_mean = nearest(key, KEYS);
                return Err(ParseErrorKind::MountKey {
                    key: key.to_owned(),
                    did_you_mean,
                });
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Mount, ParseErrorKind> {
        for (key, given) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
            if given.is_some() {
                self.only_for(key, &["cache", "secret", "ssh"])?;
            }
        }
        if self.sharing.is_some() {
            self.only_for("sharing", &["cache"])?;
        }
        let Fields {
            from,
            source,
            mut target,
            id,
            read_only,
            required,
            mode,
            uid,
            gid,
            ..
        } = self;
        let kind = match TYPES[self.kind] {
            "bind" => MountKind::Bind {
                from,
                source,
                rw: read_only == Some(false),
            },
            "cache" => MountKind::Cache {
                id: id.unwrap_or_else(|| clean(target.as_deref().unwrap_or_default())),
                from,
                source,
                sharing: self.sharing.unwrap_or_default(),
                mode,
                uid,
                gid,
                ro: read_only == Some(true),
            },
            "tmpfs" => MountKind::Tmpfs { size: self.size },
            "secret" => {
                if from.is_some() {
                    let needs = &["bind", "cache"];
                    return Err(ParseErrorKind::MountKeyNotAllowed {
                        key: "from".into(),
                        mount: "secret",
                        needs,
                    });
                }
                let id = match (source, id, &target) {
                    (Some(_), Some(_), _) => return Err(ParseErrorKind::SecretSourceAndId),
                    (Some(id), None, _) | (None, Some(id), _) => id,
                    (None, None, Some(target)) => base(target),
                    (None, None, None) => return Err(ParseErrorKind::SecretWithoutId),
                };
                if self.env.is_none() {
                    target.get_or_insert_with(|| format!("/run/secrets/{}", base(&id)));
                }
                let (mode, uid, gid) = (mode.unwrap_or(0o400), uid.unwrap_or(0), gid.unwrap_or(0));
                MountKind::Secret {
                    id,
                    required,
                    env: self.env,
                    mode,
                    uid,
                    gid,
                }
            }
            _ => MountKind::Ssh {
                id: source.or(id),
                required,
                mode: mode.unwrap_or(0o600),
                uid: uid.unwrap_or(0),
                gid: gid.unwrap_or(0),
            },
        };
        Ok(Mount { kind, target })
    }
}

fn one_of(
    what: &'static str,
    value: &str,
    allowed: &'static [&'static str],
) -> Result<usize, ParseErrorKind> {
    let lower = value.to_ascii_lowercase();
    allowed
        .iter()
        .position(|name| *name == lower)
        .ok_or_else(|| ParseErrorKind::NotOneOf {
            what,
            value: value.to_owned(),
            allowed,
            near: nearest(value, allowed),
        })
}

/// One record of comma-separated values; a field in double quotes may hold commas and doubled quotes. None for a
/// stray or unclosed quote, and for no text at all.
pub(super) fn fields(text: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut rest = Some(text).filter(|text| !text.is_empty())?;
    loop {
        let mut field = String::new();
        let after = match rest.strip_prefix('"') {
            None => {
                let (plain, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if plain.contains('"') {
                    return None;
                }
                field.push_str(plain);
                after
            }
            Some(quoted) => {
                let mut tail = quoted;
                loop {
                    let (part, after) = tail.split_once('"')?;
                    field.push_str(part);
                    match after.strip_prefix('"') {
                        Some(more) => {
                            field.push('"');
                            tail = more;
                        }
                        None => break after,
                    }
                }
            }
        };
        out.push(field);
        if after.is_empty() {
            return Some(out);
        }
        rest = after.strip_prefix(',')?;
    }
}

/// As Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn number(text: &str, radix: u32) -> Option<u32> {
    let signed = text.starts_with(['+', '-']);
    u32::from_str_radix(text, radix).ok().filter(|_| !signed)
}

/// `64m`, `1.5 GiB`: powers of 1024, whole bytes.
fn bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        _ => {
            let short = unit.strip_suffix('b').unwrap_or(&unit);
            ["k", "m", "g", "t", "p"]
                .iter()
                .position(|own| short == *own || short == format!("{own}i"))?
                + 1
        }
    };
    let scale = 1u64 << (10 * power);
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return None;
    }
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(scale),
        Some((whole, fraction)) => {
            let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
            let fraction: u64 = fraction
                .get(..fraction.len().min(9))
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
                .map(|text| format!("{text:0<9}"))?
                .parse()
                .ok()?;
            let part = u128::from(fraction) * u128::from(scale) / 1_000_000_000;
            whole.checked_add(u64::try_from(part).ok()?)
        }
    }
}

/// The last part of a path, as Go's `path.Base`.
fn base(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".".into(),
        "" => "/".into(),
        path => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

/// The shortest path of the same meaning, as Go's `path.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, ParseErrorKind> {
        parse_mount(text, Span::default()).map_err(|error| error.kind)
    }

    #[test]
    fn defaults_are_buildkits() {
        let target = |path: &str| Some(path.to_owned());
        let bind = |rw| MountKind::Bind {
            from: None,
            source: None,
            rw,
        };
        let secret = |id: &str, env: Option<&str>| MountKind::Secret {
            id: id.into(),
            required: false,
            env: env.map(str::to_owned),
            mode: 0o400,
            uid: 0,
            gid: 0,
        };
        for (text, kind, place) in [
            ("target=/x", bind(false), target("/x")),
            ("type=BIND,dst=/x,rw", bind(true), target("/x")),
            ("destination=/x,readonly=false", bind(true), target("/x")),
            ("\"target=/a,b\"", bind(false), target("/a,b")),
            (
                "type=secret,id=a/b",
                secret("a/b", None),
                target("/run/secrets/b"),
            ),
            (
                "type=secret,target=/etc/key",
                secret("key", None),
                target("/etc/key"),
            ),
            ("type=secret,id=k,env=KEY", secret("k", Some("KEY")), None),
            (
                "type=tmpfs,target=/t,size=1.5k",
                MountKind::Tmpfs { size: Some(1536) },
                target("/t"),
            ),
            (
                "type=tmpfs,target=/t,size=64 MiB",
                MountKind::Tmpfs {
                    size: Some(64 << 20),
                },
                target("/t"),
            ),
            (
                "type=ssh",
                MountKind::Ssh {
                    id: None,
                    required: false,
                    mode: 0o600,
                    uid: 0,
                    gid: 0,
                },
                None,
            ),
            (
                "type=cache,target=/c/../d/,sharing=locked,mode=0755,uid=7",
                MountKind::Cache {
                    id: "/d".into(),
                    from: None,
                    source: None,
                    sharing: Sharing::Locked,
                    mode: Some(0o755),
                    uid: Some(7),
                    gid: None,
                    ro: false,
                },
                target("/c/../d/"),
            ),
        ] {
            assert_eq!(
                read(text),
                Ok(Mount {
                    kind,
                    target: place
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "",
            "a\"b",
            "\"a",
            "type=nothing",
            "type",
            "tipe=bind",
            "size=1m,type=tmpfs",
            "type=tmpfs,size=x",
            "type=tmpfs,size=1.",
            "type=bind,target=/x,mode=0700",
            "type=cache,target=/x,mode=9",
            "type=cache,target=/x,uid=-1",
            "type=cache,target=/x,sharing=all",
            "target=/x,sharing=shared",
            "target=/x,required",
            "target=/x,ro=maybe",
            "type=secret",
            "type=secret,id=a,source=b",
            "type=secret,id=a,from=b",
            "type=ssh,env=A",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(check_unexpanded("from=$x,target=/x", Span::default()).is_err());
        assert!(check_unexpanded("target=$x,nonsense", Span::default()).is_ok());
    }
}
