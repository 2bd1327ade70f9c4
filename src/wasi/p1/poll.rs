//! `poll_oneoff` over descriptors of both kinds.

use wasmtime_wasi::p1::types::{self, SubscriptionU};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr, GuestType};
use zerocopy::IntoBytes;

use super::abi::{CallFailure, Result, answer};
use super::ctx::Ctx;
use super::memory::CallMemory;
use super::stock::outcome;
use super::table::{FileDescriptor, Slot};
use crate::limits::MAX_POLL_SUBSCRIPTIONS;

/// A subscription in the shape of some version.
pub(super) trait Subscribe {
    /// Returns it in preview1's.
    fn newest(self) -> types::Subscription;
}

impl Subscribe for types::Subscription {
    fn newest(self) -> types::Subscription {
        self
    }
}

/// What became of the guest's subscriptions.
#[derive(Default)]
struct Plan {
    /// Events of our files, ready at once, each with the number of its
    /// subscription.
    ready: Vec<(u32, types::Event)>,
    /// Subscriptions for wasmtime-wasi, with its descriptors. Their user data
    /// is the number of the guest's subscription.
    theirs: Vec<types::Subscription>,
    /// The guest's user data, by number of the subscription.
    userdata: Vec<u64>,
}

impl Ctx {
    pub(super) async fn poll_oneoff(
        &mut self,
        memory: &mut GuestMemory<'_>,
        subscriptions: i32,
        events: i32,
        count: i32,
        out: i32,
    ) -> wasmtime::Result<i32> {
        let subscriptions = GuestPtr::<types::Subscription>::new(subscriptions.cast_unsigned());
        let outcome = async {
            let (events, count) = (events.cast_unsigned(), count.cast_unsigned());
            let events = GuestPtr::new(events);
            let ready = self.poll(memory, subscriptions, events, count).await?;
            CallMemory(memory).store_u32(out.cast_unsigned(), ready)
        };
        answer(outcome.await)
    }

    /// Waits for events; subscriptions come in the shape of preview1 or 0.
    pub(super) async fn poll<S>(
        &mut self,
        memory: &mut GuestMemory<'_>,
        subscriptions: GuestPtr<S>,
        events: GuestPtr<types::Event>,
        count: u32,
    ) -> Result<u32>
    where
        S: GuestType + Subscribe,
    {
        if count == 0 {
            // Sleeping for ever is not supported, as in wasmtime-wasi.
            return Err(types::Errno::Inval.into());
        }
        if count as usize > MAX_POLL_SUBSCRIPTIONS {
            return Err(types::Errno::Nomem.into());
        }
        self.complete()?;
        let plan = self.plan(memory, subscriptions, count)?;
        let mut ready = plan.ready;
        if ready.is_empty() {
            ready = self.wait(&plan.theirs).await?;
        } else if !plan.theirs.is_empty() {
            // Something is ready already, so the others are only looked at.
            let mut theirs = plan.theirs;
            theirs.push(at_once(count));
            ready.extend(self.wait(&theirs).await?);
            ready.retain(|(number, _)| *number < count);
            ready.sort_by_key(|(number, _)| *number);
        }
        let mut written: u32 = 0;
        for (number, mut event) in ready {
            event.userdata = plan
                .userdata
                .get(number as usize)
                .copied()
                .ok_or(types::Errno::Overflow)?;
            write(memory, events.add(written)?, event)?;
            written = written.saturating_add(1);
        }
        Ok(written)
    }

    /// Sorts the subscriptions by who answers them.
    fn plan<S>(
        &self,
        memory: &GuestMemory<'_>,
        subscriptions: GuestPtr<S>,
        count: u32,
    ) -> Result<Plan>
    where
        S: GuestType + Subscribe,
    {
        let mut plan = Plan::default();
        for number in 0..count {
            let mut subscription = read(memory, subscriptions.add(number)?)?;
            plan.userdata.push(subscription.userdata);
            subscription.userdata = number.into();
            let (fd, event) = match &mut subscription.u {
                SubscriptionU::Clock(_) => {
                    plan.theirs.push(subscription);
                    continue;
                }
                SubscriptionU::FdRead(to) => (&mut to.file_descriptor, types::Eventtype::FdRead),
                SubscriptionU::FdWrite(to) => (&mut to.file_descriptor, types::Eventtype::FdWrite),
            };
            match self.table.slot((*fd).into()) {
                Slot::Host(theirs) => {
                    *fd = (*theirs).into();
                    plan.theirs.push(subscription);
                }
                Slot::File(file) => plan.ready.push((number, ready(file, event)?)),
                Slot::Dir(_) | Slot::Closed => return Err(types::Errno::Badf.into()),
            }
        }
        Ok(plan)
    }

    /// Lets wasmtime-wasi wait, over a copy of its subscriptions. Returns its
    /// events, each with the number of the guest's subscription.
    async fn wait(
        &mut self,
        subscriptions: &[types::Subscription],
    ) -> Result<Vec<(u32, types::Event)>> {
        let count = u32::try_from(subscriptions.len()).map_err(|_| types::Errno::Overflow)?;
        let in_size = types::Subscription::guest_size();
        let events_at = count.saturating_mul(in_size);
        let size = count
            .saturating_mul(types::Event::guest_size())
            .saturating_add(events_at);
        // Words, so that the records are aligned in the host's memory too.
        let mut words = vec![0_u64; size.div_ceil(8) as usize];
        let mut scratch = GuestMemory::Unshared(words.as_mut_bytes());
        let ins = GuestPtr::new(0);
        let outs: GuestPtr<types::Event> = GuestPtr::new(events_at);
        for (number, subscription) in (0..count).zip(subscriptions) {
            scratch.write(ins.add(number)?, subscription.clone())?;
        }
        let polled = self.stock.poll_oneoff(&mut scratch, ins, outs, count).await;
        let mut events = Vec::new();
        for number in 0..outcome(polled)?.min(count) {
            let event: types::Event = scratch.read(outs.add(number)?)?;
            let number = u32::try_from(event.userdata).map_err(|_| types::Errno::Overflow)?;
            events.push((number, event));
        }
        Ok(events)
    }
}

/// Reads a subscription: a kind or flag that preview1 does not know is INVAL
/// here, as in wasmtime-wasi.
fn read<S>(memory: &GuestMemory<'_>, at: GuestPtr<S>) -> Result<types::Subscription>
where
    S: GuestType + Subscribe,
{
    memory
        .read(at)
        .map(Subscribe::newest)
        .map_err(|error| types::Error::from(error).into())
}

fn write(
    memory: &mut GuestMemory<'_>,
    at: GuestPtr<types::Event>,
    event: types::Event,
) -> Result<()> {
    Ok(memory.write(at, event)?)
}

/// A clock that has run out, numbered past the guest's subscriptions.
fn at_once(number: u32) -> types::Subscription {
    types::Subscription {
        userdata: number.into(),
        u: SubscriptionU::Clock(types::SubscriptionClock {
            id: types::Clockid::Monotonic,
            timeout: 0,
            precision: 0,
            flags: types::Subclockflags::empty(),
        }),
    }
}

/// A file is always ready. At its end reading hangs up.
fn ready(
    file: &FileDescriptor,
    kind: types::Eventtype,
) -> std::result::Result<types::Event, CallFailure> {
    let mut flags = types::Eventrwflags::empty();
    if kind == types::Eventtype::FdRead && file.descriptor.stat()?.size <= file.offset {
        flags |= types::Eventrwflags::FD_READWRITE_HANGUP;
    }
    Ok(types::Event {
        userdata: 0,
        error: types::Errno::Success,
        type_: kind,
        fd_readwrite: types::EventFdReadwrite { nbytes: 1, flags },
    })
}
