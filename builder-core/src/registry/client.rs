//! The client: what it is made from, and what its clones share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::auth::Token;
use super::host::Host;
use super::transport::Http;
use super::{CertificateDirs, Credentials, NoCredentials, Registries};
use crate::digest::Digest;

/// Proxies, as `http_proxy`, `https_proxy` and `no_proxy` say them.
#[derive(Clone, Default)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    pub no_proxy: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An address may hold a password.
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// What a client is made from.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    pub registries: Registries,
    pub credentials: Arc<dyn Credentials>,
    /// PEM files of authorities that are trusted besides the system's.
    pub ca_certificates: Vec<PathBuf>,
    /// Certificates by host.
    pub certificates: CertificateDirs,
    pub proxies: Proxies,
    pub user_agent: String,
    /// How long a peer may be silent.
    pub no_progress_timeout: Duration,
    /// How often a request is tried.
    pub attempts: u32,
    /// How long a request is tried without any progress, all attempts together.
    pub give_up_after: Duration,
    /// The pause before the second attempt; it doubles from there.
    pub first_pause: Duration,
    /// How many blobs of one image are sent at a time.
    pub parallel_uploads: usize,
    /// An upload that was cut goes on in pieces of this size, and in smaller ones after each further cut.
    pub upload_chunk_bytes: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            registries: Registries::default(),
            credentials: Arc::new(NoCredentials),
            ca_certificates: Vec::new(),
            certificates: CertificateDirs::default(),
            proxies: Proxies::default(),
            user_agent: concat!("builder/", env!("CARGO_PKG_VERSION")).to_owned(),
            no_progress_timeout: Duration::from_secs(20),
            attempts: 5,
            give_up_after: Duration::from_secs(55),
            first_pause: Duration::from_millis(500),
            parallel_uploads: 4,
            upload_chunk_bytes: 8 << 20,
        }
    }
}

/// Talks to registries. Clones share connections, tokens and what is known of hosts.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub options: ClientOptions,
    pub http: Http,
    pub hosts: Mutex<HashMap<(String, bool), Host>>,
    /// By host and scopes.
    pub tokens: Mutex<HashMap<(String, Vec<String>), Token>>,
    /// One download at a time of one blob.
    pub fetching: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl Client {
    /// Makes a client; nothing is connected to.
    pub fn new(options: ClientOptions) -> Self {
        Client {
            inner: Arc::new(Inner {
                http: Http::new(options.clone()),
                options,
                hosts: Mutex::default(),
                tokens: Mutex::default(),
                fetching: Mutex::default(),
            }),
        }
    }
}

impl Client {
    /// Whether both are the same client, or clones of it: what the one may read, the other may.
    pub fn same_options(&self, other: &Client) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

/// Locks; a panic elsewhere leaves these maps usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
