//! Debian's docker-registry, as a process of one test's own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{Image, MANIFEST};

/// A user's name and password, and how htpasswd writes them (bcrypt).
pub const USER: (&str, &str) = ("tester", "secret");
const HTPASSWD: &str = "tester:$2b$04$0UTdCu87bdbldD3wcr0b5.bBz9Xb/c8/U3q/qGQE/U1H4vKO4mYza\n";
const BASIC: &str = "Basic dGVzdGVyOnNlY3JldA==";

pub struct Registry {
    process: Child,
    _directory: tempfile::TempDir,
    pub address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// One that serves anybody.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// One that asks for a password.
    pub fn start_private() -> Self {
        Self::start_with("auth: {htpasswd: {realm: test, path: \"DIRECTORY/htpasswd\"}}\n")
    }

    fn start_with(more: &str) -> Self {
        // Another process may take a port between its choice and its use; then there is another one.
        for _ in 0..10 {
            if let Some(registry) = Self::try_start(more) {
                return registry;
            }
        }
        panic!("docker-registry does not start");
    }

    fn try_start(more: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: \"{path}\"}}}}\n\
             http: {{addr: \"{address}\"}}\n{}",
            more.replace("DIRECTORY", &path)
        );
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        std::fs::write(directory.path().join("htpasswd"), HTPASSWD).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let mut registry = Self {
            process,
            _directory: directory,
            address,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if TcpStream::connect(&registry.address).is_ok() {
                return Some(registry);
            }
            if registry.process.try_wait().unwrap().is_some() {
                return None;
            }
            // Another program's port gives no event.
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Pushes an image under a tag.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) {
        for (digest, blob) in image.blobs() {
            let (_, headers) = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
            let place = headers
                .iter()
                .find_map(|h| h.strip_prefix("Location: "))
                .expect("an upload's place");
            let path = place
                .split_once("://")
                .map_or(place, |(_, rest)| &rest[rest.find('/').unwrap()..]);
            let (status, _) = self.request(
                "PUT",
                &format!("{path}&digest={digest}"),
                "application/octet-stream",
                &blob,
            );
            assert_eq!(status, 201);
        }
        self.push_manifest(repository, tag, MANIFEST, &image.manifest);
    }

    pub fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let (status, _) = self.request(
            "PUT",
            &format!("/v2/{repository}/manifests/{tag}"),
            media_type,
            manifest,
        );
        assert_eq!(status, 201);
    }

    fn request(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> (u16, Vec<String>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {BASIC}\r\nContent-Type: {media_type}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let head: Vec<String> = answer
            .split("\r\n")
            .take_while(|l| !l.is_empty())
            .map(str::to_owned)
            .collect();
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        (status, head)
    }
}
