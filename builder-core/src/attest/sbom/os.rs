//! Which distribution it is: `os-release`.

/// What packages of a distribution are of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Os {
    /// `debian`
    pub id: String,
    /// `12`
    pub version: String,
}

impl Os {
    /// Reads `os-release(5)`.
    pub(super) fn parse(text: &str) -> Os {
        let mut os = Os::default();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once('=') else {
                continue;
            };
            let value = value.trim_matches(['"', '\'']);
            match key {
                "ID" => os.id = value.to_owned(),
                "VERSION_ID" => os.version = value.to_owned(),
                _ => {}
            }
        }
        os
    }

    /// Returns `debian-12`.
    pub(super) fn distro(&self) -> String {
        match (self.id.is_empty(), self.version.is_empty()) {
            (true, _) => String::new(),
            (false, true) => self.id.clone(),
            (false, false) => format!("{}-{}", self.id, self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions() {
        for (text, expected) in [
            ("NAME=x\nID=debian\nVERSION_ID=\"12\"\n", "debian-12"),
            ("ID='alpine'\nVERSION_ID=3.20.1\n", "alpine-3.20.1"),
            ("ID=debian\n", "debian"),
            ("VERSION_ID=1\n", ""),
            ("", ""),
        ] {
            assert_eq!(Os::parse(text).distro(), expected, "{text}");
        }
    }
}
