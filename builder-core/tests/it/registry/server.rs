//! Debian's `docker-registry` with TLS and basic authentication, on a port of the loopback.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

pub(crate) const USER: &str = "ada";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// An authority of the tests, and a certificate for the loopback that it has signed; PEM.
pub(crate) struct Identity {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key"));
        let issuer = issuer.expect("authority");
        let names = vec![
            "127.0.0.1".to_owned(),
            "localhost".to_owned(),
            "registry.test".to_owned(),
        ];
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(names).expect("params");
        let certificate = params.signed_by(&key, &issuer).expect("certificate");
        Identity {
            authority: issuer.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Identity {
    /// One that nobody but itself has signed, as `openssl req -x509` makes it: an authority, too.
    fn own(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate").pem();
        Identity {
            authority: certificate.clone(),
            certificate,
            key: key.serialize_pem(),
        }
    }
}

/// A running registry; it ends when it is dropped.
pub(crate) struct Registry {
    pub address: SocketAddr,
    pub identity: Identity,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts one; `None`, and a line that says so, where it is not installed.
    pub(crate) fn start(test: &str) -> Option<Registry> {
        Self::start_with(test, Identity::new(), false)
    }

    /// Starts one that speaks with nobody whose certificate its authority has not signed.
    pub(crate) fn demanding_certificates(test: &str) -> Option<Registry> {
        Self::start_with(test, Identity::new(), true)
    }

    /// Starts one whose certificate is its own authority, for the host `name`.
    pub(crate) fn with_own_certificate(test: &str, name: &str) -> Option<Registry> {
        Self::start_with(test, Identity::own(name), false)
    }

    fn start_with(test: &str, identity: Identity, demands_certificates: bool) -> Option<Registry> {
        if !installed("docker-registry") {
            skip(test, "docker-registry");
            return None;
        }
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).expect("write");
            path.display().to_string()
        };
        let certificate = write("tls.crt", &identity.certificate);
        let key = write("tls.key", &identity.key);
        let users = write("htpasswd", &format!("{USER}:{}\n", hash()));
        let address = free();
        let clients = match demands_certificates {
            true => format!(", clientcas: [{}]", write("ca.crt", &identity.authority)),
            false => String::new(),
        };
        let conf = write(
            "config.yml",
            &format!(
                "version: 0.1\nlog: {{level: error}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
                 auth: {{htpasswd: {{realm: tests, path: {users}}}}}\n\
                 http: {{addr: '{address}', tls: {{certificate: {certificate}, key: {key}{clients}}}}}\n",
                dir.path().join("data").display()
            ),
        );
        let child = Command::new("docker-registry")
            .args(["serve", &conf])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        let registry = Registry {
            address,
            identity,
            child,
            _dir: dir,
        };
        for _ in 0..400 {
            if TcpStream::connect(address).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("docker-registry does not listen at {address}");
    }

    /// Changes a byte of a blob where the registry keeps it.
    pub(crate) fn damage(&self, hex: &str) {
        let blobs = self
            ._dir
            .path()
            .join("data/docker/registry/v2/blobs/sha256");
        let path = blobs.join(&hex[..2]).join(hex).join("data");
        let mut bytes = fs::read(&path).expect("read");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs::write(path, bytes).expect("write");
    }

    /// Writes the authority where `certs.d` has it for `address`.
    pub(crate) fn certs_d(&self, dir: &Path, address: SocketAddr) -> PathBuf {
        let host = dir.join("certs.d").join(address.to_string());
        fs::create_dir_all(&host).expect("mkdir");
        fs::write(host.join("ca.crt"), &self.identity.authority).expect("write");
        dir.join("certs.d")
    }
}

fn hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| bcrypt::hash(PASSWORD, 4).expect("bcrypt"))
}

pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("a free port")
}

pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Says why a test does nothing, past the harness's capture.
pub(crate) fn skip(test: &str, needs: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: {test}: needs {needs}");
}
