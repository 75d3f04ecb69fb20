//! What a text without quotes is read as: only what is read as the same text may stand without.

use jiff::civil::Date;

/// Whether a reader of YAML 1.1 takes these characters for a text.
pub(super) fn is_text(text: &str) -> bool {
    if is_word(text) {
        return false;
    }
    match text.as_bytes().first() {
        Some(b'.') => !is_float(text),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let digits = text.replace('_', "");
            !(is_time(text) || is_integer(&digits) || is_simple_float(&digits) || is_base_60(text))
        }
        _ => true,
    }
}

/// Nothing, and the words for truth, nothing and numbers that are none.
fn is_word(text: &str) -> bool {
    let cases = |word: &str| {
        let mut capital = word.to_string();
        if let Some(first) = capital.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        text == word || text == capital || text == word.to_ascii_uppercase()
    };
    let words = ["y", "yes", "true", "on", "n", "no", "false", "off", "null"];
    matches!(text, "" | "~" | ".nan" | ".NaN" | ".NAN")
        || words.into_iter().any(cases)
        || ["", "+", "-"].iter().any(|sign| {
            text.strip_prefix(sign)
                .is_some_and(|rest| matches!(rest, ".inf" | ".Inf" | ".INF"))
        })
}

/// An integer of at most 64 bits, in one of Go's bases.
fn is_integer(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']);
    let negative = text.starts_with('-');
    let digits = unsigned.unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..)),
        Some("0o") => (8, lower.get(2..)),
        Some("0b") => (2, lower.get(2..)),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, lower.get(1..)),
        _ => (10, Some(lower.as_str())),
    };
    let digits = digits.filter(|digits| !digits.starts_with(['+', '-']));
    let Some(value) = digits.and_then(|digits| u64::from_str_radix(digits, base).ok()) else {
        return false;
    };
    match (unsigned, negative) {
        (None, _) => true,
        (Some(_), true) => value <= i64::MIN.unsigned_abs(),
        (Some(_), false) => i64::try_from(value).is_ok(),
    }
}

fn is_float(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Digits with at most one point, and an exponent.
fn is_simple_float(text: &str) -> bool {
    let known = |byte: u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    text.bytes().all(known) && is_float(text)
}

/// `190:20:30`: a number to base 60 for older readers.
fn is_base_60(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut parts = whole.split(':');
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let first = parts.next().unwrap_or_default();
    let starts = first.starts_with(|first: char| first.is_ascii_digit()) && is_number(first);
    let mut rest = parts.peekable();
    let is_60th = |part: &str| {
        (1..=2).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u8>().is_ok_and(|number| number < 60)
    };
    starts && rest.peek().is_some() && rest.all(is_60th) && is_number(fraction)
}

/// A date, or a date with a time.
fn is_time(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    if digits(text) != 4 || text.as_bytes().get(4) != Some(&b'-') {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    if !is_date(date) {
        return false;
    }
    match time.as_bytes().first() {
        None => true,
        Some(b' ') => time.get(1..).and_then(clock) == Some(""),
        Some(_) => time.get(1..).and_then(clock).is_some_and(is_zone),
    }
}

/// One or two digits, and what follows them.
fn short(text: &str, below: u8) -> Option<(u8, &str)> {
    let length = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(length)?;
    let number: u8 = digits.parse().ok()?;
    (number < below).then_some((number, rest))
}

fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let number = |text: &str| short(text, 100).and_then(|(number, rest)| rest.is_empty().then_some(number));
    let (Ok(year), Some(month), Some(day)) = (year.parse(), number(month), number(day)) else {
        return false;
    };
    let (Ok(month), Ok(day)) = (i8::try_from(month), i8::try_from(day)) else {
        return false;
    };
    Date::new(year, month, day).is_ok()
}

/// `15:4:5.9`, and what follows it.
fn clock(text: &str) -> Option<&str> {
    let (_, rest) = short(text, 24)?;
    let (_, rest) = short(rest.strip_prefix(':')?, 60)?;
    let (_, rest) = short(rest.strip_prefix(':')?, 60)?;
    let fraction = rest.strip_prefix(['.', ',']);
    let digits = fraction.map_or(0, |text| text.bytes().take_while(u8::is_ascii_digit).count());
    match fraction {
        Some(fraction) if digits > 0 => fraction.get(digits..),
        _ => Some(rest),
    }
}

/// `Z`, or `+07:00`.
fn is_zone(text: &str) -> bool {
    if text == "Z" {
        return true;
    }
    let Some(offset) = text.strip_prefix(['+', '-']) else {
        return false;
    };
    let number = |text: &str, most: u8| {
        text.len() == 2 && short(text, most + 1).is_some_and(|(_, rest)| rest.is_empty())
    };
    offset
        .split_once(':')
        .is_some_and(|(hours, minutes)| number(hours, 24) && number(minutes, 59))
}
