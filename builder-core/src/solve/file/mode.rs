//! `--chmod`.

use crate::plan::Mode;

/// Returns the mode that a file or directory of mode `old` gets.
pub(super) fn apply(mode: &Mode, old: u32, is_dir: bool) -> u32 {
    match mode {
        Mode::Octal(bits) => *bits,
        Mode::Symbolic(text) => text
            .split(',')
            .fold(old, |bits, clause| symbolic(clause, bits, is_dir)),
    }
}

/// One clause such as `ug+rw-x`, as chmod(1) reads it with a umask of zero.
fn symbolic(clause: &str, mut bits: u32, is_dir: bool) -> u32 {
    let at = clause.find(['+', '-', '=']).unwrap_or(clause.len());
    let (who, actions) = clause.split_at(at);
    let mut mask = 0;
    for c in who.chars() {
        mask |= match c {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            _ => 0o7777,
        };
    }
    if who.is_empty() {
        mask = 0o7777;
    }
    let mut actions = actions.chars().peekable();
    while let Some(operator) = actions.next() {
        let mut set = 0;
        while let Some(&c) = actions.peek() {
            if matches!(c, '+' | '-' | '=') {
                break;
            }
            actions.next();
            set |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || bits & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => spread(bits >> 6),
                'g' => spread(bits >> 3),
                'o' => spread(bits),
                _ => 0,
            };
        }
        // The sticky bit belongs to everybody; setuid and setgid to their owners.
        let mask = if set & 0o1000 != 0 {
            mask | 0o1000
        } else {
            mask
        };
        match operator {
            '+' => bits |= set & mask,
            '-' => bits &= !(set & mask),
            _ => {
                // `=` on a directory leaves setuid and setgid alone unless they are named.
                let keep = if is_dir { 0o6000 & !set } else { 0 };
                bits = (bits & !(mask & !keep)) | (set & mask);
            }
        }
    }
    bits
}

fn spread(bits: u32) -> u32 {
    let bits = bits & 7;
    bits << 6 | bits << 3 | bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_modes() {
        for (text, old, is_dir, expected) in [
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("go-rwx", 0o777, false, 0o700),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("u+x-w", 0o644, false, 0o544),
        ] {
            let mode = Mode::Symbolic(text.to_owned());
            assert_eq!(apply(&mode, old, is_dir), expected, "{text} on {old:o}");
        }
        assert_eq!(apply(&Mode::Octal(0o700), 0o644, false), 0o700);
    }
}
