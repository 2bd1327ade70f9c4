//! Images at rest: in and out, damage, crashes, several processes.

mod basics; // what goes in comes out
mod compat; // stores of earlier versions
mod crash; // processes that are killed, and several at once
mod damage; // flipped, cut short, forged, of another kind
mod faults; // the N-th step on a file fails
mod large; // archives larger than the memory for them
mod repack; // packs of which little is in use
mod support;
