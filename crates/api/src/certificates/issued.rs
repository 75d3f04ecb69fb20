//! What a signer writes into a pod's certificate request when it issues the certificate
//! (`ValidatePodCertificateRequestStatusUpdate`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{PodCertificateRequestSpec, PodCertificateRequestStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::x509::{self, blocks};
use crate::field::{Errors, Path};

/// The most bytes of a chain of certificates.
const MAX_CHAIN: usize = 100 * 1024;
/// How far the beginning of a certificate may be from now.
const NEAR: SignedDuration = SignedDuration::from_mins(5);
/// How far it must be refreshed from its beginning and from its end.
const FROM_ENDS: SignedDuration = SignedDuration::from_mins(10);
const SHORTEST: SignedDuration = SignedDuration::from_hours(1);

/// Checks the certificates and the times that are said of them.
pub(super) fn validate(
    status: &PodCertificateRequestStatus,
    spec: &PodCertificateRequestSpec,
    now: Timestamp,
    errors: &mut Errors,
) {
    let path = Path::new("status.certificateChain");
    let chain = status.certificate_chain.as_deref().unwrap_or_default();
    if chain.len() > MAX_CHAIN {
        return errors.too_long(&path, MAX_CHAIN);
    }
    let blocks = blocks(chain);
    let Some((leaf, others)) = blocks.split_first() else {
        let wrong = "issued certificate chain must contain at least one certificate";
        return errors.invalid(&path, chain, wrong);
    };
    if leaf.type_ != "CERTIFICATE" {
        let wrong = "issued certificate chain must consist entirely of CERTIFICATE PEM blocks";
        return errors.invalid(&path, chain, wrong);
    }
    let valid = x509::is_authority(&leaf.der).and_then(|_| x509::validity(&leaf.der));
    let Some((from, until)) = valid else {
        return errors.invalid(&path, chain, "leaf certificate does not parse as valid X.509");
    };
    for domain in x509::domains(&leaf.der) {
        check_domain(&domain, &path, errors);
    }
    if x509::public_key(&leaf.der) != x509::requested_key(&spec.stub_pkc_s10_request.0) {
        let wrong = "leaf certificate was not issued to the requested public key";
        return errors.invalid(&path, chain, wrong);
    }
    let before = errors.iter().len();
    validate_times(status, spec, (from, until), now, errors);
    if errors.iter().len() > before {
        return;
    }
    for block in others {
        let wrong = match x509::is_authority(&block.der) {
            // Upstream's own spelling.
            _ if block.type_ != "CERTIFICATE" => {
                "issued certificate chain must consist entirely of CERTFICATE PEM blocks"
            }
            None => "intermediate certificate does not parse as valid X.509",
            Some(_) => continue,
        };
        return errors.invalid(&path, chain, wrong);
    }
}

fn check_domain(domain: &str, path: &Path, errors: &mut Errors) {
    if domain.is_empty() {
        errors.invalid(path, domain, "leaf certificate should not contain empty DNSName");
    }
    if domain.contains("..") {
        let wrong = "leaf certificate's DNSName should not contain '..'";
        errors.invalid(path, domain, wrong);
    }
    if domain.starts_with('.') || domain.ends_with('.') {
        let wrong = "leaf certificate's DNSName should not start or end with '.'";
        errors.invalid(path, domain, wrong);
    }
}

fn validate_times(
    status: &PodCertificateRequestStatus,
    spec: &PodCertificateRequestSpec,
    (from, until): (Timestamp, Timestamp),
    now: Timestamp,
    errors: &mut Errors,
) {
    let path = Path::new("status");
    let (at_from, at_until, at_refresh) = (
        path.child("notBefore"),
        path.child("notAfter"),
        path.child("beginRefreshAt"),
    );
    let consistent = "must be present and consistent with the issued certificate";
    for (time, at, detail) in [
        (&status.not_before, &at_from, consistent),
        (&status.not_after, &at_until, consistent),
        (
            &status.begin_refresh_at,
            &at_refresh,
            "must be present and in the range [notbefore+10min, notafter-10min]",
        ),
    ] {
        if time.is_none() {
            errors.required(at, detail);
        }
    }
    let (Some(Time(said_from)), Some(Time(said_until)), Some(Time(refresh))) =
        (&status.not_before, &status.not_after, &status.begin_refresh_at)
    else {
        return;
    };
    let lifetime = until.duration_since(from);
    let most = spec.max_expiration_seconds.unwrap_or_default();
    let wrong = if *said_from != from {
        Some((
            at_from,
            said_from,
            "must be set to the NotBefore time encoded in the leaf certificate",
        ))
    } else if said_from.duration_since(now).abs() >= NEAR {
        Some((
            at_from,
            said_from,
            "must be set to within 5 minutes of kube-apiserver's current time",
        ))
    } else if *said_until != until {
        Some((
            at_until,
            said_until,
            "must be set to the NotAfter time encoded in the leaf certificate",
        ))
    } else {
        None
    };
    if let Some((at, time, detail)) = wrong {
        return errors.invalid(&at, Time(*time), detail);
    }
    let chain = path.child("certificateChain");
    let shown = i64::try_from(lifetime.as_nanos()).unwrap_or(i64::MAX);
    if lifetime < SHORTEST {
        return errors.invalid(&chain, shown, "leaf certificate lifetime must be >= 1 hour");
    }
    if lifetime > SignedDuration::from_secs(most.into()) {
        let detail = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})");
        return errors.invalid(&chain, shown, detail);
    }
    if refresh.duration_since(*said_from) < FROM_ENDS {
        let detail = "must be at least 10 minutes after status.notBefore";
        return errors.invalid(&at_refresh, Time(*refresh), detail);
    }
    if said_until.duration_since(*refresh) < FROM_ENDS {
        let detail = "must be at least 10 minutes before status.notAfter";
        errors.invalid(&at_refresh, Time(*refresh), detail);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    const FROM: &str = "2026-11-21T18:28:16Z";
    const UNTIL: &str = "2026-11-22T18:28:16Z";
    const REFRESH: &str = "2026-11-22T06:00:00Z";
    const ISSUED: &str = include_str!("pairs/issued.crt");

    fn time(text: &str) -> Option<Time> {
        text.parse().ok().map(Time)
    }

    fn found(chain: &str, times: [&str; 3], now: &str, most: i32) -> Vec<String> {
        let spec = PodCertificateRequestSpec {
            stub_pkc_s10_request: ByteString(include_bytes!("pairs/request.der").to_vec()),
            max_expiration_seconds: Some(most),
            ..Default::default()
        };
        let [from, until, refresh] = times.map(time);
        let status = PodCertificateRequestStatus {
            certificate_chain: Some(chain.into()),
            not_before: from,
            not_after: until,
            begin_refresh_at: refresh,
            ..Default::default()
        };
        let mut errors = Errors::new();
        validate(&status, &spec, now.parse().unwrap(), &mut errors);
        let shown = |error: &crate::FieldError| {
            error
                .to_string()
                .replace(&serde_json::to_string(chain).unwrap(), "C")
        };
        errors.iter().map(shown).collect()
    }

    #[test]
    fn what_is_issued_is_what_was_asked_for() {
        let good = [FROM, UNTIL, REFRESH];
        let with_other = format!("{ISSUED}{}", include_str!("pairs/rsa.crt"));
        let with_key = format!("{ISSUED}{}", include_str!("pairs/rsa.key"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let with_broken = format!("{ISSUED}{broken}");
        let chain = |wrong: &str| format!("status.certificateChain: Invalid value: C: {wrong}");
        let cases: Vec<(&str, [&str; 3], &str, i32, String)> = vec![
            (ISSUED, good, FROM, 86_400, String::new()),
            (&with_other, good, "2026-11-21T18:33:15Z", 86_400, String::new()),
            (
                "none",
                good,
                FROM,
                86_400,
                chain("issued certificate chain must contain at least one certificate"),
            ),
            (
                include_str!("pairs/rsa.key"),
                good,
                FROM,
                86_400,
                chain("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"),
            ),
            (
                broken,
                good,
                FROM,
                86_400,
                chain("leaf certificate does not parse as valid X.509"),
            ),
            (
                include_str!("pairs/rsa.crt"),
                good,
                FROM,
                86_400,
                chain("leaf certificate was not issued to the requested public key"),
            ),
            (
                &with_key,
                good,
                FROM,
                86_400,
                chain("issued certificate chain must consist entirely of CERTFICATE PEM blocks"),
            ),
            (
                &with_broken,
                good,
                FROM,
                86_400,
                chain("intermediate certificate does not parse as valid X.509"),
            ),
            (
                ISSUED,
                [FROM, UNTIL, ""],
                FROM,
                86_400,
                "status.beginRefreshAt: Required value: must be present and in the range [notbefore+10min, \
                 notafter-10min]"
                    .into(),
            ),
            (
                ISSUED,
                ["", UNTIL, REFRESH],
                FROM,
                86_400,
                "status.notBefore: Required value: must be present and consistent with the issued certificate".into(),
            ),
            (
                ISSUED,
                [UNTIL, UNTIL, REFRESH],
                FROM,
                86_400,
                format!(
                    "status.notBefore: Invalid value: {UNTIL:?}: must be set to the NotBefore time encoded in the leaf \
                     certificate"
                ),
            ),
            (
                ISSUED,
                good,
                "2026-11-21T18:33:16Z",
                86_400,
                format!(
                    "status.notBefore: Invalid value: {FROM:?}: must be set to within 5 minutes of kube-apiserver's \
                     current time"
                ),
            ),
            (
                ISSUED,
                [FROM, REFRESH, REFRESH],
                FROM,
                86_400,
                format!(
                    "status.notAfter: Invalid value: {REFRESH:?}: must be set to the NotAfter time encoded in the leaf \
                     certificate"
                ),
            ),
            (
                ISSUED,
                good,
                FROM,
                3_600,
                "status.certificateChain: Invalid value: 86400000000000: leaf certificate lifetime must be <= \
                 spec.maxExpirationSeconds (3600)"
                    .into(),
            ),
            (
                ISSUED,
                [FROM, UNTIL, "2026-11-21T18:30:00Z"],
                FROM,
                86_400,
                "status.beginRefreshAt: Invalid value: \"2026-11-21T18:30:00Z\": must be at least 10 minutes after \
                 status.notBefore"
                    .into(),
            ),
            (
                ISSUED,
                [FROM, UNTIL, "2026-11-22T18:20:00Z"],
                FROM,
                86_400,
                "status.beginRefreshAt: Invalid value: \"2026-11-22T18:20:00Z\": must be at least 10 minutes before \
                 status.notAfter"
                    .into(),
            ),
        ];
        for (chain, times, now, most, expected) in cases {
            assert_eq!(
                found(chain, times, now, most).join("; "),
                expected,
                "{times:?} {now}"
            );
        }
    }

    #[test]
    fn a_leaf_is_for_domains_that_can_be() {
        for (domain, wrong) in [
            ("a.example.com", vec![]),
            ("", vec!["leaf certificate should not contain empty DNSName"]),
            (
                "a..b.",
                vec![
                    "leaf certificate's DNSName should not contain '..'",
                    "leaf certificate's DNSName should not start or end with '.'",
                ],
            ),
        ] {
            let mut errors = Errors::new();
            check_domain(domain, &Path::new("p"), &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let wrong = wrong
                .iter()
                .map(|wrong| format!("p: Invalid value: {domain:?}: {wrong}"));
            assert_eq!(found, wrong.collect::<Vec<_>>());
        }
    }
}
