//! What is told of an image, in Docker's words.

use serde_json::{Value, json};

use super::{Image, Images, ImagesError};
use crate::image::Reference;

/// How one layer, or one step without a layer, came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    /// RFC 3339.
    pub created: Option<String>,
    pub created_by: String,
    pub comment: String,
    /// Bytes of the layer as it is stored; none for a step without one.
    pub size: u64,
}

impl Image {
    /// Returns what `docker image inspect` shows, with the fields that mean something here.
    pub fn inspect(&self) -> Value {
        let config = &self.config;
        let last = config.history.last();
        let comment = last.and_then(|it| it.comment.clone()).unwrap_or_default();
        let layers: Vec<String> = config.diff_ids.iter().map(|it| it.0.to_string()).collect();
        let digests: Vec<String> = self.repo_digests.iter().map(Reference::familiar).collect();
        let mut value = json!({
            "Id": self.id().to_string(),
            "RepoTags": self.repo_tags(),
            "RepoDigests": digests,
            "Comment": comment,
            "Created": config.created,
            "Author": config.author,
            "Architecture": config.architecture,
            "Os": config.os,
            "Size": self.size(),
            "RootFS": {"Type": "layers", "Layers": layers},
            "Config": config.config,
            "Descriptor": self.manifest_descriptor,
        });
        if !config.variant.is_empty()
            && let Some(object) = value.as_object_mut()
        {
            object.insert("Variant".to_owned(), json!(config.variant));
        }
        value
    }

    /// Returns the history, the latest first, as `docker history` has it.
    pub fn history(&self) -> Vec<HistoryLine> {
        let mut layers = self.manifest.layers.iter();
        let mut lines: Vec<HistoryLine> = self
            .config
            .history
            .iter()
            .map(|entry| HistoryLine {
                created: entry.created.clone(),
                created_by: entry.created_by.clone().unwrap_or_default(),
                comment: entry.comment.clone().unwrap_or_default(),
                size: match entry.empty_layer {
                    true => 0,
                    false => layers.next().map_or(0, |it| it.size),
                },
            })
            .collect();
        // A config may say nothing of its layers.
        lines.extend(layers.map(|layer| HistoryLine {
            created: None,
            created_by: String::new(),
            comment: String::new(),
            size: layer.size,
        }));
        lines.reverse();
        lines
    }
}

impl Images {
    /// Returns the manifest or index of an image as it is stored.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn raw_manifest(&self, text: &str) -> Result<Vec<u8>, ImagesError> {
        let image = self.find(text)?;
        Ok(self.store.blobs().read(&image.top.digest, 8 << 20)?)
    }
}
