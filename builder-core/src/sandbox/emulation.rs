//! Whether this machine can run another architecture's programs: what binfmt_misc has registered.
//!
//! The kernel hands a program whose first bytes match a handler to that handler's interpreter. Inside a step's root
//! the interpreter's path leads nowhere, so a handler serves only where it has flag F, which makes the kernel open
//! the interpreter when it is registered (qemu-user-static and `tonistiigi/binfmt` both set it).

use std::path::Path;

/// Where the kernel lists its handlers.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// What becomes of a program of another architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Emulation {
    /// By this handler.
    By(String),
    /// There is a handler, but its interpreter is not open.
    NotFixed(String),
    None,
}

/// Whether this processor has a level of amd64, as its psABI lists them: `v2`, `v3`. `None` where that is no level, or this
/// is another architecture.
pub fn has_level(level: &str) -> Option<bool> {
    #[cfg(target_arch = "x86_64")]
    {
        // LAHF and OSXSAVE cannot be asked for by themselves; processors with the rest have them.
        let v2 = || {
            is_x86_feature_detected!("cmpxchg16b")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("sse3")
                && is_x86_feature_detected!("ssse3")
                && is_x86_feature_detected!("sse4.1")
                && is_x86_feature_detected!("sse4.2")
        };
        let v3 = || {
            v2() && is_x86_feature_detected!("avx")
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("f16c")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("movbe")
        };
        let v4 = || {
            v3() && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        };
        match level {
            "v1" => Some(true),
            "v2" => Some(v2()),
            "v3" => Some(v3()),
            "v4" => Some(v4()),
            _ => None,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        None
    }
}

/// Looks for a handler of `architecture` (in Go's words).
pub fn emulation(architecture: &str) -> Emulation {
    handler(architecture, &registered(Path::new(HANDLERS)))
}

/// Returns name and text of each handler; none where binfmt_misc is not mounted.
fn registered(directory: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let text = std::fs::read_to_string(entry.path()).ok()?;
            Some((name, text))
        })
        .collect();
    found.sort();
    found
}

/// Chooses the handler that takes the first bytes of an ELF program of `architecture`.
fn handler(architecture: &str, registered: &[(String, String)]) -> Emulation {
    let Some(head) = elf_head(architecture) else {
        return Emulation::None;
    };
    let mut found = Emulation::None;
    for (name, text) in registered {
        match Handler::parse(text) {
            Some(handler) if !handler.takes(&head) => {}
            Some(handler) if handler.fixed => return Emulation::By(name.clone()),
            Some(_) => found = Emulation::NotFixed(name.clone()),
            None => {}
        }
    }
    found
}

/// The start of a static program: magic, class, byte order, then type and machine.
fn elf_head(architecture: &str) -> Option<[u8; 20]> {
    // Bits, little endian, e_machine (ELF gABI, chapter 4).
    let (bits, little, machine): (u8, bool, u16) = match architecture {
        "386" => (32, true, 3),
        "amd64" => (64, true, 62),
        "arm" => (32, true, 40),
        "arm64" => (64, true, 183),
        "riscv64" => (64, true, 243),
        "ppc64le" => (64, true, 21),
        "s390x" => (64, false, 22),
        "mips64" => (64, false, 8),
        "mips64le" => (64, true, 8),
        "loong64" => (64, true, 258),
        _ => return None,
    };
    let mut head = [0; 20];
    head[..7].copy_from_slice(&[
        0x7f,
        b'E',
        b'L',
        b'F',
        if bits == 64 { 2 } else { 1 },
        if little { 1 } else { 2 },
        1,
    ]);
    let pair = |value: u16| match little {
        true => value.to_le_bytes(),
        false => value.to_be_bytes(),
    };
    head[16..18].copy_from_slice(&pair(2));
    head[18..].copy_from_slice(&pair(machine));
    Some(head)
}

/// A handler by magic, as the kernel prints it.
struct Handler {
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
    fixed: bool,
}

impl Handler {
    /// Reads an enabled handler; `None` for one that is off or goes by a file's extension.
    fn parse(text: &str) -> Option<Handler> {
        let mut lines = text.lines();
        if lines.next()? != "enabled" {
            return None;
        }
        let (mut offset, mut magic, mut mask, mut fixed) = (0, None, None, false);
        for line in lines {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("offset", value) => offset = value.trim().parse().ok()?,
                ("magic", value) => magic = Some(bytes(value)?),
                ("mask", value) => mask = Some(bytes(value)?),
                ("flags:", value) => fixed = value.contains('F'),
                _ => {}
            }
        }
        let magic = magic?;
        let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
        Some(Handler {
            offset,
            magic,
            mask,
            fixed,
        })
    }

    fn takes(&self, head: &[u8]) -> bool {
        let Some(start) = head.get(self.offset..self.offset + self.magic.len()) else {
            return false;
        };
        let masked = start.iter().zip(&self.mask).map(|(byte, mask)| byte & mask);
        masked.eq(self
            .magic
            .iter()
            .zip(&self.mask)
            .map(|(byte, mask)| byte & mask))
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let hex = hex.trim();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // As qemu-user-static registers it.
    const AARCH64: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\n\
        offset 0\nmagic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn handlers_are_matched_by_the_first_bytes() {
        let named = |text: &str| vec![("qemu-aarch64".to_owned(), text.to_owned())];
        let by = Emulation::By("qemu-aarch64".to_owned());
        for (architecture, text, expected) in [
            ("arm64", AARCH64.to_owned(), by),
            ("riscv64", AARCH64.to_owned(), Emulation::None),
            ("amd64", AARCH64.to_owned(), Emulation::None),
            ("unheard", AARCH64.to_owned(), Emulation::None),
            (
                "arm64",
                AARCH64.replace("POCF", "POC"),
                Emulation::NotFixed("qemu-aarch64".to_owned()),
            ),
            (
                "arm64",
                AARCH64.replace("enabled", "disabled"),
                Emulation::None,
            ),
            (
                "arm64",
                "enabled\nextension .exe\n".to_owned(),
                Emulation::None,
            ),
            ("arm64", String::new(), Emulation::None),
        ] {
            assert_eq!(
                handler(architecture, &named(&text)),
                expected,
                "{architecture} {text}"
            );
        }
    }
}
