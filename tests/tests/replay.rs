//! Replays read exactly their slices, and write exactly what live traffic would have written.

use anyhow::{Result, ensure};
use reprise_shared::jobs::JobState;
use reprise_tests::feed::{FeedConfig, Fund, moment};
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE, feed_of_all_kinds, sum_of};
use reprise_tests::kernel::Stopwatch;

/// No live traffic runs beside these, and nothing is to be slowed down because of that.
fn options() -> Options {
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Options {
        settings: vec![
            setting("replay.live_first.floor_rate", "4000000000"),
            setting("replay.poll", "100ms"),
        ],
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_replay_of_one_type_ends_in_the_tables_of_the_oracle_with_exact_counts() -> Result<()> {
    let config = feed_of_all_kinds(Some(20_000), 31);
    let mut fleet = Fleet::new("replay-all", options()).await?;
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_replay_workers(2).await?;

    let asked = Asked {
        slice: 3_000,
        ..Asked::default()
    };
    let slices = fleet.slices("fund_valuation", asked.slice).await?;
    let (folded, read) = fleet.oracle_of(&slices, &asked, config.clone()).await?;
    let job = fleet.replay_slices(slices.clone(), &asked).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    folded.compare(&fleet.pool).await?;
    fleet.check_letters(&folded).await?;

    let counts = folded.counts_of("fund_valuation");
    let rows = folded.tables["t_fund_valuation"].len() as u64;
    let letters = counts.records.dead_lettered + counts.dead_lettered_rows;
    let (found, written) = (&progress.read, &progress.written);
    ensure!(found.read == read, "{} of {read} records were read", found.read);
    ensure!(found.filtered == 0, "{} were filtered", found.filtered);
    let others = read - counts.records.processed - counts.records.dead_lettered;
    ensure!(found.skipped == others, "{} of {others} were skipped", found.skipped);
    ensure!(
        written.inserted == rows,
        "{} of {rows} rows were inserted",
        written.inserted
    );
    ensure!(
        written.dead_lettered == letters,
        "{} of {letters} letters",
        written.dead_lettered
    );
    let expected = counts.rows + letters;
    ensure!(
        sum_of(written) == expected,
        "{written:?} adds up to {}, not to {expected}",
        sum_of(written)
    );

    // Once more: everything is there already.
    let again = fleet.replay_slices(slices, &asked).await?;
    let progress = fleet.job_succeeds(again, PATIENCE).await?;
    let written = &progress.written;
    ensure!(written.inserted + written.updated == 0, "again: {written:?}");
    ensure!(sum_of(written) == expected, "again: {written:?}");
    folded.compare(&fleet.pool).await?;

    let groups = fleet.groups().await?;
    ensure!(groups.is_empty(), "the broker lists {groups:?}");
    eprintln!("{read} records read in {} tasks: {written:?}; no group", progress.tasks);
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_ids_and_times_that_were_asked_for_pass() -> Result<()> {
    let config = FeedConfig {
        records: Some(8_000),
        funds: 100,
        ..FeedConfig::default()
    };
    let mut fleet = Fleet::new("replay-filter", options()).await?;
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_replay_workers(1).await?;
    // A live whitelist of somebody else, which has no say.
    fleet.set_whitelist(&[Fund(99).performance_id()]).await?;
    let asked = Asked {
        ids: Some((1..6).map(|fund| Fund(fund).performance_id()).collect()),
        times: (Some(moment(2)), Some(moment(6))),
        ..Asked::default()
    };
    let slices = fleet.slices("fund_valuation", asked.slice).await?;
    let (folded, read) = fleet.oracle_of(&slices, &asked, config.clone()).await?;
    let job = fleet.replay_slices(slices.clone(), &asked).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    folded.compare(&fleet.pool).await?;
    let passed = folded.counts_of("fund_valuation").records.processed;
    let whole = Asked::default();
    let (all, _) = fleet.oracle_of(&slices, &whole, config).await?;
    let of_type = all.counts_of("fund_valuation").records.processed;
    ensure!(
        passed > 10 && passed < of_type / 5,
        "{passed} of {of_type} pass: the test shows little"
    );
    let found = progress.read;
    ensure!(
        (found.read, found.filtered, found.skipped) == (read, of_type - passed, read - of_type),
        "{found:?}, where {passed} of {of_type} records of the type pass, out of {read}"
    );

    // A list without ids lets nothing through.
    let nothing = Asked {
        ids: Some(Vec::new()),
        ..Asked::default()
    };
    let job = fleet.replay_slices(slices, &nothing).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    ensure!(
        progress.read.filtered == of_type && sum_of(&progress.written) == 0,
        "{progress:?}"
    );
    folded.compare(&fleet.pool).await?;
    eprintln!("{passed} of {of_type} records of the type passed");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_takes_effect_within_two_seconds_and_resume_goes_on_where_it_was() -> Result<()> {
    let config = feed_of_all_kinds(Some(6_000), 33);
    let mut fleet = Fleet::new("replay-pause", options()).await?;
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_replay_workers(1).await?;
    let slow = Asked {
        per_second: Some(600),
        ..Asked::default()
    };
    let slices = fleet.slices("fund_valuation", slow.slice).await?;
    let (folded, read) = fleet.oracle_of(&slices, &slow, config).await?;
    let job = fleet.replay_slices(slices, &slow).await?;
    fleet.job_reads(job, 300, PATIENCE).await?;
    let watch = Stopwatch::start()?;
    fleet.ask(job, reprise_shared::jobs::Event::Pause).await?;
    fleet.job_is(job, JobState::Paused, PATIENCE).await?;
    let took = watch.elapsed()?;
    ensure!(took.as_secs_f64() < 2.0, "the pause took {took:?}");
    let paused = fleet.progress(job).await?;
    ensure!(paused.read.read < read, "nothing was left to pause");

    fleet.unlimit(job).await?;
    fleet.ask(job, reprise_shared::jobs::Event::Resume).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    ensure!(progress.read.read == read, "{} of {read} were read", progress.read.read);
    let rows = folded.tables["t_fund_valuation"].len() as u64;
    ensure!(
        progress.written.inserted == rows,
        "{:?}, not {rows} rows",
        progress.written
    );
    folded.compare(&fleet.pool).await?;
    eprintln!("paused within {took:?} at {} of {read} records", paused.read.read);
    fleet.stop().await
}
