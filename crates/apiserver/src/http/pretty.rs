//! JSON for people: indented, its fields in the order that they had.

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::http::query::Query;

/// Programs whose users read what they print.
const READ_BY_PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// Whether the client wants it so: it says so, or it is one of those and does not say otherwise.
pub(crate) fn wanted(query: &Query, headers: &HeaderMap) -> bool {
    if let Some(said) = query.text("pretty") {
        return matches!(said.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| READ_BY_PEOPLE.iter().any(|name| agent.starts_with(name)))
}

/// Compact JSON, indented by two spaces.
pub(crate) fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut previous = 0;
    for (place, byte) in json.iter().copied().enumerate() {
        if in_text {
            out.push(byte);
            in_text = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            previous = byte;
            continue;
        }
        match byte {
            b'{' | b'[' => {
                depth += 1;
                out.push(byte);
                if !matches!(json.get(place + 1), Some(b'}' | b']')) {
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(previous, b'{' | b'[') {
                    line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                in_text = byte == b'"';
                out.push(byte);
            }
        }
        previous = byte;
    }
    out
}

fn line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', depth * 2));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_stays_what_it_is() {
        let compact = r#"{"b":[1,{"c":"x:\"{,\\"}],"a":{},"d":[]}"#;
        let text = String::from_utf8(indented(compact.as_bytes())).unwrap();
        assert_eq!(
            text,
            "{\n  \"b\": [\n    1,\n    {\n      \"c\": \"x:\\\"{,\\\\\"\n    }\n  ],\n  \"a\": {},\n  \"d\": []\n}"
        );
    }
}
