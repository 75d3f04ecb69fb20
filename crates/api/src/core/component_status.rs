//! ComponentStatus: how a part of the control plane is. Never stored: it is looked up when somebody asks.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ComponentStatus;
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo, Scope};

impl Kind for ComponentStatus {
    fn info() -> KindInfo {
        KindInfo {
            scope: Scope::Cluster,
            short_names: &["cs"],
            verbs: &["get", "list"],
            columns: vec![
                Column::object_name(),
                Column::new("Status", "string", "Status of the component conditions"),
                Column::new("Message", "string", "Message of the component conditions"),
                Column::new("Error", "string", "Error of the component conditions"),
            ],
            deprecation: Some("v1 ComponentStatus is deprecated in v1.19+"),
            ..KindInfo::of::<Self>("componentstatus")
        }
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        let mut conditions = self.conditions.iter().flatten();
        let health = conditions.find(|condition| condition.type_ == "Healthy");
        let status = match health.map(|health| health.status.as_str()) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        vec![
            self.metadata.name.clone().into(),
            status.into(),
            text(health.and_then(|health| health.message.as_ref())).into(),
            text(health.and_then(|health| health.error.as_ref())).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_says_whether_the_component_is_well() {
        let cases = [
            (json!([]), ["Unknown", "", ""]),
            (
                json!([{"type": "Healthy", "status": "True", "message": "ok"}]),
                ["Healthy", "ok", ""],
            ),
            (
                json!([{"type": "Healthy", "status": "False", "message": "no", "error": "why"}]),
                ["Unhealthy", "no", "why"],
            ),
        ];
        for (conditions, expected) in cases {
            let status = json!({"metadata": {"name": "x"}, "conditions": conditions});
            let status: ComponentStatus = serde_json::from_value(status).unwrap();
            let cells = status.cells(Timestamp::UNIX_EPOCH);
            assert_eq!(cells.get(1..).unwrap(), expected);
        }
    }
}
