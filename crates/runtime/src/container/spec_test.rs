use std::collections::HashMap;

use super::*;

/// What a test is free to change.
struct Case {
    config: v1::ContainerConfig,
    image: ImageConfiguration,
    user: User,
    namespaces: Joined,
    available: Vec<String>,
}

fn image(config: Value) -> ImageConfiguration {
    serde_json::from_value(json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [] },
    }))
    .unwrap()
}

fn case() -> Case {
    Case {
        config: v1::ContainerConfig {
            command: vec!["run".into()],
            ..Default::default()
        },
        image: image(json!({})),
        user: User::default(),
        namespaces: Joined {
            network: Some("/proc/7/ns/net".into()),
            ipc: Some("/proc/7/ns/ipc".into()),
            uts: Some("/proc/7/ns/uts".into()),
            pid: PidNamespace::Own,
        },
        available: capability::DEFAULT
            .iter()
            .map(|c| (*c).to_owned())
            .chain(["CAP_NET_ADMIN".into()])
            .collect(),
    }
}

impl Case {
    fn build(&self) -> Result<Value, SpecError> {
        let spec = build(&Inputs {
            config: &self.config,
            image: &self.image,
            user: &self.user,
            rootfs: Path::new("/root"),
            namespaces: self.namespaces.clone(),
            hostname: "pod",
            shm: Path::new("/run/shm"),
            files: vec![
                ("/etc/hosts", "/state/hosts".into()),
                ("/etc/hostname", "/state/hostname".into()),
            ],
            cgroup: "/kubepods/pod1/c1",
            devices: Vec::new(),
            available_capabilities: &self.available,
            local_seccomp: None,
            swap_limits: true,
            annotations: vec![("io.kubernetes.cri.container-type", "container".into())],
        })?;
        Ok(serde_json::to_value(spec).unwrap())
    }

    fn security(&mut self) -> &mut v1::LinuxContainerSecurityContext {
        let linux = self.config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_pods_command_replaces_the_images_entry_point_and_arguments() {
    for (entrypoint, cmd, command, args, wanted) in [
        ("entry", "cmd", "", "", Some("entry cmd")),
        ("entry", "cmd", "", "args", Some("entry args")),
        ("entry", "cmd", "command", "", Some("command")),
        ("entry", "cmd", "command", "args", Some("command args")),
        ("", "cmd", "", "", Some("cmd")),
        ("entry", "", "", "", Some("entry")),
        ("", "", "", "args", Some("args")),
        ("", "", "", "", None),
    ] {
        let image = image(json!({ "Entrypoint": words(entrypoint), "Cmd": words(cmd) }));
        let config = v1::ContainerConfig {
            command: words(command),
            args: words(args),
            ..Default::default()
        };
        let found = arguments(&config, &image).ok();
        assert_eq!(found, wanted.map(words), "{entrypoint} {cmd} {command} {args}");
    }
}

#[test]
fn later_environment_wins_and_keeps_its_place() {
    let mut case = case();
    case.image = image(json!({ "Env": ["PATH=/image", "A=image", "B=image"] }));
    case.user.home = Some("/home/me".into());
    case.config.envs = vec![v1::KeyValue {
        key: "A".into(),
        value: "pod=1".into(),
    }];
    let environment = |case: &Case| case.build().unwrap()["process"]["env"].clone();
    assert_eq!(
        environment(&case),
        json!([
            "PATH=/image",
            "HOSTNAME=pod",
            "A=pod=1",
            "B=image",
            "HOME=/home/me"
        ])
    );
    case.config.tty = true;
    case.image = image(json!({}));
    case.config.envs = vec![v1::KeyValue {
        key: "HOME".into(),
        value: "/".into(),
    }];
    assert_eq!(
        environment(&case),
        json!([DEFAULT_PATH, "TERM=xterm", "HOSTNAME=pod", "HOME=/"])
    );
}

#[test]
fn a_working_directory_is_absolute() {
    for (image_dir, own, wanted) in [
        ("", "", Some("/")),
        ("/image", "", Some("/image")),
        ("/image", "/own", Some("/own")),
        ("", "relative", None),
    ] {
        let image = image(json!({ "WorkingDir": image_dir }));
        let config = v1::ContainerConfig {
            working_dir: own.into(),
            ..Default::default()
        };
        assert_eq!(working_directory(&config, &image).ok().as_deref(), wanted);
    }
}

#[test]
fn capabilities_are_added_and_dropped() {
    let usual = capability::DEFAULT.join(" ");
    let with = |extra: &str| format!("{usual} {extra}");
    let without_chown = usual.replacen("CAP_CHOWN ", "", 1);
    for (add, drop, wanted) in [
        ("", "", Some(usual.clone())),
        ("NET_ADMIN", "", Some(with("CAP_NET_ADMIN"))),
        ("cap_net_admin CHOWN", "", Some(with("CAP_NET_ADMIN"))),
        ("", "CHOWN", Some(without_chown)),
        ("", "ALL", Some(String::new())),
        ("KILL", "ALL", Some("CAP_KILL".into())),
        ("ALL", "", Some(with("CAP_NET_ADMIN"))),
        // Nobody can give what this process doesn't have.
        ("SYS_TIME", "", Some(usual.clone())),
        ("FLY", "", None),
    ] {
        let mut case = case();
        case.security().capabilities = Some(v1::Capability {
            add_capabilities: words(add),
            drop_capabilities: words(drop),
            ..Default::default()
        });
        let context = case.security().clone();
        let found = capabilities(&context, &case.available).ok();
        assert_eq!(found, wanted.map(|w| words(&w)), "+{add} -{drop}");
    }
}

#[test]
fn privileges_open_everything_at_once() {
    let mut case = case();
    case.security().masked_paths = vec!["/proc/kcore".into()];
    case.security().readonly_paths = vec!["/proc/sys".into()];
    case.security().seccomp = Some(v1::SecurityProfile::default());
    let shut = case.build().unwrap();
    case.security().privileged = true;
    let open = case.build().unwrap();
    let access = |spec: &Value, at: &str| -> Value {
        let mounts = spec["mounts"].as_array().unwrap();
        let options = mounts.iter().find(|m| m["destination"] == at).unwrap()["options"]
            .as_array()
            .unwrap();
        options.last().unwrap().clone()
    };
    assert_eq!(shut["linux"]["maskedPaths"], json!(["/proc/kcore"]));
    assert_eq!(shut["linux"]["readonlyPaths"], json!(["/proc/sys"]));
    assert_eq!(shut["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert!(open["linux"].get("seccomp").is_none());
    assert_ne!(open["linux"].get("maskedPaths"), Some(&json!(["/proc/kcore"])));
    for at in ["/sys", "/sys/fs/cgroup"] {
        assert_eq!((access(&shut, at), access(&open, at)), (json!("ro"), json!("rw")));
    }
    let devices = |spec: &Value| spec["linux"]["resources"]["devices"][0]["allow"].clone();
    assert_eq!((devices(&shut), devices(&open)), (json!(false), json!(true)));
    let kinds = |spec: &Value| spec["linux"]["namespaces"].as_array().unwrap().len();
    assert_eq!(
        (kinds(&shut), kinds(&open)),
        (6, 5),
        "a cgroup namespace would only hide what it may see"
    );
}

#[test]
fn nothing_is_said_of_seccomp_and_privileges_unless_asked() {
    let mut case = case();
    let plain = case.build().unwrap();
    assert!(plain["linux"].get("seccomp").is_none());
    assert!(plain["process"].get("noNewPrivileges").is_none());
    case.security().no_new_privs = true;
    assert_eq!(case.build().unwrap()["process"]["noNewPrivileges"], true);
}

#[test]
fn namespaces_are_joined_made_or_the_hosts() {
    let text = |case: &Case| -> String {
        let spec = case.build().unwrap();
        let all = spec["linux"]["namespaces"].as_array().unwrap().iter();
        let word = |n: &Value| n["type"].as_str().unwrap().to_owned() + n["path"].as_str().unwrap_or("");
        all.map(word).collect::<Vec<_>>().join(" ")
    };
    let mut case = case();
    assert_eq!(
        text(&case),
        "mount pid network/proc/7/ns/net ipc/proc/7/ns/ipc uts/proc/7/ns/uts cgroup"
    );
    case.namespaces = Joined {
        pid: PidNamespace::Of("/proc/8/ns/pid".into()),
        ..Joined::default()
    };
    assert_eq!(text(&case), "mount pid/proc/8/ns/pid cgroup");
    case.namespaces.pid = PidNamespace::Host;
    assert_eq!(text(&case), "mount cgroup");
}

#[test]
fn mounts_come_in_an_order_that_works_and_replace_the_pods_files() {
    let mut case = case();
    let volume = |at: &str, readonly, recursive, propagation: v1::MountPropagation| v1::Mount {
        container_path: at.into(),
        host_path: format!("/host{at}"),
        readonly,
        recursive_read_only: recursive,
        propagation: propagation as i32,
        ..Default::default()
    };
    use v1::MountPropagation::{PropagationBidirectional, PropagationHostToContainer, PropagationPrivate};
    case.config.mounts = vec![
        volume("/a/b/c", true, false, PropagationPrivate),
        volume("/a", false, false, PropagationHostToContainer),
        volume("/etc/hosts", false, false, PropagationPrivate),
        volume("/dev/shm/", true, true, PropagationPrivate),
    ];
    let spec = case.build().unwrap();
    let text = |spec: &Value| -> Vec<String> {
        let mounts = spec["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|m| m["type"] == "bind");
        let options = |m: &Value| -> Vec<String> {
            m["options"]
                .as_array()
                .unwrap()
                .iter()
                .map(|o| o.as_str().unwrap().to_owned())
                .collect()
        };
        mounts
            .map(|m| {
                let path = |key: &str| m[key].as_str().unwrap().to_owned();
                format!(
                    "{} {} {}",
                    path("source"),
                    path("destination"),
                    options(m).join(",")
                )
            })
            .collect()
    };
    assert_eq!(
        text(&spec),
        [
            "/state/hostname /etc/hostname rbind,rprivate,rw",
            "/host/a /a rbind,rslave,rw",
            "/host/etc/hosts /etc/hosts rbind,rprivate,rw",
            "/host/dev/shm/ /dev/shm/ rbind,rprivate,rro",
            "/host/a/b/c /a/b/c rbind,rprivate,ro",
        ]
    );
    assert!(spec["linux"].get("rootfsPropagation").is_none());
    case.config.mounts = vec![volume("/a", false, false, PropagationBidirectional)];
    let spec = case.build().unwrap();
    assert_eq!(spec["linux"]["rootfsPropagation"], "shared");
    assert_eq!(text(&spec)[0], "/run/shm /dev/shm rbind,rprivate,rw");
    case.config.mounts = vec![volume("relative", false, false, PropagationPrivate)];
    assert!(matches!(case.build(), Err(SpecError::RelativeMount(_))));
}

#[test]
fn limits_are_passed_on_and_zero_means_nothing() {
    let mut case = case();
    let none = case.build().unwrap()["linux"]["resources"].clone();
    assert!(none.get("cpu").is_none() && none.get("memory").is_none());
    case.config.linux.get_or_insert_default().resources = Some(v1::LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: -1,
        cpu_period: 100_000,
        cpuset_cpus: "0-1".into(),
        memory_limit_in_bytes: 1 << 20,
        unified: HashMap::from([("memory.high".to_owned(), "900000".to_owned())]),
        ..Default::default()
    });
    let some = case.build().unwrap()["linux"]["resources"].clone();
    assert_eq!(
        some["cpu"],
        json!({ "shares": 512, "quota": -1, "period": 100_000, "cpus": "0-1" })
    );
    assert_eq!(some["memory"], json!({ "limit": 1 << 20, "swap": 1 << 20 }));
    assert_eq!(some["unified"], json!({ "memory.high": "900000" }));
}
