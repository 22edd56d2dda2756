//! A plan as text, for people and for snapshots, and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::dockerfile::without_userinfo;

use super::vertex::{CopyOp, CopySource, MountOp, MountSource, Op, Plan, RunOp, Vertex};

/// Writes one paragraph a vertex: number, name, inputs, and what is not plain from the name.
pub fn to_text(plan: &Plan) -> String {
    let mut out = String::new();
    for (index, vertex) in plan.vertices.iter().enumerate() {
        let _ = write!(out, "{index}: {}", vertex.name.replace('\n', "\\n"));
        let inputs = vertex.inputs();
        if !inputs.is_empty() {
            let inputs: Vec<String> = inputs.iter().map(usize::to_string).collect();
            let _ = write!(out, "  <- {}", inputs.join(", "));
        }
        out.push('\n');
        for (name, value) in facts(vertex) {
            let value = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            let _ = writeln!(out, "   {name}: {}", value.replace('\n', "\\n"));
        }
    }
    let target = plan
        .target
        .map_or_else(|| "an empty tree".to_owned(), |index| index.to_string());
    let _ = writeln!(out, "image: {target} for {}", plan.platform);
    let config = &plan.config.config;
    for (name, value) in [
        ("entrypoint", json!(config.entrypoint)),
        ("cmd", json!(config.cmd)),
        ("user", json!(config.user)),
        ("workdir", json!(config.working_dir)),
        ("env", json!(config.env)),
        ("labels", json!(config.labels)),
        ("volumes", json!(config.volumes.keys().collect::<Vec<_>>())),
        (
            "expose",
            json!(config.exposed_ports.keys().collect::<Vec<_>>()),
        ),
        ("stopsignal", json!(config.stop_signal)),
        ("healthcheck", json!(config.healthcheck)),
        ("onbuild", json!(config.on_build)),
    ] {
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if !empty {
            let _ = writeln!(out, "   {name}: {value}");
        }
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "warning: {}", warning.message);
    }
    out
}

/// Returns the plan as one JSON document.
pub fn to_json(plan: &Plan) -> Value {
    let vertices: Vec<Value> = plan
        .vertices
        .iter()
        .enumerate()
        .map(|(index, vertex)| {
            let facts: serde_json::Map<String, Value> = facts(vertex)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            json!({
                "id": index,
                "op": kind(&vertex.op),
                "name": vertex.name,
                "stage": vertex.stage,
                "line": vertex.line,
                "inputs": vertex.inputs(),
                "facts": facts,
            })
        })
        .collect();
    json!({
        "platform": plan.platform.to_string(),
        "target": plan.target,
        "vertices": vertices,
        "config": plan.config,
        "warnings": plan.warnings.iter().map(|it| &it.message).collect::<Vec<_>>(),
    })
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Image(_) => "image",
        Op::Context { .. } => "context",
        Op::Run(_) => "run",
        Op::Copy(_) => "copy",
        Op::Mkdir(_) => "mkdir",
    }
}

fn facts(vertex: &Vertex) -> Vec<(&'static str, Value)> {
    match &vertex.op {
        Op::Image(base) => vec![("platform", json!(base.platform().to_string()))],
        Op::Context { .. } => Vec::new(),
        Op::Run(run) => run_facts(run),
        Op::Copy(copy) => copy_facts(copy),
        Op::Mkdir(mkdir) => {
            let mut out = vec![("path", json!(mkdir.path))];
            if !mkdir.user.is_empty() {
                out.push(("owner", json!(mkdir.user)));
            }
            out
        }
    }
}

fn run_facts(run: &RunOp) -> Vec<(&'static str, Value)> {
    let mut out = vec![("args", json!(run.args))];
    if run.cwd != "/" {
        out.push(("cwd", json!(run.cwd)));
    }
    if !run.user.is_empty() {
        out.push(("user", json!(run.user)));
    }
    let env: Vec<String> = run.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    out.push(("env", json!(env)));
    for mount in &run.mounts {
        out.push(("mount", mount_fact(mount)));
    }
    for device in &run.devices {
        let fact = json!({ "name": device.name, "required": device.required });
        out.push(("device", fact));
    }
    for (name, content) in &run.scripts {
        out.push(("script", json!({ "name": name, "content": content })));
    }
    if run.network != super::NetworkMode::Default {
        out.push(("network", json!(run.network)));
    }
    if run.security != super::SecurityMode::Sandbox {
        out.push(("security", json!(run.security)));
    }
    out
}

fn mount_fact(mount: &MountOp) -> Value {
    let target = &mount.target;
    match &mount.source {
        MountSource::Bind {
            from,
            path,
            read_write,
        } => json!({
            "type": "bind", "target": target, "from": from.map(|tree| tree.vertex), "source": path,
            "rw": read_write,
        }),
        MountSource::Cache {
            id,
            sharing,
            from,
            path,
            mode,
            uid,
            gid,
            read_only,
        } => json!({
            "type": "cache", "target": target, "id": id, "sharing": format!("{sharing:?}").to_lowercase(),
            "from": from.map(|tree| tree.vertex), "source": path, "mode": format!("{mode:o}"),
            "uid": uid, "gid": gid, "ro": read_only,
        }),
        MountSource::Tmpfs { size_bytes } => {
            json!({ "type": "tmpfs", "target": target, "size": size_bytes })
        }
        MountSource::Secret {
            id,
            required,
            env,
            mode,
            uid,
            gid,
        } => json!({
            "type": "secret", "target": target, "id": id, "required": required, "env": env,
            "mode": format!("{mode:o}"), "uid": uid, "gid": gid,
        }),
        MountSource::Ssh {
            id,
            required,
            mode,
            uid,
            gid,
        } => json!({
            "type": "ssh", "target": target, "id": id, "required": required,
            "mode": format!("{mode:o}"), "uid": uid, "gid": gid,
        }),
    }
}

fn copy_facts(copy: &CopyOp) -> Vec<(&'static str, Value)> {
    let mut out: Vec<(&'static str, Value)> = copy
        .sources
        .iter()
        .map(|source| match source {
            CopySource::Tree { from, pattern, .. } => {
                let from = from.map(|tree| tree.vertex);
                ("source", json!({ "from": from, "path": pattern }))
            }
            CopySource::Inline { name, content } => {
                ("inline", json!({ "name": name, "content": content }))
            }
            CopySource::Url { url, .. } => ("url", json!(without_userinfo(url))),
            CopySource::Git { url, .. } => ("git", json!(without_userinfo(url))),
        })
        .collect();
    out.push(("dest", json!(copy.dest)));
    for (name, value) in [
        ("chown", json!(copy.chown)),
        ("chmod", json!(copy.chmod)),
        ("checksum", json!(copy.checksum)),
    ] {
        if !value.is_null() {
            out.push((name, value));
        }
    }
    for (name, set) in [
        ("link", copy.link),
        ("parents", copy.parents),
        ("unpack", copy.unpack),
        ("keep-git-dir", copy.keep_git_dir),
    ] {
        if set {
            out.push((name, json!(true)));
        }
    }
    if !copy.exclude.is_empty() {
        out.push(("exclude", json!(copy.exclude)));
    }
    out
}
