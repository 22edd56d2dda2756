//! `builder rmi`.

use builder_core::images::{ImagesError, Removed};

use super::store::open;
use crate::args::images::RmiArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

/// What can be removed is, and the first that cannot be is the error.
pub(super) fn run(args: RmiArgs, environment: &Environment) -> Result<(), Failure> {
    let images = open(args.store, environment)?;
    let mut failed = None;
    let mut text = String::new();
    for name in &args.images {
        match images.remove(name, args.force) {
            Ok(removed) => {
                for it in removed {
                    text += &match it {
                        Removed::Untagged(name) => format!("Untagged: {}\n", name.familiar()),
                        Removed::Deleted(id) => format!("Deleted: {id}\n"),
                    };
                }
            }
            Err(ImagesError::NoSuchImage { .. }) if args.force => {}
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    render::result(&text)?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}
