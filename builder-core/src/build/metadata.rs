//! What a build came to, in buildx's words: the content of `--metadata-file`.

use serde_json::{Map, Value, json};

use super::attested::of_platform;
use super::run::Image;
use crate::attest::provenance;
use crate::digest::Digest;
use crate::export::Finished;

impl Image {
    /// Returns the image as a registry got it, where one did: that is what names lead to. Else as the first output that
    /// holds one has it, else as the store has it.
    pub fn exported(&self) -> &Finished {
        let output = |at: usize| self.outputs.get(at).and_then(Option::as_ref);
        let pushed = self.pushed.and_then(output);
        let first = || self.outputs.iter().flatten().next();
        pushed.or_else(first).unwrap_or(&self.stored)
    }

    /// Returns the image's id: its config's digest, or that of the index where there are several platforms.
    pub fn id(&self) -> Digest {
        match &self.exported().index {
            Some(index) => index.digest,
            None => self.stored.config.digest,
        }
    }

    /// Returns the keys that buildx writes. `build_ref` names the build: `BUILDER/NODE/ID`; how it went is told as
    /// `told` says.
    pub fn metadata(&self, build_ref: &str, told: Option<&provenance::Options>) -> Value {
        let image = self.exported();
        let mut out = Map::new();
        let many = self.facts.len() > 1;
        let layers = if many { &[] } else { &image.layers[..] };
        for (facts, platform) in self.facts.iter().zip(&self.platforms) {
            if let Some(told) = told {
                let key = of_platform("buildx.build.provenance", platform, many);
                out.insert(key, provenance::predicate(facts, told, layers));
            }
        }
        out.insert("buildx.build.ref".to_owned(), json!(build_ref));
        let top = image.top();
        let mut descriptor = top.clone();
        if image.index.is_none() {
            let config = image.config.digest.to_string();
            out.insert("containerimage.config.digest".to_owned(), json!(config));
            descriptor = descriptor
                .annotate("config.digest", config)
                .for_platform(self.platform.clone());
        }
        out.insert("containerimage.descriptor".to_owned(), json!(descriptor));
        let digest = top.digest.to_string();
        out.insert("containerimage.digest".to_owned(), json!(digest));
        let names = match image.names.is_empty() {
            true => &self.names,
            false => &image.names,
        };
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            out.insert("image.name".to_owned(), json!(names.join(",")));
        }
        Value::Object(out)
    }
}
