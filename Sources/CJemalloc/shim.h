#include <stddef.h>

// All that is wanted of <jemalloc/jemalloc.h>, which would declare malloc and its like a second time.
int mallctl(const char *name, void *old_value, size_t *old_size, void *new_value, size_t new_size);
