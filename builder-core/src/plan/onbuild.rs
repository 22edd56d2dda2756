//! ONBUILD triggers that a base hands down.

use crate::dockerfile::ast::{Instruction, Kind, Stage};
use crate::dockerfile::{Span, parse_instruction};

use super::error::{PlanError, PlanErrorKind};

/// Reads the triggers of an image's config. They stand, for messages, at the FROM that inherits them.
pub(super) fn from_config(
    triggers: &[String],
    image: &str,
    stage: &Stage,
) -> Result<Vec<Instruction>, PlanError> {
    triggers
        .iter()
        .map(|trigger| {
            let mut instruction = parse_instruction(trigger, '\\').map_err(|error| {
                PlanError::new(
                    PlanErrorKind::Onbuild {
                        trigger: trigger.clone(),
                        image: image.to_owned(),
                        error: format!(
                            "the trigger `ONBUILD {trigger}` of {image} cannot be read: {error}"
                        ),
                    },
                    stage.head.span,
                )
            })?;
            place(&mut instruction, stage);
            Ok(instruction)
        })
        .collect()
}

/// Returns the triggers that an earlier stage of this file hands to stages built from it.
pub(super) fn from_stage(base: &[Instruction], stage: &Stage) -> Vec<Instruction> {
    base.iter()
        .filter_map(|instruction| match &instruction.kind {
            Kind::Onbuild(onbuild) => {
                let mut inner = onbuild.inner.clone();
                place(&mut inner, stage);
                Some(inner)
            }
            _ => None,
        })
        .collect()
}

fn place(instruction: &mut Instruction, stage: &Stage) {
    instruction.head.span = stage.head.span;
    instruction.head.lines = stage.head.lines;
    let at = |span: &mut Span| *span = stage.head.span;
    at(&mut instruction.head.keyword.span);
    match &mut instruction.kind {
        Kind::Add(copy) | Kind::Copy(copy) => {
            copy.sources.iter_mut().for_each(|it| at(&mut it.span));
            copy.exclude.iter_mut().for_each(|it| at(&mut it.span));
            at(&mut copy.dest.span);
            for flag in [
                &mut copy.from,
                &mut copy.chown,
                &mut copy.chmod,
                &mut copy.checksum,
            ] {
                flag.iter_mut().for_each(|it| at(&mut it.span));
            }
        }
        Kind::Run(run) => {
            run.mounts.iter_mut().for_each(|it| at(&mut it.span));
            run.devices.iter_mut().for_each(|it| at(&mut it.span));
            for flag in [&mut run.network, &mut run.security] {
                flag.iter_mut().for_each(|it| at(&mut it.span));
            }
        }
        Kind::Arg(args) => {
            for arg in args {
                at(&mut arg.name.span);
                arg.default.iter_mut().for_each(|it| at(&mut it.span));
            }
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            for pair in pairs {
                at(&mut pair.key.span);
                at(&mut pair.value.span);
            }
        }
        Kind::Expose(words) | Kind::Volume(words) => {
            words.iter_mut().for_each(|it| at(&mut it.span));
        }
        Kind::Maintainer(word)
        | Kind::Stopsignal(word)
        | Kind::User(word)
        | Kind::Workdir(word) => at(&mut word.span),
        Kind::Cmd(_)
        | Kind::Entrypoint(_)
        | Kind::Healthcheck(_)
        | Kind::Onbuild(_)
        | Kind::Shell(_) => {}
    }
}
