//! A registry that can be made to misbehave.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use skiff_runtime::image::ImageError;

use crate::fixture::{Image, MANIFEST, Place, digest};

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: String,
    /// How often this method and path have been asked for before.
    pub earlier: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection breaks after this many bytes of the body.
    pub cut: Option<usize>,
}

impl Response {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn ok(media_type: &str, body: &[u8]) -> Self {
        Self {
            status: 200,
            headers: vec![("Content-Type".into(), media_type.into())],
            body: body.into(),
            cut: None,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What lies in a registry, by path.
#[derive(Clone, Default)]
pub struct Content(HashMap<String, (String, Vec<u8>)>);

impl Content {
    pub fn image(mut self, repository: &str, tag: &str, image: &Image) -> Self {
        self = self.manifest(repository, tag, MANIFEST, &image.manifest);
        for (digest, blob) in image.blobs() {
            self = self.blob(repository, &digest, &blob);
        }
        self
    }

    fn manifest(mut self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Self {
        for version in [tag, &digest(bytes)] {
            self.0.insert(
                format!("/v2/{repository}/manifests/{version}"),
                (media_type.into(), bytes.into()),
            );
        }
        self
    }

    pub fn blob(mut self, repository: &str, digest: &str, bytes: &[u8]) -> Self {
        let path = format!("/v2/{repository}/blobs/{digest}");
        self.0
            .insert(path, ("application/octet-stream".into(), bytes.into()));
        self
    }

    pub fn get(&self, request: &Request) -> Response {
        match self.0.get(&request.path) {
            Some((media_type, bytes)) => {
                Response::ok(media_type, bytes).header("Docker-Content-Digest", &digest(bytes))
            }
            None => Response::status(404),
        }
    }
}

type Handler = dyn Fn(&Request) -> Response + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    requests: Mutex<Vec<Request>>,
    stopped: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

pub struct Fake {
    shared: Arc<Shared>,
    pub address: String,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}

impl Fake {
    /// The id of `box:1`, pulled from here by a store that is new.
    pub async fn pulled_to(&self, place: &Place) -> Result<String, ImageError> {
        let store = place.open().await;
        let image = store.pull(&format!("{}/box:1", self.address), None).await?;
        Ok(image.id.clone())
    }

    pub fn serve(content: Content) -> Self {
        Self::start(move |request| content.get(request))
    }

    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler)
    }

    pub fn start_with(
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            requests: Mutex::default(),
            stopped: AtomicBool::new(false),
            tls,
        });
        let server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (server, stream) = (server.clone(), stream.unwrap());
                std::thread::spawn(move || match &server.tls {
                    None => answer(&server, stream),
                    Some(config) => {
                        let connection = ServerConnection::new(config.clone()).unwrap();
                        answer(&server, StreamOwned::new(connection, stream));
                    }
                });
            }
        });
        Self { shared, address }
    }

    /// All requests until now, as `GET /path`.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.shared.requests.lock().unwrap();
        requests
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    /// How often this was asked for.
    pub fn count(&self, request: &str) -> usize {
        self.requests().iter().filter(|known| *known == request).count()
    }

    pub fn queries(&self) -> Vec<String> {
        self.shared
            .requests
            .lock()
            .unwrap()
            .iter()
            .map(|request| request.query.clone())
            .collect()
    }
}

/// Answers one request; each has a connection of its own.
fn answer(server: &Shared, stream: impl Read + Write) {
    let mut reader = BufReader::new(stream);
    let Some(mut request) = read(&mut reader) else {
        return;
    };
    {
        let mut all = server.requests.lock().unwrap();
        request.earlier = all
            .iter()
            .filter(|r| r.method == request.method && r.path == request.path)
            .count();
        all.push(request.clone());
    }
    let response = (server.handler)(&request);
    let mut head = format!(
        "HTTP/1.1 {} x\r\nConnection: close\r\nContent-Length: {}\r\n",
        response.status,
        response.body.len()
    );
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let stream = reader.get_mut();
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    if request.method != "HEAD" {
        let end = response
            .cut
            .unwrap_or(response.body.len())
            .min(response.body.len());
        let _ = stream.write_all(&response.body[..end]);
    }
    let _ = stream.flush();
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Request {
        method,
        path: path.into(),
        query: query.into(),
        headers,
        body,
        earlier: 0,
    })
}
