//! What README.md shows is true: its configurations parse, its policies load, its records decode.

use std::path::Path;

use rhizome::config;
use rhizome_connectors::decode::{DecodeOptions, Decoder};
use rhizome_engine::event::Batch;
use rhizome_engine::policy::{PolicySet, SourceFile};

/// Begins a block that is a part of a configuration, or a whole one.
const MARK: &str = "# config: ";

/// The blocks of a language, without the indentation of a list that they stand in.
fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let open = format!("```{language}");
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != open {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let block: Vec<_> = lines
            .by_ref()
            .take_while(|line| line.trim() != "```")
            .map(|line| line.get(indent..).unwrap_or_default())
            .collect();
        found.push(block.join("\n") + "\n");
    }
    assert!(!found.is_empty(), "README.md has no block of `{language}`");
    found
}

#[test]
fn configurations_of_the_readme_are_taken() {
    let blocks = blocks("yaml");
    let of = |name: &str| {
        let head = format!("{MARK}{name}\n");
        blocks.iter().find(|block| block.starts_with(&head))
    };
    let whole = of("whole").expect("a whole configuration");
    let mut count = 0;
    for block in &blocks {
        let Some(rest) = block.strip_prefix(MARK) else {
            continue;
        };
        let text = if rest.starts_with("whole") {
            block.clone()
        } else {
            format!("{whole}{block}")
        };
        if let Err(error) = config::parse("README.md", &text) {
            panic!("{error}\n{text}");
        }
        count += 1;
    }
    assert!(count >= 3, "{count} blocks begin with `{MARK}`");
}

#[test]
fn policies_of_the_readme_load() {
    for text in blocks("rhai") {
        let name = "README.rhai".to_owned();
        let file = SourceFile {
            name,
            text: text.clone(),
        };
        match PolicySet::load(&[file]) {
            Ok(set) => assert!(!set.rules().is_empty(), "no rule in\n{text}"),
            Err(errors) => panic!("{errors:?}\n{text}"),
        }
    }
}

#[test]
fn records_of_the_readme_decode() {
    let mut decoder = Decoder::new(DecodeOptions::default());
    for text in blocks("json") {
        let lines = text.lines().count();
        let mut batch = Batch::default();
        let good = decoder.decode(text.as_bytes(), &mut batch);
        assert_eq!(decoder.bad_total(), 0, "{:?}\n{text}", decoder.bad());
        assert_eq!(good, lines, "{text}");
    }
}
