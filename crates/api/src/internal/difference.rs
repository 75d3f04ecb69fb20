//! A unified difference of two texts, by the algorithm of Python's `difflib`, which upstream's library ports: the longest
//! part that both have, and then the same to the left and to the right of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

/// How many lines are shown around a change.
const AROUND: usize = 3;
/// From how many lines on those that stand everywhere are not looked for.
const LONG: usize = 200;

/// A part that both texts have: where it begins in each, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    old: usize,
    new: usize,
    length: usize,
}

/// A part of the old text, and what stands in its place in the new one.
#[derive(Clone, Debug)]
struct Step {
    is_equal: bool,
    old: Range<usize>,
    new: Range<usize>,
}

/// How `old` differs from `new`; nothing where they are equal.
pub(super) fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for group in grouped(steps(&old, &new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let (of_old, of_new) = (first.old.start..last.old.end, first.new.start..last.new.end);
        writeln!(out, "@@ -{} +{} @@", place(&of_old), place(&of_new)).unwrap_or_default();
        for step in &group {
            let mut put = |sign: char, lines: &[&str], range: &Range<usize>| {
                for line in lines.get(range.clone()).unwrap_or_default() {
                    out.push(sign);
                    out.push_str(line);
                    out.push('\n');
                }
            };
            if step.is_equal {
                put(' ', &old, &step.old);
            } else {
                put('-', &old, &step.old);
                put('+', &new, &step.new);
            }
        }
    }
    out
}

/// Where lines stand, counted from one; before which, if there are none.
fn place(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => (lines.start + 1).to_string(),
        length => format!("{},{length}", lines.start + 1),
    }
}

fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let (mut at_old, mut at_new) = (0, 0);
    let mut steps = Vec::new();
    let mut put = |is_equal: bool, old: Range<usize>, new: Range<usize>| {
        if !old.is_empty() || !new.is_empty() {
            steps.push(Step { is_equal, old, new });
        }
    };
    for found in matches(old, new) {
        put(false, at_old..found.old, at_new..found.new);
        (at_old, at_new) = (found.old + found.length, found.new + found.length);
        put(true, found.old..at_old, found.new..at_new);
    }
    put(false, at_old..old.len(), at_new..new.len());
    steps
}

/// Groups of changes, each with a few lines around.
fn grouped(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    if let Some(first) = steps.first_mut().filter(|step| step.is_equal) {
        keep_last(first);
    }
    if let Some(last) = steps.last_mut().filter(|step| step.is_equal) {
        keep_first(last);
    }
    let mut groups = Vec::new();
    let mut group: Vec<Step> = Vec::new();
    for mut step in steps {
        if step.is_equal && step.old.len() > AROUND * 2 {
            let mut end = step.clone();
            keep_first(&mut end);
            group.push(end);
            groups.push(std::mem::take(&mut group));
            keep_last(&mut step);
        }
        group.push(step);
    }
    groups.push(group);
    groups.retain(|group| group.iter().any(|step| !step.is_equal));
    groups
}

fn keep_first(step: &mut Step) {
    step.old.end = step.old.end.min(step.old.start + AROUND);
    step.new.end = step.new.end.min(step.new.start + AROUND);
}

fn keep_last(step: &mut Step) {
    step.old.start = step.old.start.max(step.old.end.saturating_sub(AROUND));
    step.new.start = step.new.start.max(step.new.end.saturating_sub(AROUND));
}

/// The parts that both texts have, in order, those that touch as one.
fn matches(old: &[&str], new: &[&str]) -> Vec<Match> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(index);
    }
    if new.len() >= LONG {
        let most = new.len() / 100 + 1;
        places.retain(|_, indexes| indexes.len() <= most);
    }
    let mut found = Vec::new();
    let mut waiting = vec![(0..old.len(), 0..new.len())];
    while let Some((in_old, in_new)) = waiting.pop() {
        let longest = longest(old, new, &places, &in_old, &in_new);
        if longest.length == 0 {
            continue;
        }
        waiting.push((in_old.start..longest.old, in_new.start..longest.new));
        waiting.push((
            longest.old + longest.length..in_old.end,
            longest.new + longest.length..in_new.end,
        ));
        found.push(longest);
    }
    found.sort_by_key(|found| found.old);
    let mut joined: Vec<Match> = Vec::new();
    for next in found {
        match joined.last_mut() {
            Some(last) if last.old + last.length == next.old && last.new + last.length == next.new => {
                last.length += next.length;
            }
            _ => joined.push(next),
        }
    }
    joined
}

/// The longest part that both have in these ranges: of several the first in the old text, and of those the first in the
/// new one.
fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    in_old: &Range<usize>,
    in_new: &Range<usize>,
) -> Match {
    let mut best = Match {
        old: in_old.start,
        new: in_new.start,
        length: 0,
    };
    // How long a part is that ends with the line before of the old text, by where it ends in the new one.
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for index in in_old.clone() {
        let mut next = HashMap::new();
        let line = old.get(index).copied().unwrap_or_default();
        for &place in places.get(line).map(Vec::as_slice).unwrap_or_default() {
            if !in_new.contains(&place) {
                continue;
            }
            let length = place
                .checked_sub(1)
                .and_then(|before| lengths.get(&before))
                .unwrap_or(&0)
                + 1;
            next.insert(place, length);
            if length > best.length {
                best = Match {
                    old: index + 1 - length,
                    new: place + 1 - length,
                    length,
                };
            }
        }
        lengths = next;
    }
    // Lines that were not looked for belong to it where they touch it.
    let same = |old_at: usize, new_at: usize| old.get(old_at) == new.get(new_at);
    while best.old > in_old.start && best.new > in_new.start && same(best.old - 1, best.new - 1) {
        (best.old, best.new, best.length) = (best.old - 1, best.new - 1, best.length + 1);
    }
    while best.old + best.length < in_old.end
        && best.new + best.length < in_new.end
        && same(best.old + best.length, best.new + best.length)
    {
        best.length += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn differences_are_those_of_difflib() {
        let cases = [
            ("a\nb\nc", "a\nx\nc", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"),
            ("a", "", "@@ -1 +1 @@\n-a\n+\n"),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12",
                "1\n2\n3\n4\nX\n6\n7\n8\n9\n10\n11\nY\n12",
                "@@ -2,11 +2,12 @@\n 2\n 3\n 4\n-5\n+X\n 6\n 7\n 8\n 9\n 10\n 11\n+Y\n 12\n",
            ),
            (
                "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12",
                "X\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\nY",
                "@@ -1,4 +1,4 @@\n-1\n+X\n 2\n 3\n 4\n@@ -9,4 +9,4 @@\n 9\n 10\n 11\n-12\n+Y\n",
            ),
            ("a\nb", "a\nb", ""),
        ];
        for (old, new, expected) in cases {
            assert_eq!(unified(old, new), expected, "{old:?} {new:?}");
        }
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_text_to_the_other(
            old in proptest::collection::vec("[a-c]", 0..40), new in proptest::collection::vec("[a-c]", 0..40),
        ) {
            let (old, new): (Vec<&str>, Vec<&str>) =
                (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
            let mut built = Vec::new();
            let mut at = 0;
            for step in steps(&old, &new) {
                prop_assert_eq!(step.old.start, at);
                at = step.old.end;
                if step.is_equal {
                    prop_assert_eq!(&old[step.old.clone()], &new[step.new.clone()]);
                }
                built.extend_from_slice(&new[step.new]);
            }
            prop_assert_eq!(at, old.len());
            prop_assert_eq!(built, new);
        }
    }
}
