//! One gzip member, made by libdeflate at a level that its own bytes choose: a quicker one where little is lost by it, and what
//! does not shrink is stored.
//!
//! Of random bytes (archives, images, compressed packages, model weights) libdeflate finds at 105 MB/s a core that they do not
//! shrink, and stores them then. Of words in no order (lists, tables) the default level finds hardly more than level 2, which
//! takes 0.72 of its time. A few samples tell either. Where they lie depends on the member's length
//! alone, so its bytes still depend on its input and level alone.
//!
//! | what is looked at                                    | why                                                  |
//! |------------------------------------------------------|------------------------------------------------------|
//! | [`PROBE`] bytes at a quarter                         | by [`QUICK`] and by the level: what the level gains  |
//! | [`STRETCH`] bytes at three quarters                  | by [`QUICK`]: what comes again further on than a probe, where a search gains more |
//! | [`SAMPLE`] bytes of every [`STRIDE`]                 | text of more than a stride cannot lie between them   |
//! | [`RUN`] bytes in one piece, twice the codec's window | random bytes that come again further on than a sample |
//!
//! The last two are looked at where the probe does not shrink by a tenth. A member is stored where neither shrinks by a hundredth. So
//! what is lost is that hundredth, and what can lie between samples: a layer stays within 3 % of `gzip -6`. (A member starts without
//! what was before it: where all shrinks to a hundredth, that shows.)
//!
//! Members of 1 MiB, as they are against all at level 5:
//!
//! | what                                     | at [`QUICK`] | bytes  |
//! |------------------------------------------|-------------:|-------:|
//! | 40 MB, words                             | 40 of 40     | 1.0066 |
//! | 51 MB, Python's library                  | 1 of 51      | 1.0008 |
//! | 473 MB, ELF libraries                    | 37 of 451    | 1.0021 |
//! | 26 MB, JSON                              | 0 of 25      | 1.0000 |
//! | 55 MB, documents (HTML, text, CSV, SVG)  | 3 of 53      | 1.0021 |

use std::io;

use libdeflater::{CompressionLvl, Compressor};

use super::compression::GZIP_LEVEL;

const PROBE: usize = 16 << 10;
/// The level that the default gives way to, where it gains at most so many thousandths over it.
const QUICK: u8 = 2;
const LITTLE: usize = 16;
/// And where a stretch shrinks to no less than so much of what the probe does, in hundredths.
const ALIKE: usize = 86;
const STRETCH: usize = 48 << 10;
const SAMPLE: usize = 2 << 10;
const STRIDE: usize = 32 << 10;
const RUN: usize = 64 << 10;
/// Less is compressed at once: the samples would be a good part of it.
const LEAST: usize = 256 << 10;
/// Levels from here on look for the last byte, and are not taken at a guess.
const THOROUGH: u8 = 10;

/// Makes members at one level.
pub struct GzipEncoder {
    deflate: Compressor,
    /// `None` where the level is one that somebody asked for.
    quick: Option<Compressor>,
    /// Looks at samples; `None` where the level is [`THOROUGH`], or stores whatever comes.
    glance: Option<Compressor>,
    store: Compressor,
    out: Vec<u8>,
}

/// How a member is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    AsAsked,
    Quick,
    Store,
}

impl std::fmt::Debug for GzipEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GzipEncoder")
    }
}

impl GzipEncoder {
    /// At `level` of libdeflate's; [`GZIP_LEVEL`] gives way.
    pub fn new(level: u8) -> Self {
        let at = |level: u8| Compressor::new(CompressionLvl::new(level.into()).unwrap_or_default());
        GzipEncoder {
            deflate: at(level),
            quick: (level == GZIP_LEVEL).then(|| at(QUICK)),
            glance: (1..THOROUGH).contains(&level).then(|| at(1)),
            store: at(0),
            out: Vec::new(),
        }
    }

    /// Returns the member that holds `input`.
    ///
    /// # Errors
    /// None that is known: a buffer that is too small would be one.
    pub fn encode(&mut self, input: &[u8]) -> io::Result<Vec<u8>> {
        let way = self.way(input);
        let codec = match (way, &mut self.quick) {
            (Way::Store, _) => &mut self.store,
            (Way::Quick, Some(quick)) => quick,
            _ => &mut self.deflate,
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

    fn way(&mut self, input: &[u8]) -> Way {
        if input.len() < LEAST {
            return Way::AsAsked;
        }
        let at = |start: usize, size: usize| &input[start..][..size];
        if let Some(quick) = &mut self.quick {
            let out = &mut self.out;
            let probe = at((input.len() - PROBE) / 4, PROBE);
            let by_quick = size_of(quick, out, std::iter::once(probe));
            if by_quick < PROBE / 10 * 9 {
                let by_level = size_of(&mut self.deflate, out, std::iter::once(probe));
                if by_quick * 1000 > by_level * (1000 + LITTLE) {
                    return Way::AsAsked;
                }
                let stretch = at((input.len() - STRETCH) / 4 * 3, STRETCH);
                let stretch = size_of(quick, out, std::iter::once(stretch));
                let is_alike = stretch * PROBE * 100 >= by_quick * STRETCH * ALIKE;
                return if is_alike { Way::Quick } else { Way::AsAsked };
            }
        }
        match self.shrinks(input) {
            true => Way::AsAsked,
            false => Way::Store,
        }
    }

    /// Whether `input` is worth compressing, as far as samples tell.
    fn shrinks(&mut self, input: &[u8]) -> bool {
        let Some(glance) = &mut self.glance else {
            return true;
        };
        let out = &mut self.out;
        let samples = || input.chunks(STRIDE).map(|it| &it[..it.len().min(SAMPLE)]);
        let before = samples().map(<[u8]>::len).sum();
        let run = &input[(input.len() - RUN) / 2..][..RUN];
        is_less_by_a_hundredth(size_of(glance, out, samples()), before)
            || is_less_by_a_hundredth(size_of(glance, out, std::iter::once(run)), RUN)
    }
}

fn is_less_by_a_hundredth(after: usize, before: usize) -> bool {
    after < before - before / 100
}

/// Returns how many bytes the pieces come to.
fn size_of<'a>(
    codec: &mut Compressor,
    out: &mut Vec<u8>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> usize {
    let mut after = 0;
    for piece in pieces {
        let bound = codec.deflate_compress_bound(piece.len());
        if out.len() < bound {
            out.resize(bound, 0);
        }
        // One that does not fit into its bound counts as it is.
        after += codec.deflate_compress(piece, out).unwrap_or(piece.len());
    }
    after
}

#[cfg(test)]
#[path = "gzip_member_tests.rs"]
mod tests;
