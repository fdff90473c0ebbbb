//! Log lines that a flood of bad input must not turn into a flood of log.

/// Lets a few lines through in each window and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    window_started_ms: u64,
    said: u32,
    unsaid: u64,
}

const WINDOW_MS: u64 = 10_000;
const LINES_PER_WINDOW: u32 = 5;

impl Throttle {
    /// Whether a line may be said at `now_ms` (monotonic); `Some(n)`: yes, and `n` were swallowed since the last one.
    pub(super) fn admit(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms >= self.window_started_ms + WINDOW_MS {
            self.window_started_ms = now_ms;
            self.said = 0;
        }
        if self.said == LINES_PER_WINDOW {
            self.unsaid += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut throttle = Throttle::default();
        let said = (0..100).filter(|_| throttle.admit(1).is_some()).count();
        assert_eq!(said, 5);
        assert_eq!(throttle.admit(1 + WINDOW_MS), Some(95), "the next window says what was swallowed");
    }
}
