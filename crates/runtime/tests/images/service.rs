//! CRI's ImageService, as the kubelet and crictl call it.

use k8s_cri::v1::image_service_server::ImageService;
use k8s_cri::v1::{
    AuthConfig, ImageFilter, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListImagesRequest,
    PullImageRequest, RemoveImageRequest,
};
use skiff_runtime::cri::image_service::Images;
use tonic::{Code, Request};

use crate::fixture::{Image, Layer, Place};
use crate::registry::Registry;

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec {
        image: image.to_owned(),
        ..ImageSpec::default()
    })
}

#[tokio::test]
async fn an_image_is_pulled_looked_at_and_removed() {
    let registry = Registry::start_private();
    let image = Image::new("box", &[Layer::new(&[("a", b"x")])]);
    registry.push("box", "1", &image);
    let place = Place::new();
    let service = Images::new(place.open().await);
    let name = format!("{}/box:1", registry.address);
    let pull = |image: &str, password: &str| {
        Request::new(PullImageRequest {
            image: spec(image),
            auth: Some(AuthConfig {
                username: "tester".into(),
                password: password.into(),
                ..AuthConfig::default()
            }),
            sandbox_config: None,
        })
    };
    let error = service
        .pull_image(pull(&format!("{}/nope:1", registry.address), "secret"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(
        error.message().ends_with("/nope:1: not found"),
        "{}",
        error.message()
    );
    let error = service.pull_image(pull(&name, "wrong")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    let error = service.pull_image(pull("", "secret")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);

    let pulled = service
        .pull_image(pull(&name, "secret"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(pulled.image_ref, image.id());

    let status = |image: &str, verbose| {
        Request::new(ImageStatusRequest {
            image: spec(image),
            verbose,
        })
    };
    for known in [name.as_str(), &pulled.image_ref] {
        let found = service
            .image_status(status(known, false))
            .await
            .unwrap()
            .into_inner();
        let described = found.image.unwrap();
        assert_eq!(
            (described.id, described.repo_tags),
            (image.id(), vec![name.clone()])
        );
        assert_eq!(
            (described.uid.unwrap().value, described.username),
            (101, String::new())
        );
        assert_eq!(described.size, image.size());
        assert!(found.info.is_empty());
    }
    let verbose = service
        .image_status(status(&name, true))
        .await
        .unwrap()
        .into_inner();
    let info: serde_json::Value = serde_json::from_str(&verbose.info["info"]).unwrap();
    assert_eq!(info["imageSpec"]["config"]["Cmd"][1], "box");
    assert!(info["chainID"].as_str().unwrap().starts_with("sha256:"));
    let none = service
        .image_status(status("nope", false))
        .await
        .unwrap()
        .into_inner();
    assert!(none.image.is_none());

    let list = |filter: Option<&str>| {
        let filter = filter.map(|name| ImageFilter { image: spec(name) });
        Request::new(ListImagesRequest { filter })
    };
    for (filter, wanted) in [
        (None, 1),
        (Some(name.as_str()), 1),
        (Some("nope"), 0),
        (Some(""), 1),
    ] {
        let found = service.list_images(list(filter)).await.unwrap().into_inner();
        assert_eq!(found.images.len(), wanted, "{filter:?}");
    }

    let usage = service
        .image_fs_info(Request::new(ImageFsInfoRequest {}))
        .await
        .unwrap()
        .into_inner();
    let usage = &usage.image_filesystems[0];
    assert!(
        usage.timestamp > 0 && usage.used_bytes.unwrap().value > 0 && usage.inodes_used.unwrap().value == 2
    );
    assert!(std::path::Path::new(&usage.fs_id.as_ref().unwrap().mountpoint).is_dir());

    for _ in 0..2 {
        // The second time there is nothing to do, and that is well.
        service
            .remove_image(Request::new(RemoveImageRequest { image: spec(&name) }))
            .await
            .unwrap();
    }
    assert!(
        service
            .list_images(list(None))
            .await
            .unwrap()
            .into_inner()
            .images
            .is_empty()
    );
}
