//! The hosts fetch: requests, segments, links, and peers.

use std::collections::VecDeque;

use crate::link::Link;
use crate::plan::Plan;
use crate::queue::{EventQueue, Nanos, SECOND};
use crate::random::Random;
use crate::setup::{Fleet, Way};

/// Bytes that go over a link in one piece.
const SEGMENT: u64 = 64 << 10;
/// Requests that a host has out at once, and where it has peers to ask.
const SLOTS: usize = 3;
const PEER_SLOTS: usize = 8;
/// How many peers a host asks, one after the other, before it waits.
const TRIES: usize = 8;

/// What the network did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// When each host had what its guests need, before compiling; and when its first guest had all that it read.
    pub(crate) hosts: Vec<Fetched>,
    pub(crate) registry_bytes: u64,
    pub(crate) peer_bytes: u64,
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    /// The most requests that came in one second.
    pub(crate) peak_requests: u64,
}

/// When a host had what it needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) content: Nanos,
    /// How long the first guest waited for what it read.
    pub(crate) waited: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A host begins.
    Begin(usize),
    /// The compiler is done, and the first guest reads.
    Compiled(usize),
    /// A request comes to whoever has the piece.
    Ask(usize, usize),
    /// A segment has left its source, and is at the line of its host.
    Left(usize, u64),
    /// A segment is there.
    Came(usize, u64),
    /// The source hears that a segment is there.
    More(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Registry(usize),
    Peer(usize),
}

struct Transfer {
    host: usize,
    piece: usize,
    source: Source,
    to_send: u64,
    to_come: u64,
}

/// A piece of the plan: which stage it belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Stage(usize),
    Read,
    Rest,
}

struct Piece {
    bytes: u64,
    role: Role,
    /// Hosts that have it, where peers count.
    holders: Vec<usize>,
    waiting: VecDeque<usize>,
}

struct Host {
    down: Link,
    up: Link,
    /// Pieces to be asked for, those of the present stage first.
    todo: VecDeque<usize>,
    /// Requests that are out.
    out: usize,
    /// Pieces of the present stage that are not there.
    missing: usize,
    stage: usize,
    /// Transfers to peers.
    uploads: usize,
    /// The first guest's reads that are not there yet.
    reads: VecDeque<usize>,
    reading_since: Nanos,
    fetched: Fetched,
}

/// The simulation of one way.
pub(crate) struct Network<'a> {
    fleet: &'a Fleet,
    plan: &'a Plan,
    peers: bool,
    now: Nanos,
    events: EventQueue<Event>,
    random: Random,
    registries: Vec<Registry>,
    hosts: Vec<Host>,
    pieces: Vec<Piece>,
    transfers: Vec<Transfer>,
    outcome: Outcome,
    /// Requests of each second.
    seconds: Vec<u64>,
}

struct Registry {
    up: Link,
    /// Transfers under way.
    busy: usize,
    /// When the next request is due at the allowed rate.
    due: Nanos,
}

impl<'a> Network<'a> {
    /// Runs a way to its end. `begins` says when each host begins.
    pub(crate) fn run(fleet: &'a Fleet, way: &Way, plan: &'a Plan, begins: &[Nanos]) -> Outcome {
        let mut network = Self::new(fleet, way, plan);
        for (host, begin) in begins.iter().enumerate() {
            network.events.put(*begin, Event::Begin(host));
        }
        while let Some((now, event)) = network.events.take() {
            network.now = now;
            network.handle(event);
        }
        network.finish()
    }

    fn new(fleet: &'a Fleet, way: &Way, plan: &'a Plan) -> Self {
        let stages = plan.stages.iter().enumerate();
        let staged =
            stages.flat_map(|(at, sizes)| sizes.iter().map(move |b| (*b, Role::Stage(at))));
        let reads = plan.reads.iter().map(|bytes| (*bytes, Role::Read));
        let rest = plan.rest.iter().map(|bytes| (*bytes, Role::Rest));
        let pieces = staged.chain(reads).chain(rest).map(|(bytes, role)| Piece {
            bytes,
            role,
            holders: Vec::new(),
            waiting: VecDeque::new(),
        });
        let registry = || Registry {
            up: Link::new(fleet.registry_bits),
            busy: 0,
            due: 0,
        };
        Self {
            fleet,
            plan,
            peers: way.peers,
            now: 0,
            events: EventQueue::new(),
            random: Random::new(fleet.seed),
            registries: (0..=fleet.mirrors).map(|_| registry()).collect(),
            hosts: (0..fleet.hosts).map(|_| Host::new(fleet)).collect(),
            pieces: pieces.collect(),
            transfers: Vec::new(),
            outcome: Outcome::default(),
            seconds: Vec::new(),
        }
    }

    fn finish(mut self) -> Outcome {
        self.outcome.hosts = self.hosts.iter().map(|host| host.fetched).collect();
        self.outcome.registry_bytes = self.registries.iter().map(|one| one.up.carried).sum();
        self.outcome.peer_bytes = self.hosts.iter().map(|host| host.up.carried).sum();
        self.outcome.peak_requests = self.seconds.iter().copied().max().unwrap_or(0);
        self.outcome
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Begin(host) => self.begin_stage(host, 0),
            Event::Compiled(host) => self.read_next(host),
            Event::Ask(host, piece) => self.answer(host, piece),
            Event::Left(transfer, bytes) => {
                let host = self.transfers[transfer].host;
                let there = self.hosts[host].down.carry(self.now, bytes);
                self.events.put(there, Event::Came(transfer, bytes));
            }
            Event::Came(transfer, bytes) => self.came(transfer, bytes),
            Event::More(transfer) => self.send_segment(transfer),
        }
    }

    /// Begins a stage, or what comes behind the last one.
    fn begin_stage(&mut self, host: usize, stage: usize) {
        let is_last = stage == self.plan.stages.len();
        let role = if is_last {
            Role::Rest
        } else {
            Role::Stage(stage)
        };
        let mut todo: Vec<usize> = (0..self.pieces.len())
            .filter(|piece| self.pieces[*piece].role == role)
            .collect();
        if self.peers {
            // Each begins elsewhere, so that all soon have something for the others.
            let turn = self.random.below(todo.len() as u64) as usize % todo.len().max(1);
            todo.rotate_left(turn);
        }
        let at = &mut self.hosts[host];
        at.stage = stage;
        at.missing = todo.len();
        at.todo.extend(todo);
        if is_last {
            at.fetched.content = self.now;
            self.events
                .put(self.now + self.plan.compile, Event::Compiled(host));
        } else if at.missing == 0 {
            return self.begin_stage(host, stage + 1);
        }
        self.ask(host);
    }

    /// The first guest reads what it needs, one frame after the other.
    fn read_next(&mut self, host: usize) {
        let now = self.now;
        let at = &mut self.hosts[host];
        if at.reading_since == 0 {
            at.reading_since = now;
            at.reads = (0..self.pieces.len())
                .filter(|piece| self.pieces[*piece].role == Role::Read)
                .collect();
        }
        at.fetched.waited = now - at.reading_since;
        if let Some(piece) = at.reads.pop_front() {
            self.events
                .put(now + self.fleet.round_trip / 2, Event::Ask(host, piece));
        }
    }

    /// Sends requests out while there are slots.
    fn ask(&mut self, host: usize) {
        let slots = if self.peers { PEER_SLOTS } else { SLOTS };
        let at = &mut self.hosts[host];
        while at.out < slots
            && let Some(piece) = at.todo.pop_front()
        {
            at.out += 1;
            self.events.put(
                self.now + self.fleet.round_trip / 2,
                Event::Ask(host, piece),
            );
        }
    }

    /// Somebody begins to send a piece, refuses, or lets the host wait.
    fn answer(&mut self, host: usize, piece: usize) {
        let registry = host % self.registries.len();
        let is_shared = self.peers && self.pieces[piece].bytes > SEGMENT;
        if is_shared && self.registries[registry].busy >= self.fleet.seeds {
            match self.find_peer(host, piece) {
                Some(peer) => self.begin(host, piece, Source::Peer(peer)),
                None => self.pieces[piece].waiting.push_back(host),
            }
            return;
        }
        let second = usize::try_from(self.now / SECOND).unwrap_or(usize::MAX);
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, 0);
        }
        self.seconds[second] += 1;
        self.outcome.requests += 1;
        if !self.is_admitted(registry) {
            // As a client does: after the second that Retry-After names, and a part of one by chance.
            self.outcome.refused += 1;
            let wait = SECOND + self.random.below(SECOND);
            self.events.put(
                self.now + wait + self.fleet.round_trip,
                Event::Ask(host, piece),
            );
            return;
        }
        self.begin(host, piece, Source::Registry(registry));
    }

    /// Counts a request against the allowed rate; a second's worth may come at once.
    fn is_admitted(&mut self, registry: usize) -> bool {
        let Some(rate) = self.fleet.request_rate else {
            return true;
        };
        let due = &mut self.registries[registry].due;
        let next = (*due).max(self.now) + SECOND / rate.max(1);
        let admitted = next <= self.now + SECOND;
        if admitted {
            *due = next;
        }
        admitted
    }

    /// Chooses among those who have a piece, by chance.
    fn find_peer(&mut self, host: usize, piece: usize) -> Option<usize> {
        let holders = &self.pieces[piece].holders;
        for _ in 0..TRIES.min(holders.len()) {
            let peer = holders[self.random.below(holders.len() as u64) as usize];
            if peer != host && self.hosts[peer].uploads < self.fleet.uploads {
                return Some(peer);
            }
        }
        None
    }

    fn begin(&mut self, host: usize, piece: usize, source: Source) {
        match source {
            Source::Registry(registry) => self.registries[registry].busy += 1,
            Source::Peer(peer) => self.hosts[peer].uploads += 1,
        }
        let bytes = self.pieces[piece].bytes;
        let transfer = self.transfers.len();
        self.transfers.push(Transfer {
            host,
            piece,
            source,
            to_send: bytes,
            to_come: bytes,
        });
        for _ in 0..(self.fleet.window / SEGMENT).max(1) {
            self.send_segment(transfer);
        }
    }

    /// The source puts one more segment on its line.
    fn send_segment(&mut self, number: usize) {
        let transfer = &mut self.transfers[number];
        let bytes = transfer.to_send.min(SEGMENT);
        if bytes == 0 {
            return;
        }
        transfer.to_send -= bytes;
        let up = match transfer.source {
            Source::Registry(registry) => &mut self.registries[registry].up,
            Source::Peer(peer) => &mut self.hosts[peer].up,
        };
        let left = up.carry(self.now, bytes);
        self.events
            .put(left + self.fleet.round_trip / 2, Event::Left(number, bytes));
    }

    fn came(&mut self, number: usize, bytes: u64) {
        let transfer = &mut self.transfers[number];
        transfer.to_come -= bytes;
        if transfer.to_come > 0 {
            self.events
                .put(self.now + self.fleet.round_trip / 2, Event::More(number));
            return;
        }
        let (host, piece, source) = (transfer.host, transfer.piece, transfer.source);
        match source {
            Source::Registry(registry) => self.registries[registry].busy -= 1,
            Source::Peer(peer) => self.hosts[peer].uploads -= 1,
        }
        if self.peers {
            self.pieces[piece].holders.push(host);
            self.serve_waiting(source, host, piece);
        }
        self.has_piece(host, piece);
    }

    /// Those who wait are served by whom the end of a transfer has left free: its source, and the host that has one more piece.
    fn serve_waiting(&mut self, source: Source, host: usize, piece: usize) {
        while self.hosts[host].uploads < self.fleet.uploads
            && let Some(next) = self.pieces[piece].waiting.pop_front()
        {
            self.begin(next, piece, Source::Peer(host));
        }
        let Some(other) = (0..self.pieces.len()).find(|other| {
            let waits = !self.pieces[*other].waiting.is_empty();
            waits
                && match source {
                    Source::Registry(_) => true,
                    Source::Peer(peer) => self.pieces[*other].holders.contains(&peer),
                }
        }) else {
            return;
        };
        if let Some(next) = self.pieces[other].waiting.pop_front() {
            match source {
                Source::Registry(_) => self.answer(next, other),
                Source::Peer(_) => self.begin(next, other, source),
            }
        }
    }

    fn has_piece(&mut self, host: usize, piece: usize) {
        let at = &mut self.hosts[host];
        match self.pieces[piece].role {
            Role::Read => return self.read_next(host),
            Role::Rest => at.out -= 1,
            Role::Stage(_) => {
                at.out -= 1;
                at.missing -= 1;
                if at.missing == 0 {
                    let next = at.stage + 1;
                    return self.begin_stage(host, next);
                }
            }
        }
        self.ask(host);
    }
}

impl Host {
    fn new(fleet: &Fleet) -> Self {
        Self {
            down: Link::new(fleet.host_bits),
            up: Link::new(fleet.host_bits),
            todo: VecDeque::new(),
            out: 0,
            missing: 0,
            stage: 0,
            uploads: 0,
            reads: VecDeque::new(),
            reading_since: 0,
            fetched: Fetched::default(),
        }
    }
}
