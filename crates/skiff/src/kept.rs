//! What the controllers and the scheduler keep of the objects that they watch: not what only a pod's own kubelet reads,
//! which is most of a pod, and there are thousands of them. The kubelet has informers of its own.

use k8s_openapi::api::core::v1::{Container, Pod};

/// What `kubectl apply` writes for itself: the whole manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Takes out of a pod what says how its containers run.
pub(crate) fn pod(pod: &mut Pod) {
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(spec) = &mut pod.spec {
        let init = spec.init_containers.iter_mut().flatten();
        spec.containers.iter_mut().chain(init).for_each(container);
        // A list that was decoded has room for several times what it holds.
        spec.containers.shrink_to_fit();
        shrink(&mut spec.volumes);
        shrink(&mut spec.tolerations);
    }
    if let Some(status) = &mut pod.status {
        shrink(&mut status.conditions);
        shrink(&mut status.container_statuses);
    }
}

fn container(container: &mut Container) {
    *container = Container {
        env: None,
        env_from: None,
        command: None,
        args: None,
        volume_mounts: None,
        lifecycle: None,
        liveness_probe: None,
        readiness_probe: None,
        startup_probe: None,
        ..std::mem::take(container)
    };
}

fn shrink<T>(list: &mut Option<Vec<T>>) {
    if let Some(list) = list {
        list.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_keeps_all_but_what_its_kubelet_alone_reads() {
        let probe = json!({ "httpGet": { "port": 80 } });
        let both = json!({ "name": "main", "image": "web:1", "ports": [{ "containerPort": 80, "name": "http" }],
            "resources": { "requests": { "cpu": "1" } }, "restartPolicy": "Always" });
        let mut whole = both.clone();
        for (member, value) in [
            ("env", json!([{ "name": "A", "value": "x" }])),
            ("envFrom", json!([{ "configMapRef": { "name": "c" } }])),
            ("command", json!(["sh"])),
            ("args", json!(["-c", "true"])),
            ("volumeMounts", json!([{ "name": "v", "mountPath": "/v" }])),
            (
                "lifecycle",
                json!({ "preStop": { "exec": { "command": ["true"] } } }),
            ),
            ("livenessProbe", probe.clone()),
            ("readinessProbe", probe.clone()),
            ("startupProbe", probe),
        ] {
            whole[member] = value;
        }
        let with = |container: &serde_json::Value, annotations: serde_json::Value| {
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "annotations": annotations },
                "spec": { "containers": [container], "initContainers": [container], "nodeName": "n",
                    "volumes": [{ "name": "v", "emptyDir": {} }], "tolerations": [{ "operator": "Exists" }] },
                "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }],
                    "containerStatuses": [{ "name": "main", "ready": true, "restartCount": 0, "image": "web:1",
                        "imageID": "sha256:0" }] } })
        };
        let annotations = json!({ LAST_APPLIED: "{}", "other": "stays" });
        let mut read: Pod = serde_json::from_value(with(&whole, annotations)).unwrap();
        pod(&mut read);
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            with(&both, json!({ "other": "stays" }))
        );
        let spec = read.spec.unwrap();
        assert_eq!(spec.tolerations.unwrap().capacity(), 1);
    }
}
