//! Regular expressions as Go reads them (`regexp/syntax`): what is wrong with one in Go's words, and the same expression
//! for Rust's engine, which is of the same kind and differs in the syntax at the edges.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

/// How often something may be repeated at most, repetitions in repetitions included.
const MOST: u64 = 1000;
/// How deep groups may lie in each other.
const DEEPEST: usize = 1000;

/// Go's named classes; `:word:` and all others mean ASCII alone.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// A compiled expression.
///
/// # Errors
/// What Go says is wrong: `error parsing regexp: missing closing ): …`.
pub(crate) fn compile(expression: &str) -> Result<Option<regex::Regex>, String> {
    let translated = translate(expression)?;
    // What Go takes and the engine does not is too large for it.
    Ok(regex::Regex::new(&translated).ok())
}

/// The expression in Rust's syntax.
///
/// # Errors
/// See [`compile`].
fn translate(expression: &str) -> Result<String, String> {
    let mut reader = Reader {
        whole: expression,
        rest: expression,
        out: String::with_capacity(expression.len()),
        group: Group::default(),
        outer: Vec::new(),
        last_repeat: None,
    };
    match reader.read() {
        Ok(()) => Ok(reader.out),
        Err((what, part)) => Err(format!("error parsing regexp: {what}: `{part}`")),
    }
}

/// What is wrong, and the part of the expression that it is about.
type Fault<'a> = (&'static str, &'a str);

/// A group that is not closed yet.
#[derive(Default)]
struct Group {
    /// The last thing that can be repeated: how often it is repeated inside.
    last: Option<u64>,
    /// The most of all that it holds.
    most: u64,
}

struct Reader<'a> {
    whole: &'a str,
    rest: &'a str,
    out: String,
    group: Group,
    /// The groups around it, the outermost first.
    outer: Vec<Group>,
    /// Where the repetition begins that was just read.
    last_repeat: Option<&'a str>,
}

/// What stands in `before` and not in `after`, which is its end.
fn between<'a>(before: &'a str, after: &str) -> &'a str {
    before
        .get(..before.len().saturating_sub(after.len()))
        .unwrap_or_default()
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), Fault<'a>> {
        while let Some(next) = self.rest.chars().next() {
            let before = self.rest;
            let mut repeat = None;
            match next {
                '(' => self.open()?,
                ')' => self.close()?,
                '|' => {
                    self.skip(1);
                    self.out.push('|');
                    self.operand(None);
                }
                '^' | '$' | '.' => {
                    self.skip(1);
                    self.out.push(next);
                    self.operand(Some(1));
                }
                '[' => {
                    self.class()?;
                    self.operand(Some(1));
                }
                '*' | '+' | '?' => {
                    self.skip(1);
                    self.repeat(before, 1)?;
                    repeat = Some(before);
                }
                '{' => match bounds(before) {
                    Some((least, most, after)) => {
                        self.rest = after;
                        let is_wrong = least > MOST || most.is_some_and(|most| most > MOST || most < least);
                        if is_wrong {
                            return Err((SIZE, between(before, after)));
                        }
                        self.repeat(before, most.unwrap_or(least))?;
                        repeat = Some(before);
                    }
                    None => self.literal(),
                },
                '\\' => self.escape()?,
                _ => self.literal(),
            }
            self.last_repeat = repeat;
        }
        if !self.outer.is_empty() {
            return Err(("missing closing )", self.whole));
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Something was read that can be repeated, or nothing such.
    fn operand(&mut self, most: Option<u64>) {
        self.group.last = most;
        self.group.most = self.group.most.max(most.unwrap_or(1));
    }

    fn literal(&mut self) {
        if let Some(letter) = self.rest.chars().next() {
            self.skip(letter.len_utf8());
            push(&mut self.out, letter);
            self.operand(Some(1));
        }
    }

    /// A repetition, which begins at `before` and has been read but for the `?` that makes it lazy.
    fn repeat(&mut self, before: &'a str, most: u64) -> Result<(), Fault<'a>> {
        let is_counted = before.starts_with('{');
        if self.rest.starts_with('?') {
            self.skip(1);
        }
        if let Some(last) = self.last_repeat {
            return Err(("invalid nested repetition operator", between(last, self.rest)));
        }
        let text = between(before, self.rest);
        let Some(inside) = self.group.last else {
            return Err(("missing argument to repetition operator", text));
        };
        let mut all = inside;
        if is_counted {
            all = if most == 0 { 1 } else { inside.saturating_mul(most) };
            if most >= 2 && all > MOST {
                return Err((SIZE, text));
            }
        }
        self.out.push_str(text);
        self.operand(Some(all));
        Ok(())
    }

    fn open(&mut self) -> Result<(), Fault<'a>> {
        let before = self.rest;
        if let Some(rest) = before.strip_prefix("(?") {
            let named = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<'));
            if let Some(name) = named {
                const WHAT: &str = "invalid named capture";
                let Some((name, after)) = name.split_once('>') else {
                    return Err((WHAT, before));
                };
                let is_name = !name.is_empty()
                    && name
                        .chars()
                        .all(|letter| letter == '_' || letter.is_ascii_alphanumeric());
                if !is_name {
                    return Err((WHAT, between(before, after)));
                }
                self.rest = after;
                self.out.push('(');
                return self.enter();
            }
            return self.flags(before, rest);
        }
        self.skip(1);
        self.out.push('(');
        self.enter()
    }

    fn enter(&mut self) -> Result<(), Fault<'a>> {
        if self.outer.len() >= DEEPEST {
            return Err(("expression nests too deeply", self.whole));
        }
        self.outer.push(std::mem::take(&mut self.group));
        Ok(())
    }

    /// `(?i)`, `(?i-s:…)`
    fn flags(&mut self, before: &'a str, mut rest: &'a str) -> Result<(), Fault<'a>> {
        let (mut negative, mut any) = (false, false);
        while let Some(letter) = rest.chars().next() {
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            match letter {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !negative => (negative, any) = (true, false),
                ':' | ')' if any || !negative => {
                    let text = between(before, rest);
                    self.rest = rest;
                    // Rust has no flags that are none.
                    if text != "(?)" {
                        self.out.push_str(text);
                    }
                    return if letter == ':' { self.enter() } else { Ok(()) };
                }
                _ => break,
            }
        }
        Err(("invalid or unsupported Perl syntax", between(before, rest)))
    }

    fn close(&mut self) -> Result<(), Fault<'a>> {
        let Some(outer) = self.outer.pop() else {
            return Err(("unexpected )", self.whole));
        };
        let most = std::mem::replace(&mut self.group, outer).most.max(1);
        self.skip(1);
        self.out.push(')');
        self.operand(Some(most));
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Fault<'a>> {
        match self.rest.chars().nth(1) {
            Some(letter @ ('A' | 'b' | 'B' | 'z')) => {
                self.skip(2);
                // Go's words are of ASCII.
                self.out.push_str(match letter {
                    'A' => r"\A",
                    'b' => r"(?-u:\b)",
                    'B' => r"\B",
                    _ => r"\z",
                });
                self.operand(Some(1));
                return Ok(());
            }
            Some('Q') => {
                let text = self.rest.get(2..).unwrap_or_default();
                let (quoted, after) = text.split_once(r"\E").unwrap_or((text, ""));
                self.rest = quoted;
                while !self.rest.is_empty() {
                    self.literal();
                }
                self.rest = after;
                return Ok(());
            }
            _ => {}
        }
        let (class, rest) = class_escape(self.rest)?;
        match class {
            Some(class) => write!(self.out, "[{class}]").unwrap_or_default(),
            None => {
                let (letter, rest) = character(self.rest)?;
                push(&mut self.out, letter);
                self.rest = rest;
                self.operand(Some(1));
                return Ok(());
            }
        }
        self.rest = rest;
        self.operand(Some(1));
        Ok(())
    }

    fn class(&mut self) -> Result<(), Fault<'a>> {
        let before = self.rest;
        self.skip(1);
        self.out.push('[');
        if self.rest.starts_with('^') {
            self.skip(1);
            self.out.push('^');
        }
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if let Some(named) = self.rest.strip_prefix("[:")
                && let Some((name, after)) = named.split_once(":]")
            {
                let bare = name.strip_prefix('^').unwrap_or(name);
                if !CLASSES.contains(&bare) {
                    return Err((RANGE, between(self.rest, after)));
                }
                self.out.push_str(between(self.rest, after));
                self.rest = after;
                continue;
            }
            let (class, after) = class_escape(self.rest)?;
            if let Some(class) = class {
                write!(self.out, "[{class}]").unwrap_or_default();
                self.rest = after;
                continue;
            }
            let range = self.rest;
            let low = self.class_character(before)?;
            let mut high = low;
            if self.rest.starts_with('-') && !matches!(self.rest.chars().nth(1), None | Some(']')) {
                self.skip(1);
                high = self.class_character(before)?;
                if high < low {
                    return Err((RANGE, between(range, self.rest)));
                }
            }
            push_in_class(&mut self.out, low);
            if high != low {
                self.out.push('-');
                push_in_class(&mut self.out, high);
            }
        }
        self.skip(1);
        self.out.push(']');
        Ok(())
    }

    fn class_character(&mut self, class: &'a str) -> Result<char, Fault<'a>> {
        let Some(letter) = self.rest.chars().next() else {
            return Err(("missing closing ]", class));
        };
        if letter == '\\' {
            let (letter, rest) = character(self.rest)?;
            self.rest = rest;
            return Ok(letter);
        }
        self.skip(letter.len_utf8());
        Ok(letter)
    }
}

const SIZE: &str = "invalid repeat count";
const RANGE: &str = "invalid character class range";
const ESCAPE: &str = "invalid escape sequence";

/// `{2}`, `{2,}`, `{2,3}`: the bounds, and what follows. Anything else in braces is text.
fn bounds(text: &str) -> Option<(u64, Option<u64>, &str)> {
    fn number(text: &str) -> Option<(u64, &str)> {
        let end = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, rest) = text.split_at_checked(end)?;
        let has_zeros = digits.len() > 1 && digits.starts_with('0');
        if digits.is_empty() || has_zeros {
            return None;
        }
        Some((digits.parse().unwrap_or(u64::MAX), rest))
    }
    let (least, rest) = number(text.strip_prefix('{')?)?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some((least, Some(least), after));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some((least, None, after));
    }
    let (most, rest) = number(rest)?;
    Some((least, Some(most), rest.strip_prefix('}')?))
}

/// A class that is written as an escape, as the inside of a bracketed class in Rust; and what follows it.
fn class_escape(text: &str) -> Result<(Option<String>, &str), Fault<'_>> {
    let Some(letter) = text.strip_prefix('\\').and_then(|rest| rest.chars().next()) else {
        return Ok((None, text));
    };
    let after = text.get(2..).unwrap_or_default();
    let class = match letter {
        'd' => "0-9",
        'D' => "^0-9",
        's' => r"\t\n\x0C\r ",
        'S' => r"^\t\n\x0C\r ",
        'w' => "0-9A-Za-z_",
        'W' => "^0-9A-Za-z_",
        'p' | 'P' => return unicode_class(text, letter, after),
        _ => return Ok((None, text)),
    };
    Ok((Some(class.into()), after))
}

fn unicode_class<'a>(
    text: &'a str,
    letter: char,
    rest: &'a str,
) -> Result<(Option<String>, &'a str), Fault<'a>> {
    let (name, after) = match rest.strip_prefix('{') {
        Some(inside) => inside.split_once('}').ok_or((RANGE, text))?,
        None => {
            let length = rest.chars().next().map_or(0, char::len_utf8);
            rest.split_at_checked(length).unwrap_or_default()
        }
    };
    let part = between(text, after);
    let (bare, negated) = match name.strip_prefix('^') {
        Some(bare) => (bare, letter == 'p'),
        None => (name, letter == 'P'),
    };
    let is_name = !bare.is_empty()
        && bare
            .chars()
            .all(|letter| letter == '_' || letter.is_ascii_alphanumeric());
    let class = format!(r"\{}{{{bare}}}", if negated { 'P' } else { 'p' });
    if !is_name || regex::Regex::new(&class).is_err() {
        return Err((RANGE, part));
    }
    Ok((Some(class), after))
}

/// A character that is written as an escape, and what follows it.
fn character(text: &str) -> Result<(char, &str), Fault<'_>> {
    let rest = text.strip_prefix('\\').unwrap_or(text);
    let mut letters = rest.char_indices().peekable();
    let Some((_, letter)) = letters.next() else {
        return Err(("trailing backslash at end of expression", ""));
    };
    let found = match letter {
        '0'..='7' => octal(letter, &mut letters),
        'x' => hexadecimal(&mut letters),
        'a' => Some('\x07'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(other),
        _ => None,
    };
    let end = letters.peek().map_or(rest.len(), |(at, _)| *at);
    let after = rest.get(end..).unwrap_or_default();
    found
        .map(|found| (found, after))
        .ok_or((ESCAPE, between(text, after)))
}

type Letters<'a> = Peekable<CharIndices<'a>>;

/// Up to three octal digits; one alone, unless it is zero, would be a reference to a group.
fn octal(first: char, letters: &mut Letters) -> Option<char> {
    let mut value = first.to_digit(8)?;
    let is_followed = letters.peek().is_some_and(|(_, letter)| letter.is_digit(8));
    if first != '0' && !is_followed {
        return None;
    }
    for _ in 0..2 {
        let Some(digit) = letters.peek().and_then(|(_, letter)| letter.to_digit(8)) else {
            break;
        };
        letters.next();
        value = value * 8 + digit;
    }
    char::from_u32(value)
}

/// Two digits, or any number of them in braces.
fn hexadecimal(letters: &mut Letters) -> Option<char> {
    let (_, first) = letters.next()?;
    if first != '{' {
        let high = first.to_digit(16);
        let low = letters.next().and_then(|(_, letter)| letter.to_digit(16));
        return char::from_u32(high? * 16 + low?);
    }
    let (mut value, mut digits) = (0_u32, 0);
    loop {
        let (_, letter) = letters.next()?;
        if letter == '}' {
            return (digits > 0).then(|| char::from_u32(value)).flatten();
        }
        value = value.checked_mul(16)?.checked_add(letter.to_digit(16)?)?;
        if value > u32::from(char::MAX) {
            return None;
        }
        digits += 1;
    }
}

fn push(out: &mut String, letter: char) {
    out.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
}

/// In a class, Rust has more that means something than Go.
fn push_in_class(out: &mut String, letter: char) {
    if letter.is_ascii_punctuation() {
        out.push('\\');
    }
    match letter {
        // `\<` and `\>` are borders of words.
        '<' | '>' => {
            out.pop();
            out.push(letter);
        }
        _ => out.push(letter),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_gos_words() {
        let cases = [
            ("+", "missing argument to repetition operator: `+`"),
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("(*)", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a*?+", "invalid nested repetition operator: `*?+`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("(a{100}){11}", "invalid repeat count: `{11}`"),
            ("[a", "missing closing ]: `[a`"),
            ("x[]a", "missing closing ]: `[]a`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
            ("(?<=a)b", "invalid named capture: `(?<=a)b`"),
            ("(?P<n-m>a)", "invalid named capture: `(?P<n-m>`"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            (r"a\", "trailing backslash at end of expression: ``"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"\Z", r"invalid escape sequence: `\Z`"),
            (r"\xzz", r"invalid escape sequence: `\xzz`"),
            (r"\pX", r"invalid character class range: `\pX`"),
            (r"\p{Nothing}", r"invalid character class range: `\p{Nothing}`"),
        ];
        for (expression, expected) in cases {
            let found = translate(expression);
            assert_eq!(
                found,
                Err(format!("error parsing regexp: {expected}")),
                "{expression}"
            );
        }
    }

    #[test]
    fn what_is_right_matches_as_in_go() {
        let cases = [
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", true),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-", false),
            (r"^\d+$", "12", true),
            // Digits, words and blanks are ASCII's.
            (r"^\d+$", "١٢", false),
            (r"^\w$", "é", false),
            (r"^[\w.]+$", "a.b", true),
            (r"^[^\s]$", "\u{a0}", true),
            // Signs that mean something in Rust's classes alone.
            (r"^[[&&~~-]+$", "[&~-", true),
            (r"^[a&&b]$", "&", true),
            (r"^[<>]+$", "<>", true),
            (r"^\<\>$", "<>", true),
            (r"^a{,2}$", "a{,2}", true),
            (r"^{$", "{", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^\x41\x{42}\103$", "ABC", true),
            (r"(?i)^AB$", "ab", true),
            (r"^(?:a|b){2}$", "ab", true),
            (r"^(?P<x>a)(?<y>b)$", "ab", true),
            (r"^\p{Greek}\pL$", "αb", true),
            (r"^[[:alpha:]-]+$", "a-", true),
            (r"^a$", "a\n", false),
            (r"^[]a]+$", "]a", true),
            (r"^\/\_\-$", "/_-", true),
        ];
        for (expression, text, expected) in cases {
            let compiled = compile(expression).unwrap().unwrap();
            assert_eq!(compiled.is_match(text), expected, "{expression} {text}");
        }
    }

    proptest! {
        #[test]
        fn what_go_takes_can_be_compiled(expression in r"[a-c0-3\\\[\]\(\)\{\}\*\+\?\|\^\$.,&<>:ipPdwsQE-]{0,24}") {
            if let Ok(translated) = translate(&expression) {
                let compiled = regex::Regex::new(&translated);
                let too_large = matches!(&compiled, Err(regex::Error::CompiledTooBig(_)));
                prop_assert!(compiled.is_ok() || too_large, "{expression} {translated} {compiled:?}");
            }
        }
    }
}
