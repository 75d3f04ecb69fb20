//! An image in a docker-archive, made from the machine's static busybox.

use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};

/// What the image says of how to run it.
#[derive(Default)]
pub struct Config {
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub stop_signal: Option<String>,
}

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "ls", "id", "hostname", "mount", "ps", "kill", "true", "false", "touch",
    "grep", "head", "tail", "dd", "pwd", "env", "wc", "seq", "yes", "ip", "chown", "ping", "tty", "unshare",
    "mkdir", "rm", "stat", "readlink", "ipcmk", "ipcs", "awk", "printf", "test", "trap", "date", "mknod",
];

pub fn write(path: &Path, name: &str, config: &Config) {
    let layer = layer();
    let digest = format!("sha256:{:x}", Sha256::digest(&layer));
    let description = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {
            "User": config.user,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "WorkingDir": config.working_dir,
            "StopSignal": config.stop_signal,
        },
        "rootfs": { "type": "layers", "diff_ids": [digest] },
    });
    let description = description.to_string();
    let description_name = format!("{:x}.json", Sha256::digest(&description));
    let manifest = json!([{ "Config": description_name, "RepoTags": [name], "Layers": ["layer.tar"] }]);
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    add(&mut archive, "layer.tar", 0o644, &layer);
    add(&mut archive, &description_name, 0o644, description.as_bytes());
    add(
        &mut archive,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    );
    archive.finish().unwrap();
}

fn layer() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (folder, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
        ("proc", 0o755),
    ] {
        let mut header = header();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        archive
            .append_data(&mut header, folder, std::io::empty())
            .unwrap();
    }
    add(
        &mut archive,
        "bin/busybox",
        0o755,
        &std::fs::read("/bin/busybox").unwrap(),
    );
    for applet in APPLETS {
        let mut header = header();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        archive
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    add(
        &mut archive,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/tmp:/bin/sh\n",
    );
    add(
        &mut archive,
        "etc/group",
        0o644,
        b"root:x:0:\nweb:x:34:\nextra:x:50:web\n",
    );
    add(&mut archive, "bin/plain", 0o644, b"not a program");
    archive.into_inner().unwrap()
}

fn add(archive: &mut tar::Builder<impl std::io::Write>, path: &str, mode: u32, bytes: &[u8]) {
    let mut header = header();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).unwrap();
}

fn header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
