// LD_PRELOAD library that makes a disk fail for the files whose path contains $FAIL_PATH: the $FAIL_AFTER-th call of
// $FAIL_CALL (fdatasync, which fsync counts as too, or write, which all kinds of writes and allocations count as) and
// every later one fails with $FAIL_ERRNO (EIO, ENOSPC), as a broken or full disk goes on failing. While the file
// $FAIL_ARM exists (when that is set): so a test decides when it begins to count. What that file holds comes before the
// environment: "CALL ERROR PATH", from the first call on; the error may be slow=MILLISECONDS too, for calls that take
// longer, or stuck, for calls that do not return while the file is there.
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
#include <time.h>
#include <unistd.h>

static _Atomic long calls;

struct fault {
  char call[16], error[32], path[256];
  long after;
};

// What the disk does now; 0 when it does its work.
static int fault_now(struct fault *fault) {
  const char *armed = getenv("FAIL_ARM"), *call = getenv("FAIL_CALL"), *path = getenv("FAIL_PATH");
  if (armed) {
    int file = open(armed, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    char text[320];
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    fault->after = 1;
    if (sscanf(text, "%15s %31s %255s", fault->call, fault->error, fault->path) == 3) return 1;
  }
  if (!call || !path) return 0;
  snprintf(fault->call, sizeof fault->call, "%s", call);
  snprintf(fault->error, sizeof fault->error, "%s", getenv("FAIL_ERRNO"));
  snprintf(fault->path, sizeof fault->path, "%s", path);
  fault->after = atol(getenv("FAIL_AFTER"));
  return 1;
}

static int concerns(int descriptor, const struct fault *fault) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return strstr(path, fault->path) != NULL;
}

static void rest(long milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  nanosleep(&time, NULL);
}

// The error that a call gets, 0 for none. Returns late when the disk is slow or stuck.
static int outcome(int descriptor, const char *call) {
  const char *armed = getenv("FAIL_ARM");
  // On most calls of a healthy disk, only this.
  if (armed && access(armed, F_OK) != 0) return 0;
  struct fault fault;
  if (!fault_now(&fault) || strcmp(fault.call, call) != 0 || !concerns(descriptor, &fault)) return 0;
  if (strncmp(fault.error, "slow=", 5) == 0) {
    rest(atol(fault.error + 5));
    return 0;
  }
  if (strcmp(fault.error, "stuck") == 0) {
    while (access(armed, F_OK) == 0) rest(10);
    return 0;
  }
  if (atomic_fetch_add(&calls, 1) + 1 < fault.after) return 0;
  return strcmp(fault.error, "ENOSPC") == 0 ? ENOSPC : EIO;
}

static int failure(int descriptor, const char *call) {
  int saved = errno, code = outcome(descriptor, call);
  errno = saved;
  return code;
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
