//! The process's metrics, in Prometheus' text format.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// From half a millisecond to a minute: what a batch, a query or a drain takes.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Rows or records of one batch.
const COUNTS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0,
];
/// From 256 bytes to 64 MiB.
const BYTES: &[f64] = &[
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// A histogram keeps every sample until it is summed up; this often is often enough at any rate.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's metrics. All handles of a process are one and the same.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Metrics {
    /// Begins to record what the `metrics` macros count, and returns the process's handle. What was counted, and
    /// what handles were made, before the first call is lost.
    ///
    /// Histograms named `…_seconds`, `…_bytes` and all others get buckets for times, sizes and counts.
    pub fn install() -> Self {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        INSTALLED
            .get_or_init(|| {
                let recorder = PrometheusBuilder::new()
                    .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
                    .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES))
                    .and_then(|builder| builder.set_buckets(COUNTS))
                    .expect("only an empty list of buckets is refused")
                    .build_recorder();
                let handle = recorder.handle();
                if metrics::set_global_recorder(recorder).is_err() {
                    tracing::warn!("another recorder of metrics was set before, /metrics will stay empty");
                }
                Self(handle)
            })
            .clone()
    }

    /// Returns all metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Sums up histograms every 5 s, so that their samples do not pile up when nobody reads them. Runs until
    /// shutdown. Cancel-safe.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut ticks = interval(UPKEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.0.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handle_of_a_process_shows_the_same_metrics() {
        let first = Metrics::install();
        let second = Metrics::install();

        metrics::counter!("reprise_test_things_total", "kind" => "one").increment(3);
        metrics::histogram!("reprise_test_wait_seconds").record(0.002);

        for text in [first.render(), second.render()] {
            assert!(text.contains("reprise_test_things_total{kind=\"one\"} 3"), "{text}");
            assert!(
                text.contains("reprise_test_wait_seconds_bucket{le=\"0.0025\"} 1"),
                "{text}"
            );
        }
    }
}
