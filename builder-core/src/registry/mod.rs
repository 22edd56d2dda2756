//! How blobs and manifests travel: from registries, and from layouts and archives on disk, into the store.
//!
//! [`Client::resolve`] turns a name and a platform into a manifest and a config, both verified and stored;
//! no layer moves before [`Client::fetch_blob`] asks for it. [`layout::resolve`] does the same for files.
//!
//! Speaks the OCI distribution spec 1.1, and what registries of before need. Where that leaves a choice:
//! - *Names* are read as Docker reads them: `python` is Docker Hub's. `unqualified-search-registries` and
//!   `[aliases]` of `registries.conf` are therefore not followed: a Dockerfile must mean the same everywhere.
//!   What that file says of mirrors, rewriting, blocking and insecure registries is (see [`Registries`]).
//! - *Plain HTTP* is spoken to a loopback registry (`localhost`, `127.0.0.0/8`, `::1`), HTTPS there only
//!   where HTTP gets no sensible answer. A registry marked `insecure` is tried with HTTPS whose certificate
//!   is not verified, then with HTTP. Any other gets HTTPS with a verified certificate, and nothing else.
//! - *Credentials* go to the registry that they are for, and to the token service that it names; never
//!   across a redirect to another origin, never over HTTP where the registry itself has HTTPS, and never
//!   into an error or an event. Credential helpers are not run; one that would be needed is an error.
//! - *Trouble* (429, 5xx, cut or refused connections) is retried with growing, random pauses, or as
//!   `Retry-After` says in seconds. A blob goes on where it was cut. Silence for 60 s is trouble.
//! - Nothing larger than it claims to be, or than a limit, is read into memory or to disk.
//!
//! Not here: pushing, and the certificates of `certs.d`; the calls take any method, so pushing only adds.

mod auth;
mod client;
mod config;
mod credentials;
mod error;
pub mod layout;
mod pull;
mod transport;

#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientOptions, Proxies};
pub use config::{Endpoint, Registries};
pub use credentials::{AuthFiles, Credential, Credentials, Lookup, NoCredentials};
pub use error::RegistryError;
pub use pull::{Progress, Resolved, Source};
