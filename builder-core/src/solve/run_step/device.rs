//! `--device` of a RUN.

use super::{Prepared, SolveErrorKind};
use crate::plan::RunOp;
use crate::solve::devices::Devices;
use crate::solve::job::Job;

/// Gives the step its devices. One that is not there is left out, unless it is required.
pub(super) fn devices(
    job: &Job,
    op: &RunOp,
    prepared: &mut Prepared,
) -> Result<(), SolveErrorKind> {
    if op.devices.is_empty() {
        return Ok(());
    }
    let devices = Devices::read(&job.inputs.options.device_dirs);
    for device in &op.devices {
        let found = devices.find(&device.name);
        if found.is_empty() && device.required {
            return Err(devices.missing(&device.name));
        }
        for full in found {
            devices.give(full, &mut prepared.spec)?;
        }
    }
    Ok(())
}
