//! The lines a child process writes, kept for awaiting one and for showing them when a test fails.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Lines captured so far; clones share them.
#[derive(Clone, Default)]
pub struct Log {
    shared: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Log {
    /// Takes in the lines of `stream` until it ends, on a thread of its own.
    pub fn capture(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                log.shared.0.lock().unwrap().push(text);
                log.shared.1.notify_all();
                line.clear();
            }
        });
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().clone()
    }

    /// Waits for a line that `matches`, among those already there too; `None` after `patience`.
    pub fn await_line(&self, matches: impl Fn(&str) -> bool, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        let (lines, more) = &*self.shared;
        let mut lines = lines.lock().unwrap();
        let mut looked_at = 0;
        loop {
            if let Some(line) = lines[looked_at..].iter().find(|line| matches(line)) {
                return Some(line.clone());
            }
            looked_at = lines.len();
            let remaining = deadline.checked_duration_since(Instant::now())?;
            lines = more.wait_timeout(lines, remaining).unwrap().0;
        }
    }

    /// The last `n` lines, indented, for a failure report.
    pub fn tail(&self, n: usize) -> String {
        tail(&self.lines(), n)
    }
}

/// The last `n` of `lines`, indented, each with a line end.
pub fn tail(lines: &[impl AsRef<str>], n: usize) -> String {
    lines[lines.len().saturating_sub(n)..]
        .iter()
        .fold(String::new(), |tail, line| tail + "    " + line.as_ref() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_are_found_before_and_after_they_are_written() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let log = Log::default();
        log.capture(reader);
        let waiting = thread::spawn({
            let log = log.clone();
            move || log.await_line(|line| line.contains("second"), super::super::PATIENCE)
        });
        writer.write_all(b"the first\nthe sec").unwrap();
        writer.write_all(b"ond\n\xff not text\n").unwrap();
        assert_eq!(waiting.join().unwrap().as_deref(), Some("the second"));
        assert_eq!(
            log.await_line(|line| line.contains("first"), Duration::ZERO).as_deref(),
            Some("the first")
        );
        assert_eq!(log.await_line(|line| line.contains("third"), Duration::from_millis(50)), None);
        drop(writer);
        assert!(log.await_line(|line| line.ends_with("not text"), super::super::PATIENCE).is_some());
        assert_eq!(tail(&log.lines()[..2], 1), "    the second\n");
    }
}
