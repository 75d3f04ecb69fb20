//! Runs a container's lifecycle hooks.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cri::Cri;
use crate::probe::http;

/// A port by number or by its name in the container.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => {
                container
                    .ports
                    .iter()
                    .flatten()
                    .find(|p| p.name.as_deref() == Some(name))?
                    .container_port
            }
        },
    };
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// Where an HTTP request of a hook or probe goes.
pub(crate) fn http_target(
    container: &Container,
    action: &HTTPGetAction,
    pod_ip: &str,
) -> Result<http::Target, String> {
    let host = action
        .host
        .clone()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| pod_ip.to_string());
    let port = port(container, &action.port).ok_or_else(|| match &action.port {
        IntOrString::String(name) => format!("couldn't find port: {name}"),
        IntOrString::Int(number) => format!("invalid port number: {number}"),
    })?;
    let headers = action.http_headers.iter().flatten();
    Ok(http::Target {
        tls: action
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host,
        port,
        path: action.path.clone().unwrap_or_default(),
        headers: headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    })
}

/// Runs a handler to its end.
///
/// # Errors
/// The text for the container's event.
pub(crate) async fn run(
    cri: &Cri,
    container: &Container,
    id: &str,
    handler: &LifecycleHandler,
    pod_ip: &str,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let text = command.join(" ");
        let answer = cri
            .exec_sync(id, command, limit)
            .await
            .map_err(|error| format!("Exec lifecycle hook ([{text}]) failed: {error}"))?;
        return match answer.exit_code {
            0 => Ok(()),
            code => {
                let output = String::from_utf8_lossy(&answer.stderr).into_owned();
                let message = format!("command '{text}' exited with {code}: {output}");
                Err(format!(
                    "Exec lifecycle hook ([{text}]) failed - error: {message}, message: {output:?}"
                ))
            }
        };
    }
    if let Some(action) = &handler.http_get {
        let target = http_target(container, action, pod_ip)?;
        let answer = http::get(&target, limit)
            .await
            .map_err(|error| format!("HTTP lifecycle hook ({}) failed - error: {error}", target.path))?;
        return if (200..400).contains(&answer.status) {
            Ok(())
        } else {
            Err(format!(
                "HTTP lifecycle hook ({}) failed with status {}",
                target.path, answer.status
            ))
        };
    }
    if let Some(sleep) = &handler.sleep {
        // The hook is the sleep.
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Ok(())
}
