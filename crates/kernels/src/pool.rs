//! The compute threads: one parallel region at a time, spinning briefly between regions, then parked.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Spins before a waiting worker parks: some 50 microseconds, longer than the gap between two regions of a step.
const SPINS_BEFORE_PARK: u32 = 4_000;
/// Spins before the caller, waiting for the last worker, gives its core away.
const SPINS_BEFORE_YIELD: u32 = 20_000;

type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// The indices that a thread still has to visit: the next one (upper half) and the end. On a cache line of its own (and
/// not in its neighbour, which processors fetch along), since mostly one thread uses it.
#[repr(align(128))]
struct Claim(AtomicU64);

impl Claim {
    fn set(&self, next: usize, end: usize) {
        self.0.store((next as u64) << 32 | end as u64, Ordering::Relaxed);
    }

    /// Takes the first index, or (`last`) the last.
    fn take(&self, last: bool) -> Option<usize> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |claim| {
            let (next, end) = (claim >> 32, claim & u64::from(u32::MAX));
            (next < end).then(|| if last { claim - 1 } else { claim + (1 << 32) })
        });
        let claim = taken.ok()?;
        let index = if last { (claim & u64::from(u32::MAX)) - 1 } else { claim >> 32 };
        usize::try_from(index).ok()
    }
}

struct Shared {
    /// Counts regions; a worker runs the job once for each new value.
    epoch: AtomicU64,
    /// The job of the current epoch; written only while no worker reads (`remaining` is 0).
    job: UnsafeCell<Option<Job<'static>>>,
    /// Workers that have not finished the current epoch.
    remaining: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    /// Workers parked or about to park.
    sleepers: AtomicUsize,
    parking: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `job` is written by the one thread that holds `ThreadPool::turn`, only while `remaining` is 0, and read by
// workers only between the release of `epoch` and their decrement of `remaining`; everything else is atomic or locked.
unsafe impl Sync for Shared {}
// SAFETY: see `Sync`; the job is a shared reference to a `Sync` closure.
unsafe impl Send for Shared {}

/// A fixed set of compute threads; the caller of [`ThreadPool::run`] is one of them.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One for each thread; set by whoever has the turn.
    claims: Vec<Claim>,
    turn: Mutex<()>,
    tickets: Mutex<Tickets>,
    next_ticket: Condvar,
}

/// Who waits for a [`Reservation`]: tickets are given out and called in order.
#[derive(Debug, Default)]
struct Tickets {
    given: u64,
    called: u64,
}

/// The right to compute, for longer than one region: as long as it is kept, other reservations wait. Regions do not ask
/// for it; whoever shares the threads must.
#[must_use]
pub struct Reservation(Arc<ThreadPool>);

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.0.tickets).called += 1;
        self.0.next_ticket.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadPool {
    /// A pool of `threads` (at least 1), of which the caller of `run` is one.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            remaining: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            parking: Mutex::new(()),
            wake: Condvar::new(),
        });
        let claims = (0..threads.max(1)).map(|_| Claim(AtomicU64::new(0))).collect();
        let mut pool = Self {
            shared,
            workers: Vec::new(),
            claims,
            turn: Mutex::new(()),
            tickets: Mutex::default(),
            next_ticket: Condvar::new(),
        };
        for index in 1..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let worker =
                std::thread::Builder::new().name(format!("compute-{index}")).spawn(move || work(&shared, index))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Waits for all reservations asked for before this one, then holds one: engines that share the threads compute whole
    /// steps in turn, so that none starves and their steps do not slow each other down.
    pub fn reserve(self: &Arc<Self>) -> Reservation {
        let mut tickets = lock(&self.tickets);
        let own = tickets.given;
        tickets.given += 1;
        while tickets.called != own {
            tickets = self.next_ticket.wait(tickets).unwrap_or_else(PoisonError::into_inner);
        }
        drop(tickets);
        Reservation(Arc::clone(self))
    }

    /// Runs `job(i)` once for every thread index `i` below [`threads`](Self::threads) and returns when all are done.
    /// Callers on several threads take turns. `job` must not call `run` on the same pool.
    ///
    /// # Panics
    /// When `job` panics on any thread (after all have finished).
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        let _turn = lock(&self.turn);
        self.region(job);
    }

    /// [`ThreadPool::run`] for whoever has the turn.
    fn region(&self, job: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        if self.workers.is_empty() {
            job(0);
            return;
        }
        // SAFETY: the reference is used by workers only until `remaining` is 0, which this call awaits before it
        // returns, so the longer lifetime is never relied on. No worker reads the cell now: `remaining` is 0.
        unsafe { *shared.job.get() = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job)) };
        shared.remaining.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _parking = lock(&shared.parking);
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut spins = 0;
        while shared.remaining.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        if let Err(panic) = own {
            shared.panicked.store(false, Ordering::Relaxed);
            resume_unwind(panic);
        }
        if shared.panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a compute thread panicked"));
        }
    }

    /// Calls `f(i, chunk)` for each chunk of `chunk_len` items of `data` (the last may be shorter), spread over the
    /// threads; which thread takes which chunk is not fixed.
    pub fn for_each_chunk<T: Send>(&self, data: &mut [T], chunk_len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let chunk_len = chunk_len.max(1);
        let chunks = data.len().div_ceil(chunk_len);
        let shared = SharedSlice::new(data);
        self.for_each_index(chunks, |i| {
            let start = i * chunk_len;
            let len = chunk_len.min(shared.len() - start);
            // SAFETY: `for_each_index` gives each index to one thread only, and chunks of different indices do not overlap.
            f(i, unsafe { shared.slice_mut(start, len) });
        });
    }

    /// Calls `f(i)` once for each `i` below `count` (less than 2^32). Each thread visits a run of neighbours in order, then
    /// takes from the ends of the others' runs what they have not come to.
    pub fn for_each_index(&self, count: usize, f: impl Fn(usize) + Sync) {
        if count <= 1 || self.workers.is_empty() {
            (0..count).for_each(f);
            return;
        }
        assert!(u32::try_from(count).is_ok(), "{count} pieces of work");
        let _turn = lock(&self.turn);
        let threads = self.claims.len();
        for (thread, claim) in self.claims.iter().enumerate() {
            claim.set(count * thread / threads, count * (thread + 1) / threads);
        }
        self.region(&|thread| {
            while let Some(i) = self.claims[thread].take(false) {
                f(i);
            }
            for other in (thread + 1..threads).chain(0..thread) {
                while let Some(i) = self.claims[other].take(true) {
                    f(i);
                }
            }
        });
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        {
            let _parking = lock(&self.shared.parking);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches its job's panics, so the join cannot fail; nothing could be done if it did.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        seen = wait_for_epoch(shared, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: a new epoch was published after the job was written; the caller does not touch the cell until this
        // worker has decremented `remaining`.
        let job = unsafe { *shared.job.get() };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| job(index))).is_err()
        {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.remaining.fetch_sub(1, Ordering::Release);
    }
}

/// Spins, then parks, until the epoch differs from `seen`; gives back the new one.
fn wait_for_epoch(shared: &Shared, seen: u64) -> u64 {
    for _ in 0..SPINS_BEFORE_PARK {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != seen {
            return epoch;
        }
        std::hint::spin_loop();
    }
    let mut parking = lock(&shared.parking);
    shared.sleepers.fetch_add(1, Ordering::SeqCst);
    let epoch = loop {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            break epoch;
        }
        parking = shared.wake.wait(parking).unwrap_or_else(PoisonError::into_inner);
    };
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
    epoch
}

/// A mutable slice whose parts several threads write, each its own part.
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    len: usize,
    _data: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts through `slice_mut`, whose contract forbids overlap; `T: Send` lets a part be
// written from another thread.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}
// SAFETY: see `Sync`.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), _data: std::marker::PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part `start .. start + len`.
    ///
    /// # Safety
    /// No two parts alive at the same time may overlap.
    #[expect(clippy::mut_from_ref, reason = "the contract forbids overlapping parts")]
    pub(crate) unsafe fn slice_mut(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part outside the slice");
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_region_once() {
        let pool = ThreadPool::new(3).unwrap();
        let hits: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        for round in 0..200 {
            if round % 50 == 49 {
                // Long enough for the workers to park.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            pool.run(&|i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 200));
    }

    #[test]
    fn chunks_cover_the_slice_once() {
        let pool = ThreadPool::new(2).unwrap();
        let mut data = vec![0usize; 1003];
        pool.for_each_chunk(&mut data, 10, |i, chunk| chunk.iter_mut().for_each(|x| *x += i + 1));
        assert!(data.iter().enumerate().all(|(i, &x)| x == i / 10 + 1));
    }

    #[test]
    fn each_index_is_visited_once_however_slow_a_thread_is() {
        let pool = ThreadPool::new(3).unwrap();
        for count in [0, 1, 2, 3, 7, 500] {
            let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each_index(count, |i| {
                if i == 0 {
                    // The others do its work.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|hits| hits.load(Ordering::Relaxed) == 1), "{count}");
        }
    }

    /// Without turns a thread that asks again at once would go on for long before another is woken.
    #[test]
    fn reservations_take_turns() {
        let pool = Arc::new(ThreadPool::new(1).unwrap());
        let order = Mutex::new(Vec::new());
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for name in 0..2 {
                let (pool, order, barrier) = (&pool, &order, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for _ in 0..50 {
                        let reserved = pool.reserve();
                        let mut order = lock(order);
                        order.push(name);
                        // The other one asks meanwhile.
                        std::thread::sleep(std::time::Duration::from_micros(500));
                        drop((order, reserved));
                    }
                });
            }
        });
        let order = order.into_inner().unwrap();
        let longest = order.chunk_by(|a, b| a == b).map(<[i32]>::len).max();
        assert!(order.len() == 100 && longest.is_some_and(|longest| longest <= 10), "{order:?}");
    }

    #[test]
    fn a_reservation_ends_with_its_holder() {
        let pool = Arc::new(ThreadPool::new(2).unwrap());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _reserved = pool.reserve();
            panic!("wanted");
        }));
        assert!(panicked.is_err());
        let _reserved = pool.reserve();
        pool.run(&|_| {});
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = ThreadPool::new(2).unwrap();
        for thread in 0..2 {
            let result = catch_unwind(AssertUnwindSafe(|| pool.run(&|i| assert!(i != thread, "wanted"))));
            assert!(result.is_err());
        }
        let sum = AtomicUsize::new(0);
        pool.run(&|i| {
            sum.fetch_add(i + 1, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 3);
    }
}
