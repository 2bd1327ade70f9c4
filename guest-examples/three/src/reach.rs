//! Reaches for the network by 0.3: says for each NAME:PORT of its arguments what it hears there over
//! TCP, and whether it can have a socket for datagrams at `udp:ADDRESS`, or what error there is.

use guest_examples::three::wasip3;
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};
use wasip3::wit_bindgen::block_on;

async fn found(name: &str, port: u16) -> Result<IpSocketAddress, String> {
    let found = resolve_addresses(name.to_owned()).await;
    let found = found.map_err(|error| format!("{error:?}"))?;
    let four = found.iter().find_map(|address| match address {
        IpAddress::Ipv4(address) => Some(*address),
        IpAddress::Ipv6(_) => None,
    });
    let address = four.ok_or("no address")?;
    Ok(IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }))
}

async fn heard(address: IpSocketAddress) -> Result<String, ErrorCode> {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4)?;
    socket.connect(address).await?;
    let (data, end) = socket.receive();
    let bytes = data.collect().await;
    end.await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn bound(address: IpSocketAddress) -> Result<(), ErrorCode> {
    UdpSocket::create(IpAddressFamily::Ipv4)?.bind(address)
}

async fn reach(place: &str) -> Result<String, String> {
    if let Some(name) = place.strip_prefix("udp:") {
        let address = found(name, 0).await?;
        let bound = bound(address).map_err(|error| format!("{error:?}"))?;
        return Ok(format!("bound {bound:?}"));
    }
    let (name, port) = place.rsplit_once(':').ok_or("no port")?;
    let port = port.parse().map_err(|_| "no port")?;
    let address = found(name, port).await?;
    let heard = heard(address).await.map_err(|error| format!("{error:?}"))?;
    Ok(format!("heard {heard:?}"))
}

fn main() {
    for place in std::env::args().skip(1) {
        match block_on(reach(&place)) {
            Ok(text) | Err(text) => println!("{text}"),
        }
    }
}

guest_examples::command!(main);
