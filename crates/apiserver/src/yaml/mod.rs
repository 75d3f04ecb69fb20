//! YAML as Kubernetes writes it: which texts are quoted, and how, is what people and their diffs are used to.

mod complaint;
mod order;
mod plain;

use serde_json::{Map, Number, Value};

pub(crate) use complaint::in_gos_words;

/// Beyond this column lines are broken at spaces.
const WIDTH: usize = 80;
/// Longer keys (in bytes) get a `?`.
const SIMPLE_KEY: usize = 128;
const STEP: usize = 2;

/// A value as a document.
pub(crate) fn write(value: &Value) -> String {
    let mut writer = Writer {
        text: String::new(),
        column: 0,
        after_space: true,
        in_indent: true,
    };
    writer.node(value, None, Place::Root);
    if writer.column > 0 {
        writer.new_line();
    }
    writer.text
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Item,
    /// A key that is followed by its colon on the same line.
    SimpleKey,
    /// A value, or a key with a `?`.
    Member,
}

/// How a text is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

struct Writer {
    text: String,
    column: usize,
    /// Whether what was written last is a space, or stands for one.
    after_space: bool,
    /// Whether the line has nothing but indentation and marks of lists and keys so far.
    in_indent: bool,
}

impl Writer {
    fn put(&mut self, character: char) {
        self.text.push(character);
        self.column += 1;
    }

    fn new_line(&mut self) {
        self.text.push('\n');
        self.column = 0;
    }

    /// Goes to the beginning of a line at this depth.
    fn indent(&mut self, depth: usize) {
        if !self.in_indent || self.column > depth || (self.column == depth && !self.after_space) {
            self.new_line();
        }
        while self.column < depth {
            self.put(' ');
        }
        self.after_space = true;
        self.in_indent = true;
    }

    /// `-`, `?` and `:`, quotes and brackets. `apart`: after a space; `keeps_indent`: what follows may stand as on a line of
    /// its own.
    fn mark(&mut self, mark: &str, apart: bool, keeps_indent: bool) {
        if apart && !self.after_space {
            self.put(' ');
        }
        mark.chars().for_each(|character| self.put(character));
        self.after_space = false;
        self.in_indent &= keeps_indent;
    }

    /// `depth`: that of the collection around the node.
    fn node(&mut self, value: &Value, depth: Option<usize>, place: Place) {
        let scalar = |text: &str| text.to_string();
        let plain = match value {
            Value::Object(fields) if fields.is_empty() => scalar("{}"),
            Value::Array(items) if items.is_empty() => scalar("[]"),
            Value::Object(fields) => return self.map(fields, depth),
            Value::Array(items) => return self.list(items, depth, place),
            Value::String(text) => return self.string(text, depth, place),
            Value::Null => scalar("null"),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number_text(number),
        };
        self.mark(&plain, true, false);
    }

    fn list(&mut self, items: &[Value], depth: Option<usize>, place: Place) {
        let inner = match depth {
            None => 0,
            // The mark of a list in a map is indentation enough.
            Some(depth) if place == Place::Member && !self.in_indent => depth,
            Some(depth) => depth + STEP,
        };
        for item in items {
            self.indent(inner);
            self.mark("-", true, true);
            self.node(item, Some(inner), Place::Item);
        }
    }

    fn map(&mut self, fields: &Map<String, Value>, depth: Option<usize>) {
        let inner = depth.map_or(0, |depth| depth + STEP);
        let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
        sorted.sort_by(|(a, _), (b, _)| order::natural(a, b));
        for (key, value) in sorted {
            self.indent(inner);
            if key.len() <= SIMPLE_KEY && !key.contains(is_break) {
                self.string(key, Some(inner), Place::SimpleKey);
                self.mark(":", false, false);
            } else {
                self.mark("?", true, true);
                self.string(key, Some(inner), Place::Member);
                self.indent(inner);
                self.mark(":", true, true);
            }
            self.node(value, Some(inner), Place::Member);
        }
    }

    fn string(&mut self, text: &str, depth: Option<usize>, place: Place) {
        // What goes on in a further line is indented as a collection in this place would be.
        let depth = depth.unwrap_or_default() + STEP;
        let breaks = place != Place::SimpleKey;
        match style_of(text, place == Place::SimpleKey) {
            Style::Plain => self.plain(text, depth, breaks),
            Style::Single => self.single(text, depth, breaks),
            Style::Double => self.double(text, depth, breaks),
            // It ends with its own line break, if it has one.
            Style::Literal => return self.literal(text, depth),
        }
        self.in_indent = false;
    }

    fn plain(&mut self, text: &str, depth: usize, breaks: bool) {
        if !self.after_space {
            self.put(' ');
        }
        let mut spaces = false;
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            let is_space = character == ' ';
            if is_space && breaks && !spaces && self.column > WIDTH && rest.peek() != Some(&' ') {
                self.in_indent = false;
                self.indent(depth);
            } else {
                self.put(character);
            }
            spaces = is_space;
        }
        self.after_space = false;
    }

    fn single(&mut self, text: &str, depth: usize, breaks: bool) {
        self.mark("'", true, false);
        let (mut spaces, mut broken) = (false, false);
        let mut rest = text.char_indices().peekable();
        while let Some((at, character)) = rest.next() {
            let next = rest.peek().map(|(_, next)| *next);
            if character == ' ' {
                let goes_on = at > 0 && next.is_some_and(|next| next != ' ');
                if breaks && !spaces && self.column > WIDTH && goes_on {
                    self.indent(depth);
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else if is_break(character) {
                if !broken && character == '\n' {
                    self.new_line();
                }
                self.line_break(character);
                self.in_indent = true;
                broken = true;
            } else {
                if broken {
                    self.indent(depth);
                }
                if character == '\'' {
                    self.put('\'');
                }
                self.put(character);
                (self.in_indent, spaces, broken) = (false, false, false);
            }
        }
        self.mark("'", false, false);
    }

    fn double(&mut self, text: &str, depth: usize, breaks: bool) {
        self.mark("\"", true, false);
        let marked = text.starts_with('\u{feff}');
        let mut spaces = false;
        let mut rest = text.char_indices().peekable();
        while let Some((at, character)) = rest.next() {
            let next = rest.peek().map(|(_, next)| *next);
            let is_space = character == ' ';
            if !is_printable(character) || marked || is_break(character) || matches!(character, '"' | '\\') {
                escape(character).chars().for_each(|part| self.put(part));
            } else if is_space && breaks && !spaces && self.column > WIDTH && at > 0 && next.is_some() {
                self.in_indent = false;
                self.indent(depth);
                if next == Some(' ') {
                    self.put('\\');
                }
            } else {
                self.put(character);
            }
            spaces = is_space && !marked;
        }
        self.mark("\"", false, false);
    }

    fn literal(&mut self, text: &str, depth: usize) {
        self.mark("|", true, false);
        if text.starts_with(|first| first == ' ' || is_break(first)) {
            self.mark(&STEP.to_string(), false, false);
        }
        // Whether the last line ends, and whether further empty ones follow it.
        let mut last = text.chars().rev();
        let hint = match (last.next().is_some_and(is_break), last.next()) {
            (false, _) => "-",
            (true, None) => "+",
            (true, Some(before)) if is_break(before) => "+",
            (true, Some(_)) => "",
        };
        self.mark(hint, false, false);
        self.new_line();
        self.in_indent = true;
        self.after_space = true;
        let mut broken = true;
        for character in text.chars() {
            if is_break(character) {
                self.line_break(character);
                self.in_indent = true;
                broken = true;
            } else {
                if broken {
                    self.indent(depth);
                }
                self.put(character);
                (self.in_indent, broken) = (false, false);
            }
        }
    }

    /// A line break of the text's own.
    fn line_break(&mut self, character: char) {
        self.text.push(character);
        self.column = 0;
    }
}

/// The style of a text. What would be read as something else is in double quotes, what would be read as more than a text
/// in single ones, unless these cannot hold it.
fn style_of(text: &str, is_key: bool) -> Style {
    let allowed = Allowed::of(text);
    let wanted = if text.contains('\n') {
        Style::Literal
    } else if plain::is_text(text) {
        Style::Plain
    } else {
        return Style::Double;
    };
    match wanted {
        _ if is_key && text.contains(is_break) => Style::Double,
        Style::Plain if allowed.plain => Style::Plain,
        Style::Plain if allowed.single => Style::Single,
        Style::Literal if allowed.literal && !is_key => Style::Literal,
        _ => Style::Double,
    }
}

/// The styles that can hold a text.
struct Allowed {
    plain: bool,
    single: bool,
    literal: bool,
}

impl Allowed {
    fn of(text: &str) -> Self {
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut breaks, mut break_space, mut space_break) = (false, false, false, false);
        let mut previous = None;
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            let ends = rest.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
            indicators |= match (previous, character) {
                (None, '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>') => true,
                (None, '\'' | '"' | '%' | '@' | '`') => true,
                (None, '?' | '-') => ends,
                (_, ':') => ends,
                (Some(before), '#') => matches!(before, ' ' | '\t' | '\0') || is_break(before),
                _ => false,
            };
            special |= !is_printable(character);
            breaks |= is_break(character);
            break_space |= character == ' ' && previous.is_some_and(is_break);
            space_break |= is_break(character) && previous == Some(' ');
            previous = Some(character);
        }
        let at_edge = |edge: fn(char) -> bool| text.starts_with(edge) || text.ends_with(edge);
        let at_edge = at_edge(|character| character == ' ' || is_break(character));
        let bad = space_break || special;
        Self {
            plain: !(at_edge || break_space || bad || breaks || indicators),
            single: !(break_space || bad),
            literal: !(text.ends_with(' ') || bad),
        }
    }
}

fn is_break(character: char) -> bool {
    matches!(character, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What may stand in a document as it is.
fn is_printable(character: char) -> bool {
    matches!(character,
        '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

fn escape(character: char) -> String {
    let short = match character {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        other => {
            let code = u32::from(other);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}

/// A number; one that is no integer as Go's `%g` has it.
fn number_text(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let shown = format!("{float:e}");
    let Some((digits, exponent)) = shown.split_once('e') else {
        return shown;
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{float}"),
    }
}

#[cfg(test)]
mod tests;
