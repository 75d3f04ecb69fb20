//! Content negotiation: which encoding and which transform of an object the client gets.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::error::{ApiError, ApiResult};

/// How a response is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/json`
    #[default]
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// The type of Kubernetes' protobuf form.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The type of a watch in protobuf.
pub(crate) const PROTOBUF_STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

impl Encoding {
    /// The `Content-Type` it is sent with.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => PROTOBUF,
        }
    }
}

/// What the client wants to see of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Transform {
    /// The object as it is.
    #[default]
    Whole,
    /// `as=Table`: the columns that kubectl shows.
    Table,
    /// `as=PartialObjectMetadata` or `as=PartialObjectMetadataList`: the metadata.
    Partial,
}

/// The version of `meta.k8s.io` that tables and partial metadata are shown in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MetaVersion {
    #[default]
    V1,
    V1beta1,
}

impl MetaVersion {
    /// As objects say it.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// The outcome of a negotiation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// How it is written.
    pub(crate) encoding: Encoding,
    /// What is written.
    pub(crate) transform: Transform,
    /// Of what is not the whole, the version.
    pub(crate) meta: MetaVersion,
}

/// One range of an `Accept` header: `application/json;as=Table;v=v1;g=meta.k8s.io`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MediaRange {
    pub(crate) kind: String,
    pub(crate) subtype: String,
    pub(crate) parameters: Vec<(String, String)>,
    quality: f32,
}

impl MediaRange {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(its, _)| its == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a media type without parameters is in the range.
    pub(crate) fn matches(&self, kind: &str, subtype: &str) -> bool {
        (self.kind == "*" || self.kind == kind) && (self.subtype == "*" || self.subtype == subtype)
    }
}

/// The ranges of the `Accept` headers, the most wanted first; no header accepts everything.
pub(crate) fn ranges(headers: &HeaderMap) -> Vec<MediaRange> {
    let mut ranges: Vec<MediaRange> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(range)
        .collect();
    if ranges.is_empty() {
        ranges.extend(range("*/*"));
    }
    // Stable, so that equally wanted ones keep the client's order; wildcards come after what they stand for.
    ranges.sort_by(|a, b| {
        let wildness = |range: &MediaRange| (range.kind == "*") as u8 + (range.subtype == "*") as u8;
        b.quality
            .total_cmp(&a.quality)
            .then(wildness(a).cmp(&wildness(b)))
    });
    ranges
}

fn range(text: &str) -> Option<MediaRange> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next()?;
    let (kind, subtype) = match media {
        "*" => ("*", "*"),
        media => media.split_once('/')?,
    };
    let mut quality = 1.0;
    let mut parameters = Vec::new();
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        if name.trim() == "q" {
            quality = value.parse().unwrap_or(1.0);
        } else {
            parameters.push((name.trim().to_string(), value.to_string()));
        }
    }
    Some(MediaRange {
        kind: kind.trim().to_ascii_lowercase(),
        subtype: subtype.trim().to_ascii_lowercase(),
        parameters,
        quality,
    })
}

/// What the server can write, as a refusal lists it.
const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];

/// What a range is written in, of all that it accepts the first.
pub(crate) fn encoding_of(range: &MediaRange) -> Option<Encoding> {
    if range.matches("application", "json") {
        Some(Encoding::Json)
    } else if range.matches("application", "yaml") {
        Some(Encoding::Yaml)
    } else if range.matches("application", "vnd.kubernetes.protobuf") {
        Some(Encoding::Protobuf)
    } else {
        None
    }
}

/// Chooses for a resource. `transforms` tells whether tables and partial metadata are to be had.
///
/// # Errors
/// 406 when nothing that the client accepts can be written.
pub(crate) fn negotiate(headers: &HeaderMap, transforms: bool) -> ApiResult<Accepted> {
    let ranges = ranges(headers);
    let found = ranges.iter().find_map(|range| {
        let encoding = encoding_of(range)?;
        let meta = match range.parameter("v") {
            Some("v1beta1") => MetaVersion::V1beta1,
            _ => MetaVersion::V1,
        };
        let transform = match range.parameter("as") {
            None => Transform::Whole,
            Some(_) if !transforms => return None,
            Some(wanted) => {
                let known = matches!(range.parameter("v"), Some("v1" | "v1beta1"));
                if range.parameter("g") != Some("meta.k8s.io") || !known {
                    return None;
                }
                match wanted {
                    "Table" if encoding == Encoding::Protobuf => return None,
                    "Table" => Transform::Table,
                    "PartialObjectMetadata" | "PartialObjectMetadataList" => Transform::Partial,
                    _ => return None,
                }
            }
        };
        Some(Accepted {
            encoding,
            transform,
            meta,
        })
    });
    found.ok_or_else(|| ApiError::not_acceptable(&ACCEPTED))
}

/// Chooses for a watch: what a stream cannot be written in is as good as not known.
///
/// # Errors
/// 406 when nothing that the client accepts can be streamed.
pub(crate) fn negotiate_stream(headers: &HeaderMap) -> ApiResult<Accepted> {
    match negotiate(headers, true) {
        Ok(accepted) if accepted.encoding != Encoding::Yaml => Ok(accepted),
        _ => Err(ApiError::not_acceptable(&ACCEPTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        headers
    }

    #[test]
    fn clients_get_what_they_want_most_of_what_there_is() {
        use Encoding::{Json, Protobuf, Yaml};
        use Transform::{Partial, Table, Whole};
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let cases = [
            ("", Some((Json, Whole))),
            ("*/*", Some((Json, Whole))),
            ("application/json", Some((Json, Whole))),
            ("application/yaml", Some((Yaml, Whole))),
            ("application/*", Some((Json, Whole))),
            ("text/html, application/json", Some((Json, Whole))),
            ("application/json;q=0.5, application/yaml", Some((Yaml, Whole))),
            (kubectl, Some((Json, Table))),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Some((Protobuf, Partial)),
            ),
            (
                "application/vnd.kubernetes.protobuf;q=1,application/json;q=0.1",
                Some((Protobuf, Whole)),
            ),
            (
                "application/json,application/vnd.kubernetes.protobuf",
                Some((Json, Whole)),
            ),
            ("application/vnd.kubernetes.protobuf", Some((Protobuf, Whole))),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
                None,
            ),
            ("application/json;as=Nothing;v=v1;g=meta.k8s.io", None),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                Some((Json, Table)),
            ),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", None),
            ("application/json;as=Table;v=v1;g=other", None),
            ("text/html", None),
        ];
        for (accept, expected) in cases {
            let got = negotiate(&headers(accept), true)
                .ok()
                .map(|accepted| (accepted.encoding, accepted.transform));
            assert_eq!(got, expected, "{accept}");
        }
    }

    #[test]
    fn a_refusal_lists_what_there_is() {
        let error = negotiate(&headers("image/png"), true).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (
                406,
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )
        );
    }
}
