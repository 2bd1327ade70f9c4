//! What guests may reach of the network: nothing unless told.

use std::fmt;
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use super::names::{LookUpNames, LookedUp, LookupFailure};
use super::sockets::{PlacedSockets, SocketPlace};

/// What guests may reach of the network; nothing by default.
///
/// Names are looked up by whoever makes this, once: a guest that asks for one is
/// given the addresses that were found then, and no query leaves the host.
///
/// ```
/// use std::net::IpAddr;
/// use stratafs::runner::Network;
///
/// let mut network = Network::none();
/// network.allow("db.internal", &[IpAddr::from([10, 0, 0, 7])], Some(5432));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    reach: Reach,
    no_tcp: bool,
    no_udp: bool,
    no_names: bool,
    /// Who looks names up, if not the host's system.
    lookup: Option<Given<dyn LookUpNames>>,
    /// Where sockets are made, if not where the host's are.
    place: Option<Given<dyn SocketPlace>>,
    /// The least port that a guest may bind.
    lowest_port: u16,
}

/// An object provided by the host: two are equal if they are the same object.
struct Given<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Clone for Given<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> PartialEq for Given<T> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }
}

impl<T: ?Sized> Eq for Given<T> {}

impl<T: ?Sized> fmt::Debug for Given<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host's")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Reach {
    #[default]
    Nothing,
    These(Arc<Vec<ReachableHost>>),
    All,
}

/// Where a connection may go: [`Network::destination`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// Nowhere.
    Refused,
    /// To one of these addresses, which were found when the network was made.
    At(Vec<IpAddr>),
    /// Wherever the host's own lookup of the name leads.
    ByName,
}

/// A host that may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReachableHost {
    name: String,
    addresses: Vec<IpAddr>,
    port: Option<u16>,
}

impl Network {
    /// Returns a network in which nothing may be reached.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns a network in which a guest may reach all that the host reaches,
    /// have names looked up, and listen.
    #[must_use]
    pub fn inherit() -> Self {
        Self {
            reach: Reach::All,
            ..Self::default()
        }
    }

    /// Lets guests connect to, and listen on, these addresses by TCP and UDP, at
    /// one port or at all, and look up `name`, which gives them. Changes nothing
    /// where all may be reached already.
    pub fn allow(&mut self, name: &str, addresses: &[IpAddr], port: Option<u16>) {
        let place = ReachableHost {
            name: canonical(name),
            addresses: addresses.iter().map(IpAddr::to_canonical).collect(),
            port,
        };
        match &mut self.reach {
            Reach::All => {}
            Reach::These(places) => Arc::make_mut(places).push(place),
            Reach::Nothing => self.reach = Reach::These(Arc::new(vec![place])),
        }
    }

    /// Returns `true` if nothing may be reached.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.reach == Reach::Nothing
    }

    /// Returns where a host that connects on behalf of a guest may connect to, by TCP, for
    /// a name or an address as text.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use stratafs::runner::{Destination, Network};
    ///
    /// let mut network = Network::none();
    /// network.allow("db.internal", &[IpAddr::from([10, 0, 0, 7])], Some(5432));
    /// let found = Destination::At(vec![IpAddr::from([10, 0, 0, 7])]);
    /// assert_eq!(network.destination("db.internal", 5432), found);
    /// assert_eq!(network.destination("db.internal", 80), Destination::Refused);
    /// ```
    #[must_use]
    pub fn destination(&self, name: &str, port: u16) -> Destination {
        if self.no_tcp {
            return Destination::Refused;
        }
        let places = match &self.reach {
            Reach::Nothing => return Destination::Refused,
            Reach::All => return Destination::ByName,
            Reach::These(places) => places,
        };
        let found = GivenNames(Arc::clone(places)).find(name);
        let mut found = found.unwrap_or_default();
        found.retain(|ip| {
            is_allowed(
                places,
                SocketAddr::new(*ip, port),
                SocketAddrUse::TcpConnect,
            )
        });
        match found.is_empty() {
            true => Destination::Refused,
            false => Destination::At(found),
        }
    }

    /// Turns TCP off or on again.
    pub fn set_tcp(&mut self, on: bool) {
        self.no_tcp = !on;
    }

    /// Turns UDP off or on again.
    pub fn set_udp(&mut self, on: bool) {
        self.no_udp = !on;
    }

    /// Turns looking up names off or on again.
    pub fn set_names(&mut self, on: bool) {
        self.no_names = !on;
    }

    /// Has names looked up by `lookup` in place of the host's system, and of what
    /// [`allow`](Self::allow) was given.
    pub fn set_lookup(&mut self, lookup: Arc<dyn LookUpNames>) {
        self.lookup = Some(Given(lookup));
    }

    /// Has the sockets of guests made at a place. Names are looked up by
    /// [`set_lookup`](Self::set_lookup) alone then, since the host's system would ask elsewhere:
    /// without one, none is found. Not for a [hosted component](super::HostedComponent), which is
    /// refused with one.
    pub fn set_place(&mut self, place: Arc<dyn SocketPlace>) {
        self.place = Some(Given(place));
    }

    /// Refuses guests to bind ports below this one, as a system does to programs that are not
    /// privileged. The default: they may bind any.
    pub fn set_lowest_port(&mut self, port: u16) {
        self.lowest_port = port;
    }

    /// Returns `true` if sockets are made at a place.
    pub(super) fn is_placed(&self) -> bool {
        self.place.is_some() && !self.is_none()
    }

    /// Returns what it comes to, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let off = [
            (self.no_tcp, ", no TCP"),
            (self.no_udp, ", no UDP"),
            (self.no_names, ", no names"),
        ];
        let off: String = off
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, text)| *text)
            .collect();
        let reach = match &self.reach {
            Reach::Nothing => return "none".to_owned(),
            Reach::All => "the host's".to_owned(),
            Reach::These(places) => {
                let shown = places.iter().map(|place| {
                    let port = place
                        .port
                        .map_or(String::new(), |port| format!(" port {port}"));
                    format!("{} {:?}{port}", place.name, place.addresses)
                });
                shown.collect::<Vec<_>>().join("; ")
            }
        };
        format!("{reach}{off}")
    }

    /// Allows guests in WASI what they may reach. Where sockets are made at a place, WASI's own
    /// context makes none.
    pub(super) fn apply(&self, wasi: &mut WasiCtxBuilder) {
        if !self.is_none() && self.place.is_none() {
            self.allow_in(wasi);
        }
    }

    /// Returns what makes sockets, if that is done at a place.
    pub(super) fn placed(&self) -> Option<PlacedSockets> {
        let place = self.place.as_ref().filter(|_| !self.is_none())?;
        let mut wasi = WasiCtxBuilder::new();
        self.allow_in(&mut wasi);
        let ctx = wasi.build().sockets().clone();
        Some(PlacedSockets::new(ctx, Arc::clone(&place.0)))
    }

    fn allow_in(&self, wasi: &mut WasiCtxBuilder) {
        wasi.allow_tcp(!self.no_tcp).allow_udp(!self.no_udp);
        let lowest = self.lowest_port;
        match &self.reach {
            Reach::Nothing => {}
            Reach::All => {
                let by_host = !self.no_names && self.lookup.is_none() && self.place.is_none();
                wasi.allow_ip_name_lookup(by_host);
                wasi.socket_addr_check(move |address, usage| {
                    Box::pin(ready(!is_too_low(lowest, address, usage)))
                });
            }
            Reach::These(places) => {
                let places = Arc::clone(places);
                wasi.socket_addr_check(move |address, usage| {
                    let is_allowed = is_allowed(&places, address, usage);
                    Box::pin(ready(is_allowed && !is_too_low(lowest, address, usage)))
                });
            }
        }
    }

    /// Returns who looks names up, if not the host's system.
    pub(super) fn names(&self) -> Option<Arc<dyn LookUpNames>> {
        if self.no_names || self.is_none() {
            return None;
        }
        match (&self.lookup, &self.reach) {
            (Some(lookup), _) => Some(Arc::clone(&lookup.0)),
            (None, Reach::These(places)) => Some(Arc::new(GivenNames(Arc::clone(places)))),
            // Addresses are themselves.
            (None, Reach::All) if self.is_placed() => Some(Arc::new(GivenNames(Arc::default()))),
            (None, _) => None,
        }
    }

    /// Returns `true` if names are looked up by the host's system.
    pub(super) fn asks_system(&self) -> bool {
        self.reach == Reach::All && !self.no_names && self.lookup.is_none() && self.place.is_none()
    }
}

/// The names that guests may look up, with what was found at the start.
#[derive(Clone, Debug)]
struct GivenNames(Arc<Vec<ReachableHost>>);

impl GivenNames {
    /// Returns the addresses of a name, or of an address as text.
    fn find(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = canonical(name);
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(&name).parse() {
            return Some(vec![address]);
        }
        let mut found: Vec<IpAddr> = Vec::new();
        for place in self.0.iter().filter(|place| place.name == name) {
            for address in &place.addresses {
                if !found.contains(address) {
                    found.push(*address);
                }
            }
        }
        (!found.is_empty()).then_some(found)
    }
}

impl LookUpNames for GivenNames {
    fn look_up(&self, name: &str) -> LookedUp {
        Box::pin(ready(self.find(name).ok_or(LookupFailure::NotFound)))
    }
}

/// Names are the same whatever their case, and with the root's dot.
fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Returns whether a guest would bind a port that it may not.
fn is_too_low(lowest: u16, address: SocketAddr, usage: SocketAddrUse) -> bool {
    let binds = matches!(usage, SocketAddrUse::TcpBind | SocketAddrUse::UdpBind);
    binds && (1..lowest).contains(&address.port())
}

fn is_allowed(places: &[ReachableHost], address: SocketAddr, usage: SocketAddrUse) -> bool {
    let ip = address.ip().to_canonical();
    let listed = places.iter().any(|place| {
        place.addresses.contains(&ip) && place.port.is_none_or(|port| port == address.port())
    });
    match usage {
        // A port that the system picks, as before connecting and sending: what arrives
        // there is looked at for itself.
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
            listed || (ip.is_unspecified() && address.port() == 0)
        }
        SocketAddrUse::TcpListen
        | SocketAddrUse::TcpConnect
        | SocketAddrUse::UdpSend
        | SocketAddrUse::UdpReceive => listed,
        // Whoever listens was allowed to.
        SocketAddrUse::TcpAccept => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(port: Option<u16>) -> Vec<ReachableHost> {
        let mut network = Network::none();
        network.allow("Db.Internal.", &[[10, 0, 0, 7].into()], port);
        match network.reach {
            Reach::These(places) => places.to_vec(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn only_what_was_named_is_reached() {
        use SocketAddrUse::*;
        let places = one(Some(80));
        let yes = |text: &str, usage| is_allowed(&places, text.parse().unwrap(), usage);
        for usage in [TcpConnect, UdpSend, UdpReceive, TcpListen, TcpBind, UdpBind] {
            assert!(yes("10.0.0.7:80", usage), "{usage:?}");
            assert!(yes("[::ffff:10.0.0.7]:80", usage), "{usage:?}");
            assert!(!yes("10.0.0.7:81", usage), "{usage:?}");
            assert!(!yes("10.0.0.8:80", usage), "{usage:?}");
            assert!(!yes("0.0.0.0:80", usage), "{usage:?}");
        }
        assert!(yes("0.0.0.0:0", UdpBind) && yes("[::]:0", TcpBind));
        assert!(!yes("0.0.0.0:0", TcpListen) && !yes("127.0.0.1:0", TcpBind));
        let any = one(None);
        assert!(is_allowed(&any, "10.0.0.7:9".parse().unwrap(), TcpConnect));
    }

    #[test]
    fn only_names_that_were_given_are_found() {
        let names = GivenNames(Arc::new(one(None)));
        let found = names.find("DB.internal").unwrap();
        assert_eq!(found, [IpAddr::from([10, 0, 0, 7])]);
        assert_eq!(names.find("secret.attacker.example"), None);
        assert_eq!(names.find(""), None);
        assert_eq!(names.find("[::1]"), names.find("::1"));
        assert!(names.find("127.0.0.1").is_some(), "an address is itself");
    }

    #[test]
    fn ports_below_the_lowest_are_not_bound_and_all_are_reached() {
        use SocketAddrUse::*;
        let low = |lowest, port: u16, usage| {
            is_too_low(lowest, SocketAddr::from(([0, 0, 0, 0], port)), usage)
        };
        for usage in [TcpBind, UdpBind] {
            assert!(low(1024, 1, usage) && low(1024, 1023, usage));
            // Port 0 is any that is free.
            assert!(!low(1024, 1024, usage) && !low(1024, 0, usage) && !low(0, 1, usage));
        }
        assert!(!low(1024, 80, TcpConnect) && !low(1024, 53, UdpSend));
    }

    #[test]
    fn a_network_with_a_place_lets_wasi_itself_make_no_socket() {
        struct Here;
        impl SocketPlace for Here {
            fn within(&self, make: &mut dyn FnMut()) -> std::io::Result<()> {
                make();
                Ok(())
            }
        }
        let mut network = Network::inherit();
        assert!(network.asks_system() && network.placed().is_none());
        let plain = network.clone();
        network.set_place(Arc::new(Here));
        assert!(network.is_placed() && network.placed().is_some());
        assert!(!network.asks_system() && network.names().is_some());
        assert_ne!(network, plain);
        assert_eq!(network, network.clone());
        let mut nothing = Network::none();
        nothing.set_place(Arc::new(Here));
        assert!(!nothing.is_placed() && nothing.placed().is_none());
    }
}
