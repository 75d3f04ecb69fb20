"""Watches: from a version on, with bookmarks, until a timeout; and what is too old."""

import json
import threading

from kubernetes import client, watch
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from objects import minimal
from scope import InNamespace, eventually


class Watches(InNamespace):
    def config_map(self, name, **data):
        body = minimal("", "v1", "ConfigMap", name, self.namespace)
        body["data"] = data
        return body

    def list_version(self):
        return self.core.list_namespaced_config_map(self.namespace).metadata.resource_version

    def test_a_stream_tells_what_happened_since_a_version(self):
        since = self.list_version()
        self.core.create_namespaced_config_map(self.namespace, self.config_map("a"))
        self.core.patch_namespaced_config_map("a", self.namespace, {"data": {"x": "1"}})
        self.core.delete_namespaced_config_map("a", self.namespace)
        seen = []
        stream = watch.Watch().stream(
            self.core.list_namespaced_config_map, self.namespace, resource_version=since, timeout_seconds=30
        )
        versions = []
        for event in stream:
            self.assertIsInstance(event["object"], client.V1ConfigMap)
            seen.append((event["type"], event["object"].metadata.name, event["raw_object"].get("data")))
            versions.append(int(event["object"].metadata.resource_version))
            if event["type"] == "DELETED":
                break
        self.assertEqual(
            seen, [("ADDED", "a", None), ("MODIFIED", "a", {"x": "1"}), ("DELETED", "a", {"x": "1"})]
        )
        self.assertEqual(versions, sorted(set(versions)))

    def test_a_stream_without_a_version_begins_with_what_is_there(self):
        self.core.create_namespaced_config_map(self.namespace, self.config_map("there"))
        stream = watch.Watch().stream(
            self.core.list_namespaced_config_map,
            self.namespace,
            field_selector="metadata.name=there",
            timeout_seconds=1,
        )
        self.assertEqual([event["type"] for event in stream], ["ADDED"])

    def test_a_stream_ends_at_its_timeout(self):
        since = self.list_version()
        stream = watch.Watch().stream(
            self.core.list_namespaced_config_map,
            self.namespace,
            label_selector="nobody=has",
            resource_version=since,
            timeout_seconds=1,
        )
        self.assertEqual(list(stream), [])

    def test_a_selector_sees_objects_come_and_go(self):
        self.core.create_namespaced_config_map(self.namespace, self.config_map("moves"))
        since = self.list_version()
        for color in ["red", "blue", "red"]:
            self.core.patch_namespaced_config_map("moves", self.namespace, {"metadata": {"labels": {"color": color}}})
        stream = watch.Watch().stream(
            self.core.list_namespaced_config_map,
            self.namespace,
            label_selector="color=red",
            resource_version=since,
            timeout_seconds=30,
        )
        kinds = []
        for event in stream:
            kinds.append((event["type"], event["object"].metadata.labels["color"]))
            if len(kinds) == 3:
                break
        # The object that no longer matches is shown as it is, which is upstream's DELETED of a selector.
        self.assertEqual([kind for kind, _ in kinds], ["ADDED", "DELETED", "ADDED"])

    def test_bookmarks_tell_how_far_a_stream_is(self):
        self.core.create_namespaced_config_map(self.namespace, self.config_map("marked"))
        answer = self.core.list_namespaced_config_map(
            self.namespace,
            watch=True,
            allow_watch_bookmarks=True,
            send_initial_events=True,
            resource_version_match="NotOlderThan",
            timeout_seconds=10,
            _preload_content=False,
        )
        buffer, bookmark = b"", None
        for chunk in answer.stream():
            buffer += chunk
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                event = json.loads(line)
                if event["type"] == "BOOKMARK":
                    bookmark = event["object"]
            if bookmark:
                break
        answer.close()
        annotations = bookmark["metadata"]["annotations"]
        self.assertEqual(annotations, {"k8s.io/initial-events-end": "true"})
        self.assertGreaterEqual(int(bookmark["metadata"]["resourceVersion"]), 1)

    def test_a_version_of_the_future_times_out_and_a_foreign_one_is_refused(self):
        future = str(int(self.list_version()) + 1_000_000)
        answer = self.refused(
            504, "Timeout", self.core.list_namespaced_config_map, self.namespace, resource_version=future
        )
        self.assertIn(f"Too large resource version: {future}", answer["message"])
        answer = self.refused(
            400, "BadRequest", self.core.list_namespaced_config_map, self.namespace, resource_version="x"
        )
        self.assertIn('Invalid value: "x"', answer["message"])

    def test_a_bad_continue_token_is_refused(self):
        answer = self.refused(
            400, "BadRequest", self.core.list_namespaced_config_map, self.namespace, limit=1, _continue="x"
        )
        self.assertIn("continue key is not valid", answer["message"])

    def test_one_candidate_leads_at_a_time(self):
        leaders, changed = [], threading.Condition()
        may_end = threading.Event()

        def candidate(name):
            def lead():
                with changed:
                    leaders.append(name)
                    changed.notify_all()
                may_end.wait(60)

            settings = electionconfig.Config(
                LeaseLock("leader", self.namespace, name),
                lease_duration=5,
                renew_deadline=3,
                retry_period=1,
                onstarted_leading=lead,
                onstopped_leading=lambda: None,
            )
            leaderelection.LeaderElection(settings).run()

        for name in ("one", "two"):
            threading.Thread(target=candidate, args=[name], daemon=True).start()
        with changed:
            self.assertTrue(changed.wait_for(lambda: leaders, timeout=60))
        leases = client.CoordinationV1Api()
        holder = lambda: leases.read_namespaced_lease("leader", self.namespace).spec
        renewed = holder().renew_time
        # While the leader renews its lease the other one stays a candidate.
        eventually("the lease is renewed twice", lambda: (holder().renew_time - renewed).total_seconds() >= 2)
        self.assertEqual((leaders, holder().holder_identity), (leaders[:1], leaders[0]))
        may_end.set()
