"""The typed clients: each group's own API, its patches, its subresources, its answers."""

import datetime
import os
import tempfile

import kubernetes
from kubernetes import client, utils

from objects import CERTIFICATE_REQUEST, minimal
from scope import InNamespace, eventually


def camel(name):
    """`V1PodDisruptionBudget` as the client's methods spell it: `pod_disruption_budget`."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).strip("_")


# client class, group, version, kind
TYPED = [
    ("CoreV1Api", "", "v1", "ConfigMap"),
    ("CoreV1Api", "", "v1", "Endpoints"),
    ("CoreV1Api", "", "v1", "LimitRange"),
    ("CoreV1Api", "", "v1", "Node"),
    ("CoreV1Api", "", "v1", "PersistentVolume"),
    ("CoreV1Api", "", "v1", "PersistentVolumeClaim"),
    ("CoreV1Api", "", "v1", "Pod"),
    ("CoreV1Api", "", "v1", "PodTemplate"),
    ("CoreV1Api", "", "v1", "ReplicationController"),
    ("CoreV1Api", "", "v1", "ResourceQuota"),
    ("CoreV1Api", "", "v1", "Secret"),
    ("CoreV1Api", "", "v1", "Service"),
    ("CoreV1Api", "", "v1", "ServiceAccount"),
    ("ApiextensionsV1Api", "apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("AppsV1Api", "apps", "v1", "DaemonSet"),
    ("AppsV1Api", "apps", "v1", "Deployment"),
    ("AppsV1Api", "apps", "v1", "ReplicaSet"),
    ("AppsV1Api", "apps", "v1", "StatefulSet"),
    ("AutoscalingV2Api", "autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("BatchV1Api", "batch", "v1", "CronJob"),
    ("BatchV1Api", "batch", "v1", "Job"),
    ("CertificatesV1Api", "certificates.k8s.io", "v1", "CertificateSigningRequest"),
    ("CoordinationV1Api", "coordination.k8s.io", "v1", "Lease"),
    ("DiscoveryV1Api", "discovery.k8s.io", "v1", "EndpointSlice"),
    ("FlowcontrolApiserverV1Api", "flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"),
    ("NetworkingV1Api", "networking.k8s.io", "v1", "Ingress"),
    ("NetworkingV1Api", "networking.k8s.io", "v1", "IngressClass"),
    ("NetworkingV1Api", "networking.k8s.io", "v1", "NetworkPolicy"),
    ("NodeV1Api", "node.k8s.io", "v1", "RuntimeClass"),
    ("PolicyV1Api", "policy", "v1", "PodDisruptionBudget"),
    ("SchedulingV1Api", "scheduling.k8s.io", "v1", "PriorityClass"),
    ("StorageV1Api", "storage.k8s.io", "v1", "CSIDriver"),
    ("StorageV1Api", "storage.k8s.io", "v1", "StorageClass"),
    ("StorageV1Api", "storage.k8s.io", "v1", "VolumeAttachment"),
]
CLUSTER_WIDE = {
    "CSIDriver",
    "CertificateSigningRequest",
    "CustomResourceDefinition",
    "FlowSchema",
    "IngressClass",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "VolumeAttachment",
}


class TypedClients(InNamespace):
    def test_each_kind_goes_through_its_life(self):
        for api, group, version, kind in TYPED:
            with self.subTest(kind):
                self.life(getattr(client, api)(), group, version, kind)

    def life(self, api, group, version, kind):
        word = camel(kind).replace("c_s_i", "csi")
        scope = [] if kind in CLUSTER_WIDE else [self.namespace]
        word = word if kind in CLUSTER_WIDE else f"namespaced_{word}"
        call = lambda verb, *arguments, **named: getattr(api, f"{verb}_{word}")(*arguments, **named)
        body = minimal(group, version, kind, f"typed-{kind.lower()}", *scope)
        name = body["metadata"]["name"]
        created = call("create", *scope, body)
        self.assertEqual((created.metadata.name, created.metadata.namespace), (name, (scope + [None])[0]))
        self.assertIsInstance(created.metadata.creation_timestamp, datetime.datetime)
        self.assertIn(name, [item.metadata.name for item in call("list", *scope).items])

        # The client chooses the content type by the body: a list is a JSON patch, an object a strategic one.
        call("patch", name, *scope, {"metadata": {"labels": {"object": "yes"}}})
        call("patch", name, *scope, [{"op": "add", "path": "/metadata/labels/list", "value": "yes"}])
        applied = {
            "apiVersion": body["apiVersion"],
            "kind": kind,
            "metadata": {"name": name, "labels": {"applied": "yes"}},
        }
        call(
            "patch",
            name,
            *scope,
            applied,
            field_manager="typed",
            _content_type="application/apply-patch+yaml",
        )
        read = call("read", name, *scope)
        self.assertEqual(
            read.metadata.labels, {"app": "clients", "object": "yes", "list": "yes", "applied": "yes"}
        )

        def replace():
            read = call("read", name, *scope)
            read.metadata.annotations = {**(read.metadata.annotations or {}), "replaced": "yes"}
            try:
                return call("replace", name, *scope, read)
            except client.ApiException as error:
                self.assertEqual(error.status, 409, error.body)

        replaced = eventually("the update", replace)
        self.assertEqual(replaced.metadata.annotations["replaced"], "yes")
        call("delete", name, *scope)
        eventually("it is gone", lambda: name not in [item.metadata.name for item in call("list", *scope).items])
        self.refused(404, "NotFound", getattr(api, f"read_{word}"), name, *scope)

    def test_the_server_and_its_groups_introduce_themselves(self):
        version = client.VersionApi().get_code()
        self.assertEqual((version.major, version.minor), ("1", "37"))
        groups = {group.name: group.preferred_version.version for group in client.ApisApi().get_api_versions().groups}
        self.assertEqual((groups["apps"], groups["autoscaling"]), ("v1", "v2"))
        self.assertEqual(client.CoreApi().get_api_versions().versions, ["v1"])
        names = [resource.name for resource in self.core.get_api_resources().resources]
        self.assertIn("pods/exec", names)

    def test_a_status_is_written_apart_from_the_rest(self):
        body = minimal("", "v1", "PersistentVolume", "status", None)
        self.core.create_persistent_volume(body)
        try:
            patch = {"status": {"phase": "Failed", "message": "lost"}, "metadata": {"labels": {"by": "status"}}}
            patched = self.core.patch_persistent_volume_status("status", patch)
            self.assertEqual((patched.status.phase, patched.status.message), ("Failed", "lost"))
            patched.spec.capacity = {"storage": "9Gi"}
            patched.status.message = "found"
            replaced = self.core.replace_persistent_volume_status("status", patched)
            self.assertEqual((replaced.status.message, replaced.spec.capacity["storage"]), ("found", "1Gi"))
            patched = self.core.patch_persistent_volume("status", {"status": {"message": "ignored"}})
            self.assertEqual(patched.status.message, "found")
        finally:
            self.core.delete_persistent_volume("status")

    def test_what_can_be_scaled_has_a_scale(self):
        apps = client.AppsV1Api()
        cases = [
            (apps, "Deployment", "apps"),
            (apps, "ReplicaSet", "apps"),
            (apps, "StatefulSet", "apps"),
            (self.core, "ReplicationController", ""),
        ]
        for api, kind, group in cases:
            with self.subTest(kind):
                word, name = camel(kind), f"scale-{kind.lower()}"
                getattr(api, f"create_namespaced_{word}")(
                    self.namespace, minimal(group, "v1", kind, name, self.namespace)
                )
                read = getattr(api, f"read_namespaced_{word}_scale")
                replace = getattr(api, f"replace_namespaced_{word}_scale")
                scale = read(name, self.namespace)
                self.assertEqual((scale.spec.replicas or 0, scale.status.selector), (0, "app=clients"))
                scale.spec.replicas = -1
                answer = self.refused(422, "Invalid", replace, name, self.namespace, scale)
                self.assertIn("spec.replicas: Invalid value: -1", answer["message"])

                def write():
                    scale = read(name, self.namespace)
                    scale.spec.replicas = 0
                    try:
                        return replace(name, self.namespace, scale)
                    except client.ApiException as error:
                        self.assertEqual(error.status, 409, error.body)

                stale = eventually("the scale is written", write)
                stale.metadata.resource_version = "1"
                self.refused(409, "Conflict", replace, name, self.namespace, stale)

    def test_reviews_answer_what_is_asked(self):
        me = client.AuthenticationV1Api().create_self_subject_review({})
        self.assertIn("system:masters", me.status.user_info.groups)
        ask = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(
                resource_attributes=client.V1ResourceAttributes(verb="delete", resource="nodes")
            )
        )
        self.assertTrue(client.AuthorizationV1Api().create_self_subject_access_review(ask).status.allowed)

    def test_a_token_is_the_service_accounts(self):
        body = minimal("", "v1", "ServiceAccount", "robot", self.namespace)
        self.core.create_namespaced_service_account(self.namespace, body)
        request = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600)
        )
        answer = self.core.create_namespaced_service_account_token("robot", self.namespace, request)
        review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=answer.status.token))
        status = client.AuthenticationV1Api().create_token_review(review).status
        self.assertTrue(status.authenticated)
        self.assertEqual(status.user.username, f"system:serviceaccount:{self.namespace}:robot")

    def test_a_certificate_request_is_approved(self):
        certificates = client.CertificatesV1Api()
        body = minimal("certificates.k8s.io", "v1", "CertificateSigningRequest", "approved", None)
        created = certificates.create_certificate_signing_request(body)
        try:
            self.assertEqual(created.spec.request, CERTIFICATE_REQUEST)
            self.assertEqual(created.spec.username, "kubernetes-admin")
            now = datetime.datetime.now(datetime.timezone.utc)
            condition = client.V1CertificateSigningRequestCondition(
                type="Approved", status="True", reason="Tested", message="by a test", last_update_time=now
            )
            created.status.conditions = [condition]
            approved = certificates.replace_certificate_signing_request_approval("approved", created)
            self.assertEqual([condition.type for condition in approved.status.conditions], ["Approved"])
        finally:
            certificates.delete_certificate_signing_request("approved")

    def test_an_eviction_deletes_a_pod(self):
        self.core.create_namespaced_pod(self.namespace, minimal("", "v1", "Pod", "evicted", self.namespace))
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name="evicted", namespace=self.namespace))
        answer = self.core.create_namespaced_pod_eviction("evicted", self.namespace, eviction, _preload_content=False)
        self.assertEqual(answer.status, 201)
        self.refused(404, "NotFound", self.core.read_namespaced_pod, "evicted", self.namespace)

    def test_events_are_kept_in_both_groups(self):
        event = minimal("", "v1", "Event", "core", self.namespace)
        self.core.create_namespaced_event(self.namespace, event)
        selector = "involvedObject.name=p,reason=Tested"
        found = self.core.list_namespaced_event(self.namespace, field_selector=selector).items
        self.assertEqual([event.metadata.name for event in found], ["core"])

    def test_pods_are_found_by_their_fields(self):
        self.core.create_namespaced_pod(self.namespace, minimal("", "v1", "Pod", "fields", self.namespace))
        for selector, expected in [
            ("status.phase=Pending", ["fields"]),
            ("status.phase!=Pending", []),
            ("spec.nodeName=", ["fields"]),
            ("spec.restartPolicy=Always,metadata.name=fields", ["fields"]),
            ("spec.restartPolicy=Never", []),
        ]:
            pods = self.core.list_pod_for_all_namespaces(
                field_selector=f"metadata.namespace={self.namespace},{selector}"
            )
            self.assertEqual([pod.metadata.name for pod in pods.items], expected, selector)
        answer = self.refused(
            400, "BadRequest", self.core.list_namespaced_pod, self.namespace, field_selector="spec.color=red"
        )
        self.assertIn('field label not supported: spec.color', answer["message"])
        for selector, expected in [
            ("app in (clients, x),!none", ["fields"]),
            ("app notin (clients)", []),
            ("app", ["fields"]),
        ]:
            pods = self.core.list_namespaced_pod(self.namespace, label_selector=selector)
            self.assertEqual([pod.metadata.name for pod in pods.items], expected, selector)

    def test_objects_come_from_yaml(self):
        text = """
apiVersion: v1
kind: ConfigMap
metadata: {name: from-yaml}
data: {key: "1"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: from-yaml}
spec:
  replicas: 0
  selector: {matchLabels: {app: yaml}}
  template:
    metadata: {labels: {app: yaml}}
    spec: {containers: [{name: c, image: busybox}]}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: from-yaml}, spec: {ports: [{port: 80}]}}
"""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "all.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            utils.create_from_yaml(client.ApiClient(), path, namespace=self.namespace)
            with self.assertRaises(utils.FailToCreateError) as caught:
                utils.create_from_yaml(client.ApiClient(), path, namespace=self.namespace)
        self.assertIn('configmaps \\"from-yaml\\" already exists', str(caught.exception))
        self.assertEqual(self.core.read_namespaced_config_map("from-yaml", self.namespace).data, {"key": "1"})
        self.assertTrue(self.core.read_namespaced_service("from-yaml", self.namespace).spec.cluster_ip)

    def test_a_name_is_made_from_a_prefix(self):
        names = set()
        for _ in range(5):
            body = {"metadata": {"generateName": "made-"}}
            names.add(self.core.create_namespaced_config_map(self.namespace, body).metadata.name)
        self.assertEqual(len(names), 5)
        for name in names:
            self.assertRegex(name, "^made-[bcdfghjklmnpqrstvwxz2456789]{5}$")

    def test_foreground_and_orphan_are_honoured(self):
        apps = client.AppsV1Api()
        for policy, stays in [("Orphan", True), ("Foreground", False), ("Background", False)]:
            with self.subTest(policy):
                name = policy.lower()
                apps.create_namespaced_deployment(
                    self.namespace, minimal("apps", "v1", "Deployment", name, self.namespace)
                )

                def sets():
                    items = apps.list_namespaced_replica_set(self.namespace).items
                    return [item for item in items if item.metadata.name.startswith(f"{name}-")]

                eventually("its ReplicaSet", sets)
                apps.delete_namespaced_deployment(name, self.namespace, propagation_policy=policy)

                def gone():
                    items = apps.list_namespaced_deployment(self.namespace).items
                    return name not in [item.metadata.name for item in items]

                eventually("the Deployment is gone", gone)
                if stays:
                    self.assertIsNone(sets()[0].metadata.owner_references)
                    apps.delete_namespaced_replica_set(sets()[0].metadata.name, self.namespace)
                eventually("its ReplicaSet is gone", lambda: not sets())

    def test_preconditions_guard_a_deletion(self):
        body = minimal("", "v1", "ConfigMap", "guarded", self.namespace)
        created = self.core.create_namespaced_config_map(self.namespace, body)
        for preconditions in [{"uid": "other"}, {"resourceVersion": "1"}]:
            answer = self.refused(
                409,
                "Conflict",
                self.core.delete_namespaced_config_map,
                "guarded",
                self.namespace,
                body={"preconditions": preconditions},
            )
            self.assertIn("in the precondition", answer["message"])
        self.core.delete_namespaced_config_map(
            "guarded", self.namespace, body={"preconditions": {"uid": created.metadata.uid}}
        )

    def test_the_clients_version_is_the_servers(self):
        self.assertEqual(kubernetes.__version__.split(".")[0], "37")
