"""A namespace for a test case, removed with it."""

import json
import time
import unittest

from kubernetes import client, config


def eventually(what, condition, seconds=60):
    """Asks until the answer is something, and returns it."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class InNamespace(unittest.TestCase):
    """Gives a class of tests `self.namespace`, with its default service account, and `self.core`."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        config.load_kube_config()
        cls.core = client.CoreV1Api()
        metadata = client.V1ObjectMeta(generate_name="python-")
        cls.namespace = cls.core.create_namespace(client.V1Namespace(metadata=metadata)).metadata.name
        eventually("the default service account", cls._has_service_account)

    @classmethod
    def _has_service_account(cls):
        accounts = cls.core.list_namespaced_service_account(cls.namespace).items
        return "default" in [account.metadata.name for account in accounts]

    @classmethod
    def tearDownClass(cls):
        cls.core.delete_namespace(cls.namespace)

    def ask(self, method, path, body=None, **query):
        """A request as it is: status, headers, and the answer's JSON."""
        api = client.ApiClient()
        request = api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = api.call_api(*request)
        answer.read()
        text = answer.data.decode()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, answer.headers, json.loads(text) if is_json else text

    def refused(self, status, reason, call, *arguments, **named):
        """Asserts that a call is refused, and returns the Status that says so."""
        with self.assertRaises(client.ApiException) as caught:
            call(*arguments, **named)
        self.assertEqual(caught.exception.status, status, caught.exception.body)
        answer = json.loads(caught.exception.body)
        self.assertEqual(
            (answer["kind"], answer["apiVersion"], answer["status"], answer["reason"], answer["code"]),
            ("Status", "v1", "Failure", reason, status),
        )
        return answer
