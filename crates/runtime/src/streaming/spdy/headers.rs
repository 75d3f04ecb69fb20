//! SPDY/3 header blocks, which are compressed against a dictionary that both sides know (SPDY draft 3, 2.6.10.1).

use std::collections::BTreeMap;
use std::io;

use flate2::{Decompress, FlushDecompress, Status};

/// The headers of a stream, names in lower case.
pub(in super::super) type Headers = BTreeMap<String, String>;

/// The longest block that is taken, decompressed, in bytes.
const LONGEST: usize = 64 << 10;
/// The most headers that are taken.
const MOST: u32 = 256;

/// The dictionary's first part: each word behind its length.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";

/// The second part.
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS.split(' ') {
        let length = u32::try_from(word.len()).unwrap_or_default();
        dictionary.extend_from_slice(&length.to_be_bytes());
        dictionary.extend(word.bytes().map(|byte| if byte == b'_' { b' ' } else { byte }));
    }
    dictionary.extend_from_slice(REST.as_bytes());
    dictionary
}

/// A block of plain bytes in a deflate stream.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or_default();
    let mut block = vec![0];
    block.extend_from_slice(&length.to_le_bytes());
    block.extend_from_slice(&(!length).to_le_bytes());
    block.extend_from_slice(bytes);
    block
}

/// A block without headers; `first` for the connection's first. It is not compressed, which a stream may choose.
pub(super) fn none(first: bool) -> Vec<u8> {
    let mut block = if first { vec![0x78, 0x01] } else { Vec::new() };
    block.extend_from_slice(&stored(&0_u32.to_be_bytes()));
    // The empty block by which a reader knows that it has all there is.
    block.extend_from_slice(&stored(&[]));
    block
}

/// Reads the header blocks of a connection, which are one compressed stream.
pub(in super::super) struct Inflater {
    /// Without zlib's own header, which only says which dictionary is meant.
    raw: Decompress,
    begun: bool,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Inflater {
    pub(super) fn new() -> io::Result<Self> {
        let mut inflater = Self {
            raw: Decompress::new(false),
            begun: false,
        };
        // What a stream refers back to is the dictionary, just as if it had come first.
        inflater.inflate(&stored(&dictionary()))?;
        Ok(inflater)
    }

    fn inflate(&mut self, mut input: &[u8]) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let (before_in, before_out) = (self.raw.total_in(), self.raw.total_out());
            let status = self
                .raw
                .decompress(input, &mut chunk, FlushDecompress::Sync)
                .map_err(io::Error::other)?;
            let taken = usize::try_from(self.raw.total_in() - before_in).unwrap_or(usize::MAX);
            let given = usize::try_from(self.raw.total_out() - before_out).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            output.extend_from_slice(chunk.get(..given).unwrap_or_default());
            if output.len() > LONGEST {
                return Err(invalid("headers are too long"));
            }
            let full = given == chunk.len();
            if (input.is_empty() && !full) || matches!(status, Status::StreamEnd) || (taken, given) == (0, 0)
            {
                return Ok(output);
            }
        }
    }

    /// The headers of a block.
    pub(super) fn headers(&mut self, block: &[u8]) -> io::Result<Headers> {
        let mut block = block;
        if !self.begun {
            let [_, flags, rest @ ..] = block else {
                return Err(invalid("a header block is too short"));
            };
            // The checksum of the dictionary, if one is used.
            block = if flags & 0x20 != 0 {
                rest.get(4..).unwrap_or_default()
            } else {
                rest
            };
            self.begun = true;
        }
        parse(&self.inflate(block)?)
    }
}

fn parse(mut block: &[u8]) -> io::Result<Headers> {
    let short = || invalid("a header block is too short");
    let number = |block: &mut &[u8]| {
        let (head, rest) = block.split_first_chunk::<4>().ok_or_else(short)?;
        *block = rest;
        Ok::<u32, io::Error>(u32::from_be_bytes(*head))
    };
    let text = |block: &mut &[u8]| {
        let length = number(block)? as usize;
        let (text, rest) = block.split_at_checked(length).ok_or_else(short)?;
        *block = rest;
        Ok::<String, io::Error>(String::from_utf8_lossy(text).into_owned())
    };
    let (head, rest) = block.split_first_chunk::<4>().ok_or_else(short)?;
    let count = u32::from_be_bytes(*head);
    block = rest;
    if count > MOST {
        return Err(invalid("there are too many headers"));
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut block)?;
        let value = text(&mut block)?;
        headers.insert(name.to_ascii_lowercase(), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adler32(bytes: &[u8]) -> u32 {
        let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        b << 16 | a
    }

    #[test]
    fn the_dictionary_is_the_protocols() {
        assert_eq!(dictionary().len(), 1423);
        assert_eq!(adler32(&dictionary()), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_are_one_stream() {
        let mut inflater = Inflater::new().unwrap();
        let block = |name: &str, value: &str| {
            let mut block = 1_u32.to_be_bytes().to_vec();
            for text in [name, value] {
                block.extend_from_slice(&(text.len() as u32).to_be_bytes());
                block.extend_from_slice(text.as_bytes());
            }
            stored(&block)
        };
        let mut first = vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
        first.extend_from_slice(&block("Streamtype", "error"));
        let headers = inflater.headers(&first).unwrap();
        assert_eq!(headers.get("streamtype").map(String::as_str), Some("error"));
        let headers = inflater.headers(&block("port", "80")).unwrap();
        assert_eq!(headers.get("port").map(String::as_str), Some("80"));
        assert!(inflater.headers(&stored(&[0, 0, 0, 9])).is_err());
        let mut plain = Inflater::new().unwrap();
        assert_eq!(plain.headers(&none(true)).unwrap(), Headers::new());
        assert_eq!(plain.headers(&none(false)).unwrap(), Headers::new());
    }
}
