//! From what CRI and the image say to an OCI runtime specification. Pure: what has to be looked up on the host comes in.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use k8s_cri::v1;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::capability;
use super::seccomp;
use super::user::User;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A device node to make in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub path: PathBuf,
    /// `c`, `b` or `p`.
    pub kind: char,
    pub major: i64,
    pub minor: i64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of `rwm`.
    pub access: String,
}

/// The namespaces that a container joins, by path; `None` is the host's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Joined {
    pub network: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    pub uts: Option<PathBuf>,
    pub pid: PidNamespace,
}

/// Whose processes a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    /// Its own.
    #[default]
    Own,
    /// Those of this namespace.
    Of(PathBuf),
    /// The host's.
    Host,
}

/// Everything that the specification follows from.
#[derive(Clone, Debug)]
pub(crate) struct Inputs<'a> {
    pub config: &'a v1::ContainerConfig,
    pub image: &'a ImageConfiguration,
    pub user: &'a User,
    pub rootfs: &'a Path,
    pub namespaces: Joined,
    pub hostname: &'a str,
    /// The pod's `/dev/shm` on the host.
    pub shm: &'a Path,
    /// The pod's files on the host, by their path in the container, as `/etc/resolv.conf`.
    pub files: Vec<(&'static str, PathBuf)>,
    pub cgroup: &'a str,
    /// Devices that the container asks for; all of the host's when it is privileged.
    pub devices: Vec<Device>,
    /// What this process may give away: a container can't have more.
    pub available_capabilities: &'a [String],
    /// The seccomp profile that `localhost_ref` names.
    pub local_seccomp: Option<Value>,
    /// Whether the kernel can limit swap here.
    pub swap_limits: bool,
    pub annotations: Vec<(&'static str, String)>,
}

/// Why there is no specification.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("no command specified")]
    NoCommand,
    #[error("working directory \"{0}\" is not absolute")]
    RelativeDirectory(String),
    #[error("mount path \"{0}\" is not absolute")]
    RelativeMount(String),
    #[error("unknown capability \"{0}\"")]
    Capability(String),
    #[error("specification: {0}")]
    Shape(#[from] serde_json::Error),
}

/// Builds the specification.
pub(crate) fn build(inputs: &Inputs<'_>) -> Result<Spec, SpecError> {
    let security = security(inputs.config);
    let privileged = security.privileged;
    let capabilities = capabilities(&security, inputs.available_capabilities)?;
    let ambient = ambient(&security, &capabilities)?;
    let mut process = json!({
        "terminal": inputs.config.tty,
        "user": {
            "uid": inputs.user.uid,
            "gid": inputs.user.gid,
            "additionalGids": inputs.user.additional_gids,
        },
        "args": arguments(inputs.config, inputs.image)?,
        "env": environment(inputs),
        "cwd": working_directory(inputs.config, inputs.image)?,
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
            "inheritable": ambient,
            "ambient": ambient,
        },
    });
    // Said only when true: otherwise libcontainer would load the seccomp filter too late to be allowed to.
    if security.no_new_privs {
        insert(&mut process, "noNewPrivileges", json!(true));
    }
    if let Some(profile) = security.apparmor.as_ref().filter(|_| !privileged)
        && profile.profile_type() == v1::security_profile::ProfileType::Localhost
    {
        insert(&mut process, "apparmorProfile", json!(profile.localhost_ref));
    }
    let mut linux = json!({
        "cgroupsPath": inputs.cgroup,
        "namespaces": namespaces(&inputs.namespaces, privileged),
        "resources": resources(inputs, privileged),
        "devices": inputs.devices.iter().map(device).collect::<Vec<_>>(),
    });
    if !privileged {
        insert(&mut linux, "maskedPaths", json!(security.masked_paths));
        insert(&mut linux, "readonlyPaths", json!(security.readonly_paths));
        if let Some(profile) = seccomp_profile(&security, &capabilities, inputs.local_seccomp.as_ref()) {
            insert(&mut linux, "seccomp", profile);
        }
    }
    let bidirectional = v1::MountPropagation::PropagationBidirectional;
    if inputs
        .config
        .mounts
        .iter()
        .any(|m| m.propagation() == bidirectional)
    {
        insert(&mut linux, "rootfsPropagation", json!("shared"));
    }
    let spec = json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": inputs.rootfs, "readonly": security.readonly_rootfs },
        "mounts": mounts(inputs, privileged)?,
        "linux": linux,
        "annotations": inputs.annotations.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    Ok(serde_json::from_value(spec)?)
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// The security context; an empty one when there is none.
pub(crate) fn security(config: &v1::ContainerConfig) -> v1::LinuxContainerSecurityContext {
    config
        .linux
        .as_ref()
        .and_then(|l| l.security_context.clone())
        .unwrap_or_default()
}

/// The command line: the pod's command replaces the image's entry point *and* its arguments.
pub(crate) fn arguments(
    config: &v1::ContainerConfig,
    image: &ImageConfiguration,
) -> Result<Vec<String>, SpecError> {
    let image = image.config().as_ref();
    let (mut command, mut args) = (config.command.clone(), config.args.clone());
    if command.is_empty() {
        if args.is_empty() {
            args = image.and_then(|i| i.cmd().clone()).unwrap_or_default();
        }
        command = image.and_then(|i| i.entrypoint().clone()).unwrap_or_default();
    }
    command.append(&mut args);
    match command.first() {
        Some(program) if !program.is_empty() => Ok(command),
        _ => Err(SpecError::NoCommand),
    }
}

fn environment(inputs: &Inputs<'_>) -> Vec<String> {
    let mut environment = vec![DEFAULT_PATH.to_owned()];
    let mut set = |entry: String| {
        let name = entry.split('=').next().unwrap_or_default();
        let same = |known: &String| known.split('=').next() == Some(name);
        match environment.iter().position(same) {
            Some(at) => {
                if let Some(known) = environment.get_mut(at) {
                    *known = entry;
                }
            }
            None => environment.push(entry),
        }
    };
    if inputs.config.tty {
        set("TERM=xterm".to_owned());
    }
    set(format!("HOSTNAME={}", inputs.hostname));
    let image = inputs.image.config().as_ref().and_then(|c| c.env().clone());
    image.unwrap_or_default().into_iter().for_each(&mut set);
    inputs
        .config
        .envs
        .iter()
        .map(|e| format!("{}={}", e.key, e.value))
        .for_each(&mut set);
    if let Some(home) = &inputs.user.home
        && !environment.iter().any(|e| e.starts_with("HOME="))
    {
        environment.push(format!("HOME={home}"));
    }
    environment
}

/// Where the process starts.
pub(crate) fn working_directory(
    config: &v1::ContainerConfig,
    image: &ImageConfiguration,
) -> Result<String, SpecError> {
    let image = image
        .config()
        .as_ref()
        .and_then(|c| c.working_dir().clone())
        .unwrap_or_default();
    let directory = if config.working_dir.is_empty() {
        image
    } else {
        config.working_dir.clone()
    };
    match directory.as_str() {
        "" => Ok("/".to_owned()),
        absolute if absolute.starts_with('/') => Ok(directory),
        _ => Err(SpecError::RelativeDirectory(directory)),
    }
}

fn capabilities(
    security: &v1::LinuxContainerSecurityContext,
    available: &[String],
) -> Result<Vec<String>, SpecError> {
    if security.privileged {
        return Ok(available.to_vec());
    }
    let wish = security.capabilities.clone().unwrap_or_default();
    let names = |names: &[String]| -> Result<Vec<String>, SpecError> {
        let specific = names.iter().filter(|n| !n.eq_ignore_ascii_case("ALL"));
        specific
            .map(|n| capability::full_name(n).ok_or_else(|| SpecError::Capability(n.clone())))
            .collect()
    };
    let all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
    let mut chosen: Vec<String> = if all(&wish.drop_capabilities) {
        Vec::new()
    } else if all(&wish.add_capabilities) {
        available.to_vec()
    } else {
        capability::DEFAULT.iter().map(|c| (*c).to_owned()).collect()
    };
    chosen.extend(names(&wish.add_capabilities)?);
    let dropped = names(&wish.drop_capabilities)?;
    let mut seen = HashSet::new();
    chosen.retain(|c| !dropped.contains(c) && available.contains(c) && seen.insert(c.clone()));
    Ok(chosen)
}

fn ambient(
    security: &v1::LinuxContainerSecurityContext,
    capabilities: &[String],
) -> Result<Vec<String>, SpecError> {
    let wish = security
        .capabilities
        .iter()
        .flat_map(|c| &c.add_ambient_capabilities);
    let named = wish.map(|n| capability::full_name(n).ok_or_else(|| SpecError::Capability(n.clone())));
    let named: Vec<String> = named.collect::<Result<_, _>>()?;
    Ok(named.into_iter().filter(|c| capabilities.contains(c)).collect())
}

fn seccomp_profile(
    security: &v1::LinuxContainerSecurityContext,
    capabilities: &[String],
    local: Option<&Value>,
) -> Option<Value> {
    use v1::security_profile::ProfileType;
    match security.seccomp.as_ref()?.profile_type() {
        ProfileType::RuntimeDefault => Some(seccomp::runtime_default(capabilities)),
        ProfileType::Localhost => local.cloned().map(seccomp::from_file),
        ProfileType::Unconfined => None,
    }
}

fn namespaces(joined: &Joined, privileged: bool) -> Vec<Value> {
    let mut namespaces = vec![json!({ "type": "mount" })];
    match &joined.pid {
        PidNamespace::Own => namespaces.push(json!({ "type": "pid" })),
        PidNamespace::Of(path) => namespaces.push(json!({ "type": "pid", "path": path })),
        PidNamespace::Host => {}
    }
    for (kind, path) in [
        ("network", &joined.network),
        ("ipc", &joined.ipc),
        ("uts", &joined.uts),
    ] {
        if let Some(path) = path {
            namespaces.push(json!({ "type": kind, "path": path }));
        }
    }
    if !privileged {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    namespaces
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn mounts(inputs: &Inputs<'_>, privileged: bool) -> Result<Vec<Value>, SpecError> {
    let access = if privileged { "rw" } else { "ro" };
    let own: HashSet<&str> = inputs
        .config
        .mounts
        .iter()
        .map(|m| m.container_path.trim_end_matches('/'))
        .collect();
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        ),
    ];
    if !own.contains("/dev/shm") {
        mounts.push(json!({
            "destination": "/dev/shm", "type": "bind", "source": inputs.shm,
            "options": ["rbind", "rprivate", "rw"],
        }));
    }
    let readonly = if security(inputs.config).readonly_rootfs {
        "ro"
    } else {
        "rw"
    };
    for (path, source) in inputs.files.iter().filter(|(path, _)| !own.contains(path)) {
        mounts.push(json!({
            "destination": path, "type": "bind", "source": source,
            "options": ["rbind", "rprivate", readonly],
        }));
    }
    // A mount below another's path must come after it.
    let mut volumes: Vec<&v1::Mount> = inputs.config.mounts.iter().collect();
    volumes.sort_by_key(|m| Path::new(&m.container_path).components().count());
    for volume in volumes {
        if !volume.container_path.starts_with('/') {
            return Err(SpecError::RelativeMount(volume.container_path.clone()));
        }
        let propagation = match volume.propagation() {
            v1::MountPropagation::PropagationPrivate => "rprivate",
            v1::MountPropagation::PropagationHostToContainer => "rslave",
            v1::MountPropagation::PropagationBidirectional => "rshared",
        };
        let access = match (volume.readonly, volume.recursive_read_only) {
            (true, true) => "rro",
            (true, false) => "ro",
            (false, _) => "rw",
        };
        mounts.push(json!({
            "destination": volume.container_path, "type": "bind", "source": volume.host_path,
            "options": ["rbind", propagation, access],
        }));
    }
    Ok(mounts)
}

fn device(device: &Device) -> Value {
    json!({
        "path": device.path, "type": device.kind.to_string(), "major": device.major, "minor": device.minor,
        "fileMode": device.mode, "uid": device.uid, "gid": device.gid,
    })
}

fn resources(inputs: &Inputs<'_>, privileged: bool) -> Value {
    let wish = inputs
        .config
        .linux
        .as_ref()
        .and_then(|l| l.resources.clone())
        .unwrap_or_default();
    let mut resources = json!({ "devices": device_rules(inputs, privileged) });
    let mut cpu = json!({});
    for (key, value) in [
        ("shares", wish.cpu_shares),
        ("quota", wish.cpu_quota),
        ("period", wish.cpu_period),
    ] {
        if value != 0 {
            insert(&mut cpu, key, json!(value));
        }
    }
    for (key, value) in [("cpus", &wish.cpuset_cpus), ("mems", &wish.cpuset_mems)] {
        if !value.is_empty() {
            insert(&mut cpu, key, json!(value));
        }
    }
    if cpu != json!({}) {
        insert(&mut resources, "cpu", cpu);
    }
    if wish.memory_limit_in_bytes != 0 {
        let mut memory = json!({ "limit": wish.memory_limit_in_bytes });
        if inputs.swap_limits {
            // Without a word about swap a container gets none beyond its memory.
            let swap = match wish.memory_swap_limit_in_bytes {
                0 => wish.memory_limit_in_bytes,
                limit => limit,
            };
            insert(&mut memory, "swap", json!(swap));
        }
        insert(&mut resources, "memory", memory);
    }
    if !wish.unified.is_empty() {
        insert(&mut resources, "unified", json!(wish.unified));
    }
    resources
}

fn device_rules(inputs: &Inputs<'_>, privileged: bool) -> Vec<Value> {
    if privileged {
        return vec![json!({ "allow": true, "access": "rwm" })];
    }
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    // null, zero, full, random, urandom, tty, console, ptmx, and every pseudo-terminal.
    let usual = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    rules.extend(usual.map(|(major, minor)| {
        json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" })
    }));
    rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    rules.extend(inputs.devices.iter().map(|d| {
        json!({
            "allow": true, "type": d.kind.to_string(), "major": d.major, "minor": d.minor, "access": d.access,
        })
    }));
    rules
}

#[cfg(test)]
#[path = "spec_test.rs"]
mod tests;
