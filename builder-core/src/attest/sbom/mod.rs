//! Which packages an image has: a bill of materials in SPDX 2.3, from what package managers leave in the image.
//!
//! Nothing of the image is run, and no scanner image is fetched: the databases are read as files of the merged tree
//! (whiteouts obeyed, symbolic links followed inside the root alone).
//!
//! | manager | read                                                                            |
//! |---------|---------------------------------------------------------------------------------|
//! | dpkg    | `var/lib/dpkg/status`, `var/lib/dpkg/status.d/*` (distroless)                     |
//! | apk     | `lib/apk/db/installed`, `usr/lib/apk/db/installed`                                |
//! | rpm     | `rpmdb.sqlite`, `Packages.db` (ndb), `Packages` (Berkeley DB) of `var/lib/rpm` and its later places |
//! | pip     | `*.dist-info/METADATA`, `*.egg-info`                                              |
//! | npm     | `package.json` of what is in a `node_modules`                                     |
//! | cargo   | `Cargo.lock`; binaries made with `cargo auditable`                                |
//! | go      | binaries, which name their modules                                                |
//!
//! What cannot be read is never passed over in silence: it is a warning that names the file, and the document says it
//! too. Every file is read up to a limit, and a broken one costs only what it would have told.
//!
//! Not here: files that belong to no package.

mod apk;
mod binary;
mod cargo;
mod dpkg;
mod files;
mod go;
mod license;
mod npm;
mod os;
mod package;
mod python;
mod rpm;
mod scan;
mod spdx;

#[cfg(test)]
mod tests;

pub use package::{Kind, Package};
pub use scan::{Scanned, scan};
pub use spdx::{About, attestation, document};
