//! Manifests and indexes: what an image is made of, and which of several images is this machine's.

use serde::Deserialize;

use super::ImageError;
use super::digest::Digest;

/// The forms of a manifest that we ask for, as a registry's `Accept` header.
pub(crate) const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// A blob that another document names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// What a machine must be to run an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// This machine, in the words of Go's `GOOS` and `GOARCH`.
    pub(crate) fn own() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    /// How well an image for `self` runs on `machine`: not at all, or the smaller the better.
    fn distance(&self, machine: &Self) -> Option<u8> {
        if self.os != machine.os || self.architecture != machine.architecture {
            return None;
        }
        match (self.architecture.as_str(), self.variant.as_deref().unwrap_or("")) {
            ("arm64", "" | "v8") | ("amd64", "" | "v1") => Some(0),
            // Higher variants need instructions that not every machine has.
            ("arm64" | "amd64", _) => None,
            (_, "") => Some(0),
            _ => Some(1),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// One image: its configuration and its layers, the bottom one first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a registry has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Image(Manifest),
    Index(Vec<Descriptor>),
}

impl Document {
    /// Decodes a manifest or an index. It is its content that tells which, since media types are optional inside.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Any {
            schema_version: u32,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<Descriptor>>,
        }
        let invalid = |reason: String| ImageError::Content(format!("invalid manifest: {reason}"));
        let any: Any = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        if any.schema_version != 2 {
            return Err(ImageError::Content(
                "media type \"application/vnd.docker.distribution.manifest.v1+prettyjws\" is no longer supported"
                    .to_owned(),
            ));
        }
        match (any.manifests, any.config) {
            // A document that is both can be told apart by nobody: two programs would see two images.
            (Some(_), Some(_)) => Err(invalid("it is an image and an index at once".to_owned())),
            (Some(manifests), None) => Ok(Self::Index(manifests)),
            (None, Some(config)) => Ok(Self::Image(Manifest {
                config,
                layers: any.layers.unwrap_or_default(),
            })),
            (None, None) => Err(invalid(
                "it names neither a configuration nor manifests".to_owned(),
            )),
        }
    }
}

/// The manifest of an index that runs on `machine`; the first of equals, as everywhere.
pub(crate) fn select<'a>(manifests: &'a [Descriptor], machine: &Platform) -> Option<&'a Descriptor> {
    let fit = |descriptor: &Descriptor| match &descriptor.platform {
        Some(platform) => platform.distance(machine),
        // No platform: it is used if nothing better is there, and its configuration has the last word.
        None => Some(u8::MAX),
    };
    manifests
        .iter()
        .filter(|d| !is_attestation(d))
        .filter_map(|d| Some((fit(d)?, d)))
        .min_by_key(|(n, _)| *n)
        .map(|(_, d)| d)
}

/// Whether a descriptor is only about another image (`unknown/unknown`, BuildKit's provenance).
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor
        .annotations
        .iter()
        .any(|all| all.contains_key("vnd.docker.reference.type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(name: &str, platform: Option<(&str, &str, Option<&str>)>) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::of(name.as_bytes()),
            size: 1,
            platform: platform.map(|(os, architecture, variant)| Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.map(Into::into),
            }),
            annotations: None,
        }
    }

    #[test]
    fn the_image_of_this_machine_is_chosen() {
        let all = [
            descriptor("windows", Some(("windows", "amd64", None))),
            descriptor("amd64-v3", Some(("linux", "amd64", Some("v3")))),
            descriptor("amd64", Some(("linux", "amd64", None))),
            descriptor("arm", Some(("linux", "arm", Some("v7")))),
            descriptor("arm64", Some(("linux", "arm64", Some("v8")))),
            descriptor("none", None),
        ];
        let machine = |architecture: &str| Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        };
        let cases = [
            ("amd64", "amd64"),
            ("arm64", "arm64"),
            ("arm", "arm"),
            ("riscv64", "none"),
        ];
        for (architecture, wanted) in cases {
            let chosen = select(&all, &machine(architecture)).unwrap();
            assert_eq!(chosen.digest, Digest::of(wanted.as_bytes()), "{architecture}");
        }
        assert_eq!(select(&all[..3], &machine("arm64")), None);
    }

    #[test]
    fn provenance_is_not_an_image() {
        let mut about = descriptor("about", Some(("linux", "amd64", None)));
        about.annotations =
            Some([("vnd.docker.reference.type".into(), "attestation-manifest".into())].into());
        let machine = Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        };
        assert_eq!(select(&[about], &machine), None);
    }

    #[test]
    fn documents_are_told_apart_by_what_they_hold() {
        let blob = |n: &str| format!(r#"{{"digest":"{}","size":1}}"#, Digest::of(n.as_bytes()));
        let image = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            blob("c"),
            blob("l")
        );
        assert!(
            matches!(Document::parse(image.as_bytes()).unwrap(), Document::Image(m) if m.layers.len() == 1)
        );
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, blob("m"));
        assert!(matches!(Document::parse(index.as_bytes()).unwrap(), Document::Index(m) if m.len() == 1));

        let both = format!(r#"{{"schemaVersion":2,"config":{},"manifests":[]}}"#, blob("c"));
        let cases = [
            (both.as_str(), "an image and an index at once"),
            (r#"{"schemaVersion":2}"#, "neither a configuration nor manifests"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "no longer supported"),
            ("<html>", "invalid manifest"),
            (
                r#"{"schemaVersion":2,"config":{"digest":"sha256:../x","size":1}}"#,
                "invalid checksum digest format",
            ),
        ];
        for (text, wanted) in cases {
            let error = Document::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
