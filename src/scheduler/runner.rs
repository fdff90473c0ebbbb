//! The loop of a shard's thread: take over, load, then read and fire until told to stop.
//!
//! Everything the thread needs is in here and nobody else's; others reach it through [`Control`] and the command lane.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Handle;
use crate::engine::shard::{Applied, Phase, Shard};
use crate::kafka::clock::ClockSteps;
use crate::kafka::{Clock, Kind, Log, LogError, LogItem, TransactionError, Transactions};

use super::checkpoints::Checkpoints;
use super::command::{Answer, Command, CommandReceiver};
use super::commands::answer;
use super::fire::Firing;
use super::order::{Control, Order};
use super::publish::Progress;
use super::record::{Applier, Now};
use super::settings::ShardSettings;
use super::status::{self, PartitionStatus, TopicCounters, TransactionOutcome};

/// How long any one call may block before the thread looks up: for orders, and to show that it lives.
pub(super) const SLICE: Duration = Duration::from_millis(250);
/// Sleeps are capped, so that a machine that was suspended notices the new time soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Records applied between two looks at the clock.
const READ_BUDGET: usize = 2_000;
/// Entries moved in the wheel between two looks at the clock.
pub(super) const ADVANCE_BUDGET: usize = 4_000;

/// Steps of housekeeping in a round: some tens of microseconds, so that it never keeps anything that is due waiting.
const TIDY_BUDGET: usize = 1_000;

/// A record that replaces or cancels leaves a stale hint, which takes five looks to find where a quarter is stale, and now
/// and then an entry has to be moved.
const TIDY_STEPS_A_RECORD: usize = 8;
/// After an end that took too long. A process that stood still in it finds out first that the group has given its partitions to
/// others, and does not disturb them.
const FENCE_ANEW_MS: u64 = 500;
/// After another instance fenced this one: longer than a heartbeat round, so that a loss of the partition is known
/// before the new owner would be disturbed.
const FENCED_BACKOFF_MS: u64 = 4_000;
const BACKOFF_LONGEST_MS: u64 = 60_000;
/// An answer about the topic's ID counts for so long. The watch asks more often, so a shard asks only when that is held up.
const TOPIC_CONFIRMED_FOR_MS: u64 = 3_000;
/// A round that recovers from an error and waits before it tries again takes no longer than this.
const ROUND_LONGEST: Duration = Duration::from_mins(2);

/// How a shard's thread ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As ordered.
    Stopped,
    /// What was loaded is worthless; the partition must be loaded anew.
    Reload(String),
}

/// Why a round of the loop was left.
#[derive(Debug)]
pub(super) enum Interrupted {
    Transaction(TransactionError),
    Reload(String),
    Ordered,
}

impl From<TransactionError> for Interrupted {
    fn from(error: TransactionError) -> Self {
        Self::Transaction(error)
    }
}

/// A shard and its connections to the world.
pub struct Runner<L, T, C> {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) shard: Shard,
    pub(super) log: L,
    pub(super) transactions: T,
    pub(super) clock: C,
    pub(super) settings: Arc<ShardSettings>,
    pub(super) control: Arc<Control>,
    pub(super) status: Arc<PartitionStatus>,
    pub(super) counters: Arc<TopicCounters>,
    pub(super) applier: Applier,
    pub(super) firing: Firing,
    pub(super) commands: CommandReceiver,
    /// Taken from the lane, not yet begun.
    pub(super) waiting: VecDeque<Command>,
    /// Steps of walks that were asked for, for the next rounds.
    pub(super) walks: VecDeque<Command>,
    /// A command whose record was appended at this offset in a transaction of unknown outcome.
    pub(super) unresolved: Option<(i64, Command)>,
    /// Everything below is applied, own records that were committed included, whatever is read again.
    pub(super) applied_below: i64,
    /// Where the last record lies that was written outside of any transaction; −1: there is none.
    pub(super) written_plainly: i64,
    /// Versions that an acknowledgement of an older one overtook; to be written again.
    pub(super) repairs: VecDeque<Handle>,
    /// Where each of them will be in the log: `i64::MAX` until it is written, then its offset, until that is read. A
    /// tombstone before that place, which overtakes the version as well, asks for no second repair.
    pub(super) repair_offsets: HashMap<Handle, i64>,
    /// How often each of them failed.
    pub(super) repair_attempts: HashMap<Handle, u32>,
    /// No transaction is begun before the log is readable up to here: a foreign transaction holds it back.
    pub(super) blocked_until: Option<i64>,
    /// The log is gone; remembered here because it is said once, maybe in the middle of something else.
    gone: Option<String>,
    clock_steps: ClockSteps,
    /// By how much the clock was set forward since the last round began, as it is when the machine was suspended.
    set_forward_ms: u64,
    /// When the last round of the loop began.
    round_began_ms: Option<u64>,
    backoff_ms: u64,
    /// The partition is not taken over before (monotonic).
    fence_at_ms: u64,
    load_started_ms: Option<u64>,
    pub(super) checkpoints: Checkpoints,
    /// When the first record of the load under way had been applied.
    first_applied_ms: Option<u64>,
    pub(super) publish_at_ms: u64,
    /// The end of the log that was reported last: a last stable offset.
    pub(super) last_end: i64,
    pub(super) progress: Progress,
}

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    /// A shard about to take its partition over.
    #[allow(
        clippy::too_many_arguments,
        reason = "called where a shard's thread is made, with what is known there alone"
    )]
    pub fn new(
        topic: &str,
        partition: i32,
        shard: Shard,
        log: L,
        transactions: T,
        clock: C,
        settings: Arc<ShardSettings>,
        control: Arc<Control>,
        status: Arc<PartitionStatus>,
        counters: Arc<TopicCounters>,
        commands: CommandReceiver,
        checkpoints: Checkpoints,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            applier: Applier::new(topic, partition, settings.format, Some(&settings.all.rejections.topic)),
            firing: Firing::new(settings.max_count),
            shard,
            log,
            transactions,
            clock,
            settings,
            control,
            status,
            counters,
            commands,
            waiting: VecDeque::new(),
            walks: VecDeque::new(),
            unresolved: None,
            applied_below: 0,
            written_plainly: -1,
            repairs: VecDeque::new(),
            repair_offsets: HashMap::new(),
            repair_attempts: HashMap::new(),
            blocked_until: None,
            gone: None,
            clock_steps: ClockSteps::default(),
            set_forward_ms: 0,
            round_began_ms: None,
            backoff_ms: 0,
            fence_at_ms: 0,
            load_started_ms: None,
            checkpoints,
            first_applied_ms: None,
            publish_at_ms: 0,
            last_end: -1,
            progress: Progress::default(),
        }
    }

    /// Runs until ordered to stop or until the log under it is gone.
    pub fn run(&mut self) -> Ended {
        loop {
            self.status.beat();
            if self.control.order() != Order::Run {
                self.status.set_phase(status::Phase::Stopping);
                return Ended::Stopped;
            }
            self.heed_clock();
            if let Some(reason) = self.gone.take().or_else(|| self.slept_too_long()) {
                return Ended::Reload(reason);
            }
            self.publish_now_and_then();
            match self.round() {
                Ok(()) => {}
                Err(Interrupted::Ordered) => {
                    self.shard.unfence();
                }
                Err(Interrupted::Reload(reason)) => return Ended::Reload(reason),
                Err(Interrupted::Transaction(error)) => self.recover(&error),
            }
        }
    }

    /// Tells the set if the clock was set.
    fn heed_clock(&mut self) {
        if let Some(step_ms) = self.clock_steps.look(&self.clock) {
            self.set_forward_ms += step_ms.max(0) as u64;
            self.shard.clock_was_set(step_ms);
        }
    }

    /// What the clock will say in so many milliseconds, for the set to wait until then.
    pub(super) fn time_in(&mut self, delay_ms: u64) -> i64 {
        // Were it set since the last look, and back before the next, nobody would know.
        self.heed_clock();
        self.clock.now_ms().saturating_add(delay_ms as i64)
    }

    /// A thread that stood still for longer than tombstones are kept may find them cleaned away unread. The monotonic clock
    /// does not go on while a machine is suspended; afterwards the wall clock has been set forward by so much.
    fn slept_too_long(&mut self) -> Option<String> {
        let now_ms = self.clock.monotonic_ms();
        let round_ms = now_ms - self.round_began_ms.replace(now_ms).unwrap_or(now_ms);
        let stood_still = Duration::from_millis(round_ms + std::mem::take(&mut self.set_forward_ms));
        let retention = self.settings.facts.tombstone_retention()?;
        (stood_still >= retention.max(ROUND_LONGEST)).then(|| {
            format!(
                "stood still, or was suspended, for {stood_still:?} by the clock: longer than the topic keeps tombstones \
                 ({retention:?})"
            )
        })
    }

    fn round(&mut self) -> Result<(), Interrupted> {
        match self.shard.phase() {
            Phase::Unfenced => self.take_over(),
            Phase::CatchingUp { target } => self.catch_up(target),
            Phase::Filing => {
                self.shard.file(self.clock.now_ms(), ADVANCE_BUDGET);
                if self.shard.phase() == Phase::Live { self.went_live() } else { Ok(()) }
            }
            Phase::Live => self.serve(),
        }
    }

    /// After an end that took too long: the partition is taken over again, but not at once.
    pub(super) fn fence_anew(&mut self) {
        self.shard.unfence();
        self.fence_at_ms = self.clock.monotonic_ms() + FENCE_ANEW_MS;
    }

    /// Learns the topic's ID, ends every other writer of this shard's transactional ID, then asks where the log ends.
    fn take_over(&mut self) -> Result<(), Interrupted> {
        self.status.set_phase(status::Phase::Fencing);
        self.pause_until(self.fence_at_ms);
        if self.control.order() != Order::Run {
            return Err(Interrupted::Ordered);
        }
        // The consumer has been fetching since the assignment: what it read first may be as old as that.
        self.load_started_ms.get_or_insert(self.clock.monotonic_ms());
        self.identify_topic()?;
        self.restore()?;
        self.status.set_phase(status::Phase::Fencing);
        self.until_answered(|this| this.transactions.fence(SLICE))?;
        self.counters.fences.increment();
        self.firing.forget_destinations();
        // Only now: what the predecessor committed before it was fenced lies below this.
        let watermarks = self.patiently(|this| this.log.watermarks(SLICE * 4))?;
        self.check_watermarks(watermarks)?;
        let target = watermarks.high;
        self.status.records_to_apply.set(target);
        self.status.end_offset.set(target);
        self.status.set_phase(status::Phase::Loading);
        self.shard.fenced(target);
        // Nothing new may have come since it was live before.
        if self.shard.phase() == Phase::Live { self.went_live() } else { Ok(()) }
    }

    fn identify_topic(&mut self) -> Result<(), Interrupted> {
        let asked_ms = self.clock.monotonic_ms();
        let topic_id = self.patiently(|this| this.log.topic_id(SLICE * 4))?;
        if !self.applier.identify(&topic_id) {
            return Err(Interrupted::Reload(format!(
                "the topic was deleted and created again (ID now {topic_id})"
            )));
        }
        self.settings.facts.set_id(&topic_id, asked_ms);
        Ok(())
    }

    /// Before anything is written: the topic is the one that was loaded, as of a moment ago. One that was deleted and
    /// created again takes writes and yields records like the old one, to whoever was away meanwhile.
    pub(super) fn confirm_topic(&mut self) -> Result<(), Interrupted> {
        let since_ms = self.clock.monotonic_ms().saturating_sub(TOPIC_CONFIRMED_FOR_MS);
        let known = self.applier.topic_id();
        if known.is_some_and(|id| self.settings.facts.had_id_at(id, since_ms)) {
            return Ok(());
        }
        self.identify_topic()
    }

    fn catch_up(&mut self, target: i64) -> Result<(), Interrupted> {
        self.read(SLICE)?;
        self.confirm_again()?;
        if self.first_applied_ms.is_none() && self.shard.applied() > 0 {
            self.first_applied_ms = Some(self.clock.monotonic_ms());
        }
        self.check_load_time()?;
        self.say_progress(target);
        if self.shard.phase() == Phase::Live {
            self.went_live()?;
        }
        Ok(())
    }

    /// A tombstone is kept for `delete.retention.ms`; a load that takes longer may have read a schedule whose tombstone
    /// was cleaned away before it was reached, and would fire it again.
    fn check_load_time(&self) -> Result<(), Interrupted> {
        self.check_age()?;
        let (Some(started), Some(longest)) =
            (self.load_started_ms, self.settings.facts.tombstone_retention())
        else {
            return Ok(());
        };
        let took = Duration::from_millis(self.clock.monotonic_ms() - started);
        if took < longest {
            return Ok(());
        }
        Err(Interrupted::Reload(format!(
            "loading took longer than the topic's delete.retention.ms ({longest:?}), so tombstones may have been cleaned \
             away unread and fired schedules would fire again; raise delete.retention.ms of the topic"
        )))
    }

    fn went_live(&mut self) -> Result<(), Interrupted> {
        self.check_load_time()?;
        self.checkpoints.trust();
        let now_ms = self.clock.monotonic_ms();
        let took_ms = self.load_started_ms.take().map_or(0, |started| now_ms - started);
        let applying_ms = self.first_applied_ms.take().map_or(0, |first| now_ms - first);
        self.status.load_ms.set(took_ms as i64);
        self.status.apply_ms.set(applying_ms as i64);
        self.progress = Progress::default();
        self.backoff_ms = 0;
        // Whoever sees it live sees the figures that go with it.
        self.publish();
        self.status.set_phase(status::Phase::Live);
        tracing::info!(
            topic = self.topic,
            partition = self.partition,
            pending = self.shard.pending().len(),
            offset = self.shard.applied(),
            took_ms,
            "live"
        );
        self.resolve_command();
        Ok(())
    }

    /// One round of a live shard: commands, what is new in the log, what is due.
    fn serve(&mut self) -> Result<(), Interrupted> {
        self.take_commands();
        self.write_repairs()?;
        self.run_commands()?;
        let wait = self.wait_for_next();
        self.read(wait)?;
        self.fire()?;
        self.step_checkpoint();
        Ok(())
    }

    fn wait_for_next(&mut self) -> Duration {
        if !self.walks.is_empty() {
            return Duration::ZERO;
        }
        if self.is_blocked() {
            return SLICE;
        }
        if !self.repairs.is_empty() || self.next_to_write().is_some() {
            return Duration::ZERO;
        }
        let longest = self.checkpoints.next_step().unwrap_or(LONGEST_SLEEP);
        let something_to_do = [self.next_fire_ms(), self.shard.next_tidy()];
        let Some(wake_ms) = something_to_do.into_iter().flatten().min() else { return longest };
        let wait_ms = wake_ms.saturating_sub(self.clock.now_ms()).max(0) as u64;
        Duration::from_millis(wait_ms).min(longest)
    }

    /// Whether another producer's transaction keeps the log from being readable up to where one of ours would begin.
    pub(super) fn is_blocked(&mut self) -> bool {
        if self.blocked_until.is_some_and(|until| self.shard.applied() >= until) {
            self.blocked_until = None;
            self.status.set_phase(status::Phase::Live);
        }
        self.blocked_until.is_some()
    }

    /// Applies what the log has, waiting up to `wait` for it.
    pub(super) fn read(&mut self, wait: Duration) -> Result<(), Interrupted> {
        let now = Now { wall_ms: self.clock.now_ms(), monotonic_ms: self.clock.monotonic_ms() };
        let Self { log, shard, applier, counters, repairs, repair_offsets, unresolved, last_end, .. } = self;
        let applied_below = self.applied_below;
        let (mut resolved, mut records) = (false, 0);
        let result = log.read(wait, READ_BUDGET, &mut |item| match item {
            LogItem::End(offset) => {
                *last_end = offset;
                shard.reached(offset);
            }
            LogItem::Known(offset) => {
                counters.deletes_expired.increment();
                shard.reached(offset + 1);
            }
            LogItem::Ahead(keys) => shard.warm(keys),
            // Where a transaction leaves no marker in the log, as on the embedded stand-in, a command's record may be read only
            // after what it scheduled has fired: it would fire again.
            LogItem::Record(record) if record.offset < applied_below => {}
            LogItem::Record(record) => {
                records += 1;
                if let Some(Applied::Overtaken(handle)) = applier.apply(&record, shard, counters, now)
                    && repair_offsets.get(&handle).is_none_or(|repair| *repair < record.offset)
                {
                    repairs.push_back(handle);
                    repair_offsets.insert(handle, i64::MAX);
                }
                resolved |= unresolved.as_ref().is_some_and(|(offset, _)| *offset == record.offset);
            }
        });
        if resolved && let Some((offset, command)) = self.unresolved.take() {
            answer(command, Answer::Done { offset });
        }
        match result {
            Ok(()) => {}
            Err(error @ LogError::OutOfRange(_)) => {
                self.gone = Some(error.to_string());
                return Err(Interrupted::Reload(error.to_string()));
            }
            Err(LogError::Retriable(reason)) => {
                tracing::debug!(topic = self.topic, partition = self.partition, "reading: {reason}");
            }
        }
        // Housekeeping keeps pace with the records that make it necessary, while loading too.
        self.shard.tidy(self.clock.now_ms(), TIDY_BUDGET.max(TIDY_STEPS_A_RECORD * records));
        // Commit markers move the position without a record to show for it.
        let position = self.log.position();
        self.shard.reached(position);
        Ok(())
    }

    /// Makes the same call again as long as it is retriable and no stricter order has come.
    ///
    /// Bounded: the broker ends a transaction that is open for longer than its time-out, and the next call says so.
    pub(super) fn until_answered<R>(
        &mut self,
        mut call: impl FnMut(&mut Self) -> Result<R, TransactionError>,
    ) -> Result<R, Interrupted> {
        let started = self.clock.monotonic_ms();
        let give_up_ms = started + 4 * self.settings.transaction_timeout.as_millis() as u64;
        loop {
            self.status.beat();
            match call(self) {
                Ok(result) => return Ok(result),
                Err(error) if error.kind == Kind::Retriable => {
                    let now = self.clock.monotonic_ms();
                    let order = self.control.order();
                    let draining_too_long = order == Order::Drain
                        && now > started + self.settings.transaction_timeout.as_millis() as u64;
                    if order == Order::Drop || draining_too_long {
                        return Err(Interrupted::Ordered);
                    }
                    if now > give_up_ms {
                        return Err(Interrupted::Transaction(TransactionError {
                            kind: Kind::Fatal,
                            ..error
                        }));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks the cluster until it answers; says what is missing.
    pub(super) fn patiently<R>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<R, LogError>,
    ) -> Result<R, Interrupted> {
        loop {
            self.status.beat();
            match ask(self) {
                Ok(result) => return Ok(result),
                Err(LogError::OutOfRange(reason)) => return Err(Interrupted::Reload(reason)),
                Err(LogError::Retriable(reason)) => {
                    self.status.set_reason(reason.clone());
                    tracing::debug!(topic = self.topic, partition = self.partition, "{reason}");
                    if self.control.order() != Order::Run {
                        return Err(Interrupted::Ordered);
                    }
                    // Without reading: before the topic's ID is known, nobody can tell which version a tombstone is about.
                    self.log.pause(SLICE);
                }
            }
        }
    }

    /// Waits by reading the log, which a command or an order can interrupt.
    fn pause(&mut self, wait: Duration) {
        if let Err(interrupted) = self.read(wait) {
            tracing::debug!(topic = self.topic, partition = self.partition, ?interrupted, "while waiting");
        }
    }

    /// Waits so, unless ordered to stop.
    fn pause_until(&mut self, until_ms: u64) {
        while self.clock.monotonic_ms() < until_ms && self.control.order() == Order::Run {
            self.status.beat();
            self.pause(SLICE);
        }
    }

    /// After an error of a transaction: end it, and take the partition over again before the next one.
    fn recover(&mut self, error: &TransactionError) {
        let (outcome, backoff_ms) = match error.kind {
            Kind::Fenced => (TransactionOutcome::Fenced, FENCED_BACKOFF_MS),
            Kind::Fatal => (TransactionOutcome::Failed, 100),
            Kind::Abortable | Kind::Retriable => (TransactionOutcome::Aborted, 0),
        };
        self.counters.transactions.of(outcome).increment();
        tracing::warn!(
            topic = self.topic,
            partition = self.partition,
            kind = ?error.kind,
            "{error}; nothing is lost: the partition is taken over again and caught up with"
        );
        if error.kind == Kind::Abortable
            && let Err(interrupted) = self.until_answered(|this| this.transactions.abort(SLICE))
        {
            tracing::debug!(topic = self.topic, partition = self.partition, ?interrupted, "abort");
        }
        self.shard.unfence();
        if backoff_ms == 0 {
            return;
        }
        self.backoff_ms = (self.backoff_ms * 2).clamp(backoff_ms, BACKOFF_LONGEST_MS);
        self.status.set_phase(status::Phase::Waiting);
        self.status.set_reason(error.to_string());
        self.pause_until(self.clock.monotonic_ms() + self.backoff_ms);
    }

    /// The shard, once the run has ended; log and producer are dropped.
    pub fn into_shard(self) -> Shard {
        self.shard
    }
}
