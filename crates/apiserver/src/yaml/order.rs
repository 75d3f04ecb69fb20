//! The order of keys: letters after other characters, numbers by what they count.

use std::cmp::Ordering;

/// `a2` comes before `a10`, and `_` before `a`.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let differs = a.iter().zip(&b).position(|(x, y)| x != y);
    let Some(at) = differs else {
        return a.len().cmp(&b.len());
    };
    let (Some(x), Some(y)) = (a.get(at), b.get(at)) else {
        return Ordering::Equal;
    };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // Zeros within a number count, those before it do not.
    let within = (*x == '0' || *y == '0')
        && a.get(..at)
            .unwrap_or_default()
            .iter()
            .rev()
            .take_while(|character| character.is_ascii_digit())
            .any(|digit| *digit != '0');
    let start = i64::from(within);
    let (an, a_end) = number(&a, at, start);
    let (bn, b_end) = number(&b, at, start);
    an.cmp(&bn).then(a_end.cmp(&b_end)).then(x.cmp(y))
}

/// The number that the digits from here on make, and where they end.
fn number(text: &[char], from: usize, start: i64) -> (i64, usize) {
    let digits = text.get(from..).unwrap_or_default();
    let digits = digits.iter().map_while(|character| character.to_digit(10));
    digits.fold((start, from), |(number, end), digit| {
        (number.wrapping_mul(10).wrapping_add(i64::from(digit)), end + 1)
    })
}
