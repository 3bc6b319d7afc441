// LD_PRELOAD library that makes a disk fail for the files whose path contains $FAIL_PATH: the $FAIL_AFTER-th call of
// $FAIL_CALL (fdatasync, which fsync counts as too, or write, which all kinds of writes and allocations count as) and
// every later one fails with $FAIL_ERRNO (EIO, ENOSPC), as a broken or full disk goes on failing. While the file
// $FAIL_ARM exists (when that is set): so a test decides when it begins to count.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long calls;

static int concerns(int descriptor, const char *call) {
  const char *part = getenv("FAIL_PATH"), *failing = getenv("FAIL_CALL"), *armed = getenv("FAIL_ARM");
  if (!part || !failing || strcmp(failing, call) != 0) return 0;
  if (armed && access(armed, F_OK) != 0) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return strstr(path, part) != NULL;
}

static int failure(int descriptor, const char *call) {
  int saved = errno;
  int fails = concerns(descriptor, call) && atomic_fetch_add(&calls, 1) + 1 >= atol(getenv("FAIL_AFTER"));
  errno = saved;
  if (!fails) return 0;
  return strcmp(getenv("FAIL_ERRNO"), "ENOSPC") == 0 ? ENOSPC : EIO;
}

#define FAILING(type, name, call, parameters, ...)              \
  type name parameters {                                        \
    static type(*real) parameters;                              \
    if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    int code = failure(descriptor, call);                       \
    if (code) {                                                 \
      errno = code;                                             \
      return -1;                                                \
    }                                                           \
    return real(__VA_ARGS__);                                   \
  }

FAILING(int, fsync, "fdatasync", (int descriptor), descriptor)
FAILING(int, fdatasync, "fdatasync", (int descriptor), descriptor)
FAILING(ssize_t, pwrite, "write", (int descriptor, const void *data, size_t bytes, off_t offset), descriptor, data, bytes, offset)
FAILING(ssize_t, pwrite64, "write", (int descriptor, const void *data, size_t bytes, off_t offset), descriptor, data, bytes, offset)
FAILING(ssize_t, pwritev, "write", (int descriptor, const struct iovec *parts, int count, off_t offset), descriptor, parts, count, offset)
FAILING(ssize_t, write, "write", (int descriptor, const void *data, size_t bytes), descriptor, data, bytes)
FAILING(ssize_t, writev, "write", (int descriptor, const struct iovec *parts, int count), descriptor, parts, count)
FAILING(int, ftruncate, "write", (int descriptor, off_t bytes), descriptor, bytes)

int posix_fallocate(int descriptor, off_t offset, off_t bytes) {
  static int (*real)(int, off_t, off_t);
  if (!real) real = (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate");
  int code = failure(descriptor, "write");
  return code ? code : real(descriptor, offset, bytes);
}
