//! Waiting for bytes that are not here yet.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

/// Stands for bytes that are on their way. Who was given one waits for it and
/// makes the same call again, which may then find the bytes, an error, or a
/// further ticket.
///
/// A thread waits with [`wait`](Self::wait). A task awaits the ticket itself,
/// which is a future and needs no runtime. Each clone waits for itself; making
/// one is a reference count. Dropping one while it waits leaves nothing behind.
pub struct Ticket {
    shared: Arc<Shared>,
    /// The number that this one's waker is kept under, once it has one.
    number: Option<u64>,
}

/// The other half of a [`Ticket`]: whoever fetches the bytes holds it.
///
/// Everyone who waits goes on when this is dropped, whether the bytes came or
/// not: their next call tells which. So a fetch that panics leaves nobody
/// waiting for ever.
#[derive(Debug)]
pub struct Arrival(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<TicketState>,
    arrived: Condvar,
}

#[derive(Default)]
struct TicketState {
    over: bool,
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Ticket {
    /// Makes a ticket and the half that ends the wait for it.
    #[must_use]
    pub fn new() -> (Self, Arrival) {
        let shared = Arc::new(Shared::default());
        let arrival = Arrival(Arc::clone(&shared));
        let number = None;
        (Self { shared, number }, arrival)
    }

    /// Returns whether the wait is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.state.lock().over
    }

    /// Blocks the thread until the wait is over.
    pub fn wait(&self) {
        let mut state = self.shared.state.lock();
        while !state.over {
            self.shared.arrived.wait(&mut state);
        }
    }
}

impl Future for Ticket {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        if state.over {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            let number = state.next;
            state.next = number.wrapping_add(1);
            number
        });
        match state.wakers.get_mut(&number) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => drop(state.wakers.insert(number, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            number: None,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.shared.state.lock().wakers.remove(&number);
            // Another's code: not under the lock.
            drop(waker);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("over", &self.is_over())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.0.state.lock();
            state.over = true;
            std::mem::take(&mut state.wakers)
        };
        self.0.arrived.notify_all();
        for waker in wakers.into_values() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waker() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn poll(ticket: &mut Ticket, waker: &Waker) -> Poll<()> {
        Pin::new(ticket).poll(&mut Context::from_waker(waker))
    }

    #[test]
    fn every_waiter_goes_on_when_the_bytes_have_come() {
        let (mut one, arrival) = Ticket::new();
        let (mut two, thread) = (one.clone(), one.clone());
        let waiting = std::thread::spawn(move || thread.wait());
        let ((first, first_waker), (second, second_waker)) = (waker(), waker());
        assert_eq!(poll(&mut one, &first_waker), Poll::Pending);
        assert_eq!(poll(&mut two, &second_waker), Poll::Pending);
        assert!(!one.is_over());
        drop(arrival);
        waiting.join().unwrap();
        assert_eq!(first.0.load(Ordering::SeqCst), 1);
        assert_eq!(second.0.load(Ordering::SeqCst), 1);
        assert_eq!(poll(&mut one, &first_waker), Poll::Ready(()));
        one.wait();
    }

    #[test]
    fn a_ticket_keeps_one_waker_and_takes_it_along() {
        let (mut ticket, arrival) = Ticket::new();
        let ((old, old_waker), (new, new_waker)) = (waker(), waker());
        for _ in 0..100 {
            assert_eq!(poll(&mut ticket, &old_waker), Poll::Pending);
        }
        assert_eq!(poll(&mut ticket, &new_waker), Poll::Pending);
        assert_eq!(ticket.shared.state.lock().wakers.len(), 1);
        let mut given_up = ticket.clone();
        assert_eq!(poll(&mut given_up, &old_waker), Poll::Pending);
        assert_eq!(ticket.shared.state.lock().wakers.len(), 2);
        drop(given_up);
        assert_eq!(ticket.shared.state.lock().wakers.len(), 1);
        drop(arrival);
        assert_eq!(old.0.load(Ordering::SeqCst), 0);
        assert_eq!(new.0.load(Ordering::SeqCst), 1);
    }
}
