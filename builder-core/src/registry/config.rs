//! `registries.conf`, version 2: which hosts are spoken to for a name.
//!
//! Read: `[[registry]]` with `prefix`, `location`, `insecure`, `blocked`, `mirror-by-digest-only` and
//! `[[registry.mirror]]` (`location`, `insecure`, `pull-from-mirror`). Of several entries the one with the
//! longest matching prefix counts; one in a later file replaces an earlier one of the same prefix.
//!
//! What it says of short names is in `short_names`. Left aside: `credential-helpers`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::RegistryError;
use super::short_names::{ShortNames, ShortNamesTable};
use crate::image::Reference;

/// What the configuration says of registries.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    by_prefix: BTreeMap<String, Registry>,
    pub(super) short_names: ShortNames,
}

/// One place to ask for a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Host with port, as in names: `docker.io`, `localhost:5000`.
    pub host: String,
    /// The repository there.
    pub repository: String,
    /// Whether HTTP, and certificates that cannot be verified, will do.
    pub insecure: bool,
}

#[derive(Debug, Clone)]
struct Registry {
    file: PathBuf,
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Debug, Clone)]
struct Mirror {
    location: String,
    insecure: bool,
    pull: PullFrom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFrom {
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<RegistryTable>,
    /// Version 1 of the format.
    registries: Option<toml::Value>,
    #[serde(flatten)]
    short_names: ShortNamesTable,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryTable {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<PullFrom>,
}

impl Registries {
    /// Reads the files that are there, in order; of a directory, its `*.conf` files by name.
    ///
    /// # Errors
    /// Where a file cannot be read, or is no such document.
    pub fn load(paths: &[PathBuf]) -> Result<Self, RegistryError> {
        let mut registries = Registries::default();
        for path in paths {
            let failed = |source| RegistryError::File {
                path: path.clone(),
                source,
            };
            match fs::metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
                Ok(metadata) if metadata.is_dir() => {
                    let mut files: Vec<PathBuf> = fs::read_dir(path)
                        .map_err(failed)?
                        .flatten()
                        .map(|entry| entry.path())
                        .filter(|it| it.extension().is_some_and(|it| it == "conf"))
                        .collect();
                    files.sort();
                    for file in files {
                        registries.add_file(&file)?;
                    }
                }
                Ok(_) => registries.add_file(path)?,
            }
        }
        Ok(registries)
    }

    /// Adds what `text`, the content of `file`, says.
    ///
    /// # Errors
    /// Where it is no such document.
    pub fn add(&mut self, file: &Path, text: &str) -> Result<(), RegistryError> {
        let bad = |why: String| RegistryError::Configuration {
            path: file.to_owned(),
            what: "registries configuration",
            why,
        };
        let document: Document =
            toml::from_str(text).map_err(|it| bad(it.to_string().trim_end().to_owned()))?;
        if document.registries.is_some() {
            let why = "`[registries]` is version 1 of the format, only version 2 is supported";
            return Err(bad(why.to_owned()));
        }
        self.short_names
            .add(file, document.short_names)
            .map_err(bad)?;
        for table in document.registry {
            let location = table.location.trim_end_matches('/').to_owned();
            let prefix = match table.prefix.trim_end_matches('/') {
                "" if location.is_empty() => {
                    return Err(bad("a registry has neither prefix nor location".to_owned()));
                }
                "" => location.clone(),
                prefix => prefix.to_owned(),
            };
            for text in [&prefix, &location] {
                if text.contains("://") {
                    return Err(bad(format!("`{text}` has a scheme: write the host alone")));
                }
            }
            let wildcard = prefix.starts_with("*.");
            if prefix.contains('*') && (!wildcard || prefix[1..].contains(['*', '/'])) {
                return Err(bad(format!("`{prefix}`: a wildcard is `*.` and a domain")));
            }
            let mut mirrors = Vec::new();
            for mirror in table.mirror {
                let location = mirror.location.trim_end_matches('/').to_owned();
                if location.is_empty() || location.contains("://") {
                    return Err(bad(format!("`{location}` is not a mirror's location")));
                }
                let by_digest = table.mirror_by_digest_only.then_some(PullFrom::DigestOnly);
                mirrors.push(Mirror {
                    location,
                    insecure: mirror.insecure,
                    pull: by_digest
                        .or(mirror.pull_from_mirror)
                        .unwrap_or(PullFrom::All),
                });
            }
            let registry = Registry {
                file: file.to_owned(),
                location: Some(location).filter(|it| !it.is_empty()),
                insecure: table.insecure,
                blocked: table.blocked,
                mirrors,
            };
            self.by_prefix.insert(prefix, registry);
        }
        Ok(())
    }

    /// Returns where to ask for `reference`: its mirrors in order, the source last.
    ///
    /// # Errors
    /// [`RegistryError::Blocked`].
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, RegistryError> {
        let name = reference.repository();
        let found = self
            .by_prefix
            .iter()
            .filter_map(|(prefix, registry)| Some((matched(prefix, reference)?, prefix, registry)))
            .max_by_key(|(_, prefix, _)| prefix.len());
        let Some((matched, _, registry)) = found else {
            return Ok(vec![endpoint(&name, false)]);
        };
        if registry.blocked {
            return Err(RegistryError::Blocked {
                reference: reference.to_string(),
                file: registry.file.clone(),
            });
        }
        // A prefix may go as far as the tag or the digest; then nothing of the name is left.
        let rest = name.get(matched..).unwrap_or("");
        let rewritten = |location: &str| format!("{location}{rest}");
        let mut endpoints: Vec<Endpoint> = registry
            .mirrors
            .iter()
            .filter(|mirror| match mirror.pull {
                PullFrom::All => true,
                PullFrom::DigestOnly => reference.digest().is_some(),
                PullFrom::TagOnly => reference.digest().is_none(),
            })
            .map(|mirror| endpoint(&rewritten(&mirror.location), mirror.insecure))
            .collect();
        let source = registry.location.as_deref().map_or(name.clone(), rewritten);
        endpoints.push(endpoint(&source, registry.insecure));
        Ok(endpoints)
    }

    /// Returns where `reference` is pushed to: mirrors are for reading.
    ///
    /// # Errors
    /// [`RegistryError::Blocked`].
    pub fn push_endpoint(&self, reference: &Reference) -> Result<Endpoint, RegistryError> {
        let source = self.endpoints(reference)?.pop();
        Ok(source.unwrap_or_else(|| endpoint(&reference.repository(), false)))
    }

    fn add_file(&mut self, file: &Path) -> Result<(), RegistryError> {
        let text = fs::read_to_string(file).map_err(|source| RegistryError::File {
            path: file.to_owned(),
            source,
        })?;
        self.add(file, &text)
    }
}

/// Returns how many bytes of the name `prefix` stands for; `None` where it does not match.
fn matched(prefix: &str, reference: &Reference) -> Option<usize> {
    if let Some(suffix) = prefix.strip_prefix('*') {
        let host = reference.domain();
        return (host.len() > suffix.len() && host.ends_with(suffix)).then_some(host.len());
    }
    let text = reference.to_string();
    let rest = text.strip_prefix(prefix)?;
    let ends = rest.is_empty() || rest.starts_with(['/', ':', '@']);
    // `host` is no prefix of `host:5000`.
    let port = rest.starts_with(':') && !prefix.contains('/');
    (ends && !port).then_some(prefix.len())
}

fn endpoint(name: &str, insecure: bool) -> Endpoint {
    let (host, repository) = name.split_once('/').unwrap_or((name, ""));
    Endpoint {
        host: host.to_owned(),
        repository: repository.to_owned(),
        insecure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
        [aliases]
        "python" = "evil.io/python"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.local:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "digests.io"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/me"
        location = "internal.io/we"
        [[registry]]
        prefix = "*.example.com"
        location = "proxy.io/example"
        [[registry]]
        prefix = "bad.example.com"
        blocked = true
        [[registry]]
        prefix = "h.io/a/b"
        insecure = true
    "#;

    #[test]
    fn names_are_rewritten() {
        let mut registries = Registries::default();
        registries.add(Path::new("r.conf"), CONF).expect("parse");
        let digest = format!("python@sha256:{}", "a".repeat(64));
        for (name, expected) in [
            (
                "python",
                &[
                    "mirror.local:5000|hub/library/python|!",
                    "docker.io|library/python|",
                ][..],
            ),
            (
                digest.as_str(),
                &[
                    "mirror.local:5000|hub/library/python|!",
                    "digests.io|library/python|",
                    "docker.io|library/python|",
                ][..],
            ),
            ("me/app", &["internal.io|we/app|"]),
            (
                "mean/app",
                &["mirror.local:5000|hub/mean/app|!", "docker.io|mean/app|"],
            ),
            ("x.example.com/a/b:1", &["proxy.io|example/a/b|"]),
            ("example.com/a", &["example.com|a|"]),
            ("h.io/a/b:2", &["h.io|a/b|!"]),
            ("h.io/a/bc", &["h.io|a/bc|"]),
            ("quay.io/x", &["quay.io|x|"]),
        ] {
            let endpoints = registries
                .endpoints(&name.parse().expect(name))
                .expect(name);
            let texts: Vec<String> = endpoints
                .iter()
                .map(|it| {
                    let mark = if it.insecure { "!" } else { "" };
                    format!("{}|{}|{mark}", it.host, it.repository)
                })
                .collect();
            assert_eq!(texts, expected, "{name}");
        }
        let error = registries
            .endpoints(&"bad.example.com/a".parse().expect("name"))
            .expect_err("blocked");
        assert!(error.to_string().contains("r.conf"), "{error}");
    }

    #[test]
    fn later_files_replace_and_bad_ones_are_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let drop_in = dir.path().join("registries.conf.d");
        fs::create_dir(&drop_in).expect("mkdir");
        let main = dir.path().join("registries.conf");
        fs::write(&main, "[[registry]]\nprefix='a.io'\nlocation='one.io'").expect("write");
        let later = "[[registry]]\nprefix='a.io'\nlocation='two.io'";
        fs::write(drop_in.join("1.conf"), later).expect("write");
        fs::write(drop_in.join("README"), "not toml").expect("write");
        let paths = [dir.path().join("absent"), main.clone(), drop_in];
        let registries = Registries::load(&paths).expect("load");
        let endpoints = registries.endpoints(&"a.io/x".parse().expect("name"));
        assert_eq!(endpoints.expect("endpoints")[0].host, "two.io");

        for text in [
            "[[registry]]",
            "[registries.search]\nregistries = []",
            "[[registry]]\nlocation = 'https://a.io'",
            "[[registry]]\nprefix = 'a.*.io'",
            "[[registry]\n",
        ] {
            fs::write(&main, text).expect("write");
            let error = Registries::load(std::slice::from_ref(&main)).expect_err(text);
            assert!(error.to_string().contains("registries.conf"), "{error}");
        }
    }
}
