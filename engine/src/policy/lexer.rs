//! Reads a policy's text as words, beside Rhai's own parser, for what that one does not tell:
//! an unclosed comment, functions that do not exist but are not run at load, and the windows
//! that only a body reads.
//!
//! It understands Rhai's comments, texts and numbers and nothing of its grammar. On text that
//! is no Rhai it gives some words and never fails; Rhai's parser has the last word.

/// A word of the text and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Line and column, from 1, as Rhai counts them.
    pub(super) line: usize,
    pub(super) column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Word(String),
    /// A text without anything to be put into it.
    Text(String),
    /// A template with `${...}` in it, a number or a character: no name and no plain text.
    Other,
    Mark(char),
}

/// What was left open at the end of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unclosed {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The words of `text`; with them where a block comment begins that never ends.
pub(super) fn words(text: &str) -> (Vec<Token>, Option<Unclosed>) {
    let mut lexer = Lexer {
        rest: text.chars().collect(),
        at: 0,
        line: 1,
        column: 1,
        tokens: Vec::new(),
        templates: Vec::new(),
        unclosed: None,
    };
    lexer.run();
    (lexer.tokens, lexer.unclosed)
}

struct Lexer {
    rest: Vec<char>,
    at: usize,
    line: usize,
    column: usize,
    tokens: Vec<Token>,
    /// For each template we are inside of: how many braces are open within its `${`.
    templates: Vec<usize>,
    unclosed: Option<Unclosed>,
}

impl Lexer {
    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            let place = (self.line, self.column);
            match c {
                _ if c.is_whitespace() => self.skip(1),
                '/' if self.peek(1) == Some('/') => self.line_comment(),
                '/' if self.peek(1) == Some('*') => self.block_comment(),
                '"' => self.quoted('"', place),
                '\'' => self.quoted('\'', place),
                '#' if self.opens_raw() => self.raw(place),
                '`' => {
                    self.skip(1);
                    self.template(place);
                }
                '}' if self.templates.last() == Some(&0) => {
                    self.skip(1);
                    self.templates.pop();
                    self.template(place);
                }
                _ if c.is_ascii_digit() => self.number(place),
                _ if is_word(c) => {
                    let word = self.take_while(is_word);
                    self.push(Kind::Word(word), place);
                }
                _ => self.mark(c, place),
            }
        }
    }

    fn mark(&mut self, c: char, place: (usize, usize)) {
        if let Some(open) = self.templates.last_mut() {
            match c {
                '{' => *open += 1,
                '}' => *open = open.saturating_sub(1),
                _ => {}
            }
        }
        self.skip(1);
        self.push(Kind::Mark(c), place);
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.skip(1);
        }
    }

    /// Rhai's block comments nest, and one that is never closed swallows the rest in silence.
    fn block_comment(&mut self) {
        let begun = Unclosed {
            line: self.line,
            column: self.column,
        };
        let mut depth = 0_usize;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => {
                    depth += 1;
                    self.skip(2);
                }
                ('*', Some('/')) => {
                    depth -= 1;
                    self.skip(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.skip(1),
            }
        }
        self.unclosed = self.unclosed.or(Some(begun));
    }

    fn quoted(&mut self, quote: char, place: (usize, usize)) {
        let mut text = String::new();
        self.skip(1);
        while let Some(c) = self.peek(0) {
            match c {
                '\\' => {
                    text.extend(self.peek(1));
                    self.skip(2);
                }
                _ if c == quote => break,
                // An open text ends with its line; Rhai's parser reports it.
                '\n' => break,
                _ => {
                    text.push(c);
                    self.skip(1);
                }
            }
        }
        self.skip(1);
        let kind = if quote == '"' {
            Kind::Text(text)
        } else {
            Kind::Other
        };
        self.push(kind, place);
    }

    fn opens_raw(&self) -> bool {
        let hashes = self.count_hashes(0);
        self.peek(hashes) == Some('"')
    }

    fn count_hashes(&self, from: usize) -> usize {
        let mut hashes = 0;
        while self.peek(from + hashes) == Some('#') {
            hashes += 1;
        }
        hashes
    }

    fn raw(&mut self, place: (usize, usize)) {
        let hashes = self.count_hashes(0);
        let mut text = String::new();
        self.skip(hashes + 1);
        while let Some(c) = self.peek(0) {
            if c == '"' && self.count_hashes(1) >= hashes {
                self.skip(1 + hashes);
                break;
            }
            text.push(c);
            self.skip(1);
        }
        self.push(Kind::Text(text), place);
    }

    /// Goes on inside a template, up to its end or to the next `${`.
    fn template(&mut self, place: (usize, usize)) {
        let mut text = String::new();
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('`', Some('`')) => self.skip(2),
                ('`', _) => {
                    self.skip(1);
                    self.push(Kind::Text(text), place);
                    return;
                }
                ('$', Some('{')) => {
                    self.skip(2);
                    self.templates.push(0);
                    self.push(Kind::Other, place);
                    return;
                }
                _ => {
                    text.push(c);
                    self.skip(1);
                }
            }
        }
    }

    fn number(&mut self, place: (usize, usize)) {
        self.take_while(is_word);
        let fraction =
            self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit());
        if fraction {
            self.skip(1);
            self.take_while(is_word);
        }
        self.push(Kind::Other, place);
    }

    fn take_while(&mut self, wanted: fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.peek(0).filter(|c| wanted(*c)) {
            taken.push(c);
            self.skip(1);
        }
        taken
    }

    fn push(&mut self, kind: Kind, (line, column): (usize, usize)) {
        self.tokens.push(Token { kind, line, column });
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest.get(self.at + ahead).copied()
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            match self.peek(0) {
                Some('\n') => {
                    self.line += 1;
                    self.column = 1;
                }
                Some(_) => self.column += 1,
                None => return,
            }
            self.at += 1;
        }
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let (tokens, _) = words(text);
        tokens
            .into_iter()
            .map(|token| match token.kind {
                Kind::Word(word) => word,
                Kind::Text(text) => format!("{text:?}"),
                Kind::Other => "_".to_owned(),
                Kind::Mark(mark) => mark.to_string(),
            })
            .collect()
    }

    #[test]
    fn words_texts_and_comments_are_told_apart() {
        let cases = [
            ("a.b(\"x\", 1.5)", "a . b ( \"x\" , _ )"),
            ("a // b \"c\n d", "a d"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#""say \"hi\"" 'x' '\''"#, r#""say \"hi\"" _ _"#),
            ("0..5 1.foo 0x1F_u", "_ . . _ _ . foo _"),
            (
                r##"#"raw "x" y"# #{a: 1}"##,
                r##""raw \"x\" y" # { a : _ }"##,
            ),
            ("`plain`", "\"plain\""),
            ("`a ${b.c({d})} e` f", "_ b . c ( { d } ) \" e\" f"),
            ("`a ${`b ${c} d`} e` f", "_ _ c \" d\" \" e\" f"),
        ];
        for (text, wanted) in cases {
            assert_eq!(shown(text).join(" "), wanted, "{text}");
        }
    }

    #[test]
    fn an_open_comment_is_found_where_it_begins() {
        let (_, unclosed) = words("let a = 1;\n  /* never /* closed */\nlet b = 2;");
        assert_eq!(unclosed, Some(Unclosed { line: 2, column: 3 }));
        for text in ["/* closed */", "\"/* text\"", "// /* line", "`/*`"] {
            assert_eq!(words(text).1, None, "{text}");
        }
    }

    #[test]
    fn places_are_counted_in_characters() {
        let (tokens, _) = words("\"ä\" x\n\ty");
        let places: Vec<_> = tokens.iter().map(|t| (t.line, t.column)).collect();
        assert_eq!(places, [(1, 1), (1, 5), (2, 2)]);
    }
}
