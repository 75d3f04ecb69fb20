//! The node's nftables table for pods: masquerading and host ports. The rule set is a pure text; applying it is one
//! transaction.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::process::Stdio;

use ipnet::Ipv4Net;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::bridge::HostPort;

/// Why the kernel's tables could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no `nft` program to run.
    #[error("nft cannot be run: {0} (install the package `nftables`)")]
    Missing(io::Error),
    /// The transaction was refused; nothing of it is in force.
    #[error("nft: {0}")]
    Refused(String),
}

/// Whether `nft` is there and may be used.
///
/// # Errors
/// Says what is missing.
pub fn check_available() -> Result<(), NftError> {
    let output = std::process::Command::new("nft")
        .args(["list", "tables"])
        .stdin(Stdio::null())
        .output()
        .map_err(NftError::Missing)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(refused(&output.stderr))
    }
}

/// Applies a rule set as one transaction.
pub(crate) async fn apply(rules: &str) -> Result<(), NftError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NftError::Missing)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(rules.as_bytes())
            .await
            .map_err(|error| NftError::Refused(error.to_string()))?;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(|error| NftError::Refused(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(refused(&output.stderr))
    }
}

fn refused(stderr: &[u8]) -> NftError {
    NftError::Refused(String::from_utf8_lossy(stderr).trim().to_string())
}

/// The table of a node. It can be applied any number of times: chains are flushed and filled in the same transaction,
/// the maps of host ports keep their elements.
///
/// `pods` is the node's range, `cluster` that of all nodes.
pub(crate) fn node_table(table: &str, bridge: &str, pods: Ipv4Net, cluster: Ipv4Net) -> String {
    format!(
        "table ip {table} {{
  map hostports {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map hostports-by-address {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  chain hostports-dnat {{ }}
  chain prerouting {{ type nat hook prerouting priority dstnat; }}
  chain output {{ type nat hook output priority -100; }}
  chain postrouting {{ type nat hook postrouting priority srcnat; }}
}}
flush chain ip {table} hostports-dnat
flush chain ip {table} prerouting
flush chain ip {table} output
flush chain ip {table} postrouting
table ip {table} {{
  chain hostports-dnat {{
    dnat ip addr . port to ip daddr . meta l4proto . th dport map @hostports-by-address
    dnat ip addr . port to meta l4proto . th dport map @hostports
  }}
  chain prerouting {{
    fib daddr type local meta l4proto {{ tcp, udp, sctp }} jump hostports-dnat
  }}
  chain output {{
    fib daddr type local meta l4proto {{ tcp, udp, sctp }} jump hostports-dnat
  }}
  chain postrouting {{
    oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade
    oifname \"{bridge}\" ip saddr {pods} ct status dnat masquerade
    ip saddr {pods} ip daddr != {cluster} ip daddr != 224.0.0.0/4 masquerade
  }}
}}
"
    )
}

/// The transaction that leads host ports to a pod.
pub(crate) fn add_host_ports(table: &str, pod: Ipv4Addr, ports: &[HostPort]) -> String {
    let mut rules = String::new();
    for port in ports {
        let (map, key) = element(port);
        // Writing to a String cannot fail.
        let _ = writeln!(
            rules,
            "add element ip {table} {map} {{ {key} : {pod} . {} }}",
            port.pod_port
        );
    }
    rules
}

/// The transaction that takes host ports back; every one of them must be there.
pub(crate) fn delete_host_ports(table: &str, ports: &[HostPort]) -> String {
    let mut rules = String::new();
    for port in ports {
        let (map, key) = element(port);
        let _ = writeln!(rules, "delete element ip {table} {map} {{ {key} }}");
    }
    rules
}

fn element(port: &HostPort) -> (&'static str, String) {
    let key = format!("{} . {}", port.protocol, port.host_port);
    match port.host_address {
        Some(address) => ("hostports-by-address", format!("{address} . {key}")),
        None => ("hostports", key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Protocol;

    #[test]
    fn a_port_on_one_address_goes_into_the_map_with_addresses() {
        let mut port = HostPort {
            protocol: Protocol::Tcp,
            host_port: 8080,
            pod_port: 80,
            host_address: None,
        };
        let pod = "10.244.0.2".parse().unwrap();
        assert_eq!(
            add_host_ports("skiff", pod, &[port]),
            "add element ip skiff hostports { tcp . 8080 : 10.244.0.2 . 80 }\n"
        );
        port.host_address = Some("192.0.2.1".parse().unwrap());
        assert_eq!(
            delete_host_ports("skiff", &[port]),
            "delete element ip skiff hostports-by-address { 192.0.2.1 . tcp . 8080 }\n"
        );
    }
}
