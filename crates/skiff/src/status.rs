//! `skiff status`: whether host, kubelet and API server run, and whether the kubeconfig knows them.

use std::process::ExitCode;

use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::flags::Directories;
use crate::{cluster, kubeconfig, progress};

/// Prints the state. The exit code has a bit for each part that does not run: 1 host, 2 kubelet, 4 API server.
pub(crate) fn status(directories: &Directories) -> anyhow::Result<ExitCode> {
    let Some(settings) = cluster::saved(directories)? else {
        progress::line("* There is no cluster here. To create one: skiff start");
        return Ok(ExitCode::from(85));
    };
    let host = cluster::running(directories)?.is_some();
    let (apiserver, kubelet) = if host {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(probe(directories, &cluster::node_name(&settings)?))
    } else {
        (false, false)
    };
    let configured = kubeconfig::has(
        &cluster::kubeconfig(&settings)?,
        &settings.context,
        &cluster::local_url(&settings),
    );
    let state = |runs: bool| if runs { "Running" } else { "Stopped" };
    progress::line(&settings.context);
    progress::line("type: Control Plane");
    progress::line(&format!("host: {}", state(host)));
    progress::line(&format!("kubelet: {}", state(kubelet)));
    progress::line(&format!("apiserver: {}", state(apiserver)));
    progress::line(&format!(
        "kubeconfig: {}",
        if configured { "Configured" } else { "Misconfigured" }
    ));
    Ok(ExitCode::from(
        u8::from(!host) | u8::from(!kubelet) << 1 | u8::from(!apiserver) << 2,
    ))
}

/// Whether the API server answers, and whether its node is Ready.
async fn probe(directories: &Directories, node: &str) -> (bool, bool) {
    let Ok(client) = admin_client(directories).await else {
        return (false, false);
    };
    match Api::<Node>::all(client.clone()).get_opt(node).await {
        Ok(node) => (true, node.is_some_and(|node| is_ready(&node))),
        Err(kube::Error::Api(_)) => (true, false),
        Err(_) => (false, false),
    }
}

/// A client with the administrator's certificate.
pub(crate) async fn admin_client(directories: &Directories) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(directories.admin_kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Whether the node's Ready condition is true.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}
