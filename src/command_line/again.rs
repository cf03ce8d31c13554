//! Another connection for a client that stays: tried again and again, with a line when one is lost and a line when one is made.
use std::time::Duration;

use super::client::what_happened;
use super::output::say;

/// The pause before the first try.
const FIRST: Duration = Duration::from_millis(50);
/// The pause before each try of many.
const LONGEST: Duration = Duration::from_secs(2);

/// The tries to connect again after one loss.
pub struct Again {
    pause: Duration,
}

impl Again {
    /// Says why the connection was lost; the first try is due.
    pub fn after(why: &str) -> Self {
        say(&format!("corsac: {}; connecting again", what_happened(why)));
        Again { pause: FIRST }
    }

    /// Waits until the next try, longer each time.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST);
    }
}

/// Says that there is a connection again, and what there is to know about it.
pub fn say_connected(note: &str) {
    let separator = if note.is_empty() { "" } else { "; " };
    say(&format!("corsac: connected again{separator}{note}"));
}
