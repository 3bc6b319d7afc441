// Counts what the process allocates. Linked into an executable, it takes malloc's place for all of its libraries.
#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stddef.h>
#include <stdint.h>

/// Blocks asked for so far: malloc, calloc, aligned ones, and realloc where it has to answer with a block.
uint64_t allocation_count(void);
/// Bytes that they were asked to have.
uint64_t allocation_bytes(void);
/// Bytes of all blocks that are alive, as the allocator rounds them, its 8 bytes of bookkeeping each included.
int64_t live_heap_bytes(void);

enum { LIVE_CLASSES = 1024 };
/// How many blocks are alive whose rounded size is 16 × `size_class` (the last class: and all larger ones).
int64_t live_heap_blocks(int size_class);

#endif
