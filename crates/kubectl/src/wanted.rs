//! What a command is about: `TYPE NAME…`, `TYPE,TYPE` or `TYPE/NAME…`, as users type it.

use crate::discovery::{Discovery, Resource};
use crate::failure::Failure;
use crate::manifest::Item;

/// A resource, and an object of it or all of them.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) resource: Resource,
    pub(crate) name: Option<String>,
    /// `None` for all namespaces.
    pub(crate) namespace: Option<String>,
}

impl Wanted {
    /// The path of the object or the collection.
    pub(crate) fn path(&self) -> String {
        match &self.name {
            Some(name) => self
                .resource
                .object(self.namespace.as_deref().unwrap_or_default(), name),
            None => self.resource.collection(self.namespace.as_deref()),
        }
    }

    /// A failure to list, with what was looked for, as kubectl adds it to a refusal.
    pub(crate) fn not_listed(&self, failure: Failure, labels: &str, fields: &str) -> Failure {
        let Failure::Server(mut status) = failure else {
            return failure;
        };
        if matches!(status.reason.as_deref(), Some("BadRequest" | "NotFound")) {
            let resource = &self.resource;
            let what = format!(
                "\"{}/{}, Resource={}\"",
                resource.group, resource.version, resource.plural
            );
            let why = status.message.unwrap_or_default();
            status.message = Some(match labels.is_empty() && fields.is_empty() {
                true => format!("Unable to list {what}: {why}"),
                false => format!(
                    "Unable to find {what} that match label selector {labels:?}, field selector {fields:?}: {why}"
                ),
            });
        }
        Failure::Server(status)
    }
}

impl From<Item> for Wanted {
    fn from(item: Item) -> Self {
        let name = Some(item.name().to_string());
        Self {
            resource: item.resource,
            name,
            namespace: Some(item.namespace),
        }
    }
}

/// Why a command does not take arguments and files at once.
pub(crate) const BOTH: &str =
    "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well";

const MIXED: &str = "there is no need to specify a resource type as a separate argument when passing arguments in \
                     resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource \
                     resource/<resource_name>'";

/// Understands the words of a command line.
pub(crate) fn wanted(
    words: &[String],
    discovery: &Discovery,
    namespace: Option<&str>,
) -> Result<Vec<Wanted>, Failure> {
    let namespace = namespace.map(str::to_string);
    let Some((first, names)) = words.split_first() else {
        return Err(Failure::usage(
            "You must provide one or more resources by argument or filename.\nExample resource specifications \
             include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
        ));
    };
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| {
                let (type_, name) = word.split_once('/').ok_or_else(|| Failure::usage(MIXED))?;
                if type_.is_empty() || name.is_empty() || name.contains('/') {
                    return Err(Failure::usage(
                        "arguments in resource/name form must have a single resource and name",
                    ));
                }
                Ok(Wanted {
                    resource: discovery.one(type_)?,
                    name: Some(name.to_string()),
                    namespace: namespace.clone(),
                })
            })
            .collect();
    }
    let mut all = Vec::new();
    for word in first.split(',') {
        for resource in discovery.named(word)? {
            let of = |name: Option<&String>| Wanted {
                resource: resource.clone(),
                name: name.cloned(),
                namespace: namespace.clone(),
            };
            if names.is_empty() {
                all.push(of(None));
            }
            all.extend(names.iter().map(|name| of(Some(name))));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tests::discovery;

    fn paths(line: &str) -> Result<Vec<String>, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        let all = wanted(&words, &discovery(), Some("ns")).map_err(|failure| failure.to_string())?;
        Ok(all.iter().map(Wanted::path).collect())
    }

    #[test]
    fn types_and_names_are_understood_in_every_form() {
        let pods = "/api/v1/namespaces/ns/pods";
        let deployments = "/apis/apps/v1/namespaces/ns/deployments";
        let cases = [
            ("po", vec![pods.to_string()]),
            ("po,deploy", vec![pods.to_string(), deployments.to_string()]),
            ("po a b", vec![format!("{pods}/a"), format!("{pods}/b")]),
            (
                "po/a deploy/b",
                vec![format!("{pods}/a"), format!("{deployments}/b")],
            ),
            ("no n", vec!["/api/v1/nodes/n".to_string()]),
            ("all", vec![pods.to_string(), deployments.to_string()]),
        ];
        for (line, expected) in cases {
            assert_eq!(paths(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_list_that_is_refused_is_named() {
        let pods = &wanted(&["po".to_string()], &discovery(), None).unwrap()[0];
        let refusal = |labels: &str| {
            let status = serde_json::json!({"reason": "BadRequest", "message": "no"});
            let failure = Failure::Server(Box::new(serde_json::from_value(status).unwrap()));
            pods.not_listed(failure, labels, "").to_string()
        };
        assert_eq!(
            refusal(""),
            "Error from server (BadRequest): Unable to list \"/v1, Resource=pods\": no"
        );
        assert_eq!(
            refusal("a,("),
            "Error from server (BadRequest): Unable to find \"/v1, Resource=pods\" that match label selector \"a,(\", \
             field selector \"\": no"
        );
    }

    #[test]
    fn a_type_beside_a_slash_is_refused() {
        assert!(
            paths("po po/a")
                .unwrap_err()
                .starts_with("error: there is no need")
        );
        assert_eq!(
            paths("po/").unwrap_err(),
            "error: arguments in resource/name form must have a single resource and name"
        );
    }
}
