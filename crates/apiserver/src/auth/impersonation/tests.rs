//! Who may act as whom, and what is asked about it.

use super::*;
use async_trait::async_trait;
use http::Method;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

/// Allows what is listed as `verb group/resource name`, and notes what it was asked.
#[derive(Default)]
struct Listed(&'static [&'static str], Mutex<Vec<String>>);

#[async_trait]
impl Authorizer for Listed {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Attributes {
            verb,
            group,
            resource,
            name,
            ..
        } = attributes;
        let asked = format!("{verb} {group}/{resource} {name}");
        self.1.lock().push(asked.clone());
        if self.0.contains(&asked.as_str()) {
            Decision::Allow(None)
        } else {
            Decision::NoOpinion(String::new())
        }
    }
}

fn listing(allowed: &'static [&'static str]) -> (Arc<Listed>, Impersonation) {
    let listed = Arc::new(Listed(allowed, Mutex::default()));
    (listed.clone(), Impersonation::new(listed, Arc::default()))
}

fn listed_pods() -> RequestInfo {
    RequestInfo::parse(&Method::GET, &"/api/v1/namespaces/n/pods".parse().unwrap()).unwrap()
}

async fn act(
    headers: &HeaderMap,
    caller: &UserInfo,
    allowed: &'static [&'static str],
) -> Result<UserInfo, String> {
    let found = listing(allowed).1.user(headers, caller, &listed_pods()).await;
    found.map(Option::unwrap).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_way_that_was_allowed_last_is_tried_first() {
    let headers = headers(&[("impersonate-user", "jane")]);
    let (listed, impersonation) = listing(&["impersonate /users jane"]);
    let asked = async |caller: &str| {
        let caller = UserInfo::new(caller, [""; 0]);
        let outcome = impersonation.user(&headers, &caller, &listed_pods()).await;
        assert_eq!(outcome.unwrap().unwrap().name, "jane");
        std::mem::take(&mut *listed.1.lock())
    };
    let all = ["impersonate-on:user-info:list /pods ", "impersonate /users jane"];
    assert_eq!(asked("proxy").await, all);
    assert_eq!(asked("proxy").await, ["impersonate /users jane"]);
    assert_eq!(asked("other").await, all, "who never did it");
    // It is only tried first: what it refuses, another way may allow, and its refusal is the one that is told.
    let caller = UserInfo::new("proxy", [""; 0]);
    let john = HeaderMap::from_iter([("impersonate-user".parse().unwrap(), "john".parse().unwrap())]);
    let error = impersonation
        .user(&john, &caller, &listed_pods())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot impersonate resource \"users\" in API group \"\""),
        "{error}"
    );
    let mut text = String::new();
    impersonation.counts.write(&mut text).unwrap();
    for line in [
        r#"apiserver_impersonation_attempts_total{decision="allowed",mode="legacy"} 3"#,
        r#"apiserver_impersonation_attempts_total{decision="denied",mode=""} 1"#,
        r#"apiserver_impersonation_authorization_attempts_total{decision="denied",mode="user-info"} 3"#,
        r#"apiserver_impersonation_authorization_attempts_total{decision="denied",mode="legacy"} 1"#,
    ] {
        assert!(text.lines().any(|its| its == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn only_who_may_acts_as_somebody_else() {
    let headers = headers(&[
        ("impersonate-user", "jane"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "u"),
        ("impersonate-extra-acme.com%2fscopes", "view"),
    ]);
    let joe = UserInfo::new("joe", [""; 0]);
    let jane = act(
        &headers,
        &joe,
        &[
            "impersonate /users jane",
            "impersonate /groups dev",
            "impersonate authentication.k8s.io/uids u",
            "impersonate authentication.k8s.io/userextras/acme.com/scopes view",
        ],
    )
    .await
    .unwrap();
    assert_eq!(jane.groups, ["dev", "system:authenticated"]);
    assert_eq!(jane.extra["acme.com/scopes"], ["view"]);
    let constrained = act(
        &headers,
        &joe,
        &[
            "impersonate-on:user-info:list /pods ",
            "impersonate:user-info authentication.k8s.io/users jane",
            "impersonate:user-info authentication.k8s.io/groups dev",
            "impersonate:user-info authentication.k8s.io/uids u",
            "impersonate:user-info authentication.k8s.io/userextras/acme.com/scopes view",
        ],
    );
    assert_eq!(constrained.await, Ok(jane));
    assert_eq!(
        act(&headers, &joe, &[]).await.unwrap_err(),
        r#"pods is forbidden: User "joe" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "n""#
    );
    assert_eq!(
        act(&headers, &joe, &["impersonate-on:user-info:list /pods "])
            .await
            .unwrap_err(),
        r#"users.authentication.k8s.io "jane" is forbidden: User "joe" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope"#
    );
}

#[tokio::test]
async fn nodes_and_service_accounts_have_ways_of_their_own() {
    let joe = UserInfo::new("joe", [""; 0]);
    let account = headers(&[("impersonate-user", "system:serviceaccount:a:b")]);
    let robot = act(
        &account,
        &joe,
        &[
            "impersonate-on:serviceaccount:list /pods ",
            "impersonate:serviceaccount authentication.k8s.io/serviceaccounts b",
        ],
    );
    assert_eq!(
        robot.await.unwrap().groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:a",
            "system:authenticated"
        ]
    );
    let node = headers(&[("impersonate-user", "system:node:n1")]);
    let mut agent = UserInfo::service_account("kube-system", "agent", "u");
    let allowed = &[
        "impersonate-on:associated-node:list /pods ",
        "impersonate:associated-node authentication.k8s.io/nodes *",
    ];
    agent.extra = [(NODE_OF_POD.to_string(), vec!["n2".to_string()])].into();
    assert!(act(&node, &agent, allowed).await.is_err(), "it runs elsewhere");
    agent.extra = [(NODE_OF_POD.to_string(), vec!["n1".to_string()])].into();
    let acting = act(&node, &agent, allowed).await.unwrap();
    assert_eq!(
        (acting.name.as_str(), acting.groups),
        (
            "system:node:n1",
            vec!["system:nodes".to_string(), "system:authenticated".to_string()]
        )
    );
    let masters = headers(&[("impersonate-user", "x"), ("impersonate-group", "system:masters")]);
    let refusal = act(
        &masters,
        &joe,
        &[
            "impersonate-on:user-info:list /pods ",
            "impersonate:user-info authentication.k8s.io/users x",
            "impersonate:user-info authentication.k8s.io/groups system:masters",
        ],
    );
    let refusal = refusal.await.unwrap_err();
    assert!(
        refusal.ends_with("impersonating the system:masters group is not allowed"),
        "{refusal}"
    );
}

#[test]
fn nothing_is_asked_for_without_a_user() {
    assert_eq!(requested(&HeaderMap::new()).unwrap(), None);
    let refusals = [
        (
            headers(&[("impersonate-group", "dev")]),
            r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"dev"}, Extra:map[string][]string(nil)} without impersonating a user name"#,
        ),
        (
            headers(&[
                ("impersonate-uid", "u"),
                ("impersonate-extra-k", "a"),
                ("impersonate-extra-k", "b"),
            ]),
            r#"requested &user.DefaultInfo{Name:"", UID:"u", Groups:[]string(nil), Extra:map[string][]string{"k":[]string{"a", "b"}}} without impersonating a user name"#,
        ),
    ];
    for (headers, expected) in refusals {
        let error = requested(&headers).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (400, expected));
    }
}

#[test]
fn keys_may_be_escaped() {
    for (key, meant) in [
        ("acme.com%2fscopes", "acme.com/scopes"),
        ("a%2", "a%2"),
        ("a%zz%2f", "a%zz%2f"),
        ("plain", "plain"),
    ] {
        assert_eq!(unescaped(key), meant);
    }
}
