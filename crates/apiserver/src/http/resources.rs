//! The handlers of resources: one for each verb, the same for every kind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, Method};
use hyper::upgrade::OnUpgrade;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, StatusDetails};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skiff_api::kind::Typed;
use skiff_api::{Dependents, Kind, Object, Scope, Strategy, Subresource, Target};

use crate::error::{ApiError, ApiResult};
use crate::http::accept::{ACCEPTED, Accepted, Encoding, LISTED, negotiate, produced};
use crate::http::query::Query;
use crate::http::request_info::RequestInfo;
use crate::http::reviews::Review;
use crate::http::transform::{IncludeObject, View};
use crate::http::{
    Counted, PeerAddress, RequestBody, Response, binding, component_status, eviction, logs, options, paths,
    pretty, proxy, request_body, respond, reviews, scale, token_request, tunnel, watch,
};
use crate::registry::{DeleteOptions, Deleted, Entry, PatchType, Resource, WriteOptions, Written, posted};
use crate::server::Shared;
use crate::user::UserInfo;
use crate::warnings::Warnings;

/// A request behind all layers.
pub(crate) struct Call {
    pub(crate) shared: Arc<Shared>,
    pub(crate) method: Method,
    pub(crate) info: Arc<RequestInfo>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) user: Arc<UserInfo>,
    /// Behind a lock only so that a call can be shared between threads; whoever reads it has the call alone.
    pub(crate) body: Mutex<RequestBody>,
    /// The connection itself, if it may be upgraded.
    pub(crate) upgrade: Mutex<Option<OnUpgrade>>,
    /// As the client wrote it.
    pub(crate) uri: http::Uri,
    /// Counts the request for as long as it is kept: by who goes on when the response has been made.
    pub(crate) counted: Counted,
    /// Where the client is.
    pub(crate) peer: Option<PeerAddress>,
    /// What the client is to be warned of, whatever the answer is.
    pub(crate) warnings: Warnings,
}

impl Call {
    /// Reads the body, whatever its type is.
    pub(crate) async fn read_body(&mut self) -> ApiResult<Bytes> {
        request_body::read(&self.headers, std::mem::take(self.body.get_mut())).await
    }

    /// Reads a body that holds an object, as JSON.
    pub(crate) async fn read_object(&mut self) -> ApiResult<Bytes> {
        let body = self.read_body().await?;
        Ok(request_body::as_json(&self.headers, body)?.0)
    }

    /// Reads an object that is not kept, such as a review, and checks it as those that are.
    pub(crate) async fn read_posted<T>(&mut self, options: &mut WriteOptions) -> ApiResult<T>
    where
        T: DeserializeOwned + k8s_openapi::Resource,
    {
        self.read_posted_as(options, |json| json).await
    }

    /// The same, of a JSON that is to be put differently first.
    pub(crate) async fn read_posted_as<T>(
        &mut self,
        options: &mut WriteOptions,
        put: impl FnOnce(Bytes) -> Bytes,
    ) -> ApiResult<T>
    where
        T: DeserializeOwned + k8s_openapi::Resource,
    {
        let json = self.read_written(options, T::KIND).await?;
        posted(self.shared.registry.catalogue(), &put(json), options)
    }

    /// Reads an object that is to be written.
    async fn read_written(&mut self, options: &mut WriteOptions, kind: &str) -> ApiResult<Bytes> {
        let body = self.read_body().await?;
        let (json, repeated) = request_body::object_as_json(&self.headers, body, kind)?;
        options.repeated = repeated;
        Ok(json)
    }

    /// The options of this write. `kind` is what errors call them, e.g. `CreateOptions`.
    pub(crate) fn write_options(&self, kind: &'static str) -> ApiResult<WriteOptions> {
        Ok(self.warned(options::write(&self.query, kind, &self.user)?))
    }

    /// The same, where whoever sends the write comes to own fields.
    pub(crate) fn tracked_options(&self, kind: &'static str) -> ApiResult<WriteOptions> {
        let options = options::tracked(&self.query, &self.headers, kind, &self.user)?;
        Ok(self.warned(options))
    }

    /// The options of this patch.
    pub(crate) fn patch_options(&self, type_: PatchType) -> ApiResult<WriteOptions> {
        let options = options::patch(&self.query, &self.headers, type_, &self.user)?;
        Ok(self.warned(options))
    }

    /// What these options warn of is told with this call's answer.
    fn warned(&self, options: WriteOptions) -> WriteOptions {
        WriteOptions {
            warnings: self.warnings.clone(),
            ..options
        }
    }

    /// Where the request's object is: its namespace (empty when cluster-scoped) and name.
    pub(crate) fn place(&self, resource: &Resource) -> (&str, &str) {
        let namespace = match resource.info().scope {
            Scope::Namespaced => self.info.namespace.as_str(),
            Scope::Cluster => "",
        };
        (namespace, self.info.path_name())
    }
}

/// Serves a request for a resource.
pub(crate) async fn handle(call: Call) -> ApiResult<Response> {
    let is_write = call.info.is_mutating() && !call.info.is_long_running();
    // What serves one is kilobytes large, and is not to be moved about.
    let answer = Box::pin(routed(call));
    if is_write {
        in_time(answer).await
    } else {
        answer.await
    }
}

/// How long a write may take, wherever it has come to (upstream's `requestTimeoutUpperBound`). Whoever asked for less time
/// gets that from the layer of the deadline.
const LONGEST_WRITE: Duration = Duration::from_secs(34);

/// A write, in the time that it may take.
async fn in_time<T>(write: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
    let done = tokio::time::timeout(LONGEST_WRITE, write).await;
    done.unwrap_or_else(|_| {
        Err(ApiError::timeout(
            "request did not complete within requested timeout - context deadline exceeded",
        ))
    })
}

async fn routed(call: Call) -> ApiResult<Response> {
    let info = &call.info;
    if (info.group.as_str(), info.version.as_str(), info.resource.as_str()) == ("", "v1", "bindings") {
        return binding::collection(call).await;
    }
    if (info.group.as_str(), info.version.as_str(), info.resource.as_str()) == ("", "v1", "componentstatuses")
    {
        return component_status::handle(call).boxed().await;
    }
    if let Some(review) = Review::of(&info.group, &info.version, &info.resource) {
        return reviews::handle(call, review).boxed().await;
    }
    let found = call
        .shared
        .registry
        .resource(&info.group, &info.version, &info.resource);
    let Some(resource) = found.cloned() else {
        return paths::not_found(&call);
    };
    placed(&call, &resource)?;
    routable(&call)?;
    let deprecation = resource.info().deprecation;
    // The name of a subresource may be anything yet.
    if deprecation.is_some() && call.info.subresource.is_empty() {
        call.shared.metrics.states.asked_for_deprecated(&call.info);
    }
    call.warnings.extend(deprecation);
    if info.subresource.is_empty() {
        verb(call, resource).await
    } else {
        subresource(call, resource).await
    }
}

/// Checks that the path fits the resource's scope and the method fits the path.
fn placed(call: &Call, resource: &Resource) -> ApiResult<()> {
    let info = &call.info;
    let (named, in_namespace) = (!info.path_name().is_empty(), !info.namespace.is_empty());
    let is_proxy = info.subresource == Subresource::Proxy.name();
    if (info.parts.len() > 3 && !is_proxy) || info.verb == "proxy" {
        return Err(ApiError::no_such_path());
    }
    match resource.info().scope {
        // The path of a namespace has its name where other paths have the namespace.
        Scope::Cluster if in_namespace && info.namespace != info.path_name() => {
            return Err(ApiError::no_such_path());
        }
        Scope::Namespaced if !in_namespace && named => return Err(ApiError::no_such_path()),
        Scope::Namespaced if !in_namespace && !matches!(info.verb, "list" | "watch") => {
            return Err(not_allowed());
        }
        _ => {}
    }
    let is_served =
        |subresource: &Subresource| subresource.name() == info.subresource && SERVED.contains(subresource);
    if !info.subresource.is_empty() && !resource.info().subresources.iter().any(is_served) {
        return Err(ApiError::no_such_path());
    }
    let fits = match call.method {
        Method::DELETE | Method::HEAD | Method::OPTIONS if is_proxy => true,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE if info.verb == "watch" => false,
        Method::GET => true,
        Method::POST => !named || !info.subresource.is_empty(),
        Method::PUT | Method::PATCH => named,
        Method::DELETE => info.subresource.is_empty(),
        _ => false,
    };
    let has = !info.subresource.is_empty() || resource.info().verbs.contains(&info.verb);
    if fits && has { Ok(()) } else { Err(not_allowed()) }
}

/// Checks what the client sends and what it accepts, as upstream's router does before a handler sees the request.
fn routable(call: &Call) -> ApiResult<()> {
    const CONNECTED: [&str; 4] = ["proxy", "exec", "attach", "portforward"];
    if CONNECTED.contains(&call.info.subresource.as_str()) {
        return Ok(());
    }
    if call.method == Method::PATCH && patch_type(&call.headers).is_err() {
        return Err(ApiError::unrouted(
            415,
            "UnsupportedMediaType",
            "415: Unsupported Media Type",
        ));
    }
    if call.info.subresource == Subresource::Log.name() {
        return produced(
            &call.headers,
            &["text/plain", ACCEPTED[0], ACCEPTED[1], ACCEPTED[2]],
        );
    }
    match call.info.verb {
        "list" | "watch" => produced(&call.headers, &LISTED),
        _ => produced(&call.headers, &ACCEPTED),
    }
}

/// 405, as upstream's router words it.
pub(crate) fn not_allowed() -> ApiError {
    let mut error = ApiError::no_such_path();
    error.0.code = Some(405);
    error.0.reason = Some("MethodNotAllowed".into());
    error.0.message = Some("the server does not allow this method on the requested resource".into());
    error
}

async fn verb(call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    match call.info.verb {
        "get" => get(call, resource).boxed().await,
        "list" => list(call, resource).boxed().await,
        "watch" => watch::handle(call, resource).boxed().await,
        "create" => create(call, resource).boxed().await,
        "update" => update(call, resource, Target::Main).boxed().await,
        "patch" => patch(call, resource, Target::Main).boxed().await,
        "delete" => delete(call, resource).boxed().await,
        "deletecollection" => delete_collection(call, resource).boxed().await,
        _ => Err(not_allowed()),
    }
}

/// The subresources that this server serves; the others of a kind are not there.
pub(crate) const SERVED: &[Subresource] = &[
    Subresource::Status,
    Subresource::Scale,
    Subresource::Binding,
    Subresource::Log,
    Subresource::Exec,
    Subresource::Attach,
    Subresource::PortForward,
    Subresource::Eviction,
    Subresource::EphemeralContainers,
    Subresource::Resize,
    Subresource::Token,
    Subresource::Finalize,
    Subresource::Approval,
    Subresource::Proxy,
];

async fn subresource(call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    let subresource = resource
        .info()
        .subresources
        .iter()
        .find(|subresource| subresource.name() == call.info.subresource && SERVED.contains(subresource))
        .copied()
        .ok_or_else(ApiError::no_such_path)?;
    match (subresource, call.info.verb) {
        (Subresource::Scale, _) => scale::handle(call, resource).boxed().await,
        (Subresource::Binding, "create") => binding::pod(call).boxed().await,
        (Subresource::Proxy, _) => proxy::handle(call).boxed().await,
        (Subresource::Log, "get") => logs::handle(call).boxed().await,
        (Subresource::Exec | Subresource::Attach | Subresource::PortForward, "get" | "create") => {
            tunnel::handle(call, subresource).boxed().await
        }
        (Subresource::Eviction, "create") => eviction::handle(call, resource).boxed().await,
        (Subresource::Token, "create") => token_request::handle(call).boxed().await,
        (
            Subresource::Binding
            | Subresource::Log
            | Subresource::Exec
            | Subresource::Attach
            | Subresource::PortForward
            | Subresource::Eviction
            | Subresource::Token,
            _,
        ) => Err(not_allowed()),
        (Subresource::Finalize, "get" | "patch") => Err(not_allowed()),
        (_, "get") => get(call, resource).boxed().await,
        (_, "update") => {
            update(call, resource, Target::Subresource(subresource))
                .boxed()
                .await
        }
        (_, "patch") => {
            patch(call, resource, Target::Subresource(subresource))
                .boxed()
                .await
        }
        _ => Err(not_allowed()),
    }
}

fn view<'a>(call: &Call, strategy: &'a dyn Strategy, accepted: Accepted) -> ApiResult<View<'a>> {
    Ok(View {
        strategy,
        transform: accepted.transform,
        encoding: accepted.encoding,
        meta: accepted.meta,
        include: IncludeObject::read(&call.query, accepted.transform)?,
    })
}

/// Whether the JSON of an answer is to be read by people.
fn indents(call: &Call, accepted: Accepted) -> bool {
    accepted.pretty || pretty::wanted(&call.query, &call.headers)
}

/// An answer about something that is not kept, in the encoding that the client wants.
pub(crate) fn answer(
    call: &Call,
    code: u16,
    object: &(impl Serialize + k8s_openapi::Resource),
) -> ApiResult<Response> {
    encoded(
        call,
        code,
        skiff_api::to_json(object).map_err(ApiError::internal)?,
    )
}

fn encoded(call: &Call, code: u16, mut json: Vec<u8>) -> ApiResult<Response> {
    let accepted = negotiate(&call.headers, true)?;
    if accepted.encoding == Encoding::Json && indents(call, accepted) {
        json = pretty::indented(&json);
    }
    respond::encoded(code, accepted.encoding, json.into())
}

/// An object that is not kept, in the form that the client wants.
pub(crate) fn shown<K: Kind>(call: &Call, mut object: K) -> ApiResult<Response> {
    let strategy = Typed::<K>::new();
    let version = Object::metadata_mut(&mut object).resource_version.take();
    let revision = version.and_then(|version| version.parse().ok());
    let entry = Entry::unstored(&strategy, &object, revision.unwrap_or(0))?;
    object_of(call, &strategy, 200, &entry)
}

fn object(call: &Call, resource: &Resource, code: u16, entry: &Entry) -> ApiResult<Response> {
    object_of(call, resource.strategy().as_ref(), code, entry)
}

fn object_of(call: &Call, strategy: &dyn Strategy, code: u16, entry: &Entry) -> ApiResult<Response> {
    let accepted = negotiate(&call.headers, true)?;
    let mut bytes = view(call, strategy, accepted)?.object(entry)?;
    if accepted.encoding == Encoding::Json && indents(call, accepted) {
        bytes = pretty::indented(&bytes).into();
    }
    Ok(respond::object(code, accepted.encoding, [bytes]))
}

fn written(call: &Call, resource: &Resource, written: &Written) -> ApiResult<Response> {
    let code = if written.created { 201 } else { 200 };
    object(call, resource, code, &written.entry)
}

async fn get(call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    negotiate(&call.headers, true)?;
    let (namespace, name) = call.place(&resource);
    let version = call
        .query
        .get("resourceVersion")
        .filter(|version| !version.is_empty());
    let entry = resource.get_not_older(namespace, name, version).await?;
    object(&call, &resource, 200, &entry)
}

async fn list(call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    let accepted = negotiate(&call.headers, true)?;
    let list = resource
        .list(&options::list(&call.query, &call.info.namespace)?)
        .await?;
    let segments = view(&call, resource.strategy().as_ref(), accepted)?.list(&list)?;
    listed(&call, accepted, segments)
}

/// The answer of a list.
fn listed(call: &Call, accepted: Accepted, segments: Vec<Bytes>) -> ApiResult<Response> {
    match accepted.encoding {
        Encoding::Json if indents(call, accepted) => {
            let text = pretty::indented(&segments.concat());
            Ok(respond::object(200, Encoding::Json, [text.into()]))
        }
        encoding => Ok(respond::object(200, encoding, segments)),
    }
}

async fn create(mut call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    negotiate(&call.headers, true)?;
    let mut options = call.tracked_options("CreateOptions")?;
    let body = call.read_written(&mut options, &resource.info().kind).await?;
    let (namespace, _) = call.place(&resource);
    let mut made = resource.create(namespace, &body, &options).await?;
    made.created = true;
    written(&call, &resource, &made)
}

async fn update(mut call: Call, resource: Arc<Resource>, target: Target) -> ApiResult<Response> {
    negotiate(&call.headers, true)?;
    let mut options = call.tracked_options("UpdateOptions")?;
    let body = call.read_written(&mut options, &resource.info().kind).await?;
    let (namespace, name) = call.place(&resource);
    let changed = resource
        .update(namespace, name, target, &body, &options)
        .boxed()
        .await?;
    written(&call, &resource, &changed)
}

async fn patch(mut call: Call, resource: Arc<Resource>, target: Target) -> ApiResult<Response> {
    let type_ = patch_type(&call.headers)?;
    negotiate(&call.headers, true)?;
    let options = call.patch_options(type_)?;
    let body = call.read_body().await?;
    let (namespace, name) = call.place(&resource);
    let changed = resource
        .patch(namespace, name, target, type_, &body, &options)
        .boxed()
        .await?;
    written(&call, &resource, &changed)
}

/// The type of a patch, from the body's type.
pub(crate) fn patch_type(headers: &HeaderMap) -> ApiResult<PatchType> {
    match request_body::content_type(headers).as_str() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        _ => Err(ApiError::not_consumed()),
    }
}

async fn delete(mut call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    negotiate(&call.headers, true)?;
    let body = call.read_object().await?;
    let options = options::delete(&call.query, &body)?;
    let write = WriteOptions {
        dry_run: options.dry_run,
        user: call.user.as_ref().clone(),
        warnings: call.warnings.clone(),
        ..Default::default()
    };
    call.warnings.extend(of_orphans(&resource, &options));
    let (namespace, name) = call.place(&resource);
    match resource.delete(namespace, name, &options, &write).await? {
        Deleted::Marked(entry) => {
            // Upstream's answer to those who ask for dependents to go first by the field from before the policies.
            let code = if options.orphan_dependents == Some(false) {
                202
            } else {
                200
            };
            object(&call, &resource, code, &entry)
        }
        Deleted::Removed(entry) if resource.info().returns_deleted => object(&call, &resource, 200, &entry),
        Deleted::Removed(entry) => {
            let status = respond::success(deleted_details(&resource, &entry)?);
            encoded(&call, 200, respond::status_json(&status))
        }
    }
}

/// What to say to a client that does not say what is to become of dependents, where they stay.
fn of_orphans(resource: &Resource, options: &DeleteOptions) -> Option<&'static str> {
    match resource.info().dependents {
        Dependents::Orphaned(warning)
            if options.propagation.is_none()
                && options.orphan_dependents.is_none()
                && !warning.is_empty() =>
        {
            Some(warning)
        }
        _ => None,
    }
}

fn deleted_details(resource: &Resource, entry: &Entry) -> ApiResult<StatusDetails> {
    #[derive(serde::Deserialize)]
    struct Head {
        metadata: ObjectMeta,
    }
    let head: Head = serde_json::from_slice(entry.json()).map_err(ApiError::internal)?;
    let info = resource.info();
    Ok(StatusDetails {
        name: Some(entry.name().to_string()),
        group: (!info.group.is_empty()).then(|| info.group.to_string()),
        kind: Some(info.plural.to_string()),
        uid: head.metadata.uid,
        ..StatusDetails::default()
    })
}

async fn delete_collection(mut call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    let accepted = negotiate(&call.headers, true)?;
    let body = call.read_object().await?;
    let delete = options::delete(&call.query, &body)?;
    let write = WriteOptions {
        dry_run: delete.dry_run,
        user: call.user.as_ref().clone(),
        warnings: call.warnings.clone(),
        ..Default::default()
    };
    call.warnings.extend(of_orphans(&resource, &delete));
    let list = options::list(&call.query, &call.info.namespace)?;
    let deleted = resource.delete_collection(&list, &delete, &write).boxed().await?;
    let segments = view(&call, resource.strategy().as_ref(), accepted)?.list(&deleted)?;
    listed(&call, accepted, segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_takes_too_long_is_given_up() {
        let began = tokio::time::Instant::now();
        let error = in_time(std::future::pending::<ApiResult<()>>())
            .await
            .unwrap_err();
        assert_eq!(began.elapsed(), Duration::from_secs(34));
        assert_eq!(
            (error.code(), error.reason(), error.to_string().as_str()),
            (
                504,
                "Timeout",
                "Timeout: request did not complete within requested timeout - context deadline exceeded"
            )
        );
        let slow = async {
            tokio::time::sleep(Duration::from_secs(33)).await;
            Ok(1)
        };
        assert_eq!(in_time(slow).await.unwrap(), 1);
    }
}
