//! Turns: guests that compute give way to others, at ticks of the engine's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use stratafs::wasmtime::EngineWeak;

use crate::failure::Failure;

/// The time between two ticks while a guest computes. One that has computed for so long in
/// one turn is such a guest.
const SHORT: Duration = Duration::from_millis(5);

/// The time between two ticks while all guests have short turns: a tick takes a processor
/// away from a request, so there are few.
const LONG: Duration = Duration::from_millis(20);

/// After how many ticks without a turn there are none until the next turn.
const UNTIL_REST: u32 = 50;

/// What guests tell the thread of ticks.
#[derive(Default)]
pub(super) struct TurnFlags {
    /// Whether there was a turn since the last tick.
    taken: AtomicBool,
    /// Whether one of them was long.
    computes: AtomicBool,
    /// Whether the thread waits for the next turn.
    rests: AtomicBool,
}

/// The turns of the guests of one engine, and the thread that ends long ones.
pub(super) struct Ticks {
    turns: Arc<TurnFlags>,
    thread: Thread,
}

impl Ticks {
    /// Starts the thread, which ends soon after the engine is gone.
    pub(super) fn start(engine: EngineWeak) -> Result<Self, Failure> {
        let turns = Arc::<TurnFlags>::default();
        let flags = Arc::clone(&turns);
        let started = thread::Builder::new()
            .name("ticks".to_owned())
            .spawn(move || {
                let mut idle = 0;
                while let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    idle = flags.wait(idle);
                }
            });
        let started = started
            .map_err(|error| Failure::new(format_args!("no thread for a clock: {error}")))?;
        Ok(Self {
            turns,
            thread: started.thread().clone(),
        })
    }

    /// Lets a guest take one turn: it goes on until it waits, or gives way at a tick.
    pub(super) fn turn<T>(&self, go_on: impl FnOnce() -> T) -> T {
        if self.turns.begin() {
            self.thread.unpark();
        }
        let begun = Instant::now();
        let result = go_on();
        if begun.elapsed() >= SHORT {
            self.turns.computes.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        // The thread may rest, and has to see that the engine is gone.
        self.turns.begin();
        self.thread.unpark();
    }
}

impl TurnFlags {
    /// Notes a turn. Returns whether the thread of ticks has to be woken for it.
    fn begin(&self) -> bool {
        // Either this sees that the thread rests, or the thread sees this turn before it does:
        // both write first and read then, in one order for all.
        self.taken.store(true, Ordering::SeqCst);
        self.rests.load(Ordering::SeqCst) && self.rests.swap(false, Ordering::SeqCst)
    }

    /// Waits for the time of the next tick, or for a turn after `idle` ticks without one.
    /// Returns how many ticks there have been now without a turn.
    fn wait(&self, idle: u32) -> u32 {
        if self.taken.swap(false, Ordering::SeqCst) {
            self.sleep();
            return 0;
        }
        if idle < UNTIL_REST {
            self.sleep();
            return idle + 1;
        }
        self.rests.store(true, Ordering::SeqCst);
        while self.rests.load(Ordering::SeqCst) && !self.taken.load(Ordering::SeqCst) {
            thread::park();
        }
        self.rests.store(false, Ordering::SeqCst);
        0
    }

    fn sleep(&self) {
        thread::sleep(match self.computes.swap(false, Ordering::Relaxed) {
            true => SHORT,
            false => LONG,
        });
    }
}

#[cfg(test)]
mod tests {
    use stratafs::wasmtime::{Config, Engine, Module, Store, UpdateDeadline};

    use super::*;

    fn engine() -> Engine {
        Engine::new(Config::new().epoch_interruption(true)).unwrap()
    }

    /// Whether a guest that never ends is stopped by a tick, in a turn.
    fn is_stopped(engine: &Engine, ticks: &Ticks) -> bool {
        let module = Module::new(engine, r#"(module (func (export "f") (loop (br 0))))"#);
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(2);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Interrupt));
        let instance = stratafs::wasmtime::Instance::new(&mut store, &module.unwrap(), &[]);
        let call = instance.unwrap().get_typed_func::<(), ()>(&mut store, "f");
        ticks.turn(|| call.unwrap().call(&mut store, ()).is_err())
    }

    #[test]
    fn a_long_turn_ends_at_ticks_also_after_a_rest() {
        let engine = engine();
        let ticks = Ticks::start(engine.weak()).unwrap();
        assert!(is_stopped(&engine, &ticks));
        assert!(ticks.turns.computes.load(Ordering::Relaxed) || is_stopped(&engine, &ticks));
        while !ticks.turns.rests.load(Ordering::SeqCst) {
            thread::sleep(LONG);
        }
        assert!(is_stopped(&engine, &ticks));
        assert!(!ticks.turns.rests.load(Ordering::SeqCst));
    }

    #[test]
    fn a_thread_at_rest_ends_with_its_engine() {
        let engine = engine();
        let ticks = Ticks::start(engine.weak()).unwrap();
        while !ticks.turns.rests.load(Ordering::SeqCst) {
            thread::sleep(LONG);
        }
        let turns = Arc::clone(&ticks.turns);
        drop(engine);
        drop(ticks);
        // The thread holds the last one besides this.
        while Arc::strong_count(&turns) > 1 {
            thread::sleep(SHORT);
        }
    }

    #[test]
    fn a_turn_between_the_last_look_and_the_rest_is_seen() {
        let turns = TurnFlags::default();
        turns.begin();
        // It had no turn to see before; it must not wait for one now.
        assert!(turns.wait(UNTIL_REST) == 0);
        turns.rests.store(true, Ordering::SeqCst);
        assert!(turns.begin());
        assert!(!turns.begin(), "one of them wakes it");
    }
}
