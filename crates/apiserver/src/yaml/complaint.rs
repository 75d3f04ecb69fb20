//! What is wrong with a YAML text, in the words of Go's reader: people look these up.
//!
//! Our reader finds the same mistakes, in places of its own. Go's tells the line of what its scanner finds, the line before
//! of what its parser finds, and never the first.

/// What our reader says, and where.
struct Found<'a> {
    what: &'a str,
    /// From 1 on; 0 where it is not told.
    line: usize,
    column: usize,
}

impl<'a> Found<'a> {
    fn of(error: &'a str) -> Self {
        let whole = Self {
            what: error,
            line: 0,
            column: 0,
        };
        let Some((what, place)) = error.rsplit_once(" at line ") else {
            return whole;
        };
        let (line, column) = place.split_once(", column ").unwrap_or((place, ""));
        let number = |text: &str| text.trim().parse().unwrap_or_default();
        Self {
            what,
            line: number(line),
            column: number(column),
        }
    }

    /// The name behind the `*` of an alias.
    fn alias<'t>(&self, text: &'t str) -> &'t str {
        let line = text.lines().nth(self.line.saturating_sub(1)).unwrap_or_default();
        let at = line.char_indices().nth(self.column.saturating_sub(1));
        let rest = at.and_then(|(at, _)| line.get(at..)).unwrap_or_default();
        let name = rest.split_once('*').map_or(rest, |(_, name)| name);
        let end =
            name.find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '-')));
        name.get(..end.unwrap_or(name.len())).unwrap_or(name)
    }

    /// The bracket that is open where the mistake is, by what stands before it in its line.
    fn open_bracket(&self, text: &str) -> Option<char> {
        let line = text.lines().nth(self.line.saturating_sub(1)).unwrap_or_default();
        let mut open = Vec::new();
        for character in line.chars().take(self.column.saturating_sub(1)) {
            match character {
                '[' | '{' => open.push(character),
                ']' | '}' => drop(open.pop()),
                _ => {}
            }
        }
        open.pop()
    }
}

/// Who finds a mistake, and so which line is told.
enum By {
    /// The line itself.
    Scanner(usize),
    /// The line before.
    Parser(usize),
    /// No line.
    Reader,
}

/// A mistake in Go's words, without the `yaml: ` before them.
pub(crate) fn in_gos_words(error: &str, text: &str) -> String {
    let found = Found::of(error);
    let (by, words) = translated(&found, text);
    let line = match by {
        By::Scanner(line) if line > 1 => line,
        By::Parser(line) => line.saturating_sub(1),
        By::Scanner(_) | By::Reader => 0,
    };
    match line {
        0 => words,
        line => format!("line {line}: {words}"),
    }
}

const CONTENT: &str = "did not find expected node content";

const TAB_FOR_SPACE: &str = "found a tab character where an indentation space is expected";

/// By how many spaces a line is indented.
fn depth_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn begins_with_tab(text: &str, line: usize) -> bool {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    line.trim_start_matches(' ').starts_with('\t')
}

/// Whether the line before this one belongs to a text that stands in lines of its own, behind `|` or `>`.
fn in_block(text: &str, line: usize) -> bool {
    let before: Vec<&str> = text.lines().take(line.saturating_sub(1)).collect();
    let mut depth = usize::MAX;
    for line in before.into_iter().rev().filter(|line| !line.trim().is_empty()) {
        if depth_of(line) < depth {
            depth = depth_of(line);
            let last = line.split_whitespace().next_back().unwrap_or_default();
            if last.starts_with(['|', '>']) {
                return true;
            }
        }
        if depth == 0 {
            return false;
        }
    }
    false
}

fn translated(found: &Found<'_>, text: &str) -> (By, String) {
    let line = found.line;
    let ends = text.matches('\n').count() + 1;
    let says = |by: By, words: &str| (by, words.to_string());
    match found.what {
        "tabs disallowed within this context (block indentation)" if in_block(text, line) => {
            says(By::Scanner(line), TAB_FOR_SPACE)
        }
        "tabs disallowed within this context (block indentation)" => {
            says(By::Scanner(line), "found character that cannot start any token")
        }
        "a block scalar content cannot start with a tab" => says(By::Scanner(line + 1), TAB_FOR_SPACE),
        "while scanning a plain scalar, found a tab" => {
            let later = text.lines().skip(line);
            let tabbed = later.take_while(|line| !line.trim_start_matches(' ').starts_with('\t'));
            says(
                By::Scanner(line + 1 + tabbed.count()),
                "found a tab character that violates indentation",
            )
        }
        "invalid indentation in multiline quoted scalar" => {
            says(By::Scanner(ends), "found unexpected end of stream")
        }
        "unclosed bracket '['" | "unclosed bracket '{'" => {
            let last = text.trim_end().chars().next_back();
            let words = match found.what.contains('[') {
                _ if matches!(last, Some('[' | '{' | ',')) => CONTENT.to_string(),
                true => expected_bracket('['),
                false => expected_bracket('{'),
            };
            (By::Parser(ends), words)
        }
        "illegal placement of ':' indicator" => (By::Parser(line), expected_bracket('[')),
        "misplaced bracket" | "unexpected EOF while parsing an implicit flow mapping" => {
            says(By::Parser(line), CONTENT)
        }
        "alias references unknown anchor" => (
            By::Reader,
            format!("unknown anchor '{}' referenced", found.alias(text)),
        ),
        "recursive references require weak recursion types" => (
            By::Reader,
            format!("anchor '{}' value contains itself", found.alias(text)),
        ),
        "YAML merge value must be mapping or sequence of mappings" => says(
            By::Reader,
            "map merge requires map or sequence of maps as the value",
        ),
        "simple key expected ':'" => {
            // It is missed where the text that should be a key ends, which may go on in deeper lines.
            let depth = text.lines().nth(line.saturating_sub(1)).map_or(0, depth_of);
            let rest = text.lines().skip(line);
            let further = rest.take_while(|line| {
                let content = line.trim_start();
                content.is_empty() || depth_of(line) > depth && !content.starts_with('#')
            });
            let at = (line + 1 + further.count()).min(ends);
            says(By::Scanner(at), "could not find expected ':'")
        }
        "invalid trailing content after single-quoted scalar"
        | "invalid trailing content after double-quoted scalar" => {
            let words = found
                .open_bracket(text)
                .map_or("did not find expected key".to_string(), expected_bracket);
            (By::Parser(line), words)
        }
        "unsupported YAML major version" => says(By::Scanner(line), "found incompatible YAML document"),
        "did not find expected <document start>" => {
            let first = text.lines().next().unwrap_or_default();
            let is_known = ["%YAML", "%TAG"].iter().any(|known| first.starts_with(known));
            match first.starts_with('%') && !is_known {
                true => says(By::Reader, "found unknown directive name"),
                false => says(By::Parser(line), found.what),
            }
        }
        what if what.starts_with("invalid map key: ") => says(By::Reader, what),
        what if what.starts_with("unexpected character: `") => {
            let character = what.trim_start_matches("unexpected character: `").chars().next();
            match character.is_none_or(|character| character == '\\' || character.is_control()) {
                true => says(By::Reader, "control characters are not allowed"),
                false => says(By::Scanner(line), "found character that cannot start any token"),
            }
        }
        what => match what.split_once(", ") {
            Some(("while parsing a quoted scalar" | "while scanning a block scalar", mistake)) => says(
                By::Scanner(line),
                &mistake.replace("expected hexadecimal", "expected hexdecimal"),
            ),
            Some(_) if begins_with_tab(text, line) && in_block(text, line) => {
                says(By::Scanner(line), TAB_FOR_SPACE)
            }
            Some((context, mistake)) if context.starts_with("while parsing ") => {
                says(By::Parser(line), mistake)
            }
            Some((context, mistake)) if context.starts_with("while scanning ") => {
                says(By::Scanner(line), mistake)
            }
            _ => says(By::Scanner(line), what),
        },
    }
}

fn expected_bracket(open: char) -> String {
    let close = if open == '[' { ']' } else { '}' };
    format!("did not find expected ',' or '{close}'")
}

#[cfg(test)]
mod tests {
    use crate::twice;

    #[test]
    fn mistakes_are_told_in_gos_words() {
        for (text, words) in [
            ("a: b: c\n", "mapping values are not allowed in this context"),
            (
                "kind: ConfigMap\ndata:\n  a: b: c\n",
                "line 3: mapping values are not allowed in this context",
            ),
            (
                "a:\n\tb: 1\n",
                "line 2: found character that cannot start any token",
            ),
            (
                "a:\n  b: 1\n\tc: 2\n",
                "line 3: found a tab character that violates indentation",
            ),
            ("a: \"x\n", "line 2: found unexpected end of stream"),
            ("a: 'x\nb: 1\n", "line 3: found unexpected end of stream"),
            ("a: [1, 2\n", "line 1: did not find expected ',' or ']'"),
            ("a: [1, 2\nb: 3\n", "line 1: did not find expected ',' or ']'"),
            ("a: {b: 1\n", "line 1: did not find expected ',' or '}'"),
            ("a: {b: 1\nc: 2\n", "line 1: did not find expected ',' or '}'"),
            ("a: ]\n", "did not find expected node content"),
            ("a: }\n", "did not find expected node content"),
            ("a: *x\n", "unknown anchor 'x' referenced"),
            ("x: 1\na: *nope\n", "unknown anchor 'nope' referenced"),
            (
                "a: 1\n b: 2\n",
                "line 2: mapping values are not allowed in this context",
            ),
            ("a:\n  b: 1\n c: 2\n", "line 2: did not find expected key"),
            ("a:\n    b: 1\n  c: 2\n", "line 2: did not find expected key"),
            ("- a\nb: 1\n", "line 1: did not find expected '-' indicator"),
            ("a: 1\n- b\n", "line 1: did not find expected key"),
            ("a:\n- b\nc\n", "line 4: could not find expected ':'"),
            (
                "a:\n  - b\n  c: 1\n",
                "line 2: did not find expected '-' indicator",
            ),
            (
                "a\nb: 1\n",
                "line 2: mapping values are not allowed in this context",
            ),
            ("a: 1\nb\n", "line 3: could not find expected ':'"),
            ("a: 1\nb\nc: 2\n", "line 3: could not find expected ':'"),
            ("a: @x\n", "found character that cannot start any token"),
            ("a: `x`\n", "found character that cannot start any token"),
            ("a: %x\n", "found character that cannot start any token"),
            ("%x\n", "found unknown directive name"),
            ("a: \"\\q\"\n", "found unknown escape character"),
            ("a: \"\\x4\"\n", "did not find expected hexdecimal number"),
            ("a: |x\n  y\n", "did not find expected comment or line break"),
            ("a: |\n  x\n y\n", "line 2: did not find expected key"),
            ("? [a]\n: b\n", "invalid map key: []interface {}{\"a\"}"),
            (
                "{a: 1}: b\n",
                "invalid map key: map[interface {}]interface {}{\"a\":1}",
            ),
            (
                "<<: 1\n",
                "map merge requires map or sequence of maps as the value",
            ),
            (
                "<<: [1]\n",
                "map merge requires map or sequence of maps as the value",
            ),
            ("a: &a [*a]\n", "anchor 'a' value contains itself"),
            ("a: {,}\n", "did not find expected node content"),
            ("a: [,]\n", "did not find expected node content"),
            (
                "a: - b\n",
                "block sequence entries are not allowed in this context",
            ),
            (
                "a: b\n  c: d\n",
                "line 2: mapping values are not allowed in this context",
            ),
            ("a: 'b' c\n", "did not find expected key"),
            ("a: \"b\" c\n", "did not find expected key"),
            ("\"a\" b: c\n", "did not find expected key"),
            (
                "key with no value\nother: 1\n",
                "line 2: mapping values are not allowed in this context",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n  - name: a\n   image: b\n",
                "line 7: did not find expected key",
            ),
            (
                "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    image: b\n     ports: 1\n",
                "line 7: mapping values are not allowed in this context",
            ),
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n  k: {{ .Values.x }}\n",
                "invalid map key: map[interface {}]interface {}{\".Values.x\":interface {}(nil)}",
            ),
            (
                "a: {{x}}\n",
                "invalid map key: map[interface {}]interface {}{\"x\":interface {}(nil)}",
            ),
            (
                "{{ if }}\na: 1\n",
                "invalid map key: map[interface {}]interface {}{\"if\":interface {}(nil)}",
            ),
            (
                "a: \"unclosed\nb: 2\nc: 3\n",
                "line 4: found unexpected end of stream",
            ),
            ("a: 'it's'\n", "did not find expected key"),
            ("a: \"say \"hi\"\"\n", "did not find expected key"),
            ("a: b\u{1}\n", "control characters are not allowed"),
            ("a: \"\u{0}\"\n", "control characters are not allowed"),
            ("--- a: 1\n", "mapping values are not allowed in this context"),
            ("*a\n", "unknown anchor 'a' referenced"),
            ("[\n", "line 1: did not find expected node content"),
            ("{\n", "line 1: did not find expected node content"),
            ("]\n", "did not find expected node content"),
            ("a: 1 2 3:\n", "mapping values are not allowed in this context"),
            ("a:\n  - b: 1\n    - c\n", "line 2: did not find expected key"),
            ("a:\n  - b\n - c\n", "line 2: did not find expected key"),
            ("[a, b]: c\n", "invalid map key: []interface {}{\"a\", \"b\"}"),
            ("%YAML 2.0\n---\na: 1\n", "found incompatible YAML document"),
            (
                "%YAML 1.1\na: 1\n",
                "line 1: did not find expected <document start>",
            ),
            ("a: 1\nb\n\n\nc: 2\n", "line 5: could not find expected ':'"),
            (
                "data:\n  script |\n    #!/bin/sh\n    x\n",
                "line 3: did not find expected key",
            ),
            (
                "a: >-\n  x\n\ty\n",
                "line 3: found a tab character where an indentation space is expected",
            ),
            (
                "a: |\n\tx\n",
                "line 2: found a tab character where an indentation space is expected",
            ),
            ("a: [\"b\" c]\n", "did not find expected ',' or ']'"),
            (
                "a: x\nb: {{ .x }}\n",
                "invalid map key: map[interface {}]interface {}{\".x\":interface {}(nil)}",
            ),
            ("x:\n- a: b\n  c: d\n e: f\n", "line 3: did not find expected key"),
            ("a: \"b\\zc\"\n", "found unknown escape character"),
            ("- a\n- b:\n   c\n  d\n", "line 5: could not find expected ':'"),
        ] {
            let told = twice::yaml(text.as_bytes()).map(|(value, _)| value.to_string());
            assert_eq!(told, Err(words.to_string()), "{text:?}");
        }
    }

    #[test]
    fn a_whole_number_needs_no_point() {
        let (value, _) = twice::yaml(b"[1.0, 1e3, 08, -2.50, 1e22]").unwrap();
        assert_eq!(value.to_string(), "[1,1000,8,-2.5,1e+22]");
    }
}
