//! What waits for the thread that writes, and who waits for that thread.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lane::{Job, Lane, Task};

/// Jobs in the order in which they came, but that those of a partition for which somebody waits come first.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Whose job is being done, if it is one that shows.
    at_work: Option<Arc<Lane>>,
    /// The directories of partitions for which somebody waits.
    urgent: Vec<PathBuf>,
    /// What is there is still done, and nothing is awaited any more.
    is_closed: bool,
    /// Nobody does anything any more.
    is_over: bool,
}

/// What the writer thread is to do next.
pub(super) enum Next {
    Job(Job),
    /// Nothing for now.
    Idle,
    End,
}

impl Queue {
    /// Adds a job; gives it back if nobody will do it.
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state();
        if state.is_over {
            return Err(job);
        }
        if matches!(job.task, Task::Begin { .. } | Task::Abandon | Task::Discard) {
            state.drop_unwanted(&job.lane);
        }
        state.jobs.push_back(job);
        self.changed.notify_all();
        Ok(())
    }

    /// The next job, for which it waits so long. The one before is done.
    pub(super) fn next(&self, at_most: Duration) -> Next {
        let mut state = self.state();
        if state.at_work.take().is_some() {
            self.changed.notify_all();
        }
        let is_idle = |state: &mut State| state.jobs.is_empty() && !state.is_closed;
        let waited = self.changed.wait_timeout_while(state, at_most, is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        match state.take_job() {
            Some(job) => {
                state.at_work = shows(&job.task).then(|| Arc::clone(&job.lane));
                Next::Job(job)
            }
            None if state.is_closed => Next::End,
            None => Next::Idle,
        }
    }

    /// Waits until the directory shows all that was ordered, but at most so long; whether it does. Its jobs come first
    /// meanwhile.
    pub(super) fn settle(&self, dir: &Path, at_most: Duration) -> bool {
        let mut state = self.state();
        state.urgent.push(dir.to_owned());
        let is_unsettled = |state: &mut State| {
            state.at_work.as_ref().is_some_and(|lane| lane.dir == dir)
                || state.jobs.iter().any(|job| job.lane.dir == dir && shows(&job.task))
        };
        let waited = self.changed.wait_timeout_while(state, at_most, is_unsettled);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = state.urgent.iter().position(|urgent| urgent == dir) {
            state.urgent.swap_remove(at);
        }
        !timeout.timed_out()
    }

    /// What is there is done, and then the thread ends: waits for that, at most so long. Whether it has ended.
    pub(super) fn close(&self, at_most: Duration) -> bool {
        let mut state = self.state();
        state.is_closed = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, at_most, |state| !state.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Whether nobody does anything any more.
    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Nobody does anything any more, whatever is there.
    pub(super) fn end(&self) {
        let mut state = self.state();
        (state.is_over, state.at_work) = (true, None);
        for job in state.jobs.drain(..) {
            job.let_go();
        }
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The jobs of a partition stay in their order.
    fn take_job(&mut self) -> Option<Job> {
        let is_urgent = |job: &Job| self.urgent.contains(&job.lane.dir);
        let urgent = self.jobs.iter().position(is_urgent);
        self.jobs.remove(urgent.unwrap_or(0))
    }

    /// What a lane was still to write of a checkpoint that nobody wants any more need not be written.
    fn drop_unwanted(&mut self, lane: &Lane) {
        let is_its = |job: &Job| job.lane.number == lane.number;
        let finish = self.jobs.iter().rposition(|job| is_its(job) && matches!(job.task, Task::Finish));
        for at in (finish.map_or(0, |at| at + 1)..self.jobs.len()).rev() {
            if is_its(&self.jobs[at])
                && matches!(self.jobs[at].task, Task::Write(_))
                && let Some(job) = self.jobs.remove(at)
            {
                job.let_go();
            }
        }
    }
}

/// Whether whoever opens the newest checkpoint can see that this was done.
fn shows(task: &Task) -> bool {
    matches!(task, Task::Finish | Task::Discard)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::disallowed_methods, reason = "threads and times are what is tested here")]

    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    fn lane(number: u64, waiting: &Arc<std::sync::atomic::AtomicUsize>) -> Arc<Lane> {
        let dir = Path::new("/state/schedules").join(number.to_string());
        Arc::new(Lane::new(number, ("schedules", 0), dir, waiting, channel().0))
    }

    fn push(queue: &Queue, lane: &Arc<Lane>, task: Task) {
        if let Task::Write(bytes) = &task {
            assert!(lane.admit(bytes.len()));
        }
        assert!(queue.push(Job { lane: Arc::clone(lane), task }).is_ok());
    }

    fn next(queue: &Queue) -> Option<(u64, Task)> {
        match queue.next(Duration::ZERO) {
            Next::Job(Job { lane, task }) => Some((lane.number, task)),
            Next::Idle | Next::End => None,
        }
    }

    #[test]
    fn whose_partition_is_waited_for_comes_first() {
        let (queue, waiting) = (Arc::new(Queue::default()), Arc::default());
        let lanes = [0, 1].map(|number| lane(number, &waiting));
        for lane in &lanes {
            push(&queue, lane, Task::Write(vec![1]));
            push(&queue, lane, Task::Finish);
        }
        let settled: Receiver<bool> = {
            let (sender, settled) = channel();
            let (queue, dir) = (Arc::clone(&queue), lanes[1].dir.clone());
            let waits = move || sender.send(queue.settle(&dir, Duration::from_mins(1))).unwrap();
            std::thread::Builder::new().spawn(waits).unwrap();
            settled
        };
        while queue.state().urgent.is_empty() {
            std::thread::yield_now();
        }
        assert!(matches!(next(&queue), Some((1, Task::Write(_)))));
        assert!(matches!(next(&queue), Some((1, Task::Finish))));
        assert!(settled.try_recv().is_err(), "it is not done yet");
        assert!(matches!(next(&queue), Some((0, Task::Write(_)))));
        assert!(settled.recv().unwrap());
        assert!(!queue.settle(&lanes[0].dir, Duration::from_millis(1)), "that one is not done");
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_written() {
        let (queue, waiting) = (Queue::default(), Arc::default());
        let lanes = [0, 1].map(|number| lane(number, &waiting));
        for task in [Task::Write(vec![1]), Task::Finish, Task::Write(vec![2])] {
            push(&queue, &lanes[0], task);
        }
        push(&queue, &lanes[1], Task::Write(vec![3]));
        push(&queue, &lanes[0], Task::Abandon);
        assert!(matches!(next(&queue), Some((0, Task::Write(bytes))) if bytes == [1]));
        assert!(matches!(next(&queue), Some((0, Task::Finish))));
        assert!(matches!(next(&queue), Some((1, Task::Write(bytes))) if bytes == [3]));
        assert!(matches!(next(&queue), Some((0, Task::Abandon))));
        assert!(next(&queue).is_none());
        assert_eq!(waiting.load(std::sync::atomic::Ordering::Relaxed), 2, "the dropped one waits no more");
    }
}
