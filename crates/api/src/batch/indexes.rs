//! Lists of indexes as text: `1,3-5,7`, ascending and without overlaps.

/// Reads a list of indexes below `bound`, and says how many they are.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn count(text: &str, bound: i32) -> Result<i32, String> {
    let (mut total, mut last) = (0_i32, None::<i32>);
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let ends: Vec<&str> = interval.split('-').collect();
        let (first, end) = match ends.as_slice() {
            [one] => (*one, *one),
            [first, end] => (*first, *end),
            _ => {
                return Err(format!(
                    "the fragment {interval:?} violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        let number = |text: &str| {
            text.parse::<i32>()
                .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))
        };
        let (low, high) = (number(first)?, number(end)?);
        for index in [low, high] {
            if index >= bound {
                return Err(format!("too large index: {:?}", index.to_string()));
            }
        }
        if last.is_some_and(|last| low <= last) || low > high {
            let before = last.map_or(low, |last| if low <= last { last } else { low });
            let after = if last.is_some_and(|last| low <= last) {
                low
            } else {
                high
            };
            return Err(format!(
                "non-increasing order, previous: {before}, current: {after}"
            ));
        }
        total = total.saturating_add(high.saturating_sub(low).saturating_add(1));
        last = Some(high);
    }
    Ok(total)
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
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        ] {
            assert_eq!(count(text, 5), Err(expected.into()), "{text}");
        }
    }
}
