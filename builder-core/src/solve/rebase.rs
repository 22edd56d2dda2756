//! The same layer on another tree: a COPY or a WORKDIR depends on little of what it stands on, and where that is the same on a
//! new base, its earlier layer is put there as it is. Nothing is read or written again.
//!
//! What it depends on is not reasoned about: it is what the step asked of the tree below while it ran ([`Watched`]), kept
//! with the layer and asked again. A linked layer asks nothing.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::Accounts;
use super::ground::{ground, shown};
use super::job::Job;
use super::layers::worker;
use super::selection::Selection;
use super::{SolveErrorKind, keys};
use crate::cache::{Layer, Look, LookedAt as Place, Placed};
use crate::context::{ContextError, Lookup, Node, NodeKind, Tree, Xattrs, parent_path};
use crate::digest::{ContentDigest, Digest};
use crate::plan::{Input, Op};

/// A step with more questions than this is run again.
const MAX_LOOKS: usize = 4096;

/// Returns the key of all that a step does, whatever it stands on.
pub(super) fn key(job: &Job, index: Input, selection: Option<&Selection>) -> Option<Digest> {
    let seen = selection.map(|it| (it.content, it.files.clone()));
    keys::placed(&job.inputs.plan, index, &[seen])
}

/// Returns the layer that the step has once put on a tree like `parent`.
pub(super) async fn find(
    job: &Job,
    op: &Op,
    key: &Digest,
    parent: &[Layer],
) -> Result<Option<Layer>, SolveErrorKind> {
    let placed = job.shared.cache.find_placed(key);
    let asks_nothing = |it: &Placed| it.looks.is_empty();
    if placed.is_empty() || placed.iter().any(asks_nothing) {
        return Ok(placed.into_iter().find(asks_nothing).map(|it| it.layer));
    }
    if parent.is_empty() {
        return Ok(None);
    }
    let ground = ground(job, op.parent(), parent).await?;
    let (job, parent) = (job.clone(), parent.to_vec());
    let find = move || {
        let tree = shown(&job, ground, &parent)?.tree;
        let same = |placed: &Placed| placed.looks.iter().all(|look| holds(tree.as_ref(), look));
        Ok(placed.into_iter().find(same).map(|it| it.layer))
    };
    tokio::task::spawn_blocking(find).await.map_err(worker)?
}

/// Whether the tree answers as the one did that was asked first.
fn holds(tree: &dyn Tree, look: &Look) -> bool {
    let found = match &look.at {
        Place::Path(path) => tree
            .lookup(path.as_bytes())
            .map(|node| node.map_or_else(String::new, |it| told(&it))),
        Place::Xattrs(path) => match tree.lookup(path.as_bytes()) {
            Ok(Some(node)) => tree.xattrs(&node).map(|it| attributes(&it)),
            _ => return false,
        },
        Place::Owner(spec) => {
            let mut unknown = false;
            let owner = Accounts::read(Some(tree)).owner(spec, &mut |_| unknown = true);
            match owner {
                // one that is not known is told of by the step itself
                Ok(owner) if !unknown => Ok(owner_told(owner)),
                _ => return false,
            }
        }
    };
    found.is_ok_and(|found| found == look.found)
}

/// All of a node that can get into a layer; its content does not, but for a file that is linked to, which is never kept.
fn told(node: &Node) -> String {
    let Node {
        path,
        kind,
        mode,
        uid,
        gid,
        mtime,
        links: _,
        stamp: _,
    } = node;
    let what = match kind {
        NodeKind::Symlink(target) => format!(" {}", ContentDigest::of(target)),
        NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
            format!(" {major}:{minor}")
        }
        NodeKind::File | NodeKind::Directory | NodeKind::Fifo | NodeKind::Socket => String::new(),
    };
    // The root's own time is in no layer: it is when somebody unpacked it.
    let time = if path.is_empty() { &0 } else { mtime };
    format!("{} {mode:o} {uid}:{gid} {time}{what}", kind.word())
}

fn attributes(xattrs: &Xattrs) -> String {
    if xattrs.is_empty() {
        return String::new();
    }
    let mut hasher = blake3::Hasher::new();
    for bytes in xattrs.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    ContentDigest(*hasher.finalize().as_bytes()).to_string()
}

fn owner_told((uid, gid): (u32, u32)) -> String {
    format!("{uid}:{gid}")
}

/// What was asked of a tree.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    looks: BTreeMap<Place, String>,
    /// Places where nothing is, and so nothing below.
    absent: HashSet<Vec<u8>>,
    /// Something was asked that is not kept.
    more: bool,
}

impl Looks {
    fn with<T>(&self, work: impl FnOnce(&mut Asked) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes whom `spec` was found to mean; `unknown`: the tree knows no such name.
    pub(super) fn owner(&self, spec: &str, owner: (u32, u32), unknown: bool) {
        self.with(|asked| {
            asked.more |= unknown;
            let at = Place::Owner(spec.to_owned());
            asked.looks.insert(at, owner_told(owner));
        });
    }

    /// Returns all of them; `None` where they are not all there is.
    pub(super) fn finish(&self) -> Option<Vec<Look>> {
        self.with(|asked| {
            let whole = !asked.more && asked.looks.len() <= MAX_LOOKS;
            let looks = std::mem::take(&mut asked.looks).into_iter();
            whole.then(|| looks.map(|(at, found)| Look { at, found }).collect())
        })
    }
}

impl Asked {
    fn note(&mut self, path: &[u8], place: fn(String) -> Place, found: String) {
        if self.more || self.looks.len() > MAX_LOOKS {
            return;
        }
        match String::from_utf8(path.to_vec()) {
            Ok(path) => {
                self.looks.insert(place(path), found);
            }
            Err(_) => self.more = true,
        }
    }
}

/// A tree that notes what it is asked.
pub(super) struct Watched {
    pub(super) tree: Arc<dyn Tree>,
    pub(super) looks: Arc<Looks>,
}

impl Lookup for Watched {
    fn lookup(&self, path: &[u8]) -> Result<Option<Node>, ContextError> {
        let below_nothing = |asked: &mut Asked| {
            let mut above = std::iter::successors(Some(parent_path(path)), |at| {
                (!at.is_empty()).then(|| parent_path(at))
            });
            !asked.absent.is_empty() && above.any(|at| asked.absent.contains(at))
        };
        if self.looks.with(below_nothing) {
            return Ok(None);
        }
        let found = self.tree.lookup(path)?;
        self.looks.with(|asked| match &found {
            Some(node) => asked.note(path, Place::Path, told(node)),
            None => {
                asked.absent.insert(path.to_vec());
                asked.note(path, Place::Path, String::new());
            }
        });
        Ok(found)
    }
}

impl Watched {
    /// What is asked now would be too much to keep.
    fn all(&self) -> &dyn Tree {
        self.looks.with(|asked| asked.more = true);
        self.tree.as_ref()
    }
}

impl Tree for Watched {
    fn children(&self, path: &[u8]) -> Result<Arc<[Node]>, ContextError> {
        self.all().children(path)
    }

    fn open(&self, node: &Node) -> Result<File, ContextError> {
        self.all().open(node)
    }

    fn open_with_xattrs(&self, node: &Node) -> Result<(File, Xattrs), ContextError> {
        self.all().open_with_xattrs(node)
    }

    fn xattrs(&self, node: &Node) -> Result<Xattrs, ContextError> {
        let found = self.tree.xattrs(node)?;
        self.looks
            .with(|asked| asked.note(&node.path, Place::Xattrs, attributes(&found)));
        Ok(found)
    }

    fn place(&self) -> &'static str {
        self.tree.place()
    }

    fn has_owners(&self) -> bool {
        self.tree.has_owners()
    }

    fn ignored_by(&self, path: &[u8]) -> Option<String> {
        self.all().ignored_by(path)
    }
}
