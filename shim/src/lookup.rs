//! Names as a pod looks them up: in its `/etc/hosts`, and by the name servers of its
//! `/etc/resolv.conf`, asked from within its network. The system's own lookup is not asked: that has the
//! host's files, servers and caches.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use stratafs::runner::{LookUpNames, LookedUp, LookupFailure, SocketPlace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::dns::{Kind, Question, Reply};
use crate::limits::{MAX_LOOKUPS, MAX_NAME_SERVERS, MAX_SEARCHED};

/// Where name servers answer.
const PORT: u16 = 53;

/// Bytes of an answer that comes in one piece.
const MAX_DATAGRAM: usize = 4096;

/// What may be asked for of patience and stubbornness.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 1..=30;
const ATTEMPTS: std::ops::RangeInclusive<u32> = 1..=5;
const MOST_DOTS: usize = 15;

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupRules {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    /// A name with fewer dots is looked for in the domains of `search` first.
    dots: usize,
    timeout: Duration,
    attempts: u32,
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl LookupRules {
    /// Reads `/etc/resolv.conf` and `/etc/hosts`; what is not understood is passed over, as elsewhere.
    #[must_use]
    pub fn read(resolv: &str, hosts: &str) -> Self {
        let mut rules = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            hosts: HashMap::new(),
        };
        for line in resolv.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => rules.add_server(words.next()),
                // The last of them holds.
                Some("search" | "domain") => {
                    rules.search = words.take(MAX_SEARCHED).map(str::to_owned).collect();
                }
                Some("options") => words.for_each(|option| rules.set(option)),
                _ => {}
            }
        }
        for line in hosts.lines() {
            let mut words = line
                .split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse().ok()) else {
                continue;
            };
            for name in words {
                let all = rules.hosts.entry(canonical(name)).or_default();
                if !all.contains(&address) {
                    all.push(address);
                }
            }
        }
        rules
    }

    fn add_server(&mut self, word: Option<&str>) {
        let address = word.and_then(|word| word.parse::<IpAddr>().ok());
        if let Some(address) = address.filter(|_| self.servers.len() < MAX_NAME_SERVERS) {
            self.servers.push(SocketAddr::new(address, PORT));
        }
    }

    fn set(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else {
            return;
        };
        let Ok(value) = value.parse::<u32>() else {
            return;
        };
        match name {
            "ndots" => self.dots = usize::try_from(value).unwrap_or(MOST_DOTS).min(MOST_DOTS),
            "timeout" => {
                let seconds = u64::from(value).clamp(*TIMEOUTS.start(), *TIMEOUTS.end());
                self.timeout = Duration::from_secs(seconds);
            }
            "attempts" => self.attempts = value.clamp(*ATTEMPTS.start(), *ATTEMPTS.end()),
            _ => {}
        }
    }

    /// Returns what is found without asking anybody.
    fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = canonical(name);
        let is_local = name == "localhost" || name.ends_with(".localhost");
        let local = || vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let found = self.hosts.get(&name).cloned();
        found.or_else(|| is_local.then(local))
    }

    /// Returns the names that are asked for, one after the other.
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut all: Vec<String> = self
            .search
            .iter()
            .map(|domain| format!("{name}.{}", domain.trim_matches('.')))
            .collect();
        match name.matches('.').count() >= self.dots {
            true => all.insert(0, name.to_owned()),
            false => all.push(name.to_owned()),
        }
        all
    }
}

/// Names are the same whatever their case, and with the root's dot.
fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Looks names up for one container.
pub struct PodNames {
    rules: Arc<LookupRules>,
    asker: Asker,
}

/// What asks servers, from where the container is.
#[derive(Clone)]
struct Asker {
    place: Option<Arc<dyn SocketPlace>>,
    /// How many names are asked for at a time.
    room: Arc<Semaphore>,
}

impl PodNames {
    /// Goes by rules, from a place; `None` is where the process is.
    #[must_use]
    pub fn new(rules: LookupRules, place: Option<Arc<dyn SocketPlace>>) -> Self {
        Self {
            rules: Arc::new(rules),
            asker: Asker {
                place,
                room: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            },
        }
    }
}

impl LookUpNames for PodNames {
    fn look_up(&self, name: &str) -> LookedUp {
        if let Some(found) = self.rules.known(name) {
            return Box::pin(std::future::ready(Ok(found)));
        }
        let (rules, asker) = (Arc::clone(&self.rules), self.asker.clone());
        let candidates = rules.candidates(name);
        Box::pin(async move {
            let _room = asker.room.acquire().await;
            let mut failure = LookupFailure::NotFound;
            for name in candidates {
                match asker.ask(&rules, &name).await {
                    Ok(found) if !found.is_empty() => return Ok(found),
                    Ok(_) => {}
                    Err(why) => failure = why,
                }
            }
            Err(failure)
        })
    }
}

impl Asker {
    /// Asks the servers for one name, until one of them says whether there is one.
    async fn ask(&self, rules: &LookupRules, name: &str) -> Result<Vec<IpAddr>, LookupFailure> {
        let question = |kind| Question::new(name, kind);
        let (Some(four), Some(six)) = (question(Kind::Four), question(Kind::Six)) else {
            return Err(LookupFailure::NotFound);
        };
        let questions = [four, six];
        for _ in 0..rules.attempts {
            for server in &rules.servers {
                let asked = self.ask_server(*server, &questions, rules.timeout).await;
                // One that cannot be reached is as one that does not answer.
                let replies = asked.unwrap_or([None, None]);
                if let Some(found) = conclusion(replies) {
                    return Ok(found);
                }
            }
        }
        Err(match rules.servers.is_empty() {
            true => LookupFailure::NotFound,
            false => LookupFailure::TryAgain,
        })
    }

    /// Asks one server both questions at once, and those that it answers with more than fits again.
    async fn ask_server(
        &self,
        server: SocketAddr,
        questions: &[Question; 2],
        patience: Duration,
    ) -> io::Result<[Option<Reply>; 2]> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = self.made(&mut || UdpSocket::bind(any))?;
        socket.set_nonblocking(true)?;
        // From then on it hears nobody else.
        socket.connect(server)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        for question in questions {
            socket.send(&question.bytes).await?;
        }
        let mut replies = [None, None];
        let mut buf = [0; MAX_DATAGRAM];
        let hear = async {
            while replies.iter().any(Option::is_none) {
                let len = socket.recv(&mut buf).await?;
                let came = buf.get(..len).unwrap_or_default();
                for (question, reply) in questions.iter().zip(&mut replies) {
                    if reply.is_none() {
                        *reply = question.answer(came);
                    }
                }
            }
            io::Result::Ok(())
        };
        // Past that time what came is what there is.
        if let Ok(heard) = timeout(patience, hear).await {
            heard?;
        }
        for (question, reply) in questions.iter().zip(&mut replies) {
            if *reply == Some(Reply::Truncated) {
                let whole = timeout(patience, self.ask_at_length(server, question)).await;
                *reply = whole.ok().and_then(Result::ok).flatten();
            }
        }
        Ok(replies)
    }

    /// Asks over TCP, where answers are of any length.
    async fn ask_at_length(
        &self,
        server: SocketAddr,
        question: &Question,
    ) -> io::Result<Option<Reply>> {
        let socket = self.made(&mut || match server {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        })?;
        let mut stream = socket.connect(server).await?;
        let len = u16::try_from(question.bytes.len()).unwrap_or(u16::MAX);
        stream.write_all(&len.to_be_bytes()).await?;
        stream.write_all(&question.bytes).await?;
        let len = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(len)];
        stream.read_exact(&mut bytes).await?;
        Ok(question.answer(&bytes))
    }

    /// Makes a socket where the container is.
    fn made<S>(&self, make: &mut dyn FnMut() -> io::Result<S>) -> io::Result<S> {
        let Some(place) = &self.place else {
            return make();
        };
        let mut made = None;
        place.within(&mut || made = Some(make()))?;
        made.unwrap_or_else(|| Err(io::Error::other("no socket was made")))
    }
}

/// Returns what both replies come to: all addresses, none where one says that there are none, and `None` if
/// somebody else has to be asked.
fn conclusion(replies: [Option<Reply>; 2]) -> Option<Vec<IpAddr>> {
    let mut is_known = false;
    let mut all = Vec::new();
    let mut failed = false;
    for reply in replies {
        match reply {
            Some(Reply::Found(found)) => {
                is_known = true;
                all.extend(found);
            }
            Some(Reply::NoSuchName) => is_known = true,
            Some(Reply::Truncated | Reply::Failed) | None => failed = true,
        }
    }
    match all.is_empty() && failed {
        true => None,
        false => is_known.then_some(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_pod_say_how_names_are_looked_up() {
        let rules = LookupRules::read(
            "# of the cluster\nnameserver 10.96.0.10\nnameserver fd00::a\nnameserver nobody\nsearch tests.svc.cluster.local svc.cluster.local\noptions ndots:5 timeout:99 attempts:0 rotate\n",
            "127.0.0.1 localhost\n10.1.2.3 pod pod.tests # itself\nfe80::1%lo0 odd\n10.1.2.3\tPOD\n",
        );
        let servers: Vec<String> = rules.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[fd00::a]:53"]);
        assert_eq!((rules.dots, rules.attempts), (5, 1));
        assert_eq!(rules.timeout, Duration::from_secs(30));
        let pod = vec![IpAddr::from([10, 1, 2, 3])];
        assert_eq!(rules.known("Pod.Tests."), Some(pod.clone()));
        assert_eq!(rules.known("pod"), Some(pod));
        assert_eq!(rules.known("odd"), None);
        assert_eq!(
            rules.known("localhost"),
            Some(vec![Ipv4Addr::LOCALHOST.into()])
        );
        assert_eq!(rules.known("a.localhost").map(|all| all.len()), Some(2));
        let asked = rules.candidates("db");
        assert_eq!(
            asked,
            ["db.tests.svc.cluster.local", "db.svc.cluster.local", "db"]
        );
        assert_eq!(rules.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(rules.candidates("db."), ["db."]);
        let none = LookupRules::read("", "");
        assert!(none.servers.is_empty());
        assert_eq!(none.candidates("db.test"), ["db.test"]);
        let many = "nameserver 10.0.0.1\n".repeat(9);
        assert_eq!(LookupRules::read(&many, "").servers.len(), MAX_NAME_SERVERS);
        let search = format!("search {}", "a.test ".repeat(MAX_SEARCHED + 1));
        assert_eq!(LookupRules::read(&search, "").search.len(), MAX_SEARCHED);
    }

    #[test]
    fn one_answer_of_two_is_enough_if_it_has_addresses() {
        let four = || Some(Reply::Found(vec![IpAddr::from([10, 0, 0, 7])]));
        let found = Some(vec![IpAddr::from([10, 0, 0, 7])]);
        let none = || Some(Reply::Found(Vec::new()));
        assert_eq!(conclusion([four(), none()]), found);
        assert_eq!(conclusion([four(), None]), found);
        assert_eq!(conclusion([none(), None]), None);
        assert_eq!(conclusion([none(), none()]), Some(Vec::new()));
        let gone = || Some(Reply::NoSuchName);
        assert_eq!(conclusion([gone(), gone()]), Some(Vec::new()));
        assert_eq!(conclusion([Some(Reply::Failed), none()]), None);
        assert_eq!(conclusion([None, None]), None);
    }

    fn looked_up(names: &PodNames, name: &str) -> Result<Vec<IpAddr>, LookupFailure> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(names.look_up(name))
    }

    /// Returns sockets of both kinds on one port, which some other process may hold for one kind.
    fn one_port() -> (UdpSocket, std::net::TcpListener) {
        let bound = (0..100).find_map(|_| {
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
            Some((udp, tcp))
        });
        bound.unwrap()
    }

    /// Answers as many questions as it is told, each first as another name and with another number.
    fn server(questions: usize, truncated: bool) -> (SocketAddr, std::thread::JoinHandle<usize>) {
        let (udp, tcp) = one_port();
        let address = udp.local_addr().unwrap();
        let reply = move |question: &[u8], truncated: bool| {
            let mut bytes = question.to_vec();
            let is_four = question[question.len() - 3] == 1;
            bytes[2..4].copy_from_slice(&[0x81 | u8::from(truncated) << 1, 0x80]);
            if is_four && !truncated {
                bytes[7] = 1;
                bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 7]);
            }
            bytes
        };
        let answering = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut at_length = 0;
            for _ in 0..questions {
                let mut buf = [0; 512];
                let (len, from) = udp.recv_from(&mut buf).unwrap();
                let mut forged = reply(&buf[..len], false);
                forged[0] ^= 1;
                udp.send_to(&forged, from).unwrap();
                udp.send_to(&reply(&buf[..len], truncated), from).unwrap();
            }
            while truncated && at_length < 2 {
                let (mut stream, _) = tcp.accept().unwrap();
                let mut len = [0; 2];
                stream.read_exact(&mut len).unwrap();
                let mut asked = vec![0; usize::from(u16::from_be_bytes(len))];
                stream.read_exact(&mut asked).unwrap();
                let bytes = reply(&asked, false);
                let len = u16::try_from(bytes.len()).unwrap();
                stream.write_all(&len.to_be_bytes()).unwrap();
                stream.write_all(&bytes).unwrap();
                at_length += 1;
            }
            at_length
        });
        (address, answering)
    }

    fn asking(server: SocketAddr) -> PodNames {
        let mut rules = LookupRules::read("options timeout:1 attempts:1", "");
        rules.servers = vec![server];
        PodNames::new(rules, None)
    }

    #[test]
    fn servers_are_asked_over_udp_and_over_tcp_where_an_answer_does_not_fit() {
        let found = Ok(vec![IpAddr::from([10, 0, 0, 7])]);
        for truncated in [false, true] {
            let (address, answering) = server(2, truncated);
            assert_eq!(looked_up(&asking(address), "db.test"), found);
            let at_length = answering.join().unwrap();
            assert_eq!(at_length, if truncated { 2 } else { 0 });
        }
    }

    #[test]
    fn a_server_that_does_not_answer_may_be_asked_again_and_a_wrong_name_is_none() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let names = asking(silent.local_addr().unwrap());
        let waited = std::time::Instant::now();
        assert_eq!(looked_up(&names, "db.test"), Err(LookupFailure::TryAgain));
        assert!(waited.elapsed() < Duration::from_secs(20));
        assert_eq!(looked_up(&names, "a b"), Err(LookupFailure::NotFound));
        let nobody = PodNames::new(LookupRules::read("", ""), None);
        assert_eq!(looked_up(&nobody, "db.test"), Err(LookupFailure::NotFound));
    }

    /// The process's own place, which counts who was there.
    #[derive(Default)]
    struct Counted(std::sync::atomic::AtomicUsize);

    impl SocketPlace for Counted {
        fn within(&self, make: &mut dyn FnMut()) -> io::Result<()> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            make();
            Ok(())
        }
    }

    #[test]
    fn names_past_the_bound_wait_for_others() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut names = asking(silent.local_addr().unwrap());
        let place = Arc::new(Counted::default());
        names.asker.place = Some(place.clone());
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let _within = runtime.enter();
        let asked = (0..=MAX_LOOKUPS).map(|number| names.look_up(&format!("{number}.test")));
        let mut asked: Vec<LookedUp> = asked.collect();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        for one in &mut asked {
            assert!(one.as_mut().poll(&mut cx).is_pending());
        }
        let made = || place.0.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(made(), MAX_LOOKUPS);
        assert_eq!(names.asker.room.available_permits(), 0);
        // One that is given up leaves its room, and its socket.
        drop(asked.remove(0));
        let last = asked.last_mut().unwrap();
        assert!(last.as_mut().poll(&mut cx).is_pending());
        assert_eq!(made(), MAX_LOOKUPS + 1);
        drop(asked);
        assert_eq!(names.asker.room.available_permits(), MAX_LOOKUPS);
    }
}
