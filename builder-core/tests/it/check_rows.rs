//! When BuildKit's checks speak, and what they say: its own conditions as rows, one Dockerfile each.
//!
//! A row is: Dockerfile, build args, ignore file, and what is said as `LINE RULE MESSAGE`. Rules that no peer has are off.

use std::collections::BTreeMap;

use builder_core::context::ignore::{Ignore, Patterns};
use builder_core::dockerfile::lint::Settings;
use builder_core::dockerfile::parse;
use builder_core::image::{ImageConfig, Platform};
use builder_core::plan::lint::{Surroundings, check};
use builder_core::plan::{Base, BaseInfo, PlanOptions};

#[derive(Clone, Copy, Default)]
struct Row {
    file: &'static str,
    args: &'static [(&'static str, &'static str)],
    ignore: &'static str,
    says: &'static [&'static str],
}

const fn row(file: &'static str, says: &'static [&'static str]) -> Row {
    Row {
        file,
        args: &[],
        ignore: "",
        says,
    }
}

impl Row {
    const fn args(mut self, args: &'static [(&'static str, &'static str)]) -> Self {
        self.args = args;
        self
    }

    const fn ignore(mut self, ignore: &'static str) -> Self {
        self.ignore = ignore;
        self
    }
}

/// The bases of the rows: like a small distribution's image, with nothing but a PATH.
fn base() -> BaseInfo {
    let mut config = ImageConfig::scratch(&Platform::new("linux", "amd64", None));
    config.config.env = vec!["PATH=/usr/bin:/bin".to_owned()];
    BaseInfo {
        digest: builder_core::digest::Digest::of(b"base"),
        config,
        layers: Vec::new(),
        pinned: "base".to_owned(),
    }
}

fn said(row: &Row) -> Vec<String> {
    let platform = Platform::new("linux", "amd64", None);
    let mut options = PlanOptions {
        platform: platform.clone(),
        build_platform: platform.clone(),
        ..PlanOptions::default()
    };
    for (name, value) in row.args {
        let (name, value) = ((*name).to_owned(), (*value).to_owned());
        options.build_args.insert(name, value);
    }
    let names = ["alpine", "busybox", "busybox:latest"];
    let known: BTreeMap<Base, BaseInfo> = names
        .iter()
        .map(|name| {
            let reference = name.parse().expect("a name");
            (Base::image(&reference, &platform), base())
        })
        .collect();
    let patterns = Patterns::new(&Ignore::read(row.ignore.as_bytes())).expect("patterns");
    let ignored = |path: &str| patterns.matches(path) == Ok(true);
    let surroundings = Surroundings {
        options: &options,
        known: &known,
        ignored: (!row.ignore.is_empty()).then_some(&ignored as &dyn Fn(&str) -> bool),
    };
    let file = parse(row.file).unwrap_or_else(|error| panic!("{error}: {}", row.file));
    let own = match options.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
        Some(text) => Settings::parse(text),
        None => Settings::of(&file),
    };
    let ours = "skip=CopyBeforeInstall,SecretInLayer,AptGetWithoutUpdate";
    let settings = own
        .expect("settings")
        .with(&Settings::parse(ours).expect("settings"));
    let findings = settings.keep(&file, check(&file, row.file, &surroundings));
    let line = |at: usize| row.file[..at].matches('\n').count() + 1;
    findings
        .iter()
        .map(|it| {
            let place = line(it.diagnostic.span.start);
            format!("{place} {} {}", it.rule.name, it.diagnostic.message)
        })
        .collect()
}

#[test]
fn checks_speak_where_buildkits_do() {
    let wrong: Vec<String> = ROWS
        .iter()
        .filter_map(|row| {
            let said = said(row);
            let same = said.iter().eq(row.says.iter());
            (!same).then(|| format!("{}\nis: {said:#?}\nshould be: {:#?}", row.file, row.says))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

const IGNORED: &[&str] = &[
    r#"3 CopyIgnoredFile Attempting to Copy file "notes.txt" that is excluded by .dockerignore"#,
    r#"4 CopyIgnoredFile Attempting to Add file "notes.txt" that is excluded by .dockerignore"#,
];
const AS_LOWER: &[&str] = &["2 FromAsCasing 'as' and 'FROM' keywords' casing do not match"];

const ROWS: &[Row] = &[
    // CopyIgnoredFile was an experiment once.
    row("#\nFROM scratch\nCOPY notes.txt .\nADD notes.txt /n\n", IGNORED).ignore("notes.txt\n"),
    row("# check=experimental=CopyIgnoredFile\nFROM scratch\nCOPY notes.txt .\nADD notes.txt /n\n", IGNORED).ignore("notes.txt\n"),
    row("# check=experimental=all\nFROM scratch\nCOPY notes.txt .\nADD notes.txt /n\n", IGNORED).ignore("notes.txt\n"),
    row("# check=skip=all;experimental=CopyIgnoredFile\nFROM scratch\nCOPY notes.txt .\nADD notes.txt /n\n", &[]).ignore("notes.txt\n"),
    // An experiment that is asked for speaks beside `skip=all`.
    row(
        "# check=skip=all;experimental=InvalidDefinitionDescription\n# says nothing\nFROM scratch as one\n",
        &["3 InvalidDefinitionDescription Comment for FROM should follow the format: `# one <description>`"],
    ),
    row("# check=experimental=CopyIgnoredFile\nFROM scratch AS one\nCOPY a /notes.txt\nFROM one\nCOPY --from=one /notes.txt /b\n", &[]).ignore("notes.txt\n"),
    // InvalidDefinitionDescription: an experiment; an empty line or comment parts a comment from what follows.
    row(
        "# check=experimental=InvalidDefinitionDescription\n# foo is the foo\nARG foo=bar\n\n# base is the ground\nFROM scratch AS base\n\n# version is a number\nARG version=1\n\n# baz is the baz\nARG foo=baz bar=qux baz=quux\n#\nARG bit=bat\n\n# of something else\nCOPY a .\n",
        &[],
    ),
    row(
        "# check=experimental=InvalidDefinitionDescription\n# bar is the bar\nARG foo=bar\n# BasE is the ground\nFROM scratch AS base\n# says nothing\nARG version=1\n# says nothing\nARG foo=baz bar=qux baz=quux\n",
        &[
            "3 InvalidDefinitionDescription Comment for ARG should follow the format: `# foo <description>`",
            "5 InvalidDefinitionDescription Comment for FROM should follow the format: `# base <description>`",
            "7 InvalidDefinitionDescription Comment for ARG should follow the format: `# version <description>`",
            "9 InvalidDefinitionDescription Comment for ARG should follow the format: `# <arg_key> <description>`",
        ],
    ),
    // SecretsUsedInArgOrEnv
    row(
        "FROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\nENV password=bar secret=baz\nARG super_duper_secret_token=foo auth=bar\nENV apikey=bar sunflower=foo\nENV git_key=\nENV PUBLIC_KEY=\nARG public_token\n",
        &[
            r#"2 SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data (ARG "SECRET_PASSPHRASE")"#,
            r#"3 SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data (ENV "SUPER_Secret")"#,
            r#"4 SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data (ENV "password")"#,
            r#"4 SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data (ENV "secret")"#,
            r#"5 SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data (ARG "super_duper_secret_token")"#,
            r#"5 SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data (ARG "auth")"#,
            r#"6 SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data (ENV "apikey")"#,
            r#"7 SecretsUsedInArgOrEnv Do not use ARG or ENV instructions for sensitive data (ENV "git_key")"#,
        ],
    ),
    // Stages that the target does not need are looked at as well.
    row(
        "FROM scratch AS one\nCOPY $foo .\nFROM scratch AS two\nCOPY $bar .\n",
        &[
            "2 UndefinedVar Usage of undefined variable '$foo'",
            "4 UndefinedVar Usage of undefined variable '$bar'",
        ],
    ),
    // The directive, and the build arg that replaces it.
    row("#check=skip=all\nFROM scratch as one\ncopy a .\n", &[]),
    row("#check=skip=all;error=true\nFROM scratch as one\ncopy a .\n", &[]),
    row("#check=skip=ConsistentInstructionCasing,FromAsCasing\nFROM scratch as one\ncopy a .\n", &[]),
    row("#check=skip=ConsistentInstructionCasing\nFROM scratch as one\ncopy a .\n", AS_LOWER),
    row("#check=skip=all\nFROM scratch as one\ncopy a .\n", AS_LOWER)
        .args(&[("BUILDKIT_DOCKERFILE_CHECK", "skip=ConsistentInstructionCasing;error=true")]),
    row("#check=error=true\nFROM scratch as one\ncopy a .\n", &[])
        .args(&[("BUILDKIT_DOCKERFILE_CHECK", "skip=all")]),
    // StageNameCasing, FromAsCasing
    row(
        "FROM scratch AS OneStage\n\nFROM scratch as two\n\nFROM scratch AS three\n",
        &[
            "1 StageNameCasing Stage name 'OneStage' should be lowercase",
            "3 FromAsCasing 'as' and 'FROM' keywords' casing do not match",
        ],
    ),
    row(
        "from scratch AS one\n\nfrom scratch as two\n",
        &["1 FromAsCasing 'AS' and 'from' keywords' casing do not match"],
    ),
    // NoEmptyContinuation: BuildKit points at the instruction's last line, we at the empty one.
    row(
        "FROM scratch\nCOPY a \\\n\n.\nCOPY a \\\n.\n",
        &["3 NoEmptyContinuation Empty continuation line"],
    ),
    // ConsistentInstructionCasing
    row(
        "From scratch as one\nFROM scratch AS two\n",
        &["1 ConsistentInstructionCasing Command 'From' should match the case of the command majority (uppercase)"],
    ),
    row(
        "FROM scratch\ncopy a /b\nCOPY a /c\n",
        &["2 ConsistentInstructionCasing Command 'copy' should match the case of the command majority (uppercase)"],
    ),
    row(
        "frOM scratch as one\nfrom scratch as two\n",
        &["1 ConsistentInstructionCasing Command 'frOM' should match the case of the command majority (lowercase)"],
    ),
    row(
        "from scratch\nCOPY a /b\ncopy a /c\n",
        &["2 ConsistentInstructionCasing Command 'COPY' should match the case of the command majority (lowercase)"],
    ),
    row(
        "from scratch\nCOPY a /b\nCOPY a /c\nCOPY a /d\n",
        &["1 ConsistentInstructionCasing Command 'from' should match the case of the command majority (uppercase)"],
    ),
    row(
        "FROM scratch\ncopy a /b\ncopy a /c\ncopy a /d\n",
        &["1 ConsistentInstructionCasing Command 'FROM' should match the case of the command majority (lowercase)"],
    ),
    row("from scratch\ncopy a /b\ncopy a /c\n", &[]),
    row("FROM scratch\nCOPY a /b\nCOPY a /c\n", &[]),
    row("FROM alpine\nRUN <<'EOT'\nenv\nEOT\n", &[]),
    // DuplicateStageName, ReservedStageName
    row(
        "FROM scratch AS b\nFROM scratch AS b\n",
        &[r#"2 DuplicateStageName Duplicate stage name "b", stage names should be unique"#],
    ),
    row("FROM scratch AS b1\nFROM scratch AS b2\n", &[]),
    row(
        "FROM scratch AS scratch\nFROM scratch AS context\n",
        &[
            r#"1 ReservedStageName Stage name should not use the same name as reserved stage "scratch""#,
            r#"2 ReservedStageName Stage name should not use the same name as reserved stage "context""#,
        ],
    ),
    row("FROM scratch\nFROM scratch AS a\n", &[]),
    // JSONArgsRecommended: not where a SHELL of the file, inherited too, says how the words run.
    row(
        "FROM scratch\nCMD serve\n",
        &["2 JSONArgsRecommended JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"],
    ),
    row(
        "FROM scratch\nENTRYPOINT serve\n",
        &["2 JSONArgsRecommended JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals"],
    ),
    row("FROM scratch\nSHELL [\"/bin/own\"]\nCMD serve\n", &[]),
    row("FROM scratch\nSHELL [\"/bin/own\"]\nENTRYPOINT serve\n", &[]),
    row("FROM scratch AS one\nSHELL [\"/bin/own\"]\n\nFROM one\nCMD serve\n", &[]),
    row("FROM scratch AS one\nSHELL [\"/bin/own\"]\n\nFROM one\nENTRYPOINT serve\n", &[]),
    // MaintainerDeprecated
    row(
        "FROM scratch\nMAINTAINER me@example.org\n",
        &["2 MaintainerDeprecated Maintainer instruction is deprecated in favor of using label"],
    ),
    row("FROM scratch\nLABEL org.opencontainers.image.authors=\"me@example.org\"\n", &[]),
    // UndefinedArgInFrom
    row("ARG base=scratch\nFROM $base\n", &[]),
    row("ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\n", &[]),
    row("FROM --platform=$BUILDPLATFORM scratch\n", &[]),
    row("ARG DEBUG\nFROM scratch${DEBUG}\n", &[]),
    row("ARG DEBUG\nFROM scra${DEBUG:-tch}\n", &[]),
    row("ARG DEBUG=\"\"\nFROM scratch${DEBUG-@bogus}\n", &[]),
    row(
        "FROM --platform=$BULIDPLATFORM scratch\n",
        &["1 UndefinedArgInFrom FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)"],
    ),
    row(
        "ARG MY_OS=linux\nARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} busybox\n",
        &["3 UndefinedArgInFrom FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?)"],
    ),
    row(
        "ARG tag=latest\nFROM busybox:${tag}${version} AS b\n",
        &["2 UndefinedArgInFrom FROM argument 'version' is not declared"],
    ),
    // WorkdirRelativePath
    row(
        "FROM scratch\nWORKDIR app/\n",
        &[r#"2 WorkdirRelativePath Relative workdir "app/" can have unexpected results if the base image changes"#],
    ),
    row("FROM scratch AS a\nWORKDIR /app\n\nFROM a AS b\nWORKDIR sub/\n", &[]),
    // UndefinedVar
    row("FROM scratch\nARG foo\nCOPY a${foo} .\n", &[]),
    row("FROM alpine AS one\nARG foo=a\n\nFROM one\nCOPY $foo .\n", &[]),
    row("FROM alpine\nRUN echo $PATH\n", &[]),
    row(
        "FROM alpine\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n",
        &["2 UndefinedVar Usage of undefined variable '$foo'"],
    ),
    row(
        "FROM alpine\nARG DIR_BINARIES=b/\nARG DIR_ASSETS=a/\nARG DIR_CONFIG=c/\nCOPY $DIR_ASSET .\n",
        &["5 UndefinedVar Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?)"],
    ),
    row(
        "FROM alpine\nENV PATH=$PAHT:/tmp/bin\n",
        &["2 UndefinedVar Usage of undefined variable '$PAHT' (did you mean $PATH?)"],
    ),
    // MultipleInstructionsDisallowed: the one that counts for nothing is shown.
    row(
        "FROM scratch\nENTRYPOINT [\"/a\"]\nENTRYPOINT [\"/b\"]\nCMD [\"/a\"]\nCMD [\"/b\"]\nHEALTHCHECK CMD [\"/a\"]\nHEALTHCHECK CMD [\"/b\"]\n",
        &[
            "2 MultipleInstructionsDisallowed Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used",
            "4 MultipleInstructionsDisallowed Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            "6 MultipleInstructionsDisallowed Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
        ],
    ),
    row(
        "FROM scratch\nENTRYPOINT [\"/a\"]\nCMD [\"/a\"]\nCOPY <<EOF /a.txt\nhello\nEOF\nENTRYPOINT [\"/b\"]\nCMD [\"/b\"]\n",
        &[
            "2 MultipleInstructionsDisallowed Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used",
            "3 MultipleInstructionsDisallowed Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ],
    ),
    row("FROM scratch AS a\nENTRYPOINT [\"/a\"]\nCMD [\"/a\"]\n\nFROM a AS b\nENTRYPOINT [\"/b\"]\nCMD [\"/b\"]\n", &[]),
    // LegacyKeyValueFormat
    row(
        "FROM scratch\nENV name value\nLABEL name value\n",
        &[
            r#"2 LegacyKeyValueFormat "ENV key=value" should be used instead of legacy "ENV key value" format"#,
            r#"3 LegacyKeyValueFormat "LABEL key=value" should be used instead of legacy "LABEL key value" format"#,
        ],
    ),
    row("FROM scratch\nENV name=value\nLABEL name=value\n", &[]),
    // RedundantTargetPlatform
    row(
        "FROM --platform=$TARGETPLATFORM scratch\n",
        &["1 RedundantTargetPlatform Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"],
    ),
    row(
        "FROM --platform=${TARGETPLATFORM} scratch\n",
        &["1 RedundantTargetPlatform Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior"],
    ),
    // InvalidDefaultArgInFrom: judged without the build args.
    row(
        "ARG VERSION\nFROM busybox:$VERSION\n",
        &["2 InvalidDefaultArgInFrom Default value for ARG busybox:$VERSION results in empty or invalid base image name"],
    )
    .args(&[("VERSION", "latest")]),
    row(
        "ARG IMAGE\nFROM $IMAGE\n",
        &["2 InvalidDefaultArgInFrom Default value for ARG $IMAGE results in empty or invalid base image name"],
    )
    .args(&[("IMAGE", "busybox:latest")]),
    row(
        "ARG SFX=\"box:\"\nFROM busy${SFX}\n",
        &["2 InvalidDefaultArgInFrom Default value for ARG busy${SFX} results in empty or invalid base image name"],
    )
    .args(&[("SFX", "box:latest")]),
    row("ARG VERSION=\"latest\"\nFROM busybox:${VERSION}\n", &[]).args(&[("VERSION", "latest")]),
    row("ARG VARIANT=\"\"\nFROM busybox:stable${VARIANT}\n", &[]).args(&[("VARIANT", "-musl")]),
    row("\tARG VARIANT\n\tFROM busybox:stable${VARIANT}\n", &[]).args(&[("VARIANT", "-musl")]),
    // FromPlatformFlagConstDisallowed: a stage that is named for it may be for one platform.
    row(
        "FROM --platform=linux/amd64 scratch\n",
        &[r#"1 FromPlatformFlagConstDisallowed FROM --platform flag should not use constant value "linux/amd64""#],
    ),
    row("FROM --platform=linux/amd64 scratch AS my_amd64_stage\n", &[]),
    row("FROM --platform=linux/amd64 scratch AS linux\n", &[]),
    // ExposeProtoCasing, ExposeInvalidFormat
    row("FROM scratch\nEXPOSE 80/tcp 81/udp 90-92\n", &[]),
    row(
        "FROM scratch\nEXPOSE 80/TCP\n",
        &["2 ExposeProtoCasing Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"],
    ),
    row(
        "FROM scratch\nEXPOSE 5000:5000 127.0.0.1:80:80/tcp\n",
        &[
            "2 ExposeInvalidFormat EXPOSE instruction should not define an IP address or host-port mapping, found '5000:5000'",
            "2 ExposeInvalidFormat EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80/tcp'",
        ],
    ),
];
