//! The machine, and the CPU time and memory of processes, read from `/proc`. On systems without `/proc` those
//! figures are left out.

use std::fs;
use std::time::Duration;

use tokio_postgres::Client;

/// Returns cores, processor, memory, server and build in one line.
pub async fn line(sql: &Client) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let first = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = first("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = first("/proc/meminfo", "MemTotal")
        .and_then(|kib| kib.trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(String::new(), |kib| format!(", {} GiB", kib / (1 << 20)));
    let row = sql.query_one("SHOW server_version", &[]).await.expect("the server has a version");
    let server: String = row.get(0);
    let build = if cfg!(debug_assertions) { "debug" } else { "optimised" };
    format!("{cores} cores ({processor}){memory}, PostgreSQL {server}, fsync on, {build} build")
}

/// Returns the CPU time of the calling thread.
pub fn cpu_time_of_this_thread() -> Option<Duration> {
    on_cpu("/proc/thread-self/schedstat")
}

/// Returns the CPU time of several single-threaded processes, such as PostgreSQL's.
pub fn cpu_time_of(pids: &[u32]) -> Option<Duration> {
    pids.iter().map(|pid| on_cpu(&format!("/proc/{pid}/schedstat"))).sum()
}

fn on_cpu(path: &str) -> Option<Duration> {
    let text = fs::read_to_string(path).ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// The ticks of a second in `/proc/PID/stat`, the same on every architecture that Linux has here.
const TICKS: u64 = 100;

/// The times of a process in ticks: its own, and that of its children for whose end it has waited.
fn ticks(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have spaces, come the state and the parent's id.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let sum = |at: usize| {
        Some(fields.get(at)?.parse::<u64>().ok()? + fields.get(at + 1)?.parse::<u64>().ok()?)
    };
    Some((sum(11)?, sum(13)?))
}

fn children(pid: u32) -> Vec<u32> {
    let is_child = |of: &u32| {
        let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.and_then(|parent| parent.trim().parse().ok()) == Some(pid)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

/// Returns the CPU time of a process and of its children, those included that have ended.
pub fn cpu_time_of_all(pid: u32) -> Option<Duration> {
    loop {
        let (own, ended) = ticks(pid)?;
        let living: u64 = children(pid).into_iter().filter_map(ticks).map(|(own, _)| own).sum();
        // One that has ended meanwhile may be counted twice, or not at all.
        if ticks(pid)?.1 == ended {
            return Some(Duration::from_millis((own + ended + living) * 1000 / TICKS));
        }
    }
}

/// Returns the CPU time of this process and of its children that have ended.
pub fn cpu_time_of_this_process() -> Option<Duration> {
    let (own, ended) = ticks(std::process::id())?;
    Some(Duration::from_millis((own + ended) * 1000 / TICKS))
}

/// Returns the process ids of a login's backends.
pub async fn backends(sql: &Client, login: &str) -> Vec<u32> {
    let query = "SELECT pid FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()";
    let rows = sql.query(query, &[&login]).await.expect("activity can be read");
    rows.iter().filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok()).collect()
}

/// Returns a process's memory in MiB: all that is resident, and the anonymous part (no files, no shared buffers).
pub fn memory(pid: u32) -> Option<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mib = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    Some((mib("VmRSS:")?, mib("RssAnon:")?))
}
