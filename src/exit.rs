//! The exit codes of every command, in one table.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | ok |
//! | 1 | failed, or found something |
//! | 2 | used wrongly: an unknown option, a malformed order |
//! | 78 | the configuration is wrong (`EX_CONFIG` of `sysexits.h`) |

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Ok,
    /// It failed, or it found what it looks for: a bad policy, a damaged journal.
    Failed,
    /// It was called wrongly: asked anew in the same words it fails again.
    Usage,
    /// The configuration is wrong: starting again will not help.
    Config,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
