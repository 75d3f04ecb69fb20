//! A real server on a port of its own, with certificates of its own, and the clients that talk to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::Kubeconfig;
use kube::{Client, Config as ClientConfig};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use skiff_apiserver::{
    ApiServer, Config, KubeletClient, MAX_REQUESTS_IN_FLIGHT, ServiceAccountKeys, UserInfo,
    kubernetes_version,
};
use skiff_store::{SqliteOptions, SqliteStore};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a test waits for what must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An authority that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test-ca");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn client(&self, name: &str, groups: &[&str]) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    pub(crate) fn server(&self) -> Pair {
        let names = vec!["127.0.0.1".to_string(), "localhost".to_string()];
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// What a client shows.
pub(crate) enum Credential<'a> {
    Nothing,
    Certificate(&'a Pair),
    Token(&'a str),
}

/// A running server; stops and leaves nothing when it is dropped.
pub(crate) struct Server {
    pub(crate) api: ApiServer,
    pub(crate) authority: Authority,
    pub(crate) kubeconfig: PathBuf,
    port: u16,
    _stop: DropGuard,
    pub(crate) directory: TempDir,
}

/// A response, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code and the message of a status.
    pub(crate) fn failure(&self) -> (u16, String) {
        let message = self.json()["message"].as_str().unwrap_or_default().to_string();
        (self.status.as_u16(), message)
    }
}

pub(crate) fn open(directory: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(&directory.join("state.db"), SqliteOptions::default()).unwrap())
}

pub(crate) fn config(authority: &Authority, port: u16) -> Config {
    let serving = authority.server();
    let kubelet = authority.client("kube-apiserver-kubelet-client", &["system:masters"]);
    Config {
        advertise_address: "192.0.2.1".parse().unwrap(),
        port,
        host_name: "server-1".into(),
        tls_certificate_pem: serving.certificate.into_bytes(),
        tls_key_pem: serving.key.into_bytes(),
        client_ca_pem: authority.pem.clone().into_bytes(),
        service_account: ServiceAccountKeys {
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            audiences: vec!["https://kubernetes.default.svc.cluster.local".into()],
            signing_key_pem: KeyPair::generate().unwrap().serialize_pem().into_bytes(),
        },
        service_cidr: ("10.96.0.0".parse().unwrap(), 12),
        node_port_range: 30000..=32767,
        kubelet: KubeletClient {
            certificate_pem: kubelet.certificate.into_bytes(),
            key_pem: kubelet.key.into_bytes(),
            ca_pem: authority.pem.clone().into_bytes(),
        },
        max_requests_in_flight: MAX_REQUESTS_IN_FLIGHT,
        version: kubernetes_version(),
        verbosity: None,
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same, with another configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        Self::on(store, directory, change).await
    }

    /// A server on a store.
    pub(crate) async fn on(
        store: Arc<dyn skiff_store::Store>,
        directory: TempDir,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = Authority::new();
        let shutdown = CancellationToken::new();
        let mut config = config(&authority, port);
        change(&mut config);
        let api = ApiServer::start(config, store, shutdown.clone()).await.unwrap();
        let serving = api.clone();
        let until = shutdown.clone();
        tokio::spawn(async move { serving.serve(listener, until).await.unwrap() });
        let mut server = Self {
            api,
            kubeconfig: directory.path().join("kubeconfig"),
            authority,
            port,
            _stop: shutdown.drop_guard(),
            directory,
        };
        let admin = server.authority.client("admin", &["system:masters"]);
        let config = server.config_of(&Credential::Certificate(&admin));
        std::fs::write(&server.kubeconfig, config.to_string()).unwrap();
        server.kubeconfig = server.kubeconfig.clone();
        server
    }

    fn config_of(&self, credential: &Credential<'_>) -> Value {
        let base64 = |text: &str| STANDARD.encode(text);
        let user = match credential {
            Credential::Nothing => json!({}),
            Credential::Certificate(pair) => json!({
                "client-certificate-data": base64(&pair.certificate),
                "client-key-data": base64(&pair.key),
            }),
            Credential::Token(token) => json!({ "token": token }),
        };
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority-data": base64(&self.authority.pem),
            } }],
            "users": [{ "name": "test", "user": user }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "default" } }],
            "current-context": "test",
        })
    }

    /// A client over TLS.
    pub(crate) async fn client(&self, credential: Credential<'_>) -> Client {
        let kubeconfig: Kubeconfig = serde_json::from_value(self.config_of(&credential)).unwrap();
        let mut config = ClientConfig::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        // What the server answers is what the tests are about.
        config.default_retry = false;
        config.disable_compression = true;
        Client::try_from(config).unwrap()
    }

    /// A client over TLS that may do everything.
    pub(crate) async fn admin(&self) -> Client {
        let admin = self.authority.client("admin", &["system:masters"]);
        self.client(Credential::Certificate(&admin)).await
    }

    /// A connection of its own that may do everything, to write on as one likes.
    pub(crate) async fn connect(&self) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        self.connect_for(&[]).await
    }

    /// The same, for one of these protocols.
    pub(crate) async fn connect_for(
        &self,
        protocols: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
        let admin = self.authority.client("admin", &["system:masters"]);
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap())
            .unwrap();
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(admin.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(admin.key.as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    /// Asks for an upgrade on a connection of its own.
    pub(crate) async fn upgrade(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> http::Response<hyper::body::Incoming> {
        let stream = hyper_util::rt::TokioIo::new(self.connect().await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::get(path)
            .header("host", "localhost")
            .header("connection", "Upgrade");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// A client within the process that may do everything.
    pub(crate) fn local(&self) -> Client {
        Client::new(self.api.local(UserInfo::master("test")), "default")
    }

    /// Makes the service account that a controller would.
    pub(crate) async fn with_default_account(self) -> Self {
        let account = json!({ "metadata": { "name": "default" } });
        let made = post(
            &self.local(),
            "/api/v1/namespaces/default/serviceaccounts",
            &account,
        )
        .await;
        assert_eq!(made.status, 201, "{}", made.text());
        self
    }

    /// Runs the real kubectl against the server; `None` when there is none on this machine.
    pub(crate) async fn kubectl(&self, arguments: &[&str], input: &str) -> Option<Output> {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.directory.path().join("cache"))
            .args(arguments)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("{error}"),
        };
        let input = input.to_string();
        let output = tokio::task::spawn_blocking(move || {
            use std::io::Write;
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap();
        Some(Output {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// What a program printed.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Sends a request and reads the answer to its end.
pub(crate) async fn send(client: &Client, request: Request<Body>) -> Answer {
    let response = client.send(request).await.unwrap();
    let (head, body) = response.into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.into())).unwrap()
}

pub(crate) async fn get(client: &Client, path: &str) -> Answer {
    get_as(client, path, "application/json").await
}

pub(crate) async fn get_as(client: &Client, path: &str, accept: &str) -> Answer {
    send(client, request(Method::GET, path, &[("accept", accept)], "")).await
}

pub(crate) async fn post(client: &Client, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    send(client, request(Method::POST, path, &headers, body.to_string())).await
}

pub(crate) async fn put(client: &Client, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    send(client, request(Method::PUT, path, &headers, body.to_string())).await
}

pub(crate) async fn patch(client: &Client, path: &str, type_: &str, body: &Value) -> Answer {
    let content_type = format!("application/{type_}+json");
    let headers = [("content-type", content_type.as_str())];
    send(client, request(Method::PATCH, path, &headers, body.to_string())).await
}

pub(crate) async fn delete(client: &Client, path: &str) -> Answer {
    send(client, request(Method::DELETE, path, &[], "")).await
}

/// A pod that the server accepts as it is.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "containers": [{ "name": "main", "image": "nginx" }] },
    })
}

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
