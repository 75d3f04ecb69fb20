//! How the words of an expression follow each other.

use super::Fault;
use super::tokens::{Kind, Token};

/// How deep expressions lie in each other at most.
const MAX_DEPTH: usize = 250;

/// What an operand begins with, in the order in which upstream's parser lists it.
const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
    BYTES, IDENTIFIER}";

/// Names that are kept for later.
pub(super) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

type Checked = Result<(), Fault>;

/// Checks that the words, of which the last is the end, are an expression.
pub(super) fn check(tokens: &[Token]) -> Checked {
    let mut reader = Reader {
        tokens,
        next: 0,
        depth: 0,
    };
    reader.expression()?;
    if reader.peek().is_some_and(|token| token.kind != Kind::End) {
        let last = reader
            .tokens
            .get(reader.next + 1)
            .is_none_or(|token| token.kind == Kind::End);
        return Err(reader.unexpected(last, "<EOF>"));
    }
    Ok(())
}

struct Reader<'a> {
    tokens: &'a [Token],
    next: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn is(&self, sign: &str) -> bool {
        self.peek()
            .is_some_and(|token| token.kind == Kind::Sign && token.text == sign)
    }

    fn is_a(&self, kinds: &[Kind]) -> bool {
        self.peek().is_some_and(|token| kinds.contains(&token.kind))
    }

    /// Passes a sign over, if it is the next word.
    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.next += usize::from(found);
        found
    }

    fn take_any(&mut self, signs: &[&str]) -> bool {
        signs.iter().any(|sign| self.take(sign))
    }

    fn fault(&self, what: String) -> Fault {
        Fault {
            at: self.peek().map_or(0, |token| token.at),
            what,
        }
    }

    /// The next word cannot stand here; `extraneous` if the one after it could.
    fn unexpected(&self, extraneous: bool, expected: &str) -> Fault {
        let text = self.peek().map(|token| token.text.as_str()).unwrap_or_default();
        let how = if extraneous { "extraneous" } else { "mismatched" };
        self.fault(format!("Syntax error: {how} input '{text}' expecting {expected}"))
    }

    fn expect(&mut self, sign: &str) -> Checked {
        if self.take(sign) {
            return Ok(());
        }
        let text = self.peek().map(|token| token.text.as_str()).unwrap_or_default();
        if self.is_a(&[Kind::End]) {
            return Err(self.fault(format!("Syntax error: missing '{sign}' at '{text}'")));
        }
        Err(self.unexpected(false, &format!("'{sign}'")))
    }

    fn expect_name(&mut self, quoted_too: bool) -> Checked {
        if self.is_a(&[Kind::Name]) || (quoted_too && self.is_a(&[Kind::Quoted])) {
            self.next += 1;
            return Ok(());
        }
        Err(self.unexpected(
            false,
            if quoted_too {
                "{IDENTIFIER, ESC_IDENTIFIER}"
            } else {
                "IDENTIFIER"
            },
        ))
    }

    /// A condition with two outcomes, or less than that.
    fn expression(&mut self) -> Checked {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let what = format!("expression recursion limit exceeded: {MAX_DEPTH}");
            return Err(self.fault(what));
        }
        self.operators()?;
        if self.take("?") {
            self.operators()?;
            self.expect(":")?;
            self.expression()?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Operands with operators between them. Which of these binds closer is nothing to the syntax.
    fn operators(&mut self) -> Checked {
        const OPERATORS: [&str; 14] = [
            "||", "&&", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%",
        ];
        self.operand()?;
        while self.take_any(&OPERATORS) {
            self.operand()?;
        }
        Ok(())
    }

    fn operand(&mut self) -> Checked {
        if self.take("!") {
            while self.take("!") {}
        } else {
            while self.take("-") {}
        }
        self.primary()?;
        loop {
            if self.take(".") {
                self.take("?");
                self.expect_name(true)?;
                if self.take("(") {
                    self.list(")", Self::expression)?;
                }
            } else if self.take("[") {
                self.take("?");
                self.expression()?;
                self.expect("]")?;
            } else {
                return Ok(());
            }
        }
    }

    fn begins_operand(token: &Token) -> bool {
        match token.kind {
            Kind::Sign => matches!(
                token.text.as_str(),
                "[" | "{" | "(" | "." | "-" | "!" | "true" | "false" | "null"
            ),
            Kind::Quoted | Kind::End => false,
            _ => true,
        }
    }

    fn primary(&mut self) -> Checked {
        if self.take("(") {
            self.expression()?;
            return self.expect(")");
        }
        if self.take("[") {
            return self.list("]", |reader| {
                reader.take("?");
                reader.expression()
            });
        }
        if self.take("{") {
            return self.list("}", |reader| {
                reader.take("?");
                reader.expression()?;
                reader.expect(":")?;
                reader.expression()
            });
        }
        if self.take_any(&["true", "false", "null"]) {
            return Ok(());
        }
        if self.is_a(&[Kind::Float, Kind::Int, Kind::Uint, Kind::Text, Kind::Bytes]) {
            self.next += 1;
            return Ok(());
        }
        if self.is(".") || self.is_a(&[Kind::Name]) {
            return self.named();
        }
        let after = self.tokens.get(self.next + 1);
        let end = self.is_a(&[Kind::End]);
        Err(self.unexpected(!end && after.is_some_and(Self::begins_operand), OPERAND))
    }

    /// A name, a call, or an object: `a`, `a(…)`, `a.b{…}`.
    fn named(&mut self) -> Checked {
        self.take(".");
        let begin = self.next;
        self.expect_name(false)?;
        if let Some(token) = self
            .tokens
            .get(begin)
            .filter(|token| RESERVED.contains(&token.text.as_str()))
        {
            return Err(Fault {
                at: token.at,
                what: format!("reserved identifier: {}", token.text),
            });
        }
        if self.take("(") {
            return self.list(")", Self::expression);
        }
        // The name of an object's type has dots in it; what it is shows behind them.
        let mut end = self.next;
        let is = |at: usize, sign: &str| {
            let token = self.tokens.get(at);
            token.is_some_and(|token| token.kind == Kind::Sign && token.text == sign)
        };
        while is(end, ".")
            && self
                .tokens
                .get(end + 1)
                .is_some_and(|token| token.kind == Kind::Name)
        {
            end += 2;
        }
        if is(end, "{") {
            self.next = end + 1;
            return self.list("}", |reader| {
                reader.take("?");
                reader.expect_name(true)?;
                reader.expect(":")?;
                reader.expression()
            });
        }
        Ok(())
    }

    /// Elements between commas, up to the end; after the last there may be one more comma, but not in a call.
    fn list(&mut self, end: &str, element: impl Fn(&mut Self) -> Checked) -> Checked {
        if self.take(end) {
            return Ok(());
        }
        if end != ")" && self.take(",") {
            return self.expect(end);
        }
        loop {
            element(self)?;
            if !self.take(",") {
                return self.expect(end);
            }
            if end != ")" && self.take(end) {
                return Ok(());
            }
        }
    }
}
