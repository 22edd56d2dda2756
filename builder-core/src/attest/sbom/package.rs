//! A package, whoever manages it.

use std::collections::BTreeMap;

use super::os::Os;
use crate::attest::purl::Purl;

/// Who manages a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Deb,
    Apk,
    Rpm,
    Pypi,
    Npm,
    Cargo,
    Golang,
}

impl Kind {
    /// The word of package URLs.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Deb => "deb",
            Kind::Apk => "apk",
            Kind::Rpm => "rpm",
            Kind::Pypi => "pypi",
            Kind::Npm => "npm",
            Kind::Cargo => "cargo",
            Kind::Golang => "golang",
        }
    }

    /// Whether it is the distribution's own, whose name is then part of what the package is.
    fn is_of_os(self) -> bool {
        matches!(self, Kind::Deb | Kind::Apk | Kind::Rpm)
    }
}

/// A package of the image. Text is as its manager has it; empty where that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub kind: Kind,
    /// With its scope or path: `@scope/name`, `golang.org/x/sys`.
    pub name: String,
    /// Whole: epoch and release included.
    pub version: String,
    pub architecture: String,
    /// One expression, or the names of all licences.
    pub licenses: Vec<String>,
    /// `Name <address>`, or a vendor.
    pub supplier: String,
    pub homepage: String,
    /// What it was built from, where that has another name.
    pub upstream: String,
    /// The file that tells of it.
    pub found_in: String,
}

impl Package {
    pub(super) fn new(kind: Kind, name: &str, version: &str, found_in: &str) -> Self {
        Package {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: String::new(),
            licenses: Vec::new(),
            supplier: String::new(),
            homepage: String::new(),
            upstream: String::new(),
            found_in: found_in.to_owned(),
        }
    }

    /// Returns the package URL.
    pub fn purl(&self, os: &Os) -> String {
        let lower = self.name.to_lowercase();
        let name = match self.kind {
            Kind::Pypi => lower.replace(['_', '.'], "-"),
            Kind::Deb | Kind::Apk => lower,
            _ => self.name.clone(),
        };
        let (namespace, name) = match self.kind {
            Kind::Npm | Kind::Golang => name.rsplit_once('/').unwrap_or(("", &name)),
            _ if self.kind.is_of_os() => (os.id.as_str(), name.as_str()),
            _ => ("", name.as_str()),
        };
        let mut qualifiers = BTreeMap::from([
            ("arch", self.architecture.clone()),
            ("upstream", self.upstream.clone()),
        ]);
        let mut version = self.version.as_str();
        if self.kind == Kind::Rpm
            && let Some((epoch, rest)) = version.split_once(':')
        {
            qualifiers.insert("epoch", epoch.to_owned());
            version = rest;
        }
        if self.kind.is_of_os() {
            qualifiers.insert("distro", os.distro());
        }
        Purl {
            kind: self.kind.word(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            qualifiers,
        }
        .to_string()
    }
}
