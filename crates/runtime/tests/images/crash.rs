//! The store's process is killed at any moment, and the store is usable.

use std::process::{Command, Stdio};
use std::time::Duration;

use rand::Rng as _;
use skiff_runtime::image::{ImageConfig, ImageStore};

use crate::fake::{Content, Fake};
use crate::fixture::{Image, Layer, Place};

const ROOT: &str = "SKIFF_TEST_CRASH_ROOT";
const REGISTRY: &str = "SKIFF_TEST_CRASH_REGISTRY";
const KILLS: usize = 25;

/// Not a test of its own: the process that is killed. It pulls, holds and removes without an end.
#[tokio::test]
async fn the_process_that_is_killed() {
    let (Some(root), Ok(registry)) = (std::env::var_os(ROOT), std::env::var(REGISTRY)) else {
        return;
    };
    let config = ImageConfig {
        root: root.into(),
        registries: "/nonexistent".into(),
    };
    let store = ImageStore::open(config).await.unwrap();
    loop {
        let names = ["a", "b"].map(|tag| format!("{registry}/box:{tag}"));
        let [a, b] = &names;
        let (a, b) = tokio::join!(store.pull(a, None), store.pull(b, None));
        let (a, b) = (a.unwrap(), b.unwrap());
        store.hold("holder", &a).await.unwrap();
        store.remove(&a.id).await.unwrap();
        store.release("holder").await.unwrap();
        store.remove(&b.id).await.unwrap();
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_a_usable_store() {
    let base = Layer::new(&[("base", b"whole")]);
    let image = |name: &str| {
        Image::new(
            name,
            &[
                base.clone(),
                Layer::large("large", 100_000),
                Layer::new(&[(name, b"whole")]),
            ],
        )
    };
    let fake = Fake::serve(
        Content::default()
            .image("box", "a", &image("a"))
            .image("box", "b", &image("b")),
    );
    let place = Place::new();
    for _ in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::the_process_that_is_killed", "--nocapture"])
            .env(ROOT, place.root())
            .env(REGISTRY, &fake.address)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Not a wait for something: the moment of the kill is to be any.
        let moment = Duration::from_millis(rand::rng().random_range(20..250));
        tokio::time::sleep(moment).await;
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            status.code(),
            None,
            "it ended by itself, which it does only on an error"
        );

        let store = place.open().await;
        place.assert_nothing_is_left_over();
        for image in store.list() {
            let lower = store.lower_dirs(&image);
            assert_eq!(lower.len(), 3);
            let name = if lower[0].join("a").exists() { "a" } else { "b" };
            assert_eq!(std::fs::read_to_string(lower[0].join(name)).unwrap(), "whole");
            assert_eq!(std::fs::metadata(lower[1].join("large")).unwrap().len(), 100_000);
            assert_eq!(std::fs::read_to_string(lower[2].join("base")).unwrap(), "whole");
        }
        for holder in store.holders() {
            store.release(&holder).await.unwrap();
        }
        for tag in ["a", "b"] {
            let pulled = store
                .pull(&format!("{}/box:{tag}", fake.address), None)
                .await
                .unwrap();
            assert!(store.lower_dirs(&pulled)[0].join(tag).exists());
        }
        assert_eq!(place.layers(), 4, "no layer that nobody needs");
    }
}
