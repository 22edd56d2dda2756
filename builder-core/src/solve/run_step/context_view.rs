//! A bind mount of a build context: never a copy, and never an ignored file.
//!
//! | what is mounted                                     | how                                                     |
//! |-----------------------------------------------------|---------------------------------------------------------|
//! | nothing of it is left out, read-only                | the directory itself                                    |
//! | something is left out, or it is `rw`, or another    | an overlay: a layer with a whiteout for each thing that |
//! | mount's target lies in it                           | is left out, on the directory; writes are thrown away   |
//!
//! Where no overlay can be mounted it is a copy of what is not left out, after all; so it is where the store is inside
//! the context, as an overlay must not lie below itself.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT};

use super::seed;
use crate::context::{ContextError, Follow, Node, parent_path, resolve};
use crate::sandbox::MountSource;
use crate::snapshot::Active;
use crate::solve::SolveErrorKind;
use crate::solve::inputs::ContextDir;
use crate::solve::trees::Context;

/// How a part of a context is mounted.
pub(super) struct ContextView {
    pub(super) source: MountSource,
    /// Where an overlay's writes go.
    pub(super) scratch: Option<Active>,
}

/// Shows `path` of a context. `prepare` makes an empty place for an overlay, called if one is needed.
pub(super) fn context_view(
    context: &Context,
    dir: &ContextDir,
    path: &str,
    needs_overlay: bool,
    userxattr: bool,
    prepare: impl FnOnce() -> Result<Active, SolveErrorKind>,
) -> Result<ContextView, SolveErrorKind> {
    let tree = context.local.as_ref();
    let not_found = || ContextError::NotFound {
        pattern: path.to_owned(),
        place: crate::context::Tree::place(tree),
        ignored_by: crate::context::Tree::ignored_by(tree, path.trim_matches('/').as_bytes()),
        leads_out: false,
        near: None,
    };
    let node = resolve(tree, path.as_bytes(), Follow::Last)?.ok_or_else(not_found)?;
    let subpath = PathBuf::from(OsStr::from_bytes(&node.path));
    let root = dir
        .path
        .canonicalize()
        .map_err(|error| SolveErrorKind::io("find the build context", error))?;
    let mut left_out = tree.left_out_below(&node.path).peekable();
    if left_out.peek().is_none() && !needs_overlay {
        let source = MountSource::Inside {
            root,
            path: subpath,
        };
        return Ok(ContextView {
            source,
            scratch: None,
        });
    }
    let scratch = prepare()?;
    let inside = |path: &Path| path.canonicalize().is_ok_and(|it| it.starts_with(&root));
    if scratch.is_copy() || inside(&scratch.upper) {
        return copied(context, &node, scratch);
    }
    let mask = scratch.upper.with_file_name("mask");
    let failed = |error| SolveErrorKind::io("hide what the ignore file leaves out", error);
    let mut masks = Masks::new(&root, &mask).map_err(failed)?;
    for path in left_out {
        masks.hide(path).map_err(failed)?;
    }
    masks.finish().map_err(failed)?;
    // overlayfs shows the attributes of the uppermost layer's root
    dress(&scratch.upper, &std::fs::metadata(&root).map_err(failed)?).map_err(failed)?;
    let source = MountSource::Overlay {
        lowers: vec![mask, root],
        upper: scratch.upper.clone(),
        work: scratch.work.clone(),
        subpath,
        userxattr,
    };
    Ok(ContextView {
        source,
        scratch: Some(scratch),
    })
}

/// Without overlays what is seen is copied.
fn copied(context: &Context, node: &Node, scratch: Active) -> Result<ContextView, SolveErrorKind> {
    let path = match node.kind.is_dir() {
        true => {
            let path = String::from_utf8_lossy(&node.path);
            seed::fill(&context.known, &path, &scratch.upper)?;
            PathBuf::new()
        }
        false => {
            seed::one(&context.known, node, &scratch.upper, b"file")?;
            PathBuf::from("file")
        }
    };
    let root = scratch.upper.clone();
    Ok(ContextView {
        source: MountSource::Inside { root, path },
        scratch: Some(scratch),
    })
}

/// A layer of whiteouts. Its directories look like those that they lie over.
struct Masks<'a> {
    root: &'a Path,
    mask: &'a Path,
    made: Vec<PathBuf>,
}

impl<'a> Masks<'a> {
    fn new(root: &'a Path, mask: &'a Path) -> std::io::Result<Self> {
        DirBuilder::new().mode(0o700).create(mask)?;
        Ok(Masks {
            root,
            mask,
            made: vec![PathBuf::new()],
        })
    }

    fn hide(&mut self, path: &[u8]) -> std::io::Result<()> {
        self.directory(Path::new(OsStr::from_bytes(parent_path(path))))?;
        let whiteout = self.mask.join(OsStr::from_bytes(path));
        rustix::fs::mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0)?;
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> std::io::Result<()> {
        let place = self.mask.join(path);
        if path == Path::new("") || place.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        DirBuilder::new().mode(0o700).create(&place)?;
        self.made.push(path.to_owned());
        Ok(())
    }

    /// Deepest first, as making an entry changes a directory's time.
    fn finish(self) -> std::io::Result<()> {
        for path in self.made.iter().rev() {
            // gone meanwhile: then there is nothing to look like
            if let Ok(like) = std::fs::symlink_metadata(self.root.join(path)) {
                dress(&self.mask.join(path), &like)?;
            }
        }
        Ok(())
    }
}

fn dress(path: &Path, like: &Metadata) -> std::io::Result<()> {
    // an owner outside the id map cannot be given
    let _ = std::os::unix::fs::chown(path, Some(like.uid()), Some(like.gid()));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(like.mode() & 0o7777))?;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: like.mtime(),
            tv_nsec: like.mtime_nsec(),
        },
    };
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        &times,
        rustix::fs::AtFlags::empty(),
    )?)
}
