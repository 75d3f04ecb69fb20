//! Layers as builders make them, and as attackers would.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use super::attributes::timestamp;
use super::*;

/// An archive whose names are written as they are given, however bad.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn add(
        mut self,
        kind: EntryType,
        name: &str,
        link: &str,
        content: &[u8],
        change: impl Fn(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.name[..name.len()].copy_from_slice(name.as_bytes());
            gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.add(EntryType::Regular, name, "", content.as_bytes(), |_| ())
    }

    fn dir(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", b"", |_| ())
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, target, b"", |_| ())
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, name, target, b"", |_| ())
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        let mut builder = tar::Builder::new(std::mem::take(&mut self.0));
        builder.append_pax_extensions(records.iter().copied()).unwrap();
        // Without the two empty blocks that `into_inner` ends the archive with.
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        Self(bytes)
    }

    fn unpack(&self, into: &Path, below: &[PathBuf]) -> Result<Usage, ImageError> {
        unpack(&self.0[..], into, below)
    }
}

/// A root to unpack to, beside something that must not change.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret"), "untouched").unwrap();
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn outside(&self) -> String {
        self.directory.path().join("outside").display().to_string()
    }

    fn assert_outside_is_untouched(&self, case: &str) {
        let secret = self.directory.path().join("outside/secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched", "{case}");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1, "{case}: linked to");
        assert_eq!(
            fs::metadata(&secret).unwrap().permissions().mode() & 0o7777,
            0o644,
            "{case}"
        );
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1, "{case}");
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 2, "{case}");
    }
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    fs::metadata(path).is_ok()
        && rustix::fs::getxattr(path, OPAQUE_XATTR, &mut value).is_ok()
        && value == *b"y"
}

#[test]
fn files_have_all_that_the_archive_says_of_them() {
    let place = Place::new();
    let root = place.root();
    let usage = Tar::default()
        .add(EntryType::Directory, "./", "", b"", |h| h.set_mode(0o711))
        .add(EntryType::Directory, "home/", "", b"", |h| h.set_mode(0o2750))
        .add(EntryType::Regular, "home/su", "", b"hello", |h| {
            h.set_mode(0o4755);
            h.set_uid(1000);
            h.set_gid(2000);
        })
        .link("hard", "home/su")
        .symlink("home/soft", "/home/su")
        .add(EntryType::Fifo, "pipe", "", b"", |h| h.set_mode(0o666))
        .add(EntryType::Char, "null", "", b"", |h| h.set_mode(0o666))
        .add(EntryType::Block, "disk", "", b"", |_| ())
        .unpack(&root, &[])
        .unwrap();
    let file = fs::metadata(root.join("home/su")).unwrap();
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.gid(), file.len()),
        (0o4755, 1000, 2000, 5)
    );
    assert_eq!((file.mtime(), file.nlink()), (1_000_000_000, 2));
    assert_eq!(fs::metadata(root.join("hard")).unwrap().ino(), file.ino());
    assert_eq!(
        fs::read_link(root.join("home/soft")).unwrap(),
        Path::new("/home/su")
    );
    assert_eq!(
        fs::symlink_metadata(root.join("home/soft")).unwrap().mtime(),
        1_000_000_000
    );
    let home = fs::metadata(root.join("home")).unwrap();
    assert_eq!(
        (home.mode() & 0o7777, home.mtime()),
        (0o2750, 1_000_000_000),
        "set after its content"
    );
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o7777, 0o711);
    assert!(fs::metadata(root.join("pipe")).unwrap().file_type().is_fifo());
    let null = fs::metadata(root.join("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(
        (null.rdev(), null.mode() & 0o7777),
        (rustix::fs::makedev(1, 3), 0o666)
    );
    assert!(
        fs::metadata(root.join("disk"))
            .unwrap()
            .file_type()
            .is_block_device()
    );
    // The root, home, su, soft, pipe, null, disk; two directories and one block of content.
    assert_eq!(
        usage,
        Usage {
            bytes: 3 * BLOCK,
            inodes: 7
        }
    );
}

#[test]
fn extended_headers_hold_long_names_attributes_and_exact_times() {
    let place = Place::new();
    let long = "n/".repeat(120) + "file";
    let capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    Tar::default()
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"12.25"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/elsewhere"),
        ])
        .file("short", "x")
        .unpack(&place.root(), &[])
        .unwrap();
    let path = place.root().join(&long);
    let file = fs::metadata(&path).unwrap();
    assert_eq!(
        (file.mtime(), file.mtime_nsec(), file.uid()),
        (12, 250_000_000, 3_000_000)
    );
    let mut value = [0; 64];
    let count = rustix::fs::getxattr(&path, "security.capability", &mut value).unwrap();
    assert_eq!(&value[..count], capability);
    let mut names = [0; 1024];
    let count = rustix::fs::listxattr(&path, &mut names[..]).unwrap();
    assert!(
        !String::from_utf8_lossy(&names[..count]).contains("overlay"),
        "overlayfs would believe it"
    );
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let place = Place::new();
    let root = place.root();
    Tar::default()
        .dir("etc/")
        .file("etc/.wh.gone", "")
        .file("var/lib/.wh..wh..opq", "")
        .file("var/lib/new", "x")
        .file(".wh..wh.aufs", "")
        .file(".wh..wh.plnk/1.2", "x")
        .unpack(&root, &[])
        .unwrap();
    assert!(is_whiteout(&root.join("etc/gone")));
    assert!(is_opaque(&root.join("var/lib")));
    assert!(!is_opaque(&root.join("etc")));
    assert_eq!(fs::read(root.join("var/lib/new")).unwrap(), b"x");
    let names: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_directory_that_is_removed_and_made_again_hides_the_old_one_in_either_order() {
    for order in [["a/", ".wh.a"], [".wh.a", "a/"]] {
        let place = Place::new();
        let add = |tar: Tar, name: &str| {
            if name == "a/" {
                tar.dir(name)
            } else {
                tar.file(name, "")
            }
        };
        let tar = add(add(Tar::default(), order[0]), order[1]).file("a/new", "x");
        tar.unpack(&place.root(), &[]).unwrap();
        assert!(is_opaque(&place.root().join("a")), "{order:?}");
    }
    // A file that is there again simply is.
    for order in [["f", ".wh.f"], [".wh.f", "f"]] {
        let place = Place::new();
        Tar::default()
            .file(order[0], "x")
            .file(order[1], "x")
            .unpack(&place.root(), &[])
            .unwrap();
        assert_eq!(fs::read(place.root().join("f")).unwrap(), b"x", "{order:?}");
    }
}

#[test]
fn directories_that_are_not_mentioned_look_as_they_do_below() {
    let (bottom, middle, top) = (Place::new(), Place::new(), Place::new());
    Tar::default()
        .add(EntryType::Directory, "./", "", b"", |h| h.set_mode(0o700))
        .add(EntryType::Directory, "tmp/", "", b"", |h| h.set_mode(0o1777))
        .add(EntryType::Directory, "home/", "", b"", |h| h.set_uid(7))
        .unpack(&bottom.root(), &[])
        .unwrap();
    Tar::default()
        .add(EntryType::Directory, "home/", "", b"", |h| h.set_uid(8))
        .unpack(&middle.root(), &[bottom.root()])
        .unwrap();
    Tar::default()
        .file("tmp/x", "x")
        .file("home/x", "x")
        .file("new/x", "x")
        .unpack(&top.root(), &[middle.root(), bottom.root()])
        .unwrap();
    let look = |name: &str| {
        let metadata = fs::metadata(top.root().join(name)).unwrap();
        (metadata.mode() & 0o7777, metadata.uid())
    };
    assert_eq!(look("tmp"), (0o1777, 0));
    assert_eq!(
        fs::metadata(top.root().join("tmp")).unwrap().mtime(),
        1_000_000_000
    );
    assert_eq!(look("home"), (0o755, 8), "the topmost one");
    assert_eq!(look("new"), (0o755, 0));
    assert_eq!(look(""), (0o700, 0), "the root too");
}

#[test]
fn later_entries_take_the_place_of_earlier_ones() {
    let place = Place::new();
    let root = place.root();
    Tar::default()
        .file("a", "old")
        .file("a", "new")
        .symlink("b", "a")
        .file("b", "a file now")
        .file("c/deep/x", "x")
        .file("c", "a file now")
        .file("d", "a directory later")
        .dir("d/")
        .file("d/x", "x")
        .dir("d/")
        .unpack(&root, &[])
        .unwrap();
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "new");
    assert_eq!(fs::read_to_string(root.join("b")).unwrap(), "a file now");
    assert_eq!(fs::read_to_string(root.join("c")).unwrap(), "a file now");
    assert_eq!(
        fs::read_to_string(root.join("d/x")).unwrap(),
        "x",
        "a directory keeps what is in it"
    );
}

#[test]
fn links_inside_of_the_layer_are_followed_there() {
    let place = Place::new();
    let root = place.root();
    Tar::default()
        .dir("usr/bin/")
        .symlink("bin", "usr/bin")
        .symlink("absolute", "/usr")
        .file("bin/a", "x")
        .file("absolute/bin/b", "x")
        .unpack(&root, &[])
        .unwrap();
    assert!(root.join("usr/bin/a").exists());
    assert!(root.join("usr/bin/b").exists());
}

#[test]
fn nothing_reaches_outside() {
    type Attack = Box<dyn Fn(&Place) -> Tar>;
    let cases: Vec<(&str, Attack)> = vec![
        (
            "dots",
            Box::new(|_| {
                Tar::default()
                    .file("../outside/secret", "bad")
                    .file("../../../outside/new", "bad")
            }),
        ),
        (
            "an absolute name",
            Box::new(|p| Tar::default().file(&format!("{}/secret", p.outside()), "bad")),
        ),
        (
            "a file through an absolute link",
            Box::new(|p| {
                Tar::default()
                    .symlink("l", &p.outside())
                    .file("l/secret", "bad")
                    .file("l/new", "bad")
            }),
        ),
        (
            "a file through a relative link",
            Box::new(|_| {
                Tar::default()
                    .dir("d/")
                    .symlink("d/l", "../../outside")
                    .file("d/l/secret", "bad")
                    .dir("d/l/new/")
            }),
        ),
        (
            "a file in place of a link",
            Box::new(|p| {
                Tar::default()
                    .symlink("l", &format!("{}/secret", p.outside()))
                    .file("l", "bad")
            }),
        ),
        (
            "a directory in place of a link",
            Box::new(|p| {
                Tar::default()
                    .symlink("l", &p.outside())
                    .add(EntryType::Directory, "l/", "", b"", |h| h.set_mode(0o777))
                    .file("l/secret", "bad")
            }),
        ),
        (
            "a chain of links",
            Box::new(|_| {
                Tar::default()
                    .symlink("a", "..")
                    .symlink("b", "a/..")
                    .symlink("c", "b/outside")
                    .file("c/secret", "bad")
            }),
        ),
        (
            "a hard link by dots",
            Box::new(|_| Tar::default().link("h", "../outside/secret").file("h", "bad")),
        ),
        (
            "a hard link by an absolute name",
            Box::new(|p| Tar::default().link("h", &format!("{}/secret", p.outside()))),
        ),
        (
            "a hard link through a link",
            Box::new(|p| Tar::default().symlink("l", &p.outside()).link("h", "l/secret")),
        ),
        (
            "a hard link to a link, written to",
            Box::new(|p| {
                Tar::default()
                    .symlink("l", &format!("{}/secret", p.outside()))
                    .link("h", "l")
                    .add(EntryType::Regular, "h", "", b"bad", |h| h.set_mode(0o777))
            }),
        ),
        (
            "a whiteout through a link",
            Box::new(|p| {
                Tar::default()
                    .symlink("l", &p.outside())
                    .file("l/.wh.secret", "")
                    .file("l/.wh..wh..opq", "")
            }),
        ),
        (
            "a whiteout of the parent",
            Box::new(|_| Tar::default().file(".wh...", "")),
        ),
        (
            "a whiteout of nothing",
            Box::new(|_| Tar::default().file("d/.wh.", "")),
        ),
        (
            "times through a link",
            Box::new(|p| Tar::default().dir("d/").symlink("d", &p.outside())),
        ),
        (
            "a parent that is replaced by a link",
            Box::new(|p| {
                Tar::default()
                    .file("d/x", "x")
                    .file("d", "x")
                    .symlink("d", &p.outside())
                    .file("d/secret", "bad")
            }),
        ),
        (
            "a device in the way",
            Box::new(|_| {
                Tar::default()
                    .add(EntryType::Fifo, "f", "", b"", |_| ())
                    .file("f/x", "x")
            }),
        ),
        (
            "a link to itself",
            Box::new(|_| Tar::default().symlink("l", "l").file("l/x", "x")),
        ),
        (
            "a magic link",
            Box::new(|_| Tar::default().symlink("l", "/proc/self/root").file("l/x", "x")),
        ),
    ];
    for (case, tar) in cases {
        let place = Place::new();
        let times = fs::metadata(place.outside()).unwrap().mtime();
        // Refused or contained, as the archive may have it.
        let _ = tar(&place).unpack(&place.root(), &[]);
        place.assert_outside_is_untouched(case);
        assert_eq!(fs::metadata(place.outside()).unwrap().mtime(), times, "{case}");
    }
}

#[test]
fn hard_links_to_what_is_outside_are_refused() {
    let place = Place::new();
    let error = Tar::default()
        .link("h", "../outside/secret")
        .unpack(&place.root(), &[])
        .unwrap_err();
    assert!(error.to_string().contains("no such file or directory"), "{error}");
}

#[test]
fn empty_fields_are_zero() {
    let place = Place::new();
    let blank = |header: &mut tar::Header| {
        let old = header.as_old_mut();
        (old.uid, old.gid, old.mtime) = ([0; 8], *b"       \0", [0; 12]);
    };
    Tar::default()
        .add(EntryType::Regular, "a", "", b"", blank)
        .unpack(&place.root(), &[])
        .unwrap();
    let file = fs::metadata(place.root().join("a")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mtime()), (0, 0, 0));
}

#[test]
fn what_is_no_archive_is_an_error() {
    let place = Place::new();
    let cut = Tar::default().file("a", &"x".repeat(2000));
    for bytes in [&b"not an archive at all"[..], &[b'x'; 1024], &cut.0[..1024]] {
        let error = unpack(bytes, &place.root(), &[]).unwrap_err().to_string();
        assert!(error.starts_with("failed to read archive: "), "{error}");
    }
    let owner = Tar::default().add(EntryType::Regular, "a", "", b"", |h| {
        h.set_uid(u64::from(u32::MAX))
    });
    assert!(
        owner
            .unpack(&place.root(), &[])
            .unwrap_err()
            .to_string()
            .contains("owner out of range")
    );
    let strange = Tar::default().add(EntryType::new(b'Z'), "a", "", b"", |_| ());
    assert!(
        strange
            .unpack(&place.root(), &[])
            .unwrap_err()
            .to_string()
            .contains("unhandled tar header type")
    );
    assert!(
        unpack(&[][..], &place.root(), &[]).is_ok(),
        "an empty layer is one"
    );
}

#[test]
fn times_before_1970_and_fractions_are_understood() {
    let cases = [
        ("12", (12, 0)),
        ("12.5", (12, 500_000_000)),
        ("12.1234567899", (12, 123_456_789)),
        ("-1.25", (-2, 750_000_000)),
        ("-0.5", (-1, 500_000_000)),
        ("-3", (-3, 0)),
    ];
    for (text, (seconds, nanoseconds)) in cases {
        let time = timestamp(text.as_bytes()).unwrap();
        assert_eq!((time.tv_sec, time.tv_nsec), (seconds, nanoseconds), "{text}");
    }
    for text in ["", "x", "1.x", "9223372036854775808"] {
        assert!(timestamp(text.as_bytes()).is_none(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_sequence_of_entries_stays_inside(
        entries in proptest::collection::vec(
            (0..7_u8, "[ab./]{1,8}|\\.wh\\.[ab.]{0,3}", "[ab./]{1,8}|/outside|\\.\\./outside"),
            1..12,
        )
    ) {
        let place = Place::new();
        let mut tar = Tar::default();
        for (kind, name, link) in &entries {
            tar = match kind {
                0 | 1 => tar.file(name, "x"),
                2 => tar.dir(name),
                3 | 4 => tar.symlink(name, link),
                5 => tar.link(name, link),
                _ => tar.add(EntryType::Fifo, name, "", b"", |_| ()),
            };
        }
        let _ = tar.unpack(&place.root(), &[]);
        place.assert_outside_is_untouched("random");
    }
}
