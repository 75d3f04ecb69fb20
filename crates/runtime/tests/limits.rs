//! Limits and what is counted against them.

mod support;

use k8s_cri::v1;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Node, cgroup_file, resources, shell};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_wants_too_much_memory_is_oom_killed() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let mut greedy = shell("greedy", "exec awk 'BEGIN { s = \"x\"; while (1) s = s s }'");
    resources(&mut greedy).memory_limit_in_bytes = 32 << 20;
    let greedy = node.run(&pod, greedy).await;
    let status = node.exited(&greedy).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    // Killed by somebody else it is no matter of memory.
    let id = node.run(&pod, shell("killed", "sleep 1000")).await;
    let pid = node.pid(&id).await;
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_eq!(node.exited(&id).await.reason, "Error");
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_the_cgroups_and_can_be_changed() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let mut limited = shell("limited", "sleep 1000");
    *resources(&mut limited) = v1::LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 985,
        ..Default::default()
    };
    let id = node.create(&pod, limited).await.unwrap();
    let change = |memory: i64, quota: i64| v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: memory,
            cpu_quota: quota,
            cpu_period: 100_000,
            ..Default::default()
        }),
        ..Default::default()
    };
    // Before the start it changes what the start will set.
    node.cri
        .update_container_resources(change(96 << 20, 60_000))
        .await
        .unwrap();
    node.start_container(&id).await.unwrap();
    let cgroup = format!("{}/{id}", node.pod_cgroup());
    let memory = || cgroup_file(&cgroup, &["memory.max", "memory.limit_in_bytes"]);
    let quota = || {
        cgroup_file(&cgroup, &["cpu.max", "cpu.cfs_quota_us"])
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(memory(), (96 << 20).to_string());
    assert_eq!(quota(), "60000");
    let weight = cgroup_file(&cgroup, &["cpu.weight", "cpu.shares"]);
    assert!(weight == "512" || weight == "20" || weight == "59", "{weight}");
    let pid = node.pid(&id).await;
    let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "985");

    node.cri
        .update_container_resources(change(80 << 20, 70_000))
        .await
        .unwrap();
    assert_eq!(memory(), (80 << 20).to_string());
    node.cri
        .update_container_resources(change(128 << 20, 70_000))
        .await
        .unwrap();
    assert_eq!((memory(), quota()), ((128 << 20).to_string(), "70000".to_owned()));
    let status = node.status(&id).await.resources.unwrap().linux.unwrap();
    assert_eq!(
        (status.memory_limit_in_bytes, status.cpu_quota, status.cpu_shares),
        (128 << 20, 70_000, 512)
    );
    node.stop_server().await;
    node.start_server().await;
    assert_eq!(
        node.status(&id)
            .await
            .resources
            .unwrap()
            .linux
            .unwrap()
            .memory_limit_in_bytes,
        128 << 20
    );
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_counted() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let busy = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/file bs=1k count=512; echo up; sleep 1000";
    let id = node.run(&pod, shell("busy", busy)).await;
    node.said("busy", "up").await;
    let number = |value: Option<v1::UInt64Value>| value.unwrap().value;
    let request = v1::ContainerStatsRequest {
        container_id: id.clone(),
    };
    let stats = node
        .cri
        .container_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert!(number(stats.cpu.unwrap().usage_core_nano_seconds) > 1_000_000);
    assert!(number(stats.memory.unwrap().working_set_bytes) > 0);
    assert!(number(stats.writable_layer.unwrap().used_bytes) >= 512 << 10);
    let request = v1::PodSandboxStatsRequest {
        pod_sandbox_id: pod.clone(),
    };
    let stats = node
        .cri
        .pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap()
        .linux
        .unwrap();
    assert!(number(stats.cpu.unwrap().usage_core_nano_seconds) > 1_000_000);
    assert_eq!(stats.containers.len(), 1);
    let request = v1::ListContainerStatsRequest { filter: None };
    let all = node
        .cri
        .list_container_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats;
    assert_eq!(all.len(), 1);
    node.remove_pod(&pod).await;
}

/// Not an assertion: the figures for the README, printed when asked for with `--run-ignored`.
#[ignore = "prints figures instead of testing"]
#[tokio::test(flavor = "multi_thread")]
async fn figures() {
    let mut node = Node::start().await;
    let mut times: Vec<[u128; 3]> = Vec::new();
    let mut pods = Vec::new();
    for _ in 0..20 {
        let config = node.pod();
        let begun = std::time::Instant::now();
        let pod = node.run_pod(&config).await;
        let sandbox = begun.elapsed();
        let id = node
            .create(&pod, shell(&format!("c{}", pods.len()), "sleep 1000"))
            .await
            .unwrap();
        let created = begun.elapsed();
        node.start_container(&id).await.unwrap();
        times.push([sandbox, created, begun.elapsed()].map(|d| d.as_micros()));
        pods.push(pod);
    }
    times.sort_by_key(|t| t[2]);
    println!(
        "sandbox, +create, +start in microseconds: fastest {:?}, median {:?}",
        times[0], times[10]
    );
    let shim = node.shim_pid(&pods[0]).await;
    let text = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
    println!("{text}");
    for pod in pods {
        let begun = std::time::Instant::now();
        node.remove_pod(&pod).await;
        println!("removed in {:?}", begun.elapsed());
    }
}
