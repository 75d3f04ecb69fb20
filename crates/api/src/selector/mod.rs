//! Label selectors and field selectors: read from text or from objects, and matched.

mod field;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector as LabelSelectorObject, LabelSelectorRequirement,
};

use crate::core::pod_spec::renamed;
use crate::field::{Errors, Path};
use crate::meta;
use crate::names;

pub use field::{FieldSelector, FieldTerm};

/// A selector that cannot be understood; the message is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseSelectorError(String);

/// Where a selector looks up the value of a label. Implemented for the maps that hold labels.
pub trait Labels {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.label(key))
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key=value`
    Equals,
    /// `key==value`
    DoubleEquals,
    /// `key!=value`; also without the label.
    NotEquals,
    /// `key in (a,b)`
    In,
    /// `key notin (a,b)`; also without the label.
    NotIn,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>1`
    GreaterThan,
    /// `key<1`
    LessThan,
}

/// One condition of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// A condition.
    ///
    /// # Errors
    /// When the key, a value or the number of values is not allowed.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, ParseSelectorError> {
        let mut errors = Errors::new();
        let wrong = names::qualified_name(key);
        if !wrong.is_empty() {
            errors.invalid(&Path::new("key"), key, wrong.join("; "));
        }
        let path = Path::new("values");
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.invalid(
                    &path,
                    &values,
                    "for 'in', 'notin' operators, values set can't be empty",
                );
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                errors.invalid(
                    &path,
                    &values,
                    "exact-match compatibility requires one single value",
                );
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                errors.invalid(
                    &path,
                    &values,
                    "values set must be empty for exists and does not exist",
                );
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    errors.invalid(
                        &path,
                        &values,
                        "for 'Gt', 'Lt' operators, exactly one value is required",
                    );
                }
                for (index, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                        errors.invalid(&path.index(index), value, detail);
                    }
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                errors.invalid(&path.index(index).key(key), value, wrong.join("; "));
            }
        }
        if errors.is_empty() {
            Ok(Self {
                key: key.to_string(),
                operator,
                values,
            })
        } else {
            Err(ParseSelectorError(errors.aggregate()))
        }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is asked of it.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values it is compared with.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    fn has(&self, value: &str) -> bool {
        self.values.iter().any(|known| known == value)
    }

    /// Whether an object with these labels meets it.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.label(&self.key);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => {
                value.is_some_and(|value| self.has(value))
            }
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(|value| self.has(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let bound = self.values.first().and_then(|bound| bound.parse::<i64>().ok());
                match (value.and_then(|value| value.parse::<i64>().ok()), bound) {
                    (Some(value), Some(bound)) if self.operator == Operator::GreaterThan => value > bound,
                    (Some(value), Some(bound)) => value < bound,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A label selector: all of its requirements must be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector {
    /// `None` selects nothing at all.
    requirements: Option<Vec<Requirement>>,
}

impl Default for LabelSelector {
    fn default() -> Self {
        Self::everything()
    }
}

impl LabelSelector {
    /// Selects everything.
    pub const fn everything() -> Self {
        Self {
            requirements: Some(Vec::new()),
        }
    }

    /// Selects nothing.
    pub const fn nothing() -> Self {
        Self { requirements: None }
    }

    /// Reads the text of a query or a flag: `a=b,c!=d,e in (x,y),!f`. An empty text selects everything.
    ///
    /// # Errors
    /// When the text is not a selector.
    pub fn parse(text: &str) -> Result<Self, ParseSelectorError> {
        let mut requirements = text::Parser::new(text).parse().map_err(ParseSelectorError)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements: Some(requirements),
        })
    }

    /// The selector of a `selector` field: an absent one selects nothing, an empty one everything
    /// (`LabelSelectorAsSelector`).
    ///
    /// # Errors
    /// When an operator, a key or a value is not allowed.
    pub fn of(object: Option<&LabelSelectorObject>) -> Result<Self, ParseSelectorError> {
        let Some(object) = object else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in object.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in object.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(ParseSelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements: Some(requirements),
        })
    }

    /// The selector that a plain map is, as services and replication controllers have it; an empty one selects
    /// everything.
    pub fn of_map(map: &BTreeMap<String, String>) -> Self {
        let requirements = map
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::Equals,
                values: vec![value.clone()],
            })
            .collect();
        Self {
            requirements: Some(requirements),
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        self.requirements
            .as_ref()
            .is_some_and(|all| all.iter().all(|requirement| requirement.matches(labels)))
    }

    /// Whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether nothing is selected, whatever its labels.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// The requirements; none for both everything and nothing.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

/// Checks a `selector` field.
pub fn validate(selector: &LabelSelectorObject, path: &Path, errors: &mut Errors) {
    meta::validate_labels(selector.match_labels.as_ref(), &path.child("matchLabels"), errors);
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        validate_requirement(expression, false, &path, errors);
    }
}

/// Checks a requirement on a label. Operators that are not known may be allowed: those of clients that are newer.
pub fn validate_requirement(
    requirement: &LabelSelectorRequirement,
    unknown_operators: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let values = requirement.values.as_deref().unwrap_or_default();
    validate_operator(&requirement.operator, values, unknown_operators, path, errors);
    meta::validate_label_name(&requirement.key, &path.child("key"), errors);
    // Values are checked as those of labels are: no object could ever match another one.
    for (index, value) in values.iter().enumerate() {
        for message in names::label_value(value) {
            errors.invalid(&path.child("values").index(index), value, message);
        }
    }
}

/// Checks that an operator has as many values as it needs.
pub fn validate_operator(
    operator: &str,
    values: &[String],
    unknown_operators: bool,
    path: &Path,
    errors: &mut Errors,
) {
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.required(
            &path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        ),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other if !unknown_operators => {
            errors.invalid(&path.child("operator"), other, "not a valid selector operator");
        }
        _ => {}
    }
}

/// The warnings about a selector of nodes: labels that have other names now.
pub(crate) fn node_warnings(selector: &LabelSelectorObject, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        if let Some(message) = renamed(&expression.key) {
            let at = path.child("matchExpressions").index(index).child("key");
            warnings.push(format!("{at}: {} is {message}", expression.key));
        }
    }
    for label in selector.match_labels.iter().flat_map(|labels| labels.keys()) {
        if let Some(message) = renamed(label) {
            let at = path.child("matchLabels").child(label);
            warnings.push(format!("{at}: {message}"));
        }
    }
    warnings
}
