//! The writer of stderr. Every line of the log and every message passes one queue, which a thread of its own writes.
//!
//! A log that cannot be written must not stop the work. Stderr can be a pipe that is not read, where a write blocks,
//! or a closed pipe or a file on a full disk, where a write fails. A caller therefore never waits: a line that does
//! not fit into the queue is dropped, so is a line whose write fails, and both are counted.
//!
//! `tracing-appender` has such a queue, and two properties that exclude it here: it does not count lines whose write
//! fails, and when it is dropped with a full queue it prints to stdout, which blocks or panics where stdout is the
//! same pipe or disk.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The size of the queue, in bytes: about eight thousand lines.
const QUEUE_BYTES: usize = 2 * 1024 * 1024;

/// The stack of the thread, which formats one line at most.
const STACK_BYTES: usize = 256 * 1024;

/// How long [`flush`] waits while nothing is written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two looks at the queue, and before a write to a full non-blocking file is tried again.
const POLL: Duration = Duration::from_millis(5);

static STDERR: LazyLock<Queue> = LazyLock::new(|| {
    Queue::start(io::stderr(), |count| {
        tracing::warn!(
            log.dropped = count,
            "lines of the log were dropped, because stderr could not be written"
        );
    })
});

/// Writes a line to stderr without waiting: each write is one line, whole or dropped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STDERR.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a message and a newline to stderr, in order with the log. If the queue is full it waits for room, at most a
/// second. A failure is counted as for a line of the log.
pub fn say(text: &str) {
    if STDERR.pending() + text.len() > QUEUE_BYTES {
        flush();
    }
    STDERR.push(format!("{text}\n").as_bytes());
}

/// Waits until all lines so far are written, but not if nothing is written for a second.
pub(super) fn flush() {
    STDERR.flush(FLUSH_TIMEOUT);
}

/// Returns how many lines were dropped since the start.
#[must_use]
pub fn dropped_lines() -> u64 {
    STDERR.counts.dropped.load(Ordering::Relaxed)
}

/// Writes all bytes. Unlike [`Write::write_all`] it waits where the file is non-blocking and full, as stderr and stdout
/// are if another process set them so.
///
/// # Errors
/// The first error of the file.
pub fn write_all(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    Progress::default().write(out, bytes)
}

/// How much of a line is written.
#[derive(Default)]
struct Progress {
    written: usize,
}

impl Progress {
    fn write(&mut self, out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        while let Some(rest) = bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            match out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Lines that wait to be written.
struct Queue {
    lines: mpsc::Sender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Bytes that are not written yet.
    pending: AtomicUsize,
    /// Lines that were not written.
    dropped: AtomicU64,
}

impl Queue {
    /// Starts the thread. It calls `report` with the number of lines that were dropped, once stderr can be written again.
    fn start(out: impl Write + Send + 'static, report: impl Fn(u64) + Send + 'static) -> Self {
        let (lines, queued) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let writer = Writer { out, counts: Arc::clone(&counts), is_cut: false, reported: 0 };
        let thread = thread::Builder::new().name("stderr".to_owned()).stack_size(STACK_BYTES);
        // Without a thread there is no receiver, and every line is counted as dropped.
        let _ = thread.spawn(move || writer.run(&queued, report));
        Self { lines, counts }
    }

    fn push(&self, line: &[u8]) {
        let pending = self.counts.pending.fetch_add(line.len(), Ordering::AcqRel) + line.len();
        if pending > QUEUE_BYTES || self.lines.send(line.to_vec()).is_err() {
            self.counts.pending.fetch_sub(line.len(), Ordering::AcqRel);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pending(&self) -> usize {
        self.counts.pending.load(Ordering::Acquire)
    }

    /// Waits until nothing is pending, but not if that does not decrease for this long.
    fn flush(&self, timeout: Duration) {
        let (mut pending, mut since) = (self.pending(), Instant::now());
        while pending > 0 && since.elapsed() < timeout {
            thread::sleep(POLL);
            let now = self.pending();
            if now < pending {
                since = Instant::now();
            }
            pending = now;
        }
    }
}

/// Writes the lines, on the thread.
struct Writer<W> {
    out: W,
    counts: Arc<Counts>,
    /// Whether the last line was written in part.
    is_cut: bool,
    /// How many dropped lines were reported.
    reported: u64,
}

impl<W: Write> Writer<W> {
    fn run(mut self, queued: &mpsc::Receiver<Vec<u8>>, report: impl Fn(u64)) {
        while let Ok(line) = queued.recv() {
            let written = self.write(&line);
            if written.is_err() {
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
            let pending = self.counts.pending.fetch_sub(line.len(), Ordering::AcqRel) - line.len();
            let dropped = self.counts.dropped.load(Ordering::Relaxed);
            if written.is_ok() && pending == 0 && dropped > self.reported {
                report(dropped - self.reported);
                self.reported = dropped;
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_cut {
            write_all(&mut self.out, b"\n")?;
            self.is_cut = false;
        }
        let mut progress = Progress::default();
        let written = progress.write(&mut self.out, line);
        self.is_cut = written.is_err() && progress.written > 0;
        written
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Mutex, MutexGuard};

    use super::*;

    /// A file that gives each write one of these answers, and then accepts everything.
    #[derive(Clone, Default)]
    struct File {
        text: Arc<Mutex<Vec<u8>>>,
        answers: Arc<Mutex<VecDeque<Answer>>>,
        is_blocked: Arc<Mutex<()>>,
    }

    enum Answer {
        Accept(usize),
        Refuse(ErrorKind),
    }

    impl File {
        fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
            let file = Self::default();
            *file.answers.lock().unwrap() = answers.into_iter().collect();
            file
        }

        fn text(&self) -> String {
            String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
        }

        /// Blocks each write until the returned value is dropped.
        fn block(&self) -> MutexGuard<'_, ()> {
            self.is_blocked.lock().unwrap()
        }
    }

    impl Write for File {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            drop(self.is_blocked.lock().unwrap());
            let count = match self.answers.lock().unwrap().pop_front() {
                Some(Answer::Refuse(kind)) => return Err(kind.into()),
                Some(Answer::Accept(count)) => count,
                None => bytes.len(),
            };
            self.text.lock().unwrap().write(&bytes[..count])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue_on(file: &File) -> (Queue, mpsc::Receiver<u64>) {
        let (sender, reports) = mpsc::channel();
        let report = move |count| sender.send(count).unwrap();
        (Queue::start(file.clone(), report), reports)
    }

    fn dropped(queue: &Queue) -> u64 {
        queue.counts.dropped.load(Ordering::Relaxed)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let file = File::default();
        let (queue, _reports) = queue_on(&file);
        for line in ["one\n", "two\n", "three\n"] {
            queue.push(line.as_bytes());
        }
        queue.flush(LONG);
        assert_eq!(file.text(), "one\ntwo\nthree\n");
        assert_eq!(dropped(&queue), 0);
    }

    #[test]
    fn a_blocked_file_delays_no_caller_and_what_does_not_fit_is_counted_and_reported() {
        let file = File::default();
        let (queue, reports) = queue_on(&file);
        let line = vec![b'x'; QUEUE_BYTES / 4];
        let blocked = file.block();
        for _ in 0..6 {
            queue.push(&line);
        }
        assert_eq!(dropped(&queue), 2);
        queue.flush(Duration::from_millis(20));
        assert!(queue.pending() > 0, "a flush does not wait for ever");
        drop(blocked);
        queue.flush(LONG);
        assert_eq!(file.text().len(), 4 * line.len());
        assert_eq!(reports.recv_timeout(LONG), Ok(2));
    }

    #[test]
    fn a_line_whose_write_fails_is_counted_and_the_next_one_begins_a_new_line() {
        let full = || Answer::Refuse(ErrorKind::StorageFull);
        let file = File::answering([full(), Answer::Accept(2), full()]);
        let (queue, reports) = queue_on(&file);
        for line in ["lost\n", "cut\n", "kept\n"] {
            queue.push(line.as_bytes());
        }
        queue.flush(LONG);
        assert_eq!(file.text(), "cu\nkept\n");
        assert_eq!((dropped(&queue), reports.recv_timeout(LONG)), (2, Ok(2)));
    }

    #[test]
    fn a_full_non_blocking_file_is_waited_for() {
        let again = || Answer::Refuse(ErrorKind::WouldBlock);
        let interrupted = Answer::Refuse(ErrorKind::Interrupted);
        let file = File::answering([again(), Answer::Accept(1), again(), interrupted]);
        let (queue, _reports) = queue_on(&file);
        queue.push(b"whole\n");
        queue.flush(LONG);
        assert_eq!((file.text().as_str(), dropped(&queue)), ("whole\n", 0));
    }
}
