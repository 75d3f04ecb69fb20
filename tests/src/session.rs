//! Sessions: files of commands as one types them, each followed by what it prints.
//!
//! ```text
//! # A remark.
//! $ kubectl create configmap a --from-literal=k=v
//! configmap/a created
//!
//! $ kubectl apply -f - <<END
//! > apiVersion: v1
//! > END
//! error: [..]
//! ? 1
//! ```
//!
//! `[..]` is anything on a line, `...` any number of lines, `? 1` the exit code when it is not 0. How much white space
//! there is does not count, nor do empty lines. `$~` waits until the command prints what is expected; `$old` and `$new`
//! are for a kubectl before and after 1.30.

use std::fmt;
use std::time::Duration;

use crate::run::Output;
use crate::wait::eventually;

/// When a command is run, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mode {
    eventually: bool,
    only: Option<Age>,
}

/// Which kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Before 1.30.
    Old,
    /// 1.30 or later.
    New,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Step {
    line: usize,
    mode: Mode,
    command: String,
    expected: Vec<String>,
    code: i32,
}

/// A command whose output is not what is written.
#[derive(Debug)]
pub struct Mismatch {
    line: usize,
    command: String,
    expected: Vec<String>,
    found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}: $ {}", self.line, self.command)?;
        writeln!(f, "--- expected\n{}", self.expected.join("\n"))?;
        writeln!(f, "--- found\n{}", self.found)
    }
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // Whether output may follow.
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        if let Some(rest) = line.strip_prefix('$') {
            let (mode, command) = rest.split_once(' ').unwrap_or((rest, ""));
            let only = match mode.trim_start_matches('~') {
                "old" => Some(Age::Old),
                "new" => Some(Age::New),
                _ => None,
            };
            steps.push(Step {
                line: index + 1,
                mode: Mode {
                    eventually: mode.starts_with('~'),
                    only,
                },
                command: command.to_string(),
                ..Step::default()
            });
            open = true;
            continue;
        }
        let Some(step) = steps.last_mut().filter(|_| open) else {
            assert!(
                line.is_empty() || line.starts_with('#'),
                "line {}: {line}",
                index + 1
            );
            continue;
        };
        if line.is_empty() {
            open = false;
        } else if let Some(more) = line.strip_prefix("> ").or((line == ">").then_some("")) {
            step.command.push('\n');
            step.command.push_str(more);
        } else if let Some(code) = line.strip_prefix("? ") {
            step.code = code.parse().expect("an exit code");
        } else {
            step.expected.push(line.to_string());
        }
    }
    steps
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is as expected.
fn line_matches(expected: &str, found: &str) -> bool {
    let (expected, found) = (squeezed(expected), squeezed(found));
    let mut parts = expected.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = found.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Whether lines are as expected.
fn lines_match(expected: &[String], found: &[&str]) -> bool {
    match expected.split_first() {
        None => found.is_empty(),
        Some((any, rest)) if any == "..." => (0..=found.len()).any(|skip| lines_match(rest, &found[skip..])),
        Some((line, rest)) => found
            .split_first()
            .is_some_and(|(first, others)| line_matches(line, first) && lines_match(rest, others)),
    }
}

/// Empty lines, and what kubectl logs of itself now and then: the server greets on a stream, as upstream's does, before
/// kubectl has noted that it opened that stream.
fn is_noise(line: &str) -> bool {
    line.trim().is_empty() || line.contains("websocket.go:") && line.contains("] Unknown stream id")
}

impl Step {
    fn check(&self, output: &Output) -> Result<(), Mismatch> {
        let text = format!("{}{}", output.stdout, output.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| !is_noise(line)).collect();
        if output.code == Some(self.code) && lines_match(&self.expected, &lines) {
            return Ok(());
        }
        let mut expected = self.expected.clone();
        let mut found: String = lines.join("\n");
        if self.code != 0 || output.code != Some(0) {
            expected.push(format!("? {}", self.code));
            found.push_str(&format!("\n? {}", output.code.unwrap_or(-1)));
        }
        Err(Mismatch {
            line: self.line,
            command: self.command.clone(),
            expected,
            found,
        })
    }
}

/// Runs a session to its end; `shell` runs a command. What was not as written comes back, all of it.
pub fn play(text: &str, age: Age, shell: impl Fn(&str) -> Output) -> Vec<Mismatch> {
    let mut wrong = Vec::new();
    for step in parse(text) {
        if step.mode.only.is_some_and(|only| only != age) {
            continue;
        }
        let run = || step.check(&shell(&step.command));
        let result = if step.mode.eventually {
            let mut last = None;
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                eventually(&step.command, Duration::from_secs(60), || {
                    run().map_err(|mismatch| {
                        last = Some(mismatch);
                        String::new()
                    })
                });
            }));
            match (found, last) {
                (Err(_), Some(mismatch)) => Err(mismatch),
                _ => Ok(()),
            }
        } else {
            run()
        };
        wrong.extend(result.err());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_empty_lines_and_one_log_of_kubectls_is_noise() {
        for (line, expected) in [
            ("", true),
            ("  ", true),
            (
                "E1121 16:35:41.7 7623 websocket.go:296] Unknown stream id 1, discarding message",
                true,
            ),
            ("E1121 16:35:41.7 7623 websocket.go:296] Broken", false),
            ("error: Unknown stream id 1", false),
        ] {
            assert_eq!(is_noise(line), expected, "{line}");
        }
    }

    #[test]
    fn commands_have_their_lines_and_codes() {
        let text = "# remark\n$ a <<END\n> x\n> END\none\n...\n? 2\n\n$~new b\n";
        let steps = parse(text);
        assert_eq!(steps.len(), 2);
        assert_eq!(
            (steps[0].command.as_str(), steps[0].code, steps[0].expected.len()),
            ("a <<END\nx\nEND", 2, 2)
        );
        let mode = Mode {
            eventually: true,
            only: Some(Age::New),
        };
        assert_eq!((steps[1].command.as_str(), steps[1].mode), ("b", mode));
    }

    #[test]
    fn output_is_compared_but_for_what_may_vary() {
        let cases = [
            ("a b", "a   b", true),
            ("a b", "a b c", false),
            ("a [..]", "a b c", true),
            ("a [..] c", "a b c", true),
            ("a [..] c [..]", "a b c d", true),
            ("a [..]x", "a b c", false),
            ("...", "a\nb", true),
            ("a\n...\nc", "a\nb\nb\nc", true),
            ("a\n...\nc", "a\nc", true),
            ("a\n...\nc", "a\nb", false),
            ("a", "a\nb", false),
        ];
        for (expected, found, matches) in cases {
            let expected: Vec<String> = expected.lines().map(Into::into).collect();
            let found: Vec<&str> = found.lines().collect();
            assert_eq!(lines_match(&expected, &found), matches, "{expected:?} {found:?}");
        }
    }
}
