//! What a RUN changed, as a layer and as a snapshot.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};

use super::super::file::Accounts;
use super::super::job::Job;
use super::super::retime::{self, Retiming};
use super::super::trees::chains;
use super::super::{FileError, SolveErrorKind, file_step};
use crate::cache::{Layer, Retimed};
use crate::digest::ContentDigest;
use crate::export::LayerWriter;
use crate::layer::{EntryKind, Writer, WriterOptions, read_ahead};
use crate::snapshot::{Active, Change, open_data, read_data};

/// A small file, read already.
type Ahead = Option<(Vec<u8>, ContentDigest)>;

/// Writes what the process changed as a layer, and keeps its tree as a snapshot.
///
/// The layer has the times that files have, under a `SOURCE_DATE_EPOCH` too: what was later than one cannot be told under the
/// next. Where outputs will want it, the layer with the times of the epoch is written beside it.
pub(super) fn keep(
    job: &Job,
    active: Active,
    parent: &[Layer],
    accounts: Arc<Accounts>,
) -> Result<Layer, SolveErrorKind> {
    let inputs = &job.inputs;
    let upper = File::open(&active.upper)
        .map_err(|error| SolveErrorKind::io("open a step's changes", error))?;
    let changed = inputs.snapshots.changes(&active)?;
    let epoch = inputs.plan.source_date_epoch;
    let writer = |leaves| -> Result<Writer<LayerWriter>, SolveErrorKind> {
        let mut out = inputs.compressor.writer(leaves)?;
        let outline = out.outline();
        Ok(Writer::outlined(out, WriterOptions::default(), outline))
    };
    let mut own = writer(job.leaves() && epoch.is_none())?;
    let mut told = match epoch {
        Some(epoch) if job.leaves() => {
            Some((writer(true)?, Retiming::new(inputs.options.now, epoch)))
        }
        _ => None,
    };
    let read = |change: &Change| read_data(upper.as_fd(), change);
    read_ahead(
        &changed,
        |change| change.entry.size(),
        read,
        |change, ahead| {
            let ahead: Ahead = ahead.transpose()?;
            append(&mut own, upper.as_fd(), change, &ahead)?;
            if let Some((writer, times)) = &mut told {
                let mut change = change.clone();
                change.entry.mtime = times.told(change.entry.mtime);
                append(writer, upper.as_fd(), &change, &ahead)?;
            }
            Ok::<(), SolveErrorKind>(())
        },
    )?;
    let (out, written) = own.finish().map_err(FileError::Layer)?;
    let layer = file_step::keep_blob(inputs, out, &written, parent, None)?;
    if let (Some((writer, times)), Some(epoch)) = (told, epoch) {
        let (out, written) = writer.finish().map_err(FileError::Layer)?;
        let made = Retimed {
            layer: retime::made(out, &written, epoch)?,
            exact: times.is_exact(),
        };
        job.shared.cache.put_retimed(&layer, epoch, &made)?;
    }
    // An earlier layer with the same content stays: its times are in the image, so its snapshot must be used too.
    if layer.diff_id == written.diff_id {
        let mut stack = parent.to_vec();
        stack.push(layer.clone());
        let chains = chains(&stack);
        inputs.snapshots.commit(active, &changed, &chains)?;
        if let Some(top) = chains.last().copied() {
            job.loader.unpacked(top);
            if !accounts.may_change(changed.iter().map(|change| &change.entry)) {
                let known = job.shared.accounts.lock();
                known
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(top, accounts);
            }
        }
    }
    Ok(layer)
}

fn append(
    writer: &mut Writer<LayerWriter>,
    upper: BorrowedFd<'_>,
    change: &Change,
    ahead: &Ahead,
) -> Result<(), SolveErrorKind> {
    let entry = &change.entry;
    let written = match (ahead, &entry.kind) {
        (Some((bytes, content)), _) => writer.append_hashed(entry, bytes, content),
        (None, EntryKind::File { .. }) => writer.append(entry, &mut open_data(upper, change)?),
        (None, _) => writer.append(entry, &mut std::io::empty()),
    };
    Ok(written.map_err(FileError::Layer)?)
}
