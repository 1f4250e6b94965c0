//! What a person sees while something takes its time.

use crate::output::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;

/// Shows lines and bars on standard error, or nothing at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// For people.
    Shown,
    /// For programs and tests.
    Silent,
}

impl Progress {
    /// A step that is done.
    pub fn done(self, line: fmt::Arguments<'_>) {
        if self == Self::Shown {
            say(format_args!("  ✓ {line}"));
        }
    }

    /// A bar over `length` things.
    pub fn bar(self, length: u64, message: &'static str) -> ProgressBar {
        let template = "  {spinner} {msg} [{bar:30}] {human_pos} of {human_len}, {per_sec}, {eta} left";
        self.styled(ProgressBar::new(length), template, message)
    }

    /// A bar over bytes.
    pub fn bytes(self, message: &'static str) -> ProgressBar {
        self.styled(ProgressBar::new(0), "  {spinner} {msg} [{bar:30}] {bytes} of {total_bytes}", message)
    }

    /// Something of unknown length.
    pub fn spinner(self, message: &'static str) -> ProgressBar {
        self.styled(ProgressBar::new_spinner(), "  {spinner} {msg} ({elapsed})", message)
    }

    fn styled(self, bar: ProgressBar, template: &str, message: &'static str) -> ProgressBar {
        if self == Self::Silent {
            return ProgressBar::hidden();
        }
        // The templates above are constants that parse; a bar in the default style would do as well.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("█▓░"));
        }
        bar.set_message(message);
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        bar
    }
}
