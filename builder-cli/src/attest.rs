//! What `--attest`, `--provenance` and `--sbom` ask for: nothing, unless asked.
//!
//! | attribute of a provenance | what it says                                                             |
//! |---------------------------|--------------------------------------------------------------------------|
//! | mode                      | min (as Docker's documentation has it) or max                             |
//! | version                   | of SLSA: v1 or v0.2                                                      |
//! | builder-id, reproducible  | what the user says of the builder and of the build                       |
//! | inline-only               | not beside the files of type=local and type=tar                          |
//! | filename                  | its name there                                                           |

use clap::Args;

use builder_core::Build;
use builder_core::attest::provenance::{Mode, Options, Version};

use crate::environment::Environment;
use crate::exit::Failure;
use crate::fields;

/// Which provenance the metadata file has, as buildx reads it: min, max or disabled.
const IN_METADATA: &str = "BUILDX_METADATA_PROVENANCE";

#[derive(Debug, Default, Args)]
pub(crate) struct AttestFlags {
    /// Statement about the image, kept beside it: `type=provenance[,mode=min|max][,version=v1|v0.2][,builder-id=URL]
    /// [,reproducible=BOOL][,inline-only=BOOL][,filename=NAME]` or `type=sbom`; `disabled=true` takes one back
    #[arg(long, value_name = "ATTESTATION")]
    pub(crate) attest: Vec<String>,
    /// How the image was built, as SLSA: --attest type=provenance, with true, false or the rest of its attributes
    #[arg(long, value_name = "BOOL|ATTRIBUTES")]
    pub(crate) provenance: Option<String>,
    /// Which packages the image has, as SPDX: --attest type=sbom, with true or false
    #[arg(long, value_name = "BOOL")]
    pub(crate) sbom: Option<String>,
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) provenance: Option<Options>,
    pub(crate) sbom: bool,
}

impl AttestFlags {
    /// Reads all three; `--provenance` and `--sbom` win over `--attest`, as with buildx.
    pub(crate) fn read(&self) -> Result<Asked, Failure> {
        let mut asked = Asked::default();
        let mut seen: Vec<String> = Vec::new();
        for text in &self.attest {
            let wrong = |why: String| Failure::usage(format!("--attest {text}: {why}"));
            let mut pairs = fields::pairs("--attest", text)?;
            let at = pairs.iter().position(|(key, _)| key == "type");
            let at = at.ok_or_else(|| wrong("type=provenance or type=sbom is missing".into()))?;
            let (_, kind) = pairs.remove(at);
            if seen.contains(&kind) {
                return Err(wrong(format!("type={kind} is given twice")));
            }
            asked.take(&kind, pairs).map_err(wrong)?;
            seen.push(kind);
        }
        for (kind, text) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            let Some(text) = text.as_deref().filter(|it| !it.is_empty()) else {
                continue;
            };
            let flag = format!("--{kind}");
            let wrong = |why: String| Failure::usage(format!("{flag} {text}: {why}"));
            let pairs = match boolean(text) {
                Some(wanted) => vec![("disabled".to_owned(), (!wanted).to_string())],
                None if !text.contains('=') => {
                    return Err(wrong("true or false is expected".into()));
                }
                None => fields::pairs(&flag, text)?,
            };
            asked.take(kind, pairs).map_err(wrong)?;
        }
        Ok(asked)
    }
}

impl Asked {
    fn take(&mut self, kind: &str, pairs: Vec<(String, String)>) -> Result<(), String> {
        match kind {
            "provenance" => self.provenance = provenance(pairs)?,
            "sbom" => self.sbom = sbom(pairs)?,
            other => {
                return Err(format!(
                    "unknown type `{other}`: provenance or sbom is expected"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn apply(&self, build: Build) -> Build {
        let build = build.sbom(self.sbom);
        match &self.provenance {
            Some(options) => build.provenance(options.clone()),
            None => build,
        }
    }

    /// Returns how the metadata file tells of the build: in the words of the provenance that is asked for, as much of it
    /// as the environment says.
    pub(crate) fn in_metadata(
        &self,
        environment: &Environment,
    ) -> Result<Option<Options>, Failure> {
        let options = self.provenance.clone().unwrap_or_default();
        let mode = match environment.text(IN_METADATA)?.as_deref() {
            None | Some("" | "min" | "true" | "1") => Mode::Min,
            Some("max") => Mode::Max,
            Some("disabled" | "false" | "0") => return Ok(None),
            Some(other) => {
                return Err(Failure::usage(format!(
                    "{IN_METADATA}={other}: min, max or disabled is expected"
                )));
            }
        };
        Ok(Some(Options { mode, ..options }))
    }
}

fn provenance(pairs: Vec<(String, String)>) -> Result<Option<Options>, String> {
    let mut options = Options::default();
    let mut wanted = true;
    for (key, value) in pairs {
        match key.as_str() {
            "disabled" => wanted = !truth(&key, &value)?,
            "mode" => {
                options.mode = match value.as_str() {
                    "min" => Mode::Min,
                    "max" | "full" => Mode::Max,
                    _ => return Err(format!("mode=`{value}` is neither min nor max")),
                };
            }
            "version" => {
                options.version = match value.as_str() {
                    "v1" => Version::V1,
                    "v0.2" => Version::V02,
                    _ => return Err(format!("version=`{value}` is neither v1 nor v0.2")),
                };
            }
            "builder-id" => options.builder_id = value,
            "reproducible" => options.reproducible = truth(&key, &value)?,
            "inline-only" => options.inline_only = truth(&key, &value)?,
            "filename" => options.file = file(value)?,
            "capture-usage" => {
                if truth(&key, &value)? {
                    return Err(
                        "capture-usage is not supported: what steps use is not recorded".to_owned(),
                    );
                }
            }
            _ => return Err(format!("unknown key `{key}`")),
        }
    }
    Ok(wanted.then_some(options))
}

fn sbom(pairs: Vec<(String, String)>) -> Result<bool, String> {
    let mut wanted = true;
    for (key, value) in pairs {
        match key.as_str() {
            "disabled" => wanted = !truth(&key, &value)?,
            "generator" => {
                return Err(format!(
                    "generator={value} is not supported: the databases of the image's package managers are read \
                     by the builder itself; run another scanner on the image, and attach what it finds"
                ));
            }
            _ => return Err(format!("unknown key `{key}`")),
        }
    }
    Ok(wanted)
}

/// A name alone: no way to another directory.
fn file(name: String) -> Result<String, String> {
    match name.as_str() {
        "" | "." | ".." => Err(format!("filename=`{name}` is no name of a file")),
        _ if name.contains('/') => Err(format!("filename=`{name}` is more than a name")),
        _ => Ok(name),
    }
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    boolean(value).ok_or_else(|| format!("{key}=`{value}` is neither true nor false"))
}

/// As Go's `strconv.ParseBool`, which Docker reads it with.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(attest: &[&str], provenance: Option<&str>, sbom: Option<&str>) -> AttestFlags {
        AttestFlags {
            attest: attest.iter().map(|&it| it.to_owned()).collect(),
            provenance: provenance.map(str::to_owned),
            sbom: sbom.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_asked_for() {
        let min = Options::default;
        let max = || Options {
            mode: Mode::Max,
            ..min()
        };
        for (flags, provenance, sbom) in [
            (flags(&[], None, None), None, false),
            (flags(&[], Some("true"), Some("1")), Some(min()), true),
            (
                flags(&[], Some("mode=max"), Some("false")),
                Some(max()),
                false,
            ),
            (
                flags(&["type=provenance,mode=max", "type=sbom"], None, None),
                Some(max()),
                true,
            ),
            (
                flags(&["type=provenance,mode=max"], Some("false"), None),
                None,
                false,
            ),
            (
                flags(&["mode=max,type=provenance,disabled=true"], None, None),
                None,
                false,
            ),
            (
                flags(
                    &[],
                    Some(
                        "version=v0.2,builder-id=https://x/y,reproducible=true,inline-only=t,filename=p",
                    ),
                    None,
                ),
                Some(Options {
                    mode: Mode::Min,
                    version: Version::V02,
                    builder_id: "https://x/y".to_owned(),
                    reproducible: true,
                    inline_only: true,
                    file: "p".to_owned(),
                }),
                false,
            ),
        ] {
            let asked = flags
                .read()
                .unwrap_or_else(|it| panic!("{flags:?}: {it:?}"));
            assert_eq!(asked, Asked { provenance, sbom }, "{flags:?}");
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        for (flags, expected) in [
            (
                flags(&["mode=max"], None, None),
                "type=provenance or type=sbom is missing",
            ),
            (flags(&["type=vex"], None, None), "unknown type `vex`"),
            (
                flags(&["type=sbom", "type=sbom"], None, None),
                "given twice",
            ),
            (flags(&[], Some("mode=all"), None), "neither min nor max"),
            (flags(&[], Some("version=v2"), None), "neither v1 nor v0.2"),
            (flags(&[], Some("colour=red"), None), "unknown key `colour`"),
            (flags(&[], Some("filename=../x"), None), "more than a name"),
            (
                flags(&[], None, Some("generator=r/x")),
                "attach what it finds",
            ),
            (flags(&[], None, Some("maybe")), "true or false"),
        ] {
            match flags.read() {
                Err(Failure::Usage(message)) => {
                    assert!(message.contains(expected), "{flags:?}: {message}");
                }
                other => panic!("{flags:?}: {other:?}"),
            }
        }
    }
}
