//! Images at rest: in and out, damage, crashes, several processes.

mod basics; // what goes in comes out
mod compat; // stores of earlier versions
mod crash; // processes that are killed, and several at once
mod damage; // flipped, cut short, forged, of another kind
mod disk_model; // a disk as a power loss shows it
mod faults; // the N-th step on a file fails
mod heal; // imports over damage
mod identity; // what is a store, looking, sweeping, repair, a full disk
mod large; // archives larger than the memory for them
mod opening; // what is no file, what cannot be opened, how many are open
mod power; // power losses at any step
mod repack; // packs of which little is in use
mod support;
