//! Container output to log lines as CRI wants them: `<RFC 3339 with nanoseconds> <stream> <P|F> <text>`.
//!
//! A log that can't be written never stops a container: what doesn't fit is counted and dropped, and the next line
//! tries again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use jiff::Timestamp;

/// A longer line is broken into partial ones.
pub(crate) const MAX_LINE: usize = 16 << 10;

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    fn name(self) -> &'static [u8] {
        match self {
            Source::Stdout => b"stdout",
            Source::Stderr => b"stderr",
        }
    }
}

/// Bytes of one stream that don't make a line yet.
#[derive(Debug, Default)]
pub(crate) struct Pending(Vec<u8>);

impl Pending {
    /// Takes what was read and appends the lines that it completes to `out`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], source: Source, now: Timestamp, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.0.len();
            match bytes.iter().take(room).position(|b| *b == b'\n') {
                Some(end) => {
                    let (line, rest) = bytes.split_at(end);
                    self.0.extend_from_slice(line);
                    self.line(source, b'F', now, out);
                    bytes = rest.get(1..).unwrap_or_default();
                }
                None if bytes.len() >= room => {
                    let (part, rest) = bytes.split_at(room);
                    self.0.extend_from_slice(part);
                    // A line of exactly the limit is whole when its end comes next.
                    if rest.first() == Some(&b'\n') {
                        self.line(source, b'F', now, out);
                        bytes = rest.get(1..).unwrap_or_default();
                    } else {
                        self.line(source, b'P', now, out);
                        bytes = rest;
                    }
                }
                None => {
                    self.0.extend_from_slice(bytes);
                    return;
                }
            }
        }
    }

    /// The stream has ended: what is left is a line without an end.
    pub(crate) fn finish(&mut self, source: Source, now: Timestamp, out: &mut Vec<u8>) {
        if !self.0.is_empty() {
            self.line(source, b'F', now, out);
        }
        self.0 = Vec::new();
    }

    fn line(&mut self, source: Source, tag: u8, now: Timestamp, out: &mut Vec<u8>) {
        let _ = write!(out, "{now:.9} ");
        out.extend_from_slice(source.name());
        out.extend_from_slice(&[b' ', tag, b' ']);
        out.extend_from_slice(&self.0);
        out.push(b'\n');
        self.0.clear();
    }
}

/// A container's log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    dropped: u64,
}

impl LogFile {
    /// Opens the file, or tries again with the first line when that fails.
    pub(crate) fn open(path: PathBuf) -> Self {
        let mut log = Self {
            path,
            file: None,
            dropped: 0,
        };
        let _ = log.reopen();
        log
    }

    /// Opens the path anew, after somebody has moved the file away.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        self.file = Some(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(&self.path)?,
        );
        Ok(())
    }

    /// Appends whole lines.
    pub(crate) fn append(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if self.file.is_none() {
            let _ = self.reopen();
        }
        let Some(file) = &mut self.file else {
            self.dropped += 1;
            return;
        };
        if let Err(error) = file.write_all(lines) {
            // Said once: the complaint would otherwise be as frequent as the container's own lines.
            if self.dropped == 0 {
                eprintln!("log {}: {error}; dropping lines", self.path.display());
            }
            self.dropped += 1;
            self.file = None;
        } else if self.dropped > 0 {
            eprintln!(
                "log {}: {} writes were dropped",
                self.path.display(),
                self.dropped
            );
            self.dropped = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut pending, mut out) = (Pending::default(), Vec::new());
        let now = Timestamp::UNIX_EPOCH;
        for chunk in chunks {
            pending.push(chunk, Source::Stdout, now, &mut out);
        }
        pending.finish(Source::Stdout, now, &mut out);
        String::from_utf8(out)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn lines_are_stamped_and_tagged() {
        let stamp = "1970-01-01T00:00:00.000000000Z stdout";
        let long = "x".repeat(MAX_LINE);
        for (chunks, wanted) in [
            (
                vec!["one\ntwo\n"],
                vec![format!("{stamp} F one"), format!("{stamp} F two")],
            ),
            (vec!["o", "ne\n"], vec![format!("{stamp} F one")]),
            (vec!["\n"], vec![format!("{stamp} F ")]),
            (vec!["no end"], vec![format!("{stamp} F no end")]),
            (
                vec![&*long, "y\n"],
                vec![format!("{stamp} P {long}"), format!("{stamp} F y")],
            ),
            (vec![&*(long.clone() + "\n")], vec![format!("{stamp} F {long}")]),
        ] {
            let chunks: Vec<_> = chunks.iter().map(|c| c.as_bytes()).collect();
            assert_eq!(lines(&chunks), wanted);
        }
    }

    proptest::proptest! {
        /// However the bytes are cut, joining partial lines gives the text back.
        #[test]
        fn no_byte_is_lost(pieces in proptest::collection::vec((0..40_000_usize, 0..3_usize), 0..6)) {
            let texts: Vec<String> =
                pieces.iter().map(|(letters, ends)| "x".repeat(*letters) + &"\n".repeat(*ends)).collect();
            let chunks: Vec<_> = texts.iter().map(|t| t.as_bytes()).collect();
            let mut joined = String::new();
            for line in lines(&chunks) {
                let rest = line.splitn(3, ' ').nth(2).unwrap();
                let (tag, text) = rest.split_at(2);
                joined.push_str(text);
                if tag == "F " {
                    joined.push('\n');
                }
            }
            let mut whole = texts.concat();
            if !whole.is_empty() && !whole.ends_with('\n') {
                whole.push('\n');
            }
            proptest::prop_assert_eq!(joined, whole);
        }
    }

    #[test]
    fn an_unwritable_log_drops_lines_and_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/0.log");
        std::fs::write(folder.path().join("a"), "in the way").unwrap();
        let mut log = LogFile::open(path.clone());
        log.append(b"lost\n");
        std::fs::remove_file(folder.path().join("a")).unwrap();
        log.append(b"kept\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "kept\n");
    }
}
