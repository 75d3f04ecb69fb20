//! What is written, against what Kubernetes writes.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::twice;

#[test]
fn texts_are_quoted_as_kubernetes_quotes_them() {
    for (text, written) in [
        ("", "\"\""),
        ("yes", "\"yes\""),
        ("No", "\"No\""),
        ("y", "\"y\""),
        ("on", "\"on\""),
        ("true", "\"true\""),
        ("null", "\"null\""),
        ("~", "\"~\""),
        ("1", "\"1\""),
        ("1.0", "\"1.0\""),
        ("1e3", "\"1e3\""),
        ("0x1", "\"0x1\""),
        ("0o17", "\"0o17\""),
        ("017", "\"017\""),
        ("08", "\"08\""),
        ("1_000", "\"1_000\""),
        ("+1", "\"+1\""),
        (".5", "\".5\""),
        (".inf", "\".inf\""),
        ("1.2.3", "1.2.3"),
        ("1e400", "1e400"),
        ("12345678901234567890", "\"12345678901234567890\""),
        ("0b2", "0b2"),
        ("-", "'-'"),
        ("- a", "'- a'"),
        ("-a", "-a"),
        ("--", "--"),
        ("---", "'---'"),
        ("#a", "'#a'"),
        ("a #b", "'a #b'"),
        ("a#b", "a#b"),
        ("a: b", "'a: b'"),
        ("a:b", "a:b"),
        ("a:", "'a:'"),
        ("? a", "'? a'"),
        ("!a", "'!a'"),
        ("&a", "'&a'"),
        ("*a", "'*a'"),
        ("@a", "'@a'"),
        ("%a", "'%a'"),
        ("|", "'|'"),
        ("<<", "<<"),
        ("=", "="),
        ("{a}", "'{a}'"),
        ("a,b", "a,b"),
        (",a", "',a'"),
        ("'a'", "'''a'''"),
        ("it's", "it's"),
        ("a\"b", "a\"b"),
        (" a", "' a'"),
        ("a ", "'a '"),
        ("\t", "\"\\t\""),
        ("a\tb", "\"a\\tb\""),
        ("\n", "|2+\n"),
        ("a\n", "|\n  a"),
        ("a\nb", "|-\n  a\n  b"),
        ("a\n\nb\n\n", "|+\n  a\n\n  b\n"),
        ("\na", "|2-\n\n  a"),
        ("  a\n b", "|2-\n    a\n   b"),
        ("a \nb", "\"a \\nb\""),
        ("a\r\nb", "\"a\\r\\nb\""),
        ("2020-01-01", "\"2020-01-01\""),
        ("2020-01-01T00:00:00Z", "\"2020-01-01T00:00:00Z\""),
        ("2020-13-01", "2020-13-01"),
        ("2001-12-14t21:59:43.10-05:00", "\"2001-12-14t21:59:43.10-05:00\""),
        ("12:30", "\"12:30\""),
        ("12:70", "12:70"),
        ("190:20:30", "\"190:20:30\""),
        ("sha256:abc", "sha256:abc"),
        ("100m", "100m"),
        ("1Gi", "1Gi"),
        ("é", "é"),
        ("🦀", "\"\\U0001F980\""),
        ("\u{1}", "\"\\x01\""),
        ("\u{1b}[0m", "\"\\e[0m\""),
        ("\\", "\\"),
        ("#!/bin/sh\nset -e\n", "|\n  #!/bin/sh\n  set -e"),
        (
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ),
        (
            "word word word word word word word word word word word word word word word word word word end",
            "word word word word word word word word word word word word word word word word\n  word word end",
        ),
        (
            "word word word word word word word word word word word word word word word word word word ",
            "'word word word word word word word word word word word word word word word word\n  word word '",
        ),
        (
            "\"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" end",
            "'\"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\"\n  \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" \"quoted\" end'",
        ),
    ] {
        assert_eq!(
            write(&json!({ "k": text })),
            format!("k: {written}\n"),
            "{text:?}"
        );
    }
}

#[test]
fn documents_are_laid_out_as_kubernetes_lays_them_out() {
    for (value, written) in [
        (
            json!({"a": {}, "b": [], "c": [[]], "d": [{}], "e": [[1, 2], [3]], "f": [{"a": 1, "b": [1, {"c": null}]}], "g": true}),
            "a: {}\nb: []\nc:\n- []\nd:\n- {}\ne:\n- - 1\n  - 2\n- - 3\nf:\n- a: 1\n  b:\n  - 1\n  - c: null\ng: true\n",
        ),
        (
            json!({"n": [0, -1, 1.5, 1.0, 1e+21, 1e-07, 123456.789, 1000000.0, 18446744073709551615_u64]}),
            "\"n\":\n- 0\n- -1\n- 1.5\n- 1\n- 1e+21\n- 1e-07\n- 123456.789\n- 1e+06\n- 18446744073709551615\n",
        ),
        (
            json!({"b": 1, "a10": 2, "a2": 3, "A": 4, "_": 5, "1": 6, "a-b": 7, "aB": 8, "": 9}),
            "\"\": 9\n_: 5\n\"1\": 6\nA: 4\na-b: 7\na2: 3\na10: 2\naB: 8\nb: 1\n",
        ),
        (
            json!({"yes": 1, "1": 2, "a b": 3, "a: b": 4}),
            "\"1\": 2\na b: 3\n'a: b': 4\n\"yes\": 1\n",
        ),
        (json!({"x\ny": {"z": 1}}), "? |-\n  x\n  y\n: z: 1\n"),
        (
            json!({"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk": [1]}),
            "? kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\n: - 1\n",
        ),
        (json!("str"), "str\n"),
        (json!("a\nb\n"), "|\n  a\n  b\n"),
        (json!([]), "[]\n"),
        (
            json!([["x\ny\n"], {"b": "x\ny"}]),
            "- - |\n    x\n    y\n- b: |-\n    x\n    y\n",
        ),
    ] {
        assert_eq!(write(&value), written, "{value}");
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ \n:#\\-,'\"{}&*!|>%@`a-c0-9.é]{0,12}",
        "([a-z:#'\"-]{1,9} ){8,20}",
        "(yes|no|null|~|1e3|0x1f|2020-01-01|-|\\.inf)",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever is written is read as what it was.
    #[test]
    fn what_is_written_is_read_again(value in tree()) {
        let text = write(&value);
        let (read, repeated) = twice::yaml(text.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(read, value, "{}", text);
        prop_assert!(repeated.is_empty());
    }
}
