//! What the operating system knows of this process: processor time, memory, files. On Linux alone, as with most clients of
//! Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::catalogue::Catalogue;

/// The metrics of the process, by the names that all clients of Prometheus use.
pub(super) struct ProcessMetrics {
    pub(super) started_at: Gauge<f64, AtomicU64>,
    #[cfg(target_os = "linux")]
    used: linux::Used,
}

impl ProcessMetrics {
    pub(super) fn register(catalogue: &mut Catalogue) -> Self {
        Self {
            started_at: catalogue.add(
                "process_start_time_seconds",
                "When this process started, in seconds since 1970",
                Gauge::default(),
            ),
            #[cfg(target_os = "linux")]
            used: linux::Used::register(catalogue),
        }
    }

    /// Reads them again. What cannot be read stays as it was.
    pub(super) fn read(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = self.used.read() {
            tracing::debug!(%error, "failed to read what this process uses");
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::Ordering;

    use procfs::process::{LimitValue, Process};
    use procfs::{ProcResult, page_size, ticks_per_second};

    use super::{AtomicU64, Catalogue, Counter, Gauge};

    pub(super) struct Used {
        cpu: Counter<f64, AtomicU64>,
        resident: Gauge,
        virtual_memory: Gauge,
        threads: Gauge,
        open_fds: Gauge,
        max_fds: Gauge,
    }

    impl Used {
        pub(super) fn register(catalogue: &mut Catalogue) -> Self {
            Self {
                cpu: catalogue.add(
                    "process_cpu_seconds",
                    "Processor time that this process has used, in user and system mode together",
                    Counter::default(),
                ),
                resident: catalogue.add(
                    "process_resident_memory_bytes",
                    "Resident memory of this process",
                    Gauge::default(),
                ),
                virtual_memory: catalogue.add(
                    "process_virtual_memory_bytes",
                    "Virtual memory of this process",
                    Gauge::default(),
                ),
                threads: catalogue.add(
                    "process_threads",
                    "Threads of this process",
                    Gauge::default(),
                ),
                open_fds: catalogue.add(
                    "process_open_fds",
                    "Open file descriptors of this process",
                    Gauge::default(),
                ),
                max_fds: catalogue.add(
                    "process_max_fds",
                    "The most file descriptors that this process may open",
                    Gauge::default(),
                ),
            }
        }

        pub(super) fn read(&self) -> ProcResult<()> {
            let process = Process::myself()?;
            let stat = process.stat()?;
            #[expect(clippy::cast_precision_loss, reason = "an f64 holds the ticks of centuries")]
            let cpu = (stat.utime + stat.stime) as f64 / ticks_per_second() as f64;
            // It never decreases, even if two threads read at once.
            let highest = |stored| {
                let stored = f64::from_bits(stored);
                (cpu > stored).then_some(cpu.to_bits())
            };
            let _ = self.cpu.inner().fetch_update(Ordering::Relaxed, Ordering::Relaxed, highest);
            self.resident.set(as_i64(stat.rss.saturating_mul(page_size())));
            self.virtual_memory.set(as_i64(stat.vsize));
            self.threads.set(stat.num_threads);
            self.open_fds.set(as_i64(process.fd_count()? as u64));
            if let LimitValue::Value(limit) = process.limits()?.max_open_files.soft_limit {
                self.max_fds.set(as_i64(limit));
            }
            Ok(())
        }
    }

    fn as_i64(value: u64) -> i64 {
        i64::try_from(value).unwrap_or(i64::MAX)
    }
}
