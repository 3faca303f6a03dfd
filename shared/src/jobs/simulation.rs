//! Random lives of jobs, by the pure functions that the store uses, on a clock that stands still until it is moved.
//!
//! Workers claim, write, freeze past their lease and come back, lose their sessions, die; people pause, resume, cancel
//! and try again; Kafka deletes what is old. A frozen worker is one that no step moves. After each step the world is
//! checked. What is not modelled: how MySQL orders transactions. Each step is one, and one that would have to wait for
//! a lane does nothing.

mod check;
mod step;
mod task;
mod world;

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use self::step::{Shape, Step};
use self::world::World;
use super::states::{Event, JobState};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = 0..4_usize;
    let job = 0..2_usize;
    let task = 0..3_usize;
    let people = prop::sample::select(vec![Event::Pause, Event::Resume, Event::Cancel, Event::Retry]);
    let step = prop_oneof![
        6 => slot.clone().prop_map(Step::Claim),
        12 => slot.clone().prop_map(Step::Write),
        3 => slot.clone().prop_map(Step::Open),
        4 => slot.clone().prop_map(Step::Commit),
        8 => slot.clone().prop_map(Step::Checkpoint),
        2 => slot.clone().prop_map(Step::Renew),
        2 => (slot.clone(), any::<bool>()).prop_map(|(slot, with_error)| Step::Release { slot, with_error }),
        6 => slot.clone().prop_map(Step::Finish),
        1 => slot.clone().prop_map(Step::FailTask),
        2 => slot.prop_map(Step::Die),
        1 => (job.clone(), task, 1..4_u64).prop_map(|(job, task, by)| Step::Expire { job, task, by }),
        4 => prop_oneof![Just(200_u64), Just(1_600), Just(6_000), Just(31_000)]
            .prop_map(|by| Step::Advance(Duration::from_millis(by))),
        3 => (job.clone(), people).prop_map(|(job, event)| Step::Ask { job, event }),
        6 => job.clone().prop_map(Step::Settle),
        1 => job.prop_map(Step::FailJob),
    ];
    vec(step, 1..160)
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (vec(1..5_u64, 0..4), any::<bool>(), any::<bool>(), -1..2_i16).prop_map(
        |(tasks, clean_first, allow_partial, priority)| Shape {
            tasks,
            clean_first,
            allow_partial,
            priority,
        },
    );
    vec(shape, 1..3)
}

/// Runs the steps, then lets one worker that does everything right bring all jobs to their end.
fn live(shapes: &[Shape], steps: &[Step]) -> World {
    let mut world = World::new(shapes);
    for step in steps {
        world.take(step);
        world.check();
    }
    world.bring_to_the_end();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn i5_whatever_happens_only_owners_write_and_every_position_is_done_once(shapes in shapes(), steps in steps()) {
        live(&shapes, &steps);
    }
}

fn one_job(positions: u64) -> Vec<Shape> {
    vec![Shape {
        tasks: vec![positions],
        clean_first: false,
        allow_partial: false,
        priority: 0,
    }]
}

fn advance(milliseconds: u64) -> Step {
    Step::Advance(Duration::from_millis(milliseconds))
}

#[test]
fn a_job_that_nothing_happens_to_succeeds() {
    let world = live(&one_job(3), &[]);
    assert_eq!(world.states(), [JobState::Succeeded]);
}

#[test]
fn i5_an_owner_that_froze_writes_nothing_after_another_claimed() {
    let mut world = World::new(&one_job(4));
    for step in [
        Step::Claim(0),
        Step::Write(0),
        Step::Checkpoint(0),
        Step::Write(0),
        advance(31_000),
    ] {
        world.take(&step);
    }
    world.take(&Step::Claim(1));
    let written = world.written();
    world.take(&Step::Write(0));
    assert_eq!((world.written(), written), (2, 2));
    world.check();
    world.bring_to_the_end();
    assert_eq!((world.states()[0], world.written()), (JobState::Succeeded, 4));
}

#[test]
fn a_claim_waits_for_the_open_batch_of_a_former_owner() {
    let mut world = World::new(&one_job(4));
    for step in [
        Step::Claim(0),
        advance(29_000),
        Step::Open(0),
        advance(2_000),
        Step::Claim(1),
    ] {
        world.take(&step);
    }
    assert!(!world.has_run(1), "the batch is still open");
    world.take(&Step::Commit(0));
    world.take(&Step::Claim(1));
    assert!(world.has_run(1));
    world.check();
}

/// Found by random lives.
#[test]
fn what_expires_under_an_open_batch_is_missing_only_behind_it() {
    let mut shapes = one_job(2);
    shapes[0].allow_partial = true;
    let expire = Step::Expire { job: 0, task: 0, by: 2 };
    let world = live(
        &shapes,
        &[Step::Claim(0), Step::Open(0), expire, Step::Open(0), Step::Commit(0)],
    );
    assert_eq!((world.states(), world.written()), (vec![JobState::Partial], 1));
}

#[test]
fn a_paused_job_waits_for_its_worker_only_so_long() {
    let mut world = World::new(&one_job(4));
    let pause = Step::Ask {
        job: 0,
        event: Event::Pause,
    };
    for step in [Step::Claim(0), Step::Settle(0), pause, advance(1_400), Step::Settle(0)] {
        world.take(&step);
    }
    assert_eq!(world.states(), [JobState::Pausing]);
    world.take(&advance(100));
    world.take(&Step::Settle(0));
    assert_eq!(world.states(), [JobState::Paused]);
    world.take(&Step::Write(0));
    assert_eq!(world.written(), 0);
}

#[test]
fn a_task_that_never_comes_further_fails_its_job() {
    let mut world = World::new(&one_job(4));
    for _ in 0..5 {
        for step in [Step::Claim(0), Step::Write(0), Step::Die(0), advance(31_000)] {
            world.take(&step);
        }
    }
    assert_eq!(world.states(), [JobState::Pending]);
    world.take(&Step::Claim(0));
    assert_eq!(world.states(), [JobState::Failed]);
    assert_eq!(
        world.error(0, 0),
        "5 attempts came no further than position 0; none of them said why: their workers ended or lost their connections"
    );
}
