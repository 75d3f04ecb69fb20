//! The files that a pod's containers find under `/etc`.

use k8s_cri::v1;

/// `/etc/resolv.conf` of a pod; `None` when it is the host's own.
pub(crate) fn resolv_conf(dns: Option<&v1::DnsConfig>) -> Option<String> {
    let dns = dns?;
    let mut text = String::new();
    let mut line = |keyword: &str, words: &[String]| {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    };
    line("search", &dns.searches);
    for server in &dns.servers {
        line("nameserver", std::slice::from_ref(server));
    }
    line("options", &dns.options);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_dns_configuration_becomes_resolv_conf() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let dns = |servers, searches, options| {
            Some(v1::DnsConfig {
                servers: words(servers),
                searches: words(searches),
                options: words(options),
            })
        };
        for (dns, wanted) in [
            (None, None),
            (dns("", "", ""), None),
            (
                dns(
                    "10.96.0.10 1.1.1.1",
                    "default.svc.cluster.local svc.cluster.local",
                    "ndots:5",
                ),
                Some(
                    "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n\
                     nameserver 1.1.1.1\noptions ndots:5\n",
                ),
            ),
        ] {
            assert_eq!(resolv_conf(dns.as_ref()).as_deref(), wanted);
        }
    }
}
