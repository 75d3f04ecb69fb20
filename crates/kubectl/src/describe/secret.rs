//! A secret: how much of what, but for a service account's token, which is there to be copied.

use serde_json::Value;

use super::Told;
use super::page::Page;
use crate::fields::{map, text};

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let secret = told.object;
    page.metadata(secret);
    let kind = text(secret, "/type");
    page.line(0, format!("\nType:\t{kind}"));
    page.line(0, "\nData\n====");
    for (key, value) in map(secret, "/data") {
        let value = value.as_str().unwrap_or_default();
        if key == "token" && kind == "kubernetes.io/service-account-token" {
            page.field(0, key, decoded(value));
        } else {
            page.field(0, key, format!("{} bytes", decoded_length(value)));
        }
    }
}

/// How many bytes base64 stands for.
pub(super) fn decoded_length(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
    base64
        .len()
        .saturating_sub(padding)
        .saturating_mul(3)
        .checked_div(4)
        .unwrap_or_default()
}

/// The text that base64 stands for.
fn decoded(base64: &str) -> String {
    let bytes: Result<k8s_openapi::ByteString, _> = serde_json::from_value(Value::from(base64));
    bytes
        .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_long_as_what_it_stands_for() {
        for (base64, text) in [
            ("", ""),
            ("YQ==", "a"),
            ("YWI=", "ab"),
            ("YWJj", "abc"),
            ("YWJjZA==", "abcd"),
        ] {
            assert_eq!(decoded_length(base64), text.len());
            assert_eq!(decoded(base64), text);
        }
    }
}
