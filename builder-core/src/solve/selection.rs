//! The files that a COPY or a bind mount takes, and what they hold.

use std::collections::HashMap;
use std::sync::Arc;

use super::file::{FileError, Found, Source, SourceData};
use super::remotes::Remotes;
use super::trees::KnownTree;
use crate::cache::{FileEntry, FileList};
use crate::context::digests::Facts;
use crate::context::ignore::{ParentMatch, Patterns};
use crate::context::{
    ContextError, Follow, Node, NodeKind, Selected, parent_path, resolve, select,
};
use crate::digest::ContentDigest;
use crate::plan::{CopyOp, CopySource};

/// Sources looked up, with the digest of all that the step can see of them.
pub(super) struct Selection {
    pub(super) sources: Vec<Source>,
    pub(super) content: ContentDigest,
    pub(super) files: Arc<FileList>,
}

/// Looks up the sources of `op`; `trees` gives the tree of each, `None` for an empty one.
pub(super) fn gather(
    op: &CopyOp,
    trees: &[Option<KnownTree>],
    remotes: &Remotes,
) -> Result<Selection, FileError> {
    let exclude = exclude(op)?;
    let mut digest = Digester::new(op.chown.is_none());
    let mut sources = Vec::new();
    for (source, known) in op.sources.iter().zip(trees) {
        let data = match source {
            CopySource::Inline { name, content } => {
                digest.inline(name, content);
                SourceData::Inline {
                    name: name.clone(),
                    content: content.as_bytes().to_vec(),
                }
            }
            CopySource::Tree { pattern, .. } => {
                let Some(known) = known else {
                    return Err(ContextError::NotFound {
                        pattern: pattern.clone(),
                        place: "an empty stage",
                        ignored_by: None,
                        leads_out: false,
                        near: None,
                    }
                    .into());
                };
                let found = if op.parents {
                    with_parents(known, pattern)?
                } else {
                    plain(known, pattern)?
                };
                let mut selected = Vec::new();
                for one in found {
                    if let Some(one) = digest.found(known, one, exclude.as_ref(), op.parents)? {
                        selected.push(one);
                    }
                }
                SourceData::Tree {
                    tree: known.tree.clone(),
                    selected,
                }
            }
            CopySource::Url { .. } | CopySource::Git { .. } => {
                let Some(remote) = remotes.get(op, source) else {
                    continue;
                };
                let mut selected = Vec::new();
                for one in plain(&remote.known, &remote.pattern)? {
                    if let Some(one) = digest.found(&remote.known, one, exclude.as_ref(), false)? {
                        selected.push(one);
                    }
                }
                SourceData::Tree {
                    tree: remote.known.tree.clone(),
                    selected,
                }
            }
        };
        sources.push(Source { data });
    }
    Ok(Selection {
        sources,
        content: digest.files.digest(),
        files: Arc::new(digest.files),
    })
}

/// Says what is at `path` of a tree and below, for a bind mount.
pub(super) fn gather_mount(
    known: &KnownTree,
    path: &str,
) -> Result<(Node, ContentDigest, Arc<FileList>), FileError> {
    let mut digest = Digester::new(true);
    let found = plain(known, path)?;
    let node = found
        .first()
        .map(|found| found.selected.node.clone())
        .ok_or_else(|| ContextError::NotFound {
            pattern: path.to_owned(),
            place: known.tree.place(),
            ignored_by: None,
            leads_out: false,
            near: None,
        })?;
    for one in found {
        digest.found(known, one, None, false)?;
    }
    Ok((node, digest.files.digest(), Arc::new(digest.files)))
}

fn exclude(op: &CopyOp) -> Result<Option<Patterns>, FileError> {
    if op.exclude.is_empty() {
        return Ok(None);
    }
    Patterns::new(&op.exclude)
        .map(Some)
        .map_err(|error| FileError::Pattern {
            pattern: op.exclude.join(" "),
            reason: error.to_string(),
        })
}

fn plain(known: &KnownTree, pattern: &str) -> Result<Vec<Found>, ContextError> {
    let tree = known.tree.as_ref();
    select(tree, pattern)?
        .into_iter()
        .map(|selected| {
            let below = if selected.node.kind.is_dir() {
                tree.walk(&selected.node.path)?
            } else {
                Vec::new()
            };
            Ok(Found {
                selected,
                below,
                facts: Vec::new(),
                parents: Vec::new(),
            })
        })
        .collect()
}

/// `--parents`: the part before `/./` is the pivot, the rest a pattern in which `**` may stand.
fn with_parents(known: &KnownTree, pattern: &str) -> Result<Vec<Found>, FileError> {
    let tree = known.tree.as_ref();
    let (pivot, rest) = pattern.split_once("/./").unwrap_or(("", pattern));
    let not_found = || ContextError::NotFound {
        pattern: pattern.to_owned(),
        place: tree.place(),
        ignored_by: None,
        leads_out: false,
        near: None,
    };
    let base = resolve(tree, pivot.as_bytes(), Follow::Last)?.ok_or_else(not_found)?;
    let rest = rest.trim_matches('/').trim_start_matches("./").to_owned();
    let wild = rest.contains(['*', '?', '[']);
    let patterns = Patterns::new(&[rest]).map_err(|error| FileError::Pattern {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    })?;
    let skip = base.path.len() + usize::from(!base.path.is_empty());
    let mut out: Vec<Found> = Vec::new();
    let mut inside: Option<Vec<u8>> = None;
    for node in tree.walk(&base.path)? {
        if inside
            .as_ref()
            .is_some_and(|top| node.path.starts_with(top))
        {
            if let Some(found) = out.last_mut() {
                found.below.push(node);
            }
            continue;
        }
        if !matches(&patterns, &node.path[skip..]) {
            continue;
        }
        inside = node.kind.is_dir().then(|| [&node.path[..], b"/"].concat());
        let mut parents = Vec::new();
        let mut parent = parent_path(&node.path);
        while parent.len() > base.path.len() {
            parents.extend(tree.lookup(parent)?);
            parent = parent_path(parent);
        }
        parents.reverse();
        let name = node.path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        out.push(Found {
            selected: Selected {
                name: name.to_vec(),
                node: Node::clone(&node),
            },
            below: Vec::new(),
            facts: Vec::new(),
            parents,
        });
    }
    if out.is_empty() && !wild {
        return Err(not_found().into());
    }
    Ok(out)
}

/// Lists what a step sees of its sources.
struct Digester {
    owners: bool,
    files: FileList,
}

impl Digester {
    fn new(owners: bool) -> Self {
        Digester {
            owners,
            files: FileList::default(),
        }
    }

    fn inline(&mut self, name: &str, content: &str) {
        self.files.group(b"", false);
        self.files.push(&FileEntry {
            path: name.as_bytes(),
            kind: "heredoc",
            content: Some(ContentDigest::of(content.as_bytes())),
            ..FileEntry::default()
        });
    }

    /// Adds what was found, without what is excluded; `None` where all of it is.
    fn found(
        &mut self,
        known: &KnownTree,
        mut found: Found,
        exclude: Option<&Patterns>,
        parents: bool,
    ) -> Result<Option<Found>, FileError> {
        let top = &found.selected.node.path;
        let is_dir = found.selected.node.kind.is_dir();
        let skip = if parents {
            found
                .parents
                .first()
                .map_or_else(|| parent_path(top).len(), |it| parent_path(&it.path).len())
        } else {
            top.len()
        };
        let relative = |path: &[u8]| skip + usize::from(path.get(skip) == Some(&b'/'));
        if let Some(exclude) = exclude {
            let name = if parents {
                &top[relative(top)..]
            } else {
                &found.selected.name
            };
            if (parents || !is_dir) && matches(exclude, name) {
                return Ok(None);
            }
            found
                .below
                .retain(|node| !matches(exclude, &node.path[relative(&node.path)..]));
        }
        let nodes: Vec<&Node> = found.nodes().collect();
        let facts = known.digests.facts(known.tree.as_ref(), &nodes)?;
        let mut links: HashMap<(u64, u64), &[u8]> = HashMap::new();
        let has_owners = self.owners && known.tree.has_owners();
        let below = match is_dir || parents {
            true => &top[..skip],
            false => parent_path(top),
        };
        self.files.group(below, is_dir);
        self.files.reserve(nodes.iter().map(|node| node.path.len()));
        for (at, (node, facts)) in nodes.iter().zip(facts.iter().flatten()).enumerate() {
            if at == 0 && is_dir && !parents {
                // The directory itself is not copied, only what is in it.
                continue;
            }
            let mut link = None;
            if node.links > 1 && node.kind == NodeKind::File {
                let inode = (node.stamp.device, node.stamp.inode);
                link = links.get(&inode).copied();
                let own = &node.path[relative(&node.path)..];
                links.entry(inode).or_insert(own);
            }
            let seen_as = if at == 0 && !parents {
                &found.selected.name[..]
            } else {
                &node.path[relative(&node.path)..]
            };
            let entry = FileEntry {
                link,
                ..describe(node, facts, has_owners)
            };
            self.files.push(&FileEntry {
                path: seen_as,
                ..entry
            });
        }
        let nothing = Facts::default();
        for parent in &found.parents {
            self.files.push(&FileEntry {
                path: &parent.path[relative(&parent.path)..],
                ..describe(parent, &nothing, has_owners)
            });
        }
        found.facts = facts;
        Ok(Some(found))
    }
}

/// Returns a node's attributes; never its times.
fn describe<'a>(node: &'a Node, facts: &'a Facts, has_owners: bool) -> FileEntry<'a> {
    let is_link = matches!(node.kind, NodeKind::Symlink(_));
    FileEntry {
        kind: node.kind.word(),
        mode: (!is_link).then_some(node.mode),
        owner: has_owners.then_some((node.uid, node.gid)),
        device: match node.kind {
            NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => {
                Some((major, minor))
            }
            _ => None,
        },
        content: facts.content,
        target: match &node.kind {
            NodeKind::Symlink(target) => Some(target),
            _ => None,
        },
        xattrs: Some(&facts.xattrs),
        ..FileEntry::default()
    }
}

/// Whether `path`, or a directory above it, is matched.
fn matches(patterns: &Patterns, path: &[u8]) -> bool {
    let mut state = ParentMatch::default();
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    for end in ends.map(|(at, _)| at) {
        state = patterns.matches_with_parent(&path[..end], &state).1;
    }
    patterns.matches_with_parent(path, &state).0
}
