//! Crates: of a `Cargo.lock`, and of binaries that carry the list themselves (`cargo auditable`).

use std::io::Read;

use flate2::read::ZlibDecoder;
use serde::Deserialize;

use super::files::{Files, MAX_METADATA_BYTES, text};
use super::package::{Kind, Package};
use crate::context::Node;

/// What a list may unpack to, as its specification advises.
const MAX_LIST_BYTES: u64 = 8 << 20;

/// Both forms have these, under the same names.
#[derive(Deserialize)]
struct Lock {
    #[serde(default, rename = "package", alias = "packages")]
    packages: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    /// `build` for what only the build used.
    #[serde(default)]
    kind: Option<String>,
}

pub(super) fn packages(files: &mut Files<'_>, path: &str, node: &Node) -> Vec<Package> {
    if path.rsplit('/').next() != Some("Cargo.lock") {
        return Vec::new();
    }
    let Some(bytes) = files.read_node(node, MAX_METADATA_BYTES) else {
        return Vec::new();
    };
    match toml::from_str(&text(bytes)) {
        Ok(lock) => listed(lock, path),
        Err(error) => {
            files.warn(path, error.message());
            Vec::new()
        }
    }
}

/// Reads the section `.dep-v0`.
pub(super) fn audited(section: &[u8], path: &str) -> Result<Vec<Package>, String> {
    let mut json = Vec::new();
    let mut decoder = ZlibDecoder::new(section).take(MAX_LIST_BYTES + 1);
    decoder
        .read_to_end(&mut json)
        .map_err(|error| error.to_string())?;
    if json.len() as u64 > MAX_LIST_BYTES {
        return Err(format!(
            "its list of crates has more than {MAX_LIST_BYTES} bytes"
        ));
    }
    let lock: Lock = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    Ok(listed(lock, path))
}

fn listed(lock: Lock, path: &str) -> Vec<Package> {
    let used = |it: &Locked| it.kind.as_deref() != Some("build");
    let packages = lock.packages.iter().filter(|it| used(it));
    packages
        .map(|it| Package::new(Kind::Cargo, &it.name, &it.version, path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(packages: &[Package]) -> Vec<String> {
        let each = packages.iter();
        each.map(|it| format!("{} {}", it.name, it.version))
            .collect()
    }

    #[test]
    fn locks() {
        let text = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\
            dependencies = [\"b\"]\n[[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        let lock = toml::from_str(text).expect("a lock");
        assert_eq!(names(&listed(lock, "x")), ["a 1.0.0", "b 2.0.0"]);
    }

    #[test]
    fn audited_binaries() {
        let packed = |text: &[u8]| {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(text).expect("write");
            out.finish().expect("finish")
        };
        let json = br#"{"packages":[{"name":"a","version":"1.0.0","source":"local","root":true},
            {"name":"cc","version":"1.0.1","source":"crates.io","kind":"build"}]}"#;
        let found = audited(&packed(json), "x").expect("a list");
        assert_eq!(names(&found), ["a 1.0.0"]);
        let bomb = packed(&vec![
            b' ';
            usize::try_from(MAX_LIST_BYTES).expect("usize") + 2
        ]);
        for wrong in [&b"no zlib"[..], &packed(b"no json"), &bomb] {
            assert!(audited(wrong, "x").is_err());
        }
    }
}
