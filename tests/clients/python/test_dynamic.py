"""The dynamic client: everything that discovery lists, with every verb."""

from kubernetes import client, config, dynamic
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

from objects import OBJECTS, READ_ONLY, REVIEWS, minimal
from scope import InNamespace, eventually

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class EveryResource(InNamespace):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = dynamic.DynamicClient(config.new_client_from_config())
        cls.resources = {}
        for resource in cls.client.resources.search():
            if isinstance(resource, dynamic.resource.ResourceList):
                continue
            if "/" not in resource.name:
                cls.resources[(resource.group or "", resource.api_version, resource.kind)] = resource

    def test_every_kind_that_is_served_is_in_the_table(self):
        served = {f"{group}/{kind}" for group, _, kind in self.resources}
        self.assertEqual(served - set(OBJECTS) - REVIEWS - READ_ONLY, set())
        self.assertGreater(len(served), 30)

    def each(self):
        for (group, version, kind), resource in sorted(self.resources.items()):
            if f"{group}/{kind}" not in REVIEWS | READ_ONLY:
                yield f"{group}/{version} {kind}", (group, version, kind, resource)

    def scope(self, resource):
        return {"namespace": self.namespace} if resource.namespaced else {}

    def test_each_goes_through_its_life(self):
        for title, served in self.each():
            with self.subTest(title):
                self.life(*served)

    def life(self, group, version, kind, resource):
        scope = self.scope(resource)
        body = minimal(group, version, kind, f"life-{kind.lower()}", scope.get("namespace"))
        name = body["metadata"]["name"]
        before = resource.get(**scope)
        self.assertEqual(before.kind, f"{kind}List")
        since = before.metadata.resourceVersion

        created = resource.create(body=body, **scope)
        self.assertEqual((created.kind, created.apiVersion), (kind, body["apiVersion"]))
        self.assertTrue(created.metadata.uid and created.metadata.creationTimestamp)
        self.assertEqual(created.metadata.labels.app, "clients")
        with self.assertRaises(ConflictError) as caught:
            resource.create(body=body, **scope)
        self.assertEqual(caught.exception.status, 409)

        read = resource.get(name=name, **scope)
        self.assertEqual(read.metadata.uid, created.metadata.uid)
        listed = resource.get(field_selector=f"metadata.name={name}", label_selector="app=clients", **scope)
        self.assertEqual([item.metadata.name for item in listed.items], [name])
        self.assertEqual(resource.get(label_selector="app=other", **scope).items, [])

        patches = [
            (MERGE, {"metadata": {"labels": {"merge": "yes"}}}),
            (STRATEGIC, {"metadata": {"labels": {"strategic": "yes"}}}),
            (JSON, [{"op": "add", "path": "/metadata/labels/json", "value": "yes"}]),
        ]
        for content_type, patch in patches:
            patched = resource.patch(body=patch, name=name, content_type=content_type, **scope)
        labels = patched.metadata.labels.to_dict()
        self.assertEqual({labels.get(kind) for kind in ("merge", "strategic", "json")}, {"yes"})

        applied = {
            "apiVersion": body["apiVersion"],
            "kind": kind,
            "metadata": {"name": name, "labels": {"applied": "yes"}},
        }
        resource.server_side_apply(body=applied, name=name, field_manager="clients", **scope)
        read = resource.get(name=name, **scope)
        self.assertEqual(read.metadata.labels.applied, "yes")
        managers = {entry.manager: entry.operation for entry in read.metadata.managedFields}
        self.assertEqual(managers.get("clients"), "Apply")

        replaced = eventually("the update", lambda: self.replace(resource, name, scope))
        self.assertEqual(replaced.metadata.annotations.replaced, "yes")
        stale = read.to_dict()
        stale["metadata"]["resourceVersion"] = created.metadata.resourceVersion
        with self.assertRaises(ConflictError):
            resource.replace(body=stale, **scope)

        resource.delete(name=name, **scope)
        kinds = []
        for event in resource.watch(resource_version=since, timeout=30, **scope):
            if event["object"].metadata.name == name:
                kinds.append(event["type"])
                if event["type"] == "DELETED":
                    break
        self.assertEqual((kinds[0], kinds[-1]), ("ADDED", "DELETED"))
        self.assertEqual(set(kinds[1:-1]), {"MODIFIED"})
        self.assertGreaterEqual(len(kinds), 7)
        with self.assertRaises(NotFoundError):
            resource.get(name=name, **scope)

    def replace(self, resource, name, scope):
        """Reads, changes and writes, as often as someone else is faster."""
        body = resource.get(name=name, **scope).to_dict()
        body["metadata"].setdefault("annotations", {})["replaced"] = "yes"
        try:
            return resource.replace(body=body, **scope)
        except ConflictError:
            return None

    def test_each_is_deleted_by_selector_and_not_by_a_dry_run(self):
        for title, served in self.each():
            with self.subTest(title):
                self.collection(*served)

    def collection(self, group, version, kind, resource):
        if "deletecollection" not in resource.verbs:
            self.assertIn(kind, {"Namespace", "Service"})
            return
        scope = self.scope(resource)
        body = minimal(group, version, kind, f"many-{kind.lower()}", scope.get("namespace"))
        body["metadata"]["labels"] = {"app": "many"}
        resource.create(body=body, dry_run="All", **scope)
        self.assertEqual(resource.get(label_selector="app=many", **scope).items, [])
        resource.create(body=body, **scope)
        resource.delete(label_selector="app=fewer", **scope)
        self.assertEqual(len(resource.get(label_selector="app=many", **scope).items), 1)
        resource.delete(label_selector="app=many", **scope)
        eventually("none is left", lambda: not resource.get(label_selector="app=many", **scope).items)

    def test_a_list_is_read_in_pages(self):
        maps = self.resources[("", "v1", "ConfigMap")]
        for number in range(7):
            maps.create(body=minimal("", "v1", "ConfigMap", f"page-{number}"), namespace=self.namespace)
        names, token, pages = [], None, 0
        while True:
            page = maps.get(namespace=self.namespace, label_selector="app=clients", limit=3, _continue=token)
            names += [item.metadata.name for item in page.items]
            pages += 1
            token = page.metadata["continue"]
            if not token:
                break
            self.assertEqual(page.metadata.remainingItemCount, None)  # With a selector nobody counts.
        self.assertEqual((names, pages), ([f"page-{number}" for number in range(7)], 3))

    def test_an_apply_names_who_else_manages_a_field(self):
        deployments = self.resources[("apps", "v1", "Deployment")]
        body = minimal("apps", "v1", "Deployment", "owned", self.namespace)
        deployments.server_side_apply(body=body, field_manager="first")
        with self.assertRaises(ConflictError) as caught:
            body["spec"]["replicas"] = 2
            deployments.server_side_apply(body=body, field_manager="second")
        status = caught.exception.body
        self.assertIn('Apply failed with 1 conflict: conflict with \\"first\\": .spec.replicas', status)
        self.assertIn('"reason":"FieldManagerConflict"', status)
        forced = deployments.server_side_apply(body=body, field_manager="second", force_conflicts=True)
        self.assertEqual(forced.spec.replicas, 2)

    def test_subresources_are_found_by_discovery(self):
        deployments = self.resources[("apps", "v1", "Deployment")]
        deployments.create(body=minimal("apps", "v1", "Deployment", "scaled", self.namespace), namespace=self.namespace)
        self.assertEqual(set(deployments.subresources), {"scale", "status"})
        scale = deployments.scale.get(name="scaled", namespace=self.namespace)
        # None are wanted, and Go leaves such a zero out.
        self.assertEqual((scale.kind, scale.apiVersion, scale.spec.replicas), ("Scale", "autoscaling/v1", None))
        deployments.scale.patch(
            body={"spec": {"replicas": 1}}, name="scaled", namespace=self.namespace, content_type=MERGE
        )
        self.assertEqual(deployments.get(name="scaled", namespace=self.namespace).spec.replicas, 1)
        status = deployments.status.get(name="scaled", namespace=self.namespace)
        self.assertEqual(status.metadata.name, "scaled")

    def test_short_names_and_categories_are_in_discovery(self):
        expected = {
            ("", "v1", "Pod"): (["po"], ["all"], "pod"),
            ("", "v1", "ConfigMap"): (["cm"], None, "configmap"),
            ("apps", "v1", "Deployment"): (["deploy"], ["all"], "deployment"),
            ("batch", "v1", "CronJob"): (["cj"], ["all"], "cronjob"),
            ("networking.k8s.io", "v1", "NetworkPolicy"): (["netpol"], None, "networkpolicy"),
            ("policy", "v1", "PodDisruptionBudget"): (["pdb"], None, "poddisruptionbudget"),
        }
        for key, (short, categories, singular) in expected.items():
            resource = self.resources[key]
            found = (resource.short_names, resource.categories or None, resource.singular_name)
            self.assertEqual(found, (short, categories, singular), key)
