//! What an instance keeps across restarts: checkpoints, on a disk that is busy, full or stuck at times, forgets what was not
//! finished and damages what was.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use kafka_message_scheduler::checkpoint::{Decoder, Store, Written};

use crate::rng::Rng;

/// The disk of one instance after the other.
pub struct Disk {
    /// Complete checkpoints by partition, the newest last.
    images: BTreeMap<usize, Vec<Vec<u8>>>,
    rng: Rng,
}

impl Disk {
    pub fn new(seed: u64) -> Self {
        Self { images: BTreeMap::new(), rng: Rng::new(seed) }
    }
}

/// Where one shard keeps its checkpoints.
pub struct SimStore {
    disk: Arc<Mutex<Disk>>,
    partition: usize,
    /// What was written of the one that was begun.
    begun: Option<Vec<u8>>,
    /// What is being finished, and how often its outcome is asked for in vain.
    finishing: Option<(Vec<u8>, u64)>,
}

impl SimStore {
    pub fn new(disk: &Arc<Mutex<Disk>>, partition: usize) -> Self {
        Self { disk: Arc::clone(disk), partition, begun: None, finishing: None }
    }

    fn with_disk<R>(&self, f: impl FnOnce(&mut Vec<Vec<u8>>, &mut Rng) -> R) -> R {
        let disk = &mut *self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        f(disk.images.entry(self.partition).or_default(), &mut disk.rng)
    }
}

impl Store for SimStore {
    fn open(&mut self) -> Option<Decoder<Box<dyn Read + Send>>> {
        self.with_disk(|images, rng| {
            if let Some(newest) = images.last_mut()
                && rng.permille(100)
            {
                let at = rng.index(newest.len());
                if rng.permille(500) {
                    newest.truncate(at);
                } else {
                    newest[at] ^= 1 << rng.index(8);
                }
            }
            while let Some(newest) = images.last() {
                let source: Box<dyn Read + Send> = Box::new(Cursor::new(newest.clone()));
                match Decoder::open(source) {
                    Ok(opened) => return Some(opened),
                    Err(_) => images.pop(),
                };
            }
            None
        })
    }

    fn discard(&mut self) {
        self.abandon();
        self.with_disk(|images, _| images.clear());
    }

    fn begin(&mut self) {
        self.finishing = None;
        self.begun = Some(Vec::new());
    }

    fn write(&mut self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.with_disk(|_, rng| rng.permille(200)) {
            return Err(bytes);
        }
        self.begun.as_mut().expect("one was begun").extend(bytes);
        Ok(())
    }

    fn finish(&mut self) -> bool {
        if self.with_disk(|_, rng| rng.permille(200)) {
            return false;
        }
        // At times it never answers: then the checkpoint is given up.
        let polls = self.with_disk(|_, rng| if rng.permille(30) { u64::MAX } else { rng.between(0, 5) });
        self.finishing = Some((self.begun.take().expect("one was begun"), polls));
        true
    }

    fn outcome(&mut self) -> Option<Result<Written, String>> {
        let (image, polls) = self.finishing.take()?;
        if polls > 0 {
            self.finishing = Some((image, polls - 1));
            return None;
        }
        Some(self.with_disk(|images, rng| {
            if rng.permille(50) {
                return Err("no space left on device".to_owned());
            }
            if rng.permille(700) {
                images.clear();
            }
            let bytes = image.len() as u64;
            images.push(image);
            Ok(Written { bytes })
        }))
    }

    fn spare(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn abandon(&mut self) {
        self.begun = None;
        self.finishing = None;
    }
}
