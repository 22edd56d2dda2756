//! COPY, ADD and WORKDIR: from looked-up sources to a layer in the store.

use super::file::{Accounts, Archives, Target, copy, make_directory};
use super::ground::{Ground, ground, shown};
use super::inputs::Inputs;
use super::job::Job;
use super::layers::worker;
use super::selection::Selection;
use super::{FileError, SolveErrorKind};
use crate::cache::{Cache, Layer};
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
    let by_name = |spec: &String| {
        let mut names = spec.split(':').filter(|name| !name.is_empty());
        names.any(|name| name.parse::<u32>().is_err())
    };
    match (
        op.link && op.chmod.is_none(),
        op.chown.as_ref().is_some_and(by_name),
    ) {
        (false, _) => Needs::Tree,
        (true, true) => Needs::Accounts,
        (true, false) => Needs::Nothing,
    }
}

/// Copies `selection` onto `parent` and returns the layer.
pub(super) async fn run_copy(
    job: &Job,
    op: &CopyOp,
    parent: &[Layer],
    selection: Selection,
) -> Result<Layer, SolveErrorKind> {
    let needs = needs(op);
    let ground = match needs {
        Needs::Nothing => None,
        _ if parent.is_empty() => None,
        _ => Some(ground(job, op.parent, parent).await?),
    };
    let (job, op, parent) = (job.clone(), op.clone(), parent.to_vec());
    tokio::task::spawn_blocking(move || {
        on_parent(&job, &parent, ground, needs, |target, accounts| {
            let owner = match &op.chown {
                Some(spec) => Some(owner(&job, accounts, spec)?),
                None => None,
            };
            let archives = Archives {
                spool_dir: job.inputs.store.tmp_dir(),
                max_bytes: job.inputs.options.max_layer_bytes,
            };
            copy(target, &op, &selection.sources, owner, archives)
        })
    })
    .await
    .map_err(worker)?
}

/// Makes a directory on `parent` and returns the layer.
pub(super) async fn run_mkdir(
    job: &Job,
    op: &MkdirOp,
    parent: &[Layer],
) -> Result<Layer, SolveErrorKind> {
    let ground = match parent {
        [] => None,
        parent => Some(ground(job, op.parent, parent).await?),
    };
    let (job, op, parent) = (job.clone(), op.clone(), parent.to_vec());
    tokio::task::spawn_blocking(move || {
        on_parent(&job, &parent, ground, Needs::Tree, |target, accounts| {
            let owner = if op.user.is_empty() {
                (0, 0)
            } else {
                owner(&job, accounts, &op.user)?
            };
            make_directory(target, &op.path, owner)
        })
    })
    .await
    .map_err(worker)?
}

/// Looks an owner up; a name that the image does not know is root, with a warning.
fn owner(job: &Job, accounts: &Accounts, spec: &str) -> Result<(u32, u32), FileError> {
    accounts.owner(spec, &mut |name| {
        job.inputs.events.emit(Event::Warning {
            vertex: Some(job.vertex),
            line: None,
            message: format!("the image knows no `{name}`: the files belong to root"),
        });
    })
}

fn on_parent(
    job: &Job,
    parent: &[Layer],
    ground: Option<Ground>,
    needs: Needs,
    change: impl FnOnce(&mut Target, &Accounts) -> Result<(), FileError>,
) -> Result<Layer, SolveErrorKind> {
    let inputs = &job.inputs;
    let root = ground
        .map(|ground| shown(job, ground, parent))
        .transpose()?;
    let below = root.map(|root| root.tree);
    let accounts = Accounts::read(below.as_deref());
    let clamp = inputs.plan.source_date_epoch;
    let now = clamp.unwrap_or(inputs.options.now);
    let mut target = Target::new(below.filter(|_| needs == Needs::Tree), now);
    change(&mut target, &accounts)?;
    let out = inputs.compressor.writer(job.leaves())?;
    let (out, written) = target.write(out, clamp)?;
    keep_blob(inputs, out, &written, parent)
}

/// Puts a written layer into the store, or, where the same change was made before, returns the earlier layer.
pub(super) fn keep_blob(
    inputs: &Inputs,
    out: LayerWriter,
    written: &Written,
    parent: &[Layer],
) -> Result<Layer, SolveErrorKind> {
    let cache = Cache::new(inputs.store.clone());
    if !inputs.options.no_cache
        && inputs.plan.source_date_epoch.is_none()
        && let Some(earlier) = cache.find_same(parent, written.content)
    {
        return Ok(earlier);
    }
    let size = out.commit(written.diff_id)?;
    let created = inputs.plan.source_date_epoch;
    let layer = Layer {
        diff_id: written.diff_id,
        blob: Descriptor::new(media_type::OCI_LAYER, written.diff_id.0, size),
        content: written.content,
        created: Some(created.unwrap_or(inputs.options.now)),
        origin: None,
    };
    cache.put_same(parent, &layer)?;
    Ok(layer)
}
