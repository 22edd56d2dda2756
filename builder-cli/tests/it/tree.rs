//! Reads an OCI layout back: checks its digests, applies its layers in memory, and lists the result.
//!
//! Written apart from `builder-core`, so that a mistake there is not repeated here. Layers are applied by
//! OCI image-spec, layer.md: whiteouts, opaque whiteouts, a file over a directory, hard links.
//!
//! A listing has one line a path: `path type mode uid:gid size digest`. In place of the digest, a text of at
//! most 80 bytes stands itself, quoted; a symlink shows `-> target`; a second name of a file `= first-name`;
//! what the base had and the image has not is `path removed`. Bytes of a path outside printable ASCII are `\xNN`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::fixture::sha256;

/// One path of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: &'static str,
    mode: u32,
    uid: u64,
    gid: u64,
    /// A file's bytes, a symlink's target, a device's numbers.
    content: Vec<u8>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// Names of one file have one number; no two other nodes have.
    inode: usize,
}

type Tree = BTreeMap<Vec<u8>, Node>;

/// An image of a layout, with all its digests checked.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) config: Value,
    /// Uncompressed layers, base first.
    layers: Vec<Vec<u8>>,
}

impl Image {
    /// Opens the only image of a layout directory, or the one with this `ref.name`.
    #[track_caller]
    pub(crate) fn open(layout: &Path, tag: Option<&str>) -> Self {
        let index = fs::read(layout.join("index.json"))
            .unwrap_or_else(|e| panic!("{}/index.json: {e}", layout.display()));
        let index: Value = serde_json::from_slice(&index).expect("index.json is JSON");
        let named = |d: &&Value| {
            tag.is_none_or(|tag| d["annotations"]["org.opencontainers.image.ref.name"] == tag)
        };
        let mut descriptor = index["manifests"]
            .as_array()
            .expect("manifests")
            .iter()
            .find(named)
            .expect("the image")
            .clone();
        let mut manifest: Value =
            serde_json::from_slice(&blob(layout, &descriptor)).expect("manifest");
        if let Some(inner) = manifest["manifests"].as_array() {
            descriptor = inner[0].clone();
            manifest = serde_json::from_slice(&blob(layout, &descriptor)).expect("manifest");
        }
        let config: Value =
            serde_json::from_slice(&blob(layout, &manifest["config"])).expect("config");
        let layers: Vec<Vec<u8>> = manifest["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .map(|layer| {
                let bytes = blob(layout, layer);
                match layer["mediaType"].as_str() {
                    Some(
                        "application/vnd.oci.image.layer.v1.tar+gzip"
                        | "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    ) => {
                        let mut out = Vec::new();
                        flate2::read::MultiGzDecoder::new(&bytes[..])
                            .read_to_end(&mut out)
                            .expect("gzip");
                        out
                    }
                    Some("application/vnd.oci.image.layer.v1.tar") => bytes,
                    other => panic!("unexpected layer media type {other:?}"),
                }
            })
            .collect();
        let image = Self { config, layers };
        let have: Vec<String> = image
            .layers
            .iter()
            .map(|l| format!("sha256:{}", sha256(l)))
            .collect();
        assert_eq!(
            image.diff_ids(),
            have,
            "diff_ids are the digests of the uncompressed layers"
        );
        let history = image.config["history"].as_array().expect("history");
        let filled = history.iter().filter(|h| h["empty_layer"] != true).count();
        assert_eq!(
            filled,
            have.len(),
            "one history entry without empty_layer for each layer: {history:?}"
        );
        image
    }

    pub(crate) fn diff_ids(&self) -> Vec<String> {
        let ids = self.config["rootfs"]["diff_ids"]
            .as_array()
            .expect("diff_ids");
        ids.iter()
            .map(|id| id.as_str().expect("text").to_owned())
            .collect()
    }

    /// The names of all entries of the layers above the first `below`, as they stand in the tars.
    pub(crate) fn entry_names(&self, below: usize) -> Vec<String> {
        let mut names = Vec::new();
        for layer in &self.layers[below..] {
            for entry in tar::Archive::new(&layer[..]).entries().expect("tar") {
                names.push(escape(&entry.expect("entry").path_bytes()));
            }
        }
        names
    }

    /// What this image changes in `base`, as a listing.
    pub(crate) fn changes_above(&self, base: Option<&Image>) -> String {
        let lower = base.map(|base| apply(&base.layers)).unwrap_or_default();
        let upper = apply(&self.layers);
        let mut lines: BTreeMap<&[u8], String> = BTreeMap::new();
        let mut names: BTreeMap<usize, &[u8]> = BTreeMap::new();
        for (path, node) in &upper {
            let first = *names.entry(node.inode).or_insert(path);
            let same = lower.get(path).is_some_and(|old| {
                Node {
                    inode: 0,
                    ..old.clone()
                } == Node {
                    inode: 0,
                    ..node.clone()
                }
            });
            if !same || (first != path.as_slice() && linked_anew(&lower, first, path)) {
                lines.insert(path, line(path, node, first));
            }
        }
        for path in lower.keys().filter(|path| !upper.contains_key(*path)) {
            let parent = path.iter().rposition(|b| *b == b'/').map(|at| &path[..at]);
            if parent.is_none_or(|parent| upper.contains_key(parent)) {
                lines.insert(path, format!("{} removed", escape(path)));
            }
        }
        lines
            .into_values()
            .fold(String::new(), |text, line| text + &line + "\n")
    }
}

fn linked_anew(lower: &Tree, first: &[u8], path: &[u8]) -> bool {
    lower.get(first).map(|n| n.inode) != lower.get(path).map(|n| n.inode)
}

/// Reads a blob and checks its digest and size.
#[track_caller]
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().expect("a digest");
    let hex = digest.strip_prefix("sha256:").expect("sha256");
    let bytes = fs::read(layout.join("blobs/sha256").join(hex))
        .unwrap_or_else(|e| panic!("blob {hex}: {e}"));
    assert_eq!(sha256(&bytes), hex, "a blob has the digest of its name");
    assert_eq!(
        descriptor["size"].as_u64(),
        Some(bytes.len() as u64),
        "size of {digest}"
    );
    bytes
}

fn apply(layers: &[Vec<u8>]) -> Tree {
    let mut tree = Tree::new();
    let mut inode = 0;
    for layer in layers {
        // Whiteouts speak of lower layers only, wherever in the tar they stand.
        let mut added: Vec<(Vec<u8>, Node)> = Vec::new();
        let mut archive = tar::Archive::new(&layer[..]);
        for entry in archive.entries().expect("tar") {
            let mut entry = entry.expect("a tar entry");
            let raw = entry.path_bytes().into_owned();
            let path = raw.strip_prefix(b"./").unwrap_or(&raw);
            let path = path.strip_suffix(b"/").unwrap_or(path).to_vec();
            assert!(
                !path.starts_with(b"/"),
                "absolute path {} in a layer",
                escape(&path)
            );
            if path.is_empty() || path == b"." {
                continue;
            }
            let cut = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
            let (dir, name) = path.split_at(cut);
            if name == b".wh..wh..opq" {
                tree.retain(|old, _| !(old.starts_with(dir) && old.len() > dir.len()));
                continue;
            }
            if let Some(name) = name.strip_prefix(b".wh.") {
                let gone = [dir, name].concat();
                remove(&mut tree, &gone);
                continue;
            }
            inode += 1;
            let header = entry.header().clone();
            let mut xattrs = BTreeMap::new();
            for pax in entry
                .pax_extensions()
                .ok()
                .flatten()
                .into_iter()
                .flatten()
                .flatten()
            {
                if let Some(key) = pax.key().ok().and_then(|k| k.strip_prefix("SCHILY.xattr.")) {
                    xattrs.insert(key.to_owned(), pax.value_bytes().to_vec());
                }
            }
            let mut node = Node {
                kind: "file",
                mode: header.mode().expect("mode") & 0o7777,
                uid: header.uid().expect("uid"),
                gid: header.gid().expect("gid"),
                content: Vec::new(),
                xattrs,
                inode,
            };
            for pax in entry
                .pax_extensions()
                .ok()
                .flatten()
                .into_iter()
                .flatten()
                .flatten()
            {
                let number = || {
                    pax.value()
                        .ok()
                        .and_then(|v| v.parse().ok())
                        .expect("a pax number")
                };
                match pax.key() {
                    Ok("uid") => node.uid = number(),
                    Ok("gid") => node.gid = number(),
                    _ => {}
                }
            }
            match header.entry_type() {
                tar::EntryType::Directory => node.kind = "dir",
                tar::EntryType::Symlink => {
                    node.kind = "symlink";
                    node.content = entry.link_name_bytes().expect("a target").into_owned();
                }
                tar::EntryType::Link => {
                    let target = entry.link_name_bytes().expect("a target").into_owned();
                    let target = target.strip_prefix(b"./").unwrap_or(&target);
                    let target = target.strip_prefix(b"/").unwrap_or(target);
                    let old = added
                        .iter()
                        .rev()
                        .find(|(p, _)| p == target)
                        .map(|(_, n)| n)
                        .or(tree.get(target));
                    node = old
                        .unwrap_or_else(|| panic!("hard link to missing {}", escape(target)))
                        .clone();
                }
                tar::EntryType::Fifo => node.kind = "fifo",
                kind @ (tar::EntryType::Char | tar::EntryType::Block) => {
                    node.kind = if kind == tar::EntryType::Char {
                        "char"
                    } else {
                        "block"
                    };
                    let (major, minor) = (header.device_major(), header.device_minor());
                    let number = |n: std::io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
                    node.content = format!("{},{}", number(major), number(minor)).into_bytes();
                }
                tar::EntryType::Regular | tar::EntryType::GNUSparse => {
                    entry.read_to_end(&mut node.content).expect("tar data");
                }
                other => panic!("unexpected tar entry type {other:?} of {}", escape(&path)),
            }
            added.push((path, node));
        }
        for (path, node) in added {
            if node.kind != "dir" {
                remove(&mut tree, &path);
            } else if tree.get(&path).is_some_and(|old| old.kind != "dir") {
                tree.remove(&path);
            }
            tree.insert(path, node);
        }
    }
    tree
}

fn remove(tree: &mut Tree, path: &[u8]) {
    tree.remove(path);
    let below = [path, b"/"].concat();
    tree.retain(|old, _| !old.starts_with(&below));
}

fn line(path: &[u8], node: &Node, first: &[u8]) -> String {
    let mut text = format!(
        "{} {} {:04o} {}:{}",
        escape(path),
        node.kind,
        node.mode,
        node.uid,
        node.gid
    );
    match node.kind {
        "file" => {
            let _ = write!(text, " {} {}", node.content.len(), shown(&node.content));
        }
        "symlink" => {
            let _ = write!(text, " - -> {}", escape(&node.content));
        }
        "char" | "block" => {
            let _ = write!(text, " {} -", escape(&node.content));
        }
        _ => text.push_str(" - -"),
    }
    for (name, value) in &node.xattrs {
        let _ = write!(text, " {name}={}", escape(value));
    }
    if first != path {
        let _ = write!(text, " = {}", escape(first));
    }
    text
}

/// A short text itself, else its digest, cut.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text)
            if text.len() <= 80
                && !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') =>
        {
            format!("{text:?}")
        }
        _ => format!("sha256:{}", &sha256(bytes)[..16]),
    }
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'\\' => text.push_str("\\\\"),
            0x21..=0x7e => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        text
    })
}
