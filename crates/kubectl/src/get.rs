//! `kubectl get`: objects as tables, YAML or JSON, once or as they change.

use clap::Args;
use serde_json::{Value, json};

use crate::cluster::members;
use crate::cluster::{CHUNK, Cluster, JSON, TABLE, with_query};
use crate::discovery::{Discovery, Resource};
use crate::failure::Failure;
use crate::fields::{list, name, text};
use crate::manifest::Files;
use crate::output;
use crate::table::{Style, Writer, cells, with_columns};
use crate::wanted::{BOTH, Wanted, wanted};
use crate::yaml;

const NOTHING_WANTED: &str = "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete \
                              list of supported resources.\n\nerror: Required resource not specified.\nUse \"kubectl \
                              explain <resource>\" for a detailed description of that resource (e.g. kubectl explain \
                              pods).\nSee 'kubectl get -h' for help and examples";

/// How objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Name,
    Wide,
    Yaml,
}

impl Format {
    fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "json" => Ok(Self::Json),
            "name" => Ok(Self::Name),
            "wide" => Ok(Self::Wide),
            "yaml" => Ok(Self::Yaml),
            other => Err(Failure::usage(format!(
                "unable to match a printer suitable for the output format \"{other}\", allowed formats are: \
                 json,name,wide,yaml"
            ))),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// TYPE[,TYPE…] [NAME…], or TYPE/NAME…
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Output format
    #[arg(long, short, value_name = "json|name|wide|yaml")]
    output: Option<String>,
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
        let format = self.output.as_deref().map(Format::parse).transpose()?;
        if self.words.is_empty() && self.files.filename.is_empty() {
            return Err(Failure::Plain(NOTHING_WANTED.into()));
        }
        if !self.words.is_empty() && !self.files.filename.is_empty() {
            return Err(Failure::usage(BOTH));
        }
        let discovery = Discovery::load(cluster).await?;
        let namespace = (!self.all_namespaces).then_some(cluster.namespace.as_str());
        let wanted = if self.files.filename.is_empty() {
            wanted(&self.words, &discovery, namespace)?
        } else {
            let (items, failures) = self.files.items(cluster, &discovery)?;
            Failure::all(failures)?;
            items.into_iter().map(Wanted::from).collect()
        };
        let by_name = wanted
            .iter()
            .any(|wanted| wanted.name.is_some() && self.files.filename.is_empty());
        if by_name && self.all_namespaces {
            return Err(Failure::usage(
                "a resource cannot be retrieved by name across all namespaces",
            ));
        }
        if by_name && !(self.selector.is_empty() && self.field_selector.is_empty()) {
            return Err(Failure::usage(
                "name cannot be provided when a selector is specified",
            ));
        }
        if self.watch && wanted.len() > 1 {
            return Err(Failure::usage("you may only specify a single resource type"));
        }
        match format {
            None | Some(Format::Wide) => self.print_tables(cluster, wanted).await,
            Some(format) => self.print_objects(cluster, &wanted, format).await,
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
            let page = cluster.get(&path, accept).await;
            let page =
                page.map_err(|failure| wanted.not_listed(failure, &self.selector, &self.field_selector))?;
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
        let (mut objects, mut failures, mut version) = (Vec::new(), Vec::new(), String::new());
        for wanted in wanted {
            match self.pages(cluster, wanted, JSON).await {
                Ok(pages) => {
                    for page in pages {
                        version = text(&page, "/metadata/resourceVersion").to_string();
                        objects.extend(members(page));
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
        let nothing_found = objects.is_empty() && (single || !failures.is_empty());
        if format == Format::Name || self.watch {
            let mut printer = Printer {
                format,
                wanted,
                printed: 0,
            };
            for object in &objects {
                printer.print(object)?;
            }
            if let (true, Some(wanted), true) = (self.watch, wanted.first(), failures.is_empty()) {
                return self
                    .follow(cluster, wanted, JSON, &version, |object| printer.print(object))
                    .await;
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
        let several = wanted
            .windows(2)
            .any(|pair| matches!(pair, [one, other] if one.resource != other.resource));
        let mut failures = Vec::new();
        // Objects of one resource that are asked for by their names stand in one table.
        let mut tables: Vec<(&Wanted, Vec<Value>)> = Vec::new();
        for wanted in &wanted {
            let pages = match self.pages(cluster, wanted, TABLE).await {
                Ok(pages) => pages,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            };
            match tables.last_mut() {
                Some((last, known)) if last.resource == wanted.resource => known.extend(pages),
                _ => tables.push((wanted, pages)),
            }
        }
        let mut writer = Writer::default();
        let mut printed = false;
        for (wanted, pages) in &tables {
            let style = self.style(wanted, several);
            let found = pages.iter().any(|page| !list(page, "/rows").is_empty());
            if found {
                let mut rows = Vec::new();
                for page in pages {
                    rows.extend(cells(page, &style, rows.is_empty()));
                }
                if printed {
                    output::line("")?;
                }
                writer = Writer::default();
                output::text(&writer.lines(&rows))?;
                printed = true;
            }
        }
        if let (true, [(wanted, pages)]) = (self.watch, tables.as_slice()) {
            let version = pages
                .last()
                .map(|page| text(page, "/metadata/resourceVersion"))
                .unwrap_or_default();
            let style = self.style(wanted, false);
            let mut with_header = !printed;
            let mut columns = pages
                .last()
                .and_then(|page| page.get("columnDefinitions").cloned());
            return self
                .follow(cluster, wanted, TABLE, version, |table| {
                    let rows = cells(&with_columns(table, &mut columns), &style, with_header);
                    with_header = false;
                    output::text(&writer.lines(&rows))
                })
                .await;
        }
        if !printed && failures.is_empty() && !self.ignore_not_found {
            let all_cluster_scoped = wanted.iter().all(|wanted| !wanted.resource.namespaced);
            output::error(
                &match wanted.first().and_then(|wanted| wanted.namespace.as_ref()) {
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
            wide: self.output.as_deref() == Some("wide"),
            with_namespace: self.all_namespaces && wanted.resource.namespaced,
            with_kind: several.then(|| wanted.resource.title()),
            show_labels: self.show_labels,
            label_columns: self.label_columns.clone(),
            no_headers: self.no_headers,
        }
    }

    /// Hands over each object, or each table of one, that changes after a version.
    async fn follow(
        &self,
        cluster: &Cluster,
        wanted: &Wanted,
        accept: &str,
        version: &str,
        mut print: impl FnMut(&Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut fields = self.field_selector.clone();
        if let Some(name) = &wanted.name {
            fields = format!("metadata.name={name}");
        }
        let collection = wanted.resource.collection(wanted.namespace.as_deref());
        let query = [
            ("labelSelector", self.selector.as_str()),
            ("fieldSelector", fields.as_str()),
            ("watch", "true"),
            ("resourceVersion", version),
        ];
        let mut events = cluster.stream(&with_query(&collection, &query), accept).await?;
        while let Some(event) = events.next_json().await? {
            let object = event.get("object").unwrap_or(&Value::Null);
            match text(&event, "/type") {
                "BOOKMARK" => {}
                "ERROR" => {
                    let status = serde_json::from_value(object.clone()).unwrap_or_default();
                    return Err(Failure::Server(Box::new(status)));
                }
                _ => print(object)?,
            }
        }
        Ok(())
    }
}

/// Prints objects one by one, as they come.
struct Printer<'a> {
    format: Format,
    wanted: &'a [Wanted],
    printed: usize,
}

impl Printer<'_> {
    fn print(&mut self, object: &Value) -> Result<(), Failure> {
        if self.format == Format::Name {
            let kind = text(object, "/kind");
            let resource = self
                .wanted
                .iter()
                .map(|wanted| &wanted.resource)
                .find(|resource| resource.kind == kind);
            let title = resource.map_or_else(|| kind.to_lowercase(), Resource::title);
            return output::line(&format!("{title}/{}", name(object)));
        }
        if self.format == Format::Yaml && self.printed > 0 {
            output::line("---")?;
        }
        self.printed = self.printed.saturating_add(1);
        output::text(&render(object, self.format)?)
    }
}

/// An object as YAML or JSON, as kubectl prints them: keys sorted, JSON indented by four; without managedFields.
pub(crate) fn render(document: &Value, format: Format) -> Result<String, Failure> {
    let mut document = document.clone();
    strip_managed_fields(&mut document);
    if format == Format::Yaml {
        return Ok(yaml::to_string(&document));
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
}
