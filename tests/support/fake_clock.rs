//! A wall clock that a test sets as it likes, for the scheduler's process alone.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use super::kms::Settings;
use super::now_ms;

/// The wall clock of every process that is started with its [`settings`](Self::settings). How far it is from the true
/// time can be changed at any moment, which is what it is to have one's clock set. `fake_clock.c` does it.
pub struct FakeClock {
    library: PathBuf,
    offset: File,
    history: Mutex<Vec<Setting>>,
    dir: TempDir,
}

/// The clock was set between two true times to be off by so much.
#[derive(Clone, Copy)]
struct Setting {
    between_ms: (i64, i64),
    offset_ms: i64,
}

impl FakeClock {
    /// A clock that is off by `offset_ms`.
    pub fn off_by(offset_ms: i64) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
        let library = dir.path().join("fake_clock.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&library)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake_clock.c"))
            .output()
            .expect("a C compiler, cc, is there");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let offset = File::create(dir.path().join("offset")).expect("a file can be made");
        let clock = Self { library, offset, history: Mutex::default(), dir };
        clock.set_off_by(offset_ms);
        clock
    }

    /// `settings` for a scheduler that has this clock.
    pub fn settings(&self, settings: Settings) -> Settings {
        let path = |path: PathBuf| path.into_os_string().into_string().expect("paths here are text");
        settings
            .env("LD_PRELOAD", &path(self.library.clone()))
            .env("FAKE_CLOCK", &path(self.dir.path().join("offset")))
    }

    /// What the clock says.
    pub fn now_ms(&self) -> i64 {
        now_ms() + self.offset_ms()
    }

    /// How far it is from the true time.
    pub fn offset_ms(&self) -> i64 {
        self.history.lock().unwrap().last().expect("it was set at the start").offset_ms
    }

    /// Sets the clock forward, or back by a negative step.
    pub fn step(&self, by_ms: i64) {
        self.set_off_by(self.offset_ms() + by_ms);
    }

    /// Sets the clock.
    pub fn set_off_by(&self, offset_ms: i64) {
        let mut history = self.history.lock().unwrap();
        let before_ms = now_ms();
        self.offset.write_all_at(&(offset_ms * 1_000_000).to_ne_bytes(), 0).expect("the file can be written");
        history.push(Setting { between_ms: (before_ms, now_ms()), offset_ms });
    }

    /// The latest time that the clock showed between `span` before a true time and then.
    pub fn latest_shown(&self, until_ms: i64, span: Duration) -> i64 {
        let since_ms = until_ms - span.as_millis() as i64;
        let history = self.history.lock().unwrap();
        let ends = history.iter().skip(1).map(|next| next.between_ms.1).chain([i64::MAX]);
        let shown = history.iter().zip(ends).filter(|(setting, end_ms)| {
            // Both settings may be shown while one replaces the other.
            setting.between_ms.0 <= until_ms && *end_ms >= since_ms
        });
        shown
            .map(|(setting, end_ms)| end_ms.min(until_ms) + setting.offset_ms)
            .max()
            .expect("nothing happened before the clock was there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_the_clock_as_it_was_set() {
        let clock = FakeClock::off_by(0);
        let library = clock.library.clone();
        let shown_ms = || {
            let output = Command::new("date")
                .arg("+%s%3N")
                .env("LD_PRELOAD", &library)
                .env("FAKE_CLOCK", clock.dir.path().join("offset"))
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse::<i64>().unwrap()
        };
        for offset_ms in [-3_600_000, 3_600_000] {
            clock.set_off_by(offset_ms);
            let (before_ms, shown_ms, after_ms) = (now_ms(), shown_ms() - offset_ms, now_ms());
            assert!((before_ms..=after_ms).contains(&shown_ms), "{before_ms} {shown_ms} {after_ms}");
        }
    }

    #[test]
    fn the_latest_time_shown_is_that_before_a_step_back_for_as_long_as_asked() {
        let clock = FakeClock::off_by(0);
        let step = |at_ms, offset_ms| {
            clock.history.lock().unwrap().push(Setting { between_ms: (at_ms, at_ms + 1), offset_ms });
        };
        clock.history.lock().unwrap().clear();
        step(0, 0);
        step(1_000, -500);
        step(2_000, 100);
        let shown = |until_ms| clock.latest_shown(until_ms, Duration::from_millis(200));
        assert_eq!(
            [900, 1_000, 1_100, 1_201, 1_202, 1_999].map(shown),
            [900, 1_000, 1_001, 1_001, 702, 1_499]
        );
        assert_eq!([2_000, 2_500].map(shown), [2_100, 2_600]);
    }
}
