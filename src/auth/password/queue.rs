//! Decides whose hash is computed next: the clients that wait take turns, so that one that sends many log-ins delays its
//! own and no other's by more than one hash for each client.
//!
//! At most a fixed number of hashes run, and at most a fixed number of callers wait. If the queue is full, a caller of a
//! client with fewer waiting callers takes the place of the last caller of the client with the most.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The client for whom a hash is computed, by its address; `None` is work of the server itself.
pub(super) type Client = Option<IpAddr>;

/// The queue of the process.
pub(super) struct Queue {
    /// Most hashes at once.
    concurrency: usize,
    /// Most callers that wait.
    places: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: usize,
    /// The callers of each client that wait, in order of arrival. No line is empty.
    lines: HashMap<Client, VecDeque<Waiter>>,
    /// Each client with a line once, the next one first.
    turns: VecDeque<Client>,
    /// The number of callers that have waited so far.
    arrived: u64,
}

struct Waiter {
    number: u64,
    start: oneshot::Sender<Turn>,
}

/// The reason why a caller was refused, for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0} password hashes are running or waiting, which is the limit")]
pub(super) struct Full(usize);

/// The right to compute one hash. Dropped, it goes to the next caller.
pub(super) struct Turn {
    /// Taken out when the turn is passed on.
    queue: Option<Arc<Queue>>,
}

impl Queue {
    /// Creates a queue. A concurrency of 0 counts as 1.
    pub(super) fn new(concurrency: usize, places: usize) -> Arc<Self> {
        let concurrency = concurrency.max(1);
        Arc::new(Self { concurrency, places, state: Mutex::default() })
    }

    /// Returns the number of turns that are taken, and of callers that wait for one.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.running, state.waiting)
    }

    /// Waits for a turn. A caller that is cancelled leaves the queue.
    ///
    /// # Errors
    /// [`Full`], at once or when another client's caller takes the place.
    pub(super) async fn turn(self: &Arc<Self>, client: Client) -> Result<Turn, Full> {
        let full = Full(self.concurrency.saturating_add(self.places));
        let (place, started) = {
            let mut state = self.state();
            if state.running < self.concurrency {
                state.running += 1;
                return Ok(Turn { queue: Some(Arc::clone(self)) });
            }
            if state.waiting >= self.places && !state.make_room_for(client) {
                return Err(full);
            }
            let (start, started) = oneshot::channel();
            let number = state.push(client, start);
            (Place { queue: self, client, number }, started)
        };
        let turn = started.await;
        drop(place);
        turn.map_err(|_replaced| full)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a turn that is over to the next caller, if any.
    fn pass_on(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.next();
                if next.is_none() {
                    state.running -= 1;
                }
                next
            };
            let Some(start) = next else { return };
            // The lock is free here: a turn that is not received is dropped, and a caller that is woken may ask.
            match start.send(Turn { queue: Some(Arc::clone(&self)) }) {
                Ok(()) => return,
                // The caller has left meanwhile.
                Err(mut refused) => drop(refused.queue.take()),
            }
        }
    }
}

impl State {
    fn push(&mut self, client: Client, start: oneshot::Sender<Turn>) -> u64 {
        self.arrived += 1;
        self.waiting += 1;
        let line = self.lines.entry(client).or_default();
        if line.is_empty() {
            self.turns.push_back(client);
        }
        line.push_back(Waiter { number: self.arrived, start });
        self.arrived
    }

    /// Takes out the first caller of the client whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let client = self.turns.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let waiter = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        self.waiting -= 1;
        Some(waiter.start)
    }

    /// Takes out the last caller of the client with the most, if that client then still has no fewer than this one.
    fn make_room_for(&mut self, client: Client) -> bool {
        let own = self.lines.get(&client).map_or(0, VecDeque::len);
        let most = self.lines.iter().max_by_key(|(_, line)| line.len());
        let Some((&longest, line)) = most else { return false };
        let Some(last) = line.back().filter(|_| line.len() > own + 1) else { return false };
        let number = last.number;
        self.remove(longest, number);
        true
    }

    /// Takes out one caller, unless it is gone already.
    fn remove(&mut self, client: Client, number: u64) {
        let Some(line) = self.lines.get_mut(&client) else { return };
        let Ok(at) = line.binary_search_by_key(&number, |waiter| waiter.number) else { return };
        line.remove(at);
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&client);
            self.turns.retain(|turn| *turn != client);
        }
    }
}

/// A caller's place in the queue. Dropped, it is free.
struct Place<'a> {
    queue: &'a Queue,
    client: Client,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.state().remove(self.client, self.number);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Caller = std::pin::Pin<Box<dyn Future<Output = Result<Turn, Full>>>>;

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    /// Lets a caller ask; returns its turn if it has one.
    fn poll(caller: &mut Caller) -> Poll<Result<Turn, Full>> {
        caller.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn caller(queue: &Arc<Queue>, number: u8) -> Caller {
        let queue = Arc::clone(queue);
        let mut caller: Caller = Box::pin(async move { queue.turn(Some(client(number))).await });
        assert!(poll(&mut caller).is_pending(), "another hash runs");
        caller
    }

    fn occupy(queue: &Arc<Queue>) -> Turn {
        let queue = Arc::clone(queue);
        let mut first: Caller = Box::pin(async move { queue.turn(Some(client(0))).await });
        let Poll::Ready(Ok(turn)) = poll(&mut first) else { panic!("a turn is free") };
        turn
    }

    /// Ends the running hash and all that follow; returns the clients in the order of their turns.
    fn order(mut running: Turn, mut callers: Vec<(u8, Caller)>) -> Vec<u8> {
        let mut order = Vec::new();
        loop {
            drop(running);
            let mut started = None;
            callers.retain_mut(|(number, caller)| match poll(caller) {
                Poll::Ready(Ok(turn)) => {
                    assert!(started.is_none(), "one hash runs at a time");
                    started = Some((*number, turn));
                    false
                }
                Poll::Ready(Err(Full(_))) => false,
                Poll::Pending => true,
            });
            let Some((number, turn)) = started else { return order };
            order.push(number);
            running = turn;
        }
    }

    #[test]
    fn clients_take_turns_whatever_each_has_sent() {
        let queue = Queue::new(1, 1000);
        let running = occupy(&queue);
        let of = |number: u8, count: usize| (0..count).map(move |_| number);
        let arrivals = of(1, 420).chain(of(2, 2)).chain(of(3, 1));
        let callers = arrivals.map(|number| (number, caller(&queue, number))).collect();
        assert_eq!(queue.load(), (1, 423));
        let order = order(running, callers);
        assert_eq!(order[..6], [1, 2, 3, 1, 2, 1], "a client waits for one hash of each other");
        assert_eq!(order.len(), 423);
        assert_eq!(queue.load(), (0, 0));
    }

    #[test]
    fn in_a_full_queue_the_client_with_the_most_gives_way() {
        let queue = Queue::new(1, 4);
        let running = occupy(&queue);
        let mut callers: Vec<_> = (0..4).map(|_| (1, caller(&queue, 1))).collect();
        let refused = |number: u8| {
            let queue = Arc::clone(&queue);
            let mut more: Caller = Box::pin(async move { queue.turn(Some(client(number))).await });
            matches!(poll(&mut more), Poll::Ready(Err(Full(5))))
        };
        assert!(refused(1), "it has the most itself");
        callers.push((2, caller(&queue, 2)));
        callers.push((2, caller(&queue, 2)));
        assert!(refused(2), "both have two");
        callers.push((3, caller(&queue, 3)));
        assert_eq!(queue.load(), (1, 4), "others gave way to each");
        let order = order(running, callers);
        assert_eq!(order.len(), 4);
        assert!(order.contains(&2) && order.contains(&3), "{order:?}");
        assert_eq!(queue.load(), (0, 0));
    }

    #[test]
    fn a_caller_that_leaves_frees_its_place_and_its_turn() {
        let queue = Queue::new(1, 2);
        let running = occupy(&queue);
        let (first, second) = (caller(&queue, 1), caller(&queue, 2));
        drop(first);
        assert_eq!(queue.load(), (1, 1));
        // The second gets the turn and leaves before it notices.
        drop(running);
        assert_eq!(queue.load(), (1, 0));
        drop(second);
        assert_eq!(queue.load(), (0, 0));
        drop(occupy(&queue));
    }
}
