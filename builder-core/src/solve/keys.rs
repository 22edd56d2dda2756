//! What each operation's result depends on.
//!
//! The same function makes both keys: for the definition key an input is shown by its own definition key, for the content
//! key by the digest of what the step can see of it.
//!
//! | of a RUN                                   | in key | why                                          |
//! |--------------------------------------------|--------|----------------------------------------------|
//! | args, env, cwd, user, scripts              | yes    | the process sees them                        |
//! | network, hosts, security, mounts' options  | yes    | they change what it may do                   |
//! | host name, where it is not the usual       | yes    | the process sees it                          |
//! | `--ulimit`, `--shm-size`, where given      | yes    | the process can ask for them                 |
//! | limits of control groups, timeouts         | no     | they end a run, and never shape its result   |
//! | proxy variables                            | no     | how the network is reached, not what is made |
//! | values of secrets, files of cache mounts   | no     | must not, and cannot, shape a result         |
//! | which variables are build args             | no     | the process cannot tell; reasons can         |
//! | `SOURCE_DATE_EPOCH`, but as a variable     | no     | times of what a RUN made are told otherwise  |

use std::collections::BTreeMap;
use std::sync::Arc;

use super::inputs::SolveOptions;
use crate::cache::{FROM, FileList, Key, KeyHasher};
use crate::digest::{ContentDigest, Digest};
use crate::plan::{
    Base, CopyOp, CopySource, Input, MkdirOp, MountOp, MountSource, Op, Plan, RunOp, SourceTree,
};
use crate::sandbox::Limits;
use crate::source::without_credentials;

/// What stands for an input in a key.
pub(super) type Shown<'a> = &'a dyn Fn(Input) -> String;

/// What was selected from the trees of a COPY, or from that of each mount, in order.
pub(super) type Selected<'a> = &'a [Option<Seen>];

/// The digest of some files, and their list.
pub(super) type Seen = (ContentDigest, Arc<FileList>);

/// Makes the key of a vertex; `None` for a source, which has its result already.
pub(super) fn key(
    plan: &Plan,
    options: &SolveOptions,
    index: Input,
    shown: Shown<'_>,
    selected: Selected<'_>,
    base_digest: &dyn Fn(&Base) -> Option<Digest>,
) -> Option<Key> {
    let mut key = match &plan.vertices[index].op {
        Op::Image(_) | Op::Context { .. } => return None,
        Op::Run(run) => run_key(plan, run, options, shown, selected),
        Op::Copy(copy) => copy_key(plan, copy, shown, selected),
        Op::Mkdir(mkdir) => mkdir_key(mkdir),
    };
    epoch(&mut key, plan, index);
    let below = plan.vertices[index].op.parent();
    let value = below.map_or_else(String::new, shown);
    if let Op::Copy(CopyOp { link: true, .. }) = &plan.vertices[index].op {
        // The record has the layers below, but nothing of them is looked at: no reason names them.
        let name = match below.map(|below| &plan.vertices[below].op) {
            Some(Op::Image(_)) => "the base image",
            _ => "the step before",
        };
        key.field_untold(name, value);
        return Some(key.finish());
    }
    match below.map(|below| &plan.vertices[below].op) {
        Some(Op::Image(base)) => {
            let told = described(base, base_digest);
            key.field_shown("the base image", value, "the base image", told)
        }
        _ => {
            if let Some(told) = base_below(plan, index, base_digest) {
                key.told("the base image", told);
            }
            key.field("the step before", value)
        }
    };
    Some(key.finish())
}

/// Describes the image at the bottom of what a step stands on; `None` for `FROM scratch`.
fn base_below(
    plan: &Plan,
    index: Input,
    base_digest: &dyn Fn(&Base) -> Option<Digest>,
) -> Option<String> {
    let mut below = std::iter::successors(Some(index), |at| plan.vertices[*at].op.parent());
    below.find_map(|at| match &plan.vertices[at].op {
        Op::Image(base) => Some(described(base, base_digest)),
        _ => None,
    })
}

fn described(base: &Base, base_digest: &dyn Fn(&Base) -> Option<Digest>) -> String {
    match base_digest(base) {
        Some(digest) => format!("{}@{digest}", base.describe()),
        None => base.describe().to_owned(),
    }
}

/// Makes the key of what a COPY or a WORKDIR does, whatever it stands on.
pub(super) fn placed(plan: &Plan, index: Input, selected: Selected<'_>) -> Option<Digest> {
    let mut key = match &plan.vertices[index].op {
        Op::Copy(copy) if selected.iter().any(Option::is_some) => {
            copy_key(plan, copy, &|_| String::new(), selected)
        }
        Op::Mkdir(mkdir) => mkdir_key(mkdir),
        _ => return None,
    };
    epoch(&mut key, plan, index);
    Some(key.finish().digest)
}

/// Layers that are written from files have the times of those, clamped to `SOURCE_DATE_EPOCH`.
fn epoch(key: &mut KeyHasher, plan: &Plan, index: Input) {
    if let (Some(seconds), Op::Copy(_) | Op::Mkdir(_)) =
        (plan.source_date_epoch, &plan.vertices[index].op)
    {
        key.field("SOURCE_DATE_EPOCH", seconds.to_string());
    }
}

fn run_key(
    plan: &Plan,
    run: &RunOp,
    options: &SolveOptions,
    shown: Shown<'_>,
    selected: Selected<'_>,
) -> KeyHasher {
    let RunOp {
        parent: _,
        args,
        env,
        proxy_env: _,
        cwd,
        user,
        mounts,
        devices,
        scripts,
        network,
        extra_hosts,
        security,
        arg_names,
    } = run;
    let mut key = KeyHasher::new("run/3");
    key.list("command", args);
    for (name, value) in env {
        let field = format!("variable {name}");
        if arg_names.contains(name) {
            key.field_shown(&field, value, &format!("build arg {name}"), value.clone());
        } else {
            key.field(&field, value);
        }
    }
    key.field("working directory", cwd);
    key.field("user", user);
    as_flag(&mut key, "network", format!("{network:?}"));
    as_flag(&mut key, "security", format!("{security:?}"));
    for device in devices {
        let required = device.required.to_string();
        key.field(&format!("device {}", device.name), required);
    }
    for (name, ip) in extra_hosts {
        key.field(&format!("host {name}"), ip.to_string());
    }
    for (name, content) in scripts {
        key.field(&format!("heredoc {name}"), content);
    }
    if let Some(name) = &options.hostname {
        key.field("host name", name);
    }
    limits_part(&mut key, &options.limits);
    for (at, mount) in mounts.iter().enumerate() {
        mount_part(
            plan,
            &mut key,
            mount,
            shown,
            selected.get(at).and_then(Option::as_ref),
        );
    }
    key
}

/// A choice that the key has as `None`, told as the Dockerfile has it: `none`.
fn as_flag(key: &mut KeyHasher, name: &str, value: String) {
    let told = value.to_lowercase();
    key.field_shown(name, value, name, told);
}

/// What is not given is no part: it is whatever the builder itself has.
fn limits_part(key: &mut KeyHasher, limits: &Limits) {
    let Limits {
        rlimits,
        shm_bytes,
        cgroup: _,
    } = limits;
    let rlimits: BTreeMap<&str, String> = rlimits
        .iter()
        .map(|limit| (limit.name.as_str(), limit.values()))
        .collect();
    for (name, values) in rlimits {
        key.field(&format!("--ulimit {name}"), values);
    }
    if let Some(bytes) = shm_bytes {
        key.field("--shm-size", bytes.to_string());
    }
}

fn mount_part(
    plan: &Plan,
    key: &mut KeyHasher,
    mount: &MountOp,
    shown: Shown<'_>,
    selected: Option<&Seen>,
) {
    let MountOp {
        target,
        source,
        span: _,
    } = mount;
    let tree = |from: &Option<SourceTree>| from.map_or_else(String::new, |it| shown(it.vertex));
    let name = format!("mount {target}");
    let told = told_options(source);
    let options = match source {
        MountSource::Bind {
            from,
            path,
            read_write,
        } => {
            if let Some((content, list)) = selected {
                let told = with_context(plan, &name, from.as_ref());
                key.files_shown(&name, content, &told, list.clone());
                format!("bind {path} {read_write}")
            } else {
                format!("bind {} {path} {read_write}", tree(from))
            }
        }
        MountSource::Cache {
            id,
            sharing,
            from,
            path,
            mode,
            uid,
            gid,
            read_only,
        } => format!(
            "cache {id} {sharing:?} {} {path} {mode:o} {uid} {gid} {read_only}",
            tree(from)
        ),
        MountSource::Tmpfs { size_bytes } => format!("tmpfs {size_bytes:?}"),
        MountSource::Secret {
            id,
            required,
            env,
            mode,
            uid,
            gid,
        } => format!("secret {id} {required} {env:?} {mode:o} {uid} {gid}"),
        MountSource::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => format!("ssh {id} {required} {mode:o} {uid} {gid}"),
    };
    match told {
        Some(told) => key.field_shown(&name, options, &name, told),
        None => key.field(&name, options),
    };
}

/// The options of a mount without a tree, as a Dockerfile has them.
fn told_options(source: &MountSource) -> Option<String> {
    let mut told = String::new();
    let mut option = |text: String| {
        told.push(',');
        told.push_str(&text);
    };
    let kind = match source {
        MountSource::Tmpfs { size_bytes } => {
            if let Some(bytes) = size_bytes {
                option(format!("size={bytes}"));
            }
            "tmpfs"
        }
        MountSource::Secret {
            id,
            required,
            env,
            mode,
            uid,
            gid,
        } => {
            option(format!("id={id}"));
            if let Some(name) = env {
                option(format!("env={name}"));
            }
            option(format!(
                "required={required},mode={mode:04o},uid={uid},gid={gid}"
            ));
            "secret"
        }
        MountSource::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => {
            option(format!(
                "id={id},required={required},mode={mode:04o},uid={uid},gid={gid}"
            ));
            "ssh"
        }
        MountSource::Cache { .. } | MountSource::Bind { .. } => return None,
    };
    Some(format!("type={kind}{told}"))
}

fn copy_key(plan: &Plan, copy: &CopyOp, shown: Shown<'_>, selected: Selected<'_>) -> KeyHasher {
    let CopyOp {
        parent: _,
        sources,
        dest,
        chown,
        chmod,
        link,
        parents,
        exclude,
        unpack,
        checksum,
        keep_git_dir,
        is_add: _,
    } = copy;
    let mut key = KeyHasher::new("copy/3");
    key.field("destination", dest);
    key.field("chown", chown.as_deref().unwrap_or_default());
    key.field("chmod", format!("{chmod:?}"));
    for (name, given) in [
        ("--link", link),
        ("--parents", parents),
        ("--unpack", unpack),
        ("--keep-git-dir", keep_git_dir),
    ] {
        key.field(name, given.to_string());
    }
    key.field("checksum", checksum.as_deref().unwrap_or_default());
    match selected.first().and_then(Option::as_ref) {
        // What was selected says more than how: a pattern that finds the same files makes the same layer.
        Some((content, list)) => {
            let tree = sources.iter().find_map(|source| match source {
                CopySource::Tree { from, .. } => from.as_ref(),
                _ => None,
            });
            let told = with_context(plan, "files", tree);
            key.files_shown("files", content, &told, list.clone());
        }
        None => {
            key.list("exclude", exclude);
            for source in sources {
                match source {
                    CopySource::Tree { from, pattern, .. } => {
                        key.field("source", pattern);
                        let tree = from.map_or_else(String::new, |it| shown(it.vertex));
                        key.field("source tree", tree);
                    }
                    CopySource::Inline { name, content } => {
                        key.field(&format!("heredoc {name}"), content);
                    }
                    CopySource::Url { url, .. } | CopySource::Git { url, .. } => {
                        // What came is in the key; with which password it came is nobody's business.
                        key.field("source", without_credentials(url));
                    }
                }
            }
        }
    }
    key
}

/// The name of a list of files, with the named context that they are from: see [`Parts::lists`](crate::cache::Parts).
fn with_context(plan: &Plan, name: &str, tree: Option<&SourceTree>) -> String {
    match tree.map(|tree| &plan.vertices[tree.vertex].op) {
        Some(Op::Context { name: Some(from) }) => format!("{name}{FROM}{from}"),
        _ => name.to_owned(),
    }
}

fn mkdir_key(mkdir: &MkdirOp) -> KeyHasher {
    let MkdirOp {
        parent: _,
        path,
        user,
    } = mkdir;
    let mut key = KeyHasher::new("mkdir/1");
    key.field("path", path);
    key.field("user", user);
    key
}
