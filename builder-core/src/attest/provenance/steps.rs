//! The steps of a plan, in the words of BuildKit's LLB.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Facts;
use crate::plan::{
    Base, CopyOp, CopySource, MkdirOp, MountOp, MountSource, NetworkMode, Op, RunOp, SecurityMode,
    SourceTree,
};
use crate::source::without_credentials;

/// What is told of the steps.
pub(super) struct Steps {
    /// Inputs before those that use them; the last has no operation and leads to the result.
    pub(super) definition: Vec<Value>,
    /// First and last line of a step in the Dockerfile.
    pub(super) lines: BTreeMap<String, (u32, u32)>,
    /// The step whose root file system is the image's.
    pub(super) target: Option<String>,
}

/// A step under way: its inputs are named in the order in which they are first used.
#[derive(Default)]
struct Inputs(Vec<String>);

impl Inputs {
    /// Returns the number of an input; -1 for an empty tree, as LLB has it.
    fn number(&mut self, id: Option<&String>) -> i64 {
        let Some(id) = id else {
            return -1;
        };
        let output = format!("{id}:0");
        let at = self.0.iter().position(|it| *it == output);
        let at = at.unwrap_or_else(|| {
            self.0.push(output);
            self.0.len() - 1
        });
        i64::try_from(at).unwrap_or(i64::MAX)
    }
}

struct Writer {
    steps: Steps,
    /// The step of each vertex.
    ids: Vec<String>,
}

/// Tells every step of the plan.
pub(super) fn steps(facts: &Facts) -> Steps {
    let plan = &facts.plan;
    let mut writer = Writer {
        steps: Steps {
            definition: Vec::new(),
            lines: BTreeMap::new(),
            target: None,
        },
        ids: Vec::new(),
    };
    for vertex in &plan.vertices {
        let mut inputs = Inputs::default();
        let op = match &vertex.op {
            Op::Image(base) => image(facts, base),
            Op::Context { name } => match (name, &facts.context) {
                (None, Some(context)) => source(&context.identifier()),
                _ => source(&format!("local://{}", name.as_deref().unwrap_or("context"))),
            },
            Op::Run(run) => writer.run(run, &mut inputs),
            Op::Copy(copy) => writer.copy(copy, &mut inputs),
            Op::Mkdir(mkdir) => writer.mkdir(mkdir, &mut inputs),
        };
        for &after in &vertex.after {
            inputs.number(writer.ids.get(after));
        }
        let platform = vertex.platform.as_ref();
        let id = writer.push(op, platform.map(|it| json!(it)), &inputs.0);
        if let Some(first) = vertex.line {
            let text = vertex.span.and_then(|it| facts.text.get(it.start..it.end));
            let more = text.map_or(0, |text| text.trim_end().matches('\n').count());
            let last = first.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
            writer.steps.lines.insert(id.clone(), (first, last));
        }
        writer.ids.push(id);
    }
    writer.steps.target = plan.target.and_then(|it| writer.ids.get(it).cloned());
    let last = writer.steps.target.iter().map(|it| format!("{it}:0"));
    let last: Vec<String> = last.collect();
    writer.push(Map::new(), None, &last);
    writer.steps
}

fn source(identifier: &str) -> Map<String, Value> {
    let op = json!({"source": {"identifier": identifier}});
    op.as_object().cloned().unwrap_or_default()
}

/// An image, by the digest that its name stood for.
fn image(facts: &Facts, base: &Base) -> Map<String, Value> {
    match facts.pins.get(base) {
        Some(pinned) => source(pinned),
        None => source(&format!("docker-image://{}", base.describe())),
    }
}

impl Writer {
    fn push(
        &mut self,
        op: Map<String, Value>,
        platform: Option<Value>,
        inputs: &[String],
    ) -> String {
        let id = format!("step{}", self.steps.definition.len());
        let mut step = json!({"id": id});
        if !op.is_empty() {
            step["op"] = json!({"Op": op});
            if let Some(platform) = platform {
                step["op"]["platform"] = platform;
            }
        }
        if !inputs.is_empty() {
            step["inputs"] = json!(inputs);
        }
        self.steps.definition.push(step);
        id
    }

    fn number(&self, inputs: &mut Inputs, tree: Option<SourceTree>) -> i64 {
        inputs.number(tree.and_then(|it| self.ids.get(it.vertex)))
    }

    fn parent(&self, inputs: &mut Inputs, parent: Option<usize>) -> i64 {
        inputs.number(parent.and_then(|it| self.ids.get(it)))
    }

    fn run(&self, run: &RunOp, inputs: &mut Inputs) -> Map<String, Value> {
        let root = self.parent(inputs, run.parent);
        let mut mounts = vec![json!({"input": root, "dest": "/", "output": 0})];
        mounts.extend(run.mounts.iter().map(|it| self.mount(it, inputs)));
        let env = run
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let mut meta = json!({
            "args": run.args,
            "env": env.collect::<Vec<_>>(),
            "cwd": run.cwd,
        });
        if !run.user.is_empty() {
            meta["user"] = json!(run.user);
        }
        if !run.extra_hosts.is_empty() {
            let hosts = run.extra_hosts.iter();
            let hosts = hosts.map(|(host, ip)| json!({"Host": host, "IP": ip.to_string()}));
            meta["extraHosts"] = hosts.collect();
        }
        let mut exec = json!({"meta": meta, "mounts": mounts});
        match run.network {
            NetworkMode::Default => {}
            NetworkMode::Host => exec["network"] = json!(1),
            NetworkMode::None => exec["network"] = json!(2),
        }
        if run.security == SecurityMode::Insecure {
            exec["security"] = json!(1);
        }
        if !run.devices.is_empty() {
            let devices = run.devices.iter();
            exec["cdiDevices"] = devices
                .map(|it| json!({"name": it.name, "optional": !it.required}))
                .collect();
        }
        Map::from_iter([("exec".to_owned(), exec)])
    }

    fn mount(&self, mount: &MountOp, inputs: &mut Inputs) -> Value {
        let dest = &mount.target;
        match &mount.source {
            MountSource::Bind {
                from,
                path,
                read_write,
            } => json!({
                "input": self.number(inputs, *from),
                "selector": path,
                "dest": dest,
                "output": -1,
                "readonly": !read_write,
            }),
            MountSource::Cache {
                id,
                sharing,
                from,
                path,
                read_only,
                ..
            } => json!({
                "input": self.number(inputs, *from),
                "selector": path,
                "dest": dest,
                "output": -1,
                "readonly": read_only,
                "mountType": 3,
                "cacheOpt": {"ID": id, "sharing": *sharing as u8},
            }),
            MountSource::Tmpfs { size_bytes } => json!({
                "input": -1,
                "dest": dest,
                "output": -1,
                "mountType": 4,
                "TmpfsOpt": {"size": size_bytes.unwrap_or_default()},
            }),
            MountSource::Secret { id, required, .. } => json!({
                "input": -1,
                "dest": dest,
                "output": -1,
                "mountType": 1,
                "secretOpt": {"ID": id, "optional": !required},
            }),
            MountSource::Ssh { id, required, .. } => json!({
                "input": -1,
                "dest": dest,
                "output": -1,
                "mountType": 2,
                "SSHOpt": {"ID": id, "optional": !required},
            }),
        }
    }

    fn copy(&mut self, copy: &CopyOp, inputs: &mut Inputs) -> Map<String, Value> {
        let mut below = self.parent(inputs, copy.parent);
        let mut actions = Vec::new();
        for from in &copy.sources {
            let action = match from {
                CopySource::Inline { name, content } => json!({
                    "mkfile": {
                        "path": inside(&copy.dest, name),
                        "mode": 0o644,
                        "data": STANDARD.encode(content),
                    },
                }),
                CopySource::Tree { from, pattern, .. } => {
                    let second = self.number(inputs, *from);
                    copied(copy, pattern, second)
                }
                CopySource::Url { url, .. } => {
                    let id = self.push(source(&without_credentials(url)), None, &[]);
                    copied(copy, "/", inputs.number(Some(&id)))
                }
                CopySource::Git { url, .. } => {
                    let identifier = format!("git://{}", without_scheme(&without_credentials(url)));
                    let id = self.push(source(&identifier), None, &[]);
                    copied(copy, "/", inputs.number(Some(&id)))
                }
            };
            let (action, second) = match action.get("secondaryInput") {
                Some(second) => (action["action"].clone(), second.clone()),
                None => (action, json!(-1)),
            };
            let mut one = json!({"input": below, "secondaryInput": second, "output": 0});
            if let (Some(one), Some(action)) = (one.as_object_mut(), action.as_object()) {
                one.insert("Action".to_owned(), json!(action));
            }
            actions.push(one);
            // Each is put onto what those before it made.
            below = i64::try_from(inputs.0.len() + actions.len() - 1).unwrap_or(i64::MAX);
        }
        Map::from_iter([("file".to_owned(), json!({"actions": actions}))])
    }

    fn mkdir(&self, mkdir: &MkdirOp, inputs: &mut Inputs) -> Map<String, Value> {
        let below = self.parent(inputs, mkdir.parent);
        let action = json!({
            "input": below,
            "secondaryInput": -1,
            "output": 0,
            "Action": {"mkdir": {"path": mkdir.path, "mode": 0o755, "makeParents": true}},
        });
        Map::from_iter([("file".to_owned(), json!({"actions": [action]}))])
    }
}

fn copied(copy: &CopyOp, pattern: &str, second: i64) -> Value {
    let mut told = json!({
        "src": pattern,
        "dest": copy.dest,
        "followSymlink": true,
        "dirCopyContents": true,
        "createDestPath": true,
        "allowWildcard": true,
        "allowEmptyWildcard": true,
        "attemptUnpackDockerCompatibility": copy.unpack,
    });
    if let Some(owner) = &copy.chown {
        told["owner"] = json!(owner);
    }
    if let Some(mode) = &copy.chmod {
        told["modeStr"] = json!(mode);
    }
    if !copy.exclude.is_empty() {
        told["exclude_patterns"] = json!(copy.exclude);
    }
    json!({"action": {"copy": told}, "secondaryInput": second})
}

fn inside(dest: &str, name: &str) -> String {
    match dest.ends_with('/') {
        true => format!("{dest}{name}"),
        false => dest.to_owned(),
    }
}

fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}
