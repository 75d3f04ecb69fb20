//! Whole pages, as kubectl lays them out.

use super::*;
use serde_json::json;

/// The page of an object, an hour after 2026-11-20T06:00:00Z.
fn told(group: &str, object: &Value, related: Vec<Value>, events: Vec<Value>) -> String {
    let kind = text(object, "/kind").to_string();
    let resource = Resource {
        group: group.into(),
        kind,
        ..Resource::default()
    };
    let told = Told {
        object,
        related: related.into_iter().map(Ok).collect(),
        events: Some(events),
    };
    let mut page = Page::new("2026-11-20T07:00:00Z".parse().unwrap(), TimeZone::UTC);
    (story(&resource).tell)(&told, &mut page);
    page.finish()
}

fn list(items: &[Value]) -> Value {
    json!({ "items": items })
}

const TIME: &str = "2026-11-20T06:00:00Z";

#[test]
fn a_pod() {
    let pod = json!({
            "kind": "Pod",
            "metadata": {
                "name": "web-1-x", "namespace": "default", "labels": {"app": "web"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "a\nb"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": true}]},
            "spec": {
                "priority": 0, "serviceAccountName": "default", "nodeName": "node-1",
                "containers": [{
                    "name": "web", "image": "nginx", "command": ["sleep"], "args": ["1"],
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}},
                    "env": [{"name": "A", "value": "b"}, {"name": "ME", "valueFrom": {"fieldRef": {
                        "apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "data", "emptyDir": {}}],
                "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
            "status": {
                "phase": "Running", "hostIP": "172.17.0.2", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}],
                "startTime": TIME, "qosClass": "Burstable", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{
                    "name": "web", "containerID": "skiff://1", "imageID": "sha256:0", "ready": true, "restartCount": 2,
                    "state": {"running": {"startedAt": TIME}},
                    "lastState": {"terminated": {
                        "exitCode": 1, "reason": "Error", "startedAt": TIME, "finishedAt": TIME}}}]}});
    let events = vec![
        json!({
                "type": "Warning", "reason": "BackOff", "message": "again\n", "count": 3,
                "firstTimestamp": TIME, "lastTimestamp": "2026-11-20T06:59:00Z", "source": {"component": "kubelet"}}),
        json!({
                "type": "Normal", "reason": "Scheduled", "message": "assigned",
                "eventTime": "2026-11-20T06:00:00.000000Z", "reportingComponent": "default-scheduler"}),
    ];
    let expected = "\
Name:             web-1-x
Namespace:        default
Priority:         0
Service Account:  default
Node:             node-1/172.17.0.2
Start Time:       Fri, 20 Nov 2026 06:00:00 +0000
Labels:           app=web
Annotations:      note:
                    a
                    b
Status:           Running
IP:               10.244.0.5
IPs:
  IP:           10.244.0.5
Controlled By:  ReplicaSet/web-1
Containers:
  web:
    Container ID:  skiff://1
    Image:         nginx
    Image ID:      sha256:0
    Port:          80/TCP
    Host Port:     0/TCP
    Command:
      sleep
    Args:
      1
    State:          Running
      Started:      Fri, 20 Nov 2026 06:00:00 +0000
    Last State:     Terminated
      Reason:       Error
      Exit Code:    1
      Started:      Fri, 20 Nov 2026 06:00:00 +0000
      Finished:     Fri, 20 Nov 2026 06:00:00 +0000
    Ready:          True
    Restart Count:  2
    Limits:
      cpu:  1
    Requests:
      cpu:  500m
    Environment:
      A:   b
      ME:  web-1-x (v1:metadata.name)
    Mounts:
      /data from data (rw)
Conditions:
  Type    Status
  Ready   True\x20
Volumes:
  data:
    Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:\x20\x20\x20\x20\x20\x20
    SizeLimit:   <unset>
QoS Class:       Burstable
Node-Selectors:  <none>
Tolerations:     k:NoExecute op=Exists for 300s
Events:
  Type     Reason     Age                From               Message
  ----     ------     ----               ----               -------
  Normal   Scheduled  60m                default-scheduler  assigned
  Warning  BackOff    60s (x3 over 60m)  kubelet            again
";
    let page = told("", &pod, vec![], events);
    let plain = |text: &str| {
        text.lines()
            .map(|line| line.trim_end().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(plain(&page), plain(expected), "{page}");
}

#[test]
fn a_deployment() {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "web", "image": "nginx"}]}});
    let deployment = json!({
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "creationTimestamp": TIME},
            "spec": {
                "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}},
            "status": {
                "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2, "unavailableReplicas": 1,
                "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]}});
    let set = json!({
            "metadata": {"name": "web-1", "ownerReferences": [{"controller": true, "uid": "u"}]},
            "spec": {"replicas": 3, "template": template}, "status": {"replicas": 3}});
    let expected = "\
Name:                   web
Namespace:              default
CreationTimestamp:      Fri, 20 Nov 2026 06:00:00 +0000
Labels:                 <none>
Annotations:            <none>
Selector:               app=web
Replicas:               3 desired | 3 updated | 3 total | 2 available | 1 unavailable
StrategyType:           RollingUpdate
MinReadySeconds:        0
RollingUpdateStrategy:  1 max unavailable, 25% max surge
Pod Template:
  Labels:  app=web
  Containers:
   web:
    Image:         nginx
    Port:          <none>
    Host Port:     <none>
    Environment:   <none>
    Mounts:        <none>
  Volumes:         <none>
  Node-Selectors:  <none>
  Tolerations:     <none>
Conditions:
  Type           Status  Reason
  ----           ------  ------
  Available      True    MinimumReplicasAvailable
OldReplicaSets:  <none>
NewReplicaSet:   web-1 (3/3 replicas created)
Events:          <none>
";
    assert_eq!(told("apps", &deployment, vec![list(&[set])], vec![]), expected);
}

#[test]
fn a_replica_set_counts_the_pods_that_it_controls() {
    let pod = |phase: &str, uid: &str| {
        json!({
                "metadata": {"ownerReferences": [{"controller": true, "uid": uid}]}, "status": {"phase": phase}})
    };
    let pods = list(&[pod("Running", "u"), pod("Pending", "u"), pod("Running", "other")]);
    let set = json!({
            "kind": "ReplicaSet", "metadata": {"name": "web-1", "uid": "u"}, "spec": {"replicas": 2},
            "status": {"replicas": 2}});
    let page = told("apps", &set, vec![pods], vec![]);
    assert!(page.contains("Replicas:     2 current / 2 desired\n"), "{page}");
    assert!(
        page.contains("Pods Status:  1 Running / 1 Waiting / 0 Succeeded / 0 Failed\n"),
        "{page}"
    );
}

#[test]
fn a_node_with_what_runs_on_it() {
    let node = json!({
            "kind": "Node",
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}, "creationTimestamp": TIME},
            "spec": {"podCIDR": "10.244.0.0/24"},
            "status": {
                "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "110"},
                "addresses": [{"type": "Hostname", "address": "n"}]}});
    let lease = json!({"spec": {"holderIdentity": "n", "renewTime": "2026-11-20T06:00:00.5Z"}});
    let pod = json!({
            "metadata": {"name": "p", "namespace": "default", "creationTimestamp": TIME},
            "spec": {"containers": [{"name": "c", "resources": {
                "requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}}]}});
    let page = told("", &node, vec![lease, list(&[pod])], vec![]);
    for part in [
        "Roles:              control-plane\n",
        "Lease:\n  HolderIdentity:  n\n  AcquireTime:     <unset>\n  RenewTime:       Fri, 20 Nov 2026 06:00:00 +0000\n",
        "Non-terminated Pods:          (1 in total)\n",
        "  default                     p       500m (25%)    0 (0%)      256Mi (25%)      512Mi (50%)    60m\n",
        "  cpu                500m (25%)   0 (0%)\n  memory             256Mi (25%)  512Mi (50%)\n",
        "Events:              <none>\n",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[test]
fn a_service_with_what_stands_behind_it() {
    let service = json!({
            "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "type": "ClusterIP", "selector": {"app": "web"}, "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
                "sessionAffinity": "None", "ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}]}});
    let slice = json!({"ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.244.0.5"]}]});
    let expected = "\
Name:              web
Namespace:         default
Labels:            <none>
Annotations:       <none>
Selector:          app=web
Type:              ClusterIP
IP Families:       <none>
IP:                10.96.0.5
IPs:               10.96.0.5
Port:              <unset>  80/TCP
TargetPort:        http/TCP
Endpoints:         10.244.0.5:8080
Session Affinity:  None
Events:            <none>
";
    assert_eq!(told("", &service, vec![list(&[slice])], vec![]), expected);
}

#[test]
fn what_holds_data() {
    let head = "Name:         a\nNamespace:    n\nLabels:       <none>\nAnnotations:  <none>\n";
    let metadata = json!({"name": "a", "namespace": "n"});
    let config_map = json!({
            "kind": "ConfigMap", "metadata": metadata, "data": {"k": "v"}, "binaryData": {"b": "YWI="}});
    let expected =
        format!("{head}\nData\n====\nk:\n----\nv\n\n\nBinaryData\n====\nb: 2 bytes\n\nEvents:  <none>\n");
    assert_eq!(told("", &config_map, vec![], vec![]), expected);
    let secret = json!({"kind": "Secret", "metadata": metadata, "type": "Opaque", "data": {"k": "YWI="}});
    let expected = format!("{head}\nType:  Opaque\n\nData\n====\nk:  2 bytes\n");
    assert_eq!(told("", &secret, vec![], vec![]), expected);
}

#[test]
fn accounts_namespaces_and_kinds_without_a_story() {
    let account = json!({
            "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "n"},
            "imagePullSecrets": [{"name": "there"}, {"name": "gone"}]});
    let page = told(
        "",
        &account,
        vec![list(&[json!({"metadata": {"name": "there"}})])],
        vec![],
    );
    assert!(
        page.contains("Image pull secrets:  there\n                     gone (not found)\n"),
        "{page}"
    );

    let namespace = json!({"kind": "Namespace", "metadata": {"name": "n"}, "status": {"phase": "Active"}});
    let page = told("", &namespace, vec![list(&[]), list(&[])], vec![]);
    let head = "Name:         n\nLabels:       <none>\nAnnotations:  <none>\nStatus:       Active\n";
    assert_eq!(
        page,
        format!("{head}\nNo resource quota.\n\nNo LimitRange resource.\n")
    );

    let widget = json!({
            "apiVersion": "e/v1", "kind": "Widget", "metadata": {"name": "w", "uid": "u"},
            "spec": {"size": 3, "parts": ["a", {"urlPath": "b"}], "none": null}});
    let expected = "\
Name:         w
Namespace:    
Labels:       <none>
Annotations:  <none>
API Version:  e/v1
Kind:         Widget
Metadata:
  UID:  u
Spec:
  None:  <nil>
  Parts:
    a
    URL Path:  b
  Size:        3
Events:        <none>
";
    assert_eq!(told("e", &widget, vec![], vec![]), expected);
}

#[test]
fn an_endpoint_slice() {
    let slice = json!({
        "kind": "EndpointSlice", "metadata": {"name": "s-1", "namespace": "n"}, "addressType": "IPv4",
        "ports": [{"port": 80, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "n1",
            "targetRef": {"kind": "Pod", "name": "p"}}]});
    let expected = "\
Name:         s-1
Namespace:    n
Labels:       <none>
Annotations:  <none>
AddressType:  IPv4
Ports:
  Name     Port  Protocol
  ----     ----  --------
  <unset>  80    TCP
Endpoints:
  - Addresses:  10.0.0.1
    Conditions:
      Ready:    true
    Hostname:   <unset>
    TargetRef:  Pod/p
    NodeName:   n1
    Zone:       <unset>
Events:         <none>
";
    assert_eq!(told("discovery.k8s.io", &slice, vec![], vec![]), expected);
}
