//! Listens at the ADDRESS:PORT of its first argument, says so, and says its second to each that
//! comes, for ever. Of a place that it may not have it says what kind of error there is, and ends.

use std::io::Write;
use std::net::TcpListener;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let listener = match TcpListener::bind(&args[1]) {
        Ok(listener) => listener,
        Err(error) => return println!("{:?}", error.kind()),
    };
    println!("listening");
    for stream in listener.incoming() {
        // Whoever has gone again hears nothing.
        drop(stream.and_then(|mut stream| stream.write_all(args[2].as_bytes())));
    }
}
