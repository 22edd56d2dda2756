//! Any word, with any switch: expanded or refused, within the promised size; what nobody set is told.

#![no_main]

use builder_core::dockerfile::word::{Lexer, MAX_OUTPUT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &str, Vec<(&str, &str)>)| {
    let (switches, word, env) = input;
    let on = |bit: u8| switches & (1 << bit) != 0;
    let mut variables: Vec<(String, String)> =
        [("a", "b c"), ("long", "x/y.z*\u{e9}?"), ("empty", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    variables.extend(
        env.into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let lexer = Lexer {
        escape: if on(0) { '`' } else { '\\' },
        raw_quotes: on(1),
        raw_escapes: on(2),
        skip_process_quotes: on(3),
        skip_unset: on(4),
    };
    if let Ok(expanded) = lexer.expand(word, &variables) {
        assert!(expanded.text.len() <= MAX_OUTPUT + word.len());
        for name in &expanded.unmatched {
            assert!(variables.iter().all(|(known, _)| known != name), "{name}");
        }
        // A word without anything to expand stands for itself.
        if !word.contains(['$', '\'', '"', lexer.escape]) {
            assert_eq!(expanded.text, word);
        }
    }
    if let Ok(words) = lexer.expand_words(word, &variables) {
        let size: usize = words.iter().map(String::len).sum();
        assert!(size <= MAX_OUTPUT + word.len());
    }
});
