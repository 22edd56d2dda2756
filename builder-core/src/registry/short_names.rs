//! Short names: what `app:1` stands for, by `registries.conf`.
//!
//! A short name is one that was written without a registry (`app:1`, `team/app`). Docker reads it as Docker Hub's; so
//! do we, unless the configuration says otherwise:
//!
//! | the configuration has                              | a short name stands for                     |
//! |----------------------------------------------------|---------------------------------------------|
//! | an alias for it, without tag and digest            | the alias's image, with the same tag        |
//! | `short-name-mode` permissive or disabled, and `unqualified-search-registries` | the first of these that has it |
//! | `short-name-mode` enforcing, and one such registry | that one's                                  |
//! | the same, and several such registries              | nothing: an error names them                |
//! | `unqualified-search-registries` alone, or nothing  | Docker Hub's                                |
//!
//! Search registries alone do not count, since they are in files that came with another tool, and a name that moves
//! from one registry to another as it appears there is nothing that a Dockerfile should depend on unasked.
//! Not read: the aliases that podman notes by itself after a question at its terminal.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{Client, Registries, RegistryError};
use crate::image::Reference;

/// What is configured of short names.
#[derive(Debug, Clone, Default)]
pub(super) struct ShortNames {
    /// Repositories by short name; shared by clones, of which there are many.
    aliases: Arc<BTreeMap<String, String>>,
    search: Vec<String>,
    mode: Option<Mode>,
    /// Which file named the search registries.
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Enforcing,
    Permissive,
    Disabled,
}

/// What a file says of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ShortNamesTable {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

impl ShortNames {
    /// Adds what a later file says; returns what is wrong with it.
    pub(super) fn add(&mut self, file: &Path, table: ShortNamesTable) -> Result<(), String> {
        if let Some(search) = table.unqualified_search_registries {
            let wrong = |it: &&String| {
                it.contains("://") || format!("{it}/x").parse::<Reference>().is_err()
            };
            if let Some(wrong) = search.iter().find(wrong) {
                return Err(format!("`{wrong}` is not a registry: write the host alone"));
            }
            self.search = search;
            file.clone_into(&mut self.file);
        }
        self.mode = match table.short_name_mode.as_deref() {
            None => self.mode,
            Some("") => None,
            Some("enforcing") => Some(Mode::Enforcing),
            Some("permissive") => Some(Mode::Permissive),
            Some("disabled") => Some(Mode::Disabled),
            Some(other) => {
                return Err(format!(
                    "short-name-mode `{other}`: enforcing, permissive or disabled is expected"
                ));
            }
        };
        let aliases = Arc::make_mut(&mut self.aliases);
        for (short, image) in table.aliases {
            let bare = |text: &str| {
                let name: Option<Reference> = text.parse().ok();
                let whole = |it: &Reference| it.digest().is_none() && !text.contains('@');
                name.filter(|it| {
                    whole(it) && (text == it.repository() || it.short_name() == Some(text))
                })
            };
            if bare(&short).is_none_or(|it| it.short_name().is_none()) {
                return Err(format!(
                    "the alias `{short}` is not a short name: it has no registry, tag or digest"
                ));
            }
            if image.is_empty() {
                aliases.remove(&short);
            } else if bare(&image).is_some_and(|it| it.short_name().is_none()) {
                aliases.insert(short, image);
            } else {
                return Err(format!(
                    "the alias `{short}` leads to `{image}`, which is no name with a registry and without a tag"
                ));
            }
        }
        Ok(())
    }

    /// Returns the names that `reference` may stand for, in the order in which they are asked for; there is one at least.
    fn names(&self, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        let itself = || Ok(vec![reference.clone()]);
        let Some(short) = reference.short_name() else {
            return itself();
        };
        let at = |repository: &str| {
            let name = reference.moved_to(repository);
            name.map_err(|_| RegistryError::not_a_name(repository))
        };
        if let Some(repository) = self.aliases.get(short) {
            return Ok(vec![at(repository)?]);
        }
        match self.mode {
            _ if self.search.is_empty() => itself(),
            None => itself(),
            Some(Mode::Enforcing) if self.search.len() > 1 => Err(RegistryError::AmbiguousName {
                name: reference.familiar(),
                registries: self.search.clone(),
                file: self.file.clone(),
            }),
            Some(_) => {
                let all = self.search.iter();
                all.map(|registry| at(&format!("{registry}/{short}")))
                    .collect()
            }
        }
    }
}

impl Registries {
    /// Returns the names that `reference` may stand for, the first asked for first: itself, if it is no short name.
    ///
    /// # Errors
    /// [`RegistryError::AmbiguousName`].
    pub fn names(&self, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        self.short_names.names(reference)
    }
}

impl Client {
    /// Returns the names that `reference` may stand for, as [`Registries::names`].
    ///
    /// # Errors
    /// [`RegistryError::AmbiguousName`].
    pub fn names(&self, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        self.inner.options.registries.names(reference)
    }

    /// Asks for each name that `reference` may stand for, until one is there.
    pub(super) async fn first<T, F>(
        &self,
        reference: &Reference,
        ask: impl Fn(Reference) -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let names = self.names(reference)?;
        let alone = names.len() == 1;
        let mut wrong = Vec::new();
        for name in names {
            match ask(name).await {
                Err(error) if !alone => wrong.push(error.to_string()),
                outcome => return outcome,
            }
        }
        Err(RegistryError::Nowhere {
            name: reference.familiar(),
            why: wrong,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[&str]) -> Result<Registries, String> {
        let mut registries = Registries::default();
        for text in files {
            let added = registries.add(Path::new("r.conf"), text);
            added.map_err(|it| it.to_string())?;
        }
        Ok(registries)
    }

    #[test]
    fn names() {
        const ALIASES: &str = "[aliases]\n'app' = 'my.io/team/app'\n'a/b' = 'localhost:5000/c'\n\
                               'library/odd' = 'q.io/odd'\n";
        const SEARCH: &str =
            "unqualified-search-registries = ['q.io', 'docker.io', 'localhost:1']\n";
        let mode = |mode: &str| format!("{SEARCH}short-name-mode = '{mode}'\n");
        let (permissive, enforcing) = (mode("permissive"), mode("enforcing"));
        let disabled = format!("{}{ALIASES}", mode("disabled"));
        let one = "unqualified-search-registries = ['q.io']\nshort-name-mode = 'enforcing'";
        let digest = format!("app@sha256:{}", "a".repeat(64));
        let aliased = format!("my.io/team/app@sha256:{}", "a".repeat(64));
        for (files, name, expected) in [
            (&[][..], "app", &["docker.io/library/app:latest"][..]),
            (&[ALIASES], "app", &["my.io/team/app:latest"]),
            (&[ALIASES], "app:2", &["my.io/team/app:2"]),
            (&[ALIASES], &digest, &[&aliased]),
            (&[ALIASES], "a/b:1", &["localhost:5000/c:1"]),
            (&[ALIASES], "odd", &["docker.io/library/odd:latest"]),
            (&[ALIASES], "library/odd", &["q.io/odd:latest"]),
            // Written in full it is what it says.
            (
                &[ALIASES],
                "docker.io/library/app",
                &["docker.io/library/app:latest"],
            ),
            (
                &[ALIASES],
                "docker.io/app",
                &["docker.io/library/app:latest"],
            ),
            // A later file has another alias, or none.
            (
                &[ALIASES, "[aliases]\n'app' = 'x.io/y'"],
                "app",
                &["x.io/y:latest"],
            ),
            (
                &[ALIASES, "[aliases]\n'app' = ''"],
                "app",
                &["docker.io/library/app:latest"],
            ),
            // Search registries count with a mode.
            (&[SEARCH], "app", &["docker.io/library/app:latest"]),
            (
                &[&permissive],
                "app:1",
                &["q.io/app:1", "docker.io/library/app:1", "localhost:1/app:1"],
            ),
            (&[&permissive], "h.io/app:1", &["h.io/app:1"]),
            (
                &[&disabled],
                "t/u",
                &[
                    "q.io/t/u:latest",
                    "docker.io/t/u:latest",
                    "localhost:1/t/u:latest",
                ],
            ),
            (&[&disabled], "app", &["my.io/team/app:latest"]),
            (&[one], "app", &["q.io/app:latest"]),
            (
                &[&permissive, "unqualified-search-registries = []"],
                "app",
                &["docker.io/library/app:latest"],
            ),
            (
                &[&enforcing, "short-name-mode = ''"],
                "app",
                &["docker.io/library/app:latest"],
            ),
        ] {
            let registries = read(files).expect("a configuration");
            let names = registries.names(&name.parse().expect(name)).expect(name);
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(names, expected, "{name} by {files:?}");
        }
        let registries = read(&[&enforcing]).expect("a configuration");
        let error = registries
            .names(&"app:1".parse().expect("name"))
            .expect_err("ambiguous");
        let text = error.to_string();
        assert!(
            text.contains("q.io/app:1, docker.io/app:1, localhost:1/app:1"),
            "{text}"
        );
        assert!(text.contains("r.conf"), "{text}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            (
                "[aliases]\n'app:1' = 'q.io/app'",
                "`app:1` is not a short name",
            ),
            (
                "[aliases]\n'q.io/app' = 'q.io/app'",
                "`q.io/app` is not a short name",
            ),
            ("[aliases]\n'app' = 'app'", "leads to `app`"),
            ("[aliases]\n'app' = 'q.io/app:1'", "leads to `q.io/app:1`"),
            ("short-name-mode = 'x'", "short-name-mode `x`"),
            (
                "unqualified-search-registries = ['https://q.io']",
                "`https://q.io` is not a registry",
            ),
        ] {
            let error = read(&[text]).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
    }
}
