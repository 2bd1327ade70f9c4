//! The messages of containerd's task service of version 2, of its events, and of what it
//! reads as statistics.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::wire::{Message, WireError, WireValue, WireWriter, message};

message! {
    /// A point in time.
    Timestamp {
        /// Seconds since 1970.
        seconds: u64 = 1,
        /// Nanoseconds of the second.
        nanos: u32 = 2,
    }
    /// A message of any type.
    AnyMessage {
        /// Its type.
        type_url: String = 1,
        /// Its bytes.
        value: Vec<u8> = 2,
    }
    /// A mount that a snapshotter asks for.
    MountMessage {
        /// `overlay`, `bind`, and others.
        kind: String = 1,
        /// What is mounted.
        source: String = 2,
        /// Where; empty for the root.
        target: String = 3,
        /// As in `/etc/fstab`.
        options: Vec<String> = 4,
    }
    /// Asks for a container.
    CreateTaskRequest {
        /// Its name.
        id: String = 1,
        /// The directory of its `config.json`.
        bundle: String = 2,
        /// Its root file system.
        rootfs: Vec<MountMessage> = 3,
        /// Whether it has a terminal.
        terminal: bool = 4,
        /// The FIFO that it reads.
        stdin: String = 5,
        /// The FIFO for its output.
        stdout: String = 6,
        /// The FIFO for its errors.
        stderr: String = 7,
        /// A checkpoint to go on from.
        checkpoint: String = 8,
        /// The checkpoint before that.
        parent_checkpoint: String = 9,
        /// What the runtime was told.
        options: Option<AnyMessage> = 10,
    }
    /// A request about one process of a container: start, state, wait and delete have the
    /// same fields.
    ProcessRequest {
        /// The container.
        id: String = 1,
        /// A further process in it.
        exec_id: String = 2,
    }
    /// A request about a container: pids, pause, resume, stats and connect.
    ContainerRequest {
        /// The container.
        id: String = 1,
    }
    /// Asks for a signal.
    KillRequest {
        /// The container.
        id: String = 1,
        /// A further process in it.
        exec_id: String = 2,
        /// Its number.
        signal: u32 = 3,
        /// To all processes.
        all: bool = 4,
    }
    /// Says that no more input comes.
    CloseIoRequest {
        /// The container.
        id: String = 1,
        /// A further process in it.
        exec_id: String = 2,
        /// Whether its input is closed.
        stdin: bool = 3,
    }
    /// Asks the process of the shim to end.
    ShutdownRequest {
        /// The container that has gone.
        id: String = 1,
        /// Whatever there still is.
        now: bool = 2,
    }
    /// A process number: of create and of start.
    PidResponse {
        /// It.
        pid: u32 = 1,
    }
    /// How a container ended that is gone now.
    DeleteResponse {
        /// Its process.
        pid: u32 = 1,
        /// Its exit code.
        exit_status: u32 = 2,
        /// When.
        exited_at: Option<Timestamp> = 3,
    }
    /// How a container stands.
    StateResponse {
        /// Its name.
        id: String = 1,
        /// Its directory.
        bundle: String = 2,
        /// Its process.
        pid: u32 = 3,
        /// 1 created, 2 running, 3 stopped, 4 paused.
        status: u32 = 4,
        /// The FIFO that it reads.
        stdin: String = 5,
        /// The FIFO for its output.
        stdout: String = 6,
        /// The FIFO for its errors.
        stderr: String = 7,
        /// Whether it has a terminal.
        terminal: bool = 8,
        /// Its exit code.
        exit_status: u32 = 9,
        /// When it ended.
        exited_at: Option<Timestamp> = 10,
        /// A further process in it.
        exec_id: String = 11,
    }
    /// How a container ended.
    WaitResponse {
        /// Its exit code.
        exit_status: u32 = 1,
        /// When.
        exited_at: Option<Timestamp> = 2,
    }
    /// A process of a container.
    ProcessInfo {
        /// Its number.
        pid: u32 = 1,
    }
    /// The processes of a container.
    PidsResponse {
        /// All of them.
        processes: Vec<ProcessInfo> = 1,
    }
    /// What a container takes.
    StatsResponse {
        /// [`CgroupMetrics`].
        stats: Option<AnyMessage> = 1,
    }
    /// Who answers.
    ConnectResponse {
        /// The process of the shim.
        shim_pid: u32 = 1,
        /// The process of the container.
        task_pid: u32 = 2,
        /// The version of the shim.
        version: String = 3,
    }
    /// What containerd reads as the figures of a cgroup of version 1.
    CgroupMetrics {
        /// Of processors.
        cpu: Option<CpuStat> = 3,
        /// Of memory.
        memory: Option<MemoryStat> = 4,
    }
    /// The processors of a container.
    CpuStat {
        /// Their time.
        usage: Option<CpuUsage> = 1,
    }
    /// Time of processors, in nanoseconds.
    CpuUsage {
        /// All of it.
        total: u64 = 1,
        /// In the guest and in calls that it makes: the same.
        user: u64 = 3,
    }
    /// The memory of a container.
    MemoryStat {
        /// What its files take.
        cache: u64 = 1,
        /// What its memories and tables take.
        rss: u64 = 2,
        /// Its bound.
        hierarchical_memory_limit: u64 = 16,
        /// As `cache`.
        total_cache: u64 = 18,
        /// As `rss`.
        total_rss: u64 = 19,
        /// Both together.
        usage: Option<MemoryEntry> = 33,
    }
    /// A figure with its bound.
    MemoryEntry {
        /// The bound.
        limit: u64 = 1,
        /// How much it is now.
        usage: u64 = 2,
    }
    /// An event on its way.
    Envelope {
        /// When it happened.
        timestamp: Option<Timestamp> = 1,
        /// Where.
        namespace: String = 2,
        /// What it is about.
        topic: String = 3,
        /// The event itself.
        event: Option<AnyMessage> = 4,
    }
    /// Hands an event to containerd.
    ForwardRequest {
        /// It.
        envelope: Option<Envelope> = 1,
    }
    /// The streams of a container.
    TaskIo {
        /// The FIFO that it reads.
        stdin: String = 1,
        /// The FIFO for its output.
        stdout: String = 2,
        /// The FIFO for its errors.
        stderr: String = 3,
        /// Whether it has a terminal.
        terminal: bool = 4,
    }
    /// A container was made.
    TaskCreate {
        /// Its name.
        container_id: String = 1,
        /// Its directory.
        bundle: String = 2,
        /// Its root file system.
        rootfs: Vec<MountMessage> = 3,
        /// Its streams.
        io: Option<TaskIo> = 4,
        /// The checkpoint that it goes on from.
        checkpoint: String = 5,
        /// Its process.
        pid: u32 = 6,
    }
    /// A container was started.
    TaskStart {
        /// Its name.
        container_id: String = 1,
        /// Its process.
        pid: u32 = 2,
    }
    /// A container has ended.
    TaskExit {
        /// Its name.
        container_id: String = 1,
        /// The process in it: its name for the first.
        id: String = 2,
        /// Its number.
        pid: u32 = 3,
        /// Its exit code.
        exit_status: u32 = 4,
        /// When.
        exited_at: Option<Timestamp> = 5,
    }
    /// A container is gone.
    TaskDelete {
        /// Its name.
        container_id: String = 1,
        /// Its process.
        pid: u32 = 2,
        /// Its exit code.
        exit_status: u32 = 3,
        /// When it ended.
        exited_at: Option<Timestamp> = 4,
        /// The process in it; empty for the first.
        id: String = 5,
    }
    /// A container grew past its memory, was paused or resumed.
    TaskNamed {
        /// Its name.
        container_id: String = 1,
    }
    /// A call of ttrpc.
    CallRequest {
        /// The service.
        service: String = 1,
        /// Its method.
        method: String = 2,
        /// The message.
        payload: Vec<u8> = 3,
        /// How long the caller waits.
        timeout_nano: u64 = 4,
    }
    /// The answer of ttrpc.
    CallResponse {
        /// Why it was refused, if it was.
        status: Option<CallStatus> = 1,
        /// The message.
        payload: Vec<u8> = 2,
    }
    /// Why a call was refused.
    CallStatus {
        /// As gRPC has it.
        code: u32 = 1,
        /// For the user.
        message: String = 2,
    }
}

/// A message without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Empty;

impl Message for Empty {
    fn write_fields(&self, _: &mut WireWriter) {}

    fn read_field(&mut self, _: u32, _: WireValue<'_>) -> Result<(), WireError> {
        Ok(())
    }
}

impl Timestamp {
    /// Returns a time of the system's clock; none is before 1970.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            seconds: since.as_secs(),
            nanos: since.subsec_nanos(),
        }
    }
}

impl AnyMessage {
    /// Wraps a message of the type `type_url`.
    pub fn of(type_url: &str, message: &impl Message) -> Self {
        Self {
            type_url: type_url.to_owned(),
            value: message.encode(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_that_the_encoding_says() {
        let response = WaitResponse {
            exit_status: 300,
            exited_at: Some(Timestamp {
                seconds: 5,
                nanos: 0,
            }),
        };
        let bytes = response.encode();
        assert_eq!(bytes, [0x08, 0xac, 0x02, 0x12, 0x02, 0x08, 0x05]);
        assert_eq!(WaitResponse::decode(&bytes), Ok(response));
        assert!(WaitResponse::default().encode().is_empty());
    }

    #[test]
    fn fields_repeat_nest_and_are_skipped_where_they_are_unknown() {
        let mount = |name: &str| MountMessage {
            kind: name.into(),
            options: vec!["ro".into(), String::new()],
            ..MountMessage::default()
        };
        let request = CreateTaskRequest {
            id: "a".into(),
            rootfs: vec![mount("bind"), mount("overlay")],
            terminal: true,
            ..CreateTaskRequest::default()
        };
        let mut bytes = request.encode();
        // Field 99 of each type.
        bytes.extend([0x98, 0x06, 0x01, 0x9a, 0x06, 0x01, 0x00]);
        bytes.extend([0x99, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0x9d, 0x06, 0, 0, 0, 0]);
        assert_eq!(CreateTaskRequest::decode(&bytes), Ok(request));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for bytes in [
            &[0x0a][..],
            &[0x0a, 0x05, b'a'],
            &[0x0b],
            &[0x0a, 0x01, 0xff],
            &[0x08, 0x01],
            &[0xff; 11],
            &[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00],
        ] {
            assert!(CreateTaskRequest::decode(bytes).is_err(), "{bytes:?}");
        }
        assert!(WaitResponse::decode(&[0x08, 0xff, 0xff, 0xff, 0xff, 0x1f]).is_err());
    }

    #[test]
    fn cut_and_changed_messages_never_panic() {
        let request = CreateTaskRequest {
            id: "container".into(),
            bundle: "/run/bundle".into(),
            rootfs: vec![MountMessage::default(); 3],
            ..CreateTaskRequest::default()
        };
        let bytes = request.encode();
        for at in 0..bytes.len() {
            let _decoded = CreateTaskRequest::decode(&bytes[..at]);
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _decoded = CreateTaskRequest::decode(&changed);
            }
        }
    }
}
