//! What a plan depends on besides the Dockerfile.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::image::{Platform, Reference};

use super::NetworkMode;

/// What a name of `--build-context` stands for, as far as planning goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// An image: its config is asked for.
    Image,
    /// A tree of files without a config.
    Directory,
    /// A stage of the same Dockerfile, by name.
    Stage(String),
}

/// All of a user's wishes that shape the graph.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// `None`: the last stage.
    pub target: Option<String>,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// The platform of the result.
    pub platform: Platform,
    /// The platform was asked for: the image says so whatever its base says of itself.
    pub platform_given: bool,
    /// The platform of this machine.
    pub build_platform: Platform,
    /// Named contexts, by name as given.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The network of a RUN without `--network`.
    pub network: NetworkMode,
    /// Lines of `/etc/hosts` besides the usual.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Seconds; also honoured as a build arg of that name, which wins.
    pub source_date_epoch: Option<i64>,
    /// The time of what [`epoch_source`](super::epoch_source) names. Without one (it has none, or nobody looked) the
    /// argument counts as not given.
    pub epoch_of_source: Option<i64>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions {
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            platform: Platform::host(),
            platform_given: false,
            build_platform: Platform::host(),
            contexts: BTreeMap::new(),
            network: NetworkMode::Default,
            extra_hosts: Vec::new(),
            source_date_epoch: None,
            epoch_of_source: None,
        }
    }
}

impl PlanOptions {
    /// Returns the named context that stands for `name`: as written, or the same image name in other words.
    pub(super) fn context(&self, name: &str) -> Option<(&str, &NamedContext)> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let same = |given: &str| {
            given.eq_ignore_ascii_case(name)
                || matches!(
                    (given.parse::<Reference>(), name.parse::<Reference>()),
                    (Ok(a), Ok(b)) if a == b
                )
        };
        self.contexts
            .iter()
            .find(|(given, _)| same(given))
            .map(|(given, kind)| (given.as_str(), kind))
    }
}
