//! What a source of COPY means: a path, or a pattern with `*`, `?` and `[…]` in any of its parts.

use super::ignore::Glob;
use super::{ContextError, Follow, Node, Tree, join_path, resolve};

/// One path that a source stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The last part of the path as it was asked for; a symlink's own name, not its target's.
    pub name: Vec<u8>,
    /// Where it is, symlinks followed.
    pub node: Node,
}

/// Finds what `pattern` stands for in `tree`, in byte order. A pattern with wildcards may find nothing.
///
/// # Errors
/// Where a plain path is not there, a pattern is malformed, or the disk cannot be read.
pub fn select(tree: &dyn Tree, pattern: &str) -> Result<Vec<Selected>, ContextError> {
    let clean = clean(pattern);
    let parts: Vec<&str> = clean.split('/').filter(|part| !part.is_empty()).collect();
    let mut globs = Vec::new();
    for part in &parts {
        globs.push(Glob::new(part).map_err(|error| ContextError::Pattern {
            file: format!("`{pattern}`"),
            reason: error.to_string(),
        })?);
    }
    if globs.iter().all(Glob::is_literal) {
        let literals: Vec<&str> = globs.iter().map(Glob::literal).collect();
        let path = literals.join("/").into_bytes();
        let Some(node) = resolve(tree, &path, Follow::Last)? else {
            return Err(not_found(tree, pattern, &path));
        };
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        let name = name.to_vec();
        return Ok(vec![Selected { name, node }]);
    }
    let mut out = Vec::new();
    descend(tree, b"", &globs, &mut out)?;
    Ok(out)
}

/// Goes through the parts that may match; symlinks on the way are followed.
fn descend(
    tree: &dyn Tree,
    at: &[u8],
    globs: &[Glob],
    out: &mut Vec<Selected>,
) -> Result<(), ContextError> {
    let Some((glob, rest)) = globs.split_first() else {
        return Ok(());
    };
    for child in tree.children(at)?.iter() {
        let name = child.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        if !glob.matches(name) {
            continue;
        }
        let path = join_path(at, name);
        let Some(node) = resolve(tree, &path, Follow::Last)? else {
            continue;
        };
        if rest.is_empty() {
            let name = name.to_vec();
            out.push(Selected { name, node });
        } else if node.kind.is_dir() {
            descend(tree, &node.path, rest, out)?;
        }
    }
    Ok(())
}

/// Removes `.`, `..` and doubled slashes; nothing is above the root.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn not_found(tree: &dyn Tree, pattern: &str, path: &[u8]) -> ContextError {
    let parent = super::parent_path(path);
    let wanted = String::from_utf8_lossy(path).into_owned();
    let near = tree
        .children(parent)
        .unwrap_or_default()
        .iter()
        .map(|node| String::from_utf8_lossy(&node.path).into_owned())
        .filter(|name| *name != wanted && is_near(name, &wanted))
        .min();
    ContextError::NotFound {
        pattern: pattern.to_owned(),
        place: tree.place(),
        ignored_by: tree.ignored_by(path),
        leads_out: matches!(tree.lookup(path), Ok(Some(_))),
        near,
    }
}

/// Whether two names differ by case, or by one letter put in, left out or changed.
fn is_near(a: &str, b: &str) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = |skip_a: usize, skip_b: usize| {
        a[(head + skip_a).min(a.len())..] == b[(head + skip_b).min(b.len())..]
    };
    a.len().abs_diff(b.len()) <= 1 && (tail(1, 1) || tail(1, 0) || tail(0, 1))
}
