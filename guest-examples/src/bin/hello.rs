//! Says hello: what a `main` of Rust costs when it does nothing else.
//!
//! `hello [NAME]`: one line.

use guest_examples::check::arg;

fn main() {
    println!("hello, {}", arg(1, "world"));
}

guest_examples::command!(main);
