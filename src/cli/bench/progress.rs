//! What is going on, on standard error: a bar on a terminal, otherwise a line for each step that is done.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// A step of a benchmark; its bar goes away with it.
pub(super) struct Step {
    bar: ProgressBar,
    what: String,
    began: Instant,
}

impl Step {
    /// A step that counts up to `total`.
    pub(super) fn begin(what: impl Into<String>, total: u64) -> Self {
        let what = what.into();
        // Hidden by itself where standard error is no terminal.
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{msg:<44} {wide_bar} {human_pos} of {human_len}  {eta}");
        bar.set_style(style.expect("the template is right"));
        bar.set_message(what.clone());
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, what, began: Instant::now() }
    }

    /// How far it is.
    pub(super) fn reach(&self, count: u64) {
        self.bar.set_position(count);
    }

    /// Ends it and says how it went.
    pub(super) fn done(self, count: u64) {
        let took = self.began.elapsed().as_secs_f64();
        if self.bar.is_hidden() {
            eprintln!("{}: {} in {took:.1} s", self.what, HumanCount(count));
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
