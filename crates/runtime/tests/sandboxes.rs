//! Sandboxes that can't be made, and what a runtime says of itself.

mod support;

use k8s_cri::v1;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Node, security, shell};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_cannot_be_made_leaves_nothing() {
    let mut node = Node::start().await;
    let run = |config: &v1::PodSandboxConfig| v1::RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: String::new(),
    };
    *node.network.broken.lock() = Some("no address is left".into());
    let config = node.pod();
    let error = node.cri.run_pod_sandbox(run(&config)).await.unwrap_err();
    assert!(error.message().contains("no address is left"), "{error}");
    assert_eq!(node.traces(), Vec::<String>::new());
    *node.network.broken.lock() = None;

    let mut strange = node.pod();
    strange
        .linux
        .as_mut()
        .unwrap()
        .sysctls
        .insert("net.none.such".into(), "1".into());
    let error = node.cri.run_pod_sandbox(run(&strange)).await.unwrap_err();
    assert!(
        error.message().contains("setting sysctl net.none.such=1"),
        "{error}"
    );
    assert_eq!(node.traces(), Vec::<String>::new());

    let other = v1::RunPodSandboxRequest {
        runtime_handler: "gvisor".into(),
        ..run(&config)
    };
    assert_eq!(
        node.cri.run_pod_sandbox(other).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    // The same pod can be tried again.
    let pod = node.run_pod(&config).await;
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_says_what_it_is_and_whether_it_is_well() {
    let mut node = Node::start().await;
    let version = node
        .cri
        .version(v1::VersionRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            version.runtime_name.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("skiff", "v1")
    );
    assert_eq!(version.runtime_version, "test");
    let config = node
        .cri
        .runtime_config(v1::RuntimeConfigRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(config.linux.unwrap().cgroup_driver(), v1::CgroupDriver::Cgroupfs);
    for broken in [None, Some("no subnet yet".to_owned())] {
        *node.network.broken.lock() = broken.clone();
        let status = node
            .cri
            .status(v1::StatusRequest::default())
            .await
            .unwrap()
            .into_inner();
        let conditions = status.status.unwrap().conditions;
        let condition = |kind: &str| conditions.iter().find(|c| c.r#type == kind).unwrap();
        assert!(condition("RuntimeReady").status);
        assert_eq!(condition("NetworkReady").status, broken.is_none());
        assert_eq!(condition("NetworkReady").message, broken.unwrap_or_default());
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(node.path().join("cri.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_may_look_at_anothers_processes() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let target = node
        .run(&pod, shell("target", "sleep 4321 & echo up; wait"))
        .await;
    node.said("target", "up").await;
    let mut debug = shell("debug", "ps");
    security(&mut debug).namespace_options = Some(v1::NamespaceOption {
        pid: v1::NamespaceMode::Target as i32,
        target_id: target.clone(),
        ..Default::default()
    });
    let debug = node.run(&pod, debug).await;
    node.exited(&debug).await;
    let output = node.output("debug");
    assert!(output.contains("sleep 4321"), "{output}");
    // The one who looked took nobody along.
    assert_eq!(
        node.status(&target).await.state(),
        v1::ContainerState::ContainerRunning
    );
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_at_once_come_and_go() {
    let mut node = Node::start().await;
    let mut tasks = Vec::new();
    for number in 0..8 {
        let (mut cri, config) = (node.cri.clone(), node.pod());
        tasks.push(tokio::spawn(async move {
            let request = v1::RunPodSandboxRequest {
                config: Some(config),
                runtime_handler: String::new(),
            };
            let pod = cri
                .run_pod_sandbox(request)
                .await
                .unwrap()
                .into_inner()
                .pod_sandbox_id;
            let request = v1::CreateContainerRequest {
                pod_sandbox_id: pod.clone(),
                config: Some(shell(&format!("c{number}"), "sleep 1000")),
                sandbox_config: None,
            };
            let container_id = cri
                .create_container(request)
                .await
                .unwrap()
                .into_inner()
                .container_id;
            cri.start_container(v1::StartContainerRequest { container_id })
                .await
                .unwrap();
            pod
        }));
    }
    let mut pods = Vec::new();
    for task in tasks {
        pods.push(task.await.unwrap());
    }
    // Two removals of one pod, and a shim that dies in between, must not get in each other's way.
    let shim = node.shim_pid(&pods[0]).await;
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    let removals = pods.iter().chain(&pods).map(|pod| {
        let (mut cri, pod_sandbox_id) = (node.cri.clone(), pod.clone());
        tokio::spawn(async move {
            cri.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id })
                .await
                .unwrap();
        })
    });
    for removal in removals.collect::<Vec<_>>() {
        removal.await.unwrap();
    }
    assert_eq!(node.traces(), Vec::<String>::new());
    assert!(node.network.attached.lock().is_empty());
}
