//! Events on their way to containerd: in order, over one connection that is made anew when it breaks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::limits::MAX_WAITING_EVENTS;
use crate::log::{LogLevel, log_line};
use crate::messages::{AnyMessage, Empty, Envelope, ForwardRequest, Timestamp};
use crate::ttrpc::{CALL_PATIENCE, CallError, Client};
use crate::wire::Message;

/// The service that takes them.
const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// How long one event is offered to a containerd that does not answer.
const EVENT_PATIENCE: Duration = Duration::from_secs(30);

/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Where events go in. Clones lead to one queue.
#[derive(Clone)]
pub struct EventSender {
    namespace: String,
    queue: mpsc::Sender<QueuedEvent>,
    lost: Arc<AtomicU64>,
}

/// Passes the events on until there is nobody left who sends any.
pub struct EventForwarder {
    socket: PathBuf,
    queue: mpsc::Receiver<QueuedEvent>,
    lost: Arc<AtomicU64>,
}

/// What waits in the queue.
enum QueuedEvent {
    Event(Envelope),
    /// Somebody who waits until all before it is passed on.
    Flush(oneshot::Sender<()>),
}

/// Makes a queue to the socket of containerd.
#[must_use]
pub fn queue(namespace: &str, socket: PathBuf) -> (EventSender, EventForwarder) {
    let (send, receive) = mpsc::channel(MAX_WAITING_EVENTS);
    let lost = Arc::<AtomicU64>::default();
    let sender = EventSender {
        namespace: namespace.to_owned(),
        queue: send,
        lost: Arc::clone(&lost),
    };
    let queue = receive;
    (
        sender,
        EventForwarder {
            socket,
            queue,
            lost,
        },
    )
}

impl EventSender {
    /// Sends an event of the type `kind`, such as `TaskExit`, on its way. One that finds no
    /// room is lost.
    pub fn send(&self, topic: &str, kind: &str, event: &impl Message) {
        let envelope = Envelope {
            timestamp: Some(Timestamp::of(SystemTime::now())),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(AnyMessage::of(&format!("containerd.events.{kind}"), event)),
        };
        if self.queue.try_send(QueuedEvent::Event(envelope)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            let text = format_args!("an event {topic} is lost: containerd takes none");
            log_line(LogLevel::Error, "", text);
        }
    }

    /// Returns how many events were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns how many events wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Waits until all events that were sent are passed on or lost.
    pub async fn flush(&self) {
        let (passed, is_passed) = oneshot::channel();
        if self.queue.send(QueuedEvent::Flush(passed)).await.is_ok() {
            let _passed = is_passed.await;
        }
    }
}

impl EventForwarder {
    /// Passes events on, each until containerd has it or does not answer for long.
    pub async fn run(mut self) {
        let mut client = None;
        while let Some(queued) = self.queue.recv().await {
            let envelope = match queued {
                QueuedEvent::Event(envelope) => envelope,
                QueuedEvent::Flush(passed) => {
                    let _gone = passed.send(());
                    continue;
                }
            };
            let topic = envelope.topic.clone();
            let request = ForwardRequest {
                envelope: Some(envelope),
            };
            let until = Instant::now() + EVENT_PATIENCE;
            while let Err(error) = self.offer(&mut client, &request).await {
                if matches!(error, CallError::Refused(..)) || Instant::now() > until {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    let text = format_args!("an event {topic} is lost: {error}");
                    log_line(LogLevel::Error, "", text);
                    break;
                }
                client = None;
                sleep(PAUSE).await;
            }
        }
    }

    async fn offer(
        &self,
        client: &mut Option<Client>,
        request: &ForwardRequest,
    ) -> Result<(), CallError> {
        let connected = match client {
            Some(client) => client,
            None => client.insert(Client::connect(&self.socket).await?),
        };
        let call = connected.call::<Empty>(SERVICE, "Forward", request);
        match timeout(CALL_PATIENCE, call).await {
            Ok(answered) => answered.map(drop),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::TaskNamed;

    #[test]
    fn events_that_find_no_room_are_lost_and_hold_nobody_up() {
        let (sender, mut forwarder) = queue("tests", PathBuf::from("/nowhere"));
        for at in 0..MAX_WAITING_EVENTS + 3 {
            let named = TaskNamed {
                container_id: at.to_string(),
            };
            sender.send("/tasks/oom", "TaskOOM", &named);
        }
        assert_eq!((sender.waiting(), sender.lost()), (MAX_WAITING_EVENTS, 3));
        drop(sender);
        let mut count = 0;
        while let Ok(QueuedEvent::Event(envelope)) = forwarder.queue.try_recv() {
            let event = envelope.event.unwrap();
            assert_eq!(event.type_url, "containerd.events.TaskOOM");
            assert_eq!(
                TaskNamed::decode(&event.value).unwrap().container_id,
                count.to_string()
            );
            count += 1;
        }
        assert_eq!(count, MAX_WAITING_EVENTS);
    }
}
