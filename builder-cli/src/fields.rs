//! The little language of `--output` and `--secret`: one line of CSV, whose fields are `key=value`.

use crate::exit::Failure;

/// Splits at commas; a field may stand in double quotes, `""` inside them is one quote (RFC 4180).
pub(crate) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let at = rest.find('"').ok_or("a quote is not closed")?;
                field.push_str(&rest[..at]);
                rest = &rest[at + 1..];
                match rest.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        rest = after;
                    }
                    None => break,
                }
            }
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err("a quoted field goes on behind its quote");
            }
        } else {
            let at = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..at]);
            if field.contains('"') {
                return Err("a quote stands inside a field");
            }
            rest = &rest[at..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Reads `key=value` fields; keys in lower case.
pub(crate) fn pairs(flag: &str, text: &str) -> Result<Vec<(String, String)>, Failure> {
    let wrong = |why: &str| Failure::usage(format!("{flag} {text}: {why}"));
    let fields = split(text).map_err(wrong)?;
    let pair = |field: &String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
        None => Err(wrong(&format!("`{field}` is not KEY=VALUE"))),
    };
    fields.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn fields_are_split_as_csv() {
        for (text, expected) in [
            ("a=1,b=2", Ok(vec!["a=1", "b=2"])),
            ("", Ok(vec![""])),
            ("a,", Ok(vec!["a", ""])),
            ("\"dest=a,b\",c", Ok(vec!["dest=a,b", "c"])),
            ("\"a\"\"b\"", Ok(vec!["a\"b"])),
            ("\"a", Err("a quote is not closed")),
            ("\"a\"b", Err("a quoted field goes on behind its quote")),
            ("a\"b", Err("a quote stands inside a field")),
        ] {
            let expected = expected.map(|it| it.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
