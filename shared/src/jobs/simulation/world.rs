//! The world of the simulation: jobs, tasks and lanes as MySQL has them, and workers as they believe things to be.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::check::ended;
use super::step::{Shape, Step};
use super::task::Task;
use crate::clock::Clock;
use crate::jobs::candidates::{Candidate, in_order};
use crate::jobs::checkpoint::wanted;
use crate::jobs::claim::lease_end;
use crate::jobs::model::{JobId, Phase, ReadCounts, Wanted};
use crate::jobs::ownership::{Ending, Judgement, Ownership};
use crate::jobs::reasons;
use crate::jobs::situation::{Situation, Tally, fate};
use crate::jobs::states::{Event, JobState, TaskState};
use crate::leases::Epoch;
use crate::position::Offset;

pub(super) const LEASE: Duration = Duration::from_secs(30);
/// The server ends the session of a lane that is silent for so long, and rolls its batch back.
const SESSION: Duration = Duration::from_secs(5);
const MAX_ATTEMPTS: u32 = 5;
pub(super) const SLOTS: usize = 4;

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) state: JobState,
    pub(super) shape: Shape,
    pub(super) asked_at: Option<Timestamp>,
    pub(super) tasks: Vec<Task>,
    /// What it was when it ended.
    pub(super) ended: Option<String>,
}

/// What a worker believes.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) job: usize,
    pub(super) task: usize,
    pub(super) epoch: Epoch,
    pub(super) phase: Phase,
    pub(super) next: u64,
    pub(super) read: ReadCounts,
    /// The position of the batch that it has open.
    pub(super) open: Option<u64>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) jobs: Vec<Job>,
    pub(super) slots: Vec<Option<Run>>,
}

impl World {
    pub(super) fn new(shapes: &[Shape]) -> Self {
        let jobs = (0..).zip(shapes).map(|(number, shape)| Job {
            id: JobId(Uuid::from_u128(number)),
            state: JobState::Pending,
            shape: shape.clone(),
            asked_at: None,
            tasks: shape
                .tasks
                .iter()
                .map(|positions| Task::new(*positions, shape.clean_first))
                .collect(),
            ended: None,
        });
        Self {
            clock: Clock::manual("2026-01-01T00:00:00Z".parse().expect("a time")),
            jobs: jobs.collect(),
            slots: vec![None; SLOTS],
        }
    }

    pub(super) fn states(&self) -> Vec<JobState> {
        self.jobs.iter().map(|job| job.state).collect()
    }

    pub(super) fn written(&self) -> u64 {
        self.jobs
            .iter()
            .flat_map(|job| &job.tasks)
            .map(|task| task.inserted)
            .sum()
    }

    pub(super) fn has_run(&self, slot: usize) -> bool {
        self.slots[slot].is_some()
    }

    pub(super) fn error(&self, job: usize, task: usize) -> &str {
        &self.jobs[job].tasks[task].row.error
    }

    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Advance(by) => self.advance(*by),
            Step::Claim(slot) => self.claim(*slot),
            Step::Write(slot) => {
                self.open(*slot);
                self.commit(*slot);
            }
            Step::Open(slot) => self.open(*slot),
            Step::Commit(slot) => self.commit(*slot),
            Step::Checkpoint(slot) => self.checkpoint(*slot),
            Step::Renew(slot) => self.renew(*slot),
            Step::Release { slot, with_error } => {
                let error = with_error.then_some("it broke");
                self.end(*slot, |row, run| {
                    row.release(run.epoch, Offset(run.next), run.read, error)
                });
            }
            Step::Finish(slot) => {
                let is_at_end = |run: &Run| run.next == self.jobs[run.job].tasks[run.task].row.end.0;
                if self.slots[*slot].as_ref().is_some_and(is_at_end) {
                    self.end(*slot, |row, run| row.finish(run.epoch, run.phase, run.read));
                }
            }
            Step::FailTask(slot) => self.end(*slot, |row, run| row.fail(run.epoch, "POISON", "it cannot go on")),
            Step::Die(slot) => self.die(*slot),
            Step::Expire { job, task, by } => {
                if let Some(task) = self.jobs.get_mut(*job).and_then(|job| job.tasks.get_mut(*task)) {
                    task.log_start = (task.log_start + by).min(task.row.end.0);
                }
            }
            Step::Ask { job, event } => self.ask(*job, *event),
            Step::Settle(job) => self.settle(*job),
            Step::FailJob(job) => {
                let next = self.jobs.get(*job).and_then(|job| job.state.after(Event::Fail));
                next.map(|next| self.enter(*job, next));
            }
        }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        let now = self.clock.now();
        for task in self.jobs.iter_mut().flat_map(|job| &mut job.tasks) {
            task.roll_back(|_, since| lease_end(since, SESSION) < now);
        }
    }

    pub(super) fn claim(&mut self, slot: usize) {
        if self.slots[slot].is_some() {
            return;
        }
        let now = self.clock.now();
        let candidates = (0..).zip(&self.jobs).map(|(number, job)| Candidate {
            job: job.id,
            priority: job.shape.priority,
            running: job.tasks.iter().filter(|task| task.row.is_held(now)).count() as u64,
            created_ms: number,
            data_types: Vec::new(),
            catalog_hash: String::new(),
            is_refused: false,
        });
        for candidate in in_order(candidates.collect()) {
            let number = usize::try_from(candidate.created_ms).expect("a small number");
            let job = &mut self.jobs[number];
            let is_cleaning = job.tasks.iter().any(|task| task.row.phase == Phase::Clean);
            let judge = |task: &Task| task.row.judge(job.state, is_cleaning, now, MAX_ATTEMPTS);
            let Some(place) = job.tasks.iter().position(|task| judge(task) != Judgement::Leave) else {
                continue;
            };
            let judgement = judge(&job.tasks[place]);
            let task = &mut job.tasks[place];
            if judgement == Judgement::GiveUp {
                if task.change(Ownership::give_up).is_some() {
                    self.settle(number);
                }
                continue;
            }
            let owner = format!("worker {slot}");
            if task.change(|row| row.claim(&owner, lease_end(now, LEASE))).is_some() {
                task.rightful = Some(slot);
                self.slots[slot] = Some(Run {
                    job: number,
                    task: place,
                    epoch: task.row.epoch,
                    phase: task.row.phase,
                    next: task.row.checkpoint.0,
                    read: task.row.read,
                    open: None,
                });
                return;
            }
        }
    }

    /// Enters a lane, or finds that the next positions are gone from Kafka.
    fn open(&mut self, slot: usize) {
        let now = self.clock.now();
        let Some(run) = &mut self.slots[slot] else { return };
        let job = &mut self.jobs[run.job];
        let task = &mut job.tasks[run.task];
        if run.open.is_some() {
            return;
        }
        if run.next < task.log_start {
            if !job.shape.allow_partial {
                let epoch = run.epoch;
                task.change(|row| row.fail(epoch, reasons::DATA_EXPIRED, "it is gone"));
                return;
            }
            if !task.row.is_owned_at(run.epoch) {
                self.slots[slot] = None;
                return;
            }
            task.missing.extend(run.next..task.log_start);
            if task.row.checkpoint.0 >= run.next {
                let read = task.row.read;
                task.row.advance(run.epoch, Offset(task.log_start), read);
            }
            run.next = task.log_start;
            return;
        }
        if run.next >= task.row.end.0 {
            return;
        }
        let lane = &mut task.lanes[usize::from(run.next % 2 == 1)];
        if lane.open.is_some() {
            return;
        }
        if lane.epoch == run.epoch {
            lane.open = Some((slot, now));
            run.open = Some(run.next);
        } else {
            self.slots[slot] = None;
        }
    }

    fn commit(&mut self, slot: usize) {
        let Some(run) = &mut self.slots[slot] else { return };
        let job = &mut self.jobs[run.job];
        let is_cleaning = job.tasks.iter().any(|task| task.row.phase == Phase::Clean);
        let task = &mut job.tasks[run.task];
        let Some(position) = run.open.take() else { return };
        let lane = &mut task.lanes[usize::from(position % 2 == 1)];
        if lane.open.is_none_or(|(by, _)| by != slot) {
            return;
        }
        assert!(
            run.phase == Phase::Clean || !is_cleaning,
            "written while another task cleans"
        );
        lane.open = None;
        assert_eq!(task.rightful, Some(slot), "I5: a batch of a former owner was committed");
        match run.phase {
            Phase::Clean => drop(task.cleaned.insert(position)),
            Phase::Write if task.written.insert(position) => task.inserted += 1,
            Phase::Write => {}
        }
        run.next = position + 1;
        run.read.read += 1;
    }

    fn checkpoint(&mut self, slot: usize) {
        let Some(run) = &self.slots[slot] else { return };
        let job = &mut self.jobs[run.job];
        let row = &mut job.tasks[run.task].row;
        let is_owner = row.advance(run.epoch, Offset(run.next), run.read);
        if !is_owner || wanted(job.state, None, 1) == Wanted::Lost {
            self.slots[slot] = None;
        }
    }

    fn renew(&mut self, slot: usize) {
        let now = self.clock.now();
        let Some(run) = &self.slots[slot] else { return };
        let row = &mut self.jobs[run.job].tasks[run.task].row;
        if row.is_owned_at(run.epoch) {
            row.lease_until = Some(lease_end(now, LEASE));
        }
    }

    /// The worker's last word; a batch that it has open is given up first.
    fn end(&mut self, slot: usize, say: impl Fn(&mut Ownership, &Run) -> Ending) {
        let Some(run) = self.slots[slot].take() else { return };
        let task = &mut self.jobs[run.job].tasks[run.task];
        task.roll_back(|by, _| by == slot);
        let said = task.change(|row| say(row, &run));
        if said == Some(Ending::Changed) {
            let again = task.change(|row| say(row, &run));
            assert_eq!(again, Some(Ending::Known), "an answer that was lost is asked for again");
        }
    }

    pub(super) fn die(&mut self, slot: usize) {
        self.slots[slot] = None;
        for task in self.jobs.iter_mut().flat_map(|job| &mut job.tasks) {
            task.roll_back(|by, _| by == slot);
        }
    }

    pub(super) fn ask(&mut self, number: usize, event: Event) {
        let Some(job) = self.jobs.get_mut(number) else { return };
        let Some(next) = job.state.after(event) else { return };
        if event == Event::Retry {
            job.ended = None;
            for task in &mut job.tasks {
                if task.row.state != TaskState::Done {
                    task.row.state = TaskState::Pending;
                    task.row.attempts = 0;
                    task.row.reason.clear();
                    task.row.error.clear();
                }
            }
        }
        self.enter(number, next);
        let job = &self.jobs[number];
        if job.tasks.iter().all(|task| task.row.state != TaskState::Running) {
            self.settle(number);
        }
    }

    fn situation(&self, job: &Job) -> Situation {
        let now = self.clock.now();
        let mut tasks = Tally::default();
        for task in &job.tasks {
            *match task.row.state {
                TaskState::Pending => &mut tasks.pending,
                TaskState::Running if task.row.is_held(now) => &mut tasks.held,
                TaskState::Running => &mut tasks.expired,
                TaskState::Done => &mut tasks.done,
                TaskState::Failed => &mut tasks.failed,
                TaskState::Cancelled => &mut tasks.cancelled,
            } += 1;
        }
        Situation {
            state: job.state,
            tasks,
            asked_for: job.asked_at.map(|at| now.duration_since(at).unsigned_abs()),
            refused_for: None,
            is_missing: job.tasks.iter().any(|task| !task.missing.is_empty()),
        }
    }

    pub(super) fn settle(&mut self, number: usize) {
        while let Some(job) = self.jobs.get(number) {
            let Some(event) = self.situation(job).due() else { return };
            let next = job.state.after(event).expect("what is due is allowed");
            if !self.enter(number, next) {
                return;
            }
        }
    }

    /// Moves a job and its tasks; `false`: a batch is open, so nothing was done.
    fn enter(&mut self, number: usize, next: JobState) -> bool {
        let now = self.clock.now();
        let job = &mut self.jobs[number];
        let to_fence = |task: &Task| task.row.state == TaskState::Running && fate(next, task.row.state).is_some();
        if job.tasks.iter().any(|task| to_fence(task) && task.is_busy()) {
            return false;
        }
        for task in &mut job.tasks {
            match (fate(next, task.row.state), task.row.state) {
                (None, _) => {}
                (Some(state), TaskState::Running) => drop(task.change(|row| row.fence(state))),
                (Some(state), _) => task.row.state = state,
            }
        }
        job.state = next;
        job.asked_at = matches!(next, JobState::Pausing | JobState::Cancelling).then_some(now);
        if next.is_final() {
            job.ended = Some(ended(job));
        }
        true
    }
}
