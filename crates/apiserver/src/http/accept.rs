//! Content negotiation: which encoding and which transform of an object the client gets.

use http::HeaderMap;
use http::header::{ACCEPT, HeaderValue};

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
    /// `as=PartialObjectMetadata`: an object's metadata.
    Partial,
    /// `as=PartialObjectMetadataList`: the metadata of the objects of a list.
    PartialList,
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
    /// Whether the range says that it is to be indented.
    pub(crate) pretty: bool,
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

    /// Whether a media type without parameters is in the range. Any type means any subtype.
    pub(crate) fn matches(&self, kind: &str, subtype: &str) -> bool {
        match (self.kind.as_str(), self.subtype.as_str()) {
            ("*", "*") => true,
            (its, "*") => its == kind,
            (its, exactly) => its == kind && exactly == subtype,
        }
    }

    /// The same, as the OpenAPI documents read it: `*/json` is a range as well.
    pub(crate) fn matches_in_parts(&self, kind: &str, subtype: &str) -> bool {
        (self.kind == "*" || self.kind == kind) && (self.subtype == "*" || self.subtype == subtype)
    }

    /// Whether it is to come before another one. Two can each want to come before the other: upstream's order is what
    /// sorting by insertion makes of that.
    fn precedes(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.kind != "*" && other.kind == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }
}

/// The ranges of the `Accept` header, the most wanted first; no header accepts everything. Of several headers the first
/// counts, and what is no range is left out.
pub(crate) fn ranges(headers: &HeaderMap) -> Vec<MediaRange> {
    let accept = headers.get(ACCEPT).map(HeaderValue::as_bytes).unwrap_or_default();
    let accept = match String::from_utf8_lossy(accept) {
        accept if accept.is_empty() => "*/*".into(),
        accept => accept,
    };
    let mut ranges: Vec<MediaRange> = Vec::new();
    for range in accept.split(',').filter_map(range) {
        let after = ranges.iter().rposition(|before| !range.precedes(before));
        ranges.insert(after.map_or(0, |after| after + 1), range);
    }
    ranges
}

fn range(text: &str) -> Option<MediaRange> {
    let spaces = |text: &str| text.trim_matches(' ').to_string();
    let mut parts = text.trim_matches(' ').split(';');
    let (kind, subtype) = match parts.next()?.split_once('/') {
        Some((kind, subtype)) if !subtype.is_empty() => (spaces(kind), subtype),
        Some((kind, _)) if spaces(kind) == "*" => (spaces(kind), "*"),
        None if spaces(text.split(';').next()?) == "*" => ("*".into(), "*"),
        _ => return None,
    };
    if subtype.contains('/') {
        // A slash at the end says nothing more.
        subtype
            .strip_suffix('/')
            .filter(|subtype| !subtype.contains('/'))?;
    }
    let mut quality = 1.0;
    let mut parameters: Vec<(String, String)> = Vec::new();
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.strip_suffix('=').unwrap_or(value);
        if value.is_empty() || value.contains('=') {
            continue;
        }
        if spaces(name) == "q" {
            quality = value.parse().unwrap_or_default();
        } else {
            parameters.retain(|(its, _)| *its != spaces(name));
            parameters.push((spaces(name), spaces(value)));
        }
    }
    Some(MediaRange {
        kind,
        subtype: spaces(subtype.strip_suffix('/').unwrap_or(subtype)),
        parameters,
        quality,
    })
}

/// What the server can write, as a refusal lists it.
pub(crate) const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];

/// What a watch can be written in, as a refusal lists it.
const STREAMED: [&str; 2] = ["application/json;stream=watch", PROTOBUF_STREAM];

/// What a route that lists or watches can write.
pub(crate) const LISTED: [&str; 5] = [ACCEPTED[0], ACCEPTED[1], ACCEPTED[2], STREAMED[0], STREAMED[1]];

/// What a route can write, as the router refuses what a client accepts: before anyone reads the parameters.
///
/// # Errors
/// 406 when the headers name none of `produced`.
pub(crate) fn produced(headers: &HeaderMap, produced: &[&str]) -> ApiResult<()> {
    let Some(accept) = headers.get(ACCEPT).map(|value| value.to_str().unwrap_or("?")) else {
        return Ok(());
    };
    let is_produced = |range: &str| {
        let media = range.split(';').next().unwrap_or_default().trim();
        media == "*/*" || produced.contains(&media)
    };
    if accept.is_empty() || accept.split(',').any(is_produced) {
        return Ok(());
    }
    Err(ApiError::unrouted(
        406,
        "NotAcceptable",
        format!(
            "406: Not Acceptable\n\nAvailable representations: {}",
            produced.join(", ")
        ),
    ))
}

/// What a range can be written in, in the order of the server's preference.
pub(crate) fn encodings_of(range: &MediaRange) -> impl Iterator<Item = Encoding> {
    [
        (Encoding::Json, "json"),
        (Encoding::Yaml, "yaml"),
        (Encoding::Protobuf, "vnd.kubernetes.protobuf"),
    ]
    .into_iter()
    .filter(|(_, subtype)| range.matches("application", subtype))
    .map(|(encoding, _)| encoding)
}

/// What a range asks for in an encoding; `None` where that is not to be had. `transforms`: as for [`negotiate`].
fn accepted(range: &MediaRange, encoding: Encoding, transforms: bool) -> Option<Accepted> {
    match range.parameter("stream") {
        None => {}
        Some("watch") if encoding != Encoding::Yaml => {}
        Some(_) => return None,
    }
    // The version that options are read in; there is one.
    if range
        .parameter("sv")
        .is_some_and(|version| !transforms || version != "v1")
    {
        return None;
    }
    let pretty = range.parameter("pretty") == Some("1");
    let [wanted, group, version] = ["as", "g", "v"].map(|name| range.parameter(name));
    if wanted.is_none() && group.is_none() && version.is_none() {
        return Some(Accepted {
            encoding,
            pretty,
            ..Accepted::default()
        });
    }
    let meta = match version {
        Some("v1") => MetaVersion::V1,
        Some("v1beta1") => MetaVersion::V1beta1,
        _ => return None,
    };
    let transform = match wanted {
        Some("Table") if encoding != Encoding::Protobuf => Transform::Table,
        Some("PartialObjectMetadata") => Transform::Partial,
        Some("PartialObjectMetadataList") => Transform::PartialList,
        _ => return None,
    };
    (transforms && group == Some("meta.k8s.io")).then_some(Accepted {
        encoding,
        transform,
        meta,
        pretty,
    })
}

/// Chooses for a resource. `transforms` tells whether tables and partial metadata are to be had.
///
/// # Errors
/// 406 when nothing that the client accepts can be written.
pub(crate) fn negotiate(headers: &HeaderMap, transforms: bool) -> ApiResult<Accepted> {
    let found = ranges(headers)
        .iter()
        .find_map(|range| encodings_of(range).find_map(|encoding| accepted(range, encoding, transforms)));
    found.ok_or_else(|| ApiError::not_acceptable(&ACCEPTED))
}

/// Chooses for a watch: what a stream cannot be written in is as good as not known.
///
/// # Errors
/// 406 when nothing that the client accepts can be streamed.
pub(crate) fn negotiate_stream(headers: &HeaderMap) -> ApiResult<Accepted> {
    let accepted = negotiate(headers, true)?;
    if accepted.encoding == Encoding::Yaml {
        return Err(ApiError::not_acceptable(&STREAMED));
    }
    Ok(accepted)
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
            // A slash, a letter in upper case, a space: ranges are read to the letter.
            ("text", None),
            ("*", Some((Json, Whole))),
            ("*/json", None),
            ("Application/JSON", None),
            ("application/yaml/x, application/json", Some((Json, Whole))),
            (" application / yaml , application/json", Some((Yaml, Whole))),
            // What is wanted less may yet come first, if it stands before what stands for everything.
            ("application/yaml;q=0.1, */*", Some((Json, Whole))),
            ("*/*, application/yaml;q=0.1", Some((Yaml, Whole))),
            (
                "application/yaml;q=none, application/json;q=0.1",
                Some((Json, Whole)),
            ),
            (
                "application/yaml;stream=watch, application/json;q=0.1",
                Some((Json, Whole)),
            ),
            ("application/json;stream=watch", Some((Json, Whole))),
            ("application/json;stream=other", None),
            ("application/json;sv=v2", None),
            ("application/json;g=meta.k8s.io", None),
            ("application/json;pretty=1", Some((Json, Whole))),
            (
                "*/*;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Some((Json, Partial)),
            ),
        ];
        for (accept, expected) in cases {
            let got = negotiate(&headers(accept), true)
                .ok()
                .map(|accepted| (accepted.encoding, accepted.transform));
            assert_eq!(got, expected, "{accept}");
        }
    }

    #[test]
    fn routes_know_types_to_the_letter() {
        for (accept, fits) in [
            ("", true),
            ("*/*", true),
            ("text/html;q=0.3, */*;q=0.1", true),
            ("application/json;as=Nothing", true),
            ("application/*", false),
            ("*", false),
            ("Application/json", false),
            ("text/html", false),
        ] {
            assert_eq!(produced(&headers(accept), &ACCEPTED).is_ok(), fits, "{accept}");
        }
        assert_eq!(
            produced(&headers("text/html"), &LISTED).unwrap_err().to_string(),
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf, application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
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
