//! Makes sockets and keeps them until it can have no more, and says how many those are.

use std::net::UdpSocket;

fn main() {
    let mut hoard = Vec::new();
    loop {
        match UdpSocket::bind("127.0.0.1:0") {
            Ok(socket) => hoard.push(socket),
            Err(error) => return println!("{} and then {:?}", hoard.len(), error.kind()),
        }
    }
}
