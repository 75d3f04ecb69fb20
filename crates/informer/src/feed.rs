//! A watch that does not end: what is there of a kind, then each change, over as many requests as it takes.
//!
//! A reflector as client-go's, by the streaming list alone (`sendInitialEvents`). Objects are passed on as text, for whoever
//! hears of them to decode once into what they keep. So this is compiled once and not for every kind.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use kube::Client;
use kube::api::WatchParams;
use kube::client::Body;
use kube::core::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use crate::informer::{ObjectKey, Selection};

/// How long the server lets one watch last; a little longer without a byte, and the connection is taken for lost.
const LASTS: Duration = Duration::from_secs(290);
const SILENCE: Duration = Duration::from_secs(300);
/// A watch that ends sooner than this and brought nothing has failed, whatever its server says.
const TOO_SHORT: Duration = Duration::from_secs(1);
/// The first pause after a failure, the longest, and how long all must go well for the next to be the first again
/// (client-go's, of a reflector).
const FIRST_PAUSE: Duration = Duration::from_millis(800);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const FORGIVEN: Duration = Duration::from_secs(120);
/// The longest event, in bytes: many times the largest object that a server takes.
const LONGEST_EVENT: usize = 64 << 20;
/// The annotation of the bookmark behind which everything that was there has been told.
const ALL_TOLD: &str = "k8s.io/initial-events-end";

/// Who hears of the objects.
pub trait Hearer: Send {
    /// All that is there is told from the beginning: what is not told again until [`Hearer::complete`] is gone.
    fn begin(&mut self);

    /// An object is there, or has changed. Returns its resource version.
    ///
    /// # Errors
    /// When the text is no object of the kind; it is passed over.
    fn applied(&mut self, json: &[u8]) -> Result<String, serde_json::Error>;

    /// An object is gone; this was its last state. Returns the resource version of its deletion.
    ///
    /// # Errors
    /// When the text is no object of the kind; it is passed over.
    fn deleted(&mut self, json: &[u8]) -> Result<String, serde_json::Error>;

    /// Everything that was there has been told.
    fn complete(&mut self);
}

/// What a hearer has been told of since the beginning: by it the hearer finds what is gone when all is told.
#[derive(Debug, Default)]
pub struct Told(Option<HashSet<ObjectKey>>);

impl Told {
    /// All is told from the beginning.
    pub fn begin(&mut self) {
        self.0 = Some(HashSet::new());
    }

    /// This object is there.
    pub fn applied(&mut self, meta: &ObjectMeta) {
        if let Some(told) = &mut self.0 {
            told.insert(ObjectKey::of(meta));
        }
    }

    /// This object is gone.
    pub fn deleted(&mut self, key: &ObjectKey) {
        if let Some(told) = &mut self.0 {
            told.remove(key);
        }
    }

    /// All has been told: the objects that are there.
    pub fn complete(&mut self) -> HashSet<ObjectKey> {
        self.0.take().unwrap_or_default()
    }
}

/// The objects of one kind that a selection names, in all namespaces.
#[derive(Clone)]
pub struct Feed {
    client: Client,
    /// The path of the collection.
    path: String,
    selection: Selection,
    /// Whether the objects are told with their metadata alone.
    metadata_alone: bool,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Client(#[from] kube::Error),
    #[error("the server says: {0}")]
    Refused(String),
    /// What was told so far says nothing of what comes next.
    #[error("the server does not remember that far back: {0}")]
    Expired(String),
    #[error("nothing came for {} s", SILENCE.as_secs())]
    Silent,
    #[error("not an event: {0}")]
    NoEvent(#[from] serde_json::Error),
    #[error("an event of more than {LONGEST_EVENT} bytes")]
    TooLong,
    #[error("it ended at once")]
    TooShort,
}

impl Feed {
    /// The objects behind the path of a collection, such as `/api/v1/pods`.
    pub fn new(client: Client, path: String, selection: Selection) -> Self {
        Self {
            client,
            path,
            selection,
            metadata_alone: false,
        }
    }

    /// The same objects with their `metadata` alone.
    #[must_use]
    pub fn metadata_alone(mut self) -> Self {
        self.metadata_alone = true;
        self
    }

    /// Tells `hearer` of the objects, for as long as this is polled.
    pub async fn tell(&self, hearer: &mut dyn Hearer) {
        let mut position = None;
        let (mut pause, mut failed) = (FIRST_PAUSE, Instant::now());
        loop {
            let Err(why) = self.watch(&mut position, hearer).await else {
                continue;
            };
            tracing::debug!(path = self.path, %why, "watch failed, trying again");
            if failed.elapsed() > FORGIVEN {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>())).await;
            failed = Instant::now();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One request, from the position on, or from the beginning without one.
    async fn watch(&self, position: &mut Option<String>, hearer: &mut dyn Hearer) -> Result<(), Broken> {
        let began = Instant::now();
        let watched = self.events(position, hearer).await;
        match watched {
            Err(Broken::Expired(_)) => *position = None,
            Ok(false) if began.elapsed() < TOO_SHORT => return Err(Broken::TooShort),
            _ => {}
        }
        watched.map(|_| ())
    }

    /// Returns whether any event came, when the server ended the watch.
    async fn events(&self, position: &mut Option<String>, hearer: &mut dyn Hearer) -> Result<bool, Broken> {
        let from_the_beginning = position.is_none();
        let params = WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            timeout: u32::try_from(LASTS.as_secs()).ok(),
            bookmarks: true,
            send_initial_events: from_the_beginning,
        };
        let (request, version) = (Request::new(&self.path), position.as_deref().unwrap_or_default());
        let request = if self.metadata_alone {
            request.watch_metadata(&params, version)
        } else {
            request.watch(&params, version)
        };
        let request = request.map_err(kube::Error::BuildRequest)?.map(Body::from);
        let response = timeout(SILENCE, self.client.send(request));
        let (head, mut body) = response.await.map_err(|_| Broken::Silent)??.into_parts();
        if !head.status.is_success() {
            let text = Limited::new(body, LONGEST_EVENT).collect().await;
            let text = text.map(|text| text.to_bytes()).unwrap_or_default();
            let status = serde_json::from_slice(&text).unwrap_or_else(|_| Status {
                code: Some(head.status.as_u16().into()),
                message: Some(String::from_utf8_lossy(&text).into_owned()),
                ..Status::default()
            });
            return Err(refused(status));
        }
        if from_the_beginning {
            hearer.begin();
        }
        let (mut lines, mut any, mut all_told) = (Lines::default(), false, !from_the_beginning);
        while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| Broken::Silent)? {
            let Ok(data) = frame?.into_data() else { continue };
            lines.push(data)?;
            while let Some(line) = lines.next() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                any = true;
                let event = Event::read(&line)?;
                let told = match event.kind.as_ref() {
                    "ADDED" | "MODIFIED" => hearer.applied(event.object),
                    "DELETED" => hearer.deleted(event.object),
                    "BOOKMARK" => serde_json::from_slice::<Bookmark>(event.object).map(|bookmark| {
                        if !all_told && bookmark.ends_what_was_there() {
                            all_told = true;
                            hearer.complete();
                        }
                        bookmark.metadata.resource_version
                    }),
                    _ => return Err(refused(serde_json::from_slice(event.object)?)),
                };
                match told {
                    // Until all that was there is told there is no place to go on from.
                    Ok(version) if all_told => *position = Some(version),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(path = self.path, %error, "an object that cannot be read"),
                }
            }
        }
        Ok(any)
    }
}

fn refused(status: Status) -> Broken {
    let message = status.message.unwrap_or_default();
    if status.code == Some(410) {
        Broken::Expired(message)
    } else {
        Broken::Refused(message)
    }
}

/// The lines of a body, whatever its frames are.
#[derive(Default)]
struct Lines {
    /// The beginning of a line whose end has not come.
    begun: BytesMut,
    /// What has come last, from the first line that was not taken yet.
    rest: Bytes,
}

impl Lines {
    fn push(&mut self, frame: Bytes) -> Result<(), Broken> {
        if self.begun.len() + frame.len() > LONGEST_EVENT {
            return Err(Broken::TooLong);
        }
        self.rest = frame;
        Ok(())
    }

    /// The next line that is complete.
    fn next(&mut self) -> Option<Bytes> {
        let Some(end) = memchr::memchr(b'\n', &self.rest) else {
            self.begun.extend_from_slice(&self.rest);
            self.rest = Bytes::new();
            return None;
        };
        let end = self.rest.split_to(end + 1);
        if self.begun.is_empty() {
            return Some(end);
        }
        self.begun.extend_from_slice(&end);
        Some(self.begun.split().freeze())
    }
}

/// A line of a watch.
#[derive(Debug, PartialEq)]
struct Event<'a> {
    kind: Cow<'a, str>,
    /// Its JSON.
    object: &'a [u8],
}

impl<'a> Event<'a> {
    fn read(line: &'a [u8]) -> Result<Self, serde_json::Error> {
        if let Some(event) = Self::plain(line.trim_ascii()) {
            return Ok(event);
        }
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        let Line { kind, object } = serde_json::from_slice(line)?;
        let object = object.get().as_bytes();
        Ok(Self { kind, object })
    }

    /// A line as servers write them, whose object need not be looked through to find its end.
    fn plain(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_prefix(br#"{"type":""#)?;
        let end = memchr::memchr(b'"', line)?;
        let (kind, object) = line.split_at_checked(end)?;
        let object = object.strip_prefix(br#"","object":{"#)?;
        // With its own braces.
        let object = line.get(line.len() - object.len() - 1..line.len() - 1)?;
        let kind = std::str::from_utf8(kind)
            .ok()
            .filter(|kind| !kind.contains('\\'))?;
        (line.ends_with(b"}}") && object.len() > 1).then_some(Self {
            kind: kind.into(),
            object,
        })
    }
}

/// Where a watch has come to.
#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Bookmark {
    fn ends_what_was_there(&self) -> bool {
        let annotation = self.metadata.annotations.get(ALL_TOLD);
        annotation.is_some_and(|value| value == "true")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use http::Response;
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tower::{BoxError, service_fn};

    use super::*;

    /// A status, and the frames of a body.
    type Answer = (u16, Vec<Bytes>);

    /// What a server answers, one request after the other, and what it was asked. After its last answer it says no more.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<VecDeque<Answer>>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Script {
        fn then(self, status: u16, frames: &[&str]) -> Self {
            let frames = frames
                .iter()
                .map(|frame| Bytes::copy_from_slice(frame.as_bytes()));
            self.answers.lock().push_back((status, frames.collect()));
            self
        }

        fn client(&self) -> Client {
            let script = self.clone();
            let service = service_fn(move |request: http::Request<Body>| {
                let script = script.clone();
                async move {
                    let uri = request.uri().to_string();
                    script.asked.lock().push(uri);
                    let answer = script.answers.lock().pop_front();
                    let Some((status, frames)) = answer else {
                        return std::future::pending().await;
                    };
                    let frames = frames
                        .into_iter()
                        .map(|data| Ok::<_, std::io::Error>(http_body::Frame::data(data)));
                    let body = http_body_util::StreamBody::new(tokio_stream::iter(frames));
                    Ok::<_, BoxError>(Response::builder().status(status).body(body)?)
                }
            });
            Client::new(service, "default")
        }
    }

    /// Writes down what it hears.
    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Heard {
        fn object(&mut self, what: &str, json: &[u8]) -> Result<String, serde_json::Error> {
            let object: Value = serde_json::from_slice(json)?;
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(String::from);
            let name = text("/metadata/name").ok_or_else(|| serde::de::Error::custom("no name"))?;
            self.0.push(format!("{what} {name}"));
            Ok(text("/metadata/resourceVersion").unwrap_or_default())
        }
    }

    impl Hearer for Heard {
        fn begin(&mut self) {
            self.0.push("begin".into());
        }

        fn applied(&mut self, json: &[u8]) -> Result<String, serde_json::Error> {
            self.object("applied", json)
        }

        fn deleted(&mut self, json: &[u8]) -> Result<String, serde_json::Error> {
            self.object("deleted", json)
        }

        fn complete(&mut self) {
            self.0.push("complete".into());
        }
    }

    fn event(kind: &str, name: &str, version: &str) -> String {
        format!(
            "{}\n",
            json!({ "type": kind, "object": { "metadata": { "name": name, "resourceVersion": version } } })
        )
    }

    fn bookmark(version: &str, ends: bool) -> String {
        let annotations = if ends {
            json!({ ALL_TOLD: "true" })
        } else {
            json!({})
        };
        let metadata = json!({ "resourceVersion": version, "annotations": annotations });
        format!(
            "{}\n",
            json!({ "type": "BOOKMARK", "object": { "metadata": metadata } })
        )
    }

    fn error(code: u16) -> String {
        let status = json!({ "kind": "Status", "status": "Failure", "message": "no", "code": code });
        format!("{}\n", json!({ "type": "ERROR", "object": status }))
    }

    /// What is heard until the server has nothing more to say, and from where each request went on (`-`: the beginning).
    async fn heard(script: Script) -> (Vec<String>, Vec<String>) {
        let selection = Selection {
            labels: Some("a=b".into()),
            ..Selection::default()
        };
        let feed = Feed::new(script.client(), "/api/v1/pods".into(), selection);
        let mut heard = Heard::default();
        let count = script.answers.lock().len();
        tokio::select! {
            () = feed.tell(&mut heard) => {}
            () = async {
                while script.asked.lock().len() <= count {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            } => {}
        }
        let asked = script.asked.lock().clone();
        let asked = asked.into_iter().map(|uri| {
            assert!(
                uri.starts_with("/api/v1/pods?&watch=true") || uri.starts_with("/api/v1/pods?watch=true"),
                "{uri}"
            );
            assert!(
                uri.contains("labelSelector=a%3Db") && uri.contains("allowWatchBookmarks=true"),
                "{uri}"
            );
            let from = uri.split("resourceVersion=").nth(1).unwrap().to_string();
            assert_eq!(uri.contains("sendInitialEvents=true"), from.is_empty(), "{uri}");
            if from.is_empty() { "-".into() } else { from }
        });
        (heard.0, asked.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn one_watch_goes_on_where_the_last_one_ended() {
        let first = [
            event("ADDED", "x", "1"),
            bookmark("4", true),
            event("MODIFIED", "x", "5"),
        ]
        .concat();
        let script = Script::default()
            .then(200, &[&first])
            .then(200, &[&event("DELETED", "x", "7")])
            .then(200, &[&bookmark("9", false)])
            .then(200, &[&event("ADDED", "y", "12")]);
        let (heard, asked) = heard(script).await;
        assert_eq!(
            heard,
            [
                "begin",
                "applied x",
                "complete",
                "applied x",
                "deleted x",
                "applied y"
            ]
        );
        assert_eq!(asked, ["-", "5", "7", "9", "12"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_is_told_from_the_beginning() {
        let all = |version: &str| [event("ADDED", "x", "1"), bookmark(version, true)].concat();
        let gone = json!({ "kind": "Status", "code": 410, "message": "too old" }).to_string();
        let script = Script::default()
            .then(200, &[&all("4"), &error(410)])
            .then(200, &[&all("6")])
            .then(410, &[&gone])
            .then(200, &[&all("8")]);
        let (heard, asked) = heard(script).await;
        assert_eq!(heard, ["begin", "applied x", "complete"].repeat(3));
        assert_eq!(asked, ["-", "-", "6", "-", "8"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_broke_off_in_the_middle_is_told_from_the_beginning() {
        let script = Script::default()
            .then(200, &[&event("ADDED", "x", "1")])
            .then(503, &["not yet"])
            .then(200, &[&event("ADDED", "y", "1"), &bookmark("2", true)]);
        let (heard, asked) = heard(script).await;
        assert_eq!(heard, ["begin", "applied x", "begin", "applied y", "complete"]);
        assert_eq!(asked, ["-", "-", "-", "2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_no_reason_to_forget_where_it_was() {
        let script = Script::default()
            .then(200, &[&bookmark("2", true)])
            .then(500, &[r#"{"kind":"Status","message":"broken","code":500}"#])
            .then(200, &[&error(500)])
            .then(200, &["{\n"])
            .then(200, &[]);
        let began = Instant::now();
        let (_, asked) = heard(script).await;
        assert_eq!(asked, ["-", "2", "2", "2", "2", "2"]);
        // Four failures: 0.8, 1.6, 3.2 and 6.4 seconds, and up to twice that.
        let took = began.elapsed();
        assert!(
            took > Duration::from_secs(12) && took < Duration::from_secs(25),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_cannot_be_read_hides_no_other() {
        let nameless = format!(
            "{}\n",
            json!({ "type": "MODIFIED", "object": { "metadata": { "resourceVersion": "6" } } })
        );
        let events = [
            bookmark("2", true),
            event("ADDED", "x", "5"),
            nameless,
            event("ADDED", "y", "7"),
        ]
        .concat();
        let (heard, asked) = heard(Script::default().then(200, &[&events])).await;
        assert_eq!(heard, ["begin", "complete", "applied x", "applied y"]);
        assert_eq!(asked, ["-", "7"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_falls_silent_is_given_up() {
        let script = Script::default();
        let feed = Feed::new(script.client(), "/api/v1/pods".into(), Selection::default());
        let mut heard = Heard::default();
        tokio::select! {
            () = feed.tell(&mut heard) => {}
            () = tokio::time::sleep(SILENCE + Duration::from_secs(5)) => {}
        }
        assert_eq!(script.asked.lock().len(), 2);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_frames(text in "[ab\n]{0,40}", cuts in prop::collection::vec(0usize..41, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                lines.push(Bytes::copy_from_slice(&text.as_bytes()[pair[0]..pair[1]])).unwrap();
                while let Some(line) = lines.next() {
                    found.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            let whole: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn an_event_is_the_same_however_it_is_spaced(kind in "[A-Z]{1,8}", name in "[ -~]{0,12}", spaced: bool) {
            let object = json!({ "metadata": { "name": name } });
            let line = if spaced {
                format!(r#" {{ "object" : {object}, "type": "{kind}" }} "#)
            } else {
                format!(r#"{{"type":"{kind}","object":{object}}}"#)
            };
            let event = Event::read(line.as_bytes()).unwrap();
            prop_assert_eq!(event.kind.as_ref(), kind.as_str());
            prop_assert_eq!(serde_json::from_slice::<Value>(event.object).unwrap(), object);
            prop_assert_eq!(Event::plain(line.as_bytes()).is_some(), !spaced);
        }
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        for line in [
            "",
            "{}",
            "[]",
            r#"{"type":"ADDED"}"#,
            r#"{"type":"ADDED","object":{}"#,
            r#"{"type":1,"object":{}}"#,
        ] {
            assert!(Event::read(line.as_bytes()).is_err(), "{line}");
        }
        let empty = Event::read(br#"{"type":"ADDED","object":{}}"#).unwrap();
        assert_eq!(empty.object, b"{}");
    }
}
