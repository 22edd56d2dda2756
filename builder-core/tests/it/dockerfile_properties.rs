//! What holds for any text.

use builder_core::dockerfile::diagnostic::{Diagnostic, render};
use builder_core::dockerfile::word::Lexer;
use builder_core::dockerfile::{parse, syntax};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::meaning::{inside, meaning, spans};

/// Lines that are close to Dockerfiles, so that some of them parse.
fn dockerfile() -> impl Strategy<Value = String> {
    let keyword = prop::sample::select(vec![
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD RUN",
        "RUN",
        "SHELL",
        "USER",
        "VOLUME",
        "WORKDIR",
        "copy",
        "#",
        "",
    ]);
    let piece = prop::sample::select(vec![
        "a",
        "b=c",
        "/x",
        "\"q r\"",
        "'s'",
        "\\",
        "\\\n",
        "\n",
        "<<E",
        "<<-'E'",
        "\nE\n",
        "[\"j\", \"k l\"]",
        "[",
        "$v",
        "${v:-w}",
        "--from=s",
        "--mount=target=/m",
        "--link",
        "--",
        "--interval=1s",
        "CMD",
        "NONE",
        "AS",
        "é",
        "\t",
        "\u{a0}",
        "\r\n",
        "`",
        "=",
        "#",
    ]);
    let line = (
        keyword,
        prop::collection::vec((piece, prop::bool::ANY), 0..6),
    )
        .prop_map(|(keyword, pieces)| {
            let mut line = keyword.to_owned();
            for (piece, blank) in pieces {
                line.push_str(if blank { " " } else { "" });
                line.push_str(piece);
            }
            line
        });
    prop::collection::vec(line, 0..6).prop_map(|lines| format!("FROM x\n{}\n", lines.join("\n")))
}

/// The same cases in every run, so that a red run tells of the change before it; `PROPTEST_CASES` and
/// `PROPTEST_RNG_SEED` look further.
fn config() -> ProptestConfig {
    let given = |name| std::env::var_os(name).is_some();
    let own = ProptestConfig::default();
    ProptestConfig {
        cases: if given("PROPTEST_CASES") {
            own.cases
        } else {
            512
        },
        rng_seed: if given("PROPTEST_RNG_SEED") {
            own.rng_seed
        } else {
            RngSeed::Fixed(3)
        },
        failure_persistence: None,
        ..own
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*|[A-Z \\\\\n\"'<$#=\\[\\]-]{0,80}") {
        if let Err(error) = parse(&text) {
            prop_assert!(inside(&text, error.span), "{error:?}");
            render(&Diagnostic::from(&error), "f", &text);
        }
        let _ = Lexer::new('\\').expand(&text, &Vec::new());
    }

    #[test]
    fn places_are_inside_the_text(text in dockerfile()) {
        match syntax::parse(&text) {
            Ok(file) => for span in spans(&format!("{file:?}")) {
                prop_assert!(inside(&text, span), "{span:?} {file:?}");
            },
            Err(error) => prop_assert!(inside(&text, error.span)),
        }
        match parse(&text) {
            Ok(file) => for span in spans(&format!("{file:?}")) {
                prop_assert!(inside(&text, span), "{span:?} {file:?}");
            },
            Err(error) => {
                prop_assert!(inside(&text, error.span), "{error:?}");
                render(&Diagnostic::from(&error), "f", &text);
            }
        }
    }

    #[test]
    fn printed_files_mean_the_same(text in dockerfile()) {
        if let Ok(file) = parse(&text) {
            let printed = file.to_string();
            let again = parse(&printed);
            prop_assert!(again.is_ok(), "{again:?}\n{printed}");
            if let Ok(again) = again {
                prop_assert_eq!(meaning(&file), meaning(&again), "{}", printed);
            }
        }
    }
}
