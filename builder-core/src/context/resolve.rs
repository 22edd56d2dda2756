//! Following symlinks inside a tree, never out of it.

use super::{ContextError, Lookup, Node, NodeKind, join_path, parent_path};

/// Whether a symlink in the last place is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    Last,
    Parents,
}

/// As the kernel's limit.
const MAX_LINKS: usize = 40;

/// Finds `path` in `tree` as a process with that root would: `..` stops at the root, absolute links start there.
///
/// # Errors
/// Where the disk cannot be read, or links lead round in a circle. A path that is not there is `None`.
pub fn resolve(
    tree: &dyn Lookup,
    path: &[u8],
    follow: Follow,
) -> Result<Option<Node>, ContextError> {
    let mut rest: Vec<Vec<u8>> = split(path);
    let mut at: Vec<u8> = Vec::new();
    let mut here = match tree.lookup(b"")? {
        Some(root) => root,
        None => return Ok(None),
    };
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == b".." {
            at = parent_path(&at).to_vec();
            let Some(node) = tree.lookup(&at)? else {
                return Ok(None);
            };
            here = node;
            continue;
        }
        if !here.kind.is_dir() {
            return Ok(None);
        }
        let next = join_path(&at, &part);
        let Some(node) = tree.lookup(&next)? else {
            return Ok(None);
        };
        if let NodeKind::Symlink(target) = &node.kind
            && (follow == Follow::Last || !rest.is_empty())
        {
            links += 1;
            if links > MAX_LINKS {
                return Err(ContextError::Loop {
                    path: String::from_utf8_lossy(path).into_owned(),
                });
            }
            if target.starts_with(b"/") {
                at.clear();
                if let Some(root) = tree.lookup(b"")? {
                    here = root;
                }
            }
            rest.extend(split(target));
            continue;
        }
        at = next;
        here = node;
    }
    Ok(Some(here))
}

/// Returns the parts of a path, last first.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}
