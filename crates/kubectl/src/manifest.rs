//! Manifests: objects from files, directories and standard input, in YAML or JSON.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::discovery::{Discovery, Resource};
use crate::failure::Failure;

/// Where objects come from.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// The files that contain the configurations; - for standard input
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Process the directory used in -f, --filename recursively
    #[arg(long, short = 'R')]
    pub(crate) recursive: bool,
}

/// An object of a manifest, where it stands, and what the server calls it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) object: Value,
    /// The file, or `STDIN`.
    pub(crate) source: String,
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
}

impl Item {
    /// `metadata.name`; empty with `generateName`.
    pub(crate) fn name(&self) -> &str {
        self.object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// `deployment.apps/web`
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.resource.title(), self.name())
    }

    /// The object's path.
    pub(crate) fn path(&self) -> String {
        self.resource.object(&self.namespace, self.name())
    }
}

impl Files {
    /// The objects, lists taken apart, with their resources looked up. Objects of an unknown kind come back as failures.
    pub(crate) fn read(
        &self,
        cluster: &Cluster,
        discovery: &Discovery,
    ) -> Result<Vec<Result<Item, Failure>>, Failure> {
        if self.filename.is_empty() {
            return Err(Failure::usage("must specify one of -f and -k"));
        }
        let mut items = Vec::new();
        for file in &self.filename {
            for (source, text) in self.texts(file)? {
                for object in documents(&text).map_err(|why| {
                    Failure::usage(format!(
                        "error parsing {source}: error converting YAML to JSON: {why}"
                    ))
                })? {
                    for object in members(object) {
                        items.push(resolve(object, &source, cluster, discovery));
                    }
                }
            }
        }
        Ok(items)
    }

    /// The objects that the server knows the kinds of, and what is wrong with the others.
    pub(crate) fn items(
        &self,
        cluster: &Cluster,
        discovery: &Discovery,
    ) -> Result<(Vec<Item>, Vec<Failure>), Failure> {
        let (mut items, mut failures) = (Vec::new(), Vec::new());
        for item in self.read(cluster, discovery)? {
            match item {
                Ok(item) => items.push(item),
                Err(failure) => failures.push(failure),
            }
        }
        Ok((items, failures))
    }

    /// The texts behind one `-f`, each with the name of its source.
    fn texts(&self, file: &Path) -> Result<Vec<(String, String)>, Failure> {
        if file == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            return Ok(vec![("STDIN".into(), text)]);
        }
        if !file.exists() {
            return Err(Failure::usage(format!(
                "the path \"{}\" does not exist",
                file.display()
            )));
        }
        let mut paths = Vec::new();
        self.collect(file, true, &mut paths)?;
        paths
            .into_iter()
            .map(|path| Ok((path.display().to_string(), std::fs::read_to_string(&path)?)))
            .collect()
    }

    fn collect(&self, path: &Path, named: bool, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
        if path.is_dir() {
            if named || self.recursive {
                let mut entries: Vec<PathBuf> = std::fs::read_dir(path)?
                    .map(|entry| Ok(entry?.path()))
                    .collect::<Result<_, std::io::Error>>()?;
                entries.sort();
                for entry in entries {
                    self.collect(&entry, false, paths)?;
                }
            }
            return Ok(());
        }
        let is_manifest = path
            .extension()
            .is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|known| extension == *known));
        if named || is_manifest {
            paths.push(path.to_path_buf());
        }
        Ok(())
    }
}

/// The documents of a text; JSON is YAML. Empty ones are left out.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| wrong_yaml(&error.to_string()))?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

/// The parser's complaint in go-yaml's form: `yaml: line 3: …`, the first line going without saying.
fn wrong_yaml(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let placed = first.strip_prefix("line ").and_then(|rest| rest.split_once(' '));
    match placed.and_then(|(line, rest)| Some((line, rest.split_once(": ")?.1))) {
        Some(("1", what)) => format!("yaml: {what}"),
        Some((line, what)) => format!("yaml: line {line}: {what}"),
        None => format!("yaml: {first}"),
    }
}

/// The members of a `List`, or the object itself.
fn members(object: Value) -> Vec<Value> {
    let is_list = object
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"));
    match object.get("items") {
        Some(Value::Array(items)) if is_list => items.clone(),
        _ => vec![object],
    }
}

fn resolve(
    mut object: Value,
    source: &str,
    cluster: &Cluster,
    discovery: &Discovery,
) -> Result<Item, Failure> {
    let text = |name: &str| {
        object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string()
    };
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let invalid = |what: &str| {
        Failure::usage(format!(
            "error validating \"{source}\": error validating data: {what} not set; if you choose to ignore these errors, \
             turn validation off with --validate=false"
        ))
    };
    if kind.is_empty() {
        return Err(invalid("kind"));
    }
    if api_version.is_empty() {
        return Err(invalid("apiVersion"));
    }
    let Some(resource) = discovery.of(&api_version, &kind).cloned() else {
        let name = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let namespace = object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or_default();
        return Err(Failure::usage(format!(
            "resource mapping not found for name: \"{name}\" namespace: \"{namespace}\" from \"{source}\": no matches for \
             kind \"{kind}\" in version \"{api_version}\"\nensure CRDs are installed first"
        )));
    };
    let namespace = object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .map_or_else(|| cluster.namespace.clone(), str::to_string);
    // kubectl sends the namespace it addresses the object to.
    if resource.namespaced
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("namespace".into(), namespace.clone().into());
    }
    Ok(Item {
        object,
        source: source.to_string(),
        resource,
        namespace,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_has_as_many_objects_as_documents_and_lists_say() {
        let text = "kind: A\n---\n---\n# nothing but a comment\n---\nkind: B\n";
        assert_eq!(
            documents(text).unwrap(),
            [json!({"kind": "A"}), json!({"kind": "B"})]
        );
        assert_eq!(documents(r#"{"kind": "A"}"#).unwrap(), [json!({"kind": "A"})]);
        let list = json!({"kind": "List", "items": [{"kind": "A"}, {"kind": "B"}]});
        assert_eq!(members(list).len(), 2);
    }

    #[test]
    fn what_is_no_yaml_is_refused_as_go_yaml_does() {
        let cases = [
            (
                "a: b: c\n",
                "yaml: mapping values are not allowed in this context",
            ),
            (
                "x: y\na: b: c\n",
                "yaml: line 2: mapping values are not allowed in this context",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(documents(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn yaml_scalars_are_what_yaml_says_they_are() {
        let text = "a: '3600'\nb: 3600\nc: yes\nd: \"true\"\ne: 0400\nf: ~\n";
        let document = documents(text).unwrap().remove(0);
        assert_eq!(document["a"], "3600");
        assert_eq!(document["b"], 3600);
        assert_eq!(document["d"], "true");
        assert!(document["f"].is_null());
    }
}
