//! Metrics as the annotations of the first version have them: flat where version 2 has objects.

use serde_json::{Map, Value, json};

/// Whether it is about what is wanted or what is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Spec,
    Status,
}

/// The sources: the field, and the names of the value, of the average value and of the average utilization.
struct Names {
    source: &'static str,
    selector: &'static str,
    value: Option<&'static str>,
    average_value: &'static str,
    average_utilization: Option<&'static str>,
}

const SPEC: [Names; 5] = [
    names("object", "selector", Some("targetValue"), "averageValue", None),
    names("pods", "selector", None, "targetAverageValue", None),
    names(
        "resource",
        "",
        None,
        "targetAverageValue",
        Some("targetAverageUtilization"),
    ),
    names(
        "containerResource",
        "",
        None,
        "targetAverageValue",
        Some("targetAverageUtilization"),
    ),
    names(
        "external",
        "metricSelector",
        Some("targetValue"),
        "targetAverageValue",
        None,
    ),
];

const STATUS: [Names; 5] = [
    names("object", "selector", Some("currentValue"), "averageValue", None),
    names("pods", "selector", None, "currentAverageValue", None),
    names(
        "resource",
        "",
        None,
        "currentAverageValue",
        Some("currentAverageUtilization"),
    ),
    names(
        "containerResource",
        "",
        None,
        "currentAverageValue",
        Some("currentAverageUtilization"),
    ),
    names(
        "external",
        "metricSelector",
        Some("currentValue"),
        "currentAverageValue",
        None,
    ),
];

const fn names(
    source: &'static str,
    selector: &'static str,
    value: Option<&'static str>,
    average_value: &'static str,
    average_utilization: Option<&'static str>,
) -> Names {
    Names {
        source,
        selector,
        value,
        average_value,
        average_utilization,
    }
}

impl Which {
    fn names(self) -> &'static [Names; 5] {
        match self {
            Self::Spec => &SPEC,
            Self::Status => &STATUS,
        }
    }

    fn amounts(self) -> &'static str {
        match self {
            Self::Spec => "target",
            Self::Status => "current",
        }
    }
}

fn fields(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn shift(from: &mut Map<String, Value>, name: &str, to: &mut Map<String, Value>, new_name: &str) {
    if let Some(value) = from.remove(name).filter(|value| !value.is_null()) {
        to.insert(new_name.into(), value);
    }
}

/// A metric of version 2, made of one of an annotation; nothing where it is no metric.
pub(super) fn to_stored(metric: Value, which: Which) -> Option<Value> {
    let mut metric = fields(metric)?;
    for names in which.names() {
        let Some(source) = metric.remove(names.source).filter(|source| !source.is_null()) else {
            continue;
        };
        let mut flat = fields(source)?;
        let (mut made, mut amounts) = (Map::new(), Map::new());
        if let Some(value) = names.value {
            shift(&mut flat, value, &mut amounts, "value");
        }
        shift(&mut flat, names.average_value, &mut amounts, "averageValue");
        if let Some(utilization) = names.average_utilization {
            shift(&mut flat, utilization, &mut amounts, "averageUtilization");
        }
        if which == Which::Spec {
            // Go writes the value that is not there as zero.
            if amounts.contains_key("averageValue") && amounts.get("value") == Some(&json!("0")) {
                amounts.remove("value");
            }
            let type_ = if amounts.contains_key("averageUtilization") {
                "Utilization"
            } else if amounts.contains_key("value") && !amounts.contains_key("averageValue") {
                "Value"
            } else {
                "AverageValue"
            };
            amounts.insert("type".into(), type_.into());
        }
        if names.selector.is_empty() {
            for field in ["name", "container"] {
                shift(&mut flat, field, &mut made, field);
            }
        } else {
            let mut identifier = Map::new();
            shift(&mut flat, "metricName", &mut identifier, "name");
            shift(&mut flat, names.selector, &mut identifier, "selector");
            made.insert("metric".into(), identifier.into());
            shift(&mut flat, "target", &mut made, "describedObject");
        }
        made.insert(which.amounts().into(), amounts.into());
        metric.insert(names.source.into(), made.into());
    }
    Some(metric.into())
}

/// A metric as an annotation has it, made of one of version 2.
pub(super) fn of_stored(metric: Value, which: Which) -> Option<Value> {
    let mut metric = fields(metric)?;
    for names in which.names() {
        let Some(source) = metric.remove(names.source) else {
            continue;
        };
        let mut deep = fields(source)?;
        let mut flat = Map::new();
        if let Some(Value::Object(mut amounts)) = deep.remove(which.amounts()) {
            if let Some(value) = names.value {
                shift(&mut amounts, "value", &mut flat, value);
            }
            shift(&mut amounts, "averageValue", &mut flat, names.average_value);
            if let Some(utilization) = names.average_utilization {
                shift(&mut amounts, "averageUtilization", &mut flat, utilization);
            }
        }
        if let Some(Value::Object(mut identifier)) = deep.remove("metric") {
            shift(&mut identifier, "name", &mut flat, "metricName");
            shift(&mut identifier, "selector", &mut flat, names.selector);
        }
        shift(&mut deep, "describedObject", &mut flat, "target");
        for field in ["name", "container"] {
            shift(&mut deep, field, &mut flat, field);
        }
        metric.insert(names.source.into(), flat.into());
    }
    Some(metric.into())
}
