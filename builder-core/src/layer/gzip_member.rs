//! One gzip member, made by libdeflate; what does not shrink is stored.
//!
//! Of random bytes (archives, images, compressed packages, model weights) libdeflate finds at 105 MB/s a core that they do not
//! shrink, and stores them then. A few samples tell it at ten times that. Where they lie depends on the member's length
//! alone, so its bytes still depend on its input and level alone.
//!
//! | what is looked at                                    | why                                                  |
//! |------------------------------------------------------|------------------------------------------------------|
//! | [`SAMPLE`] bytes of every [`STRIDE`]                 | text of more than a stride cannot lie between them   |
//! | [`RUN`] bytes in one piece, twice the codec's window | random bytes that come again further on than a sample |
//!
//! A member is stored where neither shrinks by a hundredth. So what is lost is that hundredth, and what can lie between samples: a
//! layer stays within 3 % of `gzip -6`. (A member starts without what was before it: where all shrinks to a hundredth, that shows.)

use std::io;

use libdeflater::{CompressionLvl, Compressor};

const SAMPLE: usize = 2 << 10;
const STRIDE: usize = 32 << 10;
const RUN: usize = 64 << 10;
/// Less is compressed at once: the samples would be a good part of it.
const LEAST: usize = 256 << 10;
/// Levels from here on look for the last byte, and are not taken at a guess.
const THOROUGH: u8 = 10;

/// Makes members at one level.
pub(super) struct GzipEncoder {
    deflate: Compressor,
    /// Looks at samples; `None` where the level is [`THOROUGH`], or stores whatever comes.
    glance: Option<Compressor>,
    store: Compressor,
    out: Vec<u8>,
}

impl GzipEncoder {
    pub(super) fn new(level: u8) -> Self {
        let at = |level: u8| CompressionLvl::new(level.into()).unwrap_or_default();
        GzipEncoder {
            deflate: Compressor::new(at(level)),
            glance: (1..THOROUGH)
                .contains(&level)
                .then(|| Compressor::new(at(1))),
            store: Compressor::new(at(0)),
            out: Vec::new(),
        }
    }

    pub(super) fn encode(&mut self, input: &[u8]) -> io::Result<Vec<u8>> {
        let codec = match self.shrinks(input) {
            true => &mut self.deflate,
            false => &mut self.store,
        };
        // One buffer for all members: a fresh one is zeroed by the kernel, page by page.
        let bound = codec.gzip_compress_bound(input.len());
        if self.out.len() < bound {
            self.out.resize(bound, 0);
        }
        let size = codec.gzip_compress(input, &mut self.out);
        let size = size.map_err(io::Error::other)?;
        Ok(self.out[..size].to_vec())
    }

    /// Whether `input` is worth compressing, as far as samples tell.
    fn shrinks(&mut self, input: &[u8]) -> bool {
        let Some(glance) = &mut self.glance else {
            return true;
        };
        if input.len() < LEAST {
            return true;
        }
        let samples = input.chunks(STRIDE).map(|it| &it[..it.len().min(SAMPLE)]);
        let middle = (input.len() - RUN) / 2;
        let run = &input[middle..middle + RUN];
        let out = &mut self.out;
        shrink_by_a_hundredth(glance, out, samples)
            || shrink_by_a_hundredth(glance, out, std::iter::once(run))
    }
}

fn shrink_by_a_hundredth<'a>(
    glance: &mut Compressor,
    out: &mut Vec<u8>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> bool {
    let (mut before, mut after) = (0, 0);
    for piece in pieces {
        let bound = glance.deflate_compress_bound(piece.len());
        if out.len() < bound {
            out.resize(bound, 0);
        }
        before += piece.len();
        // One that does not fit into its bound counts as it is.
        after += glance.deflate_compress(piece, out).unwrap_or(piece.len());
    }
    after < before - before / 100
}

#[cfg(test)]
#[path = "gzip_member_tests.rs"]
mod tests;
