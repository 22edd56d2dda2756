//! Which images are wanted: the filters of `docker images`.

use super::Row;

/// Lets some images through.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// Whether it has no tag.
    Dangling(bool),
    /// A pattern for its name, `*` and `?` within a part.
    Reference(String),
    /// A label, perhaps with its value.
    Label(String, Option<String>),
    /// Made before this image.
    Before(String),
    /// Made after this image.
    Since(String),
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    #[error("`{0}` is not NAME=VALUE")]
    Form(String),
    #[error("there is no filter `{0}`: dangling, reference, label, before and since are known")]
    Unknown(String),
    #[error("dangling={0}: true or false is expected")]
    Dangling(String),
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| FilterError::Form(text.to_owned()))?;
        let value = value.to_owned();
        Ok(match name {
            "dangling" => match value.as_str() {
                "true" | "1" => Filter::Dangling(true),
                "false" | "0" => Filter::Dangling(false),
                _ => return Err(FilterError::Dangling(value)),
            },
            "reference" => Filter::Reference(value),
            "label" => match value.split_once('=') {
                Some((key, value)) => Filter::Label(key.to_owned(), Some(value.to_owned())),
                None => Filter::Label(value, None),
            },
            "before" => Filter::Before(value),
            "since" => Filter::Since(value),
            other => return Err(FilterError::Unknown(other.to_owned())),
        })
    }
}

impl Filter {
    /// Whether the row passes; `bound` is when the image that the filter names was made.
    pub(super) fn lets(&self, row: &Row, bound: Option<i64>) -> bool {
        match self {
            Filter::Dangling(wanted) => {
                let tagged = row.name.as_ref().is_some_and(|it| it.digest().is_none());
                tagged != *wanted
            }
            Filter::Reference(pattern) => row.name.as_ref().is_some_and(|name| {
                let full = name.familiar();
                let bare = name
                    .tag()
                    .and_then(|tag| full.strip_suffix(&format!(":{tag}")));
                matches(pattern, &full) || bare.is_some_and(|it| matches(pattern, it))
            }),
            Filter::Label(key, value) => {
                let found = row.image.config.config.labels.get(key);
                found.is_some_and(|found| value.as_ref().is_none_or(|it| it == found))
            }
            Filter::Before(_) => row.created() < bound,
            Filter::Since(_) => row.created() > bound,
        }
    }
}

/// Compares part by part, as Go's `path.Match` does; sets (`[a-z]`) are taken too.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    part(&pattern, &text)
}

fn part(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => {
            let end = text.iter().position(|c| *c == '/').unwrap_or(text.len());
            (0..=end).any(|at| part(rest, &text[at..]))
        }
        (Some(('?', rest)), Some((c, after))) => *c != '/' && part(rest, after),
        (Some(('[', rest)), Some((c, after))) => match rest.iter().position(|it| *it == ']') {
            Some(end) => set(&rest[..end], *c) && part(&rest[end + 1..], after),
            None => false,
        },
        (Some((p, rest)), Some((c, after))) => p == c && part(rest, after),
        _ => false,
    }
}

fn set(set: &[char], c: char) -> bool {
    let (set, negated) = match set.split_first() {
        Some(('^', rest)) => (rest, true),
        _ => (set, false),
    };
    let mut found = false;
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == '-' {
            found |= (set[at]..=set[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= set[at] == c;
            at += 1;
        }
    }
    found != negated && c != '/'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("app", "app", true),
            ("app", "app2", false),
            ("a*", "app:1", true),
            ("*:1", "app:1", true),
            ("*", "a.io/b:1", false),
            ("*/*", "a.io/b:1", true),
            ("a?p", "app", true),
            ("a[o-q]p", "app", true),
            ("a[^p]p", "app", false),
            ("a[p", "app", false),
            ("**", "a/b", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn filters_are_read() {
        let label = |key: &str, value: Option<&str>| {
            Ok(Filter::Label(key.to_owned(), value.map(str::to_owned)))
        };
        for (text, expected) in [
            ("dangling=true", Ok(Filter::Dangling(true))),
            ("dangling=0", Ok(Filter::Dangling(false))),
            ("dangling=x", Err(FilterError::Dangling("x".to_owned()))),
            ("label=a", label("a", None)),
            ("label=a=b=c", label("a", Some("b=c"))),
            ("before=app", Ok(Filter::Before("app".to_owned()))),
            ("until=1h", Err(FilterError::Unknown("until".to_owned()))),
            ("x", Err(FilterError::Form("x".to_owned()))),
        ] {
            assert_eq!(text.parse::<Filter>(), expected, "{text}");
        }
    }
}
