//! Platforms: `os/architecture[/variant]`, in Go's words (OCI image-spec, image-index.md).
//!
//! Names are normalised and matched as containerd's `platforms` package does: `aarch64` is `arm64`, whose
//! `v8` goes without saying, as does `amd64`'s `v1`; `arm` alone is `arm/v7`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    #[error("`{0}` is not a platform: `os/architecture` or `os/architecture/variant` is expected")]
    Form(String),
    #[error(
        "`{text}` is not a platform: `{part}` is neither an operating system nor an architecture"
    )]
    Unknown { text: String, part: String },
}

/// Where an image runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Builds a normalised platform.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            ..Platform::default()
        }
        .normalized()
    }

    /// Returns the platform that this program was built for.
    pub fn host() -> Self {
        Platform::for_arch(std::env::consts::ARCH)
    }

    /// Returns Linux on `arch`, in the words of Go, of `uname -m` or of Rust.
    pub fn for_arch(arch: &str) -> Self {
        let arch = match arch {
            "x86" | "i586" | "i686" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            "loongarch64" => "loong64",
            "armv7l" => "armhf",
            "armv6l" => "armel",
            other => other,
        };
        Platform::new("linux", arch, None)
    }

    /// Reads a platform; a part left out is `host`'s: `linux` alone, or `arm64` alone.
    ///
    /// # Errors
    /// Where the text has more than three parts, an odd character, or is one unknown word.
    pub fn parse(text: &str, host: &Platform) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let odd = |part: &&str| {
            part.is_empty()
                || !part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if parts.iter().any(odd) {
            return Err(PlatformError::Form(text.to_owned()));
        }
        match parts[..] {
            [word] => {
                let os = normalize_os(word);
                if KNOWN_OS.contains(&os.as_str()) {
                    let mut platform = host.clone();
                    platform.os = os;
                    return Ok(platform);
                }
                let platform = Platform::new(&host.os, word, None);
                if KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Ok(platform);
                }
                Err(PlatformError::Unknown {
                    text: text.to_owned(),
                    part: word.to_owned(),
                })
            }
            [os, architecture] => Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, Some(variant))),
            _ => Err(PlatformError::Form(text.to_owned())),
        }
    }

    /// Returns the platform in its usual words.
    #[must_use]
    pub fn normalized(&self) -> Platform {
        let variant = self.variant.as_deref().unwrap_or("").to_ascii_lowercase();
        let architecture = self.architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", String::new()),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", String::new()),
            ("x86_64" | "x86-64" | "amd64", _) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", String::new()),
            ("aarch64" | "arm64", _) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7".to_owned()),
            ("armel", _) => ("arm", "v6".to_owned()),
            ("arm", "" | "7") => ("arm", "v7".to_owned()),
            ("arm", "5" | "6" | "8") => ("arm", format!("v{variant}")),
            (other, _) => (other, variant),
        };
        Platform {
            architecture: architecture.to_owned(),
            os: normalize_os(&self.os),
            os_version: self.os_version.clone().filter(|it| !it.is_empty()),
            os_features: self.os_features.clone(),
            variant: Some(variant).filter(|it| !it.is_empty()),
        }
    }

    /// Returns what runs on this platform, best first: older variants, then the 32-bit architecture.
    pub fn candidates(&self) -> Vec<Platform> {
        let own = self.normalized();
        let mut list = vec![own.clone()];
        let mut add = |architecture: &str, variant: Option<String>| {
            list.push(Platform {
                architecture: architecture.to_owned(),
                variant,
                ..own.clone()
            });
        };
        let number = |text: &str| text.strip_prefix('v').and_then(|n| n.parse::<u8>().ok());
        let variant = own.variant.as_deref().unwrap_or("");
        match own.architecture.as_str() {
            "amd64" => {
                if let Some(level) = number(variant) {
                    for older in (2..level).rev() {
                        add("amd64", Some(format!("v{older}")));
                    }
                    add("amd64", None);
                }
                add("386", None);
            }
            "arm64" => {
                if !variant.is_empty() {
                    // v8.4 runs v8.3 and so on; v9.x has all of v8.(x+5).
                    for older in older_arm64(variant) {
                        add("arm64", Some(older));
                    }
                    add("arm64", None);
                }
                for older in ["v8", "v7", "v6", "v5"] {
                    add("arm", Some(older.to_owned()));
                }
            }
            "arm" => {
                if let Some(level) = number(variant) {
                    for older in (5..level).rev() {
                        add("arm", Some(format!("v{older}")));
                    }
                }
            }
            _ => {}
        }
        list
    }

    /// Whether both name the same system, architecture and variant (versions and features aside).
    pub fn same_machine(&self, other: &Platform) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && self.variant == other.variant
    }

    /// Whether an image for `image` runs here.
    pub fn runs(&self, image: &Platform) -> bool {
        let image = image.normalized();
        self.candidates().iter().any(|it| it.same_machine(&image))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Platform::parse(text, &Platform::host())
    }
}

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
];

const KNOWN_ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "wasm",
];

fn normalize_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    }
}

fn older_arm64(variant: &str) -> Vec<String> {
    let Some((major, minor)) = variant
        .strip_prefix('v')
        .map(|text| text.split_once('.').unwrap_or((text, "0")))
        .and_then(|(major, minor)| Some((major.parse::<u8>().ok()?, minor.parse::<u8>().ok()?)))
    else {
        return Vec::new();
    };
    let name = |major: u8, minor: u8| match minor {
        0 => format!("v{major}"),
        _ => format!("v{major}.{minor}"),
    };
    let mut older: Vec<String> = (0..minor).rev().map(|it| name(major, it)).collect();
    if major == 9 {
        let top = minor.saturating_add(5).min(9);
        older.extend((1..=top).rev().map(|it| name(8, it)));
    }
    // Plain v8 is written as no variant at all.
    older.retain(|it| it != "v8");
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_normalises() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("Linux/AARCH64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v8.2", "linux/arm64/v8.2"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("riscv64", "linux/riscv64"),
            ("armhf", "linux/arm/v7"),
            ("windows", "windows/s390x"),
        ] {
            let host = Platform::for_arch("s390x");
            let platform = Platform::parse(text, &host).expect(text);
            assert_eq!(platform.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_platform() {
        for text in [
            "",
            "/",
            "linux/",
            "linux/amd64/v1/x",
            "toaster",
            "linux/am d64",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn newer_machines_run_older_images() {
        for (host, image, expected) in [
            ("linux/arm64/v9.1", "linux/arm64/v8.6", true),
            ("linux/arm64/v9.1", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v9", false),
            ("linux/amd64/v3", "linux/amd64/v2", true),
            ("linux/amd64/v3", "linux/amd64/v4", false),
            ("linux/arm/v7", "linux/arm/v5", true),
        ] {
            let host: Platform = host.parse().expect(host);
            let runs = host.runs(&image.parse().expect(image));
            assert_eq!(runs, expected, "{image} on {host}");
        }
    }
}
