//! What the demo says while it runs: one line per event, each with the time since the start.

use std::sync::Arc;

use crate::{cli::output, clock::SystemClock, model::Mono, ports::Clock as _};

/// Says it. Clones speak with the same voice.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    started: Mono,
    aside: Arc<bool>,
}

impl Voice {
    /// Begins to count time. `aside`: stdout is taken by the JSON, so everything else goes to stderr.
    pub(crate) fn new(aside: bool) -> Self {
        Self { started: SystemClock.now(), aside: Arc::new(aside) }
    }

    /// An event that happens now.
    pub(crate) fn say(&self, text: &str) {
        self.say_at(SystemClock.now(), text);
    }

    /// An event that happened at `at`.
    pub(crate) fn say_at(&self, at: Mono, text: &str) {
        let seconds = at.since(self.started).as_secs_f64();
        for (number, line) in text.lines().enumerate() {
            if number == 0 {
                self.print(&format!("{seconds:7.2}  {line}"));
            } else {
                self.print(&format!("         {line}"));
            }
        }
    }

    /// A block of text without times: the report, the summary.
    pub(crate) fn print(&self, text: &str) {
        if *self.aside {
            output::talk(text.trim_end_matches('\n'));
        } else {
            // Whoever read it has gone; the demo still must end what it began.
            let _ = output::data(text);
        }
    }
}
