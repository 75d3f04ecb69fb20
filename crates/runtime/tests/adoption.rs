//! What happens to pods when the server or a shim is gone for a while, or for ever.

mod support;

use k8s_cri::v1;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Node, eventually, shell};

#[tokio::test(flavor = "multi_thread")]
async fn pods_outlive_the_server_and_nothing_is_missed_meanwhile() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let fifo = node.path().join("gate");
    std::fs::create_dir(&fifo).unwrap();
    let mut waiting = shell(
        "waiting",
        "echo up; while [ ! -e /gate/open ]; do sleep 0.02; done; echo late; exit 9",
    );
    waiting.mounts.push(v1::Mount {
        container_path: "/gate".into(),
        host_path: fifo.display().to_string(),
        ..Default::default()
    });
    let waiting = node.run(&pod, waiting).await;
    let going_on = node.run(&pod, shell("going-on", "echo up; sleep 1000")).await;
    let created = node.create(&pod, shell("created", "exit 2")).await.unwrap();
    node.said("going-on", "up").await;
    let before = node.status(&going_on).await;
    let pid = node.pid(&going_on).await;

    node.stop_server().await;
    std::fs::write(fifo.join("open"), "").unwrap();
    let folder = node
        .path()
        .join("state/containers")
        .join(&waiting)
        .join("state.json");
    eventually("the exit is on record", || {
        std::fs::read_to_string(&folder).is_ok_and(|text| text.contains("\"exitCode\":9"))
    })
    .await;
    node.start_server().await;

    let status = node.status(&waiting).await;
    assert_eq!(
        (status.state(), status.exit_code),
        (v1::ContainerState::ContainerExited, 9)
    );
    assert!(node.log("waiting").contains("late"));
    assert_eq!(node.status(&going_on).await, before);
    assert_eq!(node.pid(&going_on).await, pid);
    assert_eq!(node.pod_status(&pod).await.network.unwrap().ip, "127.0.0.7");
    let exec = node.exec(&going_on, "echo hi", 10).await.unwrap();
    assert_eq!(exec.stdout, b"hi\n");
    node.start_container(&created).await.unwrap();
    assert_eq!(node.exited(&created).await.exit_code, 2);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_eq!(node.exited(&going_on).await.exit_code, 137);
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_takes_its_pod_along_and_only_that() {
    let mut node = Node::start().await;
    let (config, other) = (node.pod(), node.pod());
    let (pod, other) = (node.run_pod(&config).await, node.run_pod(&other).await);
    let id = node.run(&pod, shell("a", "sleep 1000")).await;
    let other_id = node.run(&other, shell("b", "sleep 1000")).await;
    let pid = node.pid(&id).await;
    let shim = node.shim_pid(&pod).await;
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    let status = node.exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    assert!(status.finished_at >= status.started_at);
    // Who sees the end sees its cause too, and doesn't restart the container in a dead sandbox.
    assert_eq!(
        node.pod_status(&pod).await.state(),
        v1::PodSandboxState::SandboxNotready
    );
    eventually("its processes are gone", || {
        !std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
    })
    .await;
    assert!(node.create(&pod, shell("c", "true")).await.is_err());
    assert_eq!(
        node.pod_status(&other).await.state(),
        v1::PodSandboxState::SandboxReady
    );
    assert_eq!(
        node.status(&other_id).await.state(),
        v1::ContainerState::ContainerRunning
    );
    node.stop_pod(&pod).await;
    node.remove_pod(&pod).await;
    node.remove_pod(&other).await;
    assert!(node.network.attached.lock().is_empty());
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_dies_while_nobody_looks_is_found_dead() {
    let mut node = Node::start().await;
    let mut config = node.pod();
    let shared = support::namespaces(v1::NamespaceMode::Pod, v1::NamespaceMode::Pod);
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = Some(shared.clone());
    let pod = node.run_pod(&config).await;
    let mut script = shell("a", "sleep 1000");
    support::security(&mut script).namespace_options = Some(shared);
    let id = node.run(&pod, script).await;
    let shim = node.shim_pid(&pod).await;
    node.stop_server().await;
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    eventually("the shim is dead", || {
        !std::path::Path::new(&format!("/proc/{shim}/exe")).exists()
    })
    .await;
    node.start_server().await;
    assert_eq!(node.status(&id).await.exit_code, 137);
    assert_eq!(
        node.pod_status(&pod).await.state(),
        v1::PodSandboxState::SandboxNotready
    );
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_things_are_cleared_away_at_the_next_start() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let id = node.create(&pod, shell("a", "true")).await.unwrap();
    let whole = node.run(&pod, shell("b", "sleep 1000")).await;
    node.stop_server().await;
    // As after a crash in the middle of creating: a mounted file system and no record.
    std::fs::remove_file(
        node.path()
            .join("state/containers")
            .join(&id)
            .join("container.json"),
    )
    .unwrap();
    std::fs::create_dir(node.path().join("state/sandboxes/half")).unwrap();
    node.start_server().await;
    assert!(!node.path().join("state/containers").join(&id).exists());
    assert!(!node.path().join("state/sandboxes/half").exists());
    assert_eq!(
        node.status(&whole).await.state(),
        v1::ContainerState::ContainerRunning
    );
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}
