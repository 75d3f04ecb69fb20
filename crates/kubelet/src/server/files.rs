//! `/logs/`: the files under the machine's `/var/log`.

use std::path::{Component, Path as FilePath, PathBuf};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::fs::File;
use tokio_util::io::ReaderStream;

const ROOT: &str = "/var/log";
const PREFIX: &str = "/logs";

pub(super) async fn logs(request: Request) -> Response {
    serve(FilePath::new(ROOT), request.uri().path()).await
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

/// The file that a path of the server means; `None` for one that leads elsewhere.
fn file(root: &FilePath, path: &str) -> Option<PathBuf> {
    let below = path.strip_prefix(PREFIX)?.trim_start_matches('/');
    let below = percent_decoded(below)?;
    let below = FilePath::new(&below);
    let only_down = below
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    only_down.then(|| root.join(below))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded)
        .ok()
        .filter(|text| !text.contains('\0'))
}

async fn serve(root: &FilePath, path: &str) -> Response {
    let Some(found) = file(root, path) else {
        return not_found();
    };
    let Ok(metadata) = tokio::fs::metadata(&found).await else {
        return not_found();
    };
    if metadata.is_dir() {
        if !path.ends_with('/') {
            // So that the names in the list lead into it.
            let last = path.rsplit('/').next().unwrap_or_default();
            return (
                StatusCode::MOVED_PERMANENTLY,
                [(header::LOCATION, format!("{last}/"))],
            )
                .into_response();
        }
        return match list(&found).await {
            Ok(page) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response(),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Error reading directory\n").into_response(),
        };
    }
    // Neither a pipe nor a device is anybody's log.
    if !metadata.is_file() {
        return not_found();
    }
    match File::open(&found).await {
        Ok(file) => {
            let body = Body::from_stream(ReaderStream::new(file));
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
        }
        Err(_) => (StatusCode::FORBIDDEN, "403 Forbidden\n").into_response(),
    }
}

/// A directory as Go's file server shows one.
async fn list(directory: &FilePath) -> std::io::Result<String> {
    let mut entries = tokio::fs::read_dir(directory).await?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().await?.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort();
    let mut page =
        String::from("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n");
    for name in names {
        let link: String = name.bytes().map(in_link).collect();
        let text = name
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;");
        page.push_str(&format!("<a href=\"{link}\">{text}</a>\n"));
    }
    page.push_str("</pre>\n");
    Ok(page)
}

fn in_link(byte: u8) -> String {
    match byte {
        b'A'..=b'Z'
        | b'a'..=b'z'
        | b'0'..=b'9'
        | b'-'
        | b'.'
        | b'_'
        | b'~'
        | b'/'
        | b'$'
        | b'&'
        | b'+'
        | b'@' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn get(root: &FilePath, path: &str) -> (u16, String) {
        let response = serve(root, path).await;
        let code = response.status().as_u16();
        let location = response.headers().get(header::LOCATION).cloned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (code, location.map_or(body, |to| to.to_str().unwrap().to_owned()))
    }

    #[tokio::test]
    async fn files_are_shown_and_directories_listed_and_nothing_above_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("log");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("a b<"), "text\n").unwrap();
        std::fs::write(dir.path().join("secret"), "no").unwrap();
        let page = "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n\
            <a href=\"a%20b%3C\">a b&lt;</a>\n<a href=\"sub/\">sub/</a>\n</pre>\n";
        let missing = (404, "404 page not found\n".to_owned());
        let cases = [
            ("/logs/", (200, page.to_owned())),
            ("/logs/a%20b%3C", (200, "text\n".to_owned())),
            ("/logs", (301, "logs/".to_owned())),
            ("/logs/sub", (301, "sub/".to_owned())),
            ("/logs/none", missing.clone()),
            ("/logs/../secret", missing.clone()),
            ("/logs/%2e%2e/secret", missing.clone()),
            ("/logs/%zz", missing),
        ];
        for (path, expected) in cases {
            assert_eq!(get(&root, path).await, expected, "{path}");
        }
    }
}
