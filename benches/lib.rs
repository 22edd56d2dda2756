//! Inputs shared by the benches.

/// Text that compresses about as a library's files do; another one for each seed.
pub fn text(seed: usize, size: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let mut out = Vec::with_capacity(size + 16);
    while out.len() < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let word = (state >> 33) % 4096;
        out.extend_from_slice(format!("w{:x} ", word * word).as_bytes());
    }
    out.truncate(size);
    out
}
