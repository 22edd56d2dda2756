//! Any text: read or refused, in bounded time; printed and read again, it means the same; it plans or is refused.

#![no_main]

#[path = "../../builder-core/tests/it/meaning.rs"]
mod meaning;

use std::collections::BTreeMap;

use builder_core::digest::Digest;
use builder_core::dockerfile::diagnostic::{Diagnostic, render};
use builder_core::dockerfile::parse;
use builder_core::image::{ImageConfig, Platform};
use builder_core::plan::lint::{Surroundings, check};
use builder_core::plan::{BaseInfo, PlanOptions, Step, step, to_json, to_text};
use libfuzzer_sys::fuzz_target;

use meaning::{inside, meaning, spans};

fuzz_target!(|text: &str| {
    let file = match parse(text) {
        Ok(file) => file,
        Err(error) => {
            assert!(inside(text, error.span), "{error:?}");
            render(&Diagnostic::from(&error), "Dockerfile", text);
            return;
        }
    };
    for span in spans(&format!("{file:?}")) {
        assert!(inside(text, span), "{span:?}");
    }
    let printed = file.to_string();
    let again = match parse(&printed) {
        Ok(again) => again,
        Err(error) => panic!("{error:?}\n{printed}"),
    };
    assert_eq!(meaning(&file), meaning(&again), "{printed}");

    let options = PlanOptions::default();
    let mut known = BTreeMap::new();
    loop {
        match step(&file, &options, &known) {
            Ok(Step::Ready(plan)) => {
                to_text(&plan);
                to_json(&plan);
                break;
            }
            Ok(Step::NeedBases(missing)) => known.extend(missing.into_keys().map(|base| {
                let info = BaseInfo {
                    digest: Digest::of(base.describe().as_bytes()),
                    config: ImageConfig::scratch(&Platform::new("linux", "amd64", None)),
                    layers: Vec::new(),
                    pinned: base.describe().to_owned(),
                };
                (base, info)
            })),
            Err(error) => {
                assert!(inside(text, error.span), "{error:?}");
                render(&Diagnostic::from(&error), "Dockerfile", text);
                break;
            }
        }
    }
    let surroundings = Surroundings {
        options: &options,
        known: &known,
        ignored: None,
    };
    for finding in check(&file, text, &surroundings) {
        render(&finding.diagnostic, "Dockerfile", text);
    }
});
