//! How a finished image leaves: as an OCI layout or archive, and as an archive for `docker load`.
//!
//! All that is written comes from the store's blobs, by descriptors: nothing is built here. The same image
//! gives the same bytes: members are sorted, and have no times, owners or names of the machine.
//!
//! - [`oci_archive`] and [`oci_directory`] write an OCI image layout. Each name is an entry of `index.json`
//!   with the tag in `org.opencontainers.image.ref.name` and the full name in `io.containerd.image.name`,
//!   as buildx writes them; an image without a name has one entry without either.
//! - [`docker_archive`] writes the same layout with Docker's `manifest.json` beside it, whose paths lead
//!   into `blobs/`: what `docker save` and buildx's `type=docker` write. `docker load`, `podman load` and
//!   `skopeo docker-archive:` take it, layers compressed with gzip included.
//!
//! Files are written beside their place and renamed into it, so an interrupted export leaves the earlier
//! file. A directory that is there already must be a layout, or empty; what else it holds is kept.
//!
//! - [`load_into`] sends such an archive to an engine that listens on a socket, without the layers that it has.
//! - [`local_directory`] and [`tree_archive`] write the files of the image rather than the image.
//!
//! Not here: pushing, compressing.

mod archive;
mod compressor;
mod directory;
mod engine;
mod error;
mod finished;
mod member_index;
mod tar_index;
mod target;
mod tree;

#[cfg(test)]
mod tests;

pub use archive::{Destination, docker_archive, oci_archive, save_docker, save_oci};
pub use compressor::{Compressor, LayerWriter};
pub use directory::{oci_directory, save_directory};
pub use engine::{Connect, Fetch, Loaded, Wire, load_into};
pub use error::ExportError;
pub use finished::{Finished, Selection};
pub use tar_index::TarIndex;
pub use tree::{Placed, Unset, local_directory, tree_archive};
