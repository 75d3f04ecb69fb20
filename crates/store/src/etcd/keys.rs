//! Which key in etcd stands for which of ours.

use std::sync::Arc;

/// Ours begin with `root`, etcd's with `prefix` in its place.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    root: String,
    prefix: String,
}

/// Etcd's keys from `start` on and before `end`; an `end` of one zero byte is no end (etcd's `RangeRequest`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
}

/// What no key comes before, and what stands for no end: etcd has no empty key.
pub(super) const ZERO: &[u8] = b"\0";

impl Keys {
    pub(super) fn new(root: &str, prefix: &str) -> Self {
        Self {
            root: root.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    /// The key in etcd; `None` for one outside of the root.
    pub(super) fn stored(&self, key: &str) -> Option<Vec<u8>> {
        let rest = key.strip_prefix(&self.root)?;
        Some([self.prefix.as_bytes(), rest.as_bytes()].concat())
    }

    /// Our key for one in etcd; `None` for one of somebody else.
    pub(super) fn ours(&self, stored: &[u8]) -> Option<Arc<str>> {
        let rest = std::str::from_utf8(stored.strip_prefix(self.prefix.as_bytes())?).ok()?;
        Some(if self.root.is_empty() {
            rest.into()
        } else {
            [self.root.as_str(), rest].concat().into()
        })
    }

    /// What the keys below a prefix begin with in etcd; `None` when none of ours is below it.
    pub(super) fn stored_prefix(&self, prefix: &str) -> Option<Vec<u8>> {
        if self.root.starts_with(prefix) {
            return Some(self.prefix.clone().into_bytes());
        }
        self.stored(prefix)
    }

    /// The keys below a prefix that come after one; `None` when there can be none.
    pub(super) fn bounds(&self, prefix: &str, after: Option<&str>) -> Option<Bounds> {
        let ours = if self.root.starts_with(prefix) {
            &self.root
        } else {
            prefix
        };
        let stored = self.stored_prefix(prefix)?;
        let end = end_of(&stored);
        let start = match after {
            Some(after) if after.starts_with(ours) => {
                let mut next = self.stored(after)?;
                next.push(0);
                next
            }
            Some(after) if after > ours => return None,
            _ if stored.is_empty() => ZERO.to_vec(),
            _ => stored,
        };
        Some(Bounds { start, end })
    }
}

/// The first key after all that begin with `prefix`.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    ZERO.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_under_its_name() {
        for (root, prefix, ours, stored) in [
            ("/registry", "/registry", "/registry/pods/a", "/registry/pods/a"),
            (
                "/registry",
                "/kubernetes.io",
                "/registry/pods/a",
                "/kubernetes.io/pods/a",
            ),
            ("", "", "/a", "/a"),
            ("", "/test", "/ä", "/test/ä"),
        ] {
            let keys = Keys::new(root, prefix);
            assert_eq!(keys.stored(ours).unwrap(), stored.as_bytes());
            assert_eq!(&*keys.ours(stored.as_bytes()).unwrap(), ours);
        }
        let keys = Keys::new("/registry", "/other");
        assert_eq!(keys.stored("/elsewhere"), None);
        assert_eq!(keys.ours(b"/registry/a"), None);
        assert_eq!(keys.ours(b"/other/\xff"), None);
    }

    #[test]
    fn bounds_hold_what_is_below_the_prefix_and_after_the_key() {
        let registry = Keys::new("/registry", "/k8s");
        let all = Keys::new("", "");
        for (keys, prefix, after, expected) in [
            (
                &registry,
                "/registry/pods/",
                None,
                Some(("/k8s/pods/", "/k8s/pods0")),
            ),
            (&registry, "", None, Some(("/k8s", "/k8t"))),
            (&registry, "/reg", Some("/a"), Some(("/k8s", "/k8t"))),
            (
                &registry,
                "/registry/a/",
                Some("/registry/a/b"),
                Some(("/k8s/a/b\0", "/k8s/a0")),
            ),
            (
                &registry,
                "/registry/a/",
                Some("/registry/Z"),
                Some(("/k8s/a/", "/k8s/a0")),
            ),
            (&registry, "/registry/a/", Some("/registry/b"), None),
            (&registry, "/elsewhere/", None, None),
            (&all, "", None, Some(("\0", "\0"))),
            (&all, "", Some("/z"), Some(("/z\0", "\0"))),
            (&all, "/", Some(""), Some(("/", "0"))),
        ] {
            let bounds = keys.bounds(prefix, after);
            let expected = expected.map(|(start, end): (&str, &str)| Bounds {
                start: start.into(),
                end: end.into(),
            });
            assert_eq!(bounds, expected, "{prefix} after {after:?}");
        }
        assert_eq!(end_of(b"a\xff\xff"), b"b");
        assert_eq!(end_of(b"\xff"), ZERO);
    }
}
