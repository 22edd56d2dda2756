//! Alpine's packages: records of `X:value`.

use super::files::{Files, MAX_DATABASE_BYTES};
use super::package::{Kind, Package};

const INSTALLED: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

pub(super) fn packages(files: &mut Files<'_>) -> Vec<Package> {
    // One may be a link to the other.
    for path in INSTALLED {
        if let Some(text) = files.text(path, MAX_DATABASE_BYTES) {
            let (found, broken) = parse(&text, path);
            if broken > 0 {
                let why = format!("{broken} records name no package and version");
                files.warn(path, &why);
            }
            return found;
        }
    }
    Vec::new()
}

fn parse(text: &str, path: &str) -> (Vec<Package>, usize) {
    let (mut found, mut broken) = (Vec::new(), 0);
    let mut lines = text.lines().peekable();
    while lines.peek().is_some() {
        let mut package = Package::new(Kind::Apk, "", "", path);
        let mut any = false;
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            any = true;
            let Some((field, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim().to_owned();
            match field {
                "P" => package.name = value,
                "V" => package.version = value,
                "A" => package.architecture = value,
                "L" if !value.is_empty() => package.licenses = vec![value],
                "U" => package.homepage = value,
                "m" => package.supplier = value,
                "o" => package.upstream = value,
                _ => {}
            }
        }
        if package.upstream == package.name {
            package.upstream.clear();
        }
        match (any, package.name.is_empty() || package.version.is_empty()) {
            (true, false) => found.push(package),
            (true, true) => broken += 1,
            (false, _) => {}
        }
    }
    (found, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let text = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld.so\n\n\
            P:musl-utils\nV:1.2.5-r0\nL:MIT AND BSD-2-Clause\no:musl\n\nV:1\n";
        let (found, broken) = parse(text, "x");
        let told: Vec<_> = found
            .iter()
            .map(|it| {
                (
                    it.name.as_str(),
                    it.licenses[0].as_str(),
                    it.upstream.as_str(),
                )
            })
            .collect();
        let expected = [
            ("musl", "MIT", ""),
            ("musl-utils", "MIT AND BSD-2-Clause", "musl"),
        ];
        assert_eq!(told, expected);
        assert_eq!(broken, 1);
    }
}
