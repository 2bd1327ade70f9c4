//! Events on their way to containerd: in order, over one connection that is made anew when it breaks.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::limits::MAX_WAITING_EVENTS;
use crate::log::tell;
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
}

/// Passes the events on until there is nobody left who sends any.
pub struct EventForwarder {
    socket: PathBuf,
    queue: mpsc::Receiver<QueuedEvent>,
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
    let sender = EventSender {
        namespace: namespace.to_owned(),
        queue: send,
    };
    let queue = receive;
    (sender, EventForwarder { socket, queue })
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
            tell(format_args!(
                "an event {topic} is lost: containerd takes none"
            ));
        }
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
                    tell(format_args!("an event {topic} is lost: {error}"));
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
