//! Certificates by host: directories that are laid out as `/etc/docker/certs.d`.
//!
//! `<directory>/<host>[:port]/` holds `*.crt` (authorities) and pairs of `*.cert` and `*.key` (who we are). Of several
//! directories the first that has the host counts, as with containers' tools.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::trust::Pair;

/// The directories, the user's own first. Nothing is read before a host is spoken to with TLS.
#[derive(Debug, Clone, Default)]
pub struct CertificateDirs {
    pub by_host: Vec<PathBuf>,
    /// One whose files are for every host, as podman's `--cert-dir` has it; it may have hosts, too.
    pub given: Option<PathBuf>,
}

/// What is there for one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    authorities: Vec<PathBuf>,
    /// Certificate and key.
    pair: Option<(PathBuf, PathBuf)>,
    /// One half of a pair.
    widowed: Option<PathBuf>,
}

impl CertificateDirs {
    /// Returns what there is for `host`, which may have a port.
    pub(super) fn of(&self, host: &str) -> Option<Certificates> {
        // A host is a name, not a path.
        if host.is_empty() || host.contains('/') || host.starts_with('.') {
            return None;
        }
        let list = |dir: PathBuf| -> Option<Vec<PathBuf>> {
            let entries = fs::read_dir(dir).ok()?.flatten();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            paths.sort();
            Some(paths)
        };
        let given = self.given.iter();
        let flat = given.clone().filter_map(|dir| list(dir.clone()));
        let flat = flat.filter(|paths| paths.iter().any(|path| is_certificate(path)));
        let by_host = |dir: &PathBuf| list(dir.join(host));
        let entries = given
            .clone()
            .find_map(by_host)
            .or_else(|| flat.into_iter().next())
            .or_else(|| self.by_host.iter().find_map(by_host))?;
        let mut found = Certificates::default();
        for path in &entries {
            match path.extension().and_then(|it| it.to_str()) {
                Some("crt") => found.authorities.push(path.clone()),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !entries.contains(&key) {
                        found.widowed = Some(path.clone());
                    } else if found.pair.is_none() {
                        found.pair = Some((path.clone(), key));
                    }
                }
                Some("key") if !entries.contains(&path.with_extension("cert")) => {
                    found.widowed = Some(path.clone());
                }
                _ => {}
            }
        }
        Some(found)
    }
}

fn is_certificate(path: &Path) -> bool {
    let extension = path.extension().and_then(|it| it.to_str());
    matches!(extension, Some("crt" | "cert" | "key"))
}

impl Certificates {
    pub(super) fn has_authority(&self) -> bool {
        !self.authorities.is_empty()
    }

    pub(super) fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let mut all = Vec::new();
        for path in &self.authorities {
            all.extend(authorities(path)?);
        }
        Ok(all)
    }

    /// Returns who we are to the host, where a pair says.
    pub(super) fn pair(&self) -> Result<Option<Pair>, String> {
        if let Some(path) = &self.widowed {
            return Err(format!(
                "{}: a client certificate is a pair of files, NAME.cert and NAME.key, and the other is missing",
                path.display()
            ));
        }
        let Some((certificate, key)) = &self.pair else {
            return Ok(None);
        };
        // The error could quote a key: only the place is told.
        let wrong = || {
            format!(
                "{}: it and its key are no pair of PEM files",
                certificate.display()
            )
        };
        let chain = authorities(certificate).map_err(|_| wrong())?;
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| wrong())?;
        Ok(Some((chain, key)))
    }

    /// The same, for a client that looks at no certificate itself.
    pub(super) fn identity(&self) -> Result<Option<reqwest::Identity>, String> {
        if self.pair()?.is_none() {
            return Ok(None);
        }
        let Some((certificate, key)) = &self.pair else {
            return Ok(None);
        };
        let mut pem = read(certificate)?;
        pem.push(b'\n');
        pem.extend(read(key)?);
        let identity = reqwest::Identity::from_pem(&pem).map_err(|_| {
            format!(
                "{}: it and its key are no pair of PEM files",
                certificate.display()
            )
        })?;
        Ok(Some(identity))
    }
}

/// Reads a PEM file of certificates.
pub(super) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |why: &str| format!("{}: {why}", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let certificates = found.map_err(|_| named("not a PEM file of certificates"))?;
    match certificates.is_empty() {
        true => Err(named("no certificate in it")),
        false => Ok(certificates),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_with_the_host_counts() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (own, system) = (dir.path().join("own"), dir.path().join("system"));
        for file in [
            "own/a.io/ca.crt",
            "own/a.io/me.cert",
            "own/a.io/me.key",
            "own/a.io/readme",
            "system/a.io/other.crt",
            "system/b.io:5000/ca.crt",
            "system/c.io/me.cert",
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, "x").expect("write");
        }
        let mut dirs = CertificateDirs {
            by_host: vec![own.clone(), system.clone()],
            given: None,
        };
        let found = dirs.of("a.io").expect("found");
        assert_eq!(found.authorities, [own.join("a.io/ca.crt")]);
        let pair = (own.join("a.io/me.cert"), own.join("a.io/me.key"));
        assert_eq!(found.pair, Some(pair));
        let error = found.identity().expect_err("no PEM");
        assert!(error.contains("me.cert"), "{error}");
        assert!(found.authorities().expect_err("no PEM").contains("ca.crt"));
        let found = dirs.of("b.io:5000").expect("found");
        assert_eq!(found.authorities, [system.join("b.io:5000/ca.crt")]);
        assert!(dirs.of("b.io").is_none());
        let error = dirs.of("c.io").expect("found").identity();
        let error = error.map(drop).expect_err("no key");
        assert!(error.contains("NAME.key"), "{error}");
        for host in ["", "..", "../own/a.io", "d.io"] {
            assert!(dirs.of(host).is_none(), "{host}");
        }
        // What is given wins: for a host, for every host, or not at all.
        dirs.given = Some(system.clone());
        let found = dirs.of("a.io").expect("found");
        assert_eq!(found.authorities, [system.join("a.io/other.crt")]);
        assert!(dirs.of("d.io").is_none());
        fs::write(system.join("every.crt"), "x").expect("write");
        for host in ["d.io", "e.io:5000"] {
            let found = dirs.of(host).expect("found");
            assert_eq!(found.authorities, [system.join("every.crt")]);
        }
    }
}
