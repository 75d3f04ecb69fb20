//! What the client is warned of: collected on a request's whole path, and told with its answer, whatever that is.

use std::sync::Arc;

use http::HeaderValue;
use parking_lot::Mutex;

/// How many characters of warnings an answer has before each is cut (upstream's `truncateAtTotalRunes`).
const MOST_IN_ALL: usize = 4 * 1024;
/// What is left of each then (upstream's `truncateItemRunes`).
const MOST_OF_ONE: usize = 256;

/// The warnings of a request, of which all clones are the same. Each is told once, in the order of their first mention.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Collected>>);

#[derive(Debug, Default)]
struct Collected {
    texts: Vec<String>,
    /// The characters of all of them.
    whole: usize,
    /// The characters of all of them when each has been cut.
    cut: usize,
}

impl Warnings {
    /// Warns, if that has not been said.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut collected = self.0.lock();
        if text.is_empty() || collected.texts.contains(&text) {
            return;
        }
        let length = text.chars().count();
        collected.whole += length;
        // What comes after as much as an answer takes is left out, however much that is.
        if collected.cut < MOST_IN_ALL {
            collected.cut += length.min(MOST_OF_ONE);
            collected.texts.push(text);
        }
    }

    /// Warns of each.
    pub fn extend<T: Into<String>>(&self, texts: impl IntoIterator<Item = T>) {
        texts.into_iter().for_each(|text| self.add(text));
    }

    /// The texts, of which an answer may show less.
    pub fn texts(&self) -> Vec<String> {
        self.0.lock().texts.clone()
    }

    /// The values of the `Warning` headers, and no more than fit. A text that no header can hold is left out.
    pub(crate) fn headers(&self) -> Vec<HeaderValue> {
        let collected = self.0.lock();
        let most = if collected.whole > MOST_IN_ALL {
            MOST_OF_ONE
        } else {
            MOST_IN_ALL
        };
        let header = |text: &String| {
            let mut quoted = String::with_capacity(text.len() + 8);
            for character in text.chars().take(most) {
                if character.is_control() {
                    return None;
                }
                if matches!(character, '"' | '\\') {
                    quoted.push('\\');
                }
                quoted.push(character);
            }
            HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()).ok()
        };
        collected.texts.iter().filter_map(header).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(texts: &[&str]) -> Vec<String> {
        let warnings = Warnings::default();
        warnings.extend(texts.iter().copied());
        let text = |value: HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        warnings.headers().into_iter().map(text).collect()
    }

    #[test]
    fn warnings_are_quoted_as_headers_demand() {
        let texts = ["unknown field \"spec.x\"", "a\nb", "", "Grüße\\"];
        let expected = [r#"299 - "unknown field \"spec.x\"""#, r#"299 - "Grüße\\""#];
        assert_eq!(told(&texts), expected);
    }

    #[test]
    fn a_warning_is_told_once() {
        assert_eq!(told(&["a", "b", "a"]), [r#"299 - "a""#, r#"299 - "b""#]);
    }

    #[test]
    fn many_warnings_are_cut_and_more_are_left_out() {
        let long = |first: char, length: usize| format!("{first}{}", "x".repeat(length - 1));
        // As many as fit are told whole.
        let fitting = told(&[&long('a', 2048), &long('b', 2048)]);
        assert_eq!(fitting.iter().map(String::len).collect::<Vec<_>>(), [2056; 2]);
        // One more, and all are cut.
        let cut = told(&[&long('a', 2048), &long('b', 2048), "c"]);
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [264, 264, 9]);
        let texts: Vec<String> = (0..100_000).map(|number| format!("{number:0300}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert_eq!(told(&texts).len(), 16);
    }
}
