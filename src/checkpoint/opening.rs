//! Opens the newest checkpoint of a partition, and makes nobody wait for the disk for long.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::Refusal;
use super::decoder::Decoder;
use super::disk::Disk;
use super::lane::Lane;
use super::names::Name;
use super::queue::Queue;
use super::read_ahead::{ReadAhead, fill, read_ahead};

/// How long whoever opens a checkpoint waits for the disk…
const PATIENCE: Duration = Duration::from_secs(1);
/// …and while it has not answered somebody else: many partitions are opened one after the other.
const PATIENCE_IF_LATE: Duration = Duration::from_millis(100);
/// While it owes so many answers it is not asked for more: each takes a thread that may never end.
const MOST_LATE: usize = 16;

/// Opens checkpoints, each on a thread of its own that then reads ahead. A clone counts with the others.
#[derive(Clone)]
pub(super) struct Opener {
    disk: Arc<dyn Disk>,
    queue: Arc<Queue>,
    /// How often the disk was asked and has not answered.
    unanswered: Arc<AtomicUsize>,
}

impl Opener {
    pub(super) fn new(disk: &Arc<dyn Disk>, queue: &Arc<Queue>) -> Self {
        Self { disk: Arc::clone(disk), queue: Arc::clone(queue), unanswered: Arc::default() }
    }

    /// The newest complete checkpoint, with all that was ordered before; `None` as well if the disk takes too long.
    pub(super) fn open(&self, lane: &Arc<Lane>) -> Option<Decoder<Box<dyn Read + Send>>> {
        let (topic, partition) = (&lane.topic, lane.partition);
        let patience = match self.unanswered() {
            0 => PATIENCE,
            owed if owed < MOST_LATE => PATIENCE_IF_LATE,
            _ => {
                tracing::warn!(
                    topic,
                    partition,
                    "no checkpoint is used: the disk has not answered for others"
                );
                return None;
            }
        };
        let (sender, answer) = channel();
        let thread = {
            let (question, lane) = (Question::ask(self), Arc::clone(lane));
            spawn(move || question.answer(&lane, &sender))
        };
        if let Err(error) = thread {
            tracing::warn!(topic, partition, "no checkpoint is used: there is no thread to read it: {error}");
            return None;
        }
        let Ok(found) = answer.recv_timeout(patience) else {
            tracing::warn!(topic, partition, "no checkpoint is used: the disk did not answer in time");
            return None;
        };
        // Its head was read once already.
        let source: Box<dyn Read + Send> = Box::new(found?);
        Decoder::open(source).ok()
    }

    fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }
}

/// One opening, until the disk has answered.
struct Question {
    opener: Opener,
}

impl Question {
    fn ask(opener: &Opener) -> Self {
        opener.unanswered.fetch_add(1, Ordering::Relaxed);
        Self { opener: opener.clone() }
    }

    /// Finds the checkpoint, and reads on as long as somebody wants it.
    fn answer(self, lane: &Lane, asker: &Sender<Option<ReadAhead>>) {
        let Opener { disk, queue, .. } = &self.opener;
        if !queue.settle(&lane.dir, PATIENCE) {
            return;
        }
        let found = newest(&**disk, lane);
        drop(self);
        let Some((first, rest)) = found else {
            let _ = asker.send(None); // who may not wait any more
            return;
        };
        let (reader, feeder) = read_ahead(first, rest);
        if asker.send(Some(reader)).is_ok() {
            feeder.run();
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.opener.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the thread ends with what it reads for, unless the disk never answers"
)]
fn spawn(body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("read-checkpoint".to_owned()).spawn(body).map(|_| ())
}

/// The beginning of a file, and the rest.
type Found = (Vec<u8>, Box<dyn Read + Send>);

/// The newest complete checkpoint that can be read.
pub(super) fn newest(disk: &dyn Disk, lane: &Lane) -> Option<Found> {
    let names = match disk.list(&lane.dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let (topic, partition, dir) = (&lane.topic, lane.partition, lane.dir.display());
            tracing::warn!(topic, partition, "no checkpoint is used: cannot list {dir}: {error}");
            return None;
        }
    };
    let mut complete: Vec<_> =
        names.iter().filter_map(|name| Name::parse(name)).filter(|name| name.is_complete).collect();
    complete.sort_unstable();
    complete.into_iter().rev().find_map(|name| {
        let path = lane.dir.join(name.to_string());
        match open(disk, &path, lane) {
            Ok(opened) => Some(opened),
            Err(refusal) => {
                refuse(disk, &path, lane, &refusal);
                None
            }
        }
    })
}

/// Opens a file whose head is that of a checkpoint of the lane's partition.
fn open(disk: &dyn Disk, path: &Path, lane: &Lane) -> Result<Found, Refusal> {
    let mut rest = disk.open(path).map_err(Refusal::Unreadable)?;
    let first = fill(&mut *rest, Vec::new()).map_err(Refusal::Unreadable)?;
    let decoder = Decoder::open(&first[..])?;
    let (topic, partition) = (&decoder.stand().topic, decoder.stand().partition);
    if (topic.as_str(), partition) != (lane.topic.as_str(), lane.partition) {
        return Err(Refusal::OtherPartition { topic: topic.clone(), partition });
    }
    Ok((first, rest))
}

/// Says why a checkpoint is not used, and removes it unless it may be read another time.
fn refuse(disk: &dyn Disk, path: &Path, lane: &Lane, refusal: &Refusal) {
    let (topic, partition) = (&lane.topic, lane.partition);
    tracing::warn!(topic, partition, "the checkpoint {} is not used: {refusal}", path.display());
    if !matches!(refusal, Refusal::Unreadable(_))
        && let Err(error) = disk.remove(path)
    {
        tracing::warn!(topic, partition, "it cannot be removed either: {error}");
    }
}
