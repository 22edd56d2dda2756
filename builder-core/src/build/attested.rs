//! What is attested of what a build makes: asked for, gathered, and given to each output in its form.
//!
//! | output                                | attestations                                                    |
//! |---------------------------------------|-----------------------------------------------------------------|
//! | store, OCI layouts, registries        | a manifest beside the image's, in an index; with `referrers`, as OCI referrers too (the store, where any output asks) |
//! | trees of files                        | a file each, about every file of the tree                       |
//! | docker archives, engines              | none: they hold one image; a warning says so                    |

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::base_images::info;
use super::beside::Beside;
use super::context::NamedSource;
use super::deliver::Solution;
use super::error::{BuildError, WiderScanError, located};
use super::request::Build;
use crate::attest::provenance::{self, Facts, Material};
use crate::attest::{self, Attestation, sbom};
use crate::context::{NodeKind, Tree};
use crate::digest::{Digest, DigestWriter};
use crate::dockerfile;
use crate::dockerfile::ast::Kind;
use crate::image::time::{rfc3339, rfc3339_nanos};
use crate::image::{Descriptor, Platform, Reference};
use crate::plan::{Base, NetworkMode, Op, Plan};
use crate::progress::{Event, EventSink};
use crate::registry::{Resolved, Source};
use crate::solve::{Fetched, Inputs, SolveError, Solved, result_tree};
use crate::store::Store;

/// BuildKit's args for scans of more than the result.
const SCANS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Attested {
    pub(super) provenance: Option<provenance::Options>,
    pub(super) sbom: bool,
    /// Statements that the caller makes.
    pub(super) own: Vec<Attestation>,
    /// Names this build.
    pub(super) id: Option<String>,
}

impl Attested {
    pub(super) fn is_any(&self) -> bool {
        self.provenance.is_some() || self.sbom || !self.own.is_empty()
    }
}

impl Build {
    /// Says of each image how it was built.
    #[must_use]
    pub fn provenance(mut self, options: provenance::Options) -> Self {
        self.attested.provenance = Some(options);
        self
    }

    /// Says of each image which packages it has.
    #[must_use]
    pub fn sbom(mut self, wanted: bool) -> Self {
        self.attested.sbom = wanted;
        self
    }

    /// Adds a statement about the image of each platform, which an index then carries beside it.
    #[must_use]
    pub fn attestation(mut self, attestation: Attestation) -> Self {
        self.attested.own.push(attestation);
        self
    }

    /// Names this one build, in its provenance; else it is named after the time.
    #[must_use]
    pub fn invocation(mut self, id: impl Into<String>) -> Self {
        self.attested.id = Some(id.into());
        self
    }

    /// Refuses the args that ask for the packages of stages and contexts, where packages are asked for.
    pub(super) fn refuse_wider_scan(&self, file: &str, text: &str) -> Result<(), BuildError> {
        if !self.attested.sbom {
            return Ok(());
        }
        let Ok(ast) = dockerfile::parse(text) else {
            return Ok(());
        };
        let stages = ast.stages.iter().flat_map(|stage| &stage.instructions);
        let args = ast.global_args.iter().chain(stages);
        let args = args.filter_map(|it| match &it.kind {
            Kind::Arg(args) => Some(args),
            _ => None,
        });
        for arg in args.flatten() {
            let name = &arg.name.raw;
            let given = self.plan.build_args.get(name).map(String::as_str);
            let default = arg
                .default
                .as_ref()
                .map(|it| it.raw.trim_matches(['"', '\'']));
            let value = given.or(default).unwrap_or_default();
            let is_off = matches!(value, "" | "0" | "f" | "F" | "false" | "FALSE" | "False");
            if is_off || !SCANS.contains(&name.as_str()) {
                continue;
            }
            let error = WiderScanError { name: name.clone() };
            let mut located = located(error, file, text, Some(arg.name.span));
            let hint = "build the stage with --target, or set it to false";
            located.hint = Some(hint.to_owned());
            return Err(BuildError::WiderScan(Box::new(located)));
        }
        Ok(())
    }

    /// Gathers what a provenance tells, but the time of the end.
    pub(super) fn facts(
        &self,
        inputs: &Inputs,
        solved: &Solved,
        file: &str,
        text: &str,
        started: Duration,
    ) -> Facts {
        let plan = &inputs.plan;
        let context = self.prepared.get(&None).and_then(|it| it.material.clone());
        let mut materials: Vec<Material> = inputs
            .bases
            .iter()
            .map(|(base, found)| self.material(base, found))
            .collect();
        materials.extend(solved.fetched.iter().map(fetched));
        let mut locals = Vec::new();
        for vertex in &plan.vertices {
            let Op::Context { name } = &vertex.op else {
                continue;
            };
            match self.prepared.get(name).and_then(|it| it.material.clone()) {
                Some(material) => materials.push(material),
                None => locals.push(name.clone().unwrap_or_else(|| "context".to_owned())),
            }
        }
        if context.is_none() {
            locals.push("dockerfile".to_owned());
        }
        locals.sort();
        locals.dedup();
        let pins = inputs.bases.iter().map(|(base, found)| {
            let scheme = match found.source {
                Source::Registry { .. } | Source::Held { .. } => "docker-image",
                Source::Local { .. } if found.reference.is_some() => "docker-image",
                Source::Local { .. } => "oci-layout",
            };
            let pinned = info(base, found).pinned;
            (base.clone(), format!("{scheme}://{pinned}"))
        });
        let started_on = rfc3339_nanos(
            i64::try_from(started.as_secs()).unwrap_or(i64::MAX),
            started.subsec_nanos(),
        );
        let named = || {
            let seed = format!("{started_on} {}", std::process::id());
            Digest::of(seed.as_bytes()).hex()[..25].to_owned()
        };
        Facts {
            file: file.to_owned(),
            text: text.to_owned(),
            context,
            args: self.args(plan),
            locals,
            materials,
            pins: pins.collect(),
            builder_platform: self.plan.build_platform.clone(),
            builder_version: ("builder", env!("CARGO_PKG_VERSION")),
            id: self.attested.id.clone().unwrap_or_else(named),
            finished: started_on.clone(),
            started: started_on,
            plan: plan.clone(),
        }
    }

    /// What was asked for, in the names that BuildKit's frontend has for it.
    fn args(&self, plan: &Plan) -> BTreeMap<String, String> {
        let mut args = BTreeMap::new();
        for (name, value) in &self.plan.build_args {
            args.insert(format!("build-arg:{name}"), value.clone());
        }
        for (name, value) in &self.plan.labels {
            args.insert(format!("label:{name}"), value.clone());
        }
        for (name, source) in &self.named {
            args.insert(format!("context:{name}"), named(name, source));
        }
        if let Some(target) = &self.plan.target {
            args.insert("target".to_owned(), target.clone());
        }
        match self.plan.network {
            NetworkMode::Default => {}
            NetworkMode::Host => drop(args.insert("force-network-mode".into(), "host".into())),
            NetworkMode::None => drop(args.insert("force-network-mode".into(), "none".into())),
        }
        if !self.plan.extra_hosts.is_empty() {
            let hosts = self.plan.extra_hosts.iter();
            let hosts: Vec<String> = hosts.map(|(host, ip)| format!("{host}={ip}")).collect();
            args.insert("add-hosts".to_owned(), hosts.join(","));
        }
        if let Some(epoch) = plan.source_date_epoch {
            args.entry("build-arg:SOURCE_DATE_EPOCH".to_owned())
                .or_insert_with(|| epoch.to_string());
        }
        args
    }

    fn material(&self, base: &Base, found: &Resolved) -> Material {
        let platform = base.platform();
        let of = |name: &str| match name.parse() {
            Ok(reference) => Material::image(&reference, found.digest, platform),
            Err(_) => Material::layout(name, found.digest, platform),
        };
        match base {
            Base::Image { reference, .. } => of(reference),
            Base::Named { name, .. } => match self.named.get(name) {
                Some(NamedSource::Image(reference)) => {
                    Material::image(reference, found.digest, platform)
                }
                Some(NamedSource::Layout { path, .. }) => {
                    // Where it lay on this machine is nobody's business.
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    Material::layout(&name, found.digest, platform)
                }
                _ => of(name),
            },
        }
    }
}

fn named(name: &str, source: &NamedSource) -> String {
    match source {
        NamedSource::Dir(_) | NamedSource::Archive(_) => format!("local:{name}"),
        NamedSource::Image(reference) => format!("docker-image://{reference}"),
        NamedSource::Layout { .. } => format!("oci-layout://{name}"),
        NamedSource::Url(url) => crate::source::without_credentials(url),
        NamedSource::Git(url) => url.shown(),
        NamedSource::Stage(stage) => format!("target:{stage}"),
    }
}

fn fetched(fetched: &Fetched) -> Material {
    match fetched {
        Fetched::File { url, digest } => Material::download(url, *digest),
        Fetched::Commit { url, commit } => Material::commit(url, commit),
    }
}

/// Returns the time since the epoch.
pub(super) fn now() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Reads what each image has, and takes the time.
pub(super) fn gather(
    mut solutions: Vec<Solution>,
    names: &[Reference],
    events: &dyn EventSink,
) -> Result<Vec<Solution>, BuildError> {
    for solution in &mut solutions {
        solution.gather(names, events)?;
    }
    Ok(solutions)
}

impl Solution {
    /// Reads what the image has, and takes the time.
    fn gather(&mut self, names: &[Reference], events: &dyn EventSink) -> Result<(), BuildError> {
        let end = now();
        let seconds = i64::try_from(end.as_secs()).unwrap_or(i64::MAX);
        self.facts.finished = rfc3339_nanos(seconds, end.subsec_nanos());
        if !self.attested.sbom {
            return Ok(());
        }
        let fail = |error: SolveError| BuildError::Solve(Box::new(located(error, "", "", None)));
        let tree = result_tree(&self.inputs, &self.solved).map_err(fail)?;
        let about = sbom::About {
            name: names.first().map(Reference::familiar).unwrap_or_default(),
            // With an epoch, what is said of the same image is the same.
            created: rfc3339(self.inputs.plan.source_date_epoch.unwrap_or(seconds)),
            tool: format!(
                "{}-{}",
                self.facts.builder_version.0, self.facts.builder_version.1
            ),
            platform: self.platform().clone(),
            layers: self.solved.layers.iter().map(|it| it.diff_id).collect(),
        };
        let scanned = sbom::scan(tree.as_deref())?;
        for message in &scanned.warnings {
            events.emit(Event::Warning {
                vertex: None,
                line: None,
                message: format!("--sbom: {message}"),
            });
        }
        self.sbom = Some(sbom::attestation(&scanned, &about));
        Ok(())
    }

    /// Returns all that is said of the image, whose layers are these.
    pub(super) fn said(&self, layers: &[Descriptor]) -> Vec<Attestation> {
        let provenance = self.attested.provenance.iter();
        let provenance = provenance.map(|it| provenance::attestation(&self.facts, it, layers));
        let own = self.attested.own.iter().cloned();
        own.chain(self.sbom.clone()).chain(provenance).collect()
    }

    /// Puts what is said of the files beside them.
    pub(super) fn beside(
        &self,
        tree: Option<Arc<dyn Tree>>,
        store: &Store,
    ) -> Result<Option<Arc<dyn Tree>>, BuildError> {
        let mut attested = self.attested.clone();
        attested.provenance = attested.provenance.filter(|it| !it.inline_only);
        if !attested.is_any() {
            return Ok(tree);
        }
        let inline_only = |it: &Attestation| {
            let ours = self.attested.provenance.as_ref();
            ours.is_some_and(|ours| ours.inline_only && ours.file == it.file)
        };
        let said = self.said(&[]);
        let subject = files(tree.as_deref())?;
        let written = said.iter().filter(|it| !inline_only(it));
        let files = written.map(|it| (it.file.clone(), attest::statement(it, &subject)));
        let time = match self.inputs.plan.source_date_epoch {
            Some(epoch) => epoch,
            None => i64::try_from(now().as_secs()).unwrap_or(i64::MAX),
        };
        let beside = Beside::new(tree, files.collect(), time, store.tmp_dir())?;
        Ok(Some(Arc::new(beside)))
    }
}

/// Names every file of a tree by its digest.
fn files(tree: Option<&dyn Tree>) -> Result<Value, BuildError> {
    let mut subjects = Vec::new();
    let Some(tree) = tree else {
        return Ok(Value::Array(subjects));
    };
    for node in tree.walk(b"")? {
        if node.kind != NodeKind::File {
            continue;
        }
        let mut hash = DigestWriter::new(io::sink());
        let path = String::from_utf8_lossy(&node.path).into_owned();
        let file = tree.open(&node)?;
        io::copy(&mut file.take(node.stamp.size), &mut hash).map_err(|source| {
            BuildError::Attest {
                path: path.clone(),
                source,
            }
        })?;
        let (_, digest, _) = hash.finish();
        subjects.push(json!({"name": path, "digest": {"sha256": digest.hex()}}));
    }
    Ok(Value::Array(subjects))
}

/// Returns what a docker archive or an engine leaves out.
pub(super) fn left_out(place: &str) -> Event {
    Event::Warning {
        vertex: None,
        line: None,
        message: format!(
            "{place} takes one image and no attestations: write type=oci, or push, to keep them"
        ),
    }
}

/// Platforms as metadata names them.
pub(super) fn of_platform(key: &str, platform: &Platform, many: bool) -> String {
    match many {
        true => format!("{key}/{platform}"),
        false => key.to_owned(),
    }
}
