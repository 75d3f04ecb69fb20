//! The allocator of the binary: mimalloc, asked in the way that it answers fastest.
//!
//! A request makes and drops hundreds of small strings, on whichever thread its connection is: a third of the server's time
//! went into the C library's allocator. The `mimalloc` crate asks for every block with its alignment, and for that mimalloc 3
//! takes the long way round, and a larger block, whenever the size is no power of two and the first page of the size is
//! full. But every block is aligned to sixteen bytes, or to eight if it is smaller, so that hardly any type needs to ask.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as sys;

/// mimalloc, as a global allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// What every block of sixteen bytes and more is aligned to (`MI_MAX_ALIGN_SIZE`).
const ALIGNED: usize = 16;

/// Whether any block of `size` bytes will do.
#[inline]
fn is_aligned_anyway(size: usize, align: usize) -> bool {
    align <= 8 || (align <= ALIGNED && size >= ALIGNED)
}

// SAFETY: mimalloc's functions fulfil the contract of `malloc`, `realloc` and `free` from any thread and never unwind; blocks
// are aligned as `is_aligned_anyway` says, and as asked for where they were asked for with an alignment. All are freed by the
// same `mi_free`.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: of any size and any power of two.
        unsafe {
            if is_aligned_anyway(size, align) {
                sys::mi_malloc(size).cast()
            } else {
                sys::mi_malloc_aligned(size, align).cast()
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: of any size and any power of two.
        unsafe {
            if is_aligned_anyway(size, align) {
                sys::mi_zalloc(size).cast()
            } else {
                sys::mi_zalloc_aligned(size, align).cast()
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller has it from this allocator.
        unsafe { sys::mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the caller has the block from this allocator.
        unsafe {
            if is_aligned_anyway(size, align) {
                sys::mi_realloc(block.cast(), size).cast()
            } else {
                sys::mi_realloc_aligned(block.cast(), size, align).cast()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Many blocks at a time, so that they come from pages that are full and from such that are not.
        #[test]
        #[allow(unsafe_code)]
        fn blocks_are_aligned_and_keep_what_they_hold(
            wanted in prop::collection::vec((1usize..3000, 0u32..9, 1usize..3000, any::<bool>()), 1..200),
        ) {
            let mut blocks = Vec::new();
            for (index, (size, shift, then, zeroed)) in wanted.into_iter().enumerate() {
                let layout = Layout::from_size_align(size, 1 << shift).unwrap();
                let mark = u8::try_from(index % 251).unwrap() + 1;
                // SAFETY: the layout has a size, and no more than it is written to.
                let block = unsafe {
                    let block = if zeroed { Allocator.alloc_zeroed(layout) } else { Allocator.alloc(layout) };
                    prop_assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                    if zeroed {
                        prop_assert!((0..size).all(|at| *block.add(at) == 0));
                    }
                    block.write_bytes(mark, size);
                    block
                };
                blocks.push((block, layout, then, mark));
            }
            for (block, layout, then, mark) in blocks {
                // SAFETY: the block is of this layout; of the new one no more is read than was written to the old one.
                unsafe {
                    let block = Allocator.realloc(block, layout, then);
                    prop_assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                    prop_assert!((0..then.min(layout.size())).all(|at| *block.add(at) == mark));
                    Allocator.dealloc(block, Layout::from_size_align(then, layout.align()).unwrap());
                }
            }
        }
    }
}
