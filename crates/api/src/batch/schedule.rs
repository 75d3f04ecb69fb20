//! The syntax of schedules: five fields of standard cron, or a descriptor (`robfig/cron`'s `ParseStandard`).

/// What a field of a schedule may hold.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const fn numbers(min: u32, max: u32) -> Field {
    Field { min, max, names: &[] }
}

/// Minute, hour, day of the month, month, day of the week. A name stands for its place after `min`.
const FIELDS: [Field; 5] = [
    numbers(0, 59),
    numbers(0, 23),
    numbers(1, 31),
    Field {
        min: 1,
        max: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        min: 0,
        max: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Checks a schedule.
///
/// # Errors
/// What is wrong with it, in the words of Kubernetes' own parser.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".into());
    }
    let zoned = ["TZ=", "CRON_TZ="]
        .into_iter()
        .find_map(|prefix| schedule.strip_prefix(prefix));
    let rest = match zoned {
        None => schedule,
        Some(rest) => {
            let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            if !zone.is_empty() && !is_time_zone(zone) {
                return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
            }
            rest.trim()
        }
    };
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (text, field) in fields.into_iter().zip(&FIELDS) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            check_range(range, field)?;
        }
    }
    Ok(())
}

/// Whether there is a time zone of this name.
pub(super) fn is_time_zone(name: &str) -> bool {
    name == "UTC" || jiff::tz::TimeZone::get(name).is_ok()
}

fn descriptor(text: &str) -> Result<(), String> {
    match text {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => Ok(()),
        _ => match text.strip_prefix("@every ") {
            Some(duration) => check_duration(duration)
                .map_err(|why| format!("failed to parse duration {text}: time: {why}duration {duration:?}")),
            None => Err(format!("unrecognized descriptor: {text}")),
        },
    }
}

/// Durations as Go writes them: `1h30m`, `1.5s`. What is wrong with one stands before the word `duration`.
fn check_duration(text: &str) -> Result<(), String> {
    let invalid = || "invalid ".to_string();
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let fraction = after
            .strip_prefix('.')
            .map(|fraction| fraction.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        let after_number = fraction.unwrap_or(after);
        let digits = rest.len() - after_number.len() - usize::from(fraction.is_some());
        if digits == 0 {
            return Err(invalid());
        }
        let end = after_number
            .find(|letter: char| letter == '.' || letter.is_ascii_digit())
            .unwrap_or(after_number.len());
        let (unit, after) = after_number.split_at_checked(end).unwrap_or_default();
        match unit {
            "" => return Err("missing unit in ".into()),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = after,
            unit => return Err(format!("unknown unit {unit:?} in ")),
        }
    }
    Ok(())
}

/// `*`, `3`, `1-5`, `*/10`, `1-30/2`, `MON-FRI`.
fn check_range(range: &str, field: &Field) -> Result<(), String> {
    let (ends, step) = match range.split('/').collect::<Vec<_>>().as_slice() {
        [ends] => (*ends, None),
        [ends, step] => (*ends, Some(*step)),
        _ => return Err(format!("too many slashes: {range}")),
    };
    let bounds: Vec<&str> = ends.split('-').collect();
    let (start, end) = match bounds.as_slice() {
        ["*" | "?", ..] => (field.min, field.max),
        [one] => {
            let start = number_or_name(one, field)?;
            // `3/5` means every fifth from the third on.
            (start, if step.is_some() { field.max } else { start })
        }
        [start, end] => (number_or_name(start, field)?, number_or_name(end, field)?),
        _ => return Err(format!("too many hyphens: {range}")),
    };
    let every = step.map_or(Ok(1), number)?;
    if start < field.min {
        return Err(format!(
            "beginning of range ({start}) below minimum ({}): {range}",
            field.min
        ));
    }
    if end > field.max {
        return Err(format!(
            "end of range ({end}) above maximum ({}): {range}",
            field.max
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {range}"
        ));
    }
    if every == 0 {
        return Err(format!("step of range should be a positive number: {range}"));
    }
    Ok(())
}

fn number_or_name(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match field.names.iter().position(|name| *name == lower) {
        Some(place) => Ok(field.min + u32::try_from(place).unwrap_or_default()),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => u32::try_from(number).map_err(|_| out_of_range(text)),
        Err(error) if matches!(error.kind(), std::num::IntErrorKind::PosOverflow) => Err(out_of_range(text)),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

fn out_of_range(text: &str) -> String {
    format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: value out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_those_of_cron() {
        for schedule in [
            "* * * * *",
            "*/15 0-6 1,15 JAN-mar 1-5",
            "5/10 ? * * sun",
            "0 0 31 12 6",
            "@hourly",
            "@every 1h30m",
            "@every 1.5s",
            "TZ=UTC 0 0 * * *",
        ] {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_upstream_says_it() {
        let cases = [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("* * * * * *", "expected exactly 5 fields, found 6: [* * * * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-1 * * * *",
                "beginning of range (5) beyond end of range (1): 5-1",
            ),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("@often", "unrecognized descriptor: @often"),
            (
                "@every x",
                "failed to parse duration @every x: time: invalid duration \"x\"",
            ),
            (
                "@every 10",
                "failed to parse duration @every 10: time: missing unit in duration \"10\"",
            ),
            (
                "@every 1h3q",
                "failed to parse duration @every 1h3q: time: unknown unit \"q\" in duration \"1h3q\"",
            ),
            (
                "@every +-1s",
                "failed to parse duration @every +-1s: time: invalid duration \"+-1s\"",
            ),
            (
                "@every .s",
                "failed to parse duration @every .s: time: invalid duration \".s\"",
            ),
            (
                "TZ=Nowhere * * * * *",
                "provided bad location Nowhere: unknown time zone Nowhere",
            ),
        ];
        for (schedule, expected) in cases {
            assert_eq!(check(schedule), Err(expected.into()), "{schedule}");
        }
    }
}
