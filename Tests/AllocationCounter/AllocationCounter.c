// glibc lets a program bring a malloc of its own ("Replacing malloc" in its manual) and keeps its own one reachable
// under other names; so every block of the process passes here, whichever library asks for it.
//
// The counters are exact for any number of threads, and cost some nanoseconds a block.

#include "AllocationCounter.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

static atomic_uint_fast64_t count, bytes;
static atomic_int_fast64_t live, live_blocks[LIVE_CLASSES];

static size_t footprint(void *block) { return malloc_usable_size(block) + 8; }

static atomic_int_fast64_t *blocks_like(size_t size) {
  size_t class = size / 16;
  return &live_blocks[class < LIVE_CLASSES ? class : LIVE_CLASSES - 1];
}

static void *born(void *block, size_t size) {
  if (!block) return block;
  size_t whole = footprint(block);
  atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&bytes, size, memory_order_relaxed);
  atomic_fetch_add_explicit(&live, (int64_t)whole, memory_order_relaxed);
  atomic_fetch_add_explicit(blocks_like(whole), 1, memory_order_relaxed);
  return block;
}

static void dies(size_t whole) {
  atomic_fetch_sub_explicit(&live, (int64_t)whole, memory_order_relaxed);
  atomic_fetch_sub_explicit(blocks_like(whole), 1, memory_order_relaxed);
}

void *malloc(size_t size) { return born(__libc_malloc(size), size); }

void *calloc(size_t number, size_t size) { return born(__libc_calloc(number, size), number * size); }

void *realloc(void *block, size_t size) {
  size_t before = block ? footprint(block) : 0;
  void *moved = __libc_realloc(block, size);
  // A failure leaves the old block alive; a size of 0 frees it and answers with nothing.
  if (block && (moved || size == 0)) dies(before);
  return born(moved, size);
}

void free(void *block) {
  if (block) dies(footprint(block));
  __libc_free(block);
}

void *memalign(size_t alignment, size_t size) { return born(__libc_memalign(alignment, size), size); }

void *aligned_alloc(size_t alignment, size_t size) { return born(__libc_memalign(alignment, size), size); }

int posix_memalign(void **block, size_t alignment, size_t size) {
  if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0) return EINVAL;
  void *made = born(__libc_memalign(alignment, size), size);
  if (!made) return ENOMEM;
  *block = made;
  return 0;
}

uint64_t allocation_count(void) { return atomic_load_explicit(&count, memory_order_relaxed); }

uint64_t allocation_bytes(void) { return atomic_load_explicit(&bytes, memory_order_relaxed); }

int64_t live_heap_bytes(void) { return atomic_load_explicit(&live, memory_order_relaxed); }

int64_t live_heap_blocks(int size_class) {
  return size_class < 0 || size_class >= LIVE_CLASSES
    ? 0 : atomic_load_explicit(&live_blocks[size_class], memory_order_relaxed);
}
