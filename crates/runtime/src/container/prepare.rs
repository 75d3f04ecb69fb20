//! From CRI's request to a bundle on disk: everything of a container but its process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_cri::v1;
use oci_spec::image::ImageConfiguration;
use tonic::Status;

use super::spec::{self, Inputs, Joined, PidNamespace};
use super::user::{self, Database, User, Wish};
use super::{ContainerPaths, ContainerRecord, MountRecord, Resources, capability, device, rootfs};
use crate::cgroup::Layout;
use crate::sandbox::{SandboxPaths, SandboxRecord};
use crate::state::write_atomically;

/// What a bundle is made from.
pub(crate) struct Preparation {
    pub id: String,
    pub config: v1::ContainerConfig,
    pub image: ImageConfiguration,
    pub image_id: String,
    pub image_ref: String,
    pub image_tag: String,
    pub lower: Vec<PathBuf>,
    pub sandbox: SandboxRecord,
    pub sandbox_paths: SandboxPaths,
    pub paths: ContainerPaths,
    pub layout: Layout,
    /// The first process of the container whose processes this one shall see.
    pub target_pid: Option<i32>,
    pub created_at: i64,
}

/// Makes the bundle. Waits for the disk.
pub(crate) fn prepare(wanted: &Preparation) -> Result<ContainerRecord, Status> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| Status::unknown(format!("{what}: {e}"))
    };
    fs::create_dir_all(&wanted.paths.folder).map_err(failed("failed to create container"))?;
    rootfs::mount_rootfs(&wanted.paths, &wanted.lower).map_err(failed("failed to mount root file system"))?;
    let user = find_user(wanted)?;
    let directory = spec::working_directory(&wanted.config, &wanted.image).map_err(invalid)?;
    rootfs::make_folder(&wanted.paths.rootfs, &directory)
        .map_err(failed("failed to create working directory"))?;
    for mount in &wanted.config.mounts {
        make_source(mount).map_err(|e| {
            Status::unknown(format!(
                "failed to generate container \"{}\" spec: failed to generate spec: failed to mkdir \"{}\": {e}",
                wanted.id, mount.host_path
            ))
        })?;
    }
    let record = record(wanted, &user)?;
    let spec = specification(wanted, &user, &record)?;
    let config = wanted.paths.folder.join("config.json");
    write_atomically(&config, &spec, false).map_err(failed("failed to write container spec"))?;
    let file = wanted.paths.folder.join(ContainerRecord::FILE);
    write_atomically(&file, &record, true).map_err(failed("failed to save container"))?;
    Ok(record)
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::unknown(format!("failed to generate container spec: {error}"))
}

fn find_user(wanted: &Preparation) -> Result<User, Status> {
    let security = spec::security(&wanted.config);
    let image_user = wanted
        .image
        .config()
        .as_ref()
        .and_then(|c| c.user().clone())
        .unwrap_or_default();
    let database = Database::read(&wanted.paths.rootfs)
        .map_err(|e| Status::unknown(format!("failed to read the image's users: {e}")))?;
    let wish = Wish {
        image_user: &image_user,
        run_as_user: security.run_as_user.map(|v| v.value),
        run_as_username: &security.run_as_username,
        run_as_group: security.run_as_group.map(|v| v.value),
        supplemental_groups: &security.supplemental_groups,
        strict_groups: security.supplemental_groups_policy == v1::SupplementalGroupsPolicy::Strict as i32,
    };
    user::resolve(&wish, &database).map_err(invalid)
}

/// A volume's source that isn't there is made as a folder, as CRI runtimes have always done.
fn make_source(mount: &v1::Mount) -> io::Result<()> {
    let source = Path::new(&mount.host_path);
    match fs::metadata(source) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(source),
        other => other.map(|_| ()),
    }
}

fn record(wanted: &Preparation, user: &User) -> Result<ContainerRecord, Status> {
    let config = &wanted.config;
    let metadata = config
        .metadata
        .clone()
        .ok_or_else(|| Status::invalid_argument("container config must include metadata"))?;
    let image = config.image.clone().unwrap_or_default();
    let resources = config.linux.as_ref().and_then(|l| l.resources.as_ref());
    let modes = spec::security(config).namespace_options.unwrap_or_default();
    let log_path =
        Some(&config.log_path).filter(|p| !p.is_empty() && wanted.sandbox.log_directory.has_root());
    let stop_signal = wanted
        .image
        .config()
        .as_ref()
        .and_then(|c| c.stop_signal().clone());
    let cgroup = format!(
        "{}/{}",
        wanted.sandbox.cgroup_parent.trim_end_matches('/'),
        wanted.id
    );
    Ok(ContainerRecord {
        id: wanted.id.clone(),
        sandbox: wanted.sandbox.id.clone(),
        name: metadata.name,
        attempt: metadata.attempt,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        image: image.image,
        user_specified_image: image.user_specified_image,
        image_tag: wanted.image_tag.clone(),
        image_ref: wanted.image_ref.clone(),
        image_id: wanted.image_id.clone(),
        created_at: wanted.created_at,
        log_path: log_path.map(|path| wanted.sandbox.log_directory.join(path)),
        mounts: config.mounts.iter().map(MountRecord::from_cri).collect(),
        resources: resources.map(Resources::from_cri).unwrap_or_default(),
        uid: user.uid,
        gid: user.gid,
        groups: user.additional_gids.clone(),
        tty: config.tty,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        stop_signal: stop_signal
            .and_then(|s| super::stop::signal_number(&s))
            .unwrap_or(libc::SIGTERM),
        cgroup: if cgroup.starts_with('/') {
            cgroup
        } else {
            format!("/{cgroup}")
        },
        private_pid: modes.pid() == v1::NamespaceMode::Container,
    })
}

impl MountRecord {
    fn from_cri(mount: &v1::Mount) -> Self {
        Self {
            container_path: mount.container_path.clone(),
            host_path: mount.host_path.clone(),
            readonly: mount.readonly,
            propagation: mount.propagation,
            recursive_read_only: mount.recursive_read_only,
        }
    }
}

fn joined(wanted: &Preparation) -> Result<Joined, Status> {
    let sandbox = &wanted.sandbox;
    let shim = |kind: &str| PathBuf::from(format!("/proc/{}/ns/{kind}", sandbox.shim_pid));
    let node = v1::NamespaceMode::Node as i32;
    let modes = spec::security(&wanted.config)
        .namespace_options
        .unwrap_or_default();
    let pid = match modes.pid() {
        v1::NamespaceMode::Container => PidNamespace::Own,
        v1::NamespaceMode::Node => PidNamespace::Host,
        v1::NamespaceMode::Pod => match sandbox.pid_namespace_init {
            Some(init) => PidNamespace::Of(format!("/proc/{}/ns/pid", init.pid).into()),
            None => {
                return Err(Status::invalid_argument(
                    "the sandbox has no PID namespace to share",
                ));
            }
        },
        v1::NamespaceMode::Target => match wanted.target_pid {
            Some(pid) => PidNamespace::Of(format!("/proc/{pid}/ns/pid").into()),
            None => return Err(Status::failed_precondition("the target container is not running")),
        },
    };
    Ok(Joined {
        network: (sandbox.network_mode != node).then(|| shim("net")),
        ipc: (sandbox.ipc_mode != node).then(|| shim("ipc")),
        uts: (sandbox.network_mode != node).then(|| shim("uts")),
        pid,
    })
}

fn specification(
    wanted: &Preparation,
    user: &User,
    record: &ContainerRecord,
) -> Result<oci_spec::runtime::Spec, Status> {
    let config = &wanted.config;
    let security = spec::security(config);
    let io = |e: io::Error| Status::unknown(format!("failed to generate container spec: {e}"));
    let mut devices = device::requested(&config.devices).map_err(io)?;
    if security.privileged {
        devices.extend(device::all().map_err(io)?);
    }
    let local_seccomp = match &security.seccomp {
        Some(profile) if profile.profile_type() == v1::security_profile::ProfileType::Localhost => {
            let path = profile.localhost_ref.trim_start_matches("localhost/");
            let text = fs::read(path).map_err(|e| Status::unknown(format!("seccomp profile {path}: {e}")))?;
            Some(serde_json::from_slice(&text).map_err(invalid)?)
        }
        _ => None,
    };
    let available = capability::available().map_err(io)?;
    let folder = &wanted.sandbox_paths.folder;
    let own_ipc = wanted.sandbox.ipc_mode != v1::NamespaceMode::Node as i32;
    let inputs = Inputs {
        config,
        image: &wanted.image,
        user,
        rootfs: &wanted.paths.rootfs,
        namespaces: joined(wanted)?,
        hostname: &wanted.sandbox.hostname,
        shm: if own_ipc {
            &wanted.sandbox_paths.shm
        } else {
            Path::new("/dev/shm")
        },
        files: vec![
            ("/etc/hostname", folder.join("hostname")),
            ("/etc/hosts", folder.join("hosts")),
            ("/etc/resolv.conf", folder.join("resolv.conf")),
        ],
        cgroup: &record.cgroup,
        devices,
        available_capabilities: &available,
        local_seccomp,
        swap_limits: wanted.layout.limits_swap(),
        annotations: vec![
            ("io.kubernetes.cri.container-type", "container".to_owned()),
            ("io.kubernetes.cri.container-name", record.name.clone()),
            ("io.kubernetes.cri.image-name", record.image.clone()),
            ("io.kubernetes.cri.sandbox-id", wanted.sandbox.id.clone()),
            ("io.kubernetes.cri.sandbox-name", wanted.sandbox.name.clone()),
            (
                "io.kubernetes.cri.sandbox-namespace",
                wanted.sandbox.namespace.clone(),
            ),
            ("io.kubernetes.cri.sandbox-uid", wanted.sandbox.uid.clone()),
        ],
    };
    spec::build(&inputs).map_err(invalid)
}
