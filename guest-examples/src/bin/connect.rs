//! Reaches for the network: says for each HOST:PORT of its arguments what it hears
//! there, or what kind of error there is.

use std::io::Read;
use std::net::TcpStream;

fn main() {
    for place in std::env::args().skip(1) {
        let mut heard = String::new();
        let read =
            TcpStream::connect(&place).and_then(|mut stream| stream.read_to_string(&mut heard));
        match read {
            Ok(_) => println!("heard {heard:?}"),
            Err(error) => println!("{:?}", error.kind()),
        }
    }
}
