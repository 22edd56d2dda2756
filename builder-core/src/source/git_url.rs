//! What names a git repository, and what of it is meant.
//!
//! `https://host/repo.git#ref:dir`, `git://…`, `ssh://…`, `user@host:repo`, `file:///repo`; `github.com/…` of old. An
//! HTTP address is a repository where its path ends with `.git`. After `#` come a branch, tag, commit or `refs/…` and,
//! after a colon, a directory; or `?` and `ref=`, `branch=`, `tag=`, `commit=`, `checksum=`, `subdir=`,
//! `keep-git-dir=`, `submodules=`. Both forms at once contradict each other.

/// A repository, and what of it is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitUrl {
    /// As git takes it; may hold a user and password.
    pub remote: String,
    /// A branch, a tag, a whole commit, `refs/…`; `None`: what the repository's HEAD names.
    pub reference: Option<String>,
    /// Relative; empty for the root.
    pub subdir: String,
    /// The commit that must be found, whole or its beginning.
    pub checksum: Option<String>,
    pub keep_git_dir: Option<bool>,
    pub submodules: bool,
}

/// Why a text that names a repository cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GitUrlError {
    #[error("`{key}` is not known in the address of a git repository")]
    UnknownKey { key: String },
    #[error("`{key}={value}` is neither true nor false")]
    NotBoolean { key: String, value: String },
    #[error("the address of the git repository says {what} twice")]
    Twice { what: &'static str },
    #[error("`{text}` cannot be {what} of a git repository")]
    Malformed { what: &'static str, text: String },
}

impl GitUrlError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            GitUrlError::UnknownKey { .. } => Some(
                "known are ref, branch, tag, commit, checksum, subdir, keep-git-dir and submodules"
                    .to_owned(),
            ),
            GitUrlError::Twice { .. } => {
                Some("write either `#ref:dir` or `?ref=…&subdir=…`".to_owned())
            }
            _ => None,
        }
    }
}

impl GitUrl {
    /// Reads a text; `None` where it does not name a git repository.
    pub fn parse(text: &str) -> Option<Result<GitUrl, GitUrlError>> {
        let (whole, fragment) = match text.split_once('#') {
            Some((whole, fragment)) => (whole, Some(fragment)),
            None => (text, None),
        };
        let (base, query) = match whole.split_once('?') {
            Some((base, query)) if whole.contains("://") => (base, Some(query)),
            _ => (whole, None),
        };
        let remote = remote(base)?;
        Some(read(remote, query, fragment))
    }

    /// Returns the remote for people, without a password.
    pub fn shown(&self) -> String {
        super::without_credentials(&self.remote)
    }

    /// Returns the scheme and host of an HTTP remote: whom a token is for.
    pub(super) fn http_host(&self) -> Option<(&str, &str)> {
        let (scheme, rest) = self.remote.split_once("://")?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let authority = rest.split('/').next().unwrap_or(rest);
        let host = authority.rsplit('@').next().unwrap_or(authority);
        Some((scheme, host))
    }
}

fn remote(base: &str) -> Option<String> {
    if let Some((scheme, rest)) = base.split_once("://") {
        let taken = match scheme {
            "git" | "ssh" | "file" => !rest.is_empty(),
            "http" | "https" => rest.ends_with(".git"),
            _ => false,
        };
        return taken.then(|| base.to_owned());
    }
    if let Some(rest) = base.strip_prefix("github.com/") {
        return (!rest.is_empty()).then(|| format!("https://github.com/{rest}"));
    }
    // user@host:path, as scp has it.
    let (login, path) = base.split_once(':')?;
    let (user, host) = login.split_once('@')?;
    let plain = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    (plain(user) && plain(host) && !path.is_empty()).then(|| base.to_owned())
}

fn read(
    remote: String,
    query: Option<&str>,
    fragment: Option<&str>,
) -> Result<GitUrl, GitUrlError> {
    let mut url = GitUrl {
        remote,
        reference: None,
        subdir: String::new(),
        checksum: None,
        keep_git_dir: None,
        submodules: true,
    };
    let (mut reference, mut subdir) = (None, None);
    if let Some(fragment) = fragment {
        let (name, dir) = fragment.split_once(':').unwrap_or((fragment, ""));
        reference = Some(name.to_owned()).filter(|it| !it.is_empty());
        subdir = Some(dir.to_owned()).filter(|it| !it.is_empty());
    }
    let set = |slot: &mut Option<String>, what, value: String| match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(GitUrlError::Twice { what }),
    };
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = super::http::decoded(value);
        let boolean = || match value.as_str() {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(GitUrlError::NotBoolean {
                key: key.to_owned(),
                value: value.clone(),
            }),
        };
        match key {
            "ref" => set(&mut reference, "what to take", value)?,
            "branch" => set(
                &mut reference,
                "what to take",
                format!("refs/heads/{value}"),
            )?,
            "tag" => set(&mut reference, "what to take", format!("refs/tags/{value}"))?,
            "commit" | "checksum" => set(&mut url.checksum, "the commit", value)?,
            "subdir" => set(&mut subdir, "the directory", value)?,
            "keep-git-dir" => url.keep_git_dir = Some(boolean()?),
            "submodules" => url.submodules = boolean()?,
            _ => {
                let key = key.to_owned();
                return Err(GitUrlError::UnknownKey { key });
            }
        }
    }
    url.reference = reference.map(|it| named("a reference", it)).transpose()?;
    if let Some(checksum) = &url.checksum {
        let hex = checksum.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex || !(7..=64).contains(&checksum.len()) {
            return Err(GitUrlError::Malformed {
                what: "the commit",
                text: checksum.clone(),
            });
        }
        // A whole commit needs no other name.
        if url.reference.is_none() && checksum.len() >= 40 {
            url.reference = Some(checksum.clone());
        }
    }
    if let Some(subdir) = subdir {
        let parts: Vec<&str> = subdir
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        if parts.contains(&"..") || subdir.contains('\0') {
            return Err(GitUrlError::Malformed {
                what: "the directory",
                text: subdir,
            });
        }
        url.subdir = parts.join("/");
    }
    Ok(url)
}

/// A name that git could take for an option, or for two, is none.
fn named(what: &'static str, text: String) -> Result<String, GitUrlError> {
    let odd = text.starts_with('-')
        || text.contains("..")
        || text
            .bytes()
            .any(|b| b.is_ascii_whitespace() || b.is_ascii_control() || b"~^:?*[\\".contains(&b));
    if odd || text.is_empty() {
        return Err(GitUrlError::Malformed { what, text });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        // remote, reference, subdir
        for (text, expected) in [
            ("https://a/b.git", Some(("https://a/b.git", None, ""))),
            (
                "https://a/b.git#main",
                Some(("https://a/b.git", Some("main"), "")),
            ),
            (
                "https://a/b.git#:d/e",
                Some(("https://a/b.git", None, "d/e")),
            ),
            (
                "https://a/b.git#v1:/d/",
                Some(("https://a/b.git", Some("v1"), "d")),
            ),
            (
                "https://a/b.git?ref=v1&subdir=d",
                Some(("https://a/b.git", Some("v1"), "d")),
            ),
            (
                "https://a/b.git?tag=v1",
                Some(("https://a/b.git", Some("refs/tags/v1"), "")),
            ),
            ("git@a:b", Some(("git@a:b", None, ""))),
            (
                "me@a.b:c/d.git#x:y",
                Some(("me@a.b:c/d.git", Some("x"), "y")),
            ),
            ("git://a/b", Some(("git://a/b", None, ""))),
            ("ssh://git@a/b#x", Some(("ssh://git@a/b", Some("x"), ""))),
            ("file:///a/b", Some(("file:///a/b", None, ""))),
            ("github.com/a/b", Some(("https://github.com/a/b", None, ""))),
            ("https://a/b.tar.gz", None),
            ("https://a/b", None),
            ("a.git", None),
            ("dir/sub", None),
            ("-x@a:b", None),
            ("-", None),
        ] {
            let parsed = GitUrl::parse(text);
            let found = parsed.map(|it| {
                let it = it.unwrap_or_else(|error| panic!("{text}: {error}"));
                (it.remote, it.reference, it.subdir)
            });
            let expected = expected.map(|(a, b, c): (&str, Option<&str>, &str)| {
                (a.to_owned(), b.map(str::to_owned), c.to_owned())
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("https://a/b.git?x=1", "`x` is not known"),
            ("https://a/b.git?ref=a#b", "what to take twice"),
            ("https://a/b.git?subdir=a#b:c", "the directory twice"),
            (
                "https://a/b.git?keep-git-dir=maybe",
                "neither true nor false",
            ),
            ("https://a/b.git#--upload-pack=x", "cannot be a reference"),
            ("https://a/b.git#a..b", "cannot be a reference"),
            ("https://a/b.git#a:../x", "cannot be the directory"),
            ("https://a/b.git?checksum=xyz", "cannot be the commit"),
        ] {
            match GitUrl::parse(text) {
                Some(Err(error)) => assert!(error.to_string().contains(expected), "{error}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let url = GitUrl::parse("https://a/b.git?checksum=0123456789&keep-git-dir");
        let url = url.and_then(Result::ok).expect("an address");
        assert_eq!(url.keep_git_dir, Some(true));
        assert_eq!(url.checksum.as_deref(), Some("0123456789"));
    }
}
