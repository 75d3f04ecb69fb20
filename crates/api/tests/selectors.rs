//! Label and field selectors.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use skiff_api::selector::{FieldSelector, LabelSelector};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

#[test]
fn label_selectors_are_read_and_matched() {
    let web = labels(&[("app", "web"), ("tier", "front"), ("n", "5"), ("empty", "")]);
    let cases = [
        ("", "", true),
        ("app", "app", true),
        ("!app", "!app", false),
        ("app=web", "app=web", true),
        ("app==web", "app==web", true),
        ("app = web , tier!=back", "app=web,tier!=back", true),
        ("tier in (front, back),app", "app,tier in (back,front)", true),
        ("tier notin (front)", "tier notin (front)", false),
        ("gone notin (x)", "gone notin (x)", true),
        ("gone!=x", "gone!=x", true),
        ("n>4,n<6", "n>4,n<6", true),
        ("n>5", "n>5", false),
        ("empty in ()", "empty in ()", true),
        ("app in (,web)", "app in (,web)", true),
        ("empty=", "empty=", true),
        ("in in (in)", "in in (in)", false),
        ("example.com/a=b", "example.com/a=b", false),
    ];
    for (text, shown, matches) in cases {
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.to_string(), shown, "{text}");
        assert_eq!(selector.matches(&web), matches, "{text}");
        assert_eq!(LabelSelector::parse(shown).unwrap(), selector, "{text}");
    }
}

#[test]
fn what_is_no_label_selector_is_refused_with_upstreams_words() {
    let qualified = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
        an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let cases = [
        ("app,", "found '', expected: identifier after ','".to_string()),
        (",app", "found ',', expected: !, identifier, or 'end of string'".into()),
        ("app web", "unable to parse requirement: found 'web', expected: in, notin, =, ==, !=, gt, lt".into()),
        ("a in x", "unable to parse requirement: found 'x' expected: '('".into()),
        ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'".into()),
        ("a in (x y)", "unable to parse requirement: found 'y', expected: ',' or ')'".into()),
        ("a=b c", "found 'c', expected: ',' or 'end of string'".into()),
        ("!", "unable to parse requirement: found '', expected: identifier".into()),
        ("a=(", "unable to parse requirement: found '(', expected: identifier".into()),
        ("-a", format!("unable to parse requirement: <nil>: Invalid value: \"-a\": {qualified}")),
        (
            "a=-b",
            "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be an empty string \
             or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
             character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .into(),
        ),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must \
             be an integer"
                .into(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            LabelSelector::parse(text).unwrap_err().to_string(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn selector_objects_select_as_upstream_says() {
    let of = |value| LabelSelector::of(Some(&serde_json::from_value(value).unwrap()));
    let web = labels(&[("app", "web")]);
    assert!(LabelSelector::of(None).unwrap().is_nothing());
    assert!(!LabelSelector::of(None).unwrap().matches(&web));
    assert!(of(json!({})).unwrap().is_everything());
    assert!(of(json!({"matchLabels": {"app": "web"}})).unwrap().matches(&web));
    let expressions = json!({"matchExpressions": [
        {"key": "app", "operator": "In", "values": ["web", "db"]},
        {"key": "gone", "operator": "DoesNotExist"},
    ]});
    assert_eq!(
        of(expressions.clone()).unwrap().to_string(),
        "app in (db,web),!gone"
    );
    assert!(of(expressions).unwrap().matches(&web));
    let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
    assert_eq!(
        of(wrong).unwrap_err().to_string(),
        "\"Like\" is not a valid label selector operator"
    );
    assert!(LabelSelector::of_map(&web).matches(&web));
    assert!(!LabelSelector::of_map(&web).matches(&labels(&[])));
}

#[test]
fn field_selectors_are_read_and_matched() {
    let field = |name: &str| match name {
        "metadata.name" => "web".to_string(),
        "note" => "a,b=c\\".to_string(),
        _ => String::new(),
    };
    let cases = [
        ("", true),
        ("metadata.name=web", true),
        ("metadata.name==web,spec.nodeName=", true),
        ("metadata.name!=web", false),
        ("spec.nodeName!=n1", true),
        (r"note=a\,b\=c\\", true),
    ];
    for (text, matches) in cases {
        let selector = FieldSelector::parse(text).unwrap();
        assert_eq!(selector.matches(field), matches, "{text}");
        assert_eq!(
            FieldSelector::parse(&selector.to_string()).unwrap(),
            selector,
            "{text}"
        );
    }
    let selector = FieldSelector::parse("spec.nodeName=n1,status.phase!=Failed").unwrap();
    assert_eq!(selector.required("spec.nodeName"), Some("n1"));
    assert_eq!(selector.required("status.phase"), None);
    assert_eq!(
        FieldSelector::parse("nonsense").unwrap_err().to_string(),
        "invalid selector: 'nonsense'; can't understand 'nonsense'"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }

    #[test]
    fn what_is_written_reads_back(text in "(!?[a-c]|[a-c](=|==|!=)[x-z]?|[a-c] (in|notin) \\([x-z]?(,[x-z]?){0,2}\\))(,[a-c]=[x-z]){0,2}") {
        let selector = LabelSelector::parse(&text).unwrap();
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn in_and_notin_are_opposites(value in "[x-z]?", present in any::<bool>()) {
        let labels = if present { labels(&[("k", &value)]) } else { labels(&[]) };
        let matches = |text: &str| LabelSelector::parse(text).unwrap().matches(&labels);
        prop_assert_ne!(matches("k in (x,y)"), matches("k notin (x,y)"));
        prop_assert_ne!(matches("k=x"), matches("k!=x"));
        prop_assert_ne!(matches("k"), matches("!k"));
    }

    #[test]
    fn field_values_survive_escaping(value in "\\PC{0,12}") {
        let selector = FieldSelector::equals("a.b", value.clone());
        let back = FieldSelector::parse(&selector.to_string()).unwrap();
        prop_assert!(back.matches(|_| value.as_str()));
    }
}
