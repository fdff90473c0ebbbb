//! One run: instances of the scheduler come and go, the network and the clocks misbehave, others write; then all of it
//! calms down, and what was delivered is judged.

mod questions;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use kafka_message_scheduler::checkpoint::Store as _;
use kafka_message_scheduler::codec;
use kafka_message_scheduler::config::{Settings, Sources};
use kafka_message_scheduler::engine::PendingSet;
use kafka_message_scheduler::engine::shard::Shard;
use kafka_message_scheduler::kafka::producer::Mode;
use kafka_message_scheduler::schedule::{DueTime, Headers, Schedule};
use kafka_message_scheduler::scheduler::checkpoints::{Checkpoints, resume_at};
use kafka_message_scheduler::scheduler::command::{self, CommandSender};
use kafka_message_scheduler::scheduler::order::{Control, Order};
use kafka_message_scheduler::scheduler::runner::{Ended, Runner};
use kafka_message_scheduler::scheduler::settings::{ShardSettings, TopicFacts};
use kafka_message_scheduler::scheduler::status::Status;

use crate::at_least_once::{Fired, judge_at_least_once};
use crate::client::{MISSING, Machine, Position, REFUSING, SILENT, Seat, SimClock, SimLog, SimTransactions};
use crate::cluster::{BEGIN_MS, Cluster, Epoch, Event, SECOND_US, TRANSACTION_TIMEOUT_US};
use crate::disk::{Disk, SimStore};
use crate::history::{History, Record, Verdict, Write};
use crate::partition::{FORMAT, Partition};
use crate::planted::Planted;
use questions::{Answered, Asked};

/// Everything goes wrong until then…
const STORM_US: u64 = 40 * SECOND_US;
/// …and whatever was due by then has to be delivered when so much more time has gone by.
const CALM_US: u64 = 150 * SECOND_US;
/// With checkpoints it stays calm for longer, and an instance dies within so long of that: then disks may be older than
/// tombstones are.
const LONG_CALM_US: u64 = 300 * SECOND_US;
const LATEST_DEATH_US: u64 = 260 * SECOND_US;
/// The group gives up on an instance that it has not heard of for so long.
const SESSION_US: u64 = 10 * SECOND_US;
/// The group waits for no instance longer than this to give partitions back.
const REBALANCE_US: u64 = 20 * SECOND_US;
/// A run with more events than this goes round in circles; the busiest have a tenth of it, unless two live owners without
/// transactions write again, for as long as both live, what the other has written again. With the long calm of a run with
/// checkpoints that may be four times as many.
const EVENTS_MOST: u64 = 1_000_000;
/// Without transactions, records stay in the log for so long: `min.compaction.lag.ms`, as such topics need it.
const LAG_US: u64 = 60 * SECOND_US;
/// Tombstones are kept for so long.
const RETENTION_US: u64 = 120 * SECOND_US;
/// Somebody who puts schedules off goes on for so long, with so many schedules, and by so many milliseconds.
const PUTTING_OFF_MS: i64 = 5_000;
const PUT_OFF: usize = 1_000;
const PUT_OFF_BY_MS: i64 = 100;

/// What the run itself does.
#[derive(Clone, Debug)]
pub enum Happening {
    Write,
    BeginForeign,
    ForeignStep {
        id: String,
        epoch: Epoch,
        partition: usize,
        steps: u64,
    },
    Ask,
    Trouble,
    Rebalance,
    Compact,
    /// The group looks whether it has heard of everybody.
    CheckSessions,
    /// An instance asks for the topic's ID, as its watch does.
    Watch {
        instance: usize,
    },
    /// An instance that was away hears that its partitions are lost.
    HearOfLoss {
        instance: usize,
    },
    /// The group has waited long enough for a partition to be given back.
    StopWaiting {
        actor: usize,
    },
    Restart,
    PutOff,
    /// One instance dies when all is calm, and what takes its place may find an old disk.
    DieLate,
}

/// A process of the scheduler.
struct Instance {
    mode: Mode,
    machine: Rc<Machine>,
    facts: Arc<TopicFacts>,
    status: Status,
    is_alive: bool,
    /// It stands still until then.
    frozen_until_us: u64,
    /// Which disk it has, if any.
    disk: Option<usize>,
    /// Partitions whose shard had to load anew: the next begins with the log.
    distrusted: BTreeSet<usize>,
    /// The group counts it in.
    is_member: bool,
}

type ShardThread = Coroutine<(), (), Box<(Ended, Shard)>>;

/// A shard's thread, and what others hold of it.
struct Actor {
    instance: usize,
    partition: usize,
    control: Arc<Control>,
    commands: CommandSender,
    turn: Rc<Cell<u64>>,
    is_revoked: Rc<Cell<bool>>,
    coroutine: Option<ShardThread>,
    position: Rc<RefCell<Position>>,
}

/// Who has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Actor(usize),
    /// Its shard is ending; the partition then goes to this instance.
    Leaving {
        actor: usize,
        to: usize,
    },
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Everything.
    Stormy,
    /// Nobody crashes, freezes or is cut off, and every answer arrives; partitions move and others write all the same.
    Peaceful,
    /// One thing only happens: somebody puts schedules off whenever they are about to fire.
    Restless,
}

/// What a run is about.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Of every instance; `None`: each has its own, and one that replaces another may have the other.
    pub mode: Option<Mode>,
    pub weather: Weather,
    /// Instances keep checkpoints.
    pub keeps: bool,
    /// Shards are asked to cancel many schedules at once, too.
    pub cancels_many: bool,
    pub planted: Option<Planted>,
    pub keeps_trace: bool,
}

/// What came of a run.
pub struct Outcome {
    pub verdict: Verdict,
    /// What else is wrong: answers, rules that were broken, runs that do not come to rest.
    pub wrongs: Vec<String>,
    pub history: History,
    pub trace_hash: u64,
    pub trace: Vec<String>,
    pub events: u64,
}

impl Plan {
    fn is_peaceful(&self) -> bool {
        self.weather != Weather::Stormy
    }

    fn is_restless(&self) -> bool {
        self.weather == Weather::Restless
    }
}

impl Outcome {
    /// What is wrong, as text; `None` if nothing is.
    pub fn complaint(&self) -> Option<String> {
        let mut text = String::new();
        if !self.verdict.is_clean() {
            text = self.verdict.to_string();
        }
        for wrong in &self.wrongs {
            text.push('\n');
            text.push_str(wrong);
        }
        (!text.is_empty()).then_some(text)
    }
}

pub struct Run {
    plan: Plan,
    settings: Arc<ShardSettings>,
    cluster: Rc<RefCell<Cluster>>,
    instances: Vec<Instance>,
    actors: Vec<Actor>,
    owners: Vec<Owner>,
    disks: Vec<Arc<Mutex<Disk>>>,
    /// State that was loaded for a partition and should have been dropped with it.
    kept: BTreeMap<usize, Shard>,
    keys: Vec<Vec<u8>>,
    payloads: u64,
    foreign: u64,
    asked: Vec<Asked>,
    answered: Vec<Answered>,
}

/// Runs what the seed says.
pub fn run(plan: Plan) -> Outcome {
    Run::new(plan).finish()
}

impl Run {
    fn new(plan: Plan) -> Self {
        let mut cluster = Cluster::new(plan.seed, 1, plan.planted);
        let mut partitions = cluster.rng.between(1, 3) as usize;
        let mut instances = cluster.rng.between(1, 4);
        let mut keys = cluster.rng.between(2, 40) as usize;
        if plan.is_restless() {
            (partitions, instances, keys) = (1, 1, PUT_OFF);
        }
        let mut fresh = Cluster::new(cluster.rng.next(), partitions, plan.planted);
        fresh.faulty = !plan.is_peaceful();
        if plan.is_restless() {
            // So much is replaced meanwhile that no batch is left alone.
            fresh.latency_us = (3_000, 8_000);
        }
        fresh.trace.lines = plan.keeps_trace.then(Vec::new);
        let mut run = Self {
            plan,
            settings: settings(plan, &mut fresh),
            cluster: Rc::new(RefCell::new(fresh)),
            instances: Vec::new(),
            actors: Vec::new(),
            owners: vec![Owner::Nobody; partitions],
            disks: Vec::new(),
            kept: BTreeMap::new(),
            keys: (0..keys).map(|key| format!("key-{key}").into_bytes()).collect(),
            payloads: 0,
            foreign: 0,
            asked: Vec::new(),
            answered: Vec::new(),
        };
        for _ in 0..instances {
            run.start_instance();
        }
        let restless = [Happening::PutOff, Happening::Rebalance, Happening::CheckSessions];
        let eventful = [
            Happening::Write,
            Happening::BeginForeign,
            Happening::Ask,
            Happening::Trouble,
            Happening::Rebalance,
            Happening::Compact,
            Happening::CheckSessions,
        ];
        for happening in if plan.is_restless() { &restless[..] } else { &eventful } {
            run.later(0, happening.clone());
        }
        if plan.keeps {
            let delay_us = STORM_US + run.random(LATEST_DEATH_US / 2, LATEST_DEATH_US);
            run.later(delay_us, Happening::DieLate);
        }
        run
    }

    fn finish(mut self) -> Outcome {
        let most = if self.plan.keeps { 4 * EVENTS_MOST } else { EVENTS_MOST };
        let mut events = self.go_on_until(STORM_US, most);
        self.calm_down();
        let calm_us = if self.plan.keeps { LONG_CALM_US } else { CALM_US };
        events += self.go_on_until(STORM_US + calm_us, most - events);
        let unanswered = self.unanswered();
        // What was loaded goes with the coroutines, which are unwound.
        self.actors.clear();
        let cluster = self.cluster.borrow();
        let mut records: Vec<_> =
            cluster.partitions.iter().flat_map(|partition| partition.accepted().to_vec()).collect();
        records.iter_mut().for_each(never_due_if_undeliverable);
        let history = History {
            records,
            messages: cluster.delivered.clone(),
            until_ms: BEGIN_MS + (STORM_US / 1_000) as i64,
        };
        let verdict = match self.plan.mode {
            Some(Mode::Transactional) => history.judge(),
            Some(Mode::Plain) | None => {
                let mut verdict = judge_at_least_once(&history, &fired(&cluster.partitions));
                // An update can come too late at any time; a message can come again where something goes wrong.
                verdict.stale.clear();
                if !self.plan.is_peaceful() {
                    verdict.doubled.clear();
                }
                verdict
            }
        };
        let mut wrongs = cluster.broken_rules.clone();
        wrongs.extend(cluster.partitions.iter().flat_map(|partition| partition.written_again().to_vec()));
        wrongs
            .extend(self.answered.iter().filter_map(|answered| answered.complaint(&history, self.plan.mode)));
        wrongs.extend(unanswered);
        if events >= most {
            wrongs.push(format!("did not come to rest: {events} events"));
        }
        let trace_hash = cluster.trace.hash;
        let trace = cluster.trace.lines.clone().unwrap_or_default();
        Outcome { verdict, wrongs, history, trace_hash, trace, events }
    }

    /// Lets everything happen that is to happen before `until_us`, but no more than `most` events; returns how many.
    fn go_on_until(&mut self, until_us: u64, most: u64) -> u64 {
        let mut events = 0;
        while events < most {
            let Some(event) = self.cluster.borrow_mut().next_event(until_us) else { break };
            events += 1;
            let Some(event) = self.cluster.borrow_mut().happen(event) else { continue };
            match event {
                Event::Resume { actor, turn } => self.resume(actor, turn),
                Event::Run(happening) => self.happen(happening),
                _ => unreachable!("the cluster has dealt with it"),
            }
        }
        events
    }

    /// No more trouble: whoever is frozen or cut off goes on, clocks are set right, and somebody runs.
    fn calm_down(&mut self) {
        let now_us = {
            let mut cluster = self.cluster.borrow_mut();
            cluster.faulty = false;
            cluster.calm = true;
            cluster.note(format_args!("calm"));
            cluster.now_us
        };
        for instance in &mut self.instances {
            instance.machine.clock_error_ms.set(0);
            instance.machine.cut_until_us.set(0);
            instance.frozen_until_us = instance.frozen_until_us.min(now_us);
        }
        if !self.instances.iter().any(|instance| instance.is_alive) {
            self.start_instance();
        }
        self.later(SECOND_US, Happening::Rebalance);
    }

    fn is_calm(&self) -> bool {
        self.cluster.borrow().calm
    }

    fn later(&self, delay_us: u64, happening: Happening) {
        self.cluster.borrow_mut().schedule_in(delay_us, Event::Run(happening));
    }

    fn random(&self, least: u64, most: u64) -> u64 {
        self.cluster.borrow_mut().rng.between(least, most)
    }

    fn permille(&self, part: u64) -> bool {
        self.cluster.borrow_mut().rng.permille(part)
    }

    fn index(&self, len: usize) -> usize {
        self.cluster.borrow_mut().rng.index(len)
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.cluster.borrow_mut().note(what);
    }

    fn now_us(&self) -> u64 {
        self.cluster.borrow().now_us
    }

    fn happen(&mut self, happening: Happening) {
        let is_calm = self.is_calm();
        match happening {
            Happening::Write if !is_calm => {
                self.write();
                let pause_us = self.random(0, 500_000);
                self.later(pause_us, Happening::Write);
            }
            Happening::BeginForeign if !is_calm => {
                self.begin_foreign();
                let pause_us = self.random(0, 4 * SECOND_US);
                self.later(pause_us, Happening::BeginForeign);
            }
            Happening::ForeignStep { id, epoch, partition, steps } => {
                self.step_foreign(&id, epoch, partition, steps);
            }
            Happening::Ask if !is_calm => {
                if self.plan.cancels_many && self.permille(300) {
                    self.ask_to_cancel_many();
                } else {
                    self.ask();
                }
                let pause_us = self.random(0, 2 * SECOND_US);
                self.later(pause_us, Happening::Ask);
            }
            Happening::Trouble if !is_calm && !self.plan.is_peaceful() => {
                self.make_trouble();
                let pause_us = self.random(0, 5 * SECOND_US);
                self.later(pause_us, Happening::Trouble);
            }
            Happening::Rebalance => {
                self.rebalance();
                if !is_calm {
                    let pause_us = self.random(SECOND_US / 10, 12 * SECOND_US);
                    self.later(pause_us, Happening::Rebalance);
                }
            }
            Happening::Compact => {
                self.compact();
                let pause_us = self.random(SECOND_US, 15 * SECOND_US);
                self.later(pause_us, Happening::Compact);
            }
            Happening::CheckSessions => {
                self.check_sessions();
                self.later(SECOND_US, Happening::CheckSessions);
            }
            Happening::Watch { instance } => self.watch(instance),
            Happening::HearOfLoss { instance } => self.hear_of_loss(instance),
            Happening::StopWaiting { actor } => self.stop_waiting(actor),
            Happening::Restart => self.start_instance(),
            Happening::PutOff => self.put_off(),
            Happening::DieLate => self.die_late(),
            Happening::Write | Happening::BeginForeign | Happening::Ask | Happening::Trouble => {}
        }
    }

    // Instances and their shards.

    fn start_instance(&mut self) {
        let number = self.instances.len();
        let mode = self.plan.mode.unwrap_or_else(|| [Mode::Transactional, Mode::Plain][self.index(2)]);
        self.note(format_args!("instance {number} starts, {mode:?}"));
        let facts = Arc::new(TopicFacts::default());
        facts.set_tombstone_retention(Duration::from_micros(RETENTION_US), u64::MAX);
        let disk = self.plan.keeps.then(|| self.take_disk());
        self.instances.push(Instance {
            disk,
            distrusted: BTreeSet::new(),
            mode,
            machine: Rc::new(Machine::default()),
            facts,
            status: Status::new(),
            is_alive: true,
            frozen_until_us: 0,
            is_member: true,
        });
        self.later(0, Happening::Watch { instance: number });
        let delay_us = self.random(0, SECOND_US);
        self.later(delay_us, Happening::Rebalance);
    }

    /// The disk of an instance that is no more, or a new one.
    fn take_disk(&mut self) -> usize {
        let is_free = |disk: &usize| !self.instances.iter().any(|it| it.is_alive && it.disk == Some(*disk));
        let free: Vec<usize> = (0..self.disks.len()).filter(is_free).collect();
        if !free.is_empty() && self.permille(850) {
            return free[self.index(free.len())];
        }
        let seed = self.cluster.borrow_mut().rng.next();
        self.disks.push(Arc::new(Mutex::new(Disk::new(seed))));
        self.disks.len() - 1
    }

    fn store(&self, instance: usize, partition: usize) -> Option<SimStore> {
        Some(SimStore::new(&self.disks[self.instances[instance].disk?], partition))
    }

    fn is_frozen(&self, instance: usize) -> bool {
        self.instances[instance].frozen_until_us > self.now_us()
    }

    /// Whether the group hears of an instance.
    fn is_heard(&self, instance: usize) -> bool {
        let Instance { machine, is_alive, .. } = &self.instances[instance];
        *is_alive && !self.is_frozen(instance) && machine.cut_until_us.get() <= self.now_us()
    }

    fn start_shard(&mut self, instance: usize, partition: usize) {
        self.note(format_args!("instance {instance} takes {partition}"));
        let has = |planted| self.cluster.borrow().has(planted);
        let position =
            match self.actors.iter().rev().find(|a| (a.instance, a.partition) == (instance, partition)) {
                Some(earlier) if has(Planted::OldReader) => Rc::clone(&earlier.position),
                _ => Rc::default(),
            };
        let (mut checkpoints, mut hash_seed) = (Checkpoints::default(), 7);
        let mut checkpoint_interval = Duration::ZERO;
        if let Some(mut store) = self.store(instance, partition) {
            let is_distrusted = self.instances[instance].distrusted.remove(&partition);
            let opened = (!is_distrusted).then(|| store.open()).flatten();
            if let Some(opened) = &opened {
                let stand = opened.stand();
                self.note(format_args!("it has a checkpoint of offset {}", stand.offset));
                hash_seed = stand.hash_seed;
                *position.borrow_mut() = Position::at(resume_at(stand).offset);
            }
            checkpoint_interval = Duration::from_micros(self.random(0, 3 * SECOND_US));
            checkpoints = Checkpoints::new(Box::new(store), opened);
        }
        let mut shard = Shard::new(PendingSet::new(hash_seed));
        if has(Planted::StateKept)
            && let Some(kept) = self.kept.remove(&(instance << 8 | partition))
        {
            shard = kept;
            let end = self.cluster.borrow().partitions[partition].last_stable();
            *position.borrow_mut() = Position::at(end);
        }
        let (commands, lane) = command::lane();
        let number = self.actors.len();
        let actor = Actor {
            instance,
            partition,
            control: Arc::new(Control::default()),
            commands,
            turn: Rc::default(),
            is_revoked: Rc::default(),
            coroutine: None,
            position: Rc::clone(&position),
        };
        let there = &self.instances[instance];
        let mode = there.mode;
        let facts = Arc::clone(&there.facts);
        let settings =
            Arc::new(ShardSettings { mode, facts, checkpoint_interval, ..(*self.settings).clone() });
        let (figures, counters) =
            (there.status.partition("schedules", partition as i32), there.status.counters("schedules"));
        let (cluster, machine) = (Rc::clone(&self.cluster), Rc::clone(&there.machine));
        let (turn, is_revoked, control) =
            (Rc::clone(&actor.turn), Rc::clone(&actor.is_revoked), Arc::clone(&actor.control));
        let stack = DefaultStack::new(1 << 20).expect("memory for a stack");
        let shard = Box::new(shard); // a large value cannot be handed to a coroutine
        let coroutine = Coroutine::with_stack(stack, move |yielder: &_, ()| {
            let end_at_start = cluster.borrow().partitions[partition].end;
            let seat = Rc::new(Seat {
                yielder,
                cluster,
                machine,
                actor: number,
                partition,
                turn,
                is_revoked,
                told_ms: Cell::new(i64::MIN),
                fenced_at: Cell::new(0),
                handed_over: Cell::new(0),
                figures: Arc::clone(&figures),
            });
            let (seat_of_log, watermarks_asked, known) = (Rc::clone(&seat), None, 0..0);
            let log = SimLog { seat: seat_of_log, position, end_at_start, watermarks_asked, known };
            let transactions = SimTransactions::new(Rc::clone(&seat), mode);
            let mut runner = Runner::new(
                "schedules",
                partition as i32,
                *shard,
                log,
                transactions,
                SimClock(seat),
                settings,
                control,
                figures,
                counters,
                lane,
                checkpoints,
            );
            let ended = runner.run();
            Box::new((ended, runner.into_shard()))
        });
        self.actors.push(Actor { coroutine: Some(coroutine), ..actor });
        self.owners[partition] = Owner::Actor(number);
        self.wake(number);
    }

    fn wake(&self, actor: usize) {
        let turn = self.actors[actor].turn.get();
        let delay_us = self.random(0, 500);
        self.cluster.borrow_mut().schedule_in(delay_us, Event::Resume { actor, turn });
    }

    fn resume(&mut self, number: usize, turn: u64) {
        let now_us = self.now_us();
        let Actor { instance, coroutine, turn: current, .. } = &mut self.actors[number];
        let Some(running) = coroutine.as_mut() else { return };
        if current.get() != turn {
            return;
        }
        let frozen_until_us = self.instances[*instance].frozen_until_us;
        if frozen_until_us > now_us {
            return self
                .cluster
                .borrow_mut()
                .schedule(frozen_until_us, Event::Resume { actor: number, turn });
        }
        current.set(turn + 1);
        let result = running.resume(());
        self.collect_answers(number);
        let CoroutineResult::Return(returned) = result else { return };
        let (ended, shard) = *returned;
        let Actor { instance, coroutine, .. } = &mut self.actors[number];
        *coroutine = None;
        let (instance, partition) = (*instance, self.actors[number].partition);
        self.note(format_args!("instance {instance} ends {partition}: {ended:?}"));
        self.kept.insert(instance << 8 | partition, shard);
        if matches!(ended, Ended::Reload(_)) {
            self.instances[instance].distrusted.insert(partition);
        }
        match self.owners[partition] {
            Owner::Leaving { actor, .. } if actor == number => self.hand_over(number),
            // Loaded anew by whoever has it.
            Owner::Actor(actor) if actor == number => self.start_shard(instance, partition),
            _ => {}
        }
    }

    fn order(&self, actor: usize, order: Order) {
        self.actors[actor].control.give(order);
        self.actors[actor].is_revoked.set(true);
        self.wake(actor);
    }

    // The group.

    /// Deals the partitions out anew.
    fn rebalance(&mut self) {
        let members: Vec<usize> =
            (0..self.instances.len()).filter(|&instance| self.instances[instance].is_member).collect();
        if members.is_empty() {
            return;
        }
        for partition in 0..self.owners.len() {
            let to = members[self.index(members.len())];
            match self.owners[partition] {
                Owner::Nobody => self.start_shard(to, partition),
                // Whoever has it then has to come to terms with it: a shard loaded anew would hide that it cannot.
                Owner::Actor(_) if self.is_calm() => {}
                Owner::Actor(actor) if self.actors[actor].instance == to && !self.permille(100) => {}
                Owner::Actor(actor) => {
                    self.note(format_args!("{partition} goes to instance {to}"));
                    self.owners[partition] = Owner::Leaving { actor, to };
                    if self.cluster.borrow().has(Planted::OldReader) && self.actors[actor].instance == to {
                        self.hand_over(actor);
                        continue;
                    }
                    if self.is_heard(self.actors[actor].instance) {
                        self.order(actor, Order::Drain);
                    }
                    self.later(REBALANCE_US, Happening::StopWaiting { actor });
                }
                Owner::Leaving { .. } => {}
            }
        }
    }

    /// The group has waited long enough for what this actor has: its instance is out, and hears of it when it asks.
    fn stop_waiting(&mut self, actor: usize) {
        let Actor { instance, partition, .. } = self.actors[actor];
        if matches!(self.owners[partition], Owner::Leaving { actor: leaving, .. } if leaving == actor) {
            self.expire(instance);
        }
    }

    /// The partition was given back by this actor.
    fn hand_over(&mut self, actor: usize) {
        let partition = self.actors[actor].partition;
        let Owner::Leaving { actor: leaving, to } = self.owners[partition] else { return };
        if leaving != actor {
            return;
        }
        self.owners[partition] = Owner::Nobody;
        if self.instances[to].is_member && self.instances[to].is_alive {
            self.start_shard(to, partition);
        } else {
            self.later(0, Happening::Rebalance);
        }
    }

    /// Whoever has not been heard of for too long is out, whatever it believes.
    fn check_sessions(&mut self) {
        for instance in 0..self.instances.len() {
            let away_since = &self.instances[instance];
            let silent = !self.is_heard(instance);
            if away_since.is_member && silent && self.permille(1_000 * SECOND_US / SESSION_US) {
                self.expire(instance);
            } else if !away_since.is_member && away_since.is_alive && !silent {
                self.instances[instance].is_member = true;
                let (hears_us, joins_us) = (self.random(0, 5 * SECOND_US), self.random(0, 8 * SECOND_US));
                self.later(hears_us, Happening::HearOfLoss { instance });
                self.later(joins_us, Happening::Rebalance);
            }
        }
    }

    fn expire(&mut self, instance: usize) {
        self.note(format_args!("the group gives up on instance {instance}"));
        self.instances[instance].is_member = false;
        for partition in 0..self.owners.len() {
            let (Owner::Actor(actor) | Owner::Leaving { actor, .. }) = self.owners[partition] else {
                continue;
            };
            if self.actors[actor].instance == instance {
                self.owners[partition] = Owner::Nobody;
            }
        }
        let delay_us = self.random(0, SECOND_US);
        self.later(delay_us, Happening::Rebalance);
    }

    fn hear_of_loss(&mut self, instance: usize) {
        for actor in 0..self.actors.len() {
            let Actor { instance: of, partition, coroutine, .. } = &self.actors[actor];
            if *of == instance && coroutine.is_some() && !self.has(*partition, actor) {
                self.order(actor, Order::Drop);
            }
        }
    }

    fn has(&self, partition: usize, actor: usize) -> bool {
        matches!(self.owners[partition], Owner::Actor(owner) | Owner::Leaving { actor: owner, .. } if owner == actor)
    }

    fn watch(&mut self, instance: usize) {
        if !self.instances[instance].is_alive {
            return;
        }
        if self.is_heard(instance) {
            let now_ms = self.now_us() / 1_000;
            self.instances[instance].facts.set_id("the-topic-of-the-run--", now_ms);
        }
        self.later(SECOND_US, Happening::Watch { instance });
    }

    // Trouble.

    fn make_trouble(&mut self) {
        let alive: Vec<usize> =
            (0..self.instances.len()).filter(|&instance| self.instances[instance].is_alive).collect();
        let Some(&instance) = (!alive.is_empty()).then(|| &alive[self.index(alive.len())]) else { return };
        let now_us = self.now_us();
        match self.random(0, 11) {
            0 | 1 => self.kill(instance),
            2 | 3 => {
                let until_us = now_us + self.random(1_000, 30 * SECOND_US);
                self.note(format_args!("instance {instance} stands still until {until_us}"));
                self.instances[instance].frozen_until_us = until_us;
            }
            4 | 5 => {
                let until_us = now_us + self.random(1_000, 30 * SECOND_US);
                self.note(format_args!("instance {instance} is cut off until {until_us}"));
                self.instances[instance].machine.cut_until_us.set(until_us);
            }
            6..=8 => {
                let most_ms = if self.permille(500) { 3_600_000 } else { 10_000 };
                let error_ms = self.random(0, 2 * most_ms) as i64 - most_ms as i64;
                self.note(format_args!("the clock of instance {instance} is wrong by {error_ms} ms"));
                self.instances[instance].machine.clock_error_ms.set(error_ms);
            }
            9 => {
                let partition = self.index(self.owners.len());
                if self.permille(300) {
                    self.cancel_all(partition);
                }
                self.note(format_args!("{partition}: records are deleted"));
                let bound = self.may_go_before(partition);
                self.cluster.borrow_mut().partitions[partition].delete_done(bound);
            }
            10 => self.start_instance_if_few(),
            _ => self.later(0, Happening::Rebalance),
        }
    }

    /// Whoever writes the schedules takes them all back.
    fn cancel_all(&mut self, partition: usize) {
        let keys = self.keys.iter().skip(partition).step_by(self.owners.len());
        for key in keys {
            let mut cluster = self.cluster.borrow_mut();
            if cluster.partitions[partition].pending(key).is_some() {
                cluster.append(partition, key, None, Headers::default());
            }
        }
    }

    fn start_instance_if_few(&mut self) {
        if self.instances.iter().filter(|instance| instance.is_alive).count() < 4 {
            self.start_instance();
        }
    }

    /// At whatever step its shards are.
    fn kill(&mut self, instance: usize) {
        self.note(format_args!("instance {instance} is killed"));
        self.instances[instance].is_alive = false;
        for actor in &mut self.actors {
            if actor.instance == instance {
                actor.coroutine = None;
            }
        }
        let delay_us = self.random(0, 6 * SECOND_US);
        self.later(delay_us, Happening::Restart);
    }

    fn die_late(&mut self) {
        let alive = self.instances.iter().position(|instance| instance.is_alive);
        self.kill(alive.expect("somebody runs when all is calm"));
    }

    fn compact(&mut self) {
        let partition = self.index(self.owners.len());
        let (start, end) = {
            let cluster = self.cluster.borrow();
            (cluster.partitions[partition].start as u64, cluster.partitions[partition].end as u64)
        };
        let bound = self.random(start, end) as i64;
        let bound = bound.min(self.may_go_before(partition));
        let now_us = self.now_us();
        self.note(format_args!("{partition}: compacted before {bound}"));
        self.cluster.borrow_mut().partitions[partition].compact(bound, now_us, RETENTION_US);
    }

    /// What lies before this offset may be compacted or deleted.
    fn may_go_before(&self, partition: usize) -> i64 {
        let now_us = self.now_us();
        match self.plan.mode {
            Some(Mode::Transactional) => i64::MAX,
            Some(Mode::Plain) | None => {
                self.cluster.borrow().partitions[partition].first_since(now_us.saturating_sub(LAG_US))
            }
        }
    }

    // Others who write.

    /// A key, and the partition where it lives.
    fn key(&self) -> (Vec<u8>, usize) {
        let number = self.index(self.keys.len());
        (self.keys[number].clone(), number % self.owners.len())
    }

    /// A schedule for this key, due within seconds or overdue; or what is no schedule.
    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        if self.permille(15) {
            return b"not a schedule".to_vec();
        }
        let now_ms = self.cluster.borrow().true_ms();
        let due_ms = match self.random(0, 9) {
            0 => now_ms - self.random(0, 5_000) as i64,
            1..=7 => now_ms + self.random(0, 2_500) as i64,
            _ => now_ms + self.random(0, 40_000) as i64,
        };
        let topic = match self.random(0, 99) {
            0..3 => REFUSING,
            3..6 => MISSING,
            6..8 => SILENT,
            8..50 => "here",
            _ => "there",
        };
        self.schedule(key, topic, due_ms)
    }

    fn schedule(&mut self, key: &[u8], topic: &str, due_ms: i64) -> Vec<u8> {
        self.payloads += 1;
        let payload = self.payloads.to_le_bytes();
        let schedule = Schedule {
            due: DueTime::from_epoch_ms(due_ms),
            topic,
            key,
            value: Some(&payload),
            headers: Headers::default(),
        };
        let mut value = Vec::new();
        codec::encode(FORMAT, &schedule, &mut value);
        value
    }

    fn write(&mut self) {
        for _ in 0..self.random(1, 4) {
            let (key, partition) = self.key();
            if self.aims(&key, partition) {
                continue;
            }
            let value = (!self.permille(150)).then(|| self.value(&key));
            self.cluster.borrow_mut().append(partition, &key, value.as_deref(), Headers::default());
        }
    }

    /// Now and then a key is not written now but about when its schedule is due: that is where the races are.
    fn aims(&mut self, key: &[u8], partition: usize) -> bool {
        let pending = self.cluster.borrow().partitions[partition].pending(key);
        let now_ms = self.cluster.borrow().true_ms();
        let Some((_, due_ms)) = pending.filter(|(_, due_ms)| *due_ms > now_ms + 5) else { return false };
        if !self.permille(500) {
            return false;
        }
        let delay_us = (due_ms - now_ms) as u64 * 1_000 + self.random(0, 12_000) - 4_000;
        self.foreign += 1;
        let id = format!("aimed-{}", self.foreign);
        let epoch = self.cluster.borrow_mut().initialise(&id).expect("nobody else has it");
        let steps =
            1_000 + self.keys.iter().position(|known| known == key).expect("it is one of them") as u64;
        self.later(delay_us, Happening::ForeignStep { id, epoch, partition, steps });
        true
    }

    /// Puts those off that fall due in this very millisecond, which nobody can have fired yet. Now and then another
    /// schedule is written that is due, too.
    fn put_off(&mut self) {
        let now_ms = self.cluster.borrow().true_ms();
        let tick = now_ms - BEGIN_MS;
        if tick >= PUTTING_OFF_MS {
            return;
        }
        self.later(1_000, Happening::PutOff);
        let turn = (tick % PUT_OFF_BY_MS) as usize;
        let those = (turn..PUT_OFF).step_by(PUT_OFF_BY_MS as usize);
        let mut records: Vec<_> =
            those.map(|number| (self.keys[number].clone(), now_ms + PUT_OFF_BY_MS)).collect();
        if tick % 20 == 0 {
            records.push((format!("other-{tick}").into_bytes(), now_ms));
        }
        for (key, due_ms) in records {
            let value = self.schedule(&key, "here", due_ms);
            self.cluster.borrow_mut().append(0, &key, Some(&value), Headers::default());
        }
    }

    fn begin_foreign(&mut self) {
        self.foreign += 1;
        let id = format!("foreign-{}", self.foreign);
        let epoch = self.cluster.borrow_mut().initialise(&id).expect("nobody else has it");
        let partition = self.index(self.owners.len());
        let steps = self.random(0, 4);
        self.later(0, Happening::ForeignStep { id, epoch, partition, steps });
    }

    /// Another producer's transaction goes on: writes, ends, or is never heard of again. From 1,000 on, `steps` is a
    /// single write outside any transaction.
    fn step_foreign(&mut self, id: &str, epoch: Epoch, partition: usize, steps: u64) {
        if let Some(number) = steps.checked_sub(1_000) {
            let key = self.keys[number as usize].clone();
            let value = (!self.permille(300)).then(|| self.value(&key));
            self.cluster.borrow_mut().append(partition, &key, value.as_deref(), Headers::default());
            return;
        }
        if steps == 0 {
            if self.permille(100) && !self.is_calm() {
                self.note(format_args!("{id} hangs"));
                return;
            }
            let commit = self.permille(700);
            let outcome = self.cluster.borrow_mut().end(id, epoch, commit);
            self.note(format_args!("{id} ends, commit {commit}: {outcome:?}"));
            return;
        }
        let (key, lives_in) = self.key();
        if lives_in == partition {
            let value = (!self.permille(250)).then(|| self.value(&key));
            let outcome = self.cluster.borrow_mut().append_in(
                id,
                epoch,
                partition,
                &key,
                value.as_deref(),
                Headers::default(),
            );
            if outcome.is_err() {
                return; // timed out
            }
        }
        let delay_us = if self.permille(100) {
            self.random(0, TRANSACTION_TIMEOUT_US + SECOND_US)
        } else {
            self.random(0, 60_000)
        };
        let next = Happening::ForeignStep { id: id.to_owned(), epoch, partition, steps: steps - 1 };
        self.later(delay_us, next);
    }
}

fn settings(plan: Plan, cluster: &mut Cluster) -> Arc<ShardSettings> {
    let loaded = Settings::load(&Sources::default()).expect("the defaults are valid");
    let mut settings =
        ShardSettings::new(&Arc::new(loaded.settings), FORMAT, None, &Arc::new(TopicFacts::default()));
    let small = [1, 3, 50][cluster.rng.index(3)];
    if !plan.is_restless() {
        settings.max_count = small;
    }
    settings.checkpoint_after = 20;
    settings.transaction_timeout = Duration::from_micros(TRANSACTION_TIMEOUT_US);
    settings.retry_initial = Duration::from_millis(500);
    settings.retry_max = Duration::from_secs(5);
    Arc::new(settings)
}

/// What the scheduler's tombstones say they fired.
fn fired(partitions: &[Partition]) -> Fired {
    let mut fired = Fired::new();
    for (partition, number) in partitions.iter().zip(0..) {
        for (tombstone, version) in partition.fired() {
            fired.entry((number, *version)).or_insert(*tombstone);
        }
    }
    fired
}

/// What cannot be delivered waits for ever, as it should.
fn never_due_if_undeliverable(record: &mut Record) {
    if let Write::Schedule { due_ms, destination, .. } = &mut record.write
        && [REFUSING, SILENT].contains(&destination.as_str())
    {
        *due_ms = i64::MAX;
    }
}
