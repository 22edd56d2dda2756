//! The predicate: SLSA v1, and v0.2 for those who read that.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::steps::{Steps, steps};
use super::{Facts, Material, Mode, Options, Version};
use crate::dockerfile::without_userinfo;
use crate::image::Descriptor;
use crate::plan::{MountSource, NetworkMode, Op, Plan};

/// BuildKit's name for builds whose parameters are these.
const BUILD_TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";
const FRONTEND: &str = "dockerfile.v0";

/// What both versions tell.
struct Told {
    config_source: Map<String, Value>,
    request: Value,
    request_complete: bool,
    materials: Vec<Value>,
    materials_complete: bool,
    hermetic: bool,
    build_config: Option<Value>,
    metadata: Value,
}

/// Returns the predicate; `layers` are those of the image as it is exported, base first.
pub fn predicate(facts: &Facts, options: &Options, layers: &[Descriptor]) -> Value {
    let told = told(facts, options.mode, layers, options.version);
    match options.version {
        Version::V1 => v1(facts, options, told),
        Version::V02 => v02(facts, options, told),
    }
}

fn told(facts: &Facts, mode: Mode, layers: &[Descriptor], version: Version) -> Told {
    let is_max = mode == Mode::Max;
    let secret = |key: &str| key.starts_with("build-arg:") || key.starts_with("label:");
    let args: BTreeMap<&String, &String> = facts
        .args
        .iter()
        .filter(|(key, _)| is_max || !secret(key))
        .collect();
    let locals = facts.locals.iter().map(|name| json!({"name": name}));
    let mut request = json!({
        "frontend": FRONTEND,
        "args": args,
        "locals": locals.collect::<Vec<_>>(),
    });
    if is_max {
        let (secrets, ssh) = needs(&facts.plan);
        for (key, needs) in [("secrets", secrets), ("ssh", ssh)] {
            if !needs.is_empty() {
                request[key] = Value::Array(needs);
            }
        }
    }
    let path = match version {
        Version::V1 => "path",
        Version::V02 => "entryPoint",
    };
    let mut config_source = Map::new();
    if let Some(Material {
        uri,
        algorithm,
        digest,
        ..
    }) = &facts.context
    {
        config_source.insert("uri".to_owned(), json!(uri));
        config_source.insert("digest".to_owned(), json!({ *algorithm: digest }));
    }
    config_source.insert(path.to_owned(), json!(facts.file));
    let mut materials: Vec<&Material> = facts.materials.iter().chain(&facts.context).collect();
    materials.sort();
    materials.dedup();
    let network = facts.plan.vertices.iter().any(|vertex| match &vertex.op {
        Op::Run(run) => run.network != NetworkMode::None,
        _ => false,
    });
    let materials_complete = facts.locals.is_empty();
    let steps = is_max.then(|| steps(facts));
    Told {
        request_complete: args.len() == facts.args.len(),
        config_source,
        request,
        materials: materials
            .into_iter()
            .map(|it| json!({"uri": it.uri, "digest": {it.algorithm: it.digest}}))
            .collect(),
        materials_complete,
        hermetic: materials_complete && !network,
        metadata: match &steps {
            Some(steps) => metadata(facts, steps, layers),
            None => json!({}),
        },
        build_config: steps.map(|it| json!({"llbDefinition": it.definition})),
    }
}

fn v1(facts: &Facts, options: &Options, told: Told) -> Value {
    let mut internal = json!({"builderPlatform": facts.builder_platform.to_string()});
    if let Some(config) = told.build_config {
        internal["buildConfig"] = config;
    }
    let mut metadata = json!({
        "invocationId": facts.id,
        "startedOn": facts.started,
        "finishedOn": facts.finished,
        "buildkit_metadata": told.metadata,
        "buildkit_completeness": {
            "request": told.request_complete,
            "resolvedDependencies": told.materials_complete,
        },
        "buildkit_reproducible": options.reproducible,
    });
    if told.hermetic {
        metadata["buildkit_hermetic"] = json!(true);
    }
    let (name, version) = facts.builder_version;
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": {
                "configSource": told.config_source,
                "request": told.request,
            },
            "internalParameters": internal,
            "resolvedDependencies": told.materials,
        },
        "runDetails": {
            "builder": {"id": options.builder_id, "version": {name: version}},
            "metadata": metadata,
        },
    })
}

fn v02(facts: &Facts, options: &Options, told: Told) -> Value {
    let mut metadata = json!({
        "buildInvocationID": facts.id,
        "buildStartedOn": facts.started,
        "buildFinishedOn": facts.finished,
        "completeness": {
            "parameters": told.request_complete,
            "environment": true,
            "materials": told.materials_complete,
        },
        "reproducible": options.reproducible,
        "https://mobyproject.org/buildkit@v1#metadata": told.metadata,
    });
    if told.hermetic {
        metadata["https://mobyproject.org/buildkit@v1#hermetic"] = json!(true);
    }
    let mut predicate = json!({
        "builder": {"id": options.builder_id},
        "buildType": BUILD_TYPE_V02,
        "invocation": {
            "configSource": told.config_source,
            "parameters": told.request,
            "environment": {"platform": facts.builder_platform.to_string()},
        },
        "materials": told.materials,
        "metadata": metadata,
    });
    if let Some(config) = told.build_config {
        predicate["buildConfig"] = config;
    }
    predicate
}

/// Returns the secrets and the ssh agents that steps ask for, each id once.
fn needs(plan: &Plan) -> (Vec<Value>, Vec<Value>) {
    let (mut secrets, mut ssh) = (BTreeMap::new(), BTreeMap::new());
    for vertex in &plan.vertices {
        let Op::Run(run) = &vertex.op else {
            continue;
        };
        for mount in &run.mounts {
            let (known, id, required) = match &mount.source {
                MountSource::Secret { id, required, .. } => (&mut secrets, id, *required),
                MountSource::Ssh { id, required, .. } => (&mut ssh, id, *required),
                _ => continue,
            };
            *known.entry(id.as_str()).or_insert(false) |= required;
        }
    }
    let told = |needs: BTreeMap<&str, bool>| {
        let each = needs.into_iter().map(|(id, required)| match required {
            true => json!({"id": id}),
            false => json!({"id": id, "optional": true}),
        });
        each.collect()
    };
    (told(secrets), told(ssh))
}

/// The Dockerfile, where each step stands in it, and which layers the result has.
fn metadata(facts: &Facts, steps: &Steps, layers: &[Descriptor]) -> Value {
    let locations: BTreeMap<&String, Value> = steps
        .lines
        .iter()
        .map(|(id, (first, last))| {
            let range = json!({"start": {"line": first}, "end": {"line": last}});
            (id, json!({"locations": [{"ranges": [range]}]}))
        })
        .collect();
    let mut metadata = json!({
        "source": {
            "locations": locations,
            "infos": [{
                "filename": facts.file,
                "language": "Dockerfile",
                "data": STANDARD.encode(without_userinfo(&facts.text)),
            }],
        },
    });
    if let Some(target) = &steps.target
        && !layers.is_empty()
    {
        let plain: Vec<Value> = layers
            .iter()
            .map(|it| json!({"mediaType": it.media_type, "digest": it.digest.to_string(), "size": it.size}))
            .collect();
        metadata["layers"] = json!({format!("{target}:0"): [plain]});
    }
    metadata
}
