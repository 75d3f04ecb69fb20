//! Whether a text is an expression of the Common Expression Language, in which users write rules.
//!
//! Only the syntax is looked at, and the first thing that is wrong with it reported, as upstream's parser words it; what
//! names mean and which types they have is not. A text of any length and depth is read in bounded time and stack.

mod grammar;
mod tokens;

/// The most characters of an expression.
const MAX_LENGTH: usize = 100_000;

/// A place in an expression, and what is wrong there.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// In characters, from the beginning.
    at: usize,
    what: String,
}

/// Checks that a text is an expression.
///
/// # Errors
/// What is wrong, as upstream says it in the detail of an error: with the line, and a mark under the place.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if length > MAX_LENGTH {
        return Err(format!(
            "compilation failed: ERROR: <input>:-1:0: expression code point size exceeds limit: size: {length}, limit \
             {MAX_LENGTH}"
        ));
    }
    let (tokens, mut faults) = tokens::read(text);
    faults.extend(grammar::check(&tokens).err());
    if faults.is_empty() {
        return Ok(());
    }
    faults.sort_by_key(|fault| fault.at);
    let shown: Vec<String> = faults.iter().map(|fault| shown(text, fault)).collect();
    Err(format!("compilation failed: {}", shown.join("\n")))
}

/// Whether a text can name a variable: no word that the language uses, or keeps for itself.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && letters.all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
        && !["true", "false", "null", "in"].contains(&name)
        && !grammar::RESERVED.contains(&name)
}

fn shown(text: &str, fault: &Fault) -> String {
    let before: String = text.chars().take(fault.at).collect();
    let line = before.matches('\n').count();
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count();
    let source = text.split('\n').nth(line).unwrap_or_default();
    format!(
        "ERROR: <input>:{}:{}: {}\n | {source}\n | {}^",
        line + 1,
        column + 1,
        fault.what,
        ".".repeat(column),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, \
        STRING, BYTES, IDENTIFIER}";

    #[test]
    fn what_is_an_expression_is_accepted() {
        for text in [
            "self.replicas <= self.maxReplicas",
            "has(x.y) && x.?y.orValue(1) == 1",
            "self.all(x, x > 1) && a.exists(k, k == 'x') ? {'a': [1], ?\"b\": c,} : {}",
            "[?a, ?b,]",
            "x.__namespace__ == 1u || -3.5e-4 < .5 && !!b",
            "object.spec.containers.all(c, c.image.matches('^[a-z]+$'))",
            "Object{spec: Object.spec{replicas: 1,}}",
            ".a.b{?c: 1}",
            "[JSONPatch{op: \"add\", path: \"/x\", value: 1}]",
            "r'\\d+' == R\"x\" && b'\\x00\\377' != bR'''a\n'b'''",
            "'\\u00e9\\U0001F600\\n\\'\\?'",
            "device.attributes[\"a.b\"].c in [0x1F, 0xffu, -1]",
            "a // said\n + b",
            "\"\"\"many\nlines \"here\" \"\"\"",
            "a.`b-c/d`",
            "1.f()",
            "x[?'a'].hasValue()",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_with_upstreams_words() {
        let operand = |input: &str| format!("Syntax error: mismatched input '{input}' expecting {OPERAND}");
        for (text, line, column, what) in [
            ("self.a >", 1, 9, operand("<EOF>")),
            ("", 1, 1, operand("<EOF>")),
            (
                "a b",
                1,
                3,
                "Syntax error: extraneous input 'b' expecting <EOF>".into(),
            ),
            (
                "'x' + this does not compile",
                1,
                12,
                "Syntax error: mismatched input 'does' expecting <EOF>".into(),
            ),
            (
                "* a",
                1,
                1,
                format!("Syntax error: extraneous input '*' expecting {OPERAND}"),
            ),
            ("(a", 1, 3, "Syntax error: missing ')' at '<EOF>'".into()),
            ("a &&\n  b ||", 2, 7, operand("<EOF>")),
            (
                "@ a",
                1,
                1,
                "Syntax error: token recognition error at: '@'".into(),
            ),
            (
                "a | b",
                1,
                3,
                "Syntax error: token recognition error at: '| '".into(),
            ),
            (
                "\"abc",
                1,
                1,
                "Syntax error: token recognition error at: '\"abc'".into(),
            ),
            ("a == if", 1, 6, "reserved identifier: if".into()),
        ] {
            let found = check(text).unwrap_err();
            let source = text.split('\n').nth(line - 1).unwrap();
            let first = format!(
                "compilation failed: ERROR: <input>:{line}:{column}: {what}\n | {source}\n | {}^",
                ".".repeat(column - 1)
            );
            assert!(found.starts_with(&first), "{text}: {found}");
        }
    }

    #[test]
    fn no_text_is_too_deep_or_takes_long() {
        let many = 20_000;
        for (text, valid) in [
            ("1+".repeat(many) + "1", true),
            ("a".to_string() + &".b".repeat(many), true),
            ("!".repeat(many) + "a", true),
            ("a?b:".repeat(many) + "c", false),
            ("(".repeat(many) + "a" + &")".repeat(many), false),
            ("(".repeat(200) + "a" + &")".repeat(200), true),
            ("[".repeat(many), false),
            ("f(".repeat(many), false),
            ("@ ".repeat(many), false),
            ("é\u{1F600}".repeat(many), false),
        ] {
            assert_eq!(
                check(&text).is_ok(),
                valid,
                "{}",
                text.chars().take(10).collect::<String>()
            );
        }
    }
}
