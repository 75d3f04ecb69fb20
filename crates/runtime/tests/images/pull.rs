//! Pulls: what arrives, from where, how often, and what is said when it does not.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use skiff_runtime::image::{Auth, ImageError};

use crate::fake::{Content, Fake, Response};
use crate::fixture::{Form, INDEX, Image, Layer, Place, digest, index, own_architecture};
use crate::registry::{Registry, USER};

fn base() -> Layer {
    Layer::new(&[("bin/box", b"program"), ("etc/name", b"base")])
}

fn box_image() -> Image {
    Image::new(
        "box",
        &[base(), Layer::new(&[("etc/name", b"box"), ("etc/.wh.gone", b"")])],
    )
}

/// An address at which nothing listens: the port is taken, but not listened on.
fn closed() -> (OwnedFd, String) {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address = getsockname::<SockaddrIn>(socket.as_raw_fd()).unwrap().to_string();
    (socket, address)
}

#[tokio::test]
async fn an_image_comes_through_the_mirror_of_docker_io_and_is_unpacked() {
    let (registry, image) = (Registry::start(), box_image());
    registry.push("library/box", "latest", &image);
    let place = Place::with_mirrors(&[&registry.address]);
    let store = place.open().await;

    let pulled = store.pull("box", None).await.unwrap();
    assert_eq!(pulled.id, image.id());
    assert_eq!(pulled.repo_tags, ["docker.io/library/box:latest"]);
    assert_eq!(
        pulled.repo_digests,
        [format!("docker.io/library/box@{}", image.manifest_digest())]
    );
    assert_eq!(pulled.size, image.size());
    assert_eq!(
        pulled.config.config().as_ref().unwrap().cmd().as_ref().unwrap(),
        &["/bin/box", "box"]
    );

    let lower = store.lower_dirs(&pulled);
    assert_eq!(lower.len(), 2);
    assert_eq!(
        std::fs::read_to_string(lower[0].join("etc/name")).unwrap(),
        "box",
        "the topmost first"
    );
    assert_eq!(
        std::fs::read_to_string(lower[1].join("etc/name")).unwrap(),
        "base"
    );
    assert!(lower[1].join("bin/box").exists() && !lower[0].join("bin").exists());
    assert!(store.usage().bytes > 0 && store.usage().inodes >= 7);
    place.assert_nothing_is_left_over();

    let by_digest = format!("box@{}", image.manifest_digest());
    for name in [
        "box",
        "docker.io/library/box:latest",
        pulled.id.as_str(),
        &pulled.id[7..19],
        &by_digest,
    ] {
        assert_eq!(
            store.get(name).map(|found| found.id.clone()).as_ref(),
            Some(&pulled.id),
            "{name}"
        );
    }
    drop(store);
    let again = place.open().await.get("box").unwrap();
    assert_eq!(
        (&again.id, &again.layers, again.size),
        (&pulled.id, &pulled.layers, pulled.size)
    );
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let image = box_image();
    let fake = Fake::serve(Content::default().image("a/box", "1", &image));
    let place = Place::new();
    let store = place.open().await;
    let name = format!("{}/a/box:1", fake.address);
    let first = store.pull(&name, None).await.unwrap();
    let requests = fake.requests().len();
    let second = store.pull(&name, None).await.unwrap();
    assert_eq!(first.id, second.id);
    assert_eq!(
        fake.requests()[requests..],
        ["HEAD /v2/a/box/manifests/1"],
        "only whether it is still the same"
    );

    let by_digest = format!("{}/a/box@{}", fake.address, image.manifest_digest());
    let third = store.pull(&by_digest, None).await.unwrap();
    assert_eq!((third.repo_tags.len(), third.repo_digests.len()), (1, 1));
}

#[tokio::test]
async fn a_tag_that_moved_names_the_new_image() {
    let (old, new) = (box_image(), Image::new("new", &[base()]));
    let content = [("1", &old), ("1", &new)].map(|(tag, image)| Content::default().image("box", tag, image));
    let moved = Arc::new(Mutex::new(0));
    let now = moved.clone();
    let fake = Fake::start(move |request| content[*now.lock().unwrap()].get(request));
    let place = Place::new();
    let store = place.open().await;
    let name = format!("{}/box:1", fake.address);
    assert_eq!(store.pull(&name, None).await.unwrap().id, old.id());
    *moved.lock().unwrap() = 1;
    assert_eq!(store.pull(&name, None).await.unwrap().id, new.id());
    assert_eq!(store.get(&name).unwrap().id, new.id());
    assert!(store.get(&old.id()).unwrap().repo_tags.is_empty());
}

#[tokio::test]
async fn of_an_index_the_image_of_this_machine_is_taken() {
    let registry = Registry::start();
    let (own, other) = (box_image(), Image::for_architecture("other", "s390x", &[base()]));
    registry.push("box", "own", &own);
    registry.push("box", "other", &other);
    let both = index(&[("s390x", &other), (own_architecture(), &own)]);
    registry.push_manifest("box", "both", INDEX, &both);
    registry.push_manifest("box", "none", INDEX, &index(&[("s390x", &other)]));
    let place = Place::new();
    let store = place.open().await;
    let pulled = store
        .pull(&format!("{}/box:both", registry.address), None)
        .await
        .unwrap();
    assert_eq!(pulled.id, own.id());
    assert_eq!(
        pulled.repo_digests,
        [format!("{}/box@{}", registry.address, digest(&both))]
    );
    for tag in ["none", "other"] {
        let error = store
            .pull(&format!("{}/box:{tag}", registry.address), None)
            .await
            .unwrap_err();
        assert!(
            error.is_not_found() && error.to_string().contains("no match for platform"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn layers_come_in_every_form() {
    let layers = [Form::Plain, Form::Gzip, Form::Zstd]
        .map(|form| Layer::packed(&[(if form == Form::Zstd { "z" } else { "a" }, b"x")], form));
    let fake = Fake::serve(Content::default().image("box", "1", &Image::new("box", &layers)));
    let place = Place::new();
    let store = place.open().await;
    let pulled = store
        .pull(&format!("{}/box:1", fake.address), None)
        .await
        .unwrap();
    let lower = store.lower_dirs(&pulled);
    assert!(lower[0].join("z").exists() && lower[1].join("a").exists() && lower[2].join("a").exists());
    assert_ne!(lower[1], lower[2], "equal layers on different ones below are two");
}

#[tokio::test]
async fn an_image_without_layers_is_one() {
    let fake = Fake::serve(Content::default().image("box", "1", &Image::new("scratch", &[])));
    let place = Place::new();
    let store = place.open().await;
    let pulled = store
        .pull(&format!("{}/box:1", fake.address), None)
        .await
        .unwrap();
    assert!(store.lower_dirs(&pulled).is_empty());
}

#[tokio::test]
async fn mirrors_are_tried_in_order() {
    let image = box_image();
    let (_socket, down) = closed();
    let empty = Fake::serve(Content::default());
    let good = Fake::serve(Content::default().image("library/box", "latest", &image));
    let unused = Fake::serve(Content::default());
    let place = Place::with_mirrors(&[&down, &empty.address, &good.address, &unused.address]);
    let store = place.open().await;
    assert_eq!(store.pull("box", None).await.unwrap().id, image.id());
    assert_eq!(
        empty.requests(),
        ["HEAD /v2/library/box/manifests/latest"],
        "a mirror that has not it is left alone"
    );
    assert!(unused.requests().is_empty());
    assert!(
        good.queries().iter().all(|query| query == "ns=docker.io"),
        "a mirror is told for whom it stands"
    );
}

#[tokio::test]
async fn names_are_rewritten_and_paths_kept_for_a_mirror() {
    let fake = Fake::serve(Content::default().image("proxy/hub/box", "latest", &box_image()));
    let place = Place::with(&format!(
        "mirrors:\n  \"*\":\n    endpoint: [\"http://{}/v2/proxy\"]\n    rewrite: {{\"^library/(.*)\": \"hub/$1\"}}\n",
        fake.address
    ));
    assert!(place.open().await.pull("box", None).await.is_ok());
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_not_found() {
    let registry = Registry::start();
    let place = Place::new();
    let store = place.open().await;
    let name = format!("{}/library/nope:latest", registry.address);
    let error = store.pull(&name, None).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(
        error.to_string(),
        format!(
            "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": {name}: not found"
        )
    );
    let error = store.pull("No/Such", None).await.unwrap_err();
    assert!(matches!(error, ImageError::Reference { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_that_is_down_is_named() {
    let (_socket, address) = closed();
    let place = Place::new();
    let name = format!("{address}/box:latest");
    let error = place.open().await.pull(&name, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": failed to do request: \
             Head \"http://{address}/v2/box/manifests/latest\": dial tcp {address}: connect: connection refused"
        )
    );
}

#[tokio::test]
async fn a_registry_that_is_broken_says_so() {
    let fake = Fake::start(|_| Response::status(503));
    let place = Place::new();
    let error = fake.pulled_to(&place).await.unwrap_err().to_string();
    let wanted = format!(
        "unexpected status from HEAD request to http://{}/v2/box/manifests/1: 503 Service Unavailable",
        fake.address
    );
    assert!(error.ends_with(&wanted), "{error}");
}

#[tokio::test]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    let image = box_image();
    let good = Content::default().image("box", "1", &image);
    let layer = &image.layers[1].packed;
    let mut bad = layer.clone();
    bad[20] ^= 1;
    let cases = [
        (
            "a layer",
            good.clone().blob("box", &digest(layer), &bad),
            digest(&bad),
            digest(layer),
        ),
        (
            "a configuration",
            good.clone().blob("box", &image.id(), b"{}"),
            digest(b"{}"),
            image.id(),
        ),
    ];
    for (case, content, actual, expected) in cases {
        let fake = Fake::serve(content);
        let place = Place::new();
        let store = place.open().await;
        let error = store
            .pull(&format!("{}/box:1", fake.address), None)
            .await
            .unwrap_err();
        let wanted = format!("failed to copy: unexpected commit digest {actual}, expected {expected}");
        assert!(error.to_string().ends_with(&wanted), "{case}: {error}");
        assert!(store.list().is_empty(), "{case}");
        place.assert_nothing_is_left_over();
        drop(store);
        let store = place.open().await;
        assert_eq!((place.layers(), store.usage().inodes), (0, 0), "{case}");
    }
}

#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_is_refused() {
    let (layer, other) = (base(), Layer::new(&[("evil", b"x")]));
    // The packed layer has the right digest, but it is not the one that the configuration is about.
    let mixed = Layer {
        plain: layer.plain,
        packed: other.packed,
    };
    let fake = Fake::serve(Content::default().image("box", "1", &Image::new("box", &[mixed])));
    let place = Place::new();
    let error = fake.pulled_to(&place).await.unwrap_err().to_string();
    assert!(
        error.contains("wrong diff id calculated on extraction"),
        "{error}"
    );
    assert_eq!(place.layers(), 0);
    place.assert_nothing_is_left_over();
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_ended() {
    for knows_ranges in [true, false] {
        let image = Image::new("box", &[Layer::large("data", 300_000)]);
        let content = Content::default().image("box", "1", &image);
        let blob = format!("/v2/box/blobs/{}", digest(&image.layers[0].packed));
        let path = blob.clone();
        let fake = Fake::start(move |request| {
            let mut response = content.get(request);
            if request.path != path {
                return response;
            }
            if request.earlier < 2 {
                response.cut = Some(100_000);
            }
            match request.headers.get("range") {
                Some(range) if knows_ranges => {
                    let start: usize = range["bytes=".len()..range.len() - 1].parse().unwrap();
                    response.status = 206;
                    response.body.drain(..start);
                }
                _ if request.earlier > 0 => response.cut = None,
                _ => {}
            }
            response
        });
        let place = Place::new();
        let pulled = fake.pulled_to(&place).await;
        assert_eq!(pulled.unwrap(), image.id(), "ranges: {knows_ranges}");
        assert!(fake.count(&format!("GET {blob}")) > 1);
    }
}

#[tokio::test]
async fn a_download_that_never_ends_well_is_an_error() {
    let image = Image::new("box", &[Layer::large("data", 100_000)]);
    let content = Content::default().image("box", "1", &image);
    let layer = digest(&image.layers[0].packed);
    let fake = Fake::start(move |request| {
        let mut response = content.get(request);
        if request.path.ends_with(&layer) {
            response.cut = Some(1000);
        }
        response
    });
    let place = Place::new();
    let error = fake.pulled_to(&place).await.unwrap_err();
    assert!(matches!(error.root(), ImageError::Request { .. }), "{error}");
    place.assert_nothing_is_left_over();
}

#[tokio::test]
async fn a_blob_that_is_longer_than_it_says_is_cut_short() {
    let image = box_image();
    let layer = &image.layers[0].packed;
    let longer = [&layer[..], &[0; 100_000]].concat();
    let fake = Fake::serve(
        Content::default()
            .image("box", "1", &image)
            .blob("box", &digest(layer), &longer),
    );
    let place = Place::new();
    let error = fake.pulled_to(&place).await.unwrap_err().to_string();
    assert!(error.contains("failed size validation"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_pulls_need_at_once_is_fetched_once() {
    let images = ["one", "two"].map(|name| {
        Image::new(
            name,
            &[
                base(),
                Layer::large("shared", 50_000),
                Layer::new(&[(name, b"own")]),
            ],
        )
    });
    let content = images.iter().fold(Content::default(), |all, i| {
        let cmd = String::from_utf8_lossy(&i.config).contains("\"one\"");
        all.image("box", if cmd { "one" } else { "two" }, i)
    });
    // Nothing is answered before both images are asked for, so that the pulls really meet.
    let gate = Arc::new((Mutex::new(0), Condvar::new()));
    let inner = gate.clone();
    let fake = Fake::start(move |request| {
        if request.method == "HEAD" {
            let (count, changed) = &*inner;
            *count.lock().unwrap() += 1;
            changed.notify_all();
            let _all = changed
                .wait_while(count.lock().unwrap(), |count| *count < 2)
                .unwrap();
        }
        content.get(request)
    });
    let place = Place::new();
    let store = place.open().await;
    let pulls = (0..20).map(|number| {
        let (store, tag) = (store.clone(), if number % 2 == 0 { "one" } else { "two" });
        let name = format!("{}/box:{tag}", fake.address);
        tokio::spawn(async move { store.pull(&name, None).await.unwrap().id.clone() })
    });
    let ids: Vec<String> = futures::future::try_join_all(pulls).await.unwrap();
    assert!(
        ids.iter()
            .enumerate()
            .all(|(number, id)| *id == images[number % 2].id())
    );
    for layer in images.iter().flat_map(|image| &image.layers) {
        let request = format!("GET /v2/box/blobs/{}", digest(&layer.packed));
        assert_eq!(fake.count(&request), 1, "{request}");
    }
    for tag in ["one", "two"] {
        assert_eq!(fake.count(&format!("HEAD /v2/box/manifests/{tag}")), 1);
    }
    assert_eq!(place.layers(), 4);
}

#[tokio::test]
async fn a_private_registry_wants_the_right_password() {
    let (registry, image) = (Registry::start_private(), box_image());
    registry.push("box", "1", &image);
    let name = format!("{}/box:1", registry.address);
    let auth = |username: &str, password: &str| {
        Some(Auth {
            username: username.into(),
            password: password.into(),
            ..Auth::default()
        })
    };
    let place = Place::new();
    let store = place.open().await;
    let cases = [
        (None, "no basic auth credentials"),
        (auth("tester", "wrong"), "authorization failed"),
    ];
    for (given, wanted) in cases {
        let error = store.pull(&name, given).await.unwrap_err().to_string();
        assert!(
            error.contains("pull access denied, repository does not exist or may require"),
            "{error}"
        );
        assert!(error.ends_with(wanted), "{error}");
    }
    assert_eq!(
        store.pull(&name, auth(USER.0, USER.1)).await.unwrap().id,
        image.id()
    );
    // What one pod may have, another one without credentials may not.
    assert!(store.pull(&name, None).await.is_err());

    // Without credentials of its own a pull uses the node's; the file is read again for each.
    let node = format!(
        "configs: {{\"{}\": {{auth: {{username: tester, password: secret}}}}}}",
        registry.address
    );
    std::fs::write(place.registries(), node).unwrap();
    assert!(store.pull(&name, None).await.is_ok());
}

#[tokio::test]
async fn a_token_is_fetched_where_the_registry_says() {
    let image = box_image();
    let content = Content::default().image("box", "1", &image);
    let address: Arc<Mutex<String>> = Arc::default();
    let own = address.clone();
    let fake = Fake::start(move |request| {
        if request.path == "/token" {
            let basic = request.headers.get("authorization").map(String::as_str);
            let refresh = request.method == "POST" && request.body.contains("refresh_token=it+is%2Fme");
            if basic != Some("Basic dGVzdGVyOnNlY3JldA==") && !refresh {
                return Response::status(401);
            }
            let asked = format!("{}&{}", request.query, request.body);
            assert!(
                asked.contains("scope=repository%3Abox%3Apull") && asked.contains("service=test"),
                "{asked}"
            );
            return Response::ok("application/json", br#"{"token": "good"}"#);
        }
        match request.headers.get("authorization").map(String::as_str) {
            Some("Bearer good") => content.get(request),
            _ => Response::status(401).header(
                "WWW-Authenticate",
                &format!(
                    "Bearer realm=\"http://{}/token\",service=\"test\",scope=\"repository:box:pull\"",
                    own.lock().unwrap()
                ),
            ),
        }
    });
    *address.lock().unwrap() = fake.address.clone();
    let name = format!("{}/box:1", fake.address);
    let place = Place::new();
    let store = place.open().await;
    let error = store.pull(&name, None).await.unwrap_err().to_string();
    assert!(
        error.contains("failed to fetch oauth token") && error.ends_with("401 Unauthorized"),
        "{error}"
    );
    let basic = Auth {
        username: USER.0.into(),
        password: USER.1.into(),
        ..Auth::default()
    };
    assert!(store.pull(&name, Some(basic)).await.is_ok());
    assert_eq!(fake.count("GET /token"), 2, "one token does for the whole pull");
    let refresh = Auth {
        identity_token: "it is/me".into(),
        ..Auth::default()
    };
    assert!(store.pull(&name, Some(refresh)).await.is_ok());
    let ready = Auth {
        registry_token: "good".into(),
        ..Auth::default()
    };
    assert!(store.pull(&name, Some(ready)).await.is_ok());
    let stale = Auth {
        registry_token: "stale".into(),
        ..Auth::default()
    };
    let error = store.pull(&name, Some(stale)).await.unwrap_err();
    assert!(matches!(error.root(), ImageError::Denied(_)), "{error}");
}

#[tokio::test]
async fn tls_is_believed_as_far_as_the_file_says() {
    let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let content = Content::default().image("library/box", "latest", &box_image());
    let fake = Fake::start_with(Some(Arc::new(server)), move |request| content.get(request));

    let place = Place::new();
    let file = place.directory.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let registries = |tls: &str| {
        let address = &fake.address;
        let text = format!(
            "mirrors: {{'{address}': {{endpoint: ['https://{address}']}}}}\nconfigs: {{'{address}': {{tls: {{{tls}}}}}}}"
        );
        std::fs::write(place.registries(), text).unwrap();
    };
    registries("");
    let name = format!("{}/library/box", fake.address);
    let store = place.open().await;
    let error = store.pull(&name, None).await.unwrap_err().to_string();
    assert!(error.contains("tls: failed to verify certificate"), "{error}");
    registries("insecure_skip_verify: true");
    store.pull(&name, None).await.unwrap();
    registries(&format!("ca_file: '{}'", file.display()));
    store.pull(&name, None).await.unwrap();
    registries("cert_file: /nonexistent/c.pem, key_file: /nonexistent/k.pem");
    let error = store.pull(&name, None).await.unwrap_err().to_string();
    assert!(error.contains("/nonexistent/c.pem"), "{error}");
}
