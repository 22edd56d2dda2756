//! Builds the image of a directory with a Dockerfile, and prints what happens: `cargo run --example build DIRECTORY`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use builder_core::progress::Event;
use builder_core::{Build, Context, sandbox};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // First of all, and before any thread: steps are run by this very program.
    let standing = sandbox::init()?;
    let directory = std::env::args().nth(1).ok_or("which directory?")?;
    let build = Build::new(Context::dir(directory))
        .store(std::env::temp_dir().join(format!("builder-example-{}", standing.uid)))
        .standing(&standing)
        .tag("example:latest");
    let events = Arc::new(|event: Event| println!("{event:?}"));
    let image = tokio::runtime::Runtime::new()?.block_on(build.run(events))?;
    println!("{}", image.stored.config.digest);
    Ok(())
}
