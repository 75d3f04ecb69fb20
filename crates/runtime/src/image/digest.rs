//! Content digests: `sha256:…`, checked while bytes go by.

use std::fmt;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ImageError;

/// A SHA-256 digest in its text form, known to be well formed, so that it can be part of a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(String);

impl Digest {
    /// The digest that a text states.
    pub(crate) fn parse(text: &str) -> Result<Self, ImageError> {
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Ok(Self(text.to_owned()))
            }
            Some(_) => Err(ImageError::Content(format!(
                "invalid checksum digest format: {text:?}"
            ))),
            None => Err(ImageError::Content(format!(
                "unsupported digest algorithm: {text:?}"
            ))),
        }
    }

    /// The digest of some bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// With its algorithm: `sha256:…`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its algorithm.
    pub(crate) fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// That `bytes` are what this digest names.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Result<(), ImageError> {
        self.expect(&Self::of(bytes))
    }

    /// That something with the digest `actual` is what this digest names.
    pub(crate) fn expect(&self, actual: &Self) -> Result<(), ImageError> {
        if self == actual {
            return Ok(());
        }
        Err(ImageError::Digest {
            actual: actual.0.clone(),
            expected: self.0.clone(),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// A digest in the making.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        let mut text = String::from("sha256:");
        for byte in self.0.finalize() {
            text.push_str(&format!("{byte:02x}"));
        }
        Digest(text)
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Digests what is read through it.
pub(crate) struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> HashingReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
        }
    }

    /// Reads to the end and returns the digest of everything.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self.inner, &mut self.hasher)?;
        Ok(self.hasher.finish())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(read) = buffer.get(..count) {
            self.hasher.update(read);
        }
        Ok(count)
    }
}

/// The chain ids of layers whose uncompressed digests are `diff_ids`, the bottom one first (OCI image spec, `config.md`).
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_well_formed_digests_are_accepted() {
        assert_eq!(Digest::parse(EMPTY).unwrap(), Digest::of(b""));
        for bad in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            "md5:00",
            &EMPTY.to_uppercase(),
            &EMPTY[..70],
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mismatch_names_both_digests() {
        let error = Digest::of(b"a").verify(b"b").unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "unexpected commit digest {}, expected {}",
                Digest::of(b"b"),
                Digest::of(b"a")
            )
        );
    }

    #[test]
    fn a_reader_digests_also_what_nobody_read() {
        let mut reader = HashingReader::new(&b"hello"[..]);
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(reader.finish().unwrap(), Digest::of(b"hello"));
    }

    #[test]
    fn a_chain_id_depends_on_all_layers_below() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()));
        assert_ne!(chain_ids(&[b])[0], chain[1]);
        assert!(chain_ids(&[]).is_empty());
    }
}
