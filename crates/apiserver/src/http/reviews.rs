//! Reviews: questions about users and their rights, which are answered and never stored.

use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authentication::v1::{
    SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewStatus,
};
use k8s_openapi::api::authorization::v1::{
    FieldSelectorAttributes, LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule,
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
    SubjectAccessReviewSpec, SubjectAccessReviewStatus, SubjectRulesReviewStatus,
};
use skiff_api::{Errors, KindInfo};

use crate::auth::authenticate_token;
use crate::auth::authorize::{Attributes, Authorizer, Decision};
use crate::error::{ApiError, ApiResult};
use crate::http::accept::negotiate;
use crate::http::resources::{Call, answer, not_allowed};
use crate::http::{Response, review_rules};
use crate::server::Shared;
use crate::user::UserInfo;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// Whose token this is.
    Token,
    /// Who the caller is.
    SelfSubject,
    /// Whether somebody may do something.
    Access,
    /// Whether somebody may do something in the request's namespace.
    LocalAccess,
    /// Whether the caller may do something.
    SelfAccess,
    /// What the caller may do in a namespace.
    SelfRules,
}

impl Review {
    /// The review that a path names.
    pub(crate) fn of(group: &str, version: &str, plural: &str) -> Option<Self> {
        match (group, version, plural) {
            ("authentication.k8s.io", "v1", "tokenreviews") => Some(Self::Token),
            ("authentication.k8s.io", "v1", "selfsubjectreviews") => Some(Self::SelfSubject),
            ("authorization.k8s.io", "v1", "subjectaccessreviews") => Some(Self::Access),
            ("authorization.k8s.io", "v1", "localsubjectaccessreviews") => Some(Self::LocalAccess),
            ("authorization.k8s.io", "v1", "selfsubjectaccessreviews") => Some(Self::SelfAccess),
            ("authorization.k8s.io", "v1", "selfsubjectrulesreviews") => Some(Self::SelfRules),
            _ => None,
        }
    }
}

/// Answers a review.
pub(crate) async fn handle(mut call: Call, review: Review) -> ApiResult<Response> {
    let in_namespace = !call.info.namespace.is_empty();
    if in_namespace != (review == Review::LocalAccess) && in_namespace {
        return Err(ApiError::no_such_path());
    }
    let whole = call.info.parts.len() == 1 && in_namespace == (review == Review::LocalAccess);
    if call.info.verb != "create" || !whole {
        return Err(not_allowed());
    }
    negotiate(&call.headers, true)?;
    let options = &mut call.write_options("CreateOptions")?;
    match review {
        Review::Token => {
            let review = call.read_posted(options).await?;
            answer(&call, 201, &token(&call.shared, review).await?)
        }
        Review::SelfSubject => {
            let mut review: SelfSubjectReview = call.read_posted(options).await?;
            review.status = Some(SelfSubjectReviewStatus {
                user_info: Some(shown(&call.user)),
            });
            answer(&call, 201, &review)
        }
        Review::Access => {
            let mut review: SubjectAccessReview = call.read_posted(options).await?;
            let info = KindInfo::of::<SubjectAccessReview>("subjectaccessreview");
            is_valid(&review_rules::access(&review), &info)?;
            review.status = Some(access(&call.shared, &review.spec).await);
            answer(&call, 201, &review)
        }
        Review::LocalAccess => {
            let mut review: LocalSubjectAccessReview = call.read_posted(options).await?;
            let namespace = call.info.namespace.clone();
            let own = review.metadata.namespace.get_or_insert_with(|| namespace.clone());
            if *own != namespace {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            let info = KindInfo::of::<LocalSubjectAccessReview>("localsubjectaccessreview");
            is_valid(&review_rules::local(&review), &info)?;
            review.status = Some(access(&call.shared, &review.spec).await);
            answer(&call, 201, &review)
        }
        Review::SelfAccess => {
            let mut review: SelfSubjectAccessReview = call.read_posted(options).await?;
            let info = KindInfo::of::<SelfSubjectAccessReview>("selfsubjectaccessreview");
            let (resource, path) = (
                &review.spec.resource_attributes,
                &review.spec.non_resource_attributes,
            );
            is_valid(&review_rules::own(&review), &info)?;
            review.status = Some(decide(&call.shared, &call.user, resource, path).await);
            answer(&call, 201, &review)
        }
        Review::SelfRules => {
            let mut review: SelfSubjectRulesReview = call.read_posted(options).await?;
            let namespace = review.spec.namespace.clone().unwrap_or_default();
            if namespace.is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            review.status = Some(rules(&call.shared, &call.user, &namespace));
            answer(&call, 201, &review)
        }
    }
}

fn shown(user: &UserInfo) -> authentication::UserInfo {
    authentication::UserInfo {
        username: Some(user.name.clone()),
        uid: (!user.uid.is_empty()).then(|| user.uid.clone()),
        groups: Some(user.groups.clone()),
        extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
    }
}

async fn token(shared: &Shared, mut review: TokenReview) -> ApiResult<TokenReview> {
    if review.spec.token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked = review
        .spec
        .audiences
        .clone()
        .filter(|audiences| !audiences.is_empty());
    let outcome = authenticate_token(
        &review.spec.token,
        asked.as_deref(),
        &shared.tokens,
        &shared.registry,
    )
    .await;
    review.status = Some(match outcome {
        Ok(known) => TokenReviewStatus {
            authenticated: Some(true),
            user: Some(shown(&known.user)),
            audiences: Some(known.audiences),
            error: None,
        },
        Err(cause) => TokenReviewStatus {
            user: Some(authentication::UserInfo::default()),
            error: Some(match cause.as_str() {
                "" => "invalid bearer token".to_string(),
                cause => format!("[invalid bearer token, {cause}]"),
            }),
            ..TokenReviewStatus::default()
        },
    });
    Ok(review)
}

fn is_valid(errors: &Errors, info: &KindInfo) -> ApiResult<()> {
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(info, "", errors))
    }
}

async fn access(shared: &Shared, spec: &SubjectAccessReviewSpec) -> SubjectAccessReviewStatus {
    let user = UserInfo {
        name: spec.user.clone().unwrap_or_default(),
        uid: spec.uid.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        extra: spec.extra.clone().unwrap_or_default(),
    };
    decide(
        shared,
        &user,
        &spec.resource_attributes,
        &spec.non_resource_attributes,
    )
    .await
}

/// A selector as a query writes it. Of its requirements, those that a field has one value are what authorizers look at.
fn selected(selector: &FieldSelectorAttributes) -> String {
    if let Some(raw) = &selector.raw_selector {
        return raw.clone();
    }
    let requirements = selector.requirements.iter().flatten();
    let equal = requirements.filter_map(|requirement| {
        let [value] = requirement.values.as_deref().unwrap_or_default() else {
            return None;
        };
        (requirement.operator == "In").then(|| format!("{}={value}", requirement.key))
    });
    equal.collect::<Vec<_>>().join(",")
}

async fn decide(
    shared: &Shared,
    user: &UserInfo,
    resource: &Option<ResourceAttributes>,
    path: &Option<NonResourceAttributes>,
) -> SubjectAccessReviewStatus {
    fn text(text: &Option<String>) -> &str {
        text.as_deref().unwrap_or_default()
    }
    let about_nothing = Attributes::about_nothing(user);
    let selector = resource
        .as_ref()
        .and_then(|resource| resource.field_selector.as_ref())
        .map(selected)
        .unwrap_or_default();
    let attributes = match (resource, path) {
        (Some(resource), _) => Attributes {
            verb: text(&resource.verb),
            is_resource: true,
            group: text(&resource.group),
            resource: match text(&resource.subresource) {
                "" => text(&resource.resource).to_string(),
                subresource => format!("{}/{subresource}", text(&resource.resource)),
            },
            namespace: text(&resource.namespace),
            name: text(&resource.name),
            field_selector: &selector,
            ..about_nothing
        },
        (None, Some(path)) => Attributes {
            verb: text(&path.verb),
            path: text(&path.path),
            ..about_nothing
        },
        (None, None) => about_nothing,
    };
    let some = |reason: &str| (!reason.is_empty()).then(|| reason.to_string());
    match shared.authorizer.authorize(&attributes).await {
        Decision::Allow(reason) => SubjectAccessReviewStatus {
            allowed: true,
            reason: reason.and_then(|reason| some(&reason)),
            ..SubjectAccessReviewStatus::default()
        },
        Decision::Deny(reason) => SubjectAccessReviewStatus {
            denied: Some(true),
            reason: some(&reason),
            ..SubjectAccessReviewStatus::default()
        },
        Decision::NoOpinion(reason) => SubjectAccessReviewStatus {
            reason: some(&reason),
            ..SubjectAccessReviewStatus::default()
        },
    }
}

fn rules(shared: &Shared, user: &UserInfo, namespace: &str) -> SubjectRulesReviewStatus {
    let held = shared.authorizer.rules_for(user, namespace);
    let mut status = SubjectRulesReviewStatus {
        incomplete: held.incomplete,
        evaluation_error: match held.errors.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!("[{}]", several.join(", "))),
        },
        ..SubjectRulesReviewStatus::default()
    };
    for rule in held.rules {
        if rule
            .resources
            .as_ref()
            .is_some_and(|resources| !resources.is_empty())
        {
            status.resource_rules.push(ResourceRule {
                verbs: rule.verbs.clone(),
                api_groups: rule.api_groups,
                resources: rule.resources,
                resource_names: rule.resource_names,
            });
        }
        if rule
            .non_resource_urls
            .as_ref()
            .is_some_and(|urls| !urls.is_empty())
        {
            status.non_resource_rules.push(NonResourceRule {
                verbs: rule.verbs,
                non_resource_urls: rule.non_resource_urls,
            });
        }
    }
    status
}
