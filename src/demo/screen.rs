//! The demo's screen: a live view on a terminal, lines elsewhere.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyModifiers, poll, read};
use ratatui::DefaultTerminal;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, List, ListItem, Paragraph, Row, Table, Wrap};
use rhizome_engine::event::Ready;
use rhizome_engine::status::{NodeStatus, Status};
use rhizome_engine::time::{format_duration, show_duration};

use super::story::View;

/// Lines kept for the live view: more than the tallest terminal shows.
const LINES_KEPT: usize = 200;

/// Where the story is shown.
pub(super) enum Screen {
    Live {
        terminal: DefaultTerminal,
        lines: VecDeque<String>,
        speed: u32,
    },
    Plain,
}

/// Whether the watcher wants to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    GoOn,
    Quit,
}

impl Wish {
    pub(super) fn is_quit(self) -> bool {
        self == Self::Quit
    }
}

impl Screen {
    /// Opens the live view if there is a terminal for it.
    pub(super) fn open(live: bool, speed: u32) -> Self {
        if live && let Ok(terminal) = ratatui::try_init() {
            return Self::Live {
                terminal,
                lines: VecDeque::new(),
                speed,
            };
        }
        say(&format!(
            "rhizome demo: time runs {speed} times as fast, the guard's constants are as shipped"
        ));
        Self::Plain
    }

    /// Shows what is new.
    pub(super) fn draw(&mut self, view: &View, status: Option<&Status>, new: &[String]) -> Wish {
        match self {
            Self::Plain => {
                for line in new {
                    say(line);
                }
                Wish::GoOn
            }
            Self::Live {
                terminal,
                lines,
                speed,
            } => {
                for line in new {
                    if lines.len() == LINES_KEPT {
                        lines.pop_front();
                    }
                    lines.push_back(line.clone());
                }
                let drawn = terminal.draw(|frame| frame_of(frame, view, status, lines, *speed));
                if drawn.is_err() {
                    *self = Self::Plain;
                }
                wish()
            }
        }
    }

    /// Gives the terminal back and says how it went.
    pub(super) fn close(self, summary: &[String]) {
        if let Self::Live { .. } = self {
            ratatui::restore();
        }
        for line in summary {
            say(line);
        }
    }
}

fn frame_of(
    frame: &mut ratatui::Frame<'_>,
    view: &View,
    status: Option<&Status>,
    lines: &VecDeque<String>,
    speed: u32,
) {
    let nodes = status.map_or(0, |status| {
        status.pools.iter().map(|pool| pool.nodes.len()).sum()
    });
    let table_height = u16::try_from(nodes)
        .unwrap_or(u16::MAX)
        .saturating_add(3)
        .min(10);
    let [head, table, story] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(table_height),
        Constraint::Min(3),
    ])
    .areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let time = format_duration(Duration::from_secs(view.time.as_secs()));
    let text = vec![
        Line::styled(view.title, bold),
        Line::from(format!(
            "{time} on the demo's clock, which runs {speed} times as fast; q ends the demo"
        )),
    ];
    let block = Block::bordered().title(" rhizome demo ");
    frame.render_widget(
        Paragraph::new(text).block(block).wrap(Wrap { trim: true }),
        head,
    );
    frame.render_widget(pool_table(status), table);
    let height = usize::from(story.height.saturating_sub(2));
    let shown = lines.iter().skip(lines.len().saturating_sub(height));
    let items = shown.map(|line| ListItem::new(Line::styled(line.as_str(), style_of(line))));
    let block = Block::bordered().title(" decisions and refusals ");
    frame.render_widget(List::new(items).block(block), story);
}

fn pool_table(status: Option<&Status>) -> Table<'static> {
    let rows = status.into_iter().flat_map(|status| {
        status.pools.iter().flat_map(move |pool| {
            pool.nodes
                .iter()
                .map(move |node| row_of(pool.name.to_string(), node, status))
        })
    });
    let widths = [
        Constraint::Length(10),
        Constraint::Length(20),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Min(10),
    ];
    let title = match status.and_then(|status| status.pools.first()) {
        Some(pool) => format!(
            " {}: {} of {}..{} nodes, {} ready ",
            pool.name, pool.size, pool.min, pool.max, pool.ready
        ),
        None => " nodes ".to_owned(),
    };
    Table::new(rows, widths)
        .header(
            Row::new(["pool", "node", "vm", "ready", "last heard"])
                .style(Style::new().add_modifier(Modifier::DIM)),
        )
        .block(Block::bordered().title(title))
}

fn row_of(pool: String, node: &NodeStatus, status: &Status) -> Row<'static> {
    let (ready, color) = match node.ready {
        Some(Ready::True) if node.cordoned => ("cordoned", Color::Yellow),
        Some(Ready::True) => ("ready", Color::Green),
        Some(Ready::False | Ready::Unknown) => ("not ready", Color::Red),
        None => ("joining", Color::Yellow),
    };
    let heard = node.heard.map_or_else(
        || "never".to_owned(),
        |heard| format!("{} ago", show_duration(status.at.since(heard))),
    );
    let vm = node.vm_status.clone().unwrap_or_else(|| "gone".to_owned());
    Row::new([pool, node.name.to_string(), vm, ready.to_owned(), heard])
        .style(Style::new().fg(color))
}

fn style_of(line: &str) -> Style {
    let has = |word: &str| line.contains(word);
    if has("  refused ") || has("  brake on") {
        Style::new().fg(Color::Yellow)
    } else if has("  decided ") {
        Style::new().fg(Color::Cyan)
    } else if has("  given up ") {
        Style::new().fg(Color::Red)
    } else if has("  --------") {
        Style::new().add_modifier(Modifier::BOLD)
    } else {
        Style::new()
    }
}

fn wish() -> Wish {
    let pressed = poll(Duration::ZERO).unwrap_or(false);
    if !pressed {
        return Wish::GoOn;
    }
    match read() {
        Ok(Event::Key(key)) => {
            let interrupt =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                Wish::Quit
            } else {
                Wish::GoOn
            }
        }
        _ => Wish::GoOn,
    }
}

/// A line for whoever reads along; a closed pipe is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
