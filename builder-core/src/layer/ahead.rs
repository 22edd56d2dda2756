//! Files read on all cores, some megabytes before a layer's writer comes to them.
//!
//! The writer hashes in order, on one thread; to open and read a small file takes as long as that. What is larger is
//! left to the writer, which reads it in pieces: memory holds a few megabytes, whatever the layer's size.

use std::ops::Range;
use std::sync::mpsc;

use rayon::ThreadPool;
use rayon::prelude::*;

/// Larger files are not read ahead.
const SMALL_BYTES: u64 = 2 << 20;
/// So much is read at a time: in bytes, and in files.
const CHUNK_BYTES: u64 = 2 << 20;
const CHUNK_FILES: usize = 1024;
/// Chunks that wait for the writer.
const WAITING: usize = 2;

/// A disk does best with several requests at a time, however few the cores.
const READERS: usize = 8;

/// Returns threads for reading many files that may not be in memory yet; where there are none, those of the cores have to do.
pub(crate) fn readers() -> Option<ThreadPool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(cores.max(READERS))
        .thread_name(|_| "read".to_owned());
    threads.build().ok()
}

/// Calls `each` with every item, in order, on the caller's thread, and with what `read` made of it on another.
///
/// `size` says how many bytes there are to read of an item; one without any, or with very many, is not read ahead: `each`
/// has `None` for it.
///
/// # Errors
/// The first of `each`, to which `read`'s are handed in their order.
pub(crate) fn read_ahead<T: Sync, R: Send, E>(
    items: &[T],
    size: impl Fn(&T) -> u64 + Sync,
    read: impl Fn(&T) -> R + Sync,
    mut each: impl FnMut(&T, Option<R>) -> Result<(), E>,
) -> Result<(), E> {
    let small = |item: &T| (1..=SMALL_BYTES).contains(&size(item));
    let chunks = chunks(items, |item| if small(item) { size(item) } else { 0 });
    if chunks.len() < 2 {
        return items
            .iter()
            .try_for_each(|item| each(item, small(item).then(|| read(item))));
    }
    std::thread::scope(|scope| {
        let (done, ready) = mpsc::sync_channel::<Vec<Option<R>>>(WAITING);
        let (chunks, read, small) = (&chunks, &read, &small);
        let reader = std::thread::Builder::new().name("read ahead".to_owned());
        let reader = reader.spawn_scoped(scope, move || {
            let readers = readers();
            for chunk in chunks {
                let files = || {
                    let items = items[chunk.clone()].par_iter().with_min_len(4);
                    items.map(|item| small(item).then(|| read(item))).collect()
                };
                let files = match &readers {
                    Some(readers) => readers.install(files),
                    None => files(),
                };
                // Nobody waits where the writer has met an error.
                if done.send(files).is_err() {
                    return;
                }
            }
        });
        for chunk in chunks {
            // Without a thread, or after one that ended early, the writer reads for itself.
            let files = match &reader {
                Ok(_) => ready.recv().unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            let mut files = files.into_iter();
            for item in &items[chunk.clone()] {
                let file = files.next();
                each(
                    item,
                    file.unwrap_or_else(|| small(item).then(|| read(item))),
                )?;
            }
        }
        Ok(())
    })
}

/// Cuts `items` where enough has come together.
fn chunks<T>(items: &[T], size: impl Fn(&T) -> u64) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let (mut start, mut files, mut bytes) = (0, 0, 0);
    for (at, item) in items.iter().enumerate() {
        let size = size(item);
        files += usize::from(size > 0);
        bytes += size;
        if files >= CHUNK_FILES || bytes >= CHUNK_BYTES {
            out.push(start..at + 1);
            (start, files, bytes) = (at + 1, 0, 0);
        }
    }
    if start < items.len() {
        out.push(start..items.len());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_with_what_was_read_of_the_small_ones() {
        for count in [0, 1, 7, 5000] {
            let items: Vec<u64> = (0..count).map(|n| n * 977 % (SMALL_BYTES + 9)).collect();
            let mut seen = Vec::new();
            read_ahead(
                &items,
                |size| *size,
                |size| size + 1,
                |size, read| {
                    let wanted = (1..=SMALL_BYTES).contains(size).then_some(size + 1);
                    assert_eq!(read, wanted, "{size}");
                    seen.push(*size);
                    Ok::<_, ()>(())
                },
            )
            .expect("no error");
            assert_eq!(seen, items);
        }
    }

    #[test]
    fn an_error_ends_it() {
        let items = vec![100_000; 1000];
        let mut left = 70;
        let outcome = read_ahead(
            &items,
            |size| *size,
            |_| (),
            |_, _| {
                left -= 1;
                if left == 0 { Err("enough") } else { Ok(()) }
            },
        );
        assert_eq!(outcome, Err("enough"));
    }
}
