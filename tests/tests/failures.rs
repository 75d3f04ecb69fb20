//! When something is broken: the pod says so in its status and its events, and the cluster goes on.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use skiff_tests::{Cli, Cluster, Registry};

/// A small file system of its own, unmounted with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, megabytes: u32) -> Self {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={megabytes}m");
        mount(
            Some("none"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Waits until a pod's image cannot be pulled, and returns its description.
fn pull_fails(cluster: &Cluster, pod: &str) -> String {
    cluster.until(Cli::Kubectl, &["get", "pod", pod], "the pull fails", |text| {
        text.contains("ImagePullBackOff") || text.contains("ErrImagePull")
    });
    cluster.until(
        Cli::Kubectl,
        &["describe", "pod", pod],
        "an event says so",
        |text| text.contains("Failed to pull image"),
    )
}

#[test]
fn a_registry_that_is_down_delays_a_pod_and_nothing_else() {
    let mut cluster = Cluster::start();
    cluster
        .kubectl(&["run", "before", "--image=busybox", "--", "sleep", "3600"])
        .success();
    cluster.wait_for("condition=Ready", "pod/before");
    cluster.registry.pause();
    cluster.kubectl(&["run", "late", "--image=nginx"]).success();
    let described = pull_fails(&cluster, "late");
    assert!(
        described.contains("connection refused") || described.contains("Connection refused"),
        "{described}"
    );
    // An image that is here needs no registry.
    cluster
        .kubectl(&[
            "run",
            "here",
            "--image=busybox:latest",
            "--image-pull-policy=IfNotPresent",
            "--",
            "sleep",
            "3600",
        ])
        .success();
    cluster.wait_for("condition=Ready", "pod/here");
    cluster.registry.resume();
    cluster.wait_for("condition=Ready", "pod/late");
}

#[test]
fn a_corrupt_layer_is_refused_and_a_good_one_taken_later() {
    let cluster = Cluster::new();
    // A copy of the registry's data in which one byte of every large blob is another.
    let data = cluster.path("registry");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(skiff_tests_cache())
        .arg(&data)
        .status()
        .unwrap();
    assert!(copied.success());
    for file in files(&data.join("docker/registry/v2/blobs")) {
        let size = file.metadata().unwrap().len();
        if size > 100_000 {
            let blob = fs::OpenOptions::new().write(true).open(&file).unwrap();
            blob.write_all_at(b"\xff\xfe\xfd", size / 2).unwrap();
        }
    }
    let corrupt = Registry::over(&data);
    cluster.mirror_docker_io(corrupt.address());
    cluster.skiff_start().success();
    cluster.kubectl(&["run", "web", "--image=nginx"]).success();
    let described = pull_fails(&cluster, "web");
    assert!(
        described.contains("sha256:"),
        "the digests are named: {described}"
    );
    assert!(!cluster.skiff(&["image", "ls"]).success().contains("nginx"));
    assert!(cluster.kubectl(&["get", "nodes"]).success().contains(" Ready "));
}

#[test]
fn a_full_disk_fails_the_pod_that_needs_it_and_the_cluster_goes_on() {
    let cluster = Cluster::new();
    // The images' disk is too small for nginx, large enough for busybox.
    let disk = SmallDisk::mount(cluster.path("state/images"), 12);
    cluster.skiff_start().success();
    cluster.kubectl(&["run", "web", "--image=nginx"]).success();
    let described = pull_fails(&cluster, "web");
    assert!(
        described.contains("No space left on device") || described.contains("no space left on device"),
        "{described}"
    );
    cluster.kubectl(&["delete", "pod", "web", "--now"]).success();
    cluster
        .kubectl(&["run", "small", "--image=busybox", "--", "sleep", "3600"])
        .success();
    cluster.wait_for("condition=Ready", "pod/small");
    drop(cluster);
    drop(disk);
}

#[test]
fn images_come_from_archives_without_a_registry() {
    let mut cluster = Cluster::start();
    cluster.registry.pause();
    let archive = skiff_tests_cache().with_file_name("busybox.tar");
    let loaded = cluster
        .skiff(&["image", "load", archive.to_str().unwrap()])
        .success();
    assert!(loaded.contains("busybox"), "{loaded}");
    assert!(
        cluster
            .skiff(&["image", "ls"])
            .success()
            .contains("docker.io/library/busybox")
    );
    cluster
        .kubectl(&[
            "run",
            "loaded",
            "--image=busybox",
            "--image-pull-policy=Never",
            "--",
            "sleep",
            "3600",
        ])
        .success();
    cluster.wait_for("condition=Ready", "pod/loaded");
    let error = cluster.skiff(&["image", "load", "/proc/self/status"]).failure();
    assert!(error.contains("/status"), "{error}");
}

fn skiff_tests_cache() -> PathBuf {
    skiff_tests::image_cache().join("registry")
}
