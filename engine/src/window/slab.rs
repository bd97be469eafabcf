//! Blocks of equal length in large chunks: the columns of all series of one size.
//!
//! A vector per series would cost a header and an allocator's rounding for each of them, and
//! would scatter neighbours over the heap. Nothing here knows what is in a block.

use std::ops::Range;

use super::grow;

/// Rows in a chunk, if that is from 1 to [`MAX_BLOCKS`] blocks. Chunks are never moved, so that
/// a growing fleet is not copied over and over and never held twice; and they are small enough
/// that one node with long columns does not pay for many.
const CHUNK_ROWS: usize = 8_192;

/// Blocks in a chunk at most.
const MAX_BLOCKS: usize = 64;

/// Columns of `rows` values each, named by number.
#[derive(Debug)]
pub(super) struct Slab<T> {
    rows: usize,
    /// A chunk has 2 to the power of this blocks.
    shift: u32,
    chunks: Vec<Box<[T]>>,
    next: u32,
    free: Vec<u32>,
}

impl<T: Copy + Default> Slab<T> {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            rows,
            shift: (CHUNK_ROWS / rows.max(1)).clamp(1, MAX_BLOCKS).ilog2(),
            chunks: Vec::new(),
            next: 0,
            free: Vec::new(),
        }
    }

    /// A block to write to; what it holds is left from its last owner.
    pub(super) fn take(&mut self) -> u32 {
        if let Some(block) = self.free.pop() {
            return block;
        }
        let block = self.next;
        self.next += 1;
        if block as usize >> self.shift == self.chunks.len() {
            let rows = self.rows << self.shift;
            grow(&mut self.chunks);
            self.chunks
                .push(vec![T::default(); rows].into_boxed_slice());
        }
        block
    }

    /// Takes a block back.
    pub(super) fn give(&mut self, block: u32) {
        self.free.push(block);
    }

    pub(super) fn block(&self, block: u32) -> &[T] {
        let (chunk, rows) = self.place(block);
        self.chunks
            .get(chunk)
            .and_then(|chunk| chunk.get(rows))
            .unwrap_or_default()
    }

    pub(super) fn block_mut(&mut self, block: u32) -> &mut [T] {
        let (chunk, rows) = self.place(block);
        self.chunks
            .get_mut(chunk)
            .and_then(|chunk| chunk.get_mut(rows))
            .unwrap_or_default()
    }

    fn place(&self, block: u32) -> (usize, Range<usize>) {
        let block = block as usize;
        let from = (block & ((1 << self.shift) - 1)) * self.rows;
        (block >> self.shift, from..from + self.rows)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        ((self.chunks.len() * self.rows) << self.shift) * size_of::<T>()
            + self.chunks.capacity() * size_of::<Box<[T]>>()
            + self.free.capacity() * size_of::<u32>()
    }
}
