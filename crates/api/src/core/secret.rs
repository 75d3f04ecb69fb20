//! Secret: bytes that few may read.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::config_map::MAX_SIZE;
use crate::certificates::key_pair;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Target, age};
use crate::meta;
use crate::names;

/// The type of those that hold a certificate and its key.
const TLS: &str = "kubernetes.io/tls";

impl Kind for Secret {
    fn info() -> KindInfo {
        KindInfo {
            columns: vec![
                Column::object_name(),
                Column::of("Type", "string", "core.v1.Secret", "type"),
                Column::of("Data", "string", "core.v1.Secret", "data"),
                Column::age(),
            ],
            selectable_fields: &["type"],
            ..KindInfo::of::<Self>("secret")
        }
    }

    fn default(&mut self) {
        if self.type_.as_deref().unwrap_or_default().is_empty() {
            self.type_ = Some("Opaque".into());
        }
        // `stringData` is a way of writing `data`; it is never read back.
        if let Some(texts) = self.string_data.take().filter(|texts| !texts.is_empty()) {
            let data = self.data.get_or_insert_default();
            data.extend(
                texts
                    .into_iter()
                    .map(|(key, text)| (key, ByteString(text.into_bytes()))),
            );
        }
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        // An update that leaves the type out keeps it.
        if self.type_.as_deref().unwrap_or_default().is_empty() {
            self.type_.clone_from(&old.type_);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::new("data");
        let mut size = 0;
        for (key, value) in self.data.iter().flatten() {
            for message in names::config_map_key(key) {
                errors.invalid(&path.key(key), key, message);
            }
            size += value.0.len();
        }
        if size > MAX_SIZE {
            errors.too_long(&path, MAX_SIZE);
        }
        self.validate_type(errors);
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        meta::immutable(&self.type_, &old.type_, &Path::new("type"), errors);
        if old.immutable != Some(true) {
            return;
        }
        let detail = "field is immutable when `immutable` is set";
        if self.immutable != Some(true) {
            errors.forbidden(&Path::new("immutable"), detail);
        }
        if self.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default() {
            errors.forbidden(&Path::new("data"), detail);
        }
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        if self.type_.as_deref() != Some(TLS) {
            return Vec::new();
        }
        let part = |key: &str| {
            let data = self.data.as_ref().and_then(|data| data.get(key));
            data.map(|bytes| bytes.0.as_slice()).unwrap_or_default()
        };
        key_pair::mismatch(part("tls.crt"), part("tls.key"))
            .into_iter()
            .collect()
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.metadata.name.clone().into(),
            self.field("type").into(),
            self.data.as_ref().map_or(0, |data| data.len()).into(),
            age(&self.metadata, now),
        ]
    }

    fn field(&self, name: &str) -> String {
        match name {
            "type" => self.type_.clone().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// What Go's decoder says of bytes that are no JSON object.
fn wrong_with_object(bytes: &[u8]) -> Option<String> {
    let kind = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Err(error) if error.is_eof() => return Some("unexpected end of JSON input".into()),
        Err(error) => {
            let before = bytes
                .split(|&byte| byte == b'\n')
                .take(error.line().saturating_sub(1));
            let start: usize = before.map(|line| line.len() + 1).sum();
            let found = bytes.get(start + error.column().saturating_sub(1));
            let found = found.map_or(' ', |&byte| char::from(byte));
            let starts = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            let place = match starts {
                Some(b'{') => "looking for beginning of object key string",
                _ => "looking for beginning of value",
            };
            return Some(format!("invalid character '{found}' {place}"));
        }
    };
    Some(format!(
        "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    ))
}

trait TypeRules {
    fn validate_type(&self, errors: &mut Errors);
}

impl TypeRules for Secret {
    /// Some types must have certain keys.
    fn validate_type(&self, errors: &mut Errors) {
        let path = Path::new("data");
        let value = |key: &str| self.data.as_ref().and_then(|data| data.get(key));
        let mut json = |key: &str| match value(key) {
            None => errors.required(&path.key(key), ""),
            Some(ByteString(bytes)) => {
                if let Some(wrong) = wrong_with_object(bytes) {
                    errors.invalid(&path.key(key), "<secret contents redacted>", wrong);
                }
            }
        };
        match self.type_.as_deref().unwrap_or_default() {
            "kubernetes.io/service-account-token" => {
                let annotations = self.metadata.annotations.as_ref();
                let key = "kubernetes.io/service-account.name";
                let named = annotations
                    .and_then(|all| all.get(key))
                    .is_some_and(|name| !name.is_empty());
                if !named {
                    errors.required(&Path::new("metadata.annotations").key(key), "");
                }
            }
            "kubernetes.io/dockercfg" => json(".dockercfg"),
            "kubernetes.io/dockerconfigjson" => json(".dockerconfigjson"),
            "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
                errors.required(&path.key("username"), "");
                errors.required(&path.key("password"), "");
            }
            "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
                errors.required(&path.key("ssh-privatekey"), "");
            }
            "kubernetes.io/tls" => {
                for key in ["tls.crt", "tls.key"] {
                    if value(key).is_none() {
                        errors.required(&path.key(key), "");
                    }
                }
            }
            _ => {}
        }
    }
}
