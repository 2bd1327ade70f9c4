//! The bytes of a file of the reference model, and what the quota counts of
//! them: whole private blocks as far as they are filled, base bytes not.

use std::collections::BTreeMap;

use stratafs::limits::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

#[derive(Clone, Debug, Default)]
pub struct File {
    pub bytes: Vec<u8>,
    /// Base bytes show up to here where no block lies.
    base: u64,
    /// The lengths of private blocks, by number.
    blocks: BTreeMap<u64, u64>,
}

impl File {
    /// A file of a layer.
    pub fn of_layer(bytes: Vec<u8>) -> Self {
        Self {
            base: bytes.len() as u64,
            bytes,
            blocks: BTreeMap::new(),
        }
    }

    /// The bytes that count.
    pub fn private(&self) -> u64 {
        self.blocks.values().sum()
    }

    /// Writes what fits into `room` more private bytes; gives how much.
    pub fn write(&mut self, offset: u64, data: &[u8], mut room: u64) -> usize {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (number, within) = (at / BLOCK, at % BLOCK);
            let want = ((data.len() - done) as u64).min(BLOCK - within);
            let below = self.base.saturating_sub(number * BLOCK).min(BLOCK);
            let have = self.blocks.get(&number).copied();
            if have.is_none() && below > room {
                break;
            }
            let fits = (have.unwrap_or(0) + room).saturating_sub(within).min(want);
            if fits == 0 {
                break;
            }
            let len = have.unwrap_or(below).max(within + fits);
            room -= len - have.unwrap_or(0);
            self.blocks.insert(number, len);
            done += fits as usize;
            if fits < want {
                break;
            }
        }
        if done > 0 {
            let (start, end) = (offset as usize, offset as usize + done);
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[start..end].copy_from_slice(&data[..done]);
        }
        done
    }

    /// Cuts or grows.
    pub fn resize(&mut self, size: u64) {
        self.bytes.resize(size as usize, 0);
        self.base = self.base.min(size);
        self.blocks.retain(|number, _| number * BLOCK < size);
        if let Some(len) = self.blocks.get_mut(&(size / BLOCK)) {
            *len = (*len).min(size % BLOCK);
        }
    }
}
