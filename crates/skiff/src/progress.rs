//! What a user sees while a command works: a line a step on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

/// The step that is under way.
pub(crate) struct Step {
    bar: Option<ProgressBar>,
    text: String,
}

impl Step {
    /// Begins a step.
    pub(crate) fn begin(text: impl Into<String>) -> Self {
        let text = text.into();
        let bar = io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.set_message(text.clone());
            bar.enable_steady_tick(std::time::Duration::from_millis(80));
            bar
        });
        Self { bar, text }
    }

    /// Ends the step well, with another text if it turned out otherwise.
    pub(crate) fn done(self, text: Option<&str>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        line(&format!("* {}", text.unwrap_or(&self.text)));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line to standard output. That nobody reads it is no failure of the command.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Writes why a command failed to standard error.
pub(crate) fn failure(text: &str) {
    let _ = writeln!(io::stderr(), "X {text}");
}
