//! COPY, ADD and WORKDIR: from looked-up sources to a layer in the store.

use std::sync::Arc;

use super::file::{Accounts, Archives, Target, copy, make_directory};
use super::ground::{Ground, ground, shown};
use super::inputs::Inputs;
use super::job::Job;
use super::layers::worker;
use super::rebase::{Looks, Watched};
use super::selection::Selection;
use super::{FileError, SolveErrorKind};
use crate::cache::{Cache, Layer, Placed};
use crate::context::Tree;
use crate::digest::Digest;
use crate::export::LayerWriter;
use crate::image::{Descriptor, media_type};
use crate::layer::Written;
use crate::plan::{CopyOp, MkdirOp};
use crate::progress::Event;

/// What a step looks at in the tree that it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Tree,
    /// Who its users are, and no more.
    Accounts,
    /// Nothing: the layers below are not even fetched.
    Nothing,
}

/// A linked layer stands by itself, as in BuildKit: what is below its destination is not looked at.
fn needs(op: &CopyOp) -> Needs {
    match (
        op.link && op.chmod.is_none(),
        op.chown.as_deref().is_some_and(is_named),
    ) {
        (false, _) => Needs::Tree,
        (true, true) => Needs::Accounts,
        (true, false) => Needs::Nothing,
    }
}

/// Whether an owner is given by a name that the image must know.
fn is_named(spec: &str) -> bool {
    let mut names = spec.split(':').filter(|name| !name.is_empty());
    names.any(|name| name.parse::<u32>().is_err())
}

/// Copies `selection` onto `parent` and returns the layer.
pub(super) async fn run_copy(
    job: &Job,
    op: &CopyOp,
    parent: &[Layer],
    selection: Selection,
    placed: Option<Digest>,
) -> Result<Layer, SolveErrorKind> {
    let needs = needs(op);
    let ground = match needs {
        Needs::Nothing => None,
        _ if parent.is_empty() => None,
        _ => Some(ground(job, op.parent, parent).await?),
    };
    let (job, op, parent) = (job.clone(), op.clone(), parent.to_vec());
    let sources = selection.sources;
    tokio::task::spawn_blocking(move || {
        let below = Below { ground, needs };
        let made_by = &job;
        let change = move |target: &mut Target, accounts: &Owners| {
            let owner = match &op.chown {
                Some(spec) => Some(accounts.owner(made_by, spec)?),
                None => None,
            };
            let archives = Archives {
                spool_dir: made_by.inputs.store.tmp_dir(),
                max_bytes: made_by.inputs.options.max_layer_bytes,
            };
            copy(target, &op, sources, owner, archives)
        };
        on_parent(&job, &parent, below, placed, change)
    })
    .await
    .map_err(worker)?
}

/// Makes a directory on `parent` and returns the layer.
pub(super) async fn run_mkdir(
    job: &Job,
    op: &MkdirOp,
    parent: &[Layer],
    placed: Option<Digest>,
) -> Result<Layer, SolveErrorKind> {
    let ground = match parent {
        [] => None,
        parent => Some(ground(job, op.parent, parent).await?),
    };
    let (job, op, parent) = (job.clone(), op.clone(), parent.to_vec());
    tokio::task::spawn_blocking(move || {
        let needs = Needs::Tree;
        let below = Below { ground, needs };
        on_parent(&job, &parent, below, placed, |target, accounts| {
            let owner = if op.user.is_empty() {
                (0, 0)
            } else {
                accounts.owner(&job, &op.user)?
            };
            make_directory(target, &op.path, owner)
        })
    })
    .await
    .map_err(worker)?
}

/// What a step stands on.
struct Below {
    ground: Option<Ground>,
    needs: Needs,
}

/// The image's accounts, and a note of whom they were asked for.
struct Owners {
    accounts: Accounts,
    looks: Arc<Looks>,
}

impl Owners {
    /// Looks an owner up; a name that the image does not know is root, with a warning.
    fn owner(&self, job: &Job, spec: &str) -> Result<(u32, u32), FileError> {
        let mut unknown = false;
        let owner = self.accounts.owner(spec, &mut |name| {
            unknown = true;
            job.inputs.events.emit(Event::Warning {
                vertex: Some(job.vertex),
                line: None,
                message: format!("the image knows no `{name}`: the files belong to root"),
            });
        })?;
        if is_named(spec) {
            self.looks.owner(spec, owner, unknown);
        }
        Ok(owner)
    }
}

fn on_parent(
    job: &Job,
    parent: &[Layer],
    Below { ground, needs }: Below,
    placed: Option<Digest>,
    change: impl FnOnce(&mut Target, &Owners) -> Result<(), FileError>,
) -> Result<Layer, SolveErrorKind> {
    let inputs = &job.inputs;
    let root = ground
        .map(|ground| shown(job, ground, parent))
        .transpose()?;
    let looks = Arc::new(Looks::default());
    let below = root.map(|root| root.tree);
    let owners = Owners {
        accounts: Accounts::read(below.as_deref()),
        looks: looks.clone(),
    };
    let clamp = inputs.plan.source_date_epoch;
    let now = clamp.unwrap_or(inputs.options.now);
    let watched = below.filter(|_| needs == Needs::Tree).map(|tree| {
        let looks = looks.clone();
        Arc::new(Watched { tree, looks }) as Arc<dyn Tree>
    });
    // On nothing everything is made: that says nothing of what it would be on a tree.
    let tells = needs != Needs::Tree || watched.is_some();
    let mut target = Target::new(watched, now);
    change(&mut target, &owners)?;
    let mut out = inputs.compressor.writer(job.leaves())?;
    let outline = out.outline();
    let earlier = || inputs.compressor.earlier_tars();
    let layered = target.write(out, outline, earlier, clamp)?;
    let (mut out, written) = (layered.out, layered.written);
    out.note_parts(layered.marks);
    let layer = keep_blob(inputs, out, &written, parent, clamp)?;
    if let Some(key) = placed.filter(|_| tells)
        && let Some(looks) = looks.finish()
    {
        let layer = layer.clone();
        let placed = Placed { layer, looks };
        job.shared.cache.put_placed(&key, placed)?;
    }
    Ok(layer)
}

/// Puts a written layer, with times that are `clamped`, into the store, or, where the same change was made before, returns the
/// earlier layer.
pub(super) fn keep_blob(
    inputs: &Inputs,
    out: LayerWriter,
    written: &Written,
    parent: &[Layer],
    clamped: Option<i64>,
) -> Result<Layer, SolveErrorKind> {
    let cache = Cache::new(inputs.store.clone());
    if !inputs.options.no_cache
        && inputs.plan.source_date_epoch.is_none()
        && let Some(earlier) = cache.find_same(parent, written.content)
    {
        return Ok(earlier);
    }
    let size = out.commit(written.diff_id)?;
    let layer = Layer {
        diff_id: written.diff_id,
        blob: Descriptor::new(media_type::OCI_LAYER, written.diff_id.0, size),
        content: written.content,
        created: Some(clamped.unwrap_or(inputs.options.now)),
        clamped,
        origin: None,
    };
    cache.put_same(parent, &layer)?;
    Ok(layer)
}
