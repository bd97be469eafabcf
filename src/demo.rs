//! `rhizome demo`: the whole program against stand-ins, on a clock that goes faster.
//!
//! Nothing is staged but what happens outside of Rhizome: `stage` sets up an embedded broker,
//! a stand-in cloud and cluster with their guests and agents, and starts the program from a
//! real configuration file; `story` changes the load, pulls a plug and stalls the broker, and
//! judges by the journal's records what came of it; `screen` shows it. The program, the
//! stand-ins and the agents know no story.

mod screen;
mod stage;
mod story;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rhizome_engine::time::Clock;

use crate::clock::ScaledClock;
use crate::exit::Exit;

use screen::Screen;
use stage::{Stage, StageError};
use story::Story;

/// How many times as fast as the wall's the demo's clock goes unless it is said otherwise: the
/// story takes some twenty-four minutes, and nobody watches for longer than two.
pub const SPEED: u32 = 12;

/// How often the screen is drawn and the story looked at, on the wall.
const FRAME: Duration = Duration::from_millis(100);

/// What can be said on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// How many times as fast as real time the demo runs
    #[arg(long, default_value_t = SPEED, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub speed: u32,
    /// A folder of policies to run in place of the demo's own
    #[arg(long, value_name = "FOLDER")]
    pub policies: Option<PathBuf>,
    /// Lines instead of the live view, on a terminal too
    #[arg(long)]
    pub plain: bool,
}

/// Plays the demo and says whether the story came out.
///
/// # Errors
///
/// Returns why the stage cannot be set up.
pub async fn play(args: &DemoArgs) -> Result<Exit, StageError> {
    if std::env::var_os("RUST_LOG").is_some() {
        // The screen is for the story; who wants the log as well asks for it.
        crate::telemetry::init(&crate::config::LogConfig::default());
    }
    let clock: Arc<dyn Clock> = Arc::new(ScaledClock::new(args.speed));
    let live = !args.plain && std::io::stdout().is_terminal();
    let (mut stage, records) = Stage::set_up(args.policies.as_deref(), &clock).await?;
    let mut story = Story::new(clock.now());
    let mut screen = Screen::open(live, args.speed);
    while !story.is_over() {
        let now = clock.now();
        let mut lines = Vec::new();
        while let Ok(record) = records.try_recv() {
            lines.extend(story.hear(now, &record));
        }
        lines.extend(story.turn(now, &mut stage).await);
        let status = stage.status().await;
        if screen
            .draw(&story.view(now), status.as_ref(), &lines)
            .is_quit()
        {
            story.abort();
        }
        tokio::time::sleep(FRAME).await;
    }
    stage.take_down().await;
    while let Ok(record) = records.try_recv() {
        story.hear(clock.now(), &record);
    }
    screen.close(&story.summary());
    Ok(if story.came_out() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}
