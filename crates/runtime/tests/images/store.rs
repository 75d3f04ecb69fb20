//! What is kept, what is removed, and what survives.

use std::fs;
use std::path::Path;

use skiff_runtime::image::{ImageConfig, ImageError, ImageStore, Usage};

use crate::fake::{Content, Fake};
use crate::fixture::{Image, Layer, Place, count};

struct Two {
    fake: Fake,
    place: Place,
    store: ImageStore,
}

impl Two {
    /// Two images on one common layer, pulled.
    async fn pulled() -> Self {
        let base = Layer::new(&[("base", b"x")]);
        let image = |name: &str| Image::new(name, &[base.clone(), Layer::new(&[(name, b"x")])]);
        let content = Content::default()
            .image("box", "a", &image("a"))
            .image("box", "b", &image("b"));
        let fake = Fake::serve(content);
        let place = Place::new();
        let store = place.open().await;
        let two = Self { fake, place, store };
        two.store.pull(&two.name("a"), None).await.unwrap();
        two.store.pull(&two.name("b"), None).await.unwrap();
        two
    }

    fn name(&self, tag: &str) -> String {
        format!("{}/box:{tag}", self.fake.address)
    }
}

#[tokio::test]
async fn a_removed_image_takes_only_its_own_layers_along() {
    let two = Two::pulled().await;
    assert_eq!((two.store.list().len(), two.place.layers()), (2, 3));
    let before = two.store.usage();
    two.store.remove(&two.name("a")).await.unwrap();
    assert_eq!((two.store.list().len(), two.place.layers()), (1, 2));
    assert!(two.store.usage().bytes < before.bytes);
    assert!(two.store.get(&two.name("a")).is_none());
    let error = two.store.remove(&two.name("a")).await.unwrap_err();
    assert!(matches!(error, ImageError::NotFound(_)), "{error}");
    let id = two.store.get(&two.name("b")).unwrap().id.clone();
    two.store.remove(&id).await.unwrap();
    assert_eq!((two.place.layers(), two.store.usage()), (0, Usage::default()));
    assert_eq!(count(&two.place.root().join("blobs/sha256")), 0);
    two.place.assert_nothing_is_left_over();
    // It can be had again.
    assert_eq!(two.store.pull(&two.name("b"), None).await.unwrap().id, id);
}

#[tokio::test]
async fn layers_stay_for_their_holder_over_removal_and_restart() {
    let Two {
        fake: _fake,
        place,
        store,
    } = Two::pulled().await;
    let image = store.list()[0].clone();
    let lower = store.hold("container-1", &image).await.unwrap();
    assert_eq!(lower, store.lower_dirs(&image));
    for image in store.list() {
        store.remove(&image.id).await.unwrap();
    }
    assert_eq!(place.layers(), 2, "those of the held image");
    assert!(lower.iter().all(|path| path.is_dir()));
    let error = store.hold("container-2", &image).await.unwrap_err();
    assert!(matches!(error, ImageError::NotFound(_)), "{error}");

    drop(store);
    let store = place.open().await;
    assert_eq!(store.holders(), ["container-1"]);
    assert!(lower.iter().all(|path| path.is_dir()));
    assert!(store.usage().inodes > 0);
    store.release("container-1").await.unwrap();
    store.release("container-1").await.unwrap();
    assert_eq!((place.layers(), store.usage()), (0, Usage::default()));
    assert!(store.holders().is_empty());
}

#[tokio::test]
async fn held_layers_that_are_gone_all_the_same_can_be_pulled_again() {
    let Two { fake, place, store } = Two::pulled().await;
    for image in store.list() {
        store.hold("container-1", &image).await.unwrap();
        store.remove(&image.id).await.unwrap();
    }
    drop(store);
    fs::remove_dir_all(place.root().join("layers")).unwrap();
    let store = place.open().await;
    assert_eq!(store.usage(), Usage::default());
    for tag in ["a", "b"] {
        let pulled = store
            .pull(&format!("{}/box:{tag}", fake.address), None)
            .await
            .unwrap();
        assert!(store.lower_dirs(&pulled)[0].join(tag).exists());
        store.remove(&pulled.id).await.unwrap();
    }
    store.release("container-1").await.unwrap();
    assert_eq!(place.layers(), 0);
}

#[tokio::test]
async fn a_holder_is_a_name_and_no_path() {
    let two = Two::pulled().await;
    let image = two.store.list()[0].clone();
    for name in ["", ".", "..", "../x", "a/b", ".hidden", "a b"] {
        assert!(two.store.hold(name, &image).await.is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn what_an_earlier_process_left_unfinished_is_removed() {
    let two = Two::pulled().await;
    let Two { place, store, .. } = &two;
    let root = place.root();
    let names: Vec<String> = store.list().iter().map(|image| image.id.clone()).collect();
    let usage = store.usage();
    let layers = place.layers();
    let Two {
        store,
        place,
        fake: _fake,
    } = two;
    drop(store);
    fs::create_dir_all(root.join("ingest/unpacking/etc")).unwrap();
    fs::write(root.join("ingest/unpacking/etc/x"), "half").unwrap();
    fs::write(root.join("ingest/download"), "half").unwrap();
    fs::create_dir_all(root.join("layers/0123456789abcdef01234567/bin")).unwrap();
    fs::write(root.join("blobs/sha256/unknown"), "x").unwrap();
    let store = place.open().await;
    assert_eq!(
        store
            .list()
            .iter()
            .map(|image| image.id.clone())
            .collect::<Vec<_>>(),
        names
    );
    assert_eq!((store.usage(), place.layers()), (usage, layers));
    assert_eq!(
        count(&root.join("blobs/sha256")),
        4,
        "two manifests, two configurations"
    );
    place.assert_nothing_is_left_over();
}

#[tokio::test]
async fn an_image_that_is_not_whole_is_forgotten_and_can_be_pulled_again() {
    let damages: [fn(&Path); 3] = [
        |root| {
            for layer in fs::read_dir(root.join("layers")).unwrap() {
                fs::remove_dir_all(layer.unwrap().path()).unwrap();
            }
        },
        |root| {
            for blob in fs::read_dir(root.join("blobs/sha256")).unwrap() {
                fs::write(blob.unwrap().path(), "torn").unwrap();
            }
        },
        |root| fs::write(root.join("images.json"), "{\"images\":[{\"id\"").unwrap(),
    ];
    for damage in damages {
        let Two { fake, place, store } = Two::pulled().await;
        drop(store);
        damage(&place.root());
        let store = place.open().await;
        assert!(store.list().is_empty());
        assert_eq!((place.layers(), store.usage()), (0, Usage::default()));
        let pulled = store
            .pull(&format!("{}/box:a", fake.address), None)
            .await
            .unwrap();
        assert!(store.lower_dirs(&pulled)[0].join("a").exists());
    }
}

#[tokio::test]
async fn a_store_belongs_to_one_process_at_a_time() {
    let place = Place::new();
    let store = place.open().await;
    let error = ImageStore::open(place.config()).await.unwrap_err().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    drop(store);
    place.open().await;
}

#[tokio::test]
async fn a_mistake_in_the_registry_configuration_is_told_at_once() {
    let place = Place::with("mirrors: [");
    let error = ImageStore::open(place.config()).await.unwrap_err().to_string();
    assert!(
        error.contains("invalid registry configuration") && error.contains("registries.yaml"),
        "{error}"
    );
}

/// A file system of its own size.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(kilobytes: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={kilobytes}k");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
        .unwrap();
        Self(directory)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_freed() {
    // Too large to unpack, and too large to fetch.
    let zeros = vec![0; 900 << 10];
    let to_unpack = Image::new(
        "unpack",
        &[Layer::new(&[("small", b"x")]), Layer::new(&[("zeros", &zeros)])],
    );
    let to_fetch = Image::new("fetch", &[Layer::large("large", 900 << 10)]);
    let small = Image::new("small", &[Layer::large("fits", 100 << 10)]);
    let fake = Fake::serve(
        Content::default()
            .image("box", "unpack", &to_unpack)
            .image("box", "fetch", &to_fetch)
            .image("box", "small", &small),
    );
    let disk = Tmpfs::mount(500);
    let place = Place::new();
    let config = ImageConfig {
        root: disk.0.path().join("images"),
        registries: place.registries(),
    };
    let store = ImageStore::open(config).await.unwrap();
    for tag in ["unpack", "fetch"] {
        let error = store
            .pull(&format!("{}/box:{tag}", fake.address), None)
            .await
            .unwrap_err();
        assert!(error.to_string().ends_with("no space left on device"), "{error}");
        assert!(error.to_string().contains(&format!(
            "failed to pull and unpack image \"{}/box:{tag}\"",
            fake.address
        )));
        for directory in ["layers", "blobs/sha256"] {
            assert_eq!(
                count(&disk.0.path().join("images").join(directory)),
                0,
                "{tag}: {directory}"
            );
        }
        assert!(store.list().is_empty());
    }
    // What fits, still does.
    store
        .pull(&format!("{}/box:small", fake.address), None)
        .await
        .unwrap();
    drop(store);
}
