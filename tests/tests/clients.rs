//! The real client libraries, each with its own tests in `clients/`, against one cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use skiff_tests::{Cluster, client_cache, run};

fn tests_of(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(client)
}

/// Runs a client's tests, and shows what they say when one fails.
#[track_caller]
fn all_pass(tests: &mut Command) {
    let output = run(tests);
    println!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code, Some(0), "{}", output.command);
}

#[test]
fn the_python_client_works() {
    let cluster = Cluster::start();
    let python = client_cache().join("python/bin/python");
    all_pass(
        cluster
            .command(&python)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // The client leaves sockets to the garbage collector, and Python tells of each.
            .args([
                "-W",
                "ignore::ResourceWarning",
                "-m",
                "unittest",
                "discover",
                "--verbose",
            ])
            .arg("--start-directory")
            .arg(tests_of("python")),
    );
}

#[test]
fn the_javascript_client_works() {
    let cluster = Cluster::start();
    // Modules are looked for beside who imports them.
    let directory = cluster.path("javascript");
    run(Command::new("cp")
        .arg("-r")
        .arg(tests_of("javascript"))
        .arg(&directory))
    .success();
    let modules = client_cache().join("javascript/node_modules");
    std::os::unix::fs::symlink(modules, directory.join("node_modules")).unwrap();
    all_pass(
        cluster
            .command(Path::new("node"))
            .current_dir(&directory)
            .arg("--test"),
    );
}
