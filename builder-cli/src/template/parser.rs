//! Tokens to a tree.

use serde_json::Value;

use super::functions::{self, FUNCTIONS};
use super::lexer::{Piece, Token};

/// Deeper than anybody writes.
const MAX_DEPTH: usize = 100;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Value(Pipeline),
    Branch {
        kind: Branch,
        over: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    If,
    With,
    Range,
}

#[derive(Debug)]
pub(super) struct Pipeline {
    /// The variables that get the value: one, or two of a `range`.
    pub(super) variables: Vec<String>,
    /// They are there already.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug)]
pub(super) enum Operand {
    Field(Vec<String>),
    /// The empty name is the whole value.
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    /// In parentheses, and the fields behind them.
    Group(Pipeline, Vec<String>),
}

/// Reads all pieces.
pub(super) fn tree(pieces: Vec<Piece>) -> Result<Vec<Node>, String> {
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        variables: vec![String::new()],
        depth: 0,
    };
    let (nodes, end) = parser.nodes()?;
    match end {
        None => Ok(nodes),
        Some(End { shown, .. }) => Err(format!("`{{{{{shown}}}}}` closes nothing")),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    /// Those that may be named here.
    variables: Vec<String>,
    depth: usize,
}

/// What ends a list of nodes: `{{end}}`, `{{else}}`, `{{else if …}}`.
struct End {
    is_else: bool,
    /// What stands behind `else`.
    tokens: Vec<Token>,
    shown: String,
}

fn branch(word: &str) -> Option<Branch> {
    match word {
        "if" => Some(Branch::If),
        "with" => Some(Branch::With),
        "range" => Some(Branch::Range),
        _ => None,
    }
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<End>), String> {
        let mut list = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, shown) = match piece {
                Piece::Text(text) => {
                    list.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, shown) => (tokens, shown),
            };
            match tokens.split_first() {
                Some((Token::Word(word), rest)) if word == "end" || word == "else" => {
                    let tokens = rest.to_vec();
                    if word == "end" && !tokens.is_empty() {
                        return Err(format!("`{{{{{shown}}}}}`: `end` stands alone"));
                    }
                    let is_else = word == "else";
                    return Ok((
                        list,
                        Some(End {
                            is_else,
                            tokens,
                            shown,
                        }),
                    ));
                }
                Some((Token::Word(word), rest)) if branch(word).is_some() => {
                    list.push(self.branch(word, rest)?);
                }
                _ => list.push(Node::Value(self.pipeline(&tokens, &shown)?)),
            }
        }
        Ok((list, None))
    }

    /// Reads from behind `if`, `with` or `range` up to its `{{end}}`.
    fn branch(&mut self, word: &str, over: &[Token]) -> Result<Node, String> {
        let kind = branch(word).unwrap_or(Branch::If);
        let unended = || format!("`{{{{{word}}}}}` has no `{{{{end}}}}`");
        self.deeper()?;
        // What is declared here is known up to the end.
        let known = self.variables.len();
        let over = match (kind, over) {
            (
                Branch::Range,
                [
                    Token::Variable(key, none),
                    Token::Comma,
                    Token::Variable(value, none_either),
                    Token::Declare,
                    rest @ ..,
                ],
            ) if none.is_empty() && none_either.is_empty() => {
                let mut over = self.pipeline(rest, word)?;
                over.variables = vec![key.clone(), value.clone()];
                self.variables.extend(over.variables.iter().cloned());
                over
            }
            _ => self.pipeline(over, word)?,
        };
        let inside = self.variables.len();
        let (then, end) = self.nodes()?;
        self.variables.truncate(inside);
        let end = end.ok_or_else(unended)?;
        let otherwise = match (end.is_else, end.tokens.as_slice()) {
            (false, _) => Vec::new(),
            (_, []) => {
                let (otherwise, end) = self.nodes()?;
                if end.ok_or_else(unended)?.is_else {
                    return Err(format!("`{{{{{word}}}}}` has a second `{{{{else}}}}`"));
                }
                otherwise
            }
            // It has the same `{{end}}`.
            (_, [Token::Word(next), rest @ ..])
                if matches!(
                    (kind, next.as_str()),
                    (Branch::If, "if") | (Branch::With, "with")
                ) =>
            {
                vec![self.branch(next, rest)?]
            }
            _ => {
                let shown = end.shown;
                return Err(format!(
                    "`{{{{{shown}}}}}` is not supported behind `{word}`"
                ));
            }
        };
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(Node::Branch {
            kind,
            over,
            then,
            otherwise,
        })
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err("it is nested too deeply".to_owned()),
            false => Ok(()),
        }
    }

    fn pipeline(&mut self, tokens: &[Token], shown: &str) -> Result<Pipeline, String> {
        let declared = match tokens {
            [Token::Variable(name, path), Token::Declare, rest @ ..] if path.is_empty() => {
                Some((name, false, rest))
            }
            [Token::Variable(name, path), Token::Assign, rest @ ..] if path.is_empty() => {
                Some((name, true, rest))
            }
            _ => None,
        };
        let (name, assigns, rest) = match declared {
            Some((name, assigns, rest)) => (Some(name), assigns, rest),
            None => (None, false, tokens),
        };
        if name.is_some_and(String::is_empty) {
            return Err("`$` is the whole value, and stays it".to_owned());
        }
        let mut rest = rest;
        let commands = self.commands(&mut rest, shown)?;
        if !rest.is_empty() {
            return Err(format!("`{shown}`: `)` closes nothing"));
        }
        let variables: Vec<String> = name.cloned().into_iter().collect();
        for name in &variables {
            match assigns {
                true => self.known(name)?,
                false => self.variables.push(name.clone()),
            }
        }
        Ok(Pipeline {
            variables,
            assigns,
            commands,
        })
    }

    fn known(&self, name: &str) -> Result<(), String> {
        match self.variables.iter().any(|it| it == name) {
            true => Ok(()),
            false => Err(format!("`${name}` is not declared")),
        }
    }

    /// Reads up to the end or to a `)` that was not opened here.
    fn commands(&mut self, rest: &mut &[Token], shown: &str) -> Result<Vec<Vec<Operand>>, String> {
        let mut commands = vec![Vec::new()];
        while let Some((token, after)) = rest.split_first() {
            if *token == Token::Close {
                break;
            }
            *rest = after;
            let operand = match token {
                Token::Pipe => {
                    commands.push(Vec::new());
                    continue;
                }
                Token::Field(path) => Operand::Field(path.clone()),
                Token::Variable(name, path) => {
                    self.known(name)?;
                    Operand::Variable(name.clone(), path.clone())
                }
                Token::Literal(value) => Operand::Literal(value.clone()),
                Token::Word(word) => {
                    functions::known(word)?;
                    Operand::Function(word.clone())
                }
                Token::Open => self.group(rest, shown)?,
                Token::Chain(_) | Token::Close | Token::Comma | Token::Declare | Token::Assign => {
                    return Err(format!("`{shown}` is not supported in a template"));
                }
            };
            if let Some(command) = commands.last_mut() {
                command.push(operand);
            }
        }
        for (at, command) in commands.iter().enumerate() {
            let misplaced = match command.as_slice() {
                [] => return Err("`{{}}` is empty: a value or a function is missing".to_owned()),
                [Operand::Function(_), arguments @ ..] => arguments,
                // What is piped goes into a function.
                [value] if at == 0 => std::slice::from_ref(value),
                _ => return Err(format!("`{shown}`: a value takes no arguments")),
            };
            for operand in misplaced {
                if let Operand::Function(word) = operand {
                    return Err(format!(
                        "`{word}` stands where a value is expected: put it into parentheses"
                    ));
                }
            }
        }
        Ok(commands)
    }

    /// Reads from behind `(`.
    fn group(&mut self, rest: &mut &[Token], shown: &str) -> Result<Operand, String> {
        self.deeper()?;
        let commands = self.commands(rest, shown)?;
        self.depth -= 1;
        let [Token::Close, after @ ..] = *rest else {
            return Err(format!("`{shown}`: `(` is not closed"));
        };
        let (path, after) = match after {
            [Token::Chain(path), after @ ..] => (path.clone(), after),
            after => (Vec::new(), after),
        };
        *rest = after;
        let pipeline = Pipeline {
            variables: Vec::new(),
            assigns: false,
            commands,
        };
        Ok(Operand::Group(pipeline, path))
    }
}

impl Pipeline {
    /// The path of the first field in it.
    pub(super) fn field(&self) -> Option<&Vec<String>> {
        self.commands.iter().flatten().find_map(|it| match it {
            Operand::Field(path) | Operand::Variable(_, path) => Some(path),
            Operand::Group(inner, _) => inner.field(),
            Operand::Literal(_) | Operand::Function(_) => None,
        })
    }
}

/// What may be written, for messages.
pub(super) fn supported() -> String {
    format!("{}, range, if and with", FUNCTIONS.join(", "))
}
