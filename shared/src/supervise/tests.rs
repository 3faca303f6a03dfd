use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::atomic::AtomicU32;

use tokio::sync::oneshot;

use super::*;
use crate::backoff::Backoff;

fn supervisor() -> Supervisor {
    Supervisor::new(CancellationToken::new())
}

#[tokio::test(start_paused = true)]
async fn a_critical_failure_requests_shutdown_and_is_kept() {
    let supervisor = supervisor();
    supervisor.spawn("first", OnError::ShutDown, OnCancel::Wait, async {
        Err(io::Error::other("disk gone"))
    });

    supervisor.shutdown_token().cancelled().await;

    let failure = supervisor.failure().expect("a failure");
    assert_eq!(telemetry::chain(&*failure).to_string(), "task first failed: disk gone");
    supervisor.spawn("second", OnError::ShutDown, OnCancel::Wait, async {
        Err(io::Error::other("later"))
    });
    assert!(supervisor.stop(Duration::from_secs(1)).await.is_empty());
    assert_eq!(&*supervisor.failure().expect("a failure").task, "first");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure() {
    let supervisor = supervisor();
    supervisor.spawn("panicking", OnError::ShutDown, OnCancel::Wait, async {
        panic!("row {} is odd", 7);
        #[expect(unreachable_code, reason = "gives the future its type")]
        Ok::<(), Infallible>(())
    });

    supervisor.shutdown_token().cancelled().await;

    let failure = supervisor.failure().expect("a failure");
    assert_eq!(
        telemetry::chain(&*failure).to_string(),
        "task panicking failed: panicked: row 7 is odd"
    );
}

#[tokio::test(start_paused = true)]
async fn a_logged_failure_leaves_the_others_running() {
    let supervisor = supervisor();
    let (ended, end) = oneshot::channel::<()>();
    supervisor.spawn("optional", OnError::Log, OnCancel::Wait, async move {
        let _ended = ended;
        Err(io::Error::other("no matter"))
    });

    assert!(end.await.is_err(), "the task dropped its end");
    assert!(!supervisor.shutdown_token().is_cancelled());
    assert!(supervisor.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_restarting_task_is_made_anew_until_it_ends_well() {
    let supervisor = supervisor();
    let made = Arc::new(AtomicU32::new(0));
    let counter = made.clone();
    let backoff = Backoff {
        first: Duration::from_secs(1),
        max: Duration::from_secs(10),
    };
    let started = Instant::now();
    let (done, wait) = oneshot::channel();
    let mut done = Some(done);
    supervisor.spawn_restarting("flaky", backoff, OnCancel::Wait, move || {
        let attempt = counter.fetch_add(1, Ordering::SeqCst);
        let done = if attempt == 3 { done.take() } else { None };
        async move {
            match done {
                Some(done) => done.send(()).map_err(|()| io::Error::other("nobody waits")),
                None if attempt == 1 => panic!("once by panic"),
                None => Err(io::Error::other("not yet")),
            }
        }
    });

    wait.await.expect("the fourth attempt succeeds");

    assert_eq!(made.load(Ordering::SeqCst), 4);
    assert_eq!(started.elapsed().as_secs(), 1 + 2 + 4);
    assert!(supervisor.stop(Duration::from_secs(1)).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ran_long_enough_starts_over_with_the_first_wait() {
    let supervisor = supervisor();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let record = starts.clone();
    let backoff = Backoff {
        first: Duration::from_secs(1),
        max: Duration::from_secs(4),
    };
    supervisor.spawn_restarting("steady", backoff, OnCancel::Abort, move || {
        record.lock().push(Instant::now());
        async {
            sleep(Duration::from_secs(60)).await;
            Err(io::Error::other("after a minute"))
        }
    });

    sleep(Duration::from_secs(200)).await;

    let starts = starts.lock().clone();
    let gaps: Vec<_> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(gaps, [61, 61, 61]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_wait_before_a_restart() {
    let supervisor = supervisor();
    let backoff = Backoff {
        first: Duration::from_secs(3_600),
        max: Duration::from_secs(3_600),
    };
    supervisor.spawn_restarting("failing", backoff, OnCancel::Wait, || async {
        Err(io::Error::other("always"))
    });
    let started = Instant::now();

    assert!(supervisor.stop(Duration::from_secs(60)).await.is_empty());

    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_tasks_that_want_to_finish_and_drops_the_others() {
    let supervisor = supervisor();
    let token = supervisor.shutdown_token();
    let finished = Arc::new(AtomicU32::new(0));
    let counter = finished.clone();
    supervisor.spawn("drains", OnError::ShutDown, OnCancel::Wait, async move {
        token.cancelled().await;
        sleep(Duration::from_secs(3)).await;
        counter.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Infallible>(())
    });
    supervisor.spawn(
        "serves",
        OnError::ShutDown,
        OnCancel::Abort,
        pending::<Result<(), Infallible>>(),
    );
    let started = Instant::now();

    let left = supervisor.stop(Duration::from_secs(10)).await;

    assert!(left.is_empty(), "{left:?}");
    assert_eq!(finished.load(Ordering::SeqCst), 1);
    assert_eq!(started.elapsed().as_secs(), 3);
    assert!(supervisor.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn stop_names_and_aborts_what_is_left_at_the_deadline() {
    let supervisor = supervisor();
    let (held, dropped) = oneshot::channel::<()>();
    supervisor.spawn("quick", OnError::Log, OnCancel::Wait, async { Ok::<_, Infallible>(()) });
    supervisor.spawn("stuck", OnError::ShutDown, OnCancel::Wait, async move {
        let _held = held;
        pending::<Result<(), Infallible>>().await
    });
    let started = Instant::now();

    let left = supervisor.stop(Duration::from_secs(5)).await;

    assert_eq!(left.iter().map(|name| &**name).collect::<Vec<_>>(), ["stuck"]);
    assert_eq!(started.elapsed().as_secs(), 5);
    assert!(dropped.await.is_err(), "the stuck task was dropped");
}

#[tokio::test(start_paused = true)]
async fn tasks_outlive_the_request_until_stop() {
    let supervisor = supervisor();
    let (held, mut dropped) = oneshot::channel::<()>();
    supervisor.spawn("serves", OnError::Log, OnCancel::Abort, async move {
        let _held = held;
        pending::<Result<(), Infallible>>().await
    });

    supervisor.shutdown_token().cancel();
    sleep(Duration::from_secs(60)).await;
    assert!(matches!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Empty)));

    supervisor.stop(Duration::from_secs(1)).await;
    assert!(dropped.await.is_err());
}
