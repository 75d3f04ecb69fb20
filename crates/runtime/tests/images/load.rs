//! Archives: `docker save`'s form and the OCI image layout, good ones and bad ones.

use std::io::Write;
use std::path::PathBuf;

use crate::fixture::{Image, Layer, Place, count, digest, gzip};

type File<'a> = (&'a str, &'a [u8]);

fn base() -> Layer {
    Layer::new(&[("bin/box", b"program")])
}

fn image() -> Image {
    Image::new("box", &[base(), Layer::new(&[("etc/name", b"box")])])
}

/// Writes an archive beside the store.
fn write(place: &Place, name: &str, archive: &[u8]) -> PathBuf {
    let path = place.directory.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(archive).unwrap();
    path
}

fn tar(files: &[File<'_>], links: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    for (name, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    }
    builder.into_inner().unwrap()
}

fn docker_archive(image: &Image, tags: &str) -> Vec<u8> {
    let saved =
        format!(r#"[{{"Config":"config.json","RepoTags":{tags},"Layers":["a/layer.tar","b/layer.tar"]}}]"#);
    tar(
        &[
            ("config.json", &image.config),
            ("a/layer.tar", &image.layers[0].plain),
            ("b/layer.tar", &image.layers[1].plain),
            ("manifest.json", saved.as_bytes()),
        ],
        &[],
    )
}

/// An OCI layout with these annotations, as JSON.
fn oci_files(image: &Image, annotations: &str) -> Vec<(String, Vec<u8>)> {
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":{},"annotations":{annotations}}}]}}"#,
        image.manifest_digest(),
        image.manifest.len()
    );
    let mut files = vec![
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
        ("index.json".to_owned(), index.into_bytes()),
    ];
    let manifest = (image.manifest_digest(), image.manifest.clone());
    for (digest, blob) in image.blobs().into_iter().chain([manifest]) {
        files.push((format!("blobs/{}", digest.replace(':', "/")), blob));
    }
    files
}

fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let files: Vec<File<'_>> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    tar(&files, &[])
}

#[tokio::test]
async fn a_docker_archive_is_loaded_compressed_or_not() {
    let image = image();
    let archive = docker_archive(&image, r#"["box:1", "example.com/box:latest"]"#);
    for archive in [archive.clone(), gzip(&archive)] {
        let place = Place::new();
        let store = place.open().await;
        let loaded = store.load(&write(&place, "box.tar", &archive)).await.unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].id, image.id());
        assert_eq!(
            loaded[0].repo_tags,
            ["docker.io/library/box:1", "example.com/box:latest"]
        );
        let lower = store.lower_dirs(&loaded[0]);
        assert_eq!(std::fs::read_to_string(lower[0].join("etc/name")).unwrap(), "box");
        assert!(lower[1].join("bin/box").exists());
        assert_eq!(store.get("box:1").unwrap().id, image.id());
        place.assert_nothing_is_left_over();
    }
}

#[tokio::test]
async fn a_layer_that_is_a_link_to_an_equal_one_is_followed() {
    let twice = Image::new("twice", &[base(), base()]);
    let saved = r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let archive = tar(
        &[
            ("c.json", &twice.config),
            ("a/layer.tar", &twice.layers[0].plain),
            ("manifest.json", saved.as_bytes()),
        ],
        &[("b/layer.tar", "../a/layer.tar")],
    );
    let place = Place::new();
    let loaded = place
        .open()
        .await
        .load(&write(&place, "x.tar", &archive))
        .await
        .unwrap();
    assert_eq!(loaded[0].layers.len(), 2);
    assert!(loaded[0].repo_tags.is_empty());
}

#[tokio::test]
async fn an_oci_archive_keeps_its_name_and_digest() {
    let image = image();
    let names = [
        (
            r#"{"io.containerd.image.name": "docker.io/library/box:1"}"#,
            Some("docker.io/library/box:1"),
        ),
        (
            r#"{"org.opencontainers.image.ref.name": "quay.io/a/box:2"}"#,
            Some("quay.io/a/box:2"),
        ),
        (r#"{"org.opencontainers.image.ref.name": "latest"}"#, None),
        ("{}", None),
        ("null", None),
    ];
    for (annotations, name) in names {
        let place = Place::new();
        let archive = pack(&oci_files(&image, annotations));
        let loaded = place
            .open()
            .await
            .load(&write(&place, "x.tar", &archive))
            .await
            .unwrap();
        assert_eq!(loaded[0].id, image.id());
        assert_eq!(loaded[0].repo_tags.first().map(String::as_str), name);
        let repository = name.map(|name| &name[..name.rfind(':').unwrap()]);
        let digest = repository.map(|repository| format!("{repository}@{}", image.manifest_digest()));
        assert_eq!(loaded[0].repo_digests.first(), digest.as_ref());
        assert_eq!(loaded[0].size, image.size());
    }
}

#[tokio::test]
async fn of_an_archive_in_both_forms_the_one_with_the_name_counts() {
    let image = image();
    let place = Place::new();
    let mut files = oci_files(&image, "{}");
    let blob = |bytes: &[u8]| format!("blobs/{}", digest(bytes).replace(':', "/"));
    let saved = serde_json::json!([{
        "Config": blob(&image.config),
        "RepoTags": ["box:both"],
        "Layers": image.layers.iter().map(|layer| blob(&layer.packed)).collect::<Vec<_>>(),
    }]);
    files.push(("manifest.json".into(), saved.to_string().into_bytes()));
    let loaded = place
        .open()
        .await
        .load(&write(&place, "x.tar", &pack(&files)))
        .await
        .unwrap();
    assert_eq!(loaded[0].repo_tags, ["docker.io/library/box:both"]);
}

#[tokio::test]
async fn archives_that_cannot_be_used_are_refused_and_leave_nothing() {
    let image = image();
    let mut corrupt = oci_files(&image, "{}");
    let layer = format!("blobs/{}", digest(&image.layers[1].packed).replace(':', "/"));
    corrupt.iter_mut().find(|(name, _)| *name == layer).unwrap().1[30] ^= 1;
    let other = Image::for_architecture("other", "s390x", &[]);
    let saved = |config: &str, layers: &str| format!(r#"[{{"Config":"{config}","Layers":[{layers}]}}]"#);
    let secret = tempfile::NamedTempFile::new().unwrap();
    let outside = secret.path().display().to_string();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no archive", b"root:x:0:0".repeat(100), "failed to read archive"),
        (
            "another archive",
            tar(&[("a", b"b")], &[]),
            "neither a docker-archive",
        ),
        ("no JSON", tar(&[("manifest.json", b"x")], &[]), "manifest.json: "),
        ("a corrupt layer", pack(&corrupt), "unexpected commit digest"),
        (
            "another machine's",
            pack(&oci_files(&other, "{}")),
            "no match for platform",
        ),
        (
            "no configuration",
            tar(&[("manifest.json", saved("c.json", "").as_bytes())], &[]),
            "no such file or directory",
        ),
        (
            "too few layers",
            tar(
                &[("manifest.json", saved("c", "").as_bytes()), ("c", &image.config)],
                &[],
            ),
            "mismatched image rootfs and manifest layers",
        ),
        (
            "a configuration outside",
            tar(
                &[(
                    "manifest.json",
                    saved(&format!("../../..{outside}"), "").as_bytes(),
                )],
                &[],
            ),
            "no such file or directory",
        ),
        (
            "a link to outside",
            tar(
                &[("manifest.json", saved("c", "").as_bytes())],
                &[("c", &outside)],
            ),
            "no such file or directory",
        ),
        (
            "a bad name",
            docker_archive(&image, r#"["No Name"]"#),
            "invalid reference format",
        ),
        (
            "a gzip that ends early",
            gzip(&docker_archive(&image, "[]"))[..300].to_vec(),
            "failed to read archive",
        ),
    ];
    for (case, archive, wanted) in cases {
        let place = Place::new();
        let store = place.open().await;
        let path = write(&place, "x.tar", &archive);
        let error = store.load(&path).await.expect_err(case).to_string();
        assert!(
            error.starts_with(&format!("failed to load {}: ", path.display())),
            "{case}: {error}"
        );
        assert!(error.contains(wanted), "{case}: {error}");
        assert!(store.list().is_empty(), "{case}");
        place.assert_nothing_is_left_over();
        drop(store);
        let _store = place.open().await;
        assert_eq!(count(&place.root().join("layers")), 0, "{case}");
    }
    let place = Place::new();
    let error = place
        .open()
        .await
        .load(&place.directory.path().join("none.tar"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("none.tar: no such file or directory"), "{error}");
}
