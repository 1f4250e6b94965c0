use std::sync::OnceLock;
use tokio::sync::Notify;

/// Something that becomes known once, and that any number of tasks wait for. They are told all at once, and nothing is
/// allocated for one.
#[derive(Debug)]
pub(crate) struct Told<T> {
    value: OnceLock<T>,
    told: Notify,
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self { value: OnceLock::new(), told: Notify::new() }
    }
}

impl<T> Told<T> {
    /// Tells everybody. Only the first time counts.
    pub(crate) fn tell(&self, value: T) {
        // Whoever has found no value before has asked to be told, and is.
        let _is_first = self.value.set(value).is_ok();
        self.told.notify_waiters();
    }

    /// Waits until it is known.
    pub(crate) async fn heard(&self) -> &T {
        loop {
            if let Some(value) = self.value.get() {
                return value;
            }
            let mut told = std::pin::pin!(self.told.notified());
            told.as_mut().enable();
            if self.value.get().is_none() {
                told.await;
            }
        }
    }
}
