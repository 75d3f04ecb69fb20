//! The etcd store keeps the contract, on a real etcd, and what is its own: lost answers, lost members, TLS, the names of
//! the keys, and what etcd refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may; the lint knows only functions marked as one"
)]

#[macro_use]
mod contract;
mod etcd_server;
mod proxy;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{Fixture, bytes, events, keys, put, said, within};
use etcd_client::{Client, Txn, TxnOp};
use etcd_server::{Setting, address, alone, connect, member_with, options};
use futures::StreamExt;
use proxy::Proxy;
use skiff_store::{Error, EtcdOptions, EtcdStore, Expect, Store};

async fn empty() -> Fixture {
    let member = alone();
    Fixture {
        store: Arc::new(connect(&[&member]).await),
        _guard: Box::new(member),
    }
}

contract!(crate::empty);

#[tokio::test]
async fn keys_are_where_upstream_has_them_and_those_of_others_are_not_seen() {
    let member = alone();
    let mut raw = Client::connect([&member.url], None).await.unwrap();
    let registry = EtcdStore::connect(EtcdOptions {
        root: "/registry".into(),
        prefix: "/kubernetes.io".into(),
        ..options(&[&member.url])
    })
    .await
    .unwrap();
    let mut watch = registry.watch("/registry/pods/", 1).await.unwrap();
    put(&registry, "/registry/pods/a", "1").await;
    raw.put("/kubernetes.io/pods/b", "2", None).await.unwrap();
    raw.put("/registry/pods/c", "3", None).await.unwrap();
    raw.put("/kubernetes.io/minions/d", "4", None).await.unwrap();
    let stored = raw.get("/kubernetes.io/pods/a", None).await.unwrap();
    assert_eq!(stored.kvs()[0].value(), b"1");
    assert_eq!(
        said(&mut watch, 1, 5).await,
        ["+/registry/pods/a=1", "+/registry/pods/b=2"]
    );
    assert_eq!(
        keys(&registry, "/registry/pods/").await,
        ["/registry/pods/a", "/registry/pods/b"]
    );
    assert_eq!(keys(&registry, "/").await.len(), 3);
    assert_eq!(keys(&registry, "/elsewhere/").await.len(), 0);
    for refused in [
        registry.get("/elsewhere/a").await.map(drop),
        registry
            .put("/elsewhere/a", bytes("1"), Expect::Any, None)
            .await
            .map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn two_stores_on_one_etcd_see_the_same() {
    let member = alone();
    let (one, other) = (connect(&[&member]).await, connect(&[&member]).await);
    let mut watch = other.watch("/", 1).await.unwrap();
    let made = put(&one, "/a", "1").await;
    let taken = other.put("/a", bytes("2"), Expect::Absent, None).await;
    assert!(matches!(taken, Err(Error::Conflict { current: Some(_) })));
    other
        .put("/a", bytes("2"), Expect::Revision(made), None)
        .await
        .unwrap();
    assert_eq!(one.get("/a").await.unwrap().value.unwrap().value, "2");
    assert_eq!(said(&mut watch, 1, 3).await, ["+/a=1", "~/a=1>2"]);
}

#[tokio::test]
async fn the_changes_of_one_transaction_come_in_one_batch() {
    let member = alone();
    let store = connect(&[&member]).await;
    let mut watch = store.watch("/a/", 1).await.unwrap();
    let mut raw = Client::connect([&member.url], None).await.unwrap();
    let puts = ["/a/1", "/b", "/a/2"].map(|key| TxnOp::put(key, key, None));
    raw.txn(Txn::new().and_then(puts)).await.unwrap();
    let batch = within(watch.next()).await.unwrap().unwrap();
    let told: Vec<_> = batch.events.iter().map(contract::say).collect();
    assert_eq!(
        (batch.revision, told),
        (2, vec!["+/a/1=/a/1".into(), "+/a/2=/a/2".into()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_its_server_and_misses_nothing() {
    let mut member = alone();
    let store = connect(&[&member]).await;
    let mut watch = store.watch("/", 1).await.unwrap();
    put(&store, "/a", "1").await;
    assert_eq!(said(&mut watch, 1, 2).await, ["+/a=1"]);
    put(&store, "/a", "2").await;
    member.kill();

    let hasty = EtcdOptions {
        timeout: Duration::from_millis(300),
        ..options(&[&member.url])
    };
    let refused = EtcdStore::connect(hasty).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");

    // A write that can't be sent waits for the server; the watch waits too.
    let write = store.put("/a", bytes("3"), Expect::Any, None);
    let (written, told, ()) =
        within(async { futures::join!(write, said(&mut watch, 2, 4), async { member.start() }) }).await;
    assert_eq!(written.unwrap().revision, 4);
    assert_eq!(told, ["~/a=1>2", "~/a=2>3"]);

    // What happens between two lives of the server is not missed either.
    member.kill();
    member.start();
    let other = connect(&[&member]).await;
    put(&other, "/b", "1").await;
    assert_eq!(said(&mut watch, 4, 5).await, ["+/b=1"]);
}

#[tokio::test]
async fn a_watch_that_lost_its_server_learns_of_a_compaction_since() {
    let member = alone();
    let proxy = Proxy::before(member.address).await;
    let behind = EtcdStore::connect(options(&[&proxy.url()])).await.unwrap();
    let mut watch = behind.watch("/", 1).await.unwrap();
    let direct = connect(&[&member]).await;
    put(&direct, "/a", "1").await;
    assert_eq!(said(&mut watch, 1, 2).await, ["+/a=1"]);
    proxy.cut();
    proxy.refuse();
    for i in 0..5 {
        put(&direct, "/a", &i.to_string()).await;
    }
    direct.compact(5).await.unwrap();
    proxy.pass();
    let mut delivered = 2;
    let error = loop {
        match within(watch.next()).await.unwrap() {
            Ok(batch) => {
                // Nothing, or what was on its way when the connection was cut.
                assert!(batch.revision < 5);
                delivered = batch.revision;
            }
            Err(error) => break error,
        }
    };
    assert!(delivered < 5);
    assert!(matches!(error, Error::Compacted { oldest: 5 }), "{error:?}");
    assert!(within(watch.next()).await.is_none());
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_done_once_and_not_claimed() {
    let member = alone();
    let direct = connect(&[&member]).await;
    let proxy = Proxy::before(member.address).await;
    let store = EtcdStore::connect(options(&[&proxy.url()])).await.unwrap();
    let mut version = 0;
    for demand in ["any", "revision", "absent", "delete"] {
        if demand == "absent" {
            direct.delete("/a", Expect::Any).await.unwrap();
        }
        let before = direct.get("/a").await.unwrap();
        let mod_revision = before.value.as_ref().map_or(0, |kv| kv.mod_revision);
        let mut watch = direct.watch("/a", before.revision).await.unwrap();
        // The server hears, and its answers go nowhere.
        proxy.swallow_answers();
        let write = async {
            match demand {
                "any" => store.put("/a", bytes(demand), Expect::Any, None).await,
                "revision" => {
                    let expect = Expect::Revision(mod_revision);
                    store.put("/a", bytes(demand), expect, None).await
                }
                "absent" => store.put("/a", bytes(demand), Expect::Absent, None).await,
                _ => store.delete("/a", Expect::Revision(mod_revision)).await,
            }
        };
        let lose = async {
            let batch = within(watch.next()).await.unwrap().unwrap();
            assert_eq!(batch.events.len(), 1, "{demand}");
            proxy.cut();
        };
        let (written, ()) = within(async { futures::join!(write, lose) }).await;
        assert!(
            matches!(written, Err(Error::Unavailable(ref text)) if text.contains("unknown")),
            "{demand}: {written:?}"
        );
        let after = direct.get("/a").await.unwrap();
        assert_eq!(
            after.revision,
            before.revision + 1,
            "{demand}: one write was done"
        );
        version = after.value.map_or(version, |kv| kv.version);
    }
    assert_eq!(version, 1, "of the one that was made when there was none");
}

#[tokio::test]
async fn a_compare_and_swap_that_did_not_arrive_is_sent_again_and_no_other_write_is() {
    let member = alone();
    let direct = connect(&[&member]).await;
    let proxy = Proxy::before(member.address).await;
    let store = EtcdStore::connect(options(&[&proxy.url()])).await.unwrap();
    let mut revision = put(&direct, "/a", "0").await;
    for demand in ["any", "revision", "delete"] {
        // The server does not hear what the store believes to be sent.
        let swallowed = proxy.swallow_requests();
        let write = async {
            match demand {
                "any" => store.put("/a", bytes(demand), Expect::Any, None).await,
                "revision" => {
                    let expect = Expect::Revision(revision);
                    store.put("/a", bytes(demand), expect, None).await
                }
                _ => store.delete("/a", Expect::Revision(revision)).await,
            }
        };
        let lose = async {
            within(swallowed).await;
            proxy.cut();
        };
        let (written, ()) = within(async { futures::join!(write, lose) }).await;
        let now = direct.revision().await.unwrap();
        if demand == "any" {
            assert!(matches!(written, Err(Error::Unavailable(_))), "{written:?}");
            assert_eq!(now, revision);
        } else {
            let written = written.unwrap();
            assert_eq!((written.revision, now), (revision + 1, revision + 1), "{demand}");
            assert_eq!(written.previous.unwrap().mod_revision, revision);
            revision = now;
        }
    }
    assert_eq!(direct.get("/a").await.unwrap().value, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_is_not_read_holds_up_nobody_and_misses_nothing() {
    let member = alone();
    let store = connect(&[&member]).await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        unread.push(store.watch("/", 1).await.unwrap());
    }
    // More than the windows of all their connections.
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    for i in 0..24 {
        let key = format!("/{}", i % 4);
        let write = store.put(&key, value.clone(), Expect::Any, None);
        within(write).await.unwrap();
    }
    let mut reading = store.watch("/", 24).await.unwrap();
    assert_eq!(events(&mut reading, 24, 25).await.len(), 1);
    for watch in &mut unread {
        let missed = events(watch, 1, 25).await;
        let revisions: Vec<_> = missed.iter().map(|event| event.revision).collect();
        assert_eq!(revisions, (2..=25).collect::<Vec<_>>());
        assert!(missed.iter().skip(4).all(|event| event.previous.is_some()));
    }
}

#[tokio::test]
async fn a_revision_larger_than_a_message_comes_whole() {
    let member = alone();
    let store = connect(&[&member]).await;
    let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    for i in 0..6 {
        let key = format!("/{i}");
        store
            .put(&key, value.clone(), Expect::Any, Some(lease))
            .await
            .unwrap();
    }
    let mut watch = store.watch("/", 7).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    let batch = within(watch.next()).await.unwrap().unwrap();
    assert_eq!(batch.revision, 8);
    let deleted: Vec<_> = batch
        .events
        .iter()
        .map(|event| event.previous.as_ref().unwrap().key.to_string())
        .collect();
    assert_eq!(deleted, (0..6).map(|i| format!("/{i}")).collect::<Vec<_>>());
    assert!(batch.events.iter().all(|event| event.revision == 8));
}

#[tokio::test]
async fn what_is_too_large_for_etcd_is_refused_and_nothing_is_written() {
    let member = alone();
    let store = connect(&[&member]).await;
    // Etcd's own limit is 1.5 MiB; half a MiB above, its gRPC server has one.
    for size in [1_800_000, 3_000_000] {
        let value = Bytes::from(vec![b'x'; size]);
        let refused = store.put("/a", value, Expect::Any, None).await;
        assert!(matches!(refused, Err(Error::TooLarge)), "{refused:?}");
    }
    assert_eq!(store.revision().await.unwrap(), 1);
}

#[tokio::test]
async fn an_etcd_without_space_refuses_writes_and_nothing_else() {
    let setting = Setting {
        more: ["--quota-backend-bytes", "8000000"].map(String::from).to_vec(),
        ..Setting::default()
    };
    let member = member_with(address(), &setting);
    let store = connect(&[&member]).await;
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    let mut written = 1;
    let error = loop {
        match store.put("/a", value.clone(), Expect::Any, None).await {
            Ok(done) => written = done.revision,
            Err(error) => break error,
        }
        assert!(written < 100, "a quota of 8 MB");
    };
    assert!(matches!(error, Error::NoSpace), "{error:?}");
    // The write that finds the quota exceeded may have been let in: etcd looks twice, and the second time is after it.
    let there = store.get("/a").await.unwrap().value.unwrap().mod_revision;
    assert!((written..=written + 1).contains(&there), "{there} {written}");
    let refused = store.put("/a", value, Expect::Any, None).await;
    assert!(matches!(refused, Err(Error::NoSpace)), "{refused:?}");
    assert_eq!(store.revision().await.unwrap(), there);
    store.delete("/a", Expect::Revision(there)).await.unwrap();
}

/// A certificate for an address, of an authority.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: rcgen::Issuer::new(parameters, key),
        }
    }

    /// A certificate and its key, PEM.
    fn certify(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        parameters.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn tls_lets_in_who_shows_the_right_certificates_and_nobody_else() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let address = address();
    let (certificate, key) = ours.certify(&address.to_string());
    let setting = Setting {
        tls: Some((certificate, key, ours.pem.clone())),
        ..Setting::default()
    };
    let member = member_with(address, &setting);
    let (certificate, key) = ours.certify("skiff");
    let right = EtcdOptions {
        ca_pem: Some(ours.pem.clone()),
        client_certificate_pem: Some(certificate),
        client_key_pem: Some(key),
        ..options(&[&member.url])
    };
    let store = EtcdStore::connect(right.clone()).await.unwrap();
    let mut watch = store.watch("/", 1).await.unwrap();
    put(&store, "/a", "1").await;
    assert_eq!(said(&mut watch, 1, 2).await, ["+/a=1"]);
    // The scheme goes without saying.
    let bare = member.url.trim_start_matches("https://");
    let store = EtcdStore::connect(EtcdOptions {
        endpoints: vec![bare.to_owned()],
        ..right.clone()
    })
    .await
    .unwrap();
    assert_eq!(keys(&store, "/").await, ["/a"]);

    let (strange, strange_key) = theirs.certify("skiff");
    let hasty = EtcdOptions {
        timeout: Duration::from_millis(500),
        ..right
    };
    for wrong in [
        EtcdOptions {
            ca_pem: Some(theirs.pem.clone()),
            ..hasty.clone()
        },
        EtcdOptions {
            client_certificate_pem: None,
            client_key_pem: None,
            ..hasty.clone()
        },
        EtcdOptions {
            client_certificate_pem: Some(strange),
            client_key_pem: Some(strange_key),
            ..hasty.clone()
        },
        EtcdOptions {
            ca_pem: None,
            ..hasty.clone()
        },
        EtcdOptions {
            endpoints: vec![format!("http://{bare}")],
            ..hasty.clone()
        },
    ] {
        let refused = within(EtcdStore::connect(wrong)).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        println!("{}", refused.unwrap_err());
    }
}

#[tokio::test]
async fn a_frozen_etcd_is_unavailable_after_the_time_given() {
    let member = alone();
    let patient = connect(&[&member]).await;
    put(&patient, "/a", "1").await;
    let store = EtcdStore::connect(EtcdOptions {
        timeout: Duration::from_secs(3),
        ..options(&[&member.url])
    })
    .await
    .unwrap();
    member.freeze();
    let refused = futures::join!(
        store.revision(),
        store.get("/a"),
        store.put("/a", bytes("2"), Expect::Any, None),
        store.lease_grant(Duration::from_secs(60)),
        store.watch("/", 1),
    );
    let (revision, read, written, granted, watch) = refused;
    for refused in [
        revision.err(),
        read.err(),
        written.err(),
        granted.err(),
        watch.err(),
    ] {
        assert!(matches!(refused, Some(Error::Unavailable(_))), "{refused:?}");
    }
    member.thaw();
    // The write that nobody knew of may have been done by now.
    let value = patient.get("/a").await.unwrap().value.unwrap().value;
    assert!(value == "1" || value == "2");
}
