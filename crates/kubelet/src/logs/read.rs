//! Reads a container's log for a client: from where it asks, only the streams it asks for, and on as it grows.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::fs::File;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader, SeekFrom};
use tokio::sync::mpsc;

use super::record::Record;

/// How much is gathered before it is handed on.
const CHUNK: usize = 32 << 10;
/// A record of CRI is at most 16 KiB and its head; whoever writes longer ones does not write CRI's format.
const MAX_RECORD: u64 = 1 << 20;
/// How much is read at a time from the end to find the last lines.
const BLOCK: u64 = 64 << 10;

/// What the client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<u64>,
    /// Only this stream.
    pub(crate) stream: Option<&'static str>,
}

/// Where to begin so that the last `count` lines of these streams follow; records of a divided line count as one.
async fn tail_start(file: &mut File, options: &Options, count: u64) -> io::Result<u64> {
    let end = file.metadata().await?.len();
    if count == 0 {
        return Ok(end);
    }
    let mut start = end;
    let mut tail: Vec<u8> = Vec::new();
    loop {
        if start == 0 {
            break;
        }
        let size = start.min(BLOCK);
        start -= size;
        file.seek(SeekFrom::Start(start)).await?;
        let mut block = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact(&mut block).await?;
        block.append(&mut tail);
        tail = block;
        if let Some(at) = find_tail(&tail, start == 0, options, count) {
            return Ok(start + at as u64);
        }
    }
    Ok(0)
}

/// The offset of the `count`-last line in a piece of a log; `None` when it begins before the piece.
fn find_tail(piece: &[u8], is_whole: bool, options: &Options, count: u64) -> Option<usize> {
    let mut offset = piece.len();
    let mut found = 0;
    let mut start_of_line = None;
    let mut lines: Vec<&[u8]> = piece.split_inclusive(|byte| *byte == b'\n').collect();
    if !is_whole && !lines.is_empty() {
        // It may lack its beginning.
        lines.remove(0);
    }
    for line in lines.into_iter().rev() {
        offset -= line.len();
        let Some(record) = Record::parse(line) else {
            continue;
        };
        if options.stream.is_some_and(|stream| stream != record.stream) {
            continue;
        }
        if !record.partial {
            if found == count {
                return start_of_line;
            }
            found += 1;
        }
        start_of_line = Some(offset);
    }
    None
}

/// What a record becomes for the client.
fn render(record: &Record, options: &Options, out: &mut Vec<u8>, in_line: &mut bool) {
    if options.timestamps && !*in_line {
        out.extend_from_slice(record.time.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(record.text);
    if !record.partial {
        out.push(b'\n');
    }
    *in_line = record.partial;
}

/// Waits for changes of one file and of the directory around it.
struct Watch {
    inotify: AsyncFd<Handle>,
}

/// It owns its descriptor and never gives it away.
struct Handle(Inotify);

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE)?;
        if let Some(dir) = path.parent() {
            // A rotated log is a new file under the old name.
            inotify.add_watch(dir, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        }
        // Its successor is unsafe, for handles that might change their descriptor; this one cannot.
        #[expect(deprecated)]
        let inotify = AsyncFd::new(Handle(inotify))?;
        Ok(Self { inotify })
    }

    async fn changed(&mut self) -> io::Result<()> {
        let mut ready = self.inotify.readable_mut().await?;
        match ready.get_inner().0.read_events() {
            Ok(_) => Ok(()),
            Err(nix::Error::EAGAIN) => {
                ready.clear_ready();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends the log in pieces until its end, or, when following, until `ended` has come and all has been sent.
///
/// # Errors
/// When the file cannot be read.
pub(crate) async fn read(
    path: PathBuf,
    options: Options,
    out: mpsc::Sender<io::Result<Bytes>>,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut file = File::open(&path).await?;
    let start = match options.tail_lines {
        Some(count) => tail_start(&mut file, &options, count).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut watch = if options.follow {
        Some(Watch::new(&path)?)
    } else {
        None
    };
    let mut left = options.limit_bytes.unwrap_or(u64::MAX);
    let mut reader = BufReader::new(file);
    let (mut line, mut chunk, mut in_line) = (Vec::new(), Vec::new(), false);
    let mut is_last_pass = !options.follow;
    let mut successor: Option<File> = None;
    tokio::pin!(ended);
    loop {
        loop {
            (&mut reader)
                .take(MAX_RECORD)
                .read_until(b'\n', &mut line)
                .await?;
            let is_whole = line.last() == Some(&b'\n');
            if !is_whole && (line.len() as u64) < MAX_RECORD {
                // The writer is in the middle of it.
                break;
            }
            if let Some(record) = Record::parse(&line)
                && options.stream.is_none_or(|stream| stream == record.stream)
                && options
                    .since
                    .is_none_or(|since| record.timestamp().is_none_or(|time| time >= since))
            {
                render(&record, &options, &mut chunk, &mut in_line);
            }
            line.clear();
            if chunk.len() >= CHUNK && !send(&out, &mut chunk, &mut left).await {
                return Ok(());
            }
        }
        if !send(&out, &mut chunk, &mut left).await {
            return Ok(());
        }
        if let Some(fresh) = successor.take() {
            reader = BufReader::new(fresh);
            line.clear();
            watch = Some(Watch::new(&path)?);
            continue;
        }
        let Some(watch) = watch.as_mut().filter(|_| !is_last_pass) else {
            return Ok(());
        };
        tokio::select! {
            changed = watch.changed() => changed?,
            () = &mut ended => is_last_pass = true,
            () = out.closed() => return Ok(()),
        }
        // The old file is read to its end first: it was written to until the new one was there.
        successor = replaced(&path, reader.get_ref()).await;
    }
}

/// The new file, when another one stands under the path.
async fn replaced(path: &Path, open: &File) -> Option<File> {
    use std::os::unix::fs::MetadataExt;
    let fresh = File::open(path).await.ok()?;
    let (now, before) = (fresh.metadata().await.ok()?, open.metadata().await.ok()?);
    (now.ino() != before.ino()).then_some(fresh)
}

/// False when the client has had enough.
async fn send(out: &mpsc::Sender<io::Result<Bytes>>, chunk: &mut Vec<u8>, left: &mut u64) -> bool {
    if chunk.is_empty() {
        return !out.is_closed();
    }
    let allowed = usize::try_from(*left).unwrap_or(usize::MAX);
    chunk.truncate(allowed);
    *left -= chunk.len() as u64;
    let bytes = Bytes::from(std::mem::take(chunk));
    out.send(Ok(bytes)).await.is_ok() && *left > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n\
        2026-01-01T00:00:02Z stderr F two\n\
        2026-01-01T00:00:03Z stdout P thr\n\
        2026-01-01T00:00:03Z stdout F ee\n\
        2026-01-01T00:00:04Z stdout F four\n";

    async fn text(log: &str, options: Options) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, log).unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        read(path, options, sender, std::future::pending()).await.unwrap();
        let mut text = Vec::new();
        while let Some(bytes) = receiver.recv().await {
            text.extend_from_slice(&bytes.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn the_client_gets_what_it_asks_for() {
        let since = Some("2026-01-01T00:00:03Z".parse().unwrap());
        let tail = |tail_lines| Options {
            tail_lines: Some(tail_lines),
            ..Options::default()
        };
        let cases = [
            (Options::default(), "one\ntwo\nthree\nfour\n"),
            (tail(0), ""),
            (tail(1), "four\n"),
            (tail(2), "three\nfour\n"),
            (tail(3), "two\nthree\nfour\n"),
            (tail(99), "one\ntwo\nthree\nfour\n"),
            (
                Options {
                    stream: Some("stdout"),
                    ..tail(3)
                },
                "one\nthree\nfour\n",
            ),
            (
                Options {
                    stream: Some("stderr"),
                    ..Options::default()
                },
                "two\n",
            ),
            (
                Options {
                    since,
                    ..Options::default()
                },
                "three\nfour\n",
            ),
            (
                Options {
                    limit_bytes: Some(5),
                    ..Options::default()
                },
                "one\nt",
            ),
            (
                Options {
                    timestamps: true,
                    ..tail(2)
                },
                "2026-01-01T00:00:03Z three\n2026-01-01T00:00:04Z four\n",
            ),
        ];
        for (options, expected) in cases {
            assert_eq!(text(LOG, options.clone()).await, expected, "{options:?}");
        }
    }

    #[tokio::test]
    async fn the_last_lines_are_found_however_long_the_log_is() {
        let mut log = String::new();
        for n in 0..20_000 {
            log.push_str(&format!("2026-01-01T00:00:01Z stdout F line {n}\n"));
        }
        let options = Options {
            tail_lines: Some(3000),
            ..Options::default()
        };
        let text = text(&log, options).await;
        assert_eq!(text.lines().count(), 3000);
        assert!(text.starts_with("line 17000\n") && text.ends_with("line 19999\n"));
    }

    #[tokio::test]
    async fn a_followed_log_goes_on_through_a_rotation_until_its_container_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:01Z stdout F one\n").unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let options = Options {
            follow: true,
            ..Options::default()
        };
        let reading = tokio::spawn(read(path.clone(), options, sender, async {
            let _ = ended.await;
        }));
        let mut next = async || {
            let bytes = tokio::time::timeout(Duration::from_secs(10), receiver.recv())
                .await
                .unwrap();
            String::from_utf8(bytes.unwrap().unwrap().to_vec()).unwrap()
        };
        assert_eq!(next().await, "one\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        write!(file, "2026-01-01T00:00:02Z stdout F tw").unwrap();
        writeln!(file, "o").unwrap();
        assert_eq!(next().await, "two\n");
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "2026-01-01T00:00:03Z stdout F three\n").unwrap();
        assert_eq!(next().await, "three\n");
        end.send(()).unwrap();
        assert!(receiver.recv().await.is_none());
        reading.await.unwrap().unwrap();
    }
}
