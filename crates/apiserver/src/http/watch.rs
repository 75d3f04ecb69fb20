//! The watch handler: a stream of events as the body of a response, or over a WebSocket.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::error::{ApiError, ApiResult};
use crate::http::accept::{Encoding, PROTOBUF_STREAM, negotiate_stream};
use crate::http::resources::Call;
use crate::http::transform::{IncludeObject, View};
use crate::http::{Response, ResponseBody, options, respond, websocket};
use crate::registry::{Resource, WatchOptions};

/// Answers with the changes of the objects that match.
pub(crate) async fn handle(mut call: Call, resource: Arc<Resource>) -> ApiResult<Response> {
    let accepted = negotiate_stream(&call.headers)?;
    let include = IncludeObject::read(&call.query, accepted.transform)?;
    let mut options = options::watch(&call.query, call.place(&resource).0)?;
    select_name(&mut options, call.info.path_name())?;
    let socket = websocket::asked_for(&call.headers)
        .then(|| websocket::Handshake::read(&mut call))
        .transpose()?;
    let frames = resource.watch(options).await?;
    let strategy = resource.strategy().clone();
    let count = call.shared.metrics.watch_events(resource.info());
    let mut first = true;
    let events = frames
        .take_until(call.shared.shutdown.clone().cancelled_owned())
        .map(move |frame| {
            let view = View {
                strategy: strategy.as_ref(),
                transform: accepted.transform,
                encoding: accepted.encoding,
                meta: accepted.meta,
                include,
            };
            count.fetch_add(1, Ordering::Relaxed);
            view.event(&frame, std::mem::take(&mut first))
        });
    // A client that lost an event without knowing would be wrong forever; one whose watch ends begins another.
    let events: BoxStream<'static, Bytes> = events
        .scan((), |(), event| {
            let event =
                event.inspect_err(|error| tracing::error!(%error, "a watch event could not be written"));
            std::future::ready(event.ok())
        })
        .boxed();
    let content_type = match accepted.encoding {
        Encoding::Protobuf => PROTOBUF_STREAM,
        encoding => encoding.content_type(),
    };
    Ok(match socket {
        Some(socket) => socket.accept(content_type, accepted.encoding, events),
        None => respond::typed(200, content_type, ResponseBody::stream(events)),
    })
}

/// The legacy paths name an object where others select it.
fn select_name(options: &mut WatchOptions, name: &str) -> ApiResult<()> {
    if name.is_empty() {
        return Ok(());
    }
    let named = format!("metadata.name={name}");
    if options.field_selector.is_empty() {
        options.field_selector = named;
        return Ok(());
    }
    let selects_it = options
        .field_selector
        .split(',')
        .any(|term| term.replace("==", "=") == named);
    if selects_it {
        Ok(())
    } else {
        Err(ApiError::bad_request(
            "fieldSelector metadata.name doesn't match requested name",
        ))
    }
}
