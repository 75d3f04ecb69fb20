//! Malformed JSON in the words of Go's `encoding/json`, which clients know from Kubernetes.

/// What is wrong with a text that is not JSON.
pub fn message(text: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let shown = error.to_string();
    let what = shown.split(" at line ").next().unwrap_or_default();
    let context = match what {
        "expected value" => "looking for beginning of value",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "key must be a string" => "looking for beginning of object key string",
        "trailing characters" => "after top-level value",
        "trailing comma" => "looking for beginning of value",
        "invalid escape" => "in string escape code",
        "invalid number" => "in numeric literal",
        "control character (\\u0000-\\u001F) found while parsing a string" => "in string literal",
        "expected ident" => &in_literal(text, error),
        _ => return shown,
    };
    match offending(text, error) {
        Some(character) => format!("invalid character {character} {context}"),
        None => "unexpected end of JSON input".into(),
    }
}

/// Which of the three words was begun, and what should have come.
fn in_literal(text: &[u8], error: &serde_json::Error) -> String {
    let before = place(text, error)
        .and_then(|at| text.get(..at))
        .unwrap_or_default();
    for word in ["null", "true", "false"] {
        for (length, expected) in word.char_indices().collect::<Vec<_>>().into_iter().skip(1).rev() {
            let part = word.get(..length).unwrap_or_default();
            if before.ends_with(part.as_bytes()) {
                return format!("in literal {word} (expecting {expected:?})");
            }
        }
    }
    "in literal".into()
}

/// Where the reader stopped.
fn place(text: &[u8], error: &serde_json::Error) -> Option<usize> {
    let before: usize = text
        .split_inclusive(|&byte| byte == b'\n')
        .take(error.line().checked_sub(1)?)
        .map(<[u8]>::len)
        .sum();
    Some(before + error.column().checked_sub(1)?)
}

/// The character at which the reader stopped, as Go quotes it.
fn offending(text: &[u8], error: &serde_json::Error) -> Option<String> {
    let character = char::from(*text.get(place(text, error)?)?);
    Some(match character {
        '\'' => r"'\''".into(),
        '"' => r#"'"'"#.into(),
        '\n' | '\r' | '\t' | '\\' => format!("{character:?}"),
        '\u{7}' => r"'\a'".into(),
        '\u{8}' => r"'\b'".into(),
        '\u{b}' => r"'\v'".into(),
        '\u{c}' => r"'\f'".into(),
        '\0'..' ' | '\u{7f}' => format!(r"'\x{:02x}'", u32::from(character)),
        '\u{80}'..'\u{a0}' | '\u{ad}' => format!(r"'\u{:04x}'", u32::from(character)),
        other => format!("'{other}'"),
    })
}

/// Go's name of the kind of value that a text begins with.
pub fn value_kind(text: &[u8]) -> &'static str {
    match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "null",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IgnoredAny;

    #[test]
    fn malformed_json_is_described_as_go_does() {
        let cases = [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            (r#"{"a":"#, "unexpected end of JSON input"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (
                r#"{"a":1 "b":2}"#,
                r#"invalid character '"' after object key:value pair"#,
            ),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "{a:1}",
                "invalid character 'a' looking for beginning of object key string",
            ),
            ("{} x", "invalid character 'x' after top-level value"),
            ("nothing", "invalid character 'o' in literal null (expecting 'u')"),
            (
                r#"{"a":fals3}"#,
                "invalid character '3' in literal false (expecting 'e')",
            ),
            (
                "{\n\"a\": x}",
                "invalid character 'x' looking for beginning of value",
            ),
        ];
        for (text, expected) in cases {
            let error = serde_json::from_str::<IgnoredAny>(text).unwrap_err();
            assert_eq!(message(text.as_bytes(), &error), expected, "{text}");
        }
    }
}
