//! Which images there are.

use super::{Filter, Image, Images, ImagesError};
use crate::image::Reference;
use crate::image::time::parse_rfc3339;

/// One name of an image, or an image without a name.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: Option<Reference>,
    pub image: Image,
}

impl Row {
    /// Seconds since the epoch, where the image says.
    pub fn created(&self) -> Option<i64> {
        parse_rfc3339(self.image.config.created.as_deref()?)
    }
}

/// What a look at the store has found.
#[derive(Debug, Default)]
pub struct Listing {
    /// The latest first.
    pub rows: Vec<Row>,
    /// What cannot be read, and why.
    pub broken: Vec<(String, ImagesError)>,
}

impl Images {
    /// Lists the images that all filters let through; those that cannot be read come apart.
    ///
    /// # Errors
    /// Where the store's index cannot be read; an image that a filter names and that is not there.
    pub fn list(&self, filters: &[Filter]) -> Result<Listing, ImagesError> {
        let tags = self.store.list()?;
        let mut listing = Listing::default();
        let mut add =
            |name: Option<Reference>, read: Result<Image, ImagesError>, text: String| match read {
                Ok(image) => listing.rows.push(Row { name, image }),
                Err(error) => listing.broken.push((text, error)),
            };
        for tag in &tags {
            let text = tag.reference.familiar();
            let read = self.read(&text, &tag.descriptor, &tags);
            add(Some(tag.reference.clone()), read, text);
        }
        for top in self.store.nameless()? {
            let text = top.digest.to_string();
            add(None, self.read(&text, &top, &tags), text);
        }
        let bounds = self.bounds(filters)?;
        listing.rows.retain(|row| {
            filters
                .iter()
                .zip(&bounds)
                .all(|(it, bound)| it.lets(row, *bound))
        });
        listing
            .rows
            .sort_by_key(|row| std::cmp::Reverse(row.created()));
        Ok(listing)
    }

    /// Returns the time that a filter compares with, where it names an image.
    fn bounds(&self, filters: &[Filter]) -> Result<Vec<Option<i64>>, ImagesError> {
        let bound = |filter: &Filter| match filter {
            Filter::Before(name) | Filter::Since(name) => {
                let image = self.find(name)?;
                Ok(Row { name: None, image }.created())
            }
            _ => Ok(None),
        };
        filters.iter().map(bound).collect()
    }
}
