//! Live streams with the real kubectl: exec, attach, `run -it` and port-forward.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use skiff_tests::{Cli, Cluster};

/// A process that ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_pod(cluster: &Cluster, name: &str, script: &str, more: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n\
         \x20 - {{name: c, image: busybox, command: [sh, -c, '{script}']{more}}}\n"
    );
    let file = cluster.manifest(&format!("{name}.yaml"), &text);
    cluster.kubectl(&["apply", "-f", &file]).success();
    cluster.wait_for("condition=Ready", &format!("pod/{name}"));
}

#[test]
fn a_command_runs_in_a_container_with_its_streams_and_its_exit_code() {
    let cluster = Cluster::start();
    run_pod(&cluster, "p", "sleep 3600", "");
    let said = cluster
        .kubectl(&["exec", "p", "--", "echo", "hello world"])
        .success();
    assert_eq!(said, "hello world\n");
    let output = cluster.kubectl(&["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.code, Some(7), "{}", output.stderr);
    assert_eq!(output.stdout, "out\n");
    assert!(output.stderr.contains("err\n"), "{}", output.stderr);
    assert!(
        output.stderr.contains("command terminated with exit code 7"),
        "{}",
        output.stderr
    );
    let counted = cluster.cli_with_input(
        Cli::Kubectl,
        &["exec", "-i", "p", "--", "wc", "-c"],
        &"x".repeat(300_000),
    );
    assert_eq!(counted.success().trim(), "300000");
    let much = cluster
        .kubectl(&["exec", "p", "--", "seq", "1", "100000"])
        .success();
    assert_eq!(much.lines().count(), 100_000);
    let missing = cluster.kubectl(&["exec", "p", "--", "nonsense"]).failure();
    assert!(
        missing.contains("executable file not found in $PATH"),
        "{missing}"
    );
    let wrong = cluster
        .kubectl(&["exec", "p", "-c", "nobody", "--", "true"])
        .failure();
    assert!(
        wrong.contains("container nobody is not valid for pod p"),
        "{wrong}"
    );
    // What older clients speak.
    let mut spdy = cluster.cli_command(Cli::Kubectl);
    spdy.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false").args([
        "exec",
        "-i",
        "p",
        "--",
        "sh",
        "-c",
        "cat; exit 3",
    ]);
    let output = skiff_tests::run_with_input(&mut spdy, "over SPDY\n");
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (Some(3), "over SPDY\n"),
        "{}",
        output.stderr
    );
    // A terminal, which only who has one gets.
    let mut script = std::process::Command::new("script");
    let command = format!(
        "kubectl --kubeconfig {} exec -it p -- sh -c \"tty; stty size\"",
        cluster.path("kubeconfig").display()
    );
    script.args(["-qec", &command, "/dev/null"]);
    let output = skiff_tests::run_with_input(&mut script, "");
    assert!(
        output.stdout.contains("/dev/pts/") || output.stdout.contains("/dev/console"),
        "{} {}",
        output.stdout,
        output.stderr
    );
}

#[test]
fn who_attaches_talks_with_the_container() {
    let cluster = Cluster::start();
    run_pod(
        &cluster,
        "p",
        "read line; echo got $line; sleep 1; exit 0",
        ", stdin: true, stdinOnce: true",
    );
    let output = cluster.cli_with_input(Cli::Kubectl, &["attach", "-i", "p"], "hello\n");
    assert!(output.stdout.contains("got hello"), "{output:?}");
    // What older clients speak.
    run_pod(
        &cluster,
        "old",
        "read line; echo got $line; sleep 1; exit 0",
        ", stdin: true, stdinOnce: true",
    );
    let mut spdy = cluster.cli_command(Cli::Kubectl);
    spdy.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
        .args(["attach", "-i", "old"]);
    let output = skiff_tests::run_with_input(&mut spdy, "hello\n");
    assert!(output.stdout.contains("got hello"), "{output:?}");

    let output = cluster.cli_with_input(
        Cli::Kubectl,
        &[
            "run",
            "once",
            "-i",
            "--rm",
            "--restart=Never",
            "--image=busybox",
            "--",
            "sh",
            "-c",
            "sleep 2; cat",
        ],
        "from afar\n",
    );
    assert!(output.stdout.contains("from afar"), "{output:?}");
    assert!(
        output.stdout.contains("pod \"once\" deleted") || output.stderr.contains("pod \"once\" deleted"),
        "{output:?}"
    );
}

#[test]
fn a_port_of_a_pod_is_forwarded() {
    let cluster = Cluster::start();
    run_pod(
        &cluster,
        "web",
        "mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www",
        "",
    );
    // The same page through the server's own proxy.
    let raw = "/api/v1/namespaces/default/pods/http:web:80/proxy/index.html";
    assert_eq!(cluster.kubectl(&["get", "--raw", raw]).success(), "served\n");
    for websockets in ["true", "false"] {
        forwarded(&cluster, websockets);
    }
}

/// Forwards a port of the pod `web` over WebSockets or, as older clients do, over SPDY.
fn forwarded(cluster: &Cluster, websockets: &str) {
    let mut forward = cluster.cli_command(Cli::Kubectl);
    let child = forward
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
        .args(["port-forward", "pod/web", ":80"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let port: u16 = line
        .strip_prefix("Forwarding from 127.0.0.1:")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("{line}"));
    for _ in 0..3 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(30)))
            .unwrap();
        stream
            .write_all(b"GET /index.html HTTP/1.0\r\nHost: web\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("served\n"), "{answer}");
    }
}
