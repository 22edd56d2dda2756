//! One look at a tree.

use super::files::Files;
use super::os::Os;
use super::package::Package;
use super::{apk, binary, cargo, dpkg, npm, python, rpm};
use crate::context::{ContextError, Tree};

/// What a tree has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Each once, in a fixed order.
    pub packages: Vec<Package>,
    pub os: Os,
    /// What could not be read, each with its path.
    pub warnings: Vec<String>,
}

/// Finds the packages of `tree`; an empty tree has none.
///
/// # Errors
/// A tree whose root cannot be read.
pub fn scan(tree: Option<&dyn Tree>) -> Result<Scanned, ContextError> {
    let Some(tree) = tree else {
        return Ok(Scanned::default());
    };
    tree.children(b"")?;
    let mut files = Files {
        tree,
        warnings: Vec::new(),
    };
    let mut packages = dpkg::packages(&mut files);
    packages.extend(apk::packages(&mut files));
    packages.extend(rpm::packages(&mut files));
    for node in files.all() {
        let path = String::from_utf8_lossy(&node.path).into_owned();
        packages.extend(python::packages(&mut files, &path, &node));
        packages.extend(npm::packages(&mut files, &path, &node));
        packages.extend(cargo::packages(&mut files, &path, &node));
        packages.extend(binary::packages(&mut files, &path, &node));
    }
    packages.sort();
    packages.dedup();
    let releases = ["etc/os-release", "usr/lib/os-release"];
    let os = releases
        .into_iter()
        .find_map(|path| files.text(path, 1 << 20));
    Ok(Scanned {
        packages,
        os: os.map(|text| Os::parse(&text)).unwrap_or_default(),
        warnings: files.warnings,
    })
}
