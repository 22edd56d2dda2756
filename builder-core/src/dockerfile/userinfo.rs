//! Users and passwords that stand in the addresses of a text: no screen, record or attestation is to have them.

use std::ops::Range;

/// Returns `text` without what stands between `://` and `@` in its addresses.
pub fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for place in places(text) {
        out.push_str(&text[done..place.start]);
        done = place.end;
    }
    out + &text[done..]
}

/// Returns where users and passwords stand, with the `@` behind them, in order.
///
/// A quote ends none: a password may hold one.
pub(super) fn places(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        let rest = &text[start..];
        let end = rest.find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace());
        let authority = &rest[..end.unwrap_or(rest.len())];
        if let Some(last) = authority.rfind('@') {
            found.push(start..start + last + 1);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_are_left_out() {
        for (text, expected) in [
            ("ADD http://u:p@a/b /c", "ADD http://a/b /c"),
            (
                "ADD https://u:p@q@a:1 git://t@b /c",
                "ADD https://a:1 git://b /c",
            ),
            (
                r#"ADD ["http://u:p"p@a/b","/c@d"]"#,
                r#"ADD ["http://a/b","/c@d"]"#,
            ),
            ("ADD http://a/b@c /d", "ADD http://a/b@c /d"),
            ("ADD http://a?x=@b /d", "ADD http://a?x=@b /d"),
            ("ADD http://a /d@e", "ADD http://a /d@e"),
            (
                "ADD http://ü:ö@a\tx\nADD http://é@b",
                "ADD http://a\tx\nADD http://b",
            ),
            ("git@a:b ://", "git@a:b ://"),
        ] {
            assert_eq!(without_userinfo(text), expected, "{text}");
        }
    }
}
