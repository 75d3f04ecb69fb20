//! Who a container's processes are, what they may do, and what they see.

#![allow(clippy::unwrap_used)]

mod support;

use k8s_cri::v1;
use support::{Node, security, shell};

fn lines(output: &str) -> Vec<&str> {
    output.lines().collect()
}

async fn output(node: &mut Node, pod: &str, config: v1::ContainerConfig) -> String {
    let name = config.metadata.as_ref().unwrap().name.clone();
    let id = node.run(pod, config).await;
    node.exited(&id).await;
    node.output(&name)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_from_the_pod_or_from_the_image() {
    let image = support::image::Config {
        user: "web".into(),
        working_dir: "/made/here".into(),
        ..Default::default()
    };
    let mut node = Node::start_with(image).await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let script = "id -u; id -g; id -G; pwd; echo $HOME";
    let said = output(&mut node, &pod, shell("image", script)).await;
    assert_eq!(lines(&said), ["33", "34", "34 50", "/made/here", "/tmp"]);
    let mut own = shell("own", script);
    security(&mut own).run_as_user = Some(v1::Int64Value { value: 1234 });
    security(&mut own).run_as_group = Some(v1::Int64Value { value: 4321 });
    security(&mut own).supplemental_groups = vec![77];
    own.working_dir = "/tmp".into();
    let id = node.run(&pod, own).await;
    let status = node.exited(&id).await;
    let said = node.output("own");
    assert_eq!(lines(&said)[..4], ["1234", "4321", "4321 77", "/tmp"]);
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups),
        (1234, 4321, vec![4321, 77])
    );
    let mut unknown = shell("unknown", "true");
    security(&mut unknown).run_as_username = "nobody-here".into();
    let error = node.create(&pod, unknown).await.unwrap_err();
    assert!(
        error.message().contains("unable to find user nobody-here"),
        "{error}"
    );
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_are_the_usual_ones_and_what_was_asked_for() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let script = "grep -E 'Cap(Bnd|Eff)|NoNewPrivs|Seccomp:' /proc/self/status";
    let said = output(&mut node, &pod, shell("usual", script)).await;
    // The fourteen that every container runtime gives.
    assert!(
        said.contains("CapEff:\t00000000a80425fb") && said.contains("CapBnd:\t00000000a80425fb"),
        "{said}"
    );
    assert!(
        said.contains("NoNewPrivs:\t0") && said.contains("Seccomp:\t0"),
        "{said}"
    );
    let mut few = shell("few", script);
    security(&mut few).capabilities = Some(v1::Capability {
        add_capabilities: vec!["NET_ADMIN".into()],
        drop_capabilities: vec!["ALL".into()],
        ..Default::default()
    });
    security(&mut few).no_new_privs = true;
    let said = output(&mut node, &pod, few).await;
    assert!(
        said.contains("CapEff:\t0000000000001000") && said.contains("NoNewPrivs:\t1"),
        "{said}"
    );
    let mut privileged = shell(
        "privileged",
        "grep CapEff /proc/self/status; ls /dev | wc -l; mount -t tmpfs x /tmp && echo ok",
    );
    security(&mut privileged).privileged = true;
    let said = output(&mut node, &pod, privileged).await;
    let host = std::fs::read_to_string("/proc/self/status").unwrap();
    let bound = host.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).unwrap();
    assert!(said.contains(bound) && said.contains("ok"), "{said}");
    node.remove_pod(&pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_seccomp_profile_lets_programs_run_and_keeps_the_kernel_shut() {
    let mut node = Node::start().await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    for (name, no_new_privs) in [("a", false), ("b", true)] {
        let script = "grep Seccomp: /proc/self/status; (true | cat) && echo forked; \
                      unshare -U true || echo refused; sleep 0.01 && echo slept";
        let mut confined = shell(name, script);
        security(&mut confined).seccomp = Some(v1::SecurityProfile {
            profile_type: v1::security_profile::ProfileType::RuntimeDefault as i32,
            ..Default::default()
        });
        security(&mut confined).no_new_privs = no_new_privs;
        let id = node.run(&pod, confined).await;
        node.exited(&id).await;
        let log = node.log(name);
        for wanted in [
            "Seccomp:\t2",
            "forked",
            "refused",
            "Operation not permitted",
            "slept",
        ] {
            assert!(log.contains(wanted), "{wanted}: {log}");
        }
    }
    node.remove_pod(&pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_where_they_were_put_and_no_more() {
    let mut node = Node::start().await;
    let mut config = node.pod();
    config.dns_config = Some(v1::DnsConfig {
        servers: vec!["10.96.0.10".into()],
        searches: vec!["default.svc.cluster.local".into()],
        options: vec!["ndots:5".into()],
    });
    config
        .linux
        .as_mut()
        .unwrap()
        .sysctls
        .insert("net.ipv4.ip_unprivileged_port_start".into(), "81".into());
    let pod = node.run_pod(&config).await;
    let volume = node.path().join("volume");
    std::fs::create_dir_all(volume.join("deep")).unwrap();
    std::fs::write(volume.join("file"), "content\n").unwrap();
    let mount = |at: &str, from: &str, readonly| v1::Mount {
        container_path: at.into(),
        host_path: volume.join(from).display().to_string(),
        readonly,
        ..Default::default()
    };
    let script = "cat /etc/resolv.conf /etc/hostname /one/file /single; touch /nope || echo ro-root; \
                  touch /one/nope || echo ro-volume; touch /two/new && echo rw-volume; touch /sys/x || echo ro-sys; \
                  cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/kcore | wc -c; echo x > /proc/sys/kernel/hostname; ls -d /two/deep /made";
    let mut config = shell("a", script);
    config.mounts = vec![
        mount("/two/deep", "deep", false),
        mount("/one", ".", true),
        mount("/two", ".", false),
        mount("/single", "file", false),
        mount("/made", "not-yet", false),
    ];
    security(&mut config).readonly_rootfs = true;
    security(&mut config).masked_paths = vec!["/proc/kcore".into()];
    security(&mut config).readonly_paths = vec!["/proc/sys".into()];
    let said = output(&mut node, &pod, config).await;
    let wanted = [
        "search default.svc.cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
        "host-0",
        "content",
        "content",
        "ro-root",
        "ro-volume",
        "rw-volume",
        "ro-sys",
        "81",
        "0",
    ];
    let said: Vec<&str> = said
        .lines()
        .filter(|l| !l.contains("Read-only") && !l.contains("denied"))
        .collect();
    let order: Vec<&str> = said.iter().copied().filter(|l| wanted.contains(l)).collect();
    assert_eq!(order, wanted);
    assert!(volume.join("new").exists() && volume.join("not-yet").is_dir());
    assert!(said.contains(&"/two/deep") && said.contains(&"/made"), "{said:?}");
    node.remove_pod(&pod).await;
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_and_command_come_from_both() {
    let image = support::image::Config {
        env: vec!["A=image".into(), "B=image".into()],
        entrypoint: vec!["sh".into(), "-c".into()],
        cmd: vec!["echo default $A $B $C".into()],
        ..Default::default()
    };
    let mut node = Node::start_with(image).await;
    let config = node.pod();
    let pod = node.run_pod(&config).await;
    let mut plain = support::container("plain", &[]);
    plain.envs = vec![v1::KeyValue {
        key: "B".into(),
        value: "pod".into(),
    }];
    assert_eq!(output(&mut node, &pod, plain).await, "default image pod\n");
    let mut args = support::container("args", &[]);
    args.args = vec!["echo args".into()];
    assert_eq!(output(&mut node, &pod, args).await, "args\n");
    assert_eq!(
        output(&mut node, &pod, support::container("both", &["echo", "command"])).await,
        "command\n"
    );
    // What a program inherits is as usual: a broken pipe ends it.
    let script = "yes | head -n 1; grep -E 'Sig(Ign|Blk)' /proc/self/status";
    let said = output(&mut node, &pod, support::container("pipe", &["sh", "-c", script])).await;
    let said = lines(&said);
    assert_eq!(said[0], "y");
    for mask in &said[1..] {
        let mask = u64::from_str_radix(mask.split('\t').nth(1).unwrap(), 16).unwrap();
        // The shell has its own mind about some others.
        assert_eq!(mask >> (libc::SIGPIPE - 1) & 1, 0, "{said:?}");
        assert_eq!(mask >> (libc::SIGCHLD - 1) & 1, 0, "{said:?}");
    }
    node.remove_pod(&pod).await;
}
