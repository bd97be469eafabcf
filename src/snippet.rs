//! A line of a file with a caret under a place in it: how `config check`, `check` and a
//! refused reload show what they mean.

use std::fmt::Write;

/// The longest line that is shown whole; of a longer one, what surrounds the place.
const MAX_SHOWN: usize = 120;

/// `message` with its place, as `file:line:column`, and the line of `text` with a caret.
///
/// Line and column count from 1, in characters; 0 is not known, and then no line is shown.
pub fn render(file: &str, text: &str, line: usize, column: usize, message: &str) -> String {
    let mut out = match (line, column) {
        (0, _) => format!("{file}: {message}\n"),
        (line, 0) => format!("{file}:{line}: {message}\n"),
        (line, column) => format!("{file}:{line}:{column}: {message}\n"),
    };
    let shown = line
        .checked_sub(1)
        .and_then(|index| text.lines().nth(index));
    let Some(shown) = shown else { return out };
    let before = column.saturating_sub(1);
    let skipped = before.saturating_sub(MAX_SHOWN / 2);
    // A control character in a file could otherwise write on the terminal.
    let shown: String = shown
        .chars()
        .skip(skipped)
        .take(MAX_SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let caret = if column > 0 {
        format!(" {}^", " ".repeat(before - skipped))
    } else {
        String::new()
    };
    let _ = writeln!(
        out,
        "{gutter} |\n{number} | {}\n{gutter} |{caret}",
        shown.trim_end()
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = "one\n  two: 3\n";
        assert_eq!(
            render("a.yaml", text, 2, 8, "is wrong"),
            "a.yaml:2:8: is wrong\n  |\n2 |   two: 3\n  |        ^\n"
        );
    }

    #[test]
    fn a_place_that_is_not_known_or_not_there_is_left_out() {
        assert_eq!(render("a", "x", 0, 0, "m"), "a: m\n");
        assert_eq!(render("a", "x", 9, 9, "m"), "a:9:9: m\n");
    }

    #[test]
    fn long_lines_are_cut_and_control_characters_do_not_reach_the_terminal() {
        let text = format!("{}\u{1b}[31m{}", "a".repeat(500), "b".repeat(500));
        let shown = render("a", &text, 1, 501, "m");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(shown.lines().all(|line| line.len() < 140), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[3].find('^').unwrap();
        assert_eq!(&lines[2][caret..=caret + 1], " [", "{shown}");
    }
}
