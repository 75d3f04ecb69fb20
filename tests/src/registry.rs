//! A real registry on this machine that serves the test images: Debian's `docker-registry` over the images that
//! `tests/images/prepare` made.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::guardian::bound;
use crate::wait::eventually;

/// A running registry; it ends with the value.
#[derive(Debug)]
pub struct Registry {
    process: Option<Child>,
    address: String,
    data: PathBuf,
    config: tempfile::TempDir,
}

/// Where the test images are: `$SKIFF_TEST_CACHE`, else below the user's cache directory.
///
/// # Panics
/// When neither is known.
pub fn image_cache() -> PathBuf {
    match std::env::var_os("SKIFF_TEST_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").expect("$HOME is set")).join(".cache/skiff-test-images")
        }
    }
}

/// A port that nobody listens on at this moment.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

impl Registry {
    /// Starts a registry with the test images.
    ///
    /// # Panics
    /// When the images have not been made, or the registry does not start.
    pub fn start() -> Self {
        let data = image_cache().join("registry");
        assert!(
            data.is_dir(),
            "the test images are missing: run tests/images/prepare"
        );
        Self::over(&data)
    }

    /// Starts a registry over a directory.
    ///
    /// # Panics
    /// When it does not start.
    pub fn over(data: &Path) -> Self {
        let config = tempfile::tempdir().expect("a temporary directory");
        let mut registry = Self {
            process: None,
            address: format!("127.0.0.1:{}", free_port()),
            data: data.to_path_buf(),
            config,
        };
        registry.resume();
        registry
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends the registry; [`Registry::resume`] starts it again on the same port.
    pub fn pause(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts the registry again.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&mut self) {
        let file = self.config.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {}\n",
            self.data.display(),
            self.address
        );
        fs::write(&file, text).expect("the registry's configuration");
        let process = bound("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        self.process = Some(process);
        eventually("the registry answers", Duration::from_secs(20), || {
            TcpStream::connect(&self.address)
                .map(drop)
                .map_err(|error| error.to_string())
        });
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.pause();
    }
}
