//! What a step has else than in the cache that it missed in, on a machine that never ran it.

use std::path::Path;

use serde_json::Value;

use super::Place;
use super::trouble::rewrite;
use crate::fixture::{self, Ran, Steps};

const WITH_ARG: &str = "FROM busybox\nARG WORD\nRUN echo \"$WORD\" > /token\nRUN echo ready > /ready\nCOPY page /page\n";

const STEPS: usize = 3;

/// Each step that ran, and why.
fn reasons(ran: &Ran) -> Vec<(String, String)> {
    let names = Steps::of(ran).names;
    let missed = ran
        .events()
        .into_iter()
        .filter(|it| it["event"] == "missed");
    let told = missed.map(|it| {
        let name = &names[&it["vertex"].as_u64().expect("a vertex")];
        (
            name.clone(),
            it["reason"].as_str().expect("a reason").to_owned(),
        )
    });
    told.collect()
}

#[test]
fn a_miss_says_what_differs_from_the_cache() {
    let Some(place) = Place::new("shared_cache/reasons") else {
        return;
    };
    let context = place.temp.path().join("context");
    fixture::write_files(&context, &[("Dockerfile", WITH_ARG)]);
    let dir = place.path("cache");
    let name = place.front.name("cache:1");
    let to = format!("type=registry,ref={name},mode=max,ignore-error=false");
    let to_dir = format!("type=local,dest={dir},mode=max,ignore-error=false");
    place.build(
        "a",
        &[
            "--build-arg=WORD=hunter2",
            "--cache-to",
            &to,
            "--cache-to",
            &to_dir,
        ],
    );
    let since = format!(" since {name}");
    let of = |store: &str, args: &[&str]| {
        let from = ["--cache-from", name.as_str()];
        reasons(&place.build(store, &[&from[..], args].concat()))
    };
    // Nothing is fetched for it while everything is found.
    place.front.asked();
    assert_eq!(of("b", &["--build-arg=WORD=hunter2"]), []);
    assert_eq!(
        place.front.fetched().len(),
        1 + STEPS,
        "the config and the layers"
    );
    // A variable that changed is told of, and neither of its values.
    let told = of("c", &["--build-arg=WORD=other"]);
    assert_eq!(told[0].1, format!("build arg WORD changed{since}"));
    assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
    // A file, after a build that found all else in the cache: it is asked again.
    fixture::write_files(&context, &[("page", "another page\n")]);
    place.front.asked();
    let told = of("b", &["--build-arg=WORD=hunter2"]);
    let expected = (
        "COPY page /page".to_owned(),
        format!("page changed (content){since}"),
    );
    assert_eq!(told, std::slice::from_ref(&expected));
    assert_eq!(
        place.front.fetched().len(),
        1,
        "what the keys were made from"
    );
    // What went through another store is told of all the same.
    let again = place.front.name("cache:2");
    fixture::write_files(&context, &[("page", "page\n")]);
    let to = format!("type=registry,ref={again},mode=max,ignore-error=false");
    place.build(
        "d",
        &[
            "--build-arg=WORD=hunter2",
            "--cache-from",
            &name,
            "--cache-to",
            &to,
        ],
    );
    fixture::write_files(&context, &[("page", "another page\n")]);
    let ran = place.build("e", &["--build-arg=WORD=hunter2", "--cache-from", &again]);
    assert_eq!(
        reasons(&ran),
        [(expected.0, expected.1.replace("cache:1", "cache:2"))]
    );
    // An older builder's cache has no such part, and one may be lost: the steps are found, and no more is said.
    let from = format!("type=local,src={dir}");
    let gone = |config: &mut Value| {
        config["builder"]["parts"]["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    };
    let older = |config: &mut Value| {
        let own = config["builder"].as_object_mut().expect("our part");
        own.remove("parts").expect("parts");
    };
    for (store, change) in [("f", &gone as &dyn Fn(&mut Value)), ("g", &older)] {
        rewrite(Path::new(&dir), |config| change(config));
        let args = ["--build-arg=WORD=hunter2", "--cache-from", &from];
        let ran = place.build(store, &args);
        let first = "first build of this step: the project has no earlier record";
        assert_eq!(
            reasons(&ran),
            [("COPY page /page".to_owned(), first.to_owned())]
        );
        assert_eq!(Steps::of(&ran).warnings, Vec::<String>::new());
    }
}
