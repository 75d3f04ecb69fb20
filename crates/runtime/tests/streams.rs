//! Logs, terminals and commands run in containers.

mod support;

use std::time::Instant;

use k8s_cri::v1;
use support::{Node, eventually, shell};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_reopened_after_rotation() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let gate = node.path().join("gate");
    std::fs::create_dir(&gate).unwrap();
    let mut config = shell(
        "a",
        "echo one; while [ ! -e /gate/open ]; do sleep 0.02; done; echo two; sleep 1000",
    );
    config.mounts.push(v1::Mount {
        container_path: "/gate".into(),
        host_path: gate.display().to_string(),
        ..Default::default()
    });
    let id = node.run(&pod, config).await;
    node.said("a", "one").await;
    let (log, old) = (
        node.log_folder().join("a.log"),
        node.log_folder().join("a.log.old"),
    );
    std::fs::rename(&log, &old).unwrap();
    let request = v1::ReopenContainerLogRequest {
        container_id: id.clone(),
    };
    node.cri.reopen_container_log(request.clone()).await.unwrap();
    assert!(log.exists());
    std::fs::write(gate.join("open"), "").unwrap();
    node.said("a", "two").await;
    assert!(!node.log("a").contains("one"));
    assert!(!std::fs::read_to_string(&old).unwrap().contains("two"));
    node.stop(&id, 0).await;
    assert!(node.cri.reopen_container_log(request).await.is_err());
    node.remove_pod(&pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_are_parted_and_much_output_is_complete() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let (_, _) = node
        .script(&pod, "long", "dd if=/dev/zero bs=40000 count=1 2>/dev/null; echo")
        .await;
    let log = node.log("long");
    let parts: Vec<(String, usize)> = log
        .lines()
        .map(|line| line.splitn(4, ' ').collect::<Vec<_>>())
        .map(|f| (f[2].to_owned(), f[3].len()))
        .collect();
    assert_eq!(
        parts,
        [
            ("P".into(), 16384),
            ("P".into(), 16384),
            ("F".into(), 40000 - 2 * 16384)
        ]
    );
    let (status, output) = node.script(&pod, "much", "seq 1 200000").await;
    assert_eq!(status.exit_code, 0);
    assert_eq!(output.lines().count(), 200_000);
    assert!(output.ends_with("200000\n"));
    node.remove_pod(&pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_nobody() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    std::fs::create_dir_all(node.log_folder().join("a.log")).unwrap();
    let id = node.run(&pod, shell("a", "seq 1 100000; exit 6")).await;
    assert_eq!(node.exited(&id).await.exit_code, 6);
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_a_terminal_and_is_logged() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let mut config = shell(
        "tty",
        "test -t 0 && test -t 1 && echo terminal; tty; echo $TERM; exit 8",
    );
    config.tty = true;
    config.stdin = true;
    let id = node.run(&pod, config).await;
    assert_eq!(node.exited(&id).await.exit_code, 8);
    let output = node.output("tty");
    assert!(
        output.contains("terminal") && output.contains("xterm"),
        "{output:?}"
    );
    // Standard input that stays open keeps a reader waiting; closed it ends at once.
    let mut open = shell("open", "cat; echo ended");
    open.stdin = true;
    let open = node.run(&pod, open).await;
    let (_, closed) = node.script(&pod, "closed", "cat; echo ended").await;
    assert_eq!(closed, "ended\n");
    assert_eq!(
        node.status(&open).await.state(),
        v1::ContainerState::ContainerRunning
    );
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_beside_the_container() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let mut config = shell("a", "echo up; sleep 1000");
    config.envs = vec![v1::KeyValue {
        key: "WHO".into(),
        value: "me".into(),
    }];
    config.working_dir = "/tmp".into();
    support::security(&mut config).run_as_user = Some(v1::Int64Value { value: 33 });
    let id = node.run(&pod, config).await;
    node.said("a", "up").await;
    let done = node
        .exec(&id, "echo $WHO; pwd; id -u; hostname; echo bad >&2; exit 5", 10)
        .await
        .unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "me\n/tmp\n33\nhost-0\n");
    assert_eq!((done.stderr.as_slice(), done.exit_code), (&b"bad\n"[..], 5));
    let much = node.exec(&id, "seq 1 100000", 30).await.unwrap();
    assert_eq!(much.stdout.iter().filter(|b| **b == b'\n').count(), 100_000);
    let killed = node.exec(&id, "kill -9 $$", 10).await.unwrap();
    assert_eq!(killed.exit_code, 137);

    let begun = Instant::now();
    let error = node
        .exec(&id, "echo $$ > /tmp/pid; sleep 777", 1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(begun.elapsed().as_secs() < 30);
    let cgroup = format!("{}/{id}", node.pod_cgroup());
    eventually("what ran too long is gone", || {
        let processes = support::cgroup_file(&cgroup, &["cgroup.procs"]);
        processes.lines().count() <= 2
    })
    .await;

    let request = v1::ExecSyncRequest {
        container_id: id.clone(),
        cmd: vec!["nonsense".into()],
        timeout: 10,
    };
    let error = node.cri.exec_sync(request).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("exec: \"nonsense\": executable file not found in $PATH"),
        "{error}"
    );
    node.stop(&id, 0).await;
    assert!(node.exec(&id, "true", 10).await.is_err());
    let request = v1::ExecRequest {
        container_id: id,
        ..Default::default()
    };
    assert_eq!(node.cri.exec(request).await.unwrap_err().code(), Code::Unknown);
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_behind_by_a_container_is_reaped() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let id = node
        .run(
            &pod,
            shell("a", "sleep 1000 & (sleep 0.05 &) ; echo up; exec sleep 0.2"),
        )
        .await;
    assert_eq!(node.exited(&id).await.exit_code, 0);
    let shim = node.shim_pid(&pod).await;
    let children = format!("/proc/{shim}/task/{shim}/children");
    eventually("no child is left", || {
        std::fs::read_to_string(&children).is_ok_and(|t| t.trim().is_empty())
    })
    .await;
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}
