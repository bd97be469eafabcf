//! A line of a file with a caret under a place in it: how a bad policy or configuration is shown.

/// The longest line that is shown whole; of a longer one, what surrounds the place.
const MAX_SHOWN: usize = 120;

/// The line of `text` with its number in a margin, and a caret under the column.
///
/// Line and column count from 1, in characters. Nothing if there is no such line; no caret
/// for the column 0, which is not known.
pub fn excerpt(text: &str, line: usize, column: usize) -> Option<String> {
    let source = text.lines().nth(line.checked_sub(1)?)?;
    // A tab would part the caret from its place, and a control character could write on the
    // terminal.
    let source: Vec<char> = source
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    let before = column.saturating_sub(1).min(source.len());
    let skipped = before.saturating_sub(MAX_SHOWN / 2);
    let shown: String = source.iter().skip(skipped).take(MAX_SHOWN).collect();
    let margin = " ".repeat(line.to_string().len());
    let mut out = format!("{margin} |\n{line} | {}\n", shown.trim_end());
    if column > 0 {
        out += &format!("{margin} | {}^\n", " ".repeat(before - skipped));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = "one\n\ttwo: 3\n";
        assert_eq!(
            excerpt(text, 2, 7).unwrap(),
            "  |\n2 |  two: 3\n  |       ^\n"
        );
    }

    #[test]
    fn a_place_that_is_not_known_or_not_there_is_left_out() {
        assert_eq!(excerpt("x", 0, 0), None);
        assert_eq!(excerpt("x", 9, 9), None);
        assert_eq!(excerpt("x", 1, 0).unwrap(), "  |\n1 | x\n");
        assert_eq!(excerpt("x", 1, 9).unwrap(), "  |\n1 | x\n  |  ^\n");
    }

    #[test]
    fn long_lines_are_cut_and_control_characters_do_not_reach_the_terminal() {
        let text = format!("{}\u{1b}[31m{}", "a".repeat(500), "b".repeat(500));
        let shown = excerpt(&text, 1, 501).unwrap();
        assert!(!shown.contains('\u{1b}'), "{shown}");
        let lines: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
        assert!(lines.iter().all(|line| line.len() < 140), "{shown}");
        let caret = lines[2].iter().position(|c| *c == '^').unwrap();
        assert_eq!(&lines[1][caret..=caret + 1], ['\u{fffd}', '['], "{shown}");
    }
}
