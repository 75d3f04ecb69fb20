//! Lists of indexes as text: `1,3-5,7`, ascending and without overlaps.

/// Reads a list of indexes below `bound`, and says how many they are.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn count(text: &str, bound: i32) -> Result<i32, String> {
    let (mut total, mut last) = (0_i32, None::<i32>);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (low, high) = interval(part, bound)?;
        if let Some(last) = last.filter(|&last| last >= low) {
            return Err(out_of_order(last, low));
        }
        total = total.saturating_add(high.saturating_sub(low).saturating_add(1));
        last = Some(high);
    }
    Ok(total)
}

/// The first index that is in both lists. What cannot be read is passed over.
pub(super) fn overlap(one: &str, other: &str, bound: i32) -> Option<i32> {
    let read = |text: &str| {
        let parts = text.split(',').filter_map(|part| interval(part, bound).ok());
        parts.collect::<Vec<_>>()
    };
    let (one, other) = (read(one), read(other));
    let (mut one, mut other) = (one.into_iter().peekable(), other.into_iter().peekable());
    while let (Some((low, high)), Some((its_low, its_high))) = (one.peek(), other.peek()) {
        if low <= its_high && its_low <= high {
            return Some(*low.max(its_low));
        }
        if low <= its_low {
            one.next();
        } else {
            other.next();
        }
    }
    None
}

fn interval(text: &str, bound: i32) -> Result<(i32, i32), String> {
    let ends: Vec<&str> = text.split('-').collect();
    let number = |text: &str| {
        let number: i32 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number < bound {
            Ok(number)
        } else {
            Err(format!("too large index: {text:?}"))
        }
    };
    match ends.as_slice() {
        [one] => number(one).map(|index| (index, index)),
        [low, high] => {
            let (low, high) = (number(low)?, number(high)?);
            if low < high {
                Ok((low, high))
            } else {
                Err(out_of_order(low, high))
            }
        }
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts \
             separated by '-'"
        )),
    }
}

fn out_of_order(before: i32, after: i32) -> String {
    format!("non-increasing order, previous: {before}, current: {after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_and_checked() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for (text, expected) in [
            ("5", "too large index: \"5\""),
            ("x", "cannot convert string to integer for index: \"x\""),
            ("2,1", "non-increasing order, previous: 2, current: 1"),
            ("3-1", "non-increasing order, previous: 3, current: 1"),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        ] {
            assert_eq!(count(text, 5), Err(expected.into()), "{text}");
        }
    }

    #[test]
    fn the_first_common_index_is_found() {
        for (one, other, expected) in [
            ("", "1", None),
            ("0,2", "1,3", None),
            ("0-2,5", "3,5", Some(5)),
            ("4", "1-6", Some(4)),
            ("x,2", "2", Some(2)),
        ] {
            assert_eq!(overlap(one, other, 10), expected, "{one} {other}");
        }
    }
}
