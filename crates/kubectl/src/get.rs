//! `kubectl get`: objects as tables, YAML or JSON, once or as they change.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cluster::{CHUNK, Cluster, JSON, TABLE, with_query};
use crate::discovery::{Discovery, Resource};
use crate::failure::Failure;
use crate::manifest::Files;
use crate::output;
use crate::table::{Style, Writer, cells};
use crate::wanted::{Wanted, wanted};

/// How objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Name,
    Wide,
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// TYPE[,TYPE…] [NAME…], or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Output format
    #[arg(long, short)]
    output: Option<Format>,
    /// Selector (label query) to filter on
    #[arg(long, short = 'l', default_value = "")]
    selector: String,
    /// Selector (field query) to filter on
    #[arg(long, default_value = "")]
    field_selector: String,
    /// List the requested objects across all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// After listing the requested object, watch for changes
    #[arg(long, short)]
    watch: bool,
    /// Show all labels as the last column
    #[arg(long)]
    show_labels: bool,
    /// Labels that are going to be presented as columns
    #[arg(long, short = 'L', value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Don't print headers
    #[arg(long)]
    no_headers: bool,
    /// Treat "resource not found" as a successful retrieval
    #[arg(long)]
    ignore_not_found: bool,
}

impl Get {
    pub(crate) async fn run(self, cluster: &Cluster) -> Result<(), Failure> {
        let discovery = Discovery::load(cluster).await?;
        let namespace = (!self.all_namespaces).then_some(cluster.namespace.as_str());
        let wanted = if self.files.filename.is_empty() {
            wanted(&self.words, &discovery, namespace)?
        } else {
            let (items, failures) = self.files.items(cluster, &discovery)?;
            Failure::all(failures)?;
            items.into_iter().map(Wanted::from).collect()
        };
        match self.output {
            Some(format @ (Format::Json | Format::Yaml | Format::Name)) if !self.watch => {
                self.print_objects(cluster, &wanted, format).await
            }
            Some(Format::Json | Format::Yaml | Format::Name) => Err(Failure::usage(
                "--watch prints tables only: leave --output away or say wide",
            )),
            _ => self.print_tables(cluster, wanted).await,
        }
    }

    fn query(&self, path: &str, more: &[(&str, &str)]) -> String {
        let mut pairs = vec![
            ("labelSelector", self.selector.as_str()),
            ("fieldSelector", self.field_selector.as_str()),
        ];
        pairs.extend_from_slice(more);
        with_query(path, &pairs)
    }

    /// The objects or tables of a collection, in as many requests as it takes; each is handed over as it comes.
    async fn pages(&self, cluster: &Cluster, wanted: &Wanted, accept: &str) -> Result<Vec<Value>, Failure> {
        if wanted.name.is_some() {
            return match cluster.get(&wanted.path(), accept).await {
                Err(failure) if self.ignore_not_found && failure.is_not_found() => Ok(Vec::new()),
                page => Ok(vec![page?]),
            };
        }
        let mut pages = Vec::new();
        let mut token = String::new();
        loop {
            let path = self.query(&wanted.path(), &[("limit", CHUNK), ("continue", &token)]);
            let page = cluster.get(&path, accept).await?;
            token = page
                .pointer("/metadata/continue")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_string();
            pages.push(page);
            if token.is_empty() {
                return Ok(pages);
            }
        }
    }

    async fn print_objects(
        &self,
        cluster: &Cluster,
        wanted: &[Wanted],
        format: Format,
    ) -> Result<(), Failure> {
        let single = matches!(wanted, [one] if one.name.is_some());
        let (mut objects, mut failures) = (Vec::new(), Vec::new());
        for wanted in wanted {
            match self.pages(cluster, wanted, JSON).await {
                Ok(pages) => {
                    for page in pages {
                        objects.extend(members(page, &wanted.resource, wanted.name.is_none()));
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
        let nothing_found = objects.is_empty() && (single || !failures.is_empty());
        if format == Format::Name {
            for object in &objects {
                let name = object
                    .pointer("/metadata/name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
                let resource = wanted
                    .iter()
                    .map(|wanted| &wanted.resource)
                    .find(|resource| resource.kind == kind);
                let title = resource.map_or_else(|| kind.to_lowercase(), Resource::title);
                output::line(&format!("{title}/{name}"))?;
            }
        } else if !nothing_found {
            let document = match objects.as_slice() {
                [object] if single => object.clone(),
                _ => {
                    json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": objects })
                }
            };
            output::text(&render(&document, format)?)?;
        }
        Failure::all(failures)
    }

    async fn print_tables(&self, cluster: &Cluster, wanted: Vec<Wanted>) -> Result<(), Failure> {
        let mut kinds: Vec<&str> = wanted
            .iter()
            .map(|wanted| wanted.resource.kind.as_str())
            .collect();
        kinds.dedup();
        let several = kinds.len() > 1;
        if self.watch && (several || wanted.len() > 1) {
            return Err(Failure::usage("you may only specify a single resource type"));
        }
        let (mut printed, mut failures) = (false, Vec::new());
        let mut writer = Writer::default();
        let mut previous: Option<String> = None;
        for wanted in &wanted {
            let pages = match self.pages(cluster, wanted, TABLE).await {
                Ok(pages) => pages,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            };
            let style = self.style(wanted, several);
            let new_table = previous.as_deref() != Some(wanted.resource.plural.as_str());
            let mut rows = Vec::new();
            for page in &pages {
                rows.extend(cells(page, &style, rows.is_empty() && new_table));
            }
            let found = pages.iter().any(|page| {
                page.get("rows")
                    .and_then(Value::as_array)
                    .is_some_and(|rows| !rows.is_empty())
            });
            if !found {
                if self.watch {
                    return self.follow(cluster, wanted, &pages, &mut writer, true).await;
                }
                continue;
            }
            if new_table {
                writer = Writer::default();
                if printed {
                    output::line("")?;
                }
            }
            output::text(&writer.lines(&rows))?;
            printed = true;
            previous = Some(wanted.resource.plural.clone());
            if self.watch {
                return self.follow(cluster, wanted, &pages, &mut writer, false).await;
            }
        }
        if !printed && failures.is_empty() && !self.ignore_not_found {
            let all_cluster_scoped = wanted.iter().all(|wanted| !wanted.resource.namespaced);
            output::error(
                &match &wanted.first().and_then(|wanted| wanted.namespace.clone()) {
                    Some(namespace) if !all_cluster_scoped => {
                        format!("No resources found in {namespace} namespace.")
                    }
                    _ => "No resources found".to_string(),
                },
            );
        }
        Failure::all(failures)
    }

    fn style(&self, wanted: &Wanted, several: bool) -> Style {
        Style {
            wide: self.output == Some(Format::Wide),
            with_namespace: self.all_namespaces && wanted.resource.namespaced,
            with_kind: several.then(|| wanted.resource.title()),
            show_labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            no_headers: self.no_headers,
        }
    }

    /// Prints a row for each change after the pages.
    async fn follow(
        &self,
        cluster: &Cluster,
        wanted: &Wanted,
        pages: &[Value],
        writer: &mut Writer,
        mut with_header: bool,
    ) -> Result<(), Failure> {
        let version = pages
            .last()
            .and_then(|page| page.pointer("/metadata/resourceVersion"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut fields = self.field_selector.clone();
        if let Some(name) = &wanted.name {
            fields = format!("metadata.name={name}");
        }
        let collection = wanted.resource.collection(wanted.namespace.as_deref());
        let query = [
            ("labelSelector", self.selector.as_str()),
            ("fieldSelector", fields.as_str()),
            ("watch", "1"),
            ("resourceVersion", version),
        ];
        let mut events = cluster.stream(&with_query(&collection, &query), TABLE).await?;
        let style = self.style(wanted, false);
        while let Some(event) = events.next_json().await? {
            let object = event.get("object").cloned().unwrap_or_default();
            match event.get("type").and_then(Value::as_str) {
                Some("BOOKMARK") => {}
                Some("ERROR") => {
                    let status = serde_json::from_value(object).unwrap_or_default();
                    return Err(Failure::Server(Box::new(status)));
                }
                _ => {
                    output::text(&writer.lines(&cells(&object, &style, with_header)))?;
                    with_header = false;
                }
            }
        }
        Ok(())
    }
}

/// The objects of a page. The items of a list carry no kind of their own.
fn members(page: Value, resource: &Resource, is_list: bool) -> Vec<Value> {
    if !is_list {
        return vec![page];
    }
    let items = page
        .get("items")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    items
        .into_iter()
        .map(|mut item| {
            if let Some(item) = item.as_object_mut() {
                item.entry("apiVersion")
                    .or_insert_with(|| resource.api_version().into());
                item.entry("kind").or_insert_with(|| resource.kind.clone().into());
            }
            item
        })
        .collect()
}

/// An object as YAML or JSON, as kubectl prints them: keys sorted, JSON indented by four; without managedFields.
pub(crate) fn render(document: &Value, format: Format) -> Result<String, Failure> {
    let mut document = document.clone();
    strip_managed_fields(&mut document);
    if format == Format::Yaml {
        return serde_saphyr::to_string(&document).map_err(|error| Failure::usage(error.to_string()));
    }
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(&document, &mut serializer)
        .map_err(|error| Failure::usage(error.to_string()))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn strip_managed_fields(document: &mut Value) {
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(items) = document.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(strip_managed_fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_by_four_and_shows_no_managed_fields() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a", "managedFields": [{}]}});
        let text = render(&object, Format::Json).unwrap();
        assert_eq!(
            text,
            "{\n    \"kind\": \"Pod\",\n    \"metadata\": {\n        \"name\": \"a\"\n    }\n}\n"
        );
    }

    #[test]
    fn yaml_reads_back_as_the_same_object() {
        let object =
            json!({"a": "true", "b": "3600", "c": [{"d": null, "e": "x: y\n- z\n"}], "f": {}, "g": []});
        let text = render(&object, Format::Yaml).unwrap();
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, object, "{text}");
    }
}
