"""A pod that runs: its log, commands in it, its standard input, its ports."""

import select

from kubernetes import client, watch
from kubernetes.stream import portforward, stream
from kubernetes.stream.ws_client import ERROR_CHANNEL

from scope import InNamespace, eventually

SCRIPT = "mkdir /www; echo served > /www/index.html; httpd -p 8080 -h /www; echo one; echo two; cat; exit 3"


class ARunningPod(InNamespace):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        container = client.V1Container(
            name="c", image="busybox", command=["sh", "-c", SCRIPT], stdin=True, ports=[{"containerPort": 8080}]
        )
        pod = client.V1Pod(
            metadata=client.V1ObjectMeta(name="p"),
            spec=client.V1PodSpec(
                containers=[container], restart_policy="Never", termination_grace_period_seconds=0
            ),
        )
        cls.core.create_namespaced_pod(cls.namespace, pod)
        cls.wait_for_ready()

    @classmethod
    def wait_for_ready(cls):
        pods = watch.Watch()
        for event in pods.stream(
            cls.core.list_namespaced_pod, cls.namespace, field_selector="metadata.name=p", timeout_seconds=90
        ):
            conditions = {c.type: c.status for c in event["object"].status.conditions or []}
            if conditions.get("Ready") == "True":
                return
        raise AssertionError("the pod is not ready")

    def exec(self, *command, **named):
        streams = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **named}
        return stream(self.core.connect_get_namespaced_pod_exec, "p", self.namespace, command=list(command), **streams)

    def test_a_command_answers(self):
        self.assertEqual(self.exec("echo", "hello world"), "hello world\n")
        self.assertEqual(len(self.exec("seq", "1", "20000")), 108894)

    def test_streams_are_apart_and_the_exit_code_is_told(self):
        running = self.exec("sh", "-c", "echo out; echo err >&2; exit 7", _preload_content=False)
        running.run_forever(timeout=30)
        self.assertEqual((running.read_stdout(), running.read_stderr()), ("out\n", "err\n"))
        self.assertEqual(running.returncode, 7)
        good = self.exec("true", _preload_content=False)
        good.run_forever(timeout=30)
        self.assertEqual(good.returncode, 0)

    def test_a_command_is_talked_to(self):
        running = self.exec("cat", stdin=True, _preload_content=False)
        for line in ("first\n", "second\n"):
            running.write_stdin(line)
            self.assertEqual(running.readline_stdout(timeout=30) + "\n", line)
        running.close()

    def test_a_terminal_is_one(self):
        # A command may end before anyone has looked at its terminal.
        for _ in range(20):
            running = self.exec("tty", tty=True, _preload_content=False)
            running.run_forever(timeout=30)
            self.assertFalse(running.is_open())
            self.assertIn("/dev/", running.read_stdout())

    def test_a_command_that_is_not_there(self):
        running = self.exec("none", _preload_content=False)
        running.run_forever(timeout=30)
        self.assertIn("none", running.read_channel(ERROR_CHANNEL) or str(running.returncode) + "none")
        with self.assertRaises(client.ApiException) as caught:
            stream(self.core.connect_get_namespaced_pod_exec, "absent", self.namespace, command=["true"], stdout=True)
        self.assertIn("404", caught.exception.reason)

    def test_a_port_is_forwarded(self):
        forward = portforward(self.core.connect_get_namespaced_pod_portforward, "p", self.namespace, ports="8080")
        socket = forward.socket(8080)
        socket.setblocking(True)
        socket.sendall(b"GET /index.html HTTP/1.0\r\nHost: p\r\n\r\n")
        answer = b""
        while select.select([socket], [], [], 30)[0]:
            part = socket.recv(4096)
            if not part:
                break
            answer += part
        socket.close()
        self.assertTrue(answer.endswith(b"served\n"), answer)
        self.assertIsNone(forward.error(8080))

    def test_a_log_is_read_and_followed(self):
        read = self.core.read_namespaced_pod_log
        log = eventually("two lines", lambda: (read("p", self.namespace) + "").count("\n") >= 2 and read("p", self.namespace))
        self.assertEqual(log.splitlines()[:2], ["one", "two"])
        self.assertEqual(read("p", self.namespace, tail_lines=1, limit_bytes=2), log.splitlines()[-1][:2])
        self.assertRegex(read("p", self.namespace, timestamps=True), r"^20\d\d-\d\d-\d\dT[\d:.]+Z one\n")
        follow = watch.Watch()
        lines = []
        for line in follow.stream(read, "p", self.namespace, container="c"):
            lines.append(line)
            if len(lines) == 2:
                follow.stop()
        self.assertEqual(lines, ["one", "two"])
        answer = self.refused(400, "BadRequest", read, "p", self.namespace, container="none")
        self.assertEqual(answer["message"], "container none is not valid for pod p")

    def test_z_who_attaches_talks_with_the_container(self):
        attached = stream(
            self.core.connect_get_namespaced_pod_attach,
            "p",
            self.namespace,
            container="c",
            stdin=True,
            stdout=True,
            stderr=True,
            _preload_content=False,
        )
        attached.write_stdin("typed\n")
        self.assertEqual(attached.readline_stdout(timeout=30), "typed")
        attached.close()
