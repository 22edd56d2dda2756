//! The ladder: the ways in which steps are run, best first, and which of them a user asks for.

use std::fmt;
use std::str::FromStr;

/// Which way steps are to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// The best that is to be had.
    #[default]
    Auto,
    /// This one, or none.
    Only(Rung),
}

/// One way of running steps. The same Dockerfile gives the same layers on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rung {
    /// Namespaces, and overlays of snapshots.
    Overlay,
    /// Namespaces, and copies of snapshots.
    Copied,
    /// Namespaces with one id: the system calls that set and show owners are answered by the builder, which remembers
    /// them.
    SingleId,
    /// No namespaces: chroot into a copy, for root in a container.
    Chroot,
    /// No steps at all: the rest of a build works.
    None,
}

impl Rung {
    /// From the top.
    pub const ALL: [Rung; 5] = [
        Rung::Overlay,
        Rung::Copied,
        Rung::SingleId,
        Rung::Chroot,
        Rung::None,
    ];

    /// Returns the word that users write.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rung::Overlay => "overlay",
            Rung::Copied => "copied",
            Rung::SingleId => "single-id",
            Rung::Chroot => "chroot",
            Rung::None => "none",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Isolation::Auto);
        }
        let found = Rung::ALL.into_iter().find(|rung| rung.name() == text);
        found.map(Isolation::Only).ok_or_else(|| {
            let names: Vec<&str> = Rung::ALL.iter().map(|rung| rung.name()).collect();
            format!("`{text}` is none of auto, {}", names.join(", "))
        })
    }
}
