//! The text form of a label selector: `a=b,c!=d,e in (x,y),!f`.

use std::collections::{BTreeSet, VecDeque};

use super::{Operator, Requirement};
use crate::field::{Errors, Path};
use crate::names;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    End,
    Symbol(&'static str),
    Word(String),
    Error(String),
}

impl Token {
    fn literal(&self) -> &str {
        match self {
            Self::End => "",
            Self::Symbol(symbol) => symbol,
            Self::Word(word) | Self::Error(word) => word,
        }
    }
}

const SYMBOLS: [&str; 9] = [")", ",", "!", "==", "=", ">", "<", "!=", "("];

fn symbol(text: &str) -> Option<&'static str> {
    SYMBOLS.into_iter().find(|symbol| *symbol == text)
}

pub(super) struct Parser {
    tokens: VecDeque<Token>,
}

impl Parser {
    pub(super) fn new(text: &str) -> Self {
        let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
        let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        let mut rest = text;
        let mut tokens = VecDeque::new();
        loop {
            rest = rest.trim_start_matches(blank);
            if rest.is_empty() || rest.starts_with('\0') {
                break;
            }
            if rest.starts_with(special) {
                // The longest symbol that the run of special characters begins with.
                let run = rest.find(|c| !special(c)).unwrap_or(rest.len());
                let found = [2, 1]
                    .into_iter()
                    .filter(|length| *length <= run)
                    .find_map(|length| rest.get(..length).and_then(symbol));
                match found {
                    Some(found) => {
                        tokens.push_back(Token::Symbol(found));
                        rest = rest.get(found.len()..).unwrap_or_default();
                    }
                    None => {
                        let (run, after) = rest.split_at(run);
                        tokens.push_back(Token::Error(format!("error expected: keyword found '{run}'")));
                        rest = after;
                    }
                }
            } else {
                let end = rest.find(|c| special(c) || blank(c)).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                tokens.push_back(Token::Word(word.to_string()));
                rest = after;
            }
        }
        Self { tokens }
    }

    fn peek(&self) -> &Token {
        self.tokens.front().unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        self.tokens.pop_front().unwrap_or(Token::End)
    }

    pub(super) fn parse(mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {
                    let requirement = self
                        .requirement()
                        .map_err(|error| format!("unable to parse requirement: {error}"))?;
                    requirements.push(requirement);
                    match self.next() {
                        Token::End => return Ok(requirements),
                        Token::Symbol(",") => match self.peek() {
                            Token::Word(_) | Token::Symbol("!") => {}
                            other => {
                                return Err(format!(
                                    "found '{}', expected: identifier after ','",
                                    other.literal()
                                ));
                            }
                        },
                        other => {
                            return Err(format!(
                                "found '{}', expected: ',' or 'end of string'",
                                other.literal()
                            ));
                        }
                    }
                }
                Token::End => return Ok(requirements),
                other => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.literal()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.next();
        let negated = token == Token::Symbol("!");
        if negated {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return Err(format!("found '{}', expected: identifier", token.literal()));
        };
        let wrong = names::qualified_name(&key);
        if !wrong.is_empty() {
            let mut errors = Errors::new();
            errors.invalid(&Path::new("<nil>"), &key, wrong.join("; "));
            return Err(errors.aggregate());
        }
        let new =
            |operator, values| Requirement::new(&key, operator, values).map_err(|error| error.to_string());
        if negated {
            return new(Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return new(Operator::Exists, Vec::new());
        }
        let token = self.next();
        let operator = match &token {
            Token::Word(word) if word == "in" => Operator::In,
            Token::Word(word) if word == "notin" => Operator::NotIn,
            Token::Symbol("=") => Operator::Equals,
            Token::Symbol("==") => Operator::DoubleEquals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            other => {
                return Err(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.literal()
                ));
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        new(operator, values)
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(format!("found '{}', expected: identifier", other.literal())),
        }
    }

    /// `(a,b,)`: between, before and after commas an empty value may stand.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.literal())),
        }
        let mut values = BTreeSet::new();
        match self.peek() {
            Token::Word(_) | Token::Symbol(",") => {}
            Token::Symbol(")") => {
                self.next();
                return Ok(vec![String::new()]);
            }
            other => {
                return Err(format!(
                    "found '{}', expected: ',', ')' or identifier",
                    other.literal()
                ));
            }
        }
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.insert(word);
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.literal())),
                    }
                }
                Token::Symbol(",") => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek() {
                        Token::Symbol(")") => {
                            values.insert(String::new());
                            break;
                        }
                        Token::Symbol(",") => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: ',', or identifier",
                        other.literal()
                    ));
                }
            }
        }
        self.next();
        Ok(values.into_iter().collect())
    }
}
