//! `builder tag`.

use super::store::{name, open};
use crate::args::images::TagArgs;
use crate::environment::Environment;
use crate::exit::Failure;

pub(super) fn run(args: TagArgs, environment: &Environment) -> Result<(), Failure> {
    let target = name(&args.name)?;
    Ok(open(args.store, environment)?.tag(&args.source, &target)?)
}
