//! A container's last words: the file it wrote them to, else the end of its log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::runtime::{Run, State};
use crate::logs::record::Record;

/// Kubernetes keeps so much of a message.
const MAX_MESSAGE: u64 = 4096;
/// And of a log in its stead.
const MAX_LOG: u64 = 2048;
const MAX_LOG_LINES: usize = 80;

/// The message of a container that has ended; empty when it left none.
pub(crate) fn message(run: &Run) -> String {
    if run.state != State::Exited {
        return String::new();
    }
    let written = run
        .termination_file
        .as_ref()
        .and_then(|path| File::open(path).ok())
        .and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MAX_MESSAGE).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        })
        .unwrap_or_default();
    if !written.is_empty() || run.exit_code == 0 || run.termination_policy != "FallbackToLogsOnError" {
        return written;
    }
    log_tail(Path::new(&run.log_path)).unwrap_or_default()
}

fn log_tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // Each line carries about 40 bytes of its own before the text.
    let window = MAX_LOG + 40 * MAX_LOG_LINES as u64;
    let start = length.saturating_sub(window);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(window).read_to_end(&mut bytes)?;
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    if start > 0 && !lines.is_empty() {
        lines.remove(0);
    }
    let mut text: Vec<u8> = Vec::new();
    let from = lines.len().saturating_sub(MAX_LOG_LINES);
    for record in lines.into_iter().skip(from).filter_map(Record::parse) {
        text.extend_from_slice(record.text);
        if !record.partial {
            text.push(b'\n');
        }
    }
    let cut = text
        .len()
        .saturating_sub(usize::try_from(MAX_LOG).unwrap_or(usize::MAX));
    Ok(String::from_utf8_lossy(text.get(cut..).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_log_speaks_only_for_a_failure_that_said_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("t"), dir.path().join("0.log"));
        fs::write(
            &log,
            "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr F two\n",
        )
        .unwrap();
        let cases = [
            ("said", 1, "File", "said"),
            ("", 1, "File", ""),
            ("", 1, "FallbackToLogsOnError", "one\ntwo\n"),
            ("", 0, "FallbackToLogsOnError", ""),
            ("said", 1, "FallbackToLogsOnError", "said"),
        ];
        for (written, exit_code, policy, expected) in cases {
            fs::write(&file, written).unwrap();
            let run = Run {
                termination_file: Some(file.to_string_lossy().into_owned()),
                termination_policy: policy.into(),
                log_path: log.to_string_lossy().into_owned(),
                exit_code,
                ..crate::pod::fixtures::run("c", State::Exited)
            };
            assert_eq!(message(&run), expected, "{written} {exit_code} {policy}");
        }
    }
}
