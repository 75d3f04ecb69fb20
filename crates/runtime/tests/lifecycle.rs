//! Pods and containers from their making to the last trace of them.

mod support;

use std::time::Instant;

use futures::StreamExt;
use k8s_cri::v1;
use support::{Node, container, eventually, security, shell};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_says_something_and_ends() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let status = node.pod_status(&pod).await;
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    assert_eq!(status.network.unwrap().ip, "127.0.0.7");

    let mut wanted = shell("a", "echo out; echo err >&2; printf tail; exit 3");
    // What people write; they are told what it stands for.
    wanted.image.as_mut().unwrap().image = "box:test".into();
    let id = node.create(&pod, wanted).await.unwrap();
    let created = node.status(&id).await;
    assert_eq!(created.state(), v1::ContainerState::ContainerCreated);
    assert_eq!((created.started_at, created.finished_at), (0, 0));
    node.start_container(&id).await.unwrap();
    let status = node.exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at);
    assert_eq!(
        status.log_path,
        node.log_folder().join("a.log").display().to_string()
    );
    assert_eq!(
        status.image.unwrap().image,
        support::IMAGE,
        "the tag in full, as containerd tells it"
    );
    assert!(status.image_id.starts_with("sha256:"));

    let log = node.log("a");
    let mut lines: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout F tail"]);
    let stamp = log.split(' ').next().unwrap();
    assert!(
        stamp.parse::<jiff::Timestamp>().is_ok() && stamp.len() == 30,
        "{stamp}"
    );

    let (status, _) = node.script(&pod, "b", "true").await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));

    node.stop_pod(&pod).await;
    node.stop_pod(&pod).await;
    let status = node.pod_status(&pod).await;
    assert_eq!(status.state(), v1::PodSandboxState::SandboxNotready);
    assert_eq!(
        node.status(&id).await.exit_code,
        3,
        "a stopped pod's containers are still known"
    );
    node.remove_pod(&pod).await;
    node.remove_pod(&pod).await;
    assert!(node.network.attached.lock().is_empty());
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_is_not_found_and_what_is_gone_is_gone_twice() {
    let mut node = Node::start().await;
    let id = "no-such-thing".to_owned();
    let request = v1::ContainerStatusRequest {
        container_id: id.clone(),
        verbose: false,
    };
    assert_eq!(
        node.cri.container_status(request).await.unwrap_err().code(),
        Code::NotFound
    );
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id.clone(),
        verbose: false,
    };
    assert_eq!(
        node.cri.pod_sandbox_status(request).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        node.create(&id, shell("a", "true")).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        node.start_container(&id).await.unwrap_err().code(),
        Code::NotFound
    );
    node.stop(&id, 1).await;
    node.cri
        .remove_container(v1::RemoveContainerRequest {
            container_id: id.clone(),
        })
        .await
        .unwrap();
    node.stop_pod(&id).await;
    node.remove_pod(&id).await;

    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let request = v1::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    };
    assert_eq!(
        node.cri.run_pod_sandbox(request).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    let mut missing = shell("a", "true");
    missing.image.as_mut().unwrap().image = "docker.io/library/none:1".into();
    assert_eq!(
        node.create(&pod, missing).await.unwrap_err().code(),
        Code::NotFound
    );
    let first = node.create(&pod, shell("a", "sleep 1000")).await.unwrap();
    assert_eq!(
        node.create(&pod, shell("a", "true")).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    node.start_container(&first).await.unwrap();
    assert!(node.start_container(&first).await.is_err(), "it runs already");
    let short = node.status(&first[..12]).await;
    assert_eq!(short.id, first);
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_run_is_a_start_error() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    for (name, program, wanted) in [
        (
            "a",
            "nonsense",
            "exec: \"nonsense\": executable file not found in $PATH",
        ),
        (
            "b",
            "/bin/nonsense",
            "exec: \"/bin/nonsense\": stat /bin/nonsense: no such file or directory",
        ),
        ("c", "/bin/plain", "exec: \"/bin/plain\": permission denied"),
    ] {
        let id = node.create(&pod, container(name, &[program])).await.unwrap();
        let error = node.start_container(&id).await.unwrap_err();
        assert!(error.message().contains(wanted), "{}", error.message());
        let status = node.status(&id).await;
        assert_eq!(status.state(), v1::ContainerState::ContainerExited);
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert!(status.message.contains(wanted), "{}", status.message);
    }
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_and_kills_then() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let polite = shell(
        "polite",
        "trap 'echo bye; exit 7' TERM; echo up; while true; do sleep 0.05; done",
    );
    let polite = node.run(&pod, polite).await;
    node.said("polite", "up").await;
    node.stop(&polite, 30).await;
    let status = node.status(&polite).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(node.output("polite").contains("bye"));

    let deaf = node
        .run(
            &pod,
            shell("deaf", "trap '' TERM; echo up; while true; do sleep 0.05; done"),
        )
        .await;
    node.said("deaf", "up").await;
    let begun = Instant::now();
    node.stop(&deaf, 1).await;
    let took = begun.elapsed();
    assert!(took.as_millis() >= 1000, "{took:?}");
    assert_eq!(node.status(&deaf).await.exit_code, 137);
    node.stop(&deaf, 1).await;

    let running = node.run(&pod, shell("running", "sleep 1000")).await;
    let request = v1::RemoveContainerRequest {
        container_id: running.clone(),
    };
    node.cri.remove_container(request).await.unwrap();
    let request = v1::ContainerStatusRequest {
        container_id: running,
        verbose: false,
    };
    assert_eq!(
        node.cri.container_status(request).await.unwrap_err().code(),
        Code::NotFound
    );
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_stop_signal_is_used() {
    let image = support::image::Config {
        stop_signal: Some("SIGUSR1".into()),
        ..Default::default()
    };
    let mut node = Node::start_with(image).await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let script = "trap 'exit 5' USR1; trap '' TERM; echo up; while true; do sleep 0.05; done";
    let id = node.run(&pod, shell("a", script)).await;
    node.said("a", "up").await;
    node.stop(&id, 30).await;
    assert_eq!(node.status(&id).await.exit_code, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_share_its_network_ipc_and_name_but_not_files() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let namespaces =
        "for n in net ipc uts mnt pid; do readlink /proc/self/ns/$n; done; hostname; ls /dev/shm /tmp";
    let first = format!("touch /dev/shm/shared /tmp/mine; {namespaces}; cat /etc/hostname; sleep 1000");
    node.run(&pod, shell("first", &first)).await;
    node.said("first", "F host-0\n").await;
    eventually("the name from the file too", || {
        node.output("first").matches("host-0").count() == 2
    })
    .await;
    let (_, second) = node.script(&pod, "second", namespaces).await;
    let (first, second) = (node.output("first"), second);
    let (first, second): (Vec<&str>, Vec<&str>) = (first.lines().collect(), second.lines().collect());
    for shared in 0..3 {
        assert_eq!(first[shared], second[shared]);
    }
    for own in 3..5 {
        assert_ne!(first[own], second[own]);
    }
    assert_eq!(second[5], "host-0");
    assert!(
        second.contains(&"shared") && !second.contains(&"mine"),
        "{second:?}"
    );
    // The host's are others.
    for (index, name) in ["net", "ipc", "uts", "mnt", "pid"].iter().enumerate() {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(host.display().to_string(), first[index]);
    }
    let (_, output) = node
        .script(
            &pod,
            "third",
            "ip -o link show lo; echo $HOSTNAME; cat /etc/resolv.conf",
        )
        .await;
    assert!(
        output.contains("LOOPBACK,UP") && output.contains("host-0"),
        "{output}"
    );
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_may_live_in_the_hosts_namespaces() {
    let mut node = Node::start().await;
    let mut config = node.pod();
    let options = v1::NamespaceOption {
        network: v1::NamespaceMode::Node as i32,
        pid: v1::NamespaceMode::Node as i32,
        ipc: v1::NamespaceMode::Node as i32,
        ..Default::default()
    };
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = Some(options.clone());
    let pod = node.run_pod(&config).await;
    assert_eq!(node.pod_status(&pod).await.network.unwrap().ip, "");
    assert!(node.network.attached.lock().is_empty());
    let script =
        "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; sleep 1000 & sleep 1000 & wait";
    let mut host = shell("host", script);
    security(&mut host).namespace_options = Some(options);
    let id = node.run(&pod, host).await;
    node.said("host", "pid:").await;
    for (line, name) in node.output("host").lines().zip(["net", "ipc", "uts", "pid"]) {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(host.display().to_string(), line);
    }
    // Nothing but the cgroup says who belongs to the container.
    node.stop(&id, 0).await;
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_may_share_one_pid_namespace() {
    let mut node = Node::start().await;
    let mut config = node.pod();
    let options = support::namespaces(v1::NamespaceMode::Pod, v1::NamespaceMode::Pod);
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().namespace_options = Some(options.clone());
    let pod = node.run_pod(&config).await;
    let mut first = shell("first", "sleep 4321 & echo up; wait");
    security(&mut first).namespace_options = Some(options.clone());
    let first = node.run(&pod, first).await;
    node.said("first", "up").await;
    let mut second = shell("second", "ps");
    security(&mut second).namespace_options = Some(options);
    let second = node.run(&pod, second).await;
    node.exited(&second).await;
    let output = node.output("second");
    assert!(output.contains("sleep 4321"), "{output}");
    assert!(
        output
            .lines()
            .any(|l| l.trim_start().starts_with("1 ") && l.contains("pause")),
        "{output}"
    );
    node.stop(&first, 0).await;
    assert_eq!(node.status(&first).await.exit_code, 137);
    let request = v1::ContainerStatsRequest { container_id: first };
    assert!(node.cri.container_stats(request).await.is_ok());
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_hear_of_every_change() {
    let mut node = Node::start().await;
    let mut events = node
        .cri
        .get_container_events(v1::GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let id = node.run(&pod, shell("a", "exit 4")).await;
    node.exited(&id).await;
    node.remove_pod(&pod).await;
    use v1::ContainerEventType as Event;
    let mut heard = Vec::new();
    for (subject, event) in [
        (&pod, Event::ContainerCreatedEvent),
        (&pod, Event::ContainerStartedEvent),
        (&id, Event::ContainerCreatedEvent),
        (&id, Event::ContainerStartedEvent),
        (&id, Event::ContainerStoppedEvent),
        (&pod, Event::ContainerStoppedEvent),
        (&id, Event::ContainerDeletedEvent),
        (&pod, Event::ContainerDeletedEvent),
    ] {
        let next = tokio::time::timeout(support::PATIENCE, events.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(
            (&next.container_id, next.container_event_type()),
            (subject, event)
        );
        heard.push(next);
    }
    let stopped = &heard[4];
    assert_eq!(stopped.pod_sandbox_status.as_ref().unwrap().id, pod);
    let status = &stopped.containers_statuses[0];
    assert_eq!(
        (status.state(), status.exit_code),
        (v1::ContainerState::ContainerExited, 4)
    );
    node.stop_server().await;
    let end = tokio::time::timeout(support::PATIENCE, events.next())
        .await
        .unwrap();
    assert!(!matches!(end, Some(Ok(_))), "the stream ends with the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered() {
    let mut node = Node::start().await;
    let (one, two) = (node.pod(), node.pod());
    let (one, two) = (node.run_pod(&one).await, node.run_pod(&two).await);
    let id = node.run(&one, shell("a", "sleep 1000")).await;
    node.create(&two, shell("a", "true")).await.unwrap();
    let filter = v1::PodSandboxFilter {
        label_selector: [("app".to_owned(), "pod-1".to_owned())].into(),
        ..Default::default()
    };
    let request = v1::ListPodSandboxRequest { filter: Some(filter) };
    let items = node
        .cri
        .list_pod_sandbox(request)
        .await
        .unwrap()
        .into_inner()
        .items;
    assert_eq!(items.iter().map(|s| &s.id).collect::<Vec<_>>(), [&two]);
    let running = v1::ContainerStateValue {
        state: v1::ContainerState::ContainerRunning as i32,
    };
    for (filter, wanted) in [
        (v1::ContainerFilter::default(), 2),
        (
            v1::ContainerFilter {
                pod_sandbox_id: one.clone(),
                ..Default::default()
            },
            1,
        ),
        (
            v1::ContainerFilter {
                state: Some(running),
                ..Default::default()
            },
            1,
        ),
        (
            v1::ContainerFilter {
                id: id[..10].to_owned(),
                ..Default::default()
            },
            1,
        ),
        (
            v1::ContainerFilter {
                id: "none".into(),
                ..Default::default()
            },
            0,
        ),
    ] {
        let request = v1::ListContainersRequest {
            filter: Some(filter.clone()),
        };
        let found = node
            .cri
            .list_containers(request)
            .await
            .unwrap()
            .into_inner()
            .containers;
        assert_eq!(found.len(), wanted, "{filter:?}");
    }
    node.remove_pod(&one).await;
    node.remove_pod(&two).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}
