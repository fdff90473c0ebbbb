//! Reads a file on a thread of its own, ahead of whoever decodes it: that one waits for the disk, but only so long.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// What is read at a time.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// As many pieces there are of one file, once what comes after the first is asked for.
const PIECES: usize = 3;

/// How long the next piece may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was read of a file, piece by piece.
pub(super) struct ReadAhead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// To be filled; the thread ends when nothing can come from here any more.
    buffers: Sender<Vec<u8>>,
    piece: Vec<u8>,
    /// Where in the piece reading goes on.
    at: usize,
    is_first: bool,
    is_at_end: bool,
    patience: Duration,
}

/// What the thread does.
pub(super) struct Feeder {
    source: Box<dyn Read + Send>,
    pieces: Sender<io::Result<Vec<u8>>>,
    buffers: Receiver<Vec<u8>>,
}

/// A file of which the first piece was read.
pub(super) fn read_ahead(first: Vec<u8>, source: Box<dyn Read + Send>) -> (ReadAhead, Feeder) {
    let (piece_sender, pieces) = channel();
    let (buffers, buffer_receiver) = channel();
    let (is_first, is_at_end, patience) = (true, is_last(&first), PATIENCE);
    let reader = ReadAhead { pieces, buffers, piece: first, at: 0, is_first, is_at_end, patience };
    (reader, Feeder { source, pieces: piece_sender, buffers: buffer_receiver })
}

/// Fills a buffer as far as there is something.
pub(super) fn fill(source: &mut dyn Read, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    buffer.resize(PIECE_BYTES, 0);
    let mut len = 0;
    while len < buffer.len() {
        match source.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(len);
    Ok(buffer)
}

/// Only the last is not full.
fn is_last(piece: &[u8]) -> bool {
    piece.len() < PIECE_BYTES
}

impl Feeder {
    /// Reads on until the end, or until nobody wants it any more.
    pub(super) fn run(mut self) {
        while let Ok(buffer) = self.buffers.recv() {
            let piece = fill(&mut *self.source, buffer);
            let is_last = piece.as_ref().map_or(true, |piece| is_last(piece));
            if self.pieces.send(piece).is_err() || is_last {
                return;
            }
        }
    }
}

impl ReadAhead {
    /// Goes on to the next piece.
    fn turn(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.piece);
        self.at = 0;
        let new = if std::mem::take(&mut self.is_first) { PIECES - 1 } else { 0 };
        for more in 0..=new {
            // If the thread has ended, what it said last is still to be heard.
            if more > 0 || buffer.capacity() > 0 {
                let _ = self.buffers.send(std::mem::take(&mut buffer));
            }
        }
        match self.pieces.recv_timeout(self.patience) {
            Ok(piece) => self.piece = piece?,
            Err(RecvTimeoutError::Timeout) => {
                let (mib, s) = (PIECE_BYTES >> 20, self.patience.as_secs_f32());
                let text = format!("the disk did not give the next {mib} MiB within {s} s");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the thread that reads it has ended"));
            }
        }
        self.is_at_end = is_last(&self.piece);
        Ok(())
    }
}

impl Read for ReadAhead {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.is_at_end && !room.is_empty() {
            self.turn()?;
        }
        let len = (&self.piece[self.at..]).read(room)?;
        self.at += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::disallowed_methods, reason = "threads and times are what is tested here")]

    use super::*;
    use std::io::Cursor;
    use std::thread::JoinHandle;

    fn begin(mut source: Box<dyn Read + Send>) -> (ReadAhead, JoinHandle<()>) {
        let first = fill(&mut *source, Vec::new()).unwrap();
        let (reader, feeder) = read_ahead(first, source);
        (reader, std::thread::Builder::new().spawn(move || feeder.run()).unwrap())
    }

    fn file(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 3) as u8).collect()
    }

    /// Gives nothing until it is told what to say.
    struct Stuck(Receiver<io::Error>);
    impl Read for Stuck {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.recv().unwrap_or_else(|_| io::Error::other("given up")))
        }
    }

    #[test]
    fn what_is_read_is_the_file() {
        for len in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 7 * PIECE_BYTES + 5] {
            let (mut reader, thread) = begin(Box::new(Cursor::new(file(len))));
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == file(len), "{len} bytes");
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "and that was all");
            drop(reader);
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_disk_that_hangs_is_waited_for_only_so_long() {
        let (say, stuck) = channel();
        let (mut reader, thread) = begin(Box::new(Cursor::new(file(PIECE_BYTES)).chain(Stuck(stuck))));
        reader.patience = Duration::from_millis(50);
        reader.read_exact(&mut vec![0; PIECE_BYTES]).unwrap();
        for _ in 0..2 {
            let error = reader.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "the disk did not give the next 1 MiB within 0.05 s");
        }
        say.send(io::Error::other("the disk is gone")).unwrap();
        reader.patience = Duration::from_mins(1);
        assert_eq!(reader.read(&mut [0]).unwrap_err().to_string(), "the disk is gone");
        assert!(reader.read(&mut [0]).is_err(), "which is no end");
        thread.join().unwrap();
    }

    #[test]
    fn the_thread_ends_with_the_reader_and_is_only_so_far_ahead() {
        /// Counts what was taken of it.
        struct Endless(Sender<usize>);
        impl Read for Endless {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                self.0.send(room.len()).unwrap();
                Ok(room.len())
            }
        }
        let (sender, taken) = channel();
        let (mut reader, thread) = begin(Box::new(Endless(sender)));
        reader.read_exact(&mut vec![0; PIECE_BYTES]).unwrap();
        assert_eq!(taken.try_iter().sum::<usize>(), PIECE_BYTES, "one that is only opened reads no more");
        reader.read_exact(&mut [0]).unwrap();
        drop(reader);
        thread.join().unwrap();
        assert!(taken.iter().sum::<usize>() <= PIECES * PIECE_BYTES);
    }
}
