//! Annotations of what is exported, each at its level, as buildx has them.
//!
//! | level                 | where it is written                                  |
//! |-----------------------|------------------------------------------------------|
//! | `manifest`            | in the manifest (of one platform, where one is given) |
//! | `manifest-descriptor` | where an index points to that manifest               |
//! | `index`               | in the index of several platforms or attestations    |
//! | `index-descriptor`    | where a layout points to that index                  |

use std::collections::BTreeMap;

use crate::image::Platform;

/// Where an annotation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    pub level: Level,
    /// Of one platform's manifest alone.
    pub platform: Option<Platform>,
    pub key: String,
    pub value: String,
}

/// Why a text is no annotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotationError {
    #[error("KEY=VALUE, or LEVEL:KEY=VALUE, is expected")]
    Form,
    #[error(
        "`{0}` is no level: manifest, index, manifest-descriptor or index-descriptor is expected"
    )]
    Level(String),
    #[error("an annotation of an index is of no platform")]
    IndexPlatform,
    #[error("{0}")]
    Platform(String),
}

impl Annotation {
    /// Reads `[LEVEL[PLATFORM],…:]KEY=VALUE`, one annotation a level.
    ///
    /// # Errors
    /// A level or a platform that there is none of; a missing key.
    pub fn parse(text: &str) -> Result<Vec<Annotation>, AnnotationError> {
        let (left, value) = text.split_once('=').ok_or(AnnotationError::Form)?;
        let (levels, key) = left.split_once(':').unwrap_or(("manifest", left));
        let levels = levels.split(',');
        levels
            .map(|level| Annotation::at(level, key, value))
            .collect()
    }

    /// Makes an annotation at `LEVEL` or `LEVEL[PLATFORM]`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn at(level: &str, key: &str, value: &str) -> Result<Annotation, AnnotationError> {
        if key.is_empty() {
            return Err(AnnotationError::Form);
        }
        let (name, platform) = match level.strip_suffix(']').and_then(|it| it.split_once('[')) {
            Some((name, platform)) => {
                let platform = Platform::parse(platform, &Platform::host());
                let platform = platform.map_err(|it| AnnotationError::Platform(it.to_string()))?;
                (name, Some(platform))
            }
            None => (level, None),
        };
        let level = match name {
            "manifest" => Level::Manifest,
            "manifest-descriptor" => Level::ManifestDescriptor,
            "index" => Level::Index,
            "index-descriptor" => Level::IndexDescriptor,
            other => return Err(AnnotationError::Level(other.to_owned())),
        };
        if platform.is_some() && matches!(level, Level::Index | Level::IndexDescriptor) {
            return Err(AnnotationError::IndexPlatform);
        }
        Ok(Annotation {
            level,
            platform,
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Returns what is written at `level`, for `platform` where a level has one; what names the platform wins.
pub(super) fn at(
    all: &[Annotation],
    level: Level,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let fits = |one: &&Annotation| one.level == level;
    let general = all.iter().filter(fits).filter(|it| it.platform.is_none());
    let own = all
        .iter()
        .filter(fits)
        .filter(|it| it.platform.is_some() && it.platform.as_ref() == platform);
    general
        .chain(own)
        .map(|it| (it.key.clone(), it.value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let one = |level, platform: Option<&str>| Annotation {
            level,
            platform: platform.map(|it| Platform::parse(it, &Platform::host()).expect(it)),
            key: "a.b".to_owned(),
            value: "c=d".to_owned(),
        };
        for (text, expected) in [
            ("a.b=c=d", Ok(vec![one(Level::Manifest, None)])),
            ("index:a.b=c=d", Ok(vec![one(Level::Index, None)])),
            (
                "index,manifest-descriptor[linux/arm64]:a.b=c=d",
                Ok(vec![
                    one(Level::Index, None),
                    one(Level::ManifestDescriptor, Some("linux/arm64")),
                ]),
            ),
            ("a.b", Err(AnnotationError::Form)),
            ("=c", Err(AnnotationError::Form)),
            (
                "layer:a.b=c",
                Err(AnnotationError::Level("layer".to_owned())),
            ),
            (
                "index[linux/amd64]:a.b=c",
                Err(AnnotationError::IndexPlatform),
            ),
        ] {
            assert_eq!(Annotation::parse(text), expected, "{text}");
        }
    }
}
