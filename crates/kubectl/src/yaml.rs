//! YAML as kubectl writes it: keys sorted, lists not indented, scalars plain where they read back as the same text.
//!
//! The rules of quoting and of breaking lines are those of go-yaml, so that the output can be compared with kubectl's.

use serde_json::Value;

/// Lines that are longer are broken at the next space.
const WIDTH: usize = 80;

/// The document, with a line break at its end.
pub(crate) fn to_string(value: &Value) -> String {
    let mut writer = Writer::default();
    match value {
        Value::Object(fields) if !fields.is_empty() => writer.node(value, 0),
        Value::Array(items) if !items.is_empty() => writer.node(value, 0),
        scalar => writer.scalar(scalar, 2),
    }
    writer.text.push('\n');
    writer.text
}

#[derive(Default)]
struct Writer {
    text: String,
    /// How much of the last line is written.
    column: usize,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.column = self.column.saturating_add(text.chars().count());
    }

    fn new_line(&mut self, indent: usize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// A map or a list with something in it, at the place where the writer stands.
    fn node(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(fields) => {
                for (index, (key, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        self.new_line(indent);
                    }
                    self.string(key, None);
                    self.put(":");
                    self.value_of_key(value, indent);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.new_line(indent);
                    }
                    self.put("-");
                    match item {
                        Value::Object(fields) if !fields.is_empty() => {
                            self.put(" ");
                            self.node(item, indent.saturating_add(2));
                        }
                        Value::Array(items) if !items.is_empty() => {
                            self.put(" ");
                            self.node(item, indent.saturating_add(2));
                        }
                        scalar => {
                            self.put(" ");
                            self.scalar(scalar, indent.saturating_add(2));
                        }
                    }
                }
            }
            scalar => self.scalar(scalar, indent),
        }
    }

    fn value_of_key(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                self.new_line(indent.saturating_add(2));
                self.node(value, indent.saturating_add(2));
            }
            Value::Array(items) if !items.is_empty() => {
                self.new_line(indent);
                self.node(value, indent);
            }
            scalar => {
                self.put(" ");
                self.scalar(scalar, indent.saturating_add(2));
            }
        }
    }

    /// A scalar, or an empty map or list; what it does not get into its line is indented by so much.
    fn scalar(&mut self, value: &Value, indent: usize) {
        match value {
            Value::String(text) => self.string(text, Some(indent)),
            Value::Object(_) => self.put("{}"),
            Value::Array(_) => self.put("[]"),
            other => self.put(&other.to_string()),
        }
    }

    /// A text. A key has no indentation to go on with and stays on its line.
    fn string(&mut self, text: &str, indent: Option<usize>) {
        let traits = Traits::of(text);
        match indent {
            Some(indent) if text.contains('\n') && traits.literal => self.literal(text, indent),
            _ if text.contains('\n') || means_something_else(text) => self.double_quoted(text, indent),
            _ if traits.plain => self.plain(text, indent),
            _ if traits.single_quoted => self.single_quoted(text, indent),
            _ => self.double_quoted(text, indent),
        }
    }

    /// Whether the line is to be broken at a space: it is long enough, and the space is the only one.
    fn breaks(&self, before: Option<char>, after: Option<char>) -> bool {
        self.column > WIDTH && before != Some(' ') && after.is_some_and(|after| after != ' ')
    }

    fn plain(&mut self, text: &str, indent: Option<usize>) {
        self.folded(text, indent, |letter| letter.to_string());
    }

    fn single_quoted(&mut self, text: &str, indent: Option<usize>) {
        self.put("'");
        self.folded(text, indent, |letter| {
            if letter == '\'' {
                "''".into()
            } else {
                letter.to_string()
            }
        });
        self.put("'");
    }

    fn folded(&mut self, text: &str, indent: Option<usize>, written: fn(char) -> String) {
        let mut before = None;
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match indent {
                Some(indent)
                    if letter == ' ' && before.is_some() && self.breaks(before, letters.peek().copied()) =>
                {
                    self.new_line(indent);
                }
                _ => self.put(&written(letter)),
            }
            before = Some(letter);
        }
    }

    fn double_quoted(&mut self, text: &str, indent: Option<usize>) {
        self.put("\"");
        let mut before = None;
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let after = letters.peek().copied();
            match indent {
                Some(indent)
                    if letter == ' '
                        && before.is_some()
                        && before != Some(' ')
                        && after.is_some()
                        && self.column > WIDTH =>
                {
                    self.new_line(indent);
                    if after == Some(' ') {
                        self.put("\\");
                    }
                }
                _ => self.put(&escaped(letter)),
            }
            before = Some(letter);
        }
        self.put("\"");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        let body = match text.strip_suffix('\n') {
            None => {
                self.put("-");
                text
            }
            Some(body) => {
                if body.is_empty() || body.ends_with('\n') {
                    self.put("+");
                }
                body
            }
        };
        for line in body.split('\n') {
            // An empty line has no indentation.
            self.new_line(if line.is_empty() { 0 } else { indent });
            self.put(line);
        }
    }
}

fn escaped(letter: char) -> String {
    match letter {
        '\0' => "\\0".into(),
        '\u{7}' => "\\a".into(),
        '\u{8}' => "\\b".into(),
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\u{b}' => "\\v".into(),
        '\u{c}' => "\\f".into(),
        '\r' => "\\r".into(),
        '\u{1b}' => "\\e".into(),
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\u{85}' => "\\N".into(),
        '\u{a0}' => "\\_".into(),
        '\u{2028}' => "\\L".into(),
        '\u{2029}' => "\\P".into(),
        letter if is_printable(letter) => letter.to_string(),
        letter => match u32::from(letter) {
            code @ 0..=0xff => format!("\\x{code:02X}"),
            code @ 0x100..=0xffff => format!("\\u{code:04X}"),
            code => format!("\\U{code:08X}"),
        },
    }
}

fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' |
        '\u{10000}'..='\u{10ffff}')
}

/// How a text can be written.
struct Traits {
    plain: bool,
    single_quoted: bool,
    literal: bool,
}

impl Traits {
    fn of(text: &str) -> Self {
        let special = text.chars().any(|letter| !is_printable(letter));
        let space_before_break = text.contains(" \n");
        let space_after_break = text.contains("\n ");
        let outer_space = text.starts_with([' ', '\n']) || text.ends_with([' ', '\n']);
        let odd = special || space_before_break;
        Self {
            plain: !odd
                && !space_after_break
                && !outer_space
                && !text.contains('\n')
                && !has_indicators(text),
            single_quoted: !odd && !space_after_break,
            literal: !odd && !text.ends_with(' '),
        }
    }
}

/// Whether a plain text would be taken for something of YAML's own.
fn has_indicators(text: &str) -> bool {
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    let mut first = true;
    while let Some(letter) = letters.next() {
        let space_follows = letters
            .peek()
            .is_none_or(|after| [' ', '\t', '\n'].contains(after));
        let indicates = match letter {
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
            | '`'
                if first =>
            {
                true
            }
            '?' | '-' if first => space_follows,
            ':' => space_follows,
            '#' => [' ', '\t', '\n'].contains(&before),
            _ => false,
        };
        if indicates {
            return true;
        }
        before = letter;
        first = false;
    }
    false
}

/// Whether a plain text would be read as something else than a text: nothing, a flag, a number, a time.
fn means_something_else(text: &str) -> bool {
    const WORDS: [&str; 38] = [
        "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On",
        "ON", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "<<", ".nan",
        ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "-.inf", "+.Inf", "-.Inf",
    ];
    WORDS.contains(&text)
        || ["+.INF", "-.INF"].contains(&text)
        || is_integer(text)
        || is_float(text)
        || is_time(text)
        || is_base_60(text)
}

fn is_integer(text: &str) -> bool {
    let digits = text.replace('_', "");
    let digits = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    let all =
        |digits: &str, radix: u32| !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    if !text.starts_with(|first: char| first.is_ascii_digit() || first == '+' || first == '-') {
        return false;
    }
    let (prefix, rest) = digits.split_at_checked(2).unwrap_or((digits, ""));
    match prefix {
        "0x" | "0X" => all(rest, 16),
        "0b" | "0B" => all(rest, 2),
        "0o" | "0O" => all(rest, 8),
        // A long row of digits is a float, which is as little a text.
        _ => all(digits, 10),
    }
}

fn is_float(text: &str) -> bool {
    let text = text.replace('_', "");
    let text = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.chars().all(|digit| digit.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && digits(mantissa),
    };
    exponent_fits && mantissa_fits
}

/// `2006-01-02`, alone or with a time behind it.
fn is_time(text: &str) -> bool {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let number = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && text.chars().all(|digit| digit.is_ascii_digit())
    };
    let date: Vec<&str> = date.split('-').collect();
    let [year, month, day] = date.as_slice() else {
        return false;
    };
    let date_fits = year.len() == 4 && number(year, 4) && number(month, 2) && number(day, 2);
    let time_fits = time.is_none_or(|time| {
        let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
        let clock: Vec<&str> = time.get(..zone).unwrap_or_default().split(':').collect();
        let [hour, minute, second] = clock.as_slice() else {
            return false;
        };
        let second = second.split_once('.').map_or(*second, |(second, _)| second);
        number(hour, 2) && number(minute, 2) && number(second, 2)
    });
    date_fits && time_fits
}

/// `12:30:45`, which old YAML takes for a number.
fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else {
        return false;
    };
    let last = last.split_once('.').map_or(*last, |(last, _)| last);
    let sixty = |part: &str| (1..=2).contains(&part.len()) && part.parse::<u8>().is_ok_and(|part| part < 60);
    first.starts_with(|digit: char| digit.is_ascii_digit())
        && first.chars().all(|digit| digit.is_ascii_digit() || digit == '_')
        && sixty(last)
        && middle.iter().all(|part| sixty(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn texts_are_quoted_where_they_must_be() {
        let cases = [
            ("plain", "plain"),
            ("10.244.0.5", "10.244.0.5"),
            ("nginx:1.25", "nginx:1.25"),
            ("a: b", "'a: b'"),
            ("a #b", "'a #b'"),
            ("{}", "'{}'"),
            ("-", "'-'"),
            ("-x", "-x"),
            ("it's", "it's"),
            ("'it'", "'''it'''"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("y", "\"y\""),
            ("3600", "\"3600\""),
            ("0400", "\"0400\""),
            ("1e3", "\"1e3\""),
            ("12:30", "\"12:30\""),
            ("2026-11-20T06:36:31Z", "\"2026-11-20T06:36:31Z\""),
            ("25%", "25%"),
            ("500m", "500m"),
            ("a\tb", "\"a\\tb\""),
            (" a", "' a'"),
            ("é", "é"),
        ];
        for (text, expected) in cases {
            assert_eq!(to_string(&json!(text)), format!("{expected}\n"), "{text:?}");
        }
    }

    #[test]
    fn maps_and_lists_are_laid_out_as_kubectl_does() {
        let value = json!({
            "list": [{"a": 1, "b": [2, "x"]}, [3], {}], "empty": [], "map": {"k": null}, "text": "one\ntwo\n", "cut": "a\nb"});
        let expected = "cut: |-\n  a\n  b\nempty: []\nlist:\n- a: 1\n  b:\n  - 2\n  - x\n- - 3\n- {}\nmap:\n  k: null\n\
                        text: |\n  one\n  two\n";
        assert_eq!(to_string(&value), expected);
    }

    #[test]
    fn long_texts_are_broken_at_spaces() {
        let word = "w".repeat(40);
        let text = format!("{word} {word} {word} end");
        let expected = format!("m:\n  t: {word} {word}\n    {word} end\n");
        assert_eq!(to_string(&json!({"m": {"t": text}})), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            texts in proptest::collection::btree_map("[a-z0-9:# .'\"{-]{1,9}", "[ -~\\n\\té]{0,120}", 0..5),
        ) {
            let value = json!({ "map": texts, "list": texts.values().collect::<Vec<_>>() });
            let back: Value = serde_saphyr::from_str(&to_string(&value)).unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
