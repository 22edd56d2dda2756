//! Any ignore file and any path: read or refused, and matched in bounded time; a walk agrees with a look at the whole path.

#![no_main]

use builder_core::context::ignore::{Glob, Ignore, ParentMatch, Patterns};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str)| {
    let (file, path) = input;
    let lines = Ignore::read(file);
    for line in &lines {
        if let Ok(glob) = Glob::new(line) {
            glob.matches(path.as_bytes());
        }
    }
    let Ok(patterns) = Patterns::new(&lines) else {
        return;
    };
    assert_eq!(patterns.matches("."), Ok(false));
    let whole = patterns.matches(path);
    assert!(whole.is_ok());

    let parts: Vec<&str> = path.split('/').collect();
    // A walk looks at each directory of a path by itself: its time is this one's times the depth.
    if parts.len() > 64 {
        return;
    }
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return;
    }
    let (mut parent, mut ignored) = (ParentMatch::default(), false);
    for end in 1..=parts.len() {
        let here = parts[..end].join("/");
        (ignored, parent) = patterns.matches_with_parent(here.as_bytes(), &parent);
        patterns.may_reinclude_below(here.as_bytes());
    }
    // With `!` patterns the two differ in corners, in the reference as well.
    if !patterns.has_exceptions() {
        assert_eq!(whole, Ok(ignored));
    }
});
