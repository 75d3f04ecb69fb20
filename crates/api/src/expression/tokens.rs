//! The words of an expression.

use super::Fault;

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sign or a keyword, which is its own name.
    Sign,
    /// A name.
    Name,
    /// A name between backticks.
    Quoted,
    /// A number with a fraction or an exponent.
    Float,
    /// A whole number.
    Int,
    /// A whole number that is not negative: `1u`.
    Uint,
    /// A text.
    Text,
    /// Bytes: `b'…'`.
    Bytes,
    /// The end.
    End,
}

/// A word.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// Where it begins, in characters.
    pub(super) at: usize,
}

const LONG_SIGNS: [&str; 6] = ["==", "!=", "<=", ">=", "&&", "||"];
const SIGNS: &str = "<>[]{}().,-!?:+*/%";
const KEYWORDS: [&str; 4] = ["true", "false", "null", "in"];
/// The most faults that are reported.
const MAX_FAULTS: usize = 30;

/// Reads the words of a text, and what in it is none; the end is the last word.
pub(super) fn read(text: &str) -> (Vec<Token>, Vec<Fault>) {
    let letters: Vec<char> = text.chars().collect();
    let (mut tokens, mut faults) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(&letter) = letters.get(at) {
        let rest = letters.get(at..).unwrap_or_default();
        if matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0c') {
            at += 1;
        } else if rest.starts_with(&['/', '/']) {
            at += rest.iter().take_while(|letter| **letter != '\n').count();
        } else {
            let (length, kind) = word(rest);
            let length = length.max(1);
            let text: String = rest.iter().take(length).collect();
            match kind {
                Some(kind) => tokens.push(Token { kind, text, at }),
                None if faults.len() < MAX_FAULTS => faults.push(Fault {
                    at,
                    what: format!("Syntax error: token recognition error at: '{}'", escaped(&text)),
                }),
                None => {}
            }
            at += length;
        }
    }
    tokens.push(Token {
        kind: Kind::End,
        text: "<EOF>".into(),
        at: letters.len(),
    });
    (tokens, faults)
}

fn escaped(text: &str) -> String {
    text.replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\t', "\\t")
}

/// How long the first word is, and what it is; `None` where it is none.
fn word(rest: &[char]) -> (usize, Option<Kind>) {
    let is = |index: usize, letter: char| rest.get(index) == Some(&letter);
    for sign in LONG_SIGNS {
        if sign.chars().enumerate().all(|(index, letter)| is(index, letter)) {
            return (2, Some(Kind::Sign));
        }
    }
    let digit = |index: usize| rest.get(index).is_some_and(char::is_ascii_digit);
    match rest.first().copied().unwrap_or_default() {
        '=' | '&' | '|' => (2.min(rest.len()), None),
        '.' if digit(1) => number(rest),
        letter if SIGNS.contains(letter) => (1, Some(Kind::Sign)),
        '0'..='9' => number(rest),
        '"' | '\'' => quoted(rest, false, 0, Kind::Text),
        '`' => backticks(rest),
        'r' | 'R' if is(1, '"') || is(1, '\'') => quoted(rest, true, 1, Kind::Text),
        'b' | 'B' if is(1, '"') || is(1, '\'') => quoted(rest, false, 1, Kind::Bytes),
        'b' | 'B' if (is(1, 'r') || is(1, 'R')) && (is(2, '"') || is(2, '\'')) => {
            quoted(rest, true, 2, Kind::Bytes)
        }
        'a'..='z' | 'A'..='Z' | '_' => {
            let inner = |letter: &&char| letter.is_ascii_alphanumeric() || **letter == '_';
            let length = rest.iter().take_while(inner).count();
            let text: String = rest.iter().take(length).collect();
            let keyword = KEYWORDS.contains(&text.as_str());
            (length, Some(if keyword { Kind::Sign } else { Kind::Name }))
        }
        _ => (1, None),
    }
}

fn number(rest: &[char]) -> (usize, Option<Kind>) {
    let digits = |from: usize| {
        let rest = rest.get(from..).unwrap_or_default();
        rest.iter().take_while(|letter| letter.is_ascii_digit()).count()
    };
    let is = |index: usize, letters: &str| rest.get(index).is_some_and(|letter| letters.contains(*letter));
    if is(0, "0") && is(1, "x") {
        let hex = rest
            .iter()
            .skip(2)
            .take_while(|letter| letter.is_ascii_hexdigit())
            .count();
        if hex > 0 {
            let end = 2 + hex;
            return if is(end, "uU") {
                (end + 1, Some(Kind::Uint))
            } else {
                (end, Some(Kind::Int))
            };
        }
    }
    let mut end = digits(0);
    let mut kind = Kind::Int;
    if is(end, ".") && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
        kind = Kind::Float;
    }
    if is(end, "eE") {
        let sign = usize::from(is(end + 1, "+-"));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
            kind = Kind::Float;
        }
    }
    if kind == Kind::Int && is(end, "uU") {
        return (end + 1, Some(Kind::Uint));
    }
    (end, Some(kind))
}

/// A text in quotes that begins after `prefix` letters; in a raw one a backslash means nothing.
fn quoted(rest: &[char], raw: bool, prefix: usize, kind: Kind) -> (usize, Option<Kind>) {
    let quote = rest.get(prefix).copied().unwrap_or_default();
    let three = [quote; 3];
    let long = rest.get(prefix..).is_some_and(|rest| rest.starts_with(&three));
    let mut at = prefix + if long { 3 } else { 1 };
    while let Some(&letter) = rest.get(at) {
        let ends = if long {
            rest.get(at..).is_some_and(|rest| rest.starts_with(&three))
        } else {
            letter == quote
        };
        if ends {
            return (at + if long { 3 } else { 1 }, Some(kind));
        }
        if !long && matches!(letter, '\n' | '\r') {
            return (at + 1, None);
        }
        if letter == '\\' && !raw {
            match escape(rest.get(at + 1..).unwrap_or_default()) {
                Some(length) => at += 1 + length,
                None => return ((at + 2).min(rest.len()), None),
            }
        } else {
            at += 1;
        }
    }
    (rest.len(), None)
}

/// How long an escape is, behind its backslash.
fn escape(rest: &[char]) -> Option<usize> {
    let hex = |count: usize| {
        let digits = rest.get(1..=count)?;
        digits.iter().all(char::is_ascii_hexdigit).then_some(1 + count)
    };
    match rest.first()? {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' => Some(1),
        'x' | 'X' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        '0'..='3' => {
            let digits = rest.get(1..=2)?;
            digits
                .iter()
                .all(|digit| ('0'..='7').contains(digit))
                .then_some(3)
        }
        _ => None,
    }
}

fn backticks(rest: &[char]) -> (usize, Option<Kind>) {
    let inner = |letter: &&char| letter.is_ascii_alphanumeric() || "_.-/ ".contains(**letter);
    let length = rest.iter().skip(1).take_while(inner).count();
    if length > 0 && rest.get(length + 1) == Some(&'`') {
        (length + 2, Some(Kind::Quoted))
    } else {
        ((length + 2).min(rest.len()), None)
    }
}
