//! The real kubectl, old and new, types the sessions in `kubectl/` and gets the answers that are written there.

use std::fs;
use std::path::{Path, PathBuf};

use skiff_tests::{Age, Cluster, client_cache, play, run};

/// The sessions, by name.
fn sessions() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubectl");
    let only = std::env::var("SKIFF_TESTS_SESSION").ok();
    let mut found: Vec<(String, String)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "session"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            (name, fs::read_to_string(&path).unwrap())
        })
        .filter(|(name, _)| only.as_ref().is_none_or(|only| only == name))
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

/// 1.`minor`, as the program says itself.
fn minor_version(kubectl: &Path) -> u32 {
    let output =
        run(std::process::Command::new(kubectl).args(["version", "--client", "-o", "json"])).success();
    let version: serde_json::Value = serde_json::from_str(&output).unwrap();
    let minor = version["clientVersion"]["minor"].as_str().unwrap().to_string();
    minor.trim_end_matches('+').parse().unwrap()
}

/// Plays all sessions, each in a namespace of its own and a few at a time.
#[track_caller]
fn plays_all(kubectl: &Path) {
    let age = if minor_version(kubectl) < 30 {
        Age::Old
    } else {
        Age::New
    };
    let cluster = Cluster::start();
    let programs = cluster.path("bin");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(kubectl, programs.join("kubectl")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let sessions = sessions();
    let one = |(name, text): &(String, String)| {
        let directory = cluster.path(name);
        fs::create_dir(&directory).unwrap();
        let kubeconfig = directory.join("kubeconfig");
        fs::copy(cluster.path("kubeconfig"), &kubeconfig).unwrap();
        let shell = |command: &str| {
            run(cluster
                .command(Path::new("sh"))
                .args(["-c", &format!("exec 2>&1\n{command}")])
                .current_dir(&directory)
                .env("PATH", &path)
                .env("KUBECONFIG", &kubeconfig))
        };
        let begin = format!(
            "kubectl create namespace {name} && kubectl config set-context --current --namespace={name} && \
             until kubectl get serviceaccount default; do sleep 0.1; done"
        );
        shell(&begin).success();
        let mut told = String::new();
        for mismatch in play(text, age, shell) {
            told.push_str(&format!("{name}.session, {mismatch}\n"));
        }
        told
    };
    let told: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let mine: Vec<_> = sessions.iter().skip(worker).step_by(3).collect();
                let one = &one;
                scope.spawn(move || mine.into_iter().map(one).collect::<String>())
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let told = told.concat();
    assert!(told.is_empty(), "{told}");
}

fn on_path() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|directory| directory.join("kubectl"))
        .find(|program| program.exists())
        .expect("kubectl is on PATH")
}

#[test]
fn debians_kubectl_gets_the_answers_that_are_written() {
    let debians = client_cache().join("debian/usr/bin/kubectl");
    // Ubuntu has no such package; there the one on PATH is tested alone.
    if debians.exists() {
        plays_all(&debians);
    }
}

#[test]
fn the_kubectl_on_path_gets_the_answers_that_are_written() {
    plays_all(&on_path());
}
