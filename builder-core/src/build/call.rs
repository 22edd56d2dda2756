//! What a Dockerfile offers, without a build: its targets, and what one of them takes.

use super::error::{BuildError, located};
use super::request::Build;
use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::parse;
use crate::plan::{Outline, Target, outline, targets};

/// What was found in a Dockerfile, with its text, which all places are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// As it is shown in messages.
    pub file: String,
    pub text: String,
    pub found: T,
}

impl Build {
    /// Returns the stages of the Dockerfile, in its order. Nothing is looked up.
    ///
    /// # Errors
    /// A Dockerfile that cannot be read.
    pub fn targets(&self) -> Result<Listing<Vec<Target>>, BuildError> {
        let (file, text) = self.read_dockerfile()?;
        let found = targets(&read(&file, &text)?);
        Ok(Listing { file, text, found })
    }

    /// Returns what the target takes: args, secrets, ssh agents, cache mounts. Configs of base images are fetched, as
    /// their ONBUILD may take more.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub async fn outline(&self) -> Result<Listing<Outline>, BuildError> {
        let planned = self.plan().await?;
        let found = outline(&read(&planned.file, &planned.text)?, &planned.plan);
        Ok(Listing {
            file: planned.file,
            text: planned.text,
            found,
        })
    }
}

fn read(file: &str, text: &str) -> Result<Dockerfile, BuildError> {
    parse(text).map_err(|error| {
        let span = Some(error.span);
        BuildError::Parse(Box::new(located(error, file, text, span)))
    })
}
