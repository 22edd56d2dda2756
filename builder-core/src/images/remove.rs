//! Forgetting names, and naming.

use super::{Images, ImagesError};
use crate::digest::Digest;
use crate::image::Reference;

/// What a removal has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    Untagged(Reference),
    /// The last name is gone, and the image with it.
    Deleted(Digest),
}

impl Images {
    /// Gives an image one more name.
    ///
    /// # Errors
    /// As [`find`](Self::find); a name with a digest.
    pub fn tag(&self, source: &str, name: &Reference) -> Result<(), ImagesError> {
        if name.digest().is_some() {
            return Err(ImagesError::DigestAsTag {
                name: name.familiar(),
            });
        }
        let image = self.find(source)?;
        self.store.tag(name, image.top)?;
        Ok(())
    }

    /// Forgets a name; or, where an id is given, all names of an image.
    ///
    /// Content stays in the store until a sweep finds that nothing refers to it.
    ///
    /// # Errors
    /// As [`find`](Self::find); [`ImagesError::SeveralNames`] for an id, without `force`.
    pub fn remove(&self, text: &str, force: bool) -> Result<Vec<Removed>, ImagesError> {
        let image = self.find(text)?;
        let by_name: Option<Reference> = text.parse().ok().filter(|it| image.names.contains(it));
        let names = match by_name {
            Some(name) => vec![name],
            None if image.names.len() > 1 && !force => {
                return Err(ImagesError::SeveralNames {
                    id: image.id().to_string(),
                    names: image.names.iter().map(Reference::familiar).collect(),
                });
            }
            None => image.names.clone(),
        };
        let mut removed = Vec::new();
        for name in &names {
            if self.store.untag(name)? {
                removed.push(Removed::Untagged(name.clone()));
            }
        }
        if names.len() == image.names.len() {
            self.store.drop_nameless(&image.top.digest)?;
            self.store.forget_built(&image.id())?;
            removed.push(Removed::Deleted(image.id()));
        }
        Ok(removed)
    }
}
