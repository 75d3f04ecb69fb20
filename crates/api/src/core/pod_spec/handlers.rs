//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1::{
    ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{given, non_negative, slice};
use crate::field::{Errors, Path};
use crate::names;

const MORE_THAN_ONE: &str = "may not specify more than 1 handler type";

/// What a probe or a hook does; exactly one of these.
#[derive(Default)]
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

/// Checks the number or the name of a port.
pub(in crate::core) fn check_port(port: &IntOrString, path: &Path, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => {
            for message in names::port_number(*number) {
                errors.invalid(path, number, message);
            }
        }
        IntOrString::String(name) => super::invalid_each(path, name, names::port_name(name), errors),
    }
}

fn validate_http(http: &HTTPGetAction, path: &Path, errors: &mut Errors) {
    if given(&http.path).is_none() {
        errors.required(&path.child("path"), "");
    }
    check_port(&http.port, &path.child("port"), errors);
    let scheme = http.scheme.as_deref().unwrap_or_default();
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in slice(&http.http_headers) {
        let messages = names::http_header_name(&header.name);
        super::invalid_each(&path.child("httpHeaders"), &header.name, messages, errors);
    }
}

impl Handler<'_> {
    fn validate(&self, grace: Option<i64>, path: &Path, errors: &mut Errors) {
        let mut count = 0;
        let mut first = |name: &str, errors: &mut Errors| {
            count += 1;
            if count > 1 {
                errors.forbidden(&path.child(name), MORE_THAN_ONE);
            }
            count == 1
        };
        if let Some(exec) = self.exec
            && first("exec", errors)
            && slice(&exec.command).is_empty()
        {
            errors.required(&path.child("exec").child("command"), "");
        }
        if let Some(http) = self.http_get
            && first("httpGet", errors)
        {
            validate_http(http, &path.child("httpGet"), errors);
        }
        if let Some(tcp) = self.tcp_socket
            && first("tcpSocket", errors)
        {
            check_port(&tcp.port, &path.child("tcpSocket").child("port"), errors);
        }
        if let Some(grpc) = self.grpc
            && first("grpc", errors)
        {
            check_port(
                &IntOrString::Int(grpc.port),
                &path.child("grpc").child("port"),
                errors,
            );
        }
        if let Some(sleep) = self.sleep
            && first("sleep", errors)
            && let Some(grace) = grace
            && !(0..=grace).contains(&sleep.seconds)
        {
            errors.invalid(
                &path.child("sleep"),
                sleep.seconds,
                format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
            );
        }
        if count == 0 {
            errors.required(path, "must specify a handler type");
        }
    }
}

fn validate_hook(hook: &LifecycleHandler, grace: Option<i64>, path: &Path, errors: &mut Errors) {
    let handler = Handler {
        exec: hook.exec.as_ref(),
        http_get: hook.http_get.as_ref(),
        tcp_socket: hook.tcp_socket.as_ref(),
        sleep: hook.sleep.as_ref(),
        grpc: None,
    };
    handler.validate(grace, path, errors);
}

/// Checks the hooks of a container.
pub(super) fn validate_lifecycle(
    lifecycle: &Lifecycle,
    grace: Option<i64>,
    path: &Path,
    errors: &mut Errors,
) {
    if let Some(hook) = &lifecycle.post_start {
        validate_hook(hook, grace, &path.child("postStart"), errors);
    }
    if let Some(hook) = &lifecycle.pre_stop {
        validate_hook(hook, grace, &path.child("preStop"), errors);
    }
}

/// Which of a container's probes it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Liveness,
    Readiness,
    Startup,
}

/// Checks a probe.
pub(super) fn validate_probe(
    probe: &Probe,
    purpose: Purpose,
    grace: Option<i64>,
    path: &Path,
    errors: &mut Errors,
) {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handler.validate(grace, path, errors);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers {
        non_negative(i64::from(number.unwrap_or(0)), &path.child(name), errors);
    }
    let own_grace = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = probe.termination_grace_period_seconds {
        if seconds <= 0 {
            errors.invalid(&own_grace, seconds, "must be greater than 0");
        }
        if purpose == Purpose::Readiness {
            errors.invalid(&own_grace, seconds, "must not be set for readinessProbes");
        }
    }
    let successes = probe.success_threshold.unwrap_or(0);
    if purpose != Purpose::Readiness && successes != 1 {
        errors.invalid(&path.child("successThreshold"), successes, "must be 1");
    }
}
