//! Giving each request its turn, or sending it away for now.

use std::sync::Arc;

use http::HeaderValue;
use http::header::{RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};

use crate::flow::{Busy, Uids};
use crate::http::request_info::RequestInfo;
use crate::http::{Response, respond};
use crate::server::Shared;
use crate::user::UserInfo;

/// The answer, when it is the request's turn.
pub(super) async fn in_turn(
    shared: &Shared,
    info: &Arc<RequestInfo>,
    user: &Arc<UserInfo>,
    answer: impl Future<Output = Response>,
) -> Response {
    let watches = info.verb == "watch";
    // What lasts as long as the client likes would keep its seat as long; a watch has one until it has begun.
    if info.is_long_running() && !watches {
        return answer.await;
    }
    match shared.flow.turn(info, user).await {
        Ok(turn) => {
            let mut response = answer.await;
            name(&mut response, &turn.uids);
            if !watches {
                response.body_mut().hold(turn);
            }
            response
        }
        Err(busy) => refuse(&busy),
    }
}

/// Tells the client by which schema and level its request was handled.
fn name(response: &mut Response, (schema, level): &Uids) {
    let headers = [
        ("x-kubernetes-pf-flowschema-uid", schema),
        ("x-kubernetes-pf-prioritylevel-uid", level),
    ];
    for (name, uid) in headers {
        if let Ok(uid) = HeaderValue::from_str(uid) {
            response.headers_mut().insert(name, uid);
        }
    }
}

/// As Go's servers refuse in few words.
fn refuse(busy: &Busy) -> Response {
    let mut response = respond::text(429, "Too many requests, please try again later.\n");
    name(&mut response, &busy.uids);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(busy.wait));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
