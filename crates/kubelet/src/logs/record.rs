//! One line of a container's log file, in CRI's format: time, stream, tag, text.

use jiff::Timestamp;

/// A line, or a part of one that was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// As it stands in the file: RFC 3339 with nanoseconds.
    pub(crate) time: &'a str,
    /// `stdout` or `stderr`.
    pub(crate) stream: &'a str,
    /// The line goes on in the next record.
    pub(crate) partial: bool,
    /// Without the newline.
    pub(crate) text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a line with or without its newline.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = std::str::from_utf8(parts.next()?).ok()?;
        let tag = parts.next()?;
        let text = parts.next().unwrap_or_default();
        if !matches!(stream, "stdout" | "stderr") {
            return None;
        }
        // Tags are separated by colons; only the first is defined.
        let partial = tag.split(|byte| *byte == b':').next() == Some(b"P");
        Some(Self {
            time,
            stream,
            partial,
            text,
        })
    }

    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_or_in_parts() {
        let whole = Record::parse(b"2026-01-01T00:00:00.5Z stdout F a b\n").unwrap();
        assert_eq!(
            (whole.stream, whole.partial, whole.text),
            ("stdout", false, b"a b".as_slice())
        );
        assert_eq!(whole.timestamp().unwrap().subsec_millisecond(), 500);
        let part = Record::parse(b"2026-01-01T00:00:00Z stderr P:x abc").unwrap();
        assert_eq!(
            (part.stream, part.partial, part.text),
            ("stderr", true, b"abc".as_slice())
        );
        assert_eq!(
            Record::parse(b"2026-01-01T00:00:00Z stdout F ").unwrap().text,
            b""
        );
        assert_eq!(Record::parse(b"garbage"), None);
        assert_eq!(Record::parse(b"t other F x"), None);
    }
}
