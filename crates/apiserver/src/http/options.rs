//! The options of each verb, read from the query and, for deletions, from the body.

use std::num::IntErrorKind;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::USER_AGENT;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions as DeleteBody, Preconditions};
use rand::Rng;
use skiff_api::{Errors, Path, field, schema};

use crate::error::{ApiError, ApiResult};
use crate::http::query::Query;
use crate::registry::{
    DeleteOptions, FieldValidation, ListOptions, PatchType, Propagation, WatchOptions, WriteOptions, type_of,
};
use crate::user::UserInfo;
use crate::warnings::Warnings;

/// The longest name of a field manager, in bytes.
const LONGEST_MANAGER: usize = 128;

/// The shortest time after which a watch is ended that names none.
pub(super) const SHORTEST_WATCH: Duration = Duration::from_secs(1800);

/// The options of a write. `kind` is the kind of options that an error names, e.g. `CreateOptions`.
///
/// # Errors
/// 422 for a value that is none of the allowed ones.
pub(crate) fn write(query: &Query, kind: &'static str, user: &UserInfo) -> ApiResult<WriteOptions> {
    checked(query, kind, user, Errors::new())
}

/// The options of a write, of which some errors may be known.
fn checked(
    query: &Query,
    kind: &'static str,
    user: &UserInfo,
    mut errors: Errors,
) -> ApiResult<WriteOptions> {
    let field_manager = query.text("fieldManager");
    if let Some(manager) = &field_manager {
        let path = Path::new("fieldManager");
        if manager.len() > LONGEST_MANAGER {
            errors.too_long(&path, LONGEST_MANAGER);
        }
        for (place, character) in manager.char_indices() {
            if !field::is_printable(character) {
                let code = u32::from(character);
                let why = format!("invalid character U+{code:04X} (at position {place})");
                errors.invalid(&path, manager, why);
            }
        }
    }
    let dry_run = dry_run(query.all("dryRun"), &mut errors);
    let field_validation = match query.get("fieldValidation").unwrap_or_default() {
        // The server's own default.
        "" | "Warn" => FieldValidation::Warn,
        "Strict" => FieldValidation::Strict,
        "Ignore" => FieldValidation::Ignore,
        other => {
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.not_supported(&Path::new("fieldValidation"), other, &supported);
            FieldValidation::Warn
        }
    };
    valid_options(kind, &errors)?;
    Ok(WriteOptions {
        dry_run,
        field_manager,
        tracked_as: None,
        force: false,
        field_validation,
        repeated: Vec::new(),
        user: user.clone(),
        warnings: Warnings::default(),
    })
}

/// The options of a write whose fields come to be owned by who sends it: by `fieldManager`, else by the client's name.
///
/// # Errors
/// 422 for a value that is none of the allowed ones.
pub(crate) fn tracked(
    query: &Query,
    headers: &HeaderMap,
    kind: &'static str,
    user: &UserInfo,
) -> ApiResult<WriteOptions> {
    let mut options = write(query, kind, user)?;
    name_manager(&mut options, headers);
    Ok(options)
}

/// Who names no manager is known by the client's name.
fn name_manager(options: &mut WriteOptions, headers: &HeaderMap) {
    if options.field_manager.as_ref().is_none_or(String::is_empty) {
        options.field_manager = Some(client(headers));
    }
}

/// The options of a patch.
///
/// # Errors
/// 422 for a value that is none of the allowed ones, and for an apply that does not say who applies.
pub(crate) fn patch(
    query: &Query,
    headers: &HeaderMap,
    type_: PatchType,
    user: &UserInfo,
) -> ApiResult<WriteOptions> {
    let force = query.optional_flag("force");
    let mut errors = Errors::new();
    match (type_, force) {
        (PatchType::Apply, _) if query.get("fieldManager").unwrap_or_default().is_empty() => {
            errors.required(&Path::new("fieldManager"), "is required for apply patch");
        }
        (PatchType::Apply, _) | (_, None) => {}
        (_, Some(_)) => errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch"),
    }
    let mut options = checked(query, "PatchOptions", user, errors)?;
    name_manager(&mut options, headers);
    options.force = force.unwrap_or(false);
    Ok(options)
}

/// The name of the client program: what its `User-Agent` begins with, up to a slash.
fn client(headers: &HeaderMap) -> String {
    let agent = headers
        .get(USER_AGENT)
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .unwrap_or_default();
    let mut name = String::new();
    for character in agent.split('/').next().unwrap_or_default().chars() {
        if character.is_control() {
            continue;
        }
        if name.len() + character.len_utf8() > LONGEST_MANAGER {
            break;
        }
        name.push(character);
    }
    name
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Errors) -> bool {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|value| *value != "All") {
        errors.not_supported(&Path::new("dryRun"), &values, &["All"]);
    }
    !values.is_empty()
}

fn valid_options(kind: &'static str, errors: &Errors) -> ApiResult<()> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_options(kind, errors))
}

/// The options of a list.
///
/// # Errors
/// 400 for a value that cannot be read.
pub(crate) fn list(query: &Query, namespace: &str) -> ApiResult<ListOptions> {
    // One set of options serves lists and watches, so what only the other heeds has to be right as well.
    number(query, "timeoutSeconds")?;
    Ok(ListOptions {
        namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
        label_selector: query.text("labelSelector").unwrap_or_default(),
        field_selector: query.text("fieldSelector").unwrap_or_default(),
        limit: number(query, "limit")?
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|limit| *limit > 0),
        continue_: query.text("continue"),
        resource_version: query.text("resourceVersion"),
        resource_version_match: query.text("resourceVersionMatch"),
        send_initial_events: query.optional_flag("sendInitialEvents"),
    })
}

/// The options of a watch.
///
/// # Errors
/// 400 for a value that cannot be read.
pub(crate) fn watch(query: &Query, namespace: &str) -> ApiResult<WatchOptions> {
    number(query, "limit")?;
    let timeout = match number(query, "timeoutSeconds")?.unwrap_or_default() {
        // Spread, so that the watches that a restart began together do not end together.
        0 => SHORTEST_WATCH.mul_f64(1.0 + rand::rng().random::<f64>()),
        // One that is over before it begins.
        seconds => Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    };
    Ok(WatchOptions {
        namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
        label_selector: query.text("labelSelector").unwrap_or_default(),
        field_selector: query.text("fieldSelector").unwrap_or_default(),
        resource_version: query.text("resourceVersion"),
        resource_version_match: query.text("resourceVersionMatch"),
        send_initial_events: query.optional_flag("sendInitialEvents"),
        continue_: query.text("continue"),
        allow_bookmarks: query.flag("allowWatchBookmarks"),
        timeout,
    })
}

fn number(query: &Query, name: &str) -> ApiResult<Option<i64>> {
    match query.get(name) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
            let why = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        }),
    }
}

/// The options of a deletion: the body's if there is one, else the query's.
///
/// # Errors
/// 400 for a body that is no `DeleteOptions`, 422 for a value that is none of the allowed ones.
pub(crate) fn delete(query: &Query, body: &Bytes) -> ApiResult<DeleteOptions> {
    let options = if body.iter().all(u8::is_ascii_whitespace) {
        from_query(query)?
    } else {
        from_body(body)?
    };
    let mut errors = Errors::new();
    let dry_run = dry_run(options.dry_run.iter().flatten().map(String::as_str), &mut errors);
    if options.propagation_policy.is_some() && options.orphan_dependents.is_some() {
        errors.invalid(
            &Path::new("propagationPolicy"),
            &options.propagation_policy,
            "orphanDependents and deletionPropagation cannot be both set",
        );
    }
    valid_options("DeleteOptions", &errors)?;
    let preconditions = options.preconditions.unwrap_or_default();
    Ok(DeleteOptions {
        grace_period: options.grace_period_seconds,
        uid: preconditions.uid,
        resource_version: preconditions.resource_version,
        propagation: options
            .propagation_policy
            .as_deref()
            .map(Propagation::parse)
            .transpose()?,
        orphan_dependents: options.orphan_dependents,
        dry_run,
    })
}

fn from_query(query: &Query) -> ApiResult<DeleteBody> {
    let dry_run: Vec<String> = query.all("dryRun").map(str::to_string).collect();
    Ok(DeleteBody {
        dry_run: (!dry_run.is_empty()).then_some(dry_run),
        grace_period_seconds: number(query, "gracePeriodSeconds")?,
        orphan_dependents: query.optional_flag("orphanDependents"),
        propagation_policy: query.get("propagationPolicy").map(str::to_string),
        preconditions: Some(Preconditions {
            uid: query.get("uid").map(str::to_string),
            resource_version: query.get("resourceVersion").map(str::to_string),
        }),
        ..DeleteBody::default()
    })
}

fn from_body(body: &Bytes) -> ApiResult<DeleteBody> {
    let (api_version, kind) = type_of(body).map_err(|why| {
        ApiError::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
    })?;
    if api_version.matches('/').count() > 1 {
        return Err(ApiError::bad_request(format!(
            "unexpected GroupVersion string: {api_version}"
        )));
    }
    // Every group has them.
    if !matches!(kind.as_str(), "" | "DeleteOptions") {
        let api_version = if api_version.is_empty() {
            "meta.k8s.io/v1"
        } else {
            &api_version
        };
        return Err(ApiError::bad_request(format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme \
             \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
        )));
    }
    let definition = schema::definition("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    let findings = definition.map(|definition| schema::check(definition, body));
    if let Some(wrong) = findings
        .and_then(Result::ok)
        .and_then(|findings| findings.wrong_type)
    {
        return Err(ApiError::bad_request(wrong.decoded));
    }
    let options: Option<DeleteBody> =
        serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("json: {error}")))?;
    Ok(options.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text))
    }

    #[test]
    fn writes_are_checked() {
        let user = UserInfo::anonymous();
        let options = write(
            &query("dryRun=All&fieldValidation=Strict"),
            "CreateOptions",
            &user,
        )
        .unwrap();
        assert!(options.dry_run);
        assert!(matches!(options.field_validation, FieldValidation::Strict));
        let error = write(&query("dryRun=Some"), "CreateOptions", &user).unwrap_err();
        assert_eq!(error.code(), 422);
        assert!(
            error
                .to_string()
                .starts_with("CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: "),
            "{error}"
        );
        let error = write(&query("fieldValidation=Maybe"), "PatchOptions", &user).unwrap_err();
        assert_eq!(error.code(), 422);
        assert!(
            error.to_string().starts_with("PatchOptions.meta.k8s.io"),
            "{error}"
        );
    }

    #[test]
    fn who_writes_is_told_by_the_query_or_by_the_client() {
        let user = UserInfo::anonymous();
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, "kubectl/v1.32 (linux)".parse().unwrap());
        let manager = |text| {
            tracked(&query(text), &headers, "CreateOptions", &user)
                .unwrap()
                .field_manager
        };
        assert_eq!(manager("").as_deref(), Some("kubectl"));
        assert_eq!(manager("fieldManager=me").as_deref(), Some("me"));
        let refusal = |text, type_| {
            patch(&query(text), &headers, type_, &user)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refusal("", PatchType::Apply),
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
        );
        assert_eq!(
            refusal("force=true", PatchType::Merge),
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
        );
        assert!(
            patch(
                &query("force=true&fieldManager=m"),
                &headers,
                PatchType::Apply,
                &user
            )
            .unwrap()
            .force
        );
    }

    #[test]
    fn deletions_read_the_body_before_the_query() {
        let none = Bytes::new();
        let from_query = delete(&query("gracePeriodSeconds=5&propagationPolicy=Foreground"), &none).unwrap();
        assert_eq!(from_query.grace_period, Some(5));
        assert!(matches!(from_query.propagation, Some(Propagation::Foreground)));
        let body = Bytes::from_static(
            br#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"orphanDependents":false,"preconditions":{"uid":"u"}}"#,
        );
        let from_body = delete(&query("gracePeriodSeconds=5"), &body).unwrap();
        assert_eq!(from_body.grace_period, Some(0));
        assert_eq!(from_body.uid.as_deref(), Some("u"));
        assert_eq!(from_body.orphan_dependents, Some(false));
        for (body, expected) in [
            (
                r#"{"kind":"Pod"}"#,
                r#"no kind "Pod" is registered for version "meta.k8s.io/v1" in scheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27""#,
            ),
            (
                "{",
                "couldn't get version/kind; json parse error: unexpected end of JSON input",
            ),
            (
                r#"{"kind":5}"#,
                "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string",
            ),
            (
                r#"{"apiVersion":"a/b/c"}"#,
                "unexpected GroupVersion string: a/b/c",
            ),
            (
                r#"{"gracePeriodSeconds":"x"}"#,
                "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
            ),
            (
                r#"{"dryRun":"All"}"#,
                "json: cannot unmarshal string into Go struct field DeleteOptions.dryRun of type []string",
            ),
            (
                r#"{"preconditions":5}"#,
                "json: cannot unmarshal number into Go struct field DeleteOptions.preconditions of type v1.Preconditions",
            ),
        ] {
            let error = delete(&query(""), &Bytes::from_static(body.as_bytes())).unwrap_err();
            assert_eq!(
                (error.code(), error.to_string().as_str()),
                (400, expected),
                "{body}"
            );
        }
        for body in ["null", r#"{"apiVersion":"v9","kind":"DeleteOptions"}"#] {
            assert!(
                delete(&query(""), &Bytes::from_static(body.as_bytes())).is_ok(),
                "{body}"
            );
        }
        assert_eq!(
            delete(&query("propagationPolicy=Never"), &none)
                .unwrap_err()
                .code(),
            422
        );
        assert_eq!(
            delete(&query("gracePeriodSeconds=x"), &none).unwrap_err().code(),
            400
        );
    }

    #[test]
    fn lists_and_watches_read_their_numbers() {
        assert_eq!(list(&query("limit=500"), "n").unwrap().limit, Some(500));
        assert_eq!(list(&query("limit=0"), "").unwrap().limit, None);
        let error = list(&query("limit=x"), "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        let error = list(&query("limit=99999999999999999999"), "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "strconv.ParseInt: parsing \"99999999999999999999\": value out of range"
        );
        let timeout = watch(&query("timeoutSeconds=7"), "").unwrap().timeout;
        assert_eq!(timeout, Duration::from_secs(7));
        let timeout = watch(&query(""), "").unwrap().timeout;
        assert!((SHORTEST_WATCH..SHORTEST_WATCH * 2).contains(&timeout));
    }
}
