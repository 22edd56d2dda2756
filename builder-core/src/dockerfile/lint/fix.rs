//! Mends what can be mended by an edit, until nothing is left to mend.

use super::super::ast::Dockerfile;
use super::super::{ParseError, parse};
use super::{Edit, Finding};

/// A mend may uncover another (a FROM in its new case, then its AS); more rounds than this it never takes.
const ROUNDS: usize = 16;

/// Returns `text` with all that `check` finds and has an edit for mended.
///
/// Mending what is mended already changes nothing.
///
/// # Errors
/// Where `text` is no Dockerfile.
pub fn apply(
    text: &str,
    check: &dyn Fn(&Dockerfile, &str) -> Vec<Finding>,
) -> Result<String, ParseError> {
    let mut text = text.to_owned();
    let mut file = parse(&text)?;
    for _ in 0..ROUNDS {
        let edits: Vec<Edit> = check(&file, &text)
            .into_iter()
            .flat_map(|finding| finding.edits)
            .collect();
        let mended = replace(&text, edits);
        // An edit that breaks the file would be a bug of its rule; the author's text is worth more.
        let Ok(parsed) = parse(&mended) else { break };
        if mended == text {
            break;
        }
        (text, file) = (mended, parsed);
    }
    Ok(text)
}

/// Makes the edits; of two that overlap, the first.
fn replace(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for Edit { span, text: new } in edits {
        let (Some(between), true) = (text.get(at..span.start), span.end >= span.start) else {
            continue;
        };
        out.push_str(between);
        out.push_str(&new);
        at = span.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::super::super::Span;
    use super::*;

    #[test]
    fn edits_are_made_once() {
        let edit = |start, end, text: &str| Edit {
            span: Span { start, end },
            text: text.to_owned(),
        };
        for (edits, expected) in [
            (vec![], "abcd"),
            (vec![edit(2, 3, "X"), edit(0, 1, "")], "bXd"),
            (vec![edit(0, 3, "X"), edit(1, 2, "Y")], "Xd"),
            (vec![edit(4, 4, "X")], "abcdX"),
        ] {
            assert_eq!(replace("abcd", edits), expected);
        }
    }
}
