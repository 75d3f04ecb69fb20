//! The rules for names.
/// The rule for DNS subdomains (RFC 1123).
pub fn dns_subdomain(_n: &str, _p: bool) -> Vec<String> {
    vec![]
}
