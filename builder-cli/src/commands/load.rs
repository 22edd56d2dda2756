//! `builder load`.

use std::io::IsTerminal;

use super::store::{open, platform};
use crate::args::images::LoadArgs;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::render;

pub(super) fn run(args: LoadArgs, environment: &Environment) -> Result<(), Failure> {
    let text = args.platform.as_deref();
    let platform = text.map(|it| platform(Some(it))).transpose()?;
    let platform = platform.as_ref();
    let stdin = std::io::stdin();
    if args.input.is_none() && stdin.is_terminal() {
        return Err(Failure::usage(
            "standard input is a terminal: give --input FILE, or redirect",
        ));
    }
    let images = open(args.store, environment)?;
    let loaded = match &args.input {
        Some(path) => images.load(path, platform)?,
        None => images.load_stream(&mut stdin.lock(), platform)?,
    };
    if args.quiet {
        return Ok(());
    }
    let mut text = String::new();
    for image in loaded {
        if image.names.is_empty() {
            text += &format!("Loaded image ID: {}\n", image.id);
        }
        for name in &image.names {
            text += &format!("Loaded image: {}\n", name.familiar());
        }
    }
    render::result(&text)
}
