//! What happened, line by line, for whoever replays a seed.

use super::Tick;

/// The trace of one run; empty unless asked for, because formatting costs more than simulating.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) on: bool,
    pub(crate) tick: Tick,
    pub(crate) lines: Vec<String>,
}

impl Log {
    pub(crate) fn say(&mut self, text: impl FnOnce() -> String) {
        if self.on {
            let ms = self.tick * 10;
            self.lines.push(format!("{:>4}.{:02} {}", ms / 1000, ms % 1000 / 10, text()));
        }
    }
}
