//! How values look: as Go's `fmt` prints them.

use serde_json::Value;

/// As Go prints a value.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(items) => {
            // Inside a map, what is empty is a set's member.
            let item = |value: &Value| match value {
                Value::Object(it) if it.is_empty() => "{}".to_owned(),
                value => show(value),
            };
            let mut items: Vec<String> = items
                .iter()
                .map(|(key, value)| format!("{key}:{}", item(value)))
                .collect();
            items.sort();
            format!("map[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

/// Go's `Printf`: `%s %q %d %v %t %x %%`, with `-`, `0`, a width and a precision.
pub(super) fn formatted(format: &str, values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out += before;
        let verb_at = after
            .find(|c: char| !matches!(c, '-' | '0'..='9' | '.'))
            .ok_or("`printf`: a `%` ends the text")?;
        let (how, after) = after.split_at(verb_at);
        let verb = after.chars().next().unwrap_or('%');
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        let wrong = |why: &str| format!("`printf`: %{how}{verb} {why}");
        let value = values.next().ok_or_else(|| wrong("has no value"))?;
        let text = match (verb, value) {
            ('v', value) => show(value),
            ('s', Value::Null) => String::new(),
            ('s', Value::String(_) | Value::Array(_) | Value::Object(_)) => show(value),
            ('d', Value::Number(number)) if number.is_i64() || number.is_u64() => {
                number.to_string()
            }
            ('t', Value::Bool(it)) => it.to_string(),
            ('q', Value::String(text)) => format!("{text:?}"),
            ('x', Value::String(text)) => text.bytes().map(|it| format!("{it:02x}")).collect(),
            ('x', Value::Number(number)) if number.is_u64() => {
                format!("{:x}", number.as_u64().unwrap_or_default())
            }
            ('s' | 'd' | 't' | 'q' | 'x', _) => return Err(wrong("does not take such a value")),
            _ => return Err(wrong("is not supported: %s, %q, %d, %v, %t, %x and %% are")),
        };
        out += &padded(&text, how).ok_or_else(|| wrong("cannot be read"))?;
    }
    match values.next() {
        Some(_) => Err("`printf` has more values than its text takes".to_owned()),
        None => Ok(out + rest),
    }
}

/// `how`: `-20`, `05`, `.12`, `-20.12`.
fn padded(text: &str, how: &str) -> Option<String> {
    /// A wider one is a slip.
    const MAX: usize = 10_000;
    let (left, how) = match how.strip_prefix('-') {
        Some(how) => (true, how),
        None => (false, how),
    };
    let (width, precision) = match how.split_once('.') {
        Some((width, precision)) => (width, Some(precision)),
        None => (how, None),
    };
    let zeros = width.starts_with('0') && !left;
    let number = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<usize>().ok().filter(|it| *it <= MAX),
    };
    let text: String = match precision {
        Some(precision) => text.chars().take(number(precision)?).collect(),
        None => text.to_owned(),
    };
    let missing = number(width)?.saturating_sub(text.chars().count());
    Some(match (left, zeros) {
        (true, _) => text + &" ".repeat(missing),
        (false, false) => " ".repeat(missing) + &text,
        (false, true) => match text.strip_prefix('-') {
            Some(digits) => format!("-{}{digits}", "0".repeat(missing)),
            None => "0".repeat(missing) + &text,
        },
    })
}
