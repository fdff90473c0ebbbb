//! What a shard keeps for its next start: it begins with a checkpoint if there is one, and takes one now and then.
//!
//! The log stays the truth. A checkpoint is what the log says below some offset, so that only what comes after it has to
//! be read; whatever is doubtful about one makes the shard load the log from its beginning.
//!
//! It is taken while the shard goes on: its set is walked a piece at a time, so a schedule that changes meanwhile is in
//! the checkpoint as it was or as it is, or not at all if it came or went. That does no harm: all of these changes lie
//! after the offset that the checkpoint stands for, and reading them again brings the set to the same end.

use std::collections::VecDeque;
use std::io::Read;
use std::time::Duration;

use crate::checkpoint::{Boot, Decoder, Encoder, Kept, Moment, Refusal, Stand, Store};
use crate::engine::ListCursor;
use crate::engine::shard::Shard;
use crate::kafka::{Clock, Log, LogError, Resume, Transactions, Uptime, Watermarks};

use super::order::Order;
use super::runner::{Interrupted, Runner, SLICE};
use super::status::{self, CheckpointOutcome};

/// What there is to begin with: a checkpoint whose head was read.
pub type Opened = Decoder<Box<dyn Read + Send>>;

/// A new checkpoint is worth its writing once reading the rest of the log would cost a good part of what loading it does:
/// that is an eighth as many offsets as there are schedules, and [`ShardSettings::checkpoint_after`] at least.
///
/// [`ShardSettings::checkpoint_after`]: super::settings::ShardSettings::checkpoint_after
const WORTH_PART: usize = 8;
/// One that is older than this part of the time that tombstones are kept is renewed, however little came since.
const WORTH_AGE: u32 = 4;
/// And in any case one that is older than this: files that nobody has written to for a week are removed
/// (`checkpoint/tidying.rs`).
const LONGEST_AGE: Duration = Duration::from_hours(24);
/// How often it is looked whether a new one is worth it.
const LOOK_EVERY_MS: u64 = 1_000;
/// After something went wrong, the next attempt comes in so long.
const TRY_AGAIN_MS: u64 = 60_000;
/// How long a checkpoint may wait for what its age is measured by, which must not be older than…
const RETENTION_PATIENCE_MS: u64 = 10_000;
/// …this.
const RETENTION_OLDEST_MS: u64 = 10_000;
/// If the log does not go on, the brokers are asked again in so long whether it is still the same.
const CONFIRM_AGAIN_MS: u64 = 10_000;
/// A partition whose log nobody confirms is loaded from its beginning after so long.
const CONFIRM_PATIENCE_MS: u64 = 60_000;
/// How records are read. To be raised by whoever makes of any record something else than before: a checkpoint has only
/// what was made of them.
const READING: u32 = 1;
/// One of which the disk has taken nothing for so long is given up.
const STUCK_MS: u64 = 60_000;
/// While the disk has enough to do, so long until it is asked again.
const BUSY: Duration = Duration::from_millis(5);

/// The checkpoints of one shard.
#[derive(Default)]
pub struct Checkpoints {
    store: Option<Box<dyn Store>>,
    /// What the shard is to begin with.
    opened: Option<Opened>,
    /// What it has begun with.
    begun: Option<Begun>,
    /// The newest one that is complete.
    newest: Option<Newest>,
    stage: Stage,
    /// When something of it was taken last, monotonic.
    progress_ms: u64,
    /// Not before this time, monotonic.
    not_before_ms: u64,
}

/// The checkpoint that a shard has begun with.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// From where the log was read on.
    resume: Resume,
    taken: Moment,
    /// Where the log began then.
    log_start: i64,
    /// How long tombstones were kept then. What a later setting says does not hold for those that were cleaned before.
    retention: Duration,
    /// All that came after it was read.
    is_caught_up: bool,
    /// When the brokers are to be asked again whether the log is still the same (monotonic), if nothing was read until then.
    confirm_at_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    offset: i64,
    taken: Moment,
    bytes: Option<u64>,
}

/// How far the next one is.
#[derive(Default)]
enum Stage {
    /// Nothing is under way.
    #[default]
    Idle,
    /// The end of the log was asked for after `taken`: what lies beyond it was written later.
    Asked { taken: Moment },
    /// That end is known; the shard has to have got there, for the age of a checkpoint to be that of what comes after it.
    Reaching { taken: Moment, watermarks: Watermarks },
    /// The set is being walked.
    Walking(Box<Walk>),
    /// Everything is handed over and is being written.
    Writing(Newest),
}

struct Walk {
    newest: Newest,
    /// What goes on where; `None` when all was seen.
    rest: Option<(Encoder, ListCursor)>,
    /// Blocks that the store has no room for yet.
    outbox: VecDeque<Vec<u8>>,
    /// The store took nothing of it.
    is_stuck: bool,
}

impl Checkpoints {
    /// Checkpoints kept in `store`, of which `opened` is the newest.
    #[must_use]
    pub fn new(store: Box<dyn Store>, opened: Option<Opened>) -> Self {
        Self { store: Some(store), opened, ..Self::default() }
    }

    /// All that came after what the shard has begun with is read.
    pub(super) fn trust(&mut self) {
        if let Some(begun) = &mut self.begun {
            begun.is_caught_up = true;
        }
    }

    /// What the shard has begun with, while not all that came after it is read.
    fn doubted(&self) -> Option<&Begun> {
        self.begun.as_ref().filter(|begun| !begun.is_caught_up)
    }

    /// When the newest complete one was taken, epoch milliseconds, and its size if it was written by this shard.
    pub(super) fn newest(&self) -> Option<(i64, Option<u64>)> {
        self.newest.map(|newest| (newest.taken.wall_ms, newest.bytes))
    }

    /// When there is something to do about the one that is being taken; `None`: nothing that the log would not tell.
    pub(super) fn next_step(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Walking(walk) if walk.outbox.is_empty() => Some(Duration::ZERO),
            Stage::Walking(_) => Some(BUSY),
            Stage::Asked { .. } => Some(SLICE),
            Stage::Idle | Stage::Reaching { .. } | Stage::Writing(_) => None,
        }
    }

    /// Its content cannot be read: it is of no use to anybody.
    fn refuse(&mut self, refusal: &Refusal) -> Interrupted {
        // A disk that does not answer may have a good one.
        if !matches!(refusal, Refusal::Unreadable(_))
            && let Some(store) = &mut self.store
        {
            store.discard();
        }
        doubtful(refusal)
    }

    fn is_worth_it(&self, shard: &Shard, now: &Moment, least: i64, retention: Duration) -> bool {
        let Some(newest) = self.newest else { return true };
        let tail = shard.applied() - newest.offset;
        tail >= least.max((shard.pending().len() / WORTH_PART) as i64)
            || newest.taken.age(now).is_none_or(|age| age >= (retention / WORTH_AGE).min(LONGEST_AGE))
    }
}

/// Where the log is to be read on after a checkpoint.
#[must_use]
pub fn resume_at(stand: &Stand) -> Resume {
    Resume { offset: stand.offset, leader_epoch: stand.leader_epoch }
}

/// The time by both clocks that a checkpoint's age is measured with.
fn moment(clock: &impl Clock) -> Moment {
    let boot = clock.uptime().map(|Uptime { boot_id, since_boot_ms }| Boot { id: boot_id, since_boot_ms });
    Moment { wall_ms: clock.now_ms(), boot }
}

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    /// Fills the set from the checkpoint that the shard was given, if it was. Before anything is read of the log.
    pub(super) fn restore(&mut self) -> Result<(), Interrupted> {
        let Some(mut opened) = self.checkpoints.opened.take() else { return Ok(()) };
        let stand = opened.stand().clone();
        self.status.set_phase(status::Phase::Loading);
        let retention = self.retention_soon()?;
        self.check_stand(&stand)?;
        let now_ms = self.clock.monotonic_ms();
        self.checkpoints.begun = Some(Begun {
            resume: resume_at(&stand),
            taken: stand.taken,
            log_start: stand.log_start,
            retention: retention.min(Duration::from_millis(stand.tombstone_retention_ms)),
            is_caught_up: false,
            confirm_at_ms: now_ms + CONFIRM_AGAIN_MS,
        });
        self.check_age()?;
        self.confirm(resume_at(&stand))?;
        self.shard.lay_out(usize::try_from(stand.schedules).unwrap_or(usize::MAX));
        loop {
            self.status.beat();
            if self.control.order() != Order::Run {
                return Err(Interrupted::Ordered);
            }
            let block = opened.next_block().map_err(|refusal| self.checkpoints.refuse(&refusal))?;
            let Some(block) = block else { break };
            for kept in block.schedules() {
                let kept = kept.map_err(|refusal| self.checkpoints.refuse(&refusal))?;
                let Kept { id, offset, format, schedule, record_headers, held } = kept;
                if let Some(handle) = self.shard.restore(id, offset, format, &schedule, record_headers, held)
                {
                    self.repairs.push_back(handle);
                    self.repair_offsets.insert(handle, i64::MAX);
                }
            }
            self.publish_now_and_then();
        }
        // How far the log is applied, only the log can say: nothing is live before it has.
        self.checkpoints.newest = Some(Newest { offset: stand.offset, taken: stand.taken, bytes: None });
        self.checkpoints.not_before_ms = now_ms + self.settings.checkpoint_interval.as_millis() as u64;
        self.counters.checkpoints.of(CheckpointOutcome::Restored).increment();
        tracing::info!(
            topic = self.topic,
            partition = self.partition,
            schedules = self.shard.pending().len(),
            offset = stand.offset,
            taken_ms = stand.taken.wall_ms,
            took_ms = self.clock.monotonic_ms() - now_ms,
            "began with a checkpoint"
        );
        Ok(())
    }

    /// How long the topic keeps tombstones, by a recent answer.
    fn retention_soon(&mut self) -> Result<Duration, Interrupted> {
        let began_ms = self.clock.monotonic_ms();
        loop {
            self.status.beat();
            let since_ms = began_ms.saturating_sub(RETENTION_OLDEST_MS);
            if let Some(retention) = self.settings.facts.tombstone_retention_since(since_ms) {
                return Ok(retention);
            }
            if self.control.order() != Order::Run {
                return Err(Interrupted::Ordered);
            }
            if self.clock.monotonic_ms() > began_ms + RETENTION_PATIENCE_MS {
                return Err(doubtful(&"the topic's delete.retention.ms, which limits its age, is not known"));
            }
            self.log.pause(SLICE / 5);
        }
    }

    /// It has to be about this very topic, and about records that were read as this shard reads them.
    fn check_stand(&self, stand: &Stand) -> Result<(), Interrupted> {
        if self.applier.topic_id() != Some(&stand.topic_id) {
            return Err(doubtful(&"the topic was deleted and created again"));
        }
        if stand.read_as != self.read_as() {
            return Err(doubtful(&format_args!(
                "records were read another way when it was taken ({}, now {})",
                stand.read_as,
                self.read_as()
            )));
        }
        Ok(())
    }

    /// How records are read, which decides what becomes of them.
    fn read_as(&self) -> String {
        let rejections = &self.settings.all.rejections.topic;
        format!("{:?}, rejections to {rejections:?}, version {READING}", self.settings.format)
    }

    /// Tombstones of what came after the checkpoint that the shard has begun with must not have been cleaned away.
    pub(super) fn check_age(&self) -> Result<(), Interrupted> {
        let Some(begun) = self.checkpoints.doubted() else { return Ok(()) };
        let Some(age) = begun.taken.age(&moment(&self.clock)) else {
            return Err(doubtful(&"by the clock it is from the future"));
        };
        let retention = self.settings.facts.tombstone_retention().unwrap_or_default().min(begun.retention);
        if age < retention {
            return Ok(());
        }
        Err(doubtful(&format_args!(
            "it is {} s old, and the topic keeps tombstones for {} s (delete.retention.ms) only",
            age.as_secs(),
            retention.as_secs()
        )))
    }

    /// The log must not end before the checkpoint that the shard has begun with, nor begin later than it did then.
    pub(super) fn check_watermarks(&self, now: Watermarks) -> Result<(), Interrupted> {
        let Some(Begun { resume, log_start, .. }) = self.checkpoints.doubted() else { return Ok(()) };
        let Watermarks { low, high } = now;
        if high < resume.offset {
            let offset = resume.offset;
            return Err(doubtful(&format_args!("it stands for offset {offset}, and the log ends at {high}")));
        }
        if low > *log_start {
            return Err(doubtful(&format_args!(
                "records were deleted from the log since: it began at offset {log_start}, now at {low}"
            )));
        }
        Ok(())
    }

    /// Asks the brokers whether the log is still the one that was read up to there.
    fn confirm(&mut self, resume: Resume) -> Result<(), Interrupted> {
        let give_up_ms = self.clock.monotonic_ms() + CONFIRM_PATIENCE_MS;
        self.patiently(|this| match this.log.confirm(resume, SLICE * 4) {
            Err(LogError::Retriable(reason)) if this.clock.monotonic_ms() > give_up_ms => {
                Err(LogError::OutOfRange(format!("nobody could confirm it: {reason}")))
            }
            Err(gone @ LogError::OutOfRange(_)) => Err(LogError::OutOfRange(gone.to_string())),
            answer => answer,
        })
    }

    /// Asks the brokers again whether the log is still the same, should the question have been lost.
    pub(super) fn confirm_again(&mut self) -> Result<(), Interrupted> {
        let now_ms = self.clock.monotonic_ms();
        let has_read = self.shard.applied() > 0;
        if let Some(begun) = &mut self.checkpoints.begun
            && !has_read
            && now_ms >= begun.confirm_at_ms
        {
            begun.confirm_at_ms = now_ms + CONFIRM_AGAIN_MS;
            let resume = begun.resume;
            self.confirm(resume)?;
        }
        Ok(())
    }

    /// A step towards the next checkpoint, of some tenths of a millisecond.
    pub(super) fn step_checkpoint(&mut self) {
        let Some(store) = &mut self.checkpoints.store else { return };
        let now_ms = self.clock.monotonic_ms();
        match std::mem::take(&mut self.checkpoints.stage) {
            Stage::Idle => self.begin_checkpoint(),
            Stage::Asked { taken } => match self.log.watermarks_answer() {
                None => self.checkpoints.stage = Stage::Asked { taken },
                Some(Ok(watermarks)) => self.checkpoints.stage = Stage::Reaching { taken, watermarks },
                Some(Err(error)) => {
                    tracing::debug!(
                        topic = self.topic,
                        partition = self.partition,
                        "no checkpoint yet: {error}"
                    );
                    self.checkpoints.not_before_ms = now_ms + TRY_AGAIN_MS;
                }
            },
            Stage::Reaching { taken, watermarks } => {
                self.checkpoints.progress_ms = now_ms;
                self.checkpoints.stage = self.reach(taken, watermarks);
            }
            Stage::Walking(mut walk) => {
                let is_handed_over = walk.step(&self.shard, store.as_mut());
                if !walk.is_stuck {
                    self.checkpoints.progress_ms = now_ms;
                }
                self.checkpoints.stage =
                    if is_handed_over { Stage::Writing(walk.newest) } else { Stage::Walking(walk) };
            }
            Stage::Writing(newest) => {
                while store.spare().is_some() {
                    self.checkpoints.progress_ms = now_ms;
                }
                self.checkpoints.stage = Stage::Writing(newest);
            }
        }
        self.hear_of_checkpoint();
        let is_under_way = matches!(self.checkpoints.stage, Stage::Walking(_) | Stage::Writing(_));
        if is_under_way && now_ms >= self.checkpoints.progress_ms + STUCK_MS {
            self.fail_checkpoint("the disk has taken nothing for a minute");
        }
    }

    fn begin_checkpoint(&mut self) {
        let now_ms = self.clock.monotonic_ms();
        let Some(retention) = self.settings.facts.tombstone_retention() else { return };
        // Without an ID a topic made anew could not be told from the one that this is about.
        let is_known = self.applier.topic_id().is_some_and(|id| !id.is_empty());
        if now_ms < self.checkpoints.not_before_ms || !is_known {
            return;
        }
        self.checkpoints.not_before_ms = now_ms + LOOK_EVERY_MS;
        let taken = moment(&self.clock);
        if self.checkpoints.is_worth_it(&self.shard, &taken, self.settings.checkpoint_after, retention) {
            self.log.ask_watermarks();
            self.checkpoints.stage = Stage::Asked { taken };
        }
    }

    /// The walk begins once what was written before `taken` is applied.
    fn reach(&mut self, taken: Moment, watermarks: Watermarks) -> Stage {
        let began_at = self.checkpoints.begun.map(|begun| begun.resume);
        let resume = self.log.resume().or(began_at);
        let retention = self.settings.facts.tombstone_retention();
        let (Some(resume), Some(topic_id), Some(retention)) = (resume, self.applier.topic_id(), retention)
        else {
            return Stage::Reaching { taken, watermarks };
        };
        if resume.offset < watermarks.high || self.shard.applied() < resume.offset {
            return Stage::Reaching { taken, watermarks };
        }
        let pending = self.shard.pending();
        let stand = Stand {
            topic: self.topic.clone(),
            partition: self.partition,
            topic_id: topic_id.to_owned(),
            offset: resume.offset,
            leader_epoch: resume.leader_epoch,
            hash_seed: pending.hash_seed(),
            schedules: pending.len() as u64,
            taken,
            log_start: watermarks.low,
            tombstone_retention_ms: retention.as_millis() as u64,
            read_as: self.read_as(),
        };
        if let Some(store) = &mut self.checkpoints.store {
            store.begin();
        }
        Stage::Walking(Box::new(Walk {
            newest: Newest { offset: stand.offset, taken, bytes: None },
            rest: Some((Encoder::new(&stand), ListCursor::default())),
            outbox: VecDeque::new(),
            is_stuck: false,
        }))
    }

    /// What became of the one that was handed over.
    fn hear_of_checkpoint(&mut self) {
        let Some(outcome) = self.checkpoints.store.as_mut().and_then(|store| store.outcome()) else { return };
        let now_ms = self.clock.monotonic_ms();
        match (outcome, std::mem::take(&mut self.checkpoints.stage)) {
            (Ok(written), Stage::Writing(newest)) => {
                self.checkpoints.newest = Some(Newest { bytes: Some(written.bytes), ..newest });
                self.checkpoints.not_before_ms =
                    now_ms + self.settings.checkpoint_interval.as_millis() as u64;
                self.counters.checkpoints.of(CheckpointOutcome::Written).increment();
                tracing::info!(
                    topic = self.topic,
                    partition = self.partition,
                    offset = newest.offset,
                    bytes = written.bytes,
                    "took a checkpoint"
                );
            }
            // Of one that was given up.
            (Ok(_), stage) => self.checkpoints.stage = stage,
            (Err(reason), _) => self.fail_checkpoint(&reason),
        }
    }

    /// The one that is under way is given up.
    fn fail_checkpoint(&mut self, reason: &str) {
        self.checkpoints.stage = Stage::Idle;
        self.checkpoints.not_before_ms = self.clock.monotonic_ms() + TRY_AGAIN_MS;
        if let Some(store) = &mut self.checkpoints.store {
            store.abandon();
        }
        self.counters.checkpoints.of(CheckpointOutcome::Failed).increment();
        tracing::warn!(
            topic = self.topic,
            partition = self.partition,
            "no checkpoint was written, the one before stays: {reason}"
        );
    }
}

impl Walk {
    /// Encodes a piece more of the set and hands over what the store has room for. True: all of it is handed over.
    fn step(&mut self, shard: &Shard, store: &mut dyn Store) -> bool {
        self.is_stuck = !self.outbox.is_empty();
        while let Some(block) = self.outbox.pop_front() {
            if let Err(block) = store.write(block) {
                self.outbox.push_front(block);
                return false;
            }
            self.is_stuck = false;
        }
        let Some((mut encoder, cursor)) = self.rest.take() else { return store.finish() };
        while let Some(spare) = store.spare() {
            encoder.recycle(spare);
        }
        let outbox = &mut self.outbox;
        let next = shard.pending().snapshot(cursor, &mut |view, held| {
            encoder.push(&Kept {
                id: view.id,
                offset: view.offset,
                format: view.format,
                schedule: view.schedule,
                record_headers: view.record_headers,
                held,
            });
            while let Some(block) = encoder.take() {
                outbox.push_back(block);
            }
        });
        match next {
            Some(cursor) => self.rest = Some((encoder, cursor)),
            None => outbox.push_back(encoder.finish()),
        }
        false
    }
}

/// A checkpoint that is not to be trusted: it costs the time of a whole load, and nothing else.
fn doubtful(why: &dyn std::fmt::Display) -> Interrupted {
    Interrupted::Reload(format!("the checkpoint is passed over: {why}"))
}
