"""How the server refuses: status, reason, message and causes, as the client's exceptions carry them."""

from kubernetes import client

from objects import minimal
from scope import InNamespace


class Refusals(InNamespace):
    def test_what_is_not_there(self):
        for call, name, message in [
            (self.core.read_namespaced_pod, "none", 'pods "none" not found'),
            (self.core.delete_namespaced_secret, "none", 'secrets "none" not found'),
            (client.AppsV1Api().read_namespaced_deployment, "none", 'deployments.apps "none" not found'),
            (
                client.RbacAuthorizationV1Api().read_namespaced_role,
                "none",
                'roles.rbac.authorization.k8s.io "none" not found',
            ),
        ]:
            with self.subTest(message):
                answer = self.refused(404, "NotFound", call, name, self.namespace)
                self.assertEqual((answer["message"], answer["details"]["name"]), (message, "none"))

    def test_what_is_there_already(self):
        body = minimal("", "v1", "ConfigMap", "twice", self.namespace)
        self.core.create_namespaced_config_map(self.namespace, body)
        answer = self.refused(409, "AlreadyExists", self.core.create_namespaced_config_map, self.namespace, body)
        self.assertEqual(answer["message"], 'configmaps "twice" already exists')
        self.assertEqual(answer["details"], {"name": "twice", "kind": "configmaps"})

    def test_what_is_invalid_is_told_all_at_once(self):
        body = minimal("apps", "v1", "Deployment", "UPPER", self.namespace)
        body["spec"]["replicas"] = -1
        body["spec"]["selector"] = {"matchLabels": {"app": "other"}}
        body["spec"]["template"]["spec"]["containers"] = [{"name": "c", "image": ""}, {"name": "c", "image": "i"}]
        answer = self.refused(
            422, "Invalid", client.AppsV1Api().create_namespaced_deployment, self.namespace, body
        )
        self.assertTrue(answer["message"].startswith('Deployment.apps "UPPER" is invalid: ['), answer["message"])
        causes = {(cause["field"], cause["reason"]) for cause in answer["details"]["causes"]}
        self.assertEqual(
            causes,
            {
                ("metadata.name", "FieldValueInvalid"),
                ("spec.replicas", "FieldValueInvalid"),
                ("spec.template.metadata.labels", "FieldValueInvalid"),
                ("spec.template.spec.containers[0].image", "FieldValueRequired"),
                ("spec.template.spec.containers[1].name", "FieldValueDuplicate"),
            },
        )

    def test_what_is_immutable(self):
        apps = client.AppsV1Api()
        apps.create_namespaced_deployment(
            self.namespace, minimal("apps", "v1", "Deployment", "fixed", self.namespace)
        )
        patch = {"spec": {"selector": {"matchLabels": {"app": "clients", "more": "x"}}}}
        answer = self.refused(422, "Invalid", apps.patch_namespaced_deployment, "fixed", self.namespace, patch)
        self.assertIn("field is immutable", answer["message"])

    def test_a_namespace_that_is_not_there(self):
        body = minimal("", "v1", "ConfigMap", "lost", "nowhere")
        answer = self.refused(404, "NotFound", self.core.create_namespaced_config_map, "nowhere", body)
        self.assertEqual(answer["message"], 'namespaces "nowhere" not found')

    def test_a_namespace_that_is_not_the_paths(self):
        body = minimal("", "v1", "ConfigMap", "lost", "other")
        answer = self.refused(400, "BadRequest", self.core.create_namespaced_config_map, self.namespace, body)
        self.assertEqual(
            answer["message"], "the namespace of the provided object does not match the namespace sent on the request"
        )

    def test_unknown_fields_are_refused_warned_of_or_ignored(self):
        path = f"/api/v1/namespaces/{self.namespace}/configmaps"
        body = minimal("", "v1", "ConfigMap", "strict", self.namespace)
        body["spec"] = {"x": 1}
        status, _, answer = self.ask("POST", path, body, fieldValidation="Strict")
        self.assertEqual((status, answer["reason"]), (400, "BadRequest"))
        self.assertEqual(
            answer["message"],
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "spec"',
        )
        status, headers, answer = self.ask("POST", path, body, fieldValidation="Warn")
        self.assertEqual((status, headers["warning"]), (201, '299 - "unknown field \\"spec\\""'))
        self.assertNotIn("spec", answer)
        body["metadata"]["name"] = "ignored"
        status, headers, _ = self.ask("POST", path, body, fieldValidation="Ignore")
        self.assertEqual((status, headers.get("warning")), (201, None))

    def test_a_stale_write(self):
        body = minimal("", "v1", "ConfigMap", "stale", self.namespace)
        first = self.core.create_namespaced_config_map(self.namespace, body)
        self.core.patch_namespaced_config_map("stale", self.namespace, {"data": {"n": "1"}})
        answer = self.refused(
            409, "Conflict", self.core.replace_namespaced_config_map, "stale", self.namespace, first
        )
        self.assertEqual(
            answer["message"],
            'Operation cannot be fulfilled on configmaps "stale": the object has been modified; please apply your '
            "changes to the latest version and try again",
        )

    def test_bodies_and_patches_that_are_none(self):
        body = minimal("", "v1", "ConfigMap", "patched", self.namespace)
        self.core.create_namespaced_config_map(self.namespace, body)
        patch = self.core.patch_namespaced_config_map
        test = [{"op": "test", "path": "/data/a", "value": "other"}]
        self.refused(422, "Invalid", patch, "patched", self.namespace, test)
        missing = [{"op": "remove", "path": "/data/none"}]
        self.refused(422, "Invalid", patch, "patched", self.namespace, missing)
        wrong = {"data": ["list"]}
        answer = self.refused(422, "Invalid", patch, "patched", self.namespace, wrong)
        self.assertIn('"map[data:[list]]": cannot restore map from slice', answer["message"])
        answer = self.refused(
            400, "BadRequest", self.core.create_namespaced_config_map, self.namespace, {"kind": "Secret"}
        )
        self.assertIn("Secret", answer["message"])

    def test_a_verb_or_a_path_that_is_not_there(self):
        for method, path, status in [
            ("PUT", "/api/v1/namespaces", 405),
            ("POST", f"/api/v1/namespaces/{self.namespace}/pods/none", 405),
            ("GET", "/api/v1/nothing", 404),
            ("GET", "/apis/none.example.com/v1", 404),
            ("GET", "/nothing", 404),
        ]:
            with self.subTest(f"{method} {path}"):
                found, _, answer = self.ask(method, path)
                self.assertEqual(found, status, answer)
                if status == 405:
                    self.assertEqual(answer["reason"], "MethodNotAllowed")
                    self.assertEqual(
                        answer["message"], "the server does not allow this method on the requested resource"
                    )
