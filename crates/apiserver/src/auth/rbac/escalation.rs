//! Nobody gives away what they have not got: the check of every new rule and every new binding.

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use skiff_api::{KindInfo, Object};

use super::rules::{ALL, described, missing, quoted};
use crate::auth::authorize::{Attributes, Authorizer, Decision, Held};
use crate::error::{ApiError, ApiResult};
use crate::objects::find;
use crate::registry::{AdmissionRequest, Registry};
use crate::user::{MASTERS, UserInfo};

const GROUP: &str = "rbac.authorization.k8s.io";

/// What an object would allow that its old version, if any, did not.
enum Given {
    /// The rules of a role; whether it gathers others' as well.
    Rules(Vec<PolicyRule>, bool),
    /// A role.
    Role(RoleRef),
    /// Nothing.
    Nothing,
}

fn given(object: &dyn Object, old: Option<&dyn Object>) -> Given {
    fn pair<'a, K: 'static>(
        object: &'a dyn Object,
        old: Option<&'a dyn Object>,
    ) -> Option<(&'a K, Option<&'a K>)> {
        let new = object.as_any().downcast_ref()?;
        Some((new, old.and_then(|old| old.as_any().downcast_ref())))
    }
    fn changed(
        new: (&RoleRef, &Option<Vec<Subject>>),
        old: Option<(&RoleRef, &Option<Vec<Subject>>)>,
    ) -> Given {
        let subjects = |subjects: &Option<Vec<Subject>>| subjects.clone().unwrap_or_default();
        match old {
            Some(old) if old.0 == new.0 && subjects(old.1) == subjects(new.1) => Given::Nothing,
            _ => Given::Role(new.0.clone()),
        }
    }
    let list = |rules: &Option<Vec<PolicyRule>>| rules.clone().unwrap_or_default();
    if let Some((new, old)) = pair::<Role>(object, old) {
        if old.is_some_and(|old| list(&old.rules) == list(&new.rules)) {
            return Given::Nothing;
        }
        Given::Rules(list(&new.rules), false)
    } else if let Some((new, old)) = pair::<ClusterRole>(object, old) {
        let rules = list(&new.rules);
        let same_rules = old.is_some_and(|old| list(&old.rules) == rules);
        let same_aggregation = old.is_some_and(|old| old.aggregation_rule == new.aggregation_rule);
        if same_rules && same_aggregation {
            return Given::Nothing;
        }
        Given::Rules(rules, new.aggregation_rule.is_some())
    } else if let Some((new, old)) = pair::<RoleBinding>(object, old) {
        changed(
            (&new.role_ref, &new.subjects),
            old.map(|old| (&old.role_ref, &old.subjects)),
        )
    } else if let Some((new, old)) = pair::<ClusterRoleBinding>(object, old) {
        changed(
            (&new.role_ref, &new.subjects),
            old.map(|old| (&old.role_ref, &old.subjects)),
        )
    } else {
        Given::Nothing
    }
}

/// Refuses a role or a binding that allows more than who writes it may do, unless they may `escalate` the role or `bind`
/// it.
///
/// # Errors
/// 403; 404 for a binding to a role that is not there.
pub(crate) async fn check(
    request: &AdmissionRequest<'_>,
    object: &dyn Object,
    registry: &Registry,
    authorizer: &dyn Authorizer,
) -> ApiResult<()> {
    let user = request.user;
    if request.info.group != GROUP || user.in_group(MASTERS) {
        return Ok(());
    }
    let name = match request.name {
        "" => object.metadata().name.as_deref().unwrap_or_default(),
        name => name,
    };
    let may = |verb: &'static str, resource: String, name: String| async move {
        let attributes = Attributes {
            verb,
            is_resource: true,
            group: GROUP,
            resource,
            namespace: request.namespace,
            name: &name,
            ..Attributes::about_nothing(user)
        };
        matches!(authorizer.authorize(&attributes).await, Decision::Allow(_))
    };
    let refuse = |why: &str| ApiError::forbidden(request.info, name, why);
    let owned = || authorizer.rules_for(user, request.namespace);
    match given(object, request.old) {
        Given::Nothing => Ok(()),
        Given::Rules(rules, gathers) => {
            if may("escalate", request.info.plural.to_string(), name.to_string()).await {
                return Ok(());
            }
            if let Err(why) = held(user, owned(), &rules) {
                return Err(refuse(&why));
            }
            if gathers && held(user, owned(), &everything()).is_err() {
                return Err(refuse(
                    "must have cluster-admin privileges to use the aggregationRule",
                ));
            }
            Ok(())
        }
        Given::Role(role) => {
            let plural = if role.kind == "ClusterRole" {
                "clusterroles"
            } else {
                "roles"
            };
            if may("bind", plural.into(), role.name.clone()).await {
                return Ok(());
            }
            let rules = rules_of(registry, request.namespace, &role).await?;
            held(user, owned(), &rules).map_err(|why| refuse(&why))
        }
    }
}

async fn rules_of(registry: &Registry, namespace: &str, role: &RoleRef) -> ApiResult<Vec<PolicyRule>> {
    let rules = match role.kind.as_str() {
        "ClusterRole" => {
            let found: Option<ClusterRole> = find(registry, "", &role.name).await?;
            let info = KindInfo::of::<ClusterRole>("clusterrole");
            found.ok_or_else(|| ApiError::not_found(&info, &role.name))?.rules
        }
        "Role" => {
            let found: Option<Role> = find(registry, namespace, &role.name).await?;
            let info = KindInfo::of::<Role>("role");
            found.ok_or_else(|| ApiError::not_found(&info, &role.name))?.rules
        }
        // Validation, which comes after this, refuses it.
        _ => None,
    };
    Ok(rules.unwrap_or_default())
}

/// What only somebody has who may do everything.
fn everything() -> [PolicyRule; 2] {
    let all = || Some(vec![ALL.to_string()]);
    [
        PolicyRule {
            verbs: vec![ALL.into()],
            api_groups: all(),
            resources: all(),
            ..PolicyRule::default()
        },
        PolicyRule {
            verbs: vec![ALL.into()],
            non_resource_urls: all(),
            ..PolicyRule::default()
        },
    ]
}

/// Whether the owned rules cover the wanted ones; if not, what is missing.
fn held(user: &UserInfo, owned: Held, wanted: &[PolicyRule]) -> Result<(), String> {
    let lacking = missing(&owned.rules, wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        described(lacking)
    );
    if !owned.errors.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", owned.errors.join(" ")));
    }
    Err(why)
}
